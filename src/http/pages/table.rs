//! Tables: what was asked, what was answered, and how it looks.

use std::collections::BTreeMap;

use super::PageError;
use super::frame::same;
use crate::model::{Status, inert};
use crate::store::query::ask;
use crate::store::{Cell, RowSink, Store};

/// Characters from which on a cell is broken into lines.
const LONG: usize = 60;

/// A question whose answer is a table.
pub struct TableQuery {
    /// Its name within the page.
    pub id: &'static str,
    /// The query: the whole of it, as it is shown and as it becomes CSV.
    pub sql: String,
}

impl TableQuery {
    /// The whole answer as CSV.
    pub async fn csv(&self, store: &dyn Store) -> Result<Vec<u8>, PageError> {
        let mut sheet = Sheet(csv::Writer::from_writer(Vec::new()));
        store.query(&self.sql, &mut sheet).await?;
        // It is written to memory, which does not fail.
        Ok(sheet.0.into_inner().unwrap_or_default())
    }

    /// The first rows of the answer, to be shown.
    pub async fn table(
        &self,
        store: &dyn Store,
        caption: &str,
        most: usize,
        (path, asks): (&str, &BTreeMap<String, String>),
        link: impl Fn(&str, &[Cell]) -> Option<String>,
    ) -> Result<Table, PageError> {
        let answer = ask(store, &format!("{} LIMIT {}", self.sql, most + 1)).await?;
        let has_more = answer.rows.len() > most;
        let rows = answer.rows.iter().take(most).map(|row| {
            let cells = answer.names.iter().zip(row);
            cells
                .map(|(name, cell)| {
                    let text = shown(name, cell);
                    let class = match name.as_str() {
                        "status" | "from_status" | "to_status" => class(&text),
                        _ if text.chars().count() > LONG => "long",
                        _ => "",
                    };
                    Shown { text, class, href: link(name, row) }
                })
                .collect()
        });
        Ok(Table {
            id: self.id,
            caption: caption.to_owned(),
            sql: self.sql.clone(),
            csv: same(path, asks, &[("csv", self.id)]),
            rows: rows.collect(),
            names: answer.names.iter().map(|name| name.replace('_', " ")).collect(),
            most,
            has_more,
        })
    }
}

/// The class of a status of ours; AWS has others.
pub fn class(status: &str) -> &'static str {
    status.parse::<Status>().map_or("", Status::as_str)
}

/// The worst status of so many gaps and unknowns; `None` where there are none.
pub const fn worst(gaps: i64, unknown: i64) -> Option<Status> {
    match (gaps, unknown) {
        (1.., _) => Some(Status::NotCovered),
        (_, 1..) => Some(Status::Unknown),
        _ => None,
    }
}

/// A cell, to be shown.
pub struct Shown {
    pub text: String,
    pub class: &'static str,
    pub href: Option<String>,
}

/// A table, to be shown.
pub struct Table {
    pub id: &'static str,
    pub caption: String,
    pub sql: String,
    pub csv: String,
    pub names: Vec<String>,
    pub rows: Vec<Vec<Shown>>,
    pub most: usize,
    pub has_more: bool,
}

fn shown(name: &str, cell: &Cell) -> String {
    match cell {
        Cell::Real(share) if name.ends_with("ratio") => crate::model::percent(Some(*share)),
        Cell::Real(number) => format!("{number:.1}"),
        Cell::Integer(number) if ["exempt", "is_public"].contains(&name) => {
            if *number == 0 { "no" } else { "yes" }.to_owned()
        }
        Cell::Integer(number) => number.to_string(),
        Cell::Null => String::new(),
        // Instants to the second: the CSV has the rest.
        Cell::Text(text) => match cell.instant() {
            Some(at) => at.format("%Y-%m-%d %H:%M:%S").to_string(),
            None => text.clone(),
        },
    }
}

/// CSV in the making.
struct Sheet(csv::Writer<Vec<u8>>);

impl Sheet {
    fn write(&mut self, cells: impl Iterator<Item = String>) {
        // It is written to memory, which does not fail, and every row has as many cells.
        let _ = self.0.write_record(cells.map(inert));
    }
}

impl RowSink for Sheet {
    fn columns(&mut self, names: Vec<String>) {
        self.write(names.into_iter());
    }

    fn row(&mut self, cells: Vec<Cell>) {
        self.write(cells.iter().map(ToString::to_string));
    }
}
