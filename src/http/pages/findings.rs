//! *Findings*: what Access Analyzer itself has found.

use askama::Template;
use axum::extract::{Query, State};

use super::frame::Frame;
use super::table::{Table, TableQuery};
use super::{AppState, PageResult, Params, csv, shown};
use crate::glance::ago;
use crate::store::Cell;
use crate::store::query::ask;

/// Rows that are shown; the CSV has all.
const ROWS: usize = 500;

#[derive(Template)]
#[template(path = "findings.html")]
struct Findings {
    frame: Frame,
    is_public: bool,
    other: String,
    /// How old what is shown one by one is; `None` where nothing was ever read.
    read: Option<String>,
    tables: Vec<Table>,
}

pub async fn page(State(served): AppState, Query(asks): Params) -> PageResult {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Findings", "/findings").await?;
    let is_public = asks.get("show").is_some_and(|what| what == "public");
    let public = if is_public { " AND is_public" } else { "" };
    let asked = [
        TableQuery {
            id: "counts",
            sql: format!(
                "SELECT type, count(*) AS analyzers, sum(active) AS active, sum(public) AS public, sum(cross_account) AS cross_account,
                        sum(archived) AS archived, sum(resolved) AS resolved
                 FROM current_findings_statistics WHERE {} GROUP BY type ORDER BY type",
                frame.id_condition()
            ),
        },
        TableQuery {
            id: "findings",
            sql: format!(
                "SELECT resource_account_id, region, resource_type, resource, is_public, principal, type, since, read_at, finding_id
                 FROM current_findings WHERE {} AND status = 'ACTIVE'{public}
                 ORDER BY resource_account_id, region, resource, finding_id",
                frame.id_condition()
            ),
        },
    ];
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let mut tables = Vec::new();
    for (asked, caption) in asked.iter().zip(["As AWS counts them", "Active, one by one"]) {
        let link = |name: &str, row: &[Cell]| {
            (name == "resource_account_id" && !row[0].text().is_empty()).then(|| frame.account(row[0].text()))
        };
        tables.push(asked.table(store, caption, ROWS, ("/findings", &asks), link).await?);
    }
    let readings = format!("SELECT min(read_at) FROM findings_readings WHERE {}", frame.id_condition());
    let oldest = ask(store, &readings).await?.rows.first().and_then(|row| row[0].instant());
    let read = oldest.map(|at| ago(frame.now - at));
    let other = frame.to("/findings", if is_public { &[] } else { &[("show", "public")] });
    let page = Findings { frame, is_public, other, read, tables };
    shown(&page)
}
