//! *Changes*: from one known answer to the next, day by day.

use askama::Template;
use axum::extract::{Query, State};
use chrono::{Datelike, Days, NaiveDate, NaiveTime};

use super::frame::Frame;
use super::table::{Asked, Table};
use super::{Answer, Asks, Here, Problem, csv, shown};
use crate::store::Cell;
use crate::store::query::instant;

/// Rows that are shown; the CSV has all.
const ROWS: usize = 1_000;

#[derive(Template)]
#[template(path = "changes.html")]
struct Changes {
    frame: Frame,
    day: String,
    previous: String,
    next: Option<String>,
    shows_all: bool,
    other: String,
    tables: Vec<Table>,
}

pub async fn page(State(served): Here, Query(asks): Asks) -> Answer {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Changes", "/changes").await?;
    let today = frame.now.date_naive();
    let day = match asks.get("day") {
        None => today,
        Some(text) => NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|day| (2000..=9000).contains(&day.year()))
            .ok_or_else(|| Problem::Request(format!("day={text}: expected a day such as 2026-11-23.")))?,
    };
    let shows_all = asks.get("show").is_some_and(|what| what == "all");
    let from = day.and_time(NaiveTime::MIN).and_utc();
    let to = (day + Days::new(1)).and_time(NaiveTime::MIN).and_utc();
    let view = if shows_all { "coverage_transitions" } else { "coverage_changes" };
    let during = format!("{} AND at >= {} AND at < {}", frame.is_named(), instant(from), instant(to));
    let asked = [
        Asked {
            id: "sums",
            sql: format!(
                "SELECT from_status, to_status, cause, to_reason, count(*) AS account_regions, count(DISTINCT account_id) AS accounts,
                        count(DISTINCT region) AS regions
                 FROM {view} WHERE {during}
                 GROUP BY from_status, to_status, cause, to_reason ORDER BY account_regions DESC, to_reason"
            ),
        },
        Asked {
            id: "changes",
            sql: format!(
                "SELECT at, account_id, account_name, region, from_status, from_reason, to_status, to_reason, cause, scan_id
                 FROM (SELECT * FROM {view} WHERE {during}) AS changed
                 LEFT JOIN (SELECT organization_id, account_id, account_name FROM current_accounts) AS named
                     USING (organization_id, account_id)
                 ORDER BY at DESC, account_id, region"
            ),
        },
    ];
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let mut tables = Vec::new();
    for (asked, caption) in asked.iter().zip(["In sum", "One by one"]) {
        let link = |name: &str, row: &[Cell]| (name == "account_id").then(|| frame.account(row[1].text()));
        tables.push(asked.table(store, caption, ROWS, ("/changes", &asks), link).await?);
    }
    let at = |day: NaiveDate, all: bool| {
        let day = day.to_string();
        let mut asks = vec![("day", day.as_str())];
        if all {
            asks.push(("show", "all"));
        }
        frame.to("/changes", &asks)
    };
    let page = Changes {
        day: day.to_string(),
        previous: at(day - Days::new(1), shows_all),
        next: (day < today).then(|| at(day + Days::new(1), shows_all)),
        other: at(day, !shows_all),
        shows_all,
        tables,
        frame,
    };
    shown(&page)
}
