//! *Matrix*: accounts × regions. OUs are folded where there are many accounts, so that a page stays one that can be read.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::{Query, State};

use super::frame::{Frame, same};
use super::table::{TableQuery, class, worst};
use super::{AppState, PageError, PageResult, Params, csv, shown};
use crate::glance::ago;
use crate::model::{Status, counted};
use crate::store::query::{among, ask, literal};
use crate::store::{Cell, Store};

/// So many accounts are shown unfolded, and on one page.
const ACCOUNTS: usize = 100;

/// The rows of accounts, by account and region.
type Cells = BTreeMap<(String, String), Vec<Cell>>;

#[derive(Template)]
#[template(path = "matrix.html")]
struct Matrix {
    frame: Frame,
    regions: Vec<Head>,
    groups: Vec<Group>,
    accounts: String,
    unfolds: bool,
    choice: Choice,
    /// The scan that the counts of regions and OUs are of, and how old it is.
    counted: Option<(i64, String)>,
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

/// An account × region; nothing where it has no row.
#[derive(Default)]
struct Square {
    class: &'static str,
    sign: &'static str,
    title: String,
}

/// What is asked for.
struct Choice {
    search: String,
    ou: String,
    region: String,
    shows_gaps: bool,
    page: usize,
}

impl Choice {
    fn of(asks: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| asks.get(key).map(String::as_str).unwrap_or_default().trim().to_owned();
        Self {
            search: text("q"),
            ou: text("ou"),
            region: text("region"),
            shows_gaps: text("show") == "gaps",
            page: text("page").parse().unwrap_or(1).clamp(1, 1_000_000),
        }
    }

    /// Of few accounts all are shown; of many those that are asked for.
    fn unfolds(&self, accounts: usize) -> bool {
        accounts <= ACCOUNTS || self.shows_gaps || !self.ou.is_empty() || !self.search.is_empty()
    }

    /// Which accounts it is about.
    fn accounts(&self, frame: &Frame) -> String {
        let mut conditions = vec![frame.id_condition()];
        if !self.search.is_empty() {
            // What a pattern means by itself is meant as it stands.
            let pattern = self.search.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            let pattern = literal(&format!("%{pattern}%"));
            let is_like = ["account_name", "account_id", "team", "account_owner"]
                .map(|column| format!("lower({column}) LIKE {pattern} ESCAPE '\\'"));
            conditions.push(format!("({})", is_like.join(" OR ")));
        }
        match self.ou.as_str() {
            "" => {}
            "-" => conditions.push("ou_path IS NULL".to_owned()),
            ou => conditions.push(format!("ou_path = {}", literal(ou))),
        }
        if self.shows_gaps {
            // Account by account: that ends with the first gap of each.
            conditions.push(format!(
                "EXISTS (SELECT 1 FROM current_coverage
                         WHERE current_coverage.organization_id = current_accounts.organization_id
                           AND current_coverage.account_id = current_accounts.account_id AND current_coverage.status = 'not_covered'{})",
                self.and_region("current_coverage.region")
            ));
        }
        conditions.join(" AND ")
    }

    /// That a column has the region, where one is asked for.
    fn and_region(&self, column: &str) -> String {
        if self.region.is_empty() { String::new() } else { format!(" AND {column} = {}", literal(&self.region)) }
    }
}

