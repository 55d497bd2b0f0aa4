//! *Overview*: how it stands, since when, and what is wrong.

use askama::Template;
use axum::extract::{Query, State};
use chrono::{SecondsFormat, TimeDelta};

use super::frame::Frame;
use super::table::{Table, TableQuery};
use super::{AppState, PageResult, Params, csv, shown};
use crate::glance::{self, Glance, ago};
use crate::model::{counted, grouped, percent};
use crate::store::Cell;
use crate::store::query::ask;

/// Rows of each table.
const ROWS: usize = 10;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    glance: Glance,
    figures: Vec<KeyFigure>,
    tables: Vec<Table>,
}

/// A number that everybody should see.
struct KeyFigure {
    name: &'static str,
    share: String,
    class: &'static str,
    moved: String,
    rest: String,
    trend: Spark,
}

/// A line over time.
pub struct Spark {
    pub points: String,
    pub said: String,
}

impl Spark {
    /// The line through shares, in a box of 240 × 48.
    pub fn of(shares: &[Option<f64>]) -> Self {
        let known: Vec<f64> = shares.iter().flatten().copied().collect();
        let (least, most) = known.iter().fold((1.0_f64, 0.0_f64), |(least, most), at| (least.min(*at), most.max(*at)));
        #[expect(clippy::cast_precision_loss, reason = "a year has 366 days")]
        let point = |(at, share): (usize, &Option<f64>)| {
            let x = 2.0 + 236.0 * at as f64 / (shares.len().max(2) - 1) as f64;
            let span = (most - least).max(1e-9);
            share.map(|share| format!("{x:.1},{:.1}", 44.0 - 40.0 * (share - least) / span))
        };
        let points: Vec<String> = shares.iter().enumerate().filter_map(point).collect();
        let said = if known.len() < 2 {
            "no trend yet".to_owned()
        } else {
            format!("from {} to {} in {}", percent(Some(least)), percent(Some(most)), counted(known.len(), "day"))
        };
        Self { points: points.join(" "), said }
    }
}

pub async fn page(State(served): AppState, Query(asks): Params) -> PageResult {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Overview", "/").await?;
    let mut glance = glance::of(store, &frame.organization, frame.now).await?;
    if served.health.is_overdue(&frame.organization).await {
        glance.problems.insert(0, "a scan that should have been completed by now was not".to_owned());
    }
    let year = format!(
        "SELECT finished_at, coverage_ratio, measured_ratio FROM scan_summary
         WHERE scan_id IN (
             SELECT max(scan_id) FROM scan_summary WHERE {} AND whole
             GROUP BY substr(CAST(finished_at AS TEXT), 1, 10))
         ORDER BY scan_id DESC LIMIT 366",
        frame.name_condition()
    );
    let days = ask(store, &year).await?.rows;
    let trend = |column: usize| Spark::of(&days.iter().rev().map(|row| row[column].real()).collect::<Vec<_>>());
    let figures = glance.newest.iter().flat_map(|newest| {
        let class = |is_well: bool, otherwise| if is_well { "covered" } else { otherwise };
        let exempt = if newest.exempt > 0 { format!(", {} exempt", grouped(newest.exempt)) } else { String::new() };
        [
            KeyFigure {
                name: "coverage",
                share: percent(newest.coverage.now),
                class: class(newest.not_covered == 0 && newest.coverage.now.is_some(), "not_covered"),
                moved: newest.coverage.moved(),
                rest: format!("{} not covered{exempt}", counted(newest.not_covered, "account × region")),
                trend: trend(1),
            },
            KeyFigure {
                name: "measured",
                share: percent(newest.measured.now),
                class: class(newest.unknown == 0 && newest.measured.now.is_some(), "unknown"),
                moved: newest.measured.moved(),
                rest: format!("{} could not be read", counted(newest.unknown, "account × region")),
                trend: trend(2),
            },
        ]
    });
    let figures = figures.collect();
    let scan = glance.newest.as_ref().map_or(0, |newest| newest.scan_id);
    let asked = asked(&frame, scan);
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let mut tables = Vec::new();
    let captions = ["Open incidents", "Oldest gaps", "Gaps by OU", "Gaps by region", "Accounts that cannot be read"];
    for (asked, caption) in asked.iter().zip(captions) {
        let link = |name: &str, row: &[Cell]| match name {
            "account_id" => Some(frame.account(row[0].text())),
            "ou_path" if asked.id == "ous" => Some(frame.to("/matrix", &[("ou", row[0].text())])),
            "region" if asked.id == "regions" => {
                Some(frame.to("/matrix", &[("show", "gaps"), ("region", row[0].text())]))
            }
            _ => None,
        };
        let table = asked.table(store, caption, ROWS, ("/", &asks), link).await?;
        // What is empty and well needs no room.
        if !table.rows.is_empty() {
            tables.push(table);
        }
    }
    let page = Overview { frame, glance, figures, tables };
    shown(&page)
}

/// What needs somebody, as tables.
fn asked(frame: &Frame, scan: i64) -> [TableQuery; 5] {
    [
        TableQuery {
            id: "incidents",
            sql: format!(
                "SELECT severity, title, opened_at, account_regions, open_account_regions FROM alert_incidents
                 WHERE {} AND closed_at IS NULL ORDER BY incident_id DESC",
                frame.name_condition()
            ),
        },
        TableQuery {
            id: "oldest",
            sql: format!(
                "SELECT account_id, account_name, region, reason, uncovered_since, ou_path FROM current_coverage
                 WHERE {} AND status = 'not_covered' AND NOT exempt ORDER BY uncovered_since, account_id, region",
                frame.id_condition()
            ),
        },
        TableQuery {
            id: "ous",
            sql: format!(
                "SELECT ou_path, not_covered, unknown, covered, coverage_ratio FROM coverage_by_ou
                 WHERE scan_id = {scan} AND not_covered + unknown > 0 ORDER BY not_covered DESC, unknown DESC, ou_path"
            ),
        },
        TableQuery {
            id: "regions",
            sql: format!(
                "SELECT region, not_covered, unknown, covered, coverage_ratio FROM coverage_by_region
                 WHERE scan_id = {scan} AND not_covered + unknown > 0 ORDER BY not_covered DESC, unknown DESC, region"
            ),
        },
        // A bare comparison would let Postgres begin with every visit ever made, of which it expects few to be so.
        TableQuery {
            id: "unreadable",
            sql: format!(
                "SELECT account_id, account_name, error_kind, error_message, ou_path FROM current_accounts
                 WHERE {} AND coalesce(outcome, '') = 'unreachable' ORDER BY account_id",
                frame.id_condition()
            ),
        },
    ]
}

impl Overview {
    fn age(&self) -> String {
        self.glance.newest.as_ref().and_then(|newest| newest.at).map_or_else(String::new, |at| ago(self.frame.now - at))
    }

    fn changes(&self) -> String {
        let since = (self.frame.now - TimeDelta::days(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
        self.frame.to("/changes", &[("since", &since)])
    }
}
