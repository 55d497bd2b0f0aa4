//! *Matrix*: accounts × regions. OUs are folded where there are many accounts, so that a page stays one that can be read.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::{Query, State};

use super::frame::{Frame, same};
use super::table::{Asked, class};
use super::{Answer, Asks, Here, Problem, csv, shown};
use crate::model::counted;
use crate::store::Cell;
use crate::store::query::{among, ask, literal};

/// So many accounts are shown unfolded, and on one page.
const ACCOUNTS: usize = 100;

#[derive(Template)]
#[template(path = "matrix.html")]
struct Matrix {
    frame: Frame,
    regions: Vec<Head>,
    groups: Vec<Group>,
    accounts: String,
    search: String,
    shows_gaps: bool,
    ou: String,
    region: String,
    next: Option<String>,
    previous: Option<String>,
    all: String,
    sql: String,
    csv: String,
}

/// A region, and how it stands in the newest scan.
struct Head {
    name: String,
    gaps: i64,
    class: &'static str,
}

/// An OU.
struct Group {
    name: String,
    href: String,
    is_open: bool,
    accounts: i64,
    said: String,
    class: &'static str,
    rows: Vec<Row>,
}

/// An account.
struct Row {
    id: String,
    name: String,
    href: String,
    cells: Vec<Square>,
}

/// An account × region.
struct Square {
    class: &'static str,
    sign: &'static str,
    title: String,
}

pub async fn page(State(served): Here, Query(asks): Asks) -> Answer {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Matrix", "/matrix").await?;
    let text = |key: &str| asks.get(key).map(String::as_str).unwrap_or_default().trim().to_owned();
    let (search, ou, region) = (text("q"), text("ou"), text("region"));
    let shows_gaps = text("show") == "gaps";
    let page: usize = text("page").parse().unwrap_or(1).clamp(1, 1_000_000);
    let filter = filter(&frame, &search, &ou, &region, shows_gaps);
    let what = "SELECT account_id, account_name, ou_path, region, status, reason, exempt, since, analyzer_arn FROM current_coverage";
    let only = if region.is_empty() { String::new() } else { format!(" AND region = {}", literal(&region)) };
    let asked = [Asked {
        id: "matrix",
        sql: format!(
            "{what} WHERE {}{only} AND account_id IN (SELECT account_id FROM current_accounts WHERE {filter}) ORDER BY ou_path, account_id, region",
            frame.is_it()
        ),
    }];
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let accounts = format!(
        "SELECT account_id, account_name, ou_path FROM current_accounts WHERE {filter} ORDER BY ou_path, account_name, account_id"
    );
    let accounts = ask(store, &accounts).await?.rows;
    // Of few all are shown; of many those that are asked for.
    let unfolds = accounts.len() <= ACCOUNTS || !ou.is_empty() || !search.is_empty() || shows_gaps;
    let from = if unfolds { (page - 1) * ACCOUNTS } else { accounts.len() };
    let listed: Vec<&Vec<Cell>> = accounts.iter().skip(from).take(ACCOUNTS).collect();
    let newest = format!(
        "SELECT max(scan_id) FROM scan_summary WHERE {} AND scope = 'all' AND state = 'completed'",
        frame.is_named()
    );
    let newest = ask(store, &newest).await?.rows.first().map_or(0, |row| row[0].whole());
    let heads = heads(store, newest, &region).await?;
    if heads.is_empty() && !region.is_empty() {
        return Err(Problem::NotFound(format!("The newest scan has no region {region}.")));
    }
    let mut cells: BTreeMap<(String, String), Vec<Cell>> = BTreeMap::new();
    if !listed.is_empty() {
        let ids: Vec<&str> = listed.iter().map(|row| row[0].text()).collect();
        let sql = format!("{what} WHERE {} AND {}", frame.is_it(), among("account_id", &ids));
        for row in ask(store, &sql).await?.rows {
            cells.insert((row[0].text().to_owned(), row[3].text().to_owned()), row);
        }
    }
    // Where no scan was completed yet, the regions are those of the rows.
    let heads = if heads.is_empty() {
        let names: BTreeSet<&String> = cells.keys().map(|(_, region)| region).collect();
        names.into_iter().map(|name| Head { name: name.clone(), gaps: 0, class: "" }).collect()
    } else {
        heads
    };
    let groups =
        groups(store, &frame, newest, &accounts, &listed, unfolds, region.is_empty(), !ou.is_empty(), &heads, &cells)
            .await?;
    let turn = |to: usize| same("/matrix", &asks, &[("page", &to.to_string())]);
    let matrix = Matrix {
        next: (unfolds && from + ACCOUNTS < accounts.len()).then(|| turn(page + 1)),
        previous: (unfolds && page > 1).then(|| turn(page - 1)),
        all: frame.to("/matrix", &[]),
        sql: asked[0].sql.clone(),
        csv: same("/matrix", &asks, &[("csv", "matrix")]),
        accounts: counted(accounts.len(), "account"),
        regions: heads,
        groups,
        search,
        shows_gaps,
        ou,
        region,
        frame,
    };
    shown(&matrix)
}

