//! *Scans*: what was looked at, how far each came, and what it cost.

use askama::Template;
use axum::extract::{Query, State};

use super::frame::Frame;
use super::table::{Table, TableQuery};
use super::{AppState, PageError, PageResult, Params, csv, shown};

/// Scans on one page.
const ROWS: usize = 100;

#[derive(Template)]
#[template(path = "scans.html")]
struct Scans {
    frame: Frame,
    older: Option<String>,
    tables: Vec<Table>,
}

pub async fn page(State(served): AppState, Query(asks): Params) -> PageResult {
    let frame = Frame::of(&served, &asks, "Scans", "/scans").await?;
    let before = match asks.get("before") {
        None => String::new(),
        Some(text) => match text.parse::<i64>() {
            Ok(scan) => format!(" AND scan_id < {scan}"),
            Err(_) => return Err(PageError::Request(format!("before={text}: expected the number of a scan."))),
        },
    };
    let asked = [TableQuery {
        id: "scans",
        sql: format!(
            "SELECT scan_id, state, trigger, scope, started_at, duration_seconds, accounts, accounts_unreachable, covered, not_covered,
                    unknown, coverage_ratio, measured_ratio, bound_by, version, error
             FROM scan_summary WHERE {}{before} ORDER BY scan_id DESC",
            frame.name_condition()
        ),
    }];
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let table = asked[0].table(served.store.as_ref(), "Scans", ROWS, ("/scans", &asks), |_, _| None).await?;
    let last = table.rows.last().filter(|_| table.has_more).map(|row| row[0].text.clone());
    let older = last.map(|scan| frame.to("/scans", &[("before", &scan)]));
    let page = Scans { older, tables: vec![table], frame };
    shown(&page)
}
