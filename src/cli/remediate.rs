//! `trustwatch remediate`: what to do about gaps, and doing it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use tokio_util::sync::CancellationToken;

use super::style::{Style, clean};
use super::{Context, Failure, chosen, load_quietly, say};
use crate::config::{Loaded, Organization};
use crate::daemon::Shared;
use crate::lifecycle;
use crate::model::counted;
use crate::remediate::{self, Applied, Choices, Form, Plan, StepOutcome};
use crate::store::Access;

/// Steps that a table shows without --all; the file has all.
const SHOWN: usize = 40;

/// Propose what closes the gaps, and do it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch remediate plan --out plan.json        read it, have it reviewed\n  \
    trustwatch remediate apply plan.json             with the role `remediation.role`\n  \
    trustwatch remediate show plan.json --format terraform\n\n\
    Only analyzers of external access are ever created: types ACCOUNT and ORGANIZATION, which cost nothing.\n\
    Stopped or killed, apply the same plan again: what is there is found, and nothing is created twice.")]
pub struct Remediate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a plan from the newest results. Nothing is changed.
    Plan(Propose),
    /// Show a plan, or write it for another tool.
    Show {
        /// The plan.
        plan: PathBuf,
        /// How.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Every step in the table, however many there are.
        #[arg(long)]
        all: bool,
    },
    /// Apply a plan: everything in it, or nothing if the world has moved away from it.
    Apply {
        /// The plan.
        plan: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Propose {
    /// The organization; needed where several are configured.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Where the plan is written, as JSON, however it is shown. Without it, the plan is only shown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Every step in the table, however many there are.
    #[arg(long)]
    all: bool,
    /// Replace analyzers that failed. Their findings are destroyed.
    #[arg(long)]
    replace_failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    /// Commands of AWS's command line.
    Cli,
    /// A CloudFormation template of StackSets.
    Cloudformation,
    Terraform,
}

impl Remediate {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        match self.command {
            Command::Plan(propose) => propose.run(&loaded).await,
            Command::Show { plan, format, all } => {
                let plan = Plan::read(&plan)?;
                say(show(&plan, format, all, &loaded.config.remediation.role)?.trim_end())
            }
            Command::Apply { plan } => apply(&loaded, &plan).await,
        }
    }
}

/// The one organization that a command is for.
fn one<'a>(loaded: &'a Loaded, name: Option<&str>) -> Result<&'a Organization, Failure> {
    match chosen(loaded, name)?.as_slice() {
        [organization] => Ok(organization),
        _ => Err(Failure::Usage("several organizations are configured; name one with --organization".into())),
    }
}

impl Propose {
    async fn run(self, loaded: &Loaded) -> Result<(), Failure> {
        let organization = one(loaded, self.organization.as_deref())?;
        let shared = Shared::open_as(&loaded.config, Access::Read).await?;
        let engine = shared.engine(&loaded.config, organization).await?;
        let choices = Choices { replace_failed: self.replace_failed };
        let plan = remediate::plan(&engine, &loaded.config.remediation, choices).await;
        shared.store.close().await;
        let plan = plan?;
        if let Some(file) = &self.out {
            let cannot = |error: std::io::Error| {
                anyhow::anyhow!("--out {}: the file cannot be written: {error}; name another", file.display())
            };
            remediate::write(&plan, file).map_err(cannot)?;
        }
        say(show(&plan, self.format, self.all, &loaded.config.remediation.role)?.trim_end())?;
        if let (Some(file), Format::Table) = (&self.out, self.format) {
            say(&format!("\nwritten to {}; `trustwatch remediate apply {0}` applies it", file.display()))?;
        }
        Ok(())
    }
}