/// Which accounts are asked for.
fn filter(frame: &Frame, search: &str, ou: &str, region: &str, shows_gaps: bool) -> String {
    let mut conditions = vec![frame.is_it()];
    if !search.is_empty() {
        // What a pattern means by itself is meant as it stands.
        let pattern = search.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = literal(&format!("%{pattern}%"));
        let is_like = ["account_name", "account_id", "team", "account_owner"]
            .map(|column| format!("lower({column}) LIKE {pattern} ESCAPE '\\'"));
        conditions.push(format!("({})", is_like.join(" OR ")));
    }
    match ou {
        "" => {}
        "-" => conditions.push("ou_path IS NULL".to_owned()),
        ou => conditions.push(format!("ou_path = {}", literal(ou))),
    }
    if shows_gaps {
        let region = if region.is_empty() {
            String::new()
        } else {
            format!(" AND current_coverage.region = {}", literal(region))
        };
        // Account by account: that ends with the first gap of each.
        conditions.push(format!(
            "EXISTS (SELECT 1 FROM current_coverage
                     WHERE current_coverage.organization_id = current_accounts.organization_id
                       AND current_coverage.account_id = current_accounts.account_id AND current_coverage.status = 'not_covered'{region})"
        ));
    }
    conditions.join(" AND ")
}

/// The regions, as the newest scan has them.
async fn heads(store: &dyn crate::store::Store, scan: i64, only: &str) -> Result<Vec<Head>, super::Problem> {
    let sql =
        format!("SELECT region, not_covered, unknown FROM coverage_by_region WHERE scan_id = {scan} ORDER BY region");
    let head = |row: &Vec<Cell>| {
        let (gaps, unknown) = (row[1].whole(), row[2].whole());
        let class = if gaps > 0 {
            "not_covered"
        } else if unknown > 0 {
            "unknown"
        } else {
            ""
        };
        Head { name: row[0].text().to_owned(), gaps, class }
    };
    Ok(ask(store, &sql).await?.rows.iter().map(head).filter(|head| only.is_empty() || head.name == only).collect())
}

#[expect(clippy::too_many_arguments, reason = "what a matrix is made of")]
async fn groups(
    store: &dyn crate::store::Store,
    frame: &Frame,
    scan: i64,
    accounts: &[Vec<Cell>],
    listed: &[&Vec<Cell>],
    unfolds: bool,
    is_whole: bool,
    is_alone: bool,
    heads: &[Head],
    cells: &BTreeMap<(String, String), Vec<Cell>>,
) -> Result<Vec<Group>, super::Problem> {
    let sql = format!("SELECT ou_path, covered, not_covered, unknown FROM coverage_by_ou WHERE scan_id = {scan}");
    let counts: BTreeMap<String, Vec<Cell>> =
        ask(store, &sql).await?.rows.into_iter().map(|row| (row[0].text().to_owned(), row)).collect();
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for account in accounts {
        let path = account[2].text();
        let group = groups.entry(path).or_insert_with(|| {
            let (said, class) = counts.get(path).filter(|_| is_whole).map_or((String::new(), ""), |row| {
                let (covered, gaps, unknown) = (row[1].whole(), row[2].whole(), row[3].whole());
                let class = if gaps > 0 {
                    "not_covered"
                } else if unknown > 0 {
                    "unknown"
                } else {
                    "covered"
                };
                (format!("{covered} covered, {gaps} not covered, {unknown} unknown"), class)
            });
            let name = if path.is_empty() { "OU not known" } else { path };
            // What is unfolded alone is folded again.
            let href = if is_alone {
                frame.to("/matrix", &[])
            } else {
                frame.to("/matrix", &[("ou", if path.is_empty() { "-" } else { path })])
            };
            Group { name: name.to_owned(), href, is_open: unfolds, accounts: 0, said, class, rows: Vec::new() }
        });
        group.accounts += 1;
    }
    for account in listed {
        let (id, name, path) = (account[0].text(), account[1].text(), account[2].text());
        let cells = heads.iter().map(|head| {
            cells.get(&(id.to_owned(), head.name.clone())).map_or(
                Square { class: "", sign: "", title: String::new() },
                |row| {
                    let (status, is_exempt) = (row[4].text(), row[6].whole() == 1);
                    let sign = match (status, is_exempt) {
                        ("covered", _) => "✓",
                        ("not_covered", true) => "E",
                        ("not_covered", false) => "✕",
                        ("unknown", _) => "?",
                        _ => "·",
                    };
                    let exempt = if is_exempt { ", exempt" } else { "" };
                    Square { class: class(status), sign, title: format!("{}: {}{exempt}", head.name, row[5].text()) }
                },
            )
        });
        let row = Row { id: id.to_owned(), name: name.to_owned(), href: frame.account(id), cells: cells.collect() };
        if let Some(group) = groups.get_mut(path) {
            group.rows.push(row);
        }
    }
    // Of a page of many accounts, only the OUs that are on it.
    Ok(groups.into_values().filter(|group| !unfolds || !group.rows.is_empty()).collect())
}
