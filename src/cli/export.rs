//! `trustwatch export`: reports for auditors and other tools.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

use super::{Context, Failure, chosen, closed, load_quietly};
use crate::clock::{Clock, SystemClock};
use crate::export::{self, ExportError, Filter, Which};
use crate::model::Status;
use crate::store::{self, Access, Retention};

/// Write a report of the results.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch export --format html --out report.html\n  \
    trustwatch export --format csv --status not_covered,unknown > gaps.csv\n  \
    trustwatch export --format ocsf --at 2026-06-30T23:59:59Z --out june.json\n  \
    trustwatch export --to security-hub\n\n\
    Rows stream: memory does not grow with them. Every report names the controls that the rule answers.")]
pub struct Export {
    /// How it is written.
    #[arg(long, value_enum, required_unless_present = "to")]
    format: Option<Format>,
    /// Tell this service of the newest results instead: only what has changed, from within each account and region.
    #[arg(long, value_enum, conflicts_with_all = ["format", "out", "scan", "at", "account", "ou", "owner", "team", "region", "status"])]
    to: Option<To>,
    /// Where: a file, which is there whole or not at all. Without it: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this organization.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// What held when this scan ended, instead of what holds now.
    #[arg(long, value_name = "NUMBER", conflicts_with = "at")]
    scan: Option<i64>,
    /// What held at this instant, such as 2026-06-30T23:59:59Z.
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// Only these accounts.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    account: Vec<String>,
    /// Only accounts that are below this OU or root now.
    #[arg(long, value_name = "OU", value_delimiter = ',')]
    ou: Vec<String>,
    /// Only accounts that these answer for now, as `account_owner` says.
    #[arg(long, value_name = "OWNER", value_delimiter = ',')]
    owner: Vec<String>,
    /// Only accounts of these teams now.
    #[arg(long, value_name = "TEAM", value_delimiter = ',')]
    team: Vec<String>,
    /// Only these regions.
    #[arg(long, value_name = "REGION", value_delimiter = ',')]
    region: Vec<String>,
    /// Only these statuses: covered, not_covered, not_applicable, unknown.
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// AWS Security Hub, with the role `export.security_hub_role`.
    SecurityHub,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    /// An array.
    Json,
    /// An object on each line.
    Ndjson,
    /// OCSF 1.5 Compliance Findings (class 2003).
    Ocsf,
    /// AWS Security Hub's findings.
    Asff,
    /// A suite for each account.
    Junit,
    /// One page to read and print.
    Html,
    /// Prowler's columns.
    ProwlerCsv,
}

impl From<Format> for export::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Json => Self::Json,
            Format::Ndjson => Self::Ndjson,
            Format::Ocsf => Self::Ocsf,
            Format::Asff => Self::Asff,
            Format::Junit => Self::Junit,
            Format::Html => Self::Html,
            Format::ProwlerCsv => Self::ProwlerCsv,
        }
    }
}

impl Export {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        if self.organization.is_some() {
            chosen(&loaded, self.organization.as_deref())?;
        }
        let Some(format) = self.format else {
            return tell(&loaded, self.organization.as_deref()).await;
        };
        let now = SystemClock.now();
        let history_from = Retention::at(now, &loaded.config.store.retention).history_from;
        let filter = self.filter(history_from)?;
        let (format, severity) = (format.into(), loaded.config.export.severity);
        let store = store::open(&loaded.config.store, Access::Stream).await?;
        let written = match &self.out {
            None => {
                let mut out = BufWriter::new(std::io::stdout());
                export::export(store.as_ref(), format, &filter, severity, now, &mut out).await
            }
            Some(file) => {
                into_file(file, async |out| export::export(store.as_ref(), format, &filter, severity, now, out).await)
                    .await
                    .map_err(|error| named(error, file))
            }
        };
        store.close().await;
        match written {
            Ok(_) => Ok(()),
            Err(ExportError::Io(error)) => Err(closed(error)),
            Err(other) => Err(other.into()),
        }
    }

    fn filter(&self, history_from: Option<DateTime<Utc>>) -> Result<Filter, Failure> {
        let usage = |problem: String| Failure::Usage(problem);
        let account = |id: &String| id.parse().map_err(|error| usage(format!("--account: {error}")));
        let status = |word: &String| word.parse::<Status>().map_err(|error| usage(format!("--status: {error}")));
        let ous = super::ou_ids(&self.ou)?;
        let which = match (&self.at, self.scan) {
            (Some(text), _) => match instant(text).map_err(usage)? {
                at if at > SystemClock.now() => {
                    return Err(usage(format!("--at {text}: that is to come; expected an instant that has been")));
                }
                at => Which::At(at),
            },
            (None, Some(scan)) => Which::Scan(scan),
            (None, None) => Which::Newest,
        };
        Ok(Filter {
            which,
            history_from,
            organization: self.organization.clone(),
            accounts: self.account.iter().map(account).collect::<Result<_, _>>()?,
            ous,
            owners: self.owner.clone(),
            teams: self.team.clone(),
            regions: self.region.clone(),
            statuses: self.status.iter().map(status).collect::<Result<_, _>>()?,
        })
    }
}

