//! Reports for auditors and other tools: the results of the newest scan, of an earlier one, or of an instant.
//!
//! Rows stream from the store through one `Form` into the output: memory does not grow with them.

mod asff;
mod html;
mod junit;
mod ocsf;
mod plain;
mod prowler;
mod row;
mod select;

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use crate::model::Severity;
use crate::store::{Cell, RowSink, Store, StoreError};

pub use asff::{Hub, for_security_hub};
pub use row::Row;
pub use select::{Filter, Which};

/// What a report is about, before its rows.
#[derive(Debug, Clone)]
pub struct Head {
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// The instant that its rows are of: of those of now, when it was made.
    pub as_of: DateTime<Utc>,
    /// How severe a gap is.
    pub severity: Severity,
    /// The scan that it shows: the newest of its organization that ended by then.
    pub scans: Vec<ScanLine>,
    /// Ratios of earlier scans, oldest first: instant, coverage, coverage by last known answers, measured.
    pub trend: Vec<Trend>,
    /// The regions of its rows.
    pub regions: Vec<String>,
    /// Whether it has every row of its organizations, so that the trend is of the same.
    pub is_whole: bool,
    /// Whether it has the rows of all statuses, so that they have a share.
    pub has_all_statuses: bool,
    /// What its rows add up to: status, reason, how many, how many of these exempt.
    pub sums: Vec<(String, String, i64, i64)>,
    /// What was asked for, in words.
    pub asked: String,
}

/// A scan, as evidence.
#[derive(Debug, Clone)]
pub struct ScanLine {
    /// The configuration's name of the organization.
    pub organization: String,
    /// AWS's id of it.
    pub organization_id: String,
    /// Its number, instants, state, requirement, hash of the configuration, version, accounts: as texts.
    pub facts: Vec<(&'static str, String)>,
}

/// One point of a trend.
#[derive(Debug, Clone, Copy)]
pub struct Trend {
    /// covered / (covered + not covered), each unknown counted by its last known answer.
    pub coverage: Option<f64>,
    /// (covered + not covered) / all of these and unknown.
    pub measured: Option<f64>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, with a line of names.
    Csv,
    /// A JSON array.
    Json,
    /// A JSON object on each line.
    Ndjson,
    /// Compliance Findings (class 2003) of OCSF 1.5, a JSON array.
    Ocsf,
    /// Findings of AWS Security Hub, a JSON array.
    Asff,
    /// `JUnit`'s XML, a suite for each account.
    Junit,
    /// One self-contained page.
    Html,
    /// Prowler's columns, separated by semicolons.
    ProwlerCsv,
}

/// One form of a report.
trait Form: Send {
    /// What stands before the rows.
    fn begin(&mut self, out: &mut dyn Write, head: &Head) -> io::Result<()>;
    /// A row. Rows come by account, and by region within.
    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()>;
    /// What stands after the rows.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such scan.
    #[error(
        "--scan {0}: there is no finished scan of that number; `SELECT scan_id, finished_at FROM scan_summary` lists them"
    )]
    NoScan(i64),
    /// The history of then is gone, or some of it.
    #[error(
        "what held at {at} is not known as a whole any more: the history is kept from {from} on (store.retention.history)"
    )]
    Gone {
        /// The instant that was asked for.
        at: String,
        /// From when on everything is there.
        from: String,
    },
    /// There is nothing of what was chosen, whatever its status.
    #[error(
        "nothing is like that: {0}; `SELECT DISTINCT account_id, region, ou_path, account_owner, team FROM current_coverage` lists what there is"
    )]
    NoRows(String),
    /// Nothing had been scanned by then.
    #[error(
        "there were no results yet at {0}; `SELECT min(finished_at) FROM scan_summary` says when the first were there"
    )]
    NothingYet(String),
    /// Nothing has been scanned.
    #[error("there are no results to report; run `trustwatch scan`")]
    Nothing,
}

struct Sink<'a> {
    form: Box<dyn Form>,
    out: &'a mut (dyn Write + Send),
    rows: u64,
    error: Option<io::Error>,
}

impl RowSink for Sink<'_> {
    fn columns(&mut self, _: Vec<String>) {}

    fn row(&mut self, cells: Vec<Cell>) {
        self.rows += 1;
        if self.error.is_none() {
            self.error = self.form.row(self.out, Row::new(cells)).err();
        }
    }
}

/// Writes a report; returns how many rows it has.
///
/// # Errors
/// Where there is nothing to report, or it cannot be read or written.
pub async fn export(
    store: &dyn Store,
    format: Format,
    filter: &Filter,
    severity: Severity,
    made_at: DateTime<Utc>,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let at = select::instant(store, filter).await?;
    let head = select::head(store, filter, at, severity, made_at).await?;
    select::refuse_nothing(store, filter, at).await?;
    let form: Box<dyn Form> = match format {
        Format::Csv => Box::new(plain::Csv),
        Format::Json => Box::new(plain::Json::array()),
        Format::Ndjson => Box::new(plain::Json::lines()),
        Format::Ocsf => Box::new(ocsf::Ocsf::new(&head)),
        Format::Asff => Box::new(asff::Asff::new(&head)),
        Format::Junit => Box::new(junit::Junit::default()),
        Format::Html => Box::new(html::Html::default()),
        Format::ProwlerCsv => Box::new(prowler::Prowler::new(&head)),
    };
    let mut sink = Sink { form, out, rows: 0, error: None };
    sink.form.begin(sink.out, &head)?;
    store.query(&select::rows(filter, at), &mut sink).await?;
    let Sink { mut form, out, rows, error } = sink;
    error.map_or(Ok(()), Err)?;
    form.end(out)?;
    out.flush()?;
    Ok(rows)
}
