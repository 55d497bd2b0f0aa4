//! Which rows a report has.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};

use super::row::COLUMNS;
use super::{ExportError, Head, ScanLine, Trend};
use crate::model::Severity;
use crate::model::{AccountId, ScanId, Status};
use crate::store::query::{among, ask, instant as stamp, literal};
use crate::store::{Cell, Store};

/// Points of a trend, at most.
const TREND: usize = 120;

/// The results of when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Which {
    /// What holds now.
    #[default]
    Newest,
    /// What held when a scan ended.
    Scan(ScanId),
    /// What held at an instant.
    At(DateTime<Utc>),
}

/// Which rows a report has; without any choice, all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The results of when.
    pub which: Which,
    /// From when on the history is whole; `None` where it is kept for ever.
    pub history_from: Option<DateTime<Utc>>,
    /// The organization, by its name in the configuration.
    pub organization: Option<String>,
    /// These accounts.
    pub accounts: Vec<AccountId>,
    /// The accounts anywhere below these OUs or roots.
    pub ous: Vec<String>,
    /// The accounts that these answer for now.
    pub owners: Vec<String>,
    /// The accounts of these teams now.
    pub teams: Vec<String>,
    /// These regions.
    pub regions: Vec<String>,
    /// These statuses.
    pub statuses: Vec<Status>,
}

impl Filter {
    /// Whether it has every row of its organizations.
    fn is_whole(&self) -> bool {
        self.chooses_nothing() && self.statuses.is_empty()
    }

    /// Whether it has every account and region.
    fn chooses_nothing(&self) -> bool {
        let Self { accounts, ous, owners, teams, regions, .. } = self;
        accounts.is_empty() && [ous, owners, teams, regions].iter().all(|words| words.is_empty())
    }

    /// The conditions on the rows of a view that is named `h`.
    fn conditions(&self) -> String {
        let mut all = vec!["1 = 1".to_owned()];
        all.extend(self.organization.as_ref().map(|name| format!("h.organization_name = {}", literal(name))));
        if !self.accounts.is_empty() {
            let ids: Vec<&str> = self.accounts.iter().map(AccountId::as_str).collect();
            all.push(among("h.account_id", &ids));
        }
        if !self.ous.is_empty() {
            let below = |ou: &String| format!("'/' || h.ou_path || '/' LIKE {}", literal(&format!("%/{ou}/%")));
            all.push(format!("({})", self.ous.iter().map(below).collect::<Vec<_>>().join(" OR ")));
        }
        for (column, words) in [("account_owner", &self.owners), ("team", &self.teams)] {
            if !words.is_empty() {
                // Who answered for an account then is not kept: who does now is asked.
                let owned = among(&format!("o.{column}"), words);
                all.push(format!(
                    "EXISTS (SELECT 1 FROM current_coverage AS o
                             WHERE o.organization_id = h.organization_id AND o.account_id = h.account_id AND {owned})"
                ));
            }
        }
        if !self.regions.is_empty() {
            all.push(among("h.region", &self.regions));
        }
        if !self.statuses.is_empty() {
            let words: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
            all.push(among("h.status", &words));
        }
        all.join(" AND ")
    }

    fn words(&self) -> String {
        let mut text = match self.which {
            Which::Newest => "the newest results".to_owned(),
            Which::Scan(scan) => format!("the results when scan {scan} ended"),
            Which::At(at) => format!("the results at {}", shown(at)),
        };
        let ids: Vec<&str> = self.accounts.iter().map(AccountId::as_str).collect();
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        for (what, words) in [
            ("accounts", ids.join(", ")),
            ("OUs", self.ous.join(", ")),
            ("owners", self.owners.join(", ")),
            ("teams", self.teams.join(", ")),
            ("regions", self.regions.join(", ")),
            ("statuses", statuses.join(", ")),
        ] {
            if !words.is_empty() {
                let _ = write!(text, "; only {what} {words}");
            }
        }
        text
    }
}

/// The view that the rows come from, as `h`: what holds now, or what held at an instant.
fn source(at: Option<DateTime<Utc>>) -> String {
    let Some(at) = at.map(stamp) else { return "current_coverage AS h".into() };
    let shown = |column: &&str| match *column {
        "since" => "c.valid_from AS since".to_owned(),
        "checked_at" => "NULL AS checked_at".to_owned(),
        // Of an interval that went on, the view has what was seen since.
        "last_known_at" => {
            format!("CASE WHEN c.last_known_at > {at} THEN {at} ELSE c.last_known_at END AS last_known_at")
        }
        "exempt" => "CASE WHEN e.valid_from IS NULL THEN 0 ELSE 1 END AS exempt".to_owned(),
        "exemption_reason" => "e.reason AS exemption_reason".to_owned(),
        "exemption_expires_at" => "e.expires_at AS exemption_expires_at".to_owned(),
        "scan_id" => "c.last_scan_id AS scan_id".to_owned(),
        other => format!("c.{other}"),
    };
    let columns: Vec<String> = COLUMNS.iter().map(shown).collect();
    format!(
        "(SELECT {} FROM coverage_history AS c
          LEFT JOIN exemption_history AS e ON e.organization_id = c.organization_id AND e.account_id = c.account_id
               AND e.region = c.region AND e.valid_from <= {at} AND (e.valid_to IS NULL OR e.valid_to > {at})
          WHERE c.valid_from <= {at} AND (c.valid_to IS NULL OR c.valid_to > {at})) AS h",
        columns.join(", ")
    )
}