pub async fn page(State(served): AppState, Query(asks): Params) -> PageResult {
    let store = served.store.as_ref();
    let frame = Frame::of(&served, &asks, "Matrix", "/matrix").await?;
    let choice = Choice::of(&asks);
    let filter = choice.accounts(&frame);
    let what = "SELECT account_id, account_name, ou_path, region, status, reason, exempt, since, analyzer_arn FROM current_coverage";
    let asked = [TableQuery {
        id: "matrix",
        sql: format!(
            "{what} WHERE {}{} AND account_id IN (SELECT account_id FROM current_accounts WHERE {filter}) ORDER BY ou_path, account_id, region",
            frame.id_condition(),
            choice.and_region("region")
        ),
    }];
    if let Some(csv) = csv(&served, &asks, &asked).await? {
        return Ok(csv);
    }
    let accounts = format!(
        "SELECT account_id, account_name, ou_path FROM current_accounts WHERE {filter} ORDER BY ou_path, account_name, account_id"
    );
    let accounts = ask(store, &accounts).await?.rows;
    let unfolds = choice.unfolds(accounts.len());
    let from = if unfolds { (choice.page - 1) * ACCOUNTS } else { accounts.len() };
    let listed = &accounts[from.min(accounts.len())..(from + ACCOUNTS).min(accounts.len())];
    let counted_by = format!(
        "SELECT scan_id, finished_at FROM scan_summary WHERE {} AND whole ORDER BY scan_id DESC LIMIT 1",
        frame.name_condition()
    );
    let counted_by = ask(store, &counted_by).await?.rows;
    let counted_by = counted_by
        .first()
        .map(|row| (row[0].whole(), row[1].instant().map_or_else(String::new, |at| ago(frame.now - at))));
    let newest = counted_by.as_ref().map_or(0, |(scan, _)| *scan);
    let mut heads = heads(store, newest, &choice).await?;
    if heads.is_empty() && !choice.region.is_empty() {
        return Err(PageError::NotFound(format!("The newest scan has no region {}.", choice.region)));
    }
    let mut cells: Cells = BTreeMap::new();
    if !listed.is_empty() {
        let ids: Vec<&str> = listed.iter().map(|row| row[0].text()).collect();
        let sql = format!("{what} WHERE {} AND {}", frame.id_condition(), among("account_id", &ids));
        for row in ask(store, &sql).await?.rows {
            cells.insert((row[0].text().to_owned(), row[3].text().to_owned()), row);
        }
    }
    // Rows may be newer than the counts, and of a region that these do not have; and without any scan of all there are no counts.
    if choice.region.is_empty() {
        let known: BTreeSet<String> = heads.iter().map(|head| head.name.clone()).collect();
        let seen: BTreeSet<String> = cells.keys().map(|(_, region)| region.clone()).collect();
        heads.extend(seen.difference(&known).map(|name| Head { name: name.clone(), gaps: 0, class: "" }));
        heads.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let counts = format!("SELECT ou_path, covered, not_covered, unknown FROM coverage_by_ou WHERE scan_id = {newest}");
    let mut groups = groups(&frame, &choice, &accounts, &ask(store, &counts).await?.rows);
    for account in listed {
        if let Some(group) = groups.get_mut(account[2].text()) {
            group.rows.push(row(&frame, account, &heads, &cells));
        }
    }
    let turn = |to: usize| same("/matrix", &asks, &[("page", &to.to_string())]);
    let matrix = Matrix {
        next: (unfolds && from + ACCOUNTS < accounts.len()).then(|| turn(choice.page + 1)),
        previous: (unfolds && choice.page > 1).then(|| turn(choice.page - 1)),
        all: frame.to("/matrix", &[]),
        sql: asked[0].sql.clone(),
        csv: same("/matrix", &asks, &[("csv", "matrix")]),
        accounts: counted(accounts.len(), "account"),
        regions: heads,
        // Of a page of many accounts, only the OUs that are on it.
        groups: groups.into_values().filter(|group| !unfolds || !group.rows.is_empty()).collect(),
        unfolds,
        choice,
        counted: counted_by,
        frame,
    };
    shown(&matrix)
}

/// The regions, as the newest scan has them.
async fn heads(store: &dyn Store, scan: i64, choice: &Choice) -> Result<Vec<Head>, PageError> {
    let sql = format!(
        "SELECT region, not_covered, unknown FROM coverage_by_region WHERE scan_id = {scan}{} ORDER BY region",
        choice.and_region("region")
    );
    let head = |row: &Vec<Cell>| {
        let gaps = row[1].whole();
        let class = worst(gaps, row[2].whole()).map_or("", Status::as_str);
        Head { name: row[0].text().to_owned(), gaps, class }
    };
    Ok(ask(store, &sql).await?.rows.iter().map(head).collect())
}

/// The OUs of the accounts, and how they stand.
fn groups<'a>(
    frame: &Frame,
    choice: &Choice,
    accounts: &'a [Vec<Cell>],
    counts: &[Vec<Cell>],
) -> BTreeMap<&'a str, Group> {
    // In sum over all regions, which says nothing of one.
    let counts = counts.iter().filter(|_| choice.region.is_empty()).map(|row| (row[0].text(), row));
    let counts: BTreeMap<&str, &Vec<Cell>> = counts.collect();
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for account in accounts {
        let path = account[2].text();
        let group = groups.entry(path).or_insert_with(|| {
            let (said, class) = counts.get(path).map_or((String::new(), ""), |row| {
                let (covered, gaps, unknown) = (row[1].whole(), row[2].whole(), row[3].whole());
                let class = worst(gaps, unknown).unwrap_or(Status::Covered).as_str();
                (format!("{covered} covered, {gaps} not covered, {unknown} unknown"), class)
            });
            let (name, ou) = if path.is_empty() { ("OU not known", "-") } else { (path, path) };
            // What is unfolded alone is folded again.
            let href = if choice.ou.is_empty() { frame.to("/matrix", &[("ou", ou)]) } else { frame.to("/matrix", &[]) };
            Group { name: name.to_owned(), href, accounts: 0, said, class, rows: Vec::new() }
        });
        group.accounts += 1;
    }
    groups
}

/// An account's row.
fn row(frame: &Frame, account: &[Cell], heads: &[Head], cells: &Cells) -> Row {
    let id = account[0].text();
    let square = |head: &Head| {
        let Some(row) = cells.get(&(id.to_owned(), head.name.clone())) else { return Square::default() };
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
    };
    Row {
        id: id.to_owned(),
        name: account[1].text().to_owned(),
        href: frame.account(id),
        cells: heads.iter().map(square).collect(),
    }
}
