//! *Account*: its regions, its history, its analyzers, and why it cannot be read.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use chrono::{DateTime, Utc};

use super::frame::Frame;
use super::table::{Table, TableQuery, class};
use super::{AppState, PageError, PageResult, Params, csv, shown};
use crate::glance::ago;
use crate::model::AccountId;
use crate::store::Cell;
use crate::store::query::{ask, literal};

/// Rows of each table.
const ROWS: usize = 200;

/// The width of a timeline.
const WIDTH: f64 = 720.0;

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    id: String,
    facts: Vec<(&'static str, String)>,
    /// Why it cannot be read, and what to do.
    problem: Option<(String, &'static str)>,
    lines: Vec<Line>,
    from: String,
    tables: Vec<Table>,
}

/// What became of a region over time.
struct Line {
    region: String,
    said: String,
    spans: Vec<Span>,
}

/// A stretch of one status.
struct Span {
    x: String,
    width: String,
    class: &'static str,
    title: String,
}

pub async fn page(State(served): AppState, Path(id): Path<String>, Query(asks): Params) -> PageResult {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Account", "/accounts").await?;
    if id.parse::<AccountId>().is_err() {
        return Err(PageError::Request(format!("{id} is no account id: expected twelve digits.")));
    }
    let it = format!("{} AND account_id = {}", frame.id_condition(), literal(&id));
    let facts = format!(
        "SELECT account_name, account_state, ou_path, account_owner, team, checked_at, outcome, error_kind, error_message
         FROM current_accounts WHERE {it}"
    );
    let facts = ask(store, &facts).await?.rows;
    let asked = [
        TableQuery {
            id: "regions",
            sql: format!(
                "SELECT region, status, reason, since, uncovered_since, last_known_status, exempt, exemption_reason, analyzer_arn FROM current_coverage
                 WHERE {it} ORDER BY region"
            ),
        },
        TableQuery {
            id: "history",
            sql: format!(
                "SELECT region, status, reason, valid_from, valid_to, analyzer_arn FROM coverage_history
                 WHERE {it} ORDER BY valid_from DESC, region"
            ),
        },
        TableQuery {
            id: "analyzers",
            sql: format!(
                "SELECT region, name, type, status, status_reason, managed_by, since, analyzer_arn FROM current_analyzers
                 WHERE {} AND owner_account_id = {} ORDER BY region, name",
                frame.id_condition(),
                literal(&id)
            ),
        },
        TableQuery {
            id: "visits",
            sql: format!(
                "SELECT scan_id, finished_at, outcome, error_kind, error_message, worker FROM account_visits
                 WHERE {it} ORDER BY scan_id DESC"
            ),
        },
    ];
    let path = format!("/accounts/{id}");
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let mut tables = Vec::new();
    for (asked, caption) in asked.iter().zip(["Regions", "History", "Analyzers of its own", "Newest visits"]) {
        let most = if asked.id == "visits" { 10 } else { ROWS };
        tables.push(asked.table(store, caption, most, (&path, &asks), |_, _| None).await?);
    }
    // One that has left has a history and nothing else.
    if facts.is_empty() && tables.iter().all(|table| table.rows.is_empty()) {
        return Err(PageError::NotFound(format!("No account {id} is known in {}.", frame.organization)));
    }
    let fact = |column: usize| facts.first().map_or("", |row| row[column].text()).to_owned();
    let checked = facts.first().and_then(|row| row[5].instant());
    let problem = (fact(6) == "unreachable" || !fact(7).is_empty()).then(|| {
        let (kind, said) = (fact(7), fact(8));
        (format!("{kind}: {said}"), advice(&kind))
    });
    let spans = format!(
        "SELECT region, status, reason, valid_from, valid_to FROM coverage_history WHERE {it} ORDER BY region, valid_from"
    );
    let (lines, from) = lines(&ask(store, &spans).await?.rows, frame.now);
    let name = if facts.is_empty() { "(has left)".to_owned() } else { fact(0) };
    let facts = vec![
        ("name", name),
        ("state", fact(1)),
        ("OU", fact(2)),
        ("owner", fact(3)),
        ("team", fact(4)),
        ("last looked at", checked.map_or_else(String::new, |at| ago(frame.now - at))),
        ("outcome", fact(6)),
    ];
    let facts = facts.into_iter().filter(|(_, said)| !said.is_empty()).collect();
    let page = Account { frame, id, facts, problem, lines, from, tables };
    shown(&page)
}

/// Each region's stretches, in a picture from the first of all to now.
fn lines(rows: &[Vec<Cell>], now: DateTime<Utc>) -> (Vec<Line>, String) {
    let Some(first) = rows.iter().filter_map(|row| row[3].instant()).min() else { return (Vec::new(), String::new()) };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of years are far below 2^53")]
    let share = |at: DateTime<Utc>| {
        let whole = (now - first).num_milliseconds().max(1) as f64;
        WIDTH * ((at - first).num_milliseconds() as f64 / whole).clamp(0.0, 1.0)
    };
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for row in rows {
        let (region, status, reason) = (row[0].text(), row[1].text(), row[2].text());
        let (Some(from), to) = (row[3].instant(), row[4].instant()) else { continue };
        let (x, end) = (share(from), share(to.unwrap_or(now)));
        let line = lines.entry(region.to_owned()).or_insert_with(|| Line {
            region: region.to_owned(),
            said: String::new(),
            spans: Vec::new(),
        });
        status.clone_into(&mut line.said);
        line.spans.push(Span {
            x: format!("{x:.1}"),
            width: format!("{:.1}", (end - x).max(1.0)),
            class: class(status),
            title: format!("{status}, {reason}, since {}", from.format("%Y-%m-%d %H:%M UTC")),
        });
    }
    // What never mattered there needs no line.
    let lines = lines.into_values().filter(|line| line.spans.iter().any(|span| span.class != "not_applicable"));
    (lines.collect(), first.format("%Y-%m-%d").to_string())
}

/// What to do about what keeps an account from being read.
fn advice(kind: &str) -> &'static str {
    match kind {
        "role_not_assumable" => {
            "The member role is missing there, or does not trust the central role: deploy it (deploy/aws; `trustwatch policy` prints it), then `trustwatch scan --account` this one."
        }
        "access_denied" => "The member role lacks an action: compare it with what `trustwatch policy` prints.",
        "scp_denied" => {
            "A service control policy denies it: exempt the member role in that policy, or exclude the region or the account in the configuration, if that is a decision."
        }
        "credentials" => "The session is not accepted there: is the region enabled for the account?",
        "sts_disabled_in_region" => {
            "STS is not activated in that region for the account: activate it in the account's settings of IAM."
        }
        "throttled" => "AWS asked to slow down for too long: lower `limits.rates`, or scan at another time.",
        "timeout" | "network" => {
            "The network did not let it through: DNS, proxy, VPC endpoints. `trustwatch doctor` looks."
        }
        "malformed_response" => "What answered is not AWS's API: a proxy, perhaps.",
        _ => "This is AWS's answer; the next scan asks again.",
    }
}