/// Tells Security Hub of the newest results.
#[cfg(not(feature = "security-hub"))]
#[expect(clippy::unused_async, reason = "the other build has something to wait for")]
async fn tell(_: &crate::config::Loaded, _: Option<&str>) -> Result<(), Failure> {
    Err(Failure::Usage(
        "--to security-hub: this trustwatch was built without Security Hub; build it with `--features security-hub`, or write a file \
         with `--format asff`"
            .into(),
    ))
}

/// Tells Security Hub of the newest results.
#[cfg(feature = "security-hub")]
async fn tell(loaded: &crate::config::Loaded, organization: Option<&str>) -> Result<(), Failure> {
    use super::say;
    use super::style::clean;
    use crate::model::grouped;

    let stop = tokio_util::sync::CancellationToken::new();
    crate::lifecycle::listen(stop.clone(), None)?;
    let shared = crate::daemon::Shared::open(&loaded.config).await?;
    let (mut failed, mut unbegun) = (0, 0);
    let mut stopped = false;
    for organization in chosen(loaded, organization)? {
        let engine = shared.engine(&loaded.config, organization).await?;
        let name = clean(&organization.name);
        // One organization that cannot be told of does not hold up the others.
        let told = match crate::security_hub::tell(&engine, &loaded.config.export, &stop).await {
            Ok(told) => told,
            Err(error) => {
                unbegun += 1;
                eprintln!("trustwatch: {name}: {error}");
                continue;
            }
        };
        say(&format!(
            "{name}: {} imported, {} archived, {} as they were",
            grouped(told.imported),
            grouped(told.archived),
            grouped(told.unchanged)
        ))?;
        if told.let_go > 0 {
            say(&format!(
                "  {} hold no more, where nothing can be told any more: Security Hub forgets them by itself",
                grouped(told.let_go)
            ))?;
        }
        let (not_enabled, example) = &told.not_enabled;
        if *not_enabled > 0 {
            let where_ = grouped(*not_enabled);
            say(&format!(
                "  Security Hub is not enabled in {where_} account × regions, for example {}",
                clean(example)
            ))?;
            // Where it is enabled nowhere, that is not what was asked for.
            failed += if told.imported + told.archived + told.unchanged == 0 { *not_enabled } else { 0 };
        }
        for (why, (count, example)) in &told.failed {
            failed += count;
            say(&format!("  {} not imported: {}; for example {}", grouped(*count), clean(why), clean(example)))?;
        }
        stopped |= told.stopped;
    }
    shared.store.close().await;
    match (stopped, failed) {
        (true, _) => Err(Failure::Interrupted),
        (false, 0) if unbegun > 0 => Err(Failure::Reported),
        (false, 0) => Ok(()),
        (false, failed) => {
            Err(Failure::Failed(anyhow::anyhow!("not imported: {}", crate::model::counted(failed, "finding"))))
        }
    }
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.with_timezone(&Utc))
        .map_err(|_| format!("--at {text}: not an instant; expected one such as 2026-06-30T23:59:59Z"))
}

/// Which file it was.
fn named(error: ExportError, file: &Path) -> ExportError {
    match error {
        ExportError::Io(error) => {
            let problem = format!("--out {}: the file cannot be written: {error}; name another", file.display());
            ExportError::Io(std::io::Error::new(error.kind(), problem))
        }
        other => other,
    }
}

/// Writes beside a file and puts it in its place when it is whole.
async fn into_file(
    file: &Path,
    write: impl AsyncFnOnce(&mut (dyn Write + Send)) -> Result<u64, ExportError>,
) -> Result<u64, ExportError> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let mut out = BufWriter::new(std::fs::File::create(&beside)?);
    let written = write(&mut out).await;
    drop(out);
    match written.and_then(|rows| Ok(std::fs::rename(&beside, file).map(|()| rows)?)) {
        Ok(rows) => Ok(rows),
        Err(error) => {
            // What was wrong with the report is what is reported.
            let _ = std::fs::remove_file(&beside);
            Err(error)
        }
    }
}