fn show(plan: &Plan, format: Format, all: bool, role: &str) -> Result<String, Failure> {
    let declares = matches!(format, Format::Cloudformation | Format::Terraform);
    if declares && plan.steps.iter().any(|step| step.verb == remediate::Verb::Replace) {
        return Err(Failure::Usage(
            "--format: the plan deletes analyzers that failed, which CloudFormation and Terraform do not do of what is not theirs; use \
             `cli`, or make a plan without --replace-failed"
                .into(),
        ));
    }
    Ok(match format {
        Format::Table => table(plan, if all { usize::MAX } else { SHOWN }, Style::of_stdout()),
        Format::Json => plan.to_json()?,
        Format::Cli => remediate::render(plan, Form::Cli, role),
        Format::Cloudformation => remediate::render(plan, Form::CloudFormation, role),
        Format::Terraform => remediate::render(plan, Form::Terraform, role),
    })
}

fn table(plan: &Plan, shown: usize, style: Style) -> String {
    let covers: usize = plan.steps.iter().map(|step| step.covers).sum();
    let mut text = format!(
        "{} · plan {} · by scan {} · to be applied until {}\n",
        style.bold(&clean(&plan.organization)),
        plan.id,
        plan.scan_id,
        plan.expires_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    );
    if plan.steps.is_empty() {
        text.push_str("\n  nothing to do\n");
    } else {
        let (steps, closes) = (counted(plan.steps.len(), "step"), counted(covers, "account × region"));
        let _ = writeln!(text, "\n  {steps}, for {closes} not covered");
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table
            .set_header(["  step", "account", "", "region", "analyzer", "type", "covers"].map(|head| style.bold(head)));
        for step in plan.steps.iter().take(shown) {
            let verb = match step.verb {
                remediate::Verb::Create => "  create".to_owned(),
                remediate::Verb::Replace => format!("  replace {}", clean(&step.replaces.join(", "))),
            };
            let name = clean(&step.account_name);
            let (account, region) = (step.account.to_string(), step.region.to_string());
            let kind = step.zone.as_str().to_owned();
            table.add_row([verb, account, name, region, step.analyzer_name.clone(), kind, step.covers.to_string()]);
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
        if plan.steps.len() > shown {
            let _ = writeln!(text, "  and {} more; --all shows them", counted(plan.steps.len() - shown, "step"));
        }
    }
    if !plan.refusals.is_empty() {
        let _ = writeln!(text, "\n  {}", style.bold("left alone"));
        for refusal in &plan.refusals {
            let _ = writeln!(
                text,
                "  {}  {}, {}; for example {}\n    {}",
                style.unsure(&refusal.reason),
                counted(refusal.accounts, "account"),
                counted(refusal.account_regions, "account × region"),
                clean(&refusal.example),
                style.faint(&refusal.advice)
            );
        }
    }
    for advice in &plan.advice {
        let _ = writeln!(text, "\n  {advice}");
    }
    text
}

async fn apply(loaded: &Loaded, file: &Path) -> Result<(), Failure> {
    let plan = Plan::read(file)?;
    let organization = one(loaded, Some(&plan.organization))?;
    let stop = CancellationToken::new();
    lifecycle::listen(stop.clone(), None)?;
    let shared = Shared::open(&loaded.config).await?;
    let engine = shared.engine(&loaded.config, organization).await?;
    let applied = remediate::apply(&engine, &loaded.config.remediation, &plan, &stop).await;
    shared.store.close().await;
    let applied = applied?;
    let mut undone = 0;
    for Applied { step, came } in &applied {
        let what = match came {
            StepOutcome::Created => "created, ACTIVE".to_owned(),
            StepOutcome::Already => "was there, ACTIVE".to_owned(),
            StepOutcome::NotYetActive => "there, and not ACTIVE yet: apply the plan again to wait on".to_owned(),
            StepOutcome::Failed(problem) => format!("failed: {}", clean(problem)),
            StepOutcome::Stopped => "stopped: apply the plan again to go on".to_owned(),
        };
        undone += usize::from(!matches!(came, StepOutcome::Created | StepOutcome::Already));
        say(&format!("{step}: {what}"))?;
    }
    if stop.is_cancelled() && undone > 0 {
        return Err(Failure::Interrupted);
    }
    if undone > 0 {
        return Err(Failure::Failed(anyhow::anyhow!("not done: {undone} of {}", counted(applied.len(), "step"))));
    }
    say(&format!("{} done; `trustwatch scan` shows the coverage", counted(applied.len(), "step")))
}
