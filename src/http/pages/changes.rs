//! *Changes*: from one known answer to the next, day by day or since an instant.

use askama::Template;
use axum::extract::{Query, State};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, SecondsFormat, Utc};

use super::frame::Frame;
use super::table::{Table, TableQuery};
use super::{AppState, PageError, PageResult, Params, csv, shown};
use crate::store::Cell;
use crate::store::query::instant;

/// Rows that are shown; the CSV has all.
const ROWS: usize = 1_000;

#[derive(Template)]
#[template(path = "changes.html")]
struct Changes {
    frame: Frame,
    /// What it shows, as a heading ends.
    of: String,
    day: String,
    /// Other days: what leads there, and where.
    days: Vec<(&'static str, String)>,
    shows_all: bool,
    other: String,
    tables: Vec<Table>,
}

pub async fn page(State(served): AppState, Query(asks): Params) -> PageResult {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Changes", "/changes").await?;
    let today = frame.now.date_naive();
    let since = match asks.get("since") {
        None => None,
        Some(text) => {
            let since = DateTime::parse_from_rfc3339(text).ok().filter(|since| is_a_year(since.year()));
            let expected =
                || PageError::Request(format!("since={text}: expected an instant such as 2026-11-23T09:00:00Z."));
            Some(since.ok_or_else(expected)?.with_timezone(&Utc))
        }
    };
    let day = match (asks.get("day"), since) {
        (_, Some(since)) => since.date_naive(),
        (None, None) => today,
        (Some(text), None) => NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|day| is_a_year(day.year()))
            .ok_or_else(|| PageError::Request(format!("day={text}: expected a day such as 2026-11-23.")))?,
    };
    let shows_all = asks.get("show").is_some_and(|what| what == "all");
    let begins = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let view = if shows_all { "coverage_transitions" } else { "coverage_changes" };
    let during = match since {
        Some(since) => format!("{} AND at >= {}", frame.name_condition(), instant(since)),
        None => {
            let (from, to) = (begins(day), begins(day + Days::new(1)));
            format!("{} AND at >= {} AND at < {}", frame.name_condition(), instant(from), instant(to))
        }
    };
    let asked = [
        TableQuery {
            id: "sums",
            sql: format!(
                "SELECT from_status, to_status, cause, to_reason, count(*) AS account_regions, count(DISTINCT account_id) AS accounts,
                        count(DISTINCT region) AS regions
                 FROM {view} WHERE {during}
                 GROUP BY from_status, to_status, cause, to_reason ORDER BY account_regions DESC, to_reason"
            ),
        },
        TableQuery {
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
    let to = |key: &str, value: String, all: bool| {
        let mut asks = vec![(key, value.as_str())];
        if all {
            asks.push(("show", "all"));
        }
        frame.to("/changes", &asks)
    };
    let on = |day: NaiveDate, all: bool| to("day", day.to_string(), all);
    let (of, days, other) = match since {
        Some(since) => (
            since.format("since %Y-%m-%d %H:%M UTC").to_string(),
            vec![("Today", on(today, shows_all))],
            to("since", since.to_rfc3339_opts(SecondsFormat::Secs, true), !shows_all),
        ),
        None => {
            let mut days = vec![("Day before", on(day - Days::new(1), shows_all))];
            if day < today {
                days.push(("Day after", on(day + Days::new(1), shows_all)));
            }
            (format!("of {day}"), days, on(day, !shows_all))
        }
    };
    let page = Changes { of, day: day.to_string(), days, other, shows_all, tables, frame };
    shown(&page)
}

/// What both engines take for a year.
fn is_a_year(year: i32) -> bool {
    (2000..=9000).contains(&year)
}
