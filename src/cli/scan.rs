//! `trustwatch scan`: one scan of every organization, now.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::style::Style;
use super::{Context, Failure, chosen, load_quietly, say, summary};
use crate::daemon::Shared;
use crate::lifecycle;
use crate::model::{ScanState, counted};
use crate::scan::{Engine, Outcome, Progress, Request, Selection};
use crate::store::{ScanReport, ScanTotals, StoreError};

/// How often the bar is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// For how long people are tried to be told after a scan.
const TELLS_FOR: Duration = Duration::from_secs(30);

/// Audit every organization once, now.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch scan\n  \
    trustwatch scan --organization main --format json\n  \
    trustwatch scan --account 111111111111            one account, again, now\n  \
    trustwatch scan --ou ou-ab12-sandbox              everything below an OU\n  \
    trustwatch scan --fail-on not-covered,unknown     exit code 3 if there is any such row")]
pub struct Scan {
    /// Only this organization.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Only this account, and the owners of the organization's analyzers, which the summary and --fail-on count too: a partial
    /// scan, left out of trends. May be given several times.
    #[arg(long, value_name = "ID")]
    account: Vec<String>,
    /// Only the accounts below this OU or root: a partial scan, left out of trends. May be given several times.
    #[arg(long, value_name = "OU")]
    ou: Vec<String>,
    /// How the summary is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// End with exit code 3 if any account × region has one of these statuses and is not exempt.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATUS")]
    fail_on: Vec<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    #[value(alias = "not_covered")]
    NotCovered,
    Unknown,
}

impl Scan {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let organizations = chosen(&loaded, self.organization.as_deref())?;
        let selection = self.selection(organizations.len())?;
        let stop = CancellationToken::new();
        lifecycle::listen(stop.clone(), None)?;
        let shared = Shared::open(&loaded.config).await?;
        let alerts = shared.alerts(&loaded.config).await?;
        let mut scans = Vec::new();
        for organization in organizations {
            if stop.is_cancelled() {
                break;
            }
            let engine = shared.engine(&loaded.config, organization).await?;
            let outcome = watched(&engine, &selection, &stop).await?;
            let report = shared.store.report(outcome.scan_id).await?;
            if self.format == Format::Table {
                say(summary::render(&report, &outcome.cost, engine.clock.now(), Style::of_stdout()).trim_end())?;
            }
            scans.push((report, outcome));
        }
        // What is not taken within that is sent by the next who scans.
        alerts.once(TELLS_FOR).await;
        shared.store.close().await;
        if self.format == Format::Json {
            let scans: Vec<_> = scans
                .iter()
                .map(|(report, outcome)| {
                    json!({"scan": report.scan, "regions": report.regions, "unreadable": report.unreadable, "exemptions": report.exemptions, "redundant": report.redundant, "billed_analyzers": report.billed_analyzers, "rule_drift": report.rule_drift, "calls": outcome.cost.calls, "stages": outcome.cost.stages, "bound_by": outcome.cost.bound_by})
                })
                .collect();
            say(&serde_json::to_string_pretty(&json!({"scans": scans}))?)?;
        }
        self.verdict(&scans, stop.is_cancelled())
    }

    /// What the arguments choose.
    fn selection(&self, organizations: usize) -> Result<Selection, Failure> {
        let usage = |problem: String| Failure::Usage(problem);
        let read = |id: &String| id.parse().map_err(|error| usage(format!("--account: {error}")));
        let accounts = self.account.iter().map(read).collect::<Result<_, _>>()?;
        let selection = Selection { accounts, ous: super::ou_ids(&self.ou)? };
        if organizations > 1 && selection != Selection::default() {
            return Err(usage(
                "--account and --ou: several organizations are configured; name one with --organization".into(),
            ));
        }
        Ok(selection)
    }

    fn verdict(&self, scans: &[(ScanReport, Outcome)], interrupted: bool) -> Result<(), Failure> {
        if interrupted {
            return Err(Failure::Interrupted);
        }
        let unfinished = scans.iter().filter(|(_, outcome)| outcome.state != ScanState::Completed);
        let problems: Vec<String> = unfinished
            .map(|(report, outcome)| {
                let problem = outcome.error.as_deref().unwrap_or("no reason is known");
                let how = if outcome.state == ScanState::Failed { "failed" } else { "is incomplete" };
                format!("the scan of `{}` {how}: {problem}", report.scan.organization_name)
            })
            .collect();
        if !problems.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!(problems.join("\n"))));
        }
        // That the rule applies nowhere is no coverage: a pattern that was mistyped leaves out everybody.
        let applies_nowhere = |report: &ScanReport| {
            let ScanTotals { covered, not_covered, unknown, accounts_excluded, .. } = &report.scan;
            [covered, not_covered, unknown].iter().all(|rows| rows.unwrap_or(0) == 0)
                && accounts_excluded.unwrap_or(0) > 0
        };
        if let Some((report, _)) = scans.iter().find(|(report, _)| applies_nowhere(report)) {
            return Err(Failure::Failed(anyhow::anyhow!(
                "the scan of `{}` judged nothing: {} left out by `include` and `exclude`; check their patterns",
                report.scan.organization_name,
                counted(report.scan.accounts_excluded.unwrap_or(0), "account")
            )));
        }
        let mut matched = Vec::new();
        let apart = |all: Option<i64>, exempt: Option<i64>| all.unwrap_or(0) - exempt.unwrap_or(0);
        for (status, word) in [(FailOn::NotCovered, "not_covered"), (FailOn::Unknown, "unknown")] {
            let of = |report: &ScanReport| match status {
                FailOn::NotCovered => apart(report.scan.not_covered, report.scan.not_covered_exempt),
                FailOn::Unknown => apart(report.scan.unknown, report.scan.unknown_exempt),
            };
            let rows: i64 = scans.iter().map(|(report, _)| of(report)).sum();
            if self.fail_on.contains(&status) && rows > 0 {
                matched.push(format!("{word}: {}", counted(rows, "account × region")));
            }
        }
        if matched.is_empty() { Ok(()) } else { Err(Failure::Matched(format!("--fail-on: {}", matched.join(", ")))) }
    }
}

/// Scans, with a bar where somebody watches.
async fn watched(engine: &Engine, selection: &Selection, stop: &CancellationToken) -> Result<Outcome, StoreError> {
    let progress = Arc::new(Progress::default());
    let request = Request { selection: selection.clone(), ..Request::manual() };
    let scan = engine.scan(request, Arc::clone(&progress), stop.clone());
    if !std::io::stderr().is_terminal() {
        return scan.await;
    }
    let bar = ProgressBar::new(0);
    let template = "  {spinner} {msg:32} [{bar:30}] {pos}/{len} accounts  {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    tokio::pin!(scan);
    let mut frames = tokio::time::interval(FRAME);
    let outcome = loop {
        tokio::select! {
            outcome = &mut scan => break outcome,
            _ = frames.tick() => draw(&bar, &progress, &engine.organization.name),
        }
    };
    bar.finish_and_clear();
    outcome
}

fn draw(bar: &ProgressBar, progress: &Progress, organization: &str) {
    let now = progress.snapshot();
    bar.set_length(now.listed);
    bar.set_position(now.recorded);
    let listing = if now.listing_done { "" } else { ", listing" };
    let unreachable = if now.unreachable > 0 { format!(", {} unreachable", now.unreachable) } else { String::new() };
    bar.set_message(format!("{organization}{listing}{unreachable}"));
    bar.tick();
}