/// The rows of a report, by account, and by region within.
pub fn rows(filter: &Filter, at: Option<DateTime<Utc>>) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|column| format!("h.{column}")).collect();
    format!(
        "SELECT {} FROM {} WHERE {} ORDER BY h.organization_id, h.account_id, h.region",
        columns.join(", "),
        source(at),
        filter.conditions()
    )
}

/// The instant that a report is of; `None` for now.
///
/// # Errors
/// Where a scan is asked for that there is not.
pub async fn instant(store: &dyn Store, filter: &Filter) -> Result<Option<DateTime<Utc>>, ExportError> {
    let at = match filter.which {
        Which::Newest => return Ok(None),
        Which::At(at) => at,
        Which::Scan(scan) => {
            let of = filter.organization.as_ref();
            let of = of.map_or_else(String::new, |name| format!(" AND organization_name = {}", literal(name)));
            let ended = format!("SELECT finished_at FROM scan_summary WHERE scan_id = {scan}{of}");
            let ended = ask(store, &ended).await?;
            ended.rows.first().and_then(|row| row[0].instant()).ok_or(ExportError::NoScan(scan))?
        }
    };
    match filter.history_from {
        // What ended before that is gone, and what still holds is there: a report of then would be of the latter alone.
        Some(from) if at < from => Err(ExportError::Gone { at: shown(at), from: shown(from) }),
        _ => Ok(Some(at)),
    }
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Refuses a choice of accounts and regions of which there is nothing: a word that was mistyped is no report without a gap.
///
/// # Errors
/// Where there is no such row of any status, or the store cannot be read.
pub async fn refuse_nothing(store: &dyn Store, filter: &Filter, at: Option<DateTime<Utc>>) -> Result<(), ExportError> {
    if filter.chooses_nothing() {
        return Ok(());
    }
    let any = Filter { statuses: Vec::new(), ..filter.clone() };
    let one = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", source(at), any.conditions());
    if ask(store, &one).await?.rows.is_empty() { Err(ExportError::NoRows(any.words())) } else { Ok(()) }
}

/// What stands before the rows.
///
/// # Errors
/// Where nothing has been scanned, or the store cannot be read.
pub async fn head(
    store: &dyn Store,
    filter: &Filter,
    at: Option<DateTime<Utc>>,
    severity: Severity,
    made_at: DateTime<Utc>,
) -> Result<Head, ExportError> {
    const FACTS: &[&str] = &[
        "scan_id",
        "state",
        "started_at",
        "finished_at",
        "accounts",
        "accounts_audited",
        "accounts_unreachable",
        "requirement",
        "configuration_hash",
        "version",
    ];
    let by_then = at.map_or_else(|| "1 = 1".to_owned(), |at| format!("finished_at <= {}", stamp(at)));
    let named = filter
        .organization
        .as_ref()
        .map_or_else(|| "1 = 1".to_owned(), |name| format!("organization_name = {}", literal(name)));
    let scans = ask(
        store,
        &format!(
            "SELECT organization_name, organization_id, {} FROM scan_summary WHERE scan_id IN (
                 SELECT max(scan_id) FROM scan_summary
                 WHERE scope = 'all' AND state IN ('completed', 'incomplete') AND {by_then} AND {named} GROUP BY organization_id)
             ORDER BY organization_name",
            FACTS.join(", ")
        ),
    )
    .await?;
    let line = |cells: Vec<Cell>| {
        let mut texts = cells.iter().map(Cell::to_string);
        let (organization, organization_id) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        ScanLine { organization, organization_id, facts: FACTS.iter().copied().zip(texts).collect() }
    };
    let scans: Vec<ScanLine> = scans.rows.into_iter().map(line).collect();
    if scans.is_empty() {
        return Err(at.map(shown).map_or(ExportError::Nothing, ExportError::NothingYet));
    }
    // Of a part of it there is none.
    let trend = if let ([scan], true) = (scans.as_slice(), filter.is_whole()) {
        let of = literal(&scan.organization_id);
        ask(
            store,
            &format!(
                "SELECT coverage_ratio_last_known, measured_ratio FROM scan_summary
                 WHERE organization_id = {of} AND whole AND {by_then}
                 ORDER BY scan_id DESC LIMIT {TREND}"
            ),
        )
        .await?
        .rows
    } else {
        Vec::new()
    };
    let point = |cells: &Vec<Cell>| Trend { coverage: cells[0].real(), measured: cells[1].real() };
    let (source, conditions) = (source(at), filter.conditions());
    let regions = format!("SELECT DISTINCT h.region FROM {source} WHERE {conditions} ORDER BY h.region");
    let regions = ask(store, &regions).await?.rows.iter().map(|row| row[0].to_string()).collect();
    let sums = ask(
        store,
        &format!(
            "SELECT h.status, h.reason, count(*), sum(CASE WHEN {} THEN 1 ELSE 0 END) FROM {source} WHERE {conditions}
             GROUP BY h.status, h.reason ORDER BY h.status, h.reason",
            if at.is_some() { "h.exempt = 1" } else { "h.exempt" }
        ),
    )
    .await?;
    let sum = |row: &Vec<Cell>| (row[0].to_string(), row[1].to_string(), row[2].whole(), row[3].whole());
    let sums = sums.rows.iter().map(sum).collect();
    let trend = trend.iter().rev().map(point).collect();
    let (is_whole, has_all_statuses) = (filter.is_whole(), filter.statuses.is_empty());
    let (as_of, asked) = (at.unwrap_or(made_at), filter.words());
    Ok(Head { made_at, as_of, severity, scans, trend, regions, is_whole, has_all_statuses, sums, asked })
}
