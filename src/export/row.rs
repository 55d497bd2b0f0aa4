//! One account × region, as a report has it.

use std::fmt::Write as _;
use std::io;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::model::{Partition, Status};
use crate::store::Cell;

/// The columns of a report, in their order.
pub const COLUMNS: &[&str] = &[
    "organization_id",
    "organization_name",
    "account_id",
    "account_name",
    "account_state",
    "ou_path",
    "region",
    "status",
    "reason",
    "analyzer_arn",
    "since",
    "checked_at",
    "last_known_status",
    "last_known_at",
    "exempt",
    "exemption_reason",
    "exemption_expires_at",
    "scan_id",
];

/// One account × region.
#[derive(Debug)]
pub struct Row(Vec<Cell>);

impl Row {
    /// Takes a row of `COLUMNS`.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells)
    }

    fn cell(&self, column: &str) -> &Cell {
        let at = COLUMNS.iter().position(|name| *name == column);
        at.and_then(|at| self.0.get(at)).unwrap_or(&Cell::Null)
    }

    /// A text; empty where there is none.
    pub fn text(&self, column: &str) -> &str {
        self.cell(column).text()
    }

    /// Whether it is exempt.
    pub fn is_exempt(&self) -> bool {
        *self.cell("exempt") == Cell::Integer(1)
    }

    /// The verdict.
    ///
    /// # Errors
    /// Where the database holds a word that there is not.
    pub fn status(&self) -> io::Result<Status> {
        self.text("status").parse().map_err(io::Error::other)
    }

    /// Whether it is exempt, and there is something to be exempt of.
    ///
    /// # Errors
    /// As [`Row::status`].
    pub fn is_suppressed(&self) -> io::Result<bool> {
        Ok(self.is_exempt() && matches!(self.status()?, Status::NotCovered | Status::Unknown))
    }

    /// An instant.
    pub fn instant(&self, column: &str) -> Option<DateTime<Utc>> {
        self.cell(column).instant()
    }

    /// The partition of the region.
    pub fn partition(&self) -> Partition {
        Partition::of_region(self.text("region"))
    }

    /// Names this account × region among all, for ever.
    pub fn uid(&self) -> String {
        format!("trustwatch/{}/{}/{}", self.text("organization_id"), self.text("account_id"), self.text("region"))
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        let (status, reason) = (self.text("status"), self.text("reason"));
        let mut text = format!("account {} in {}: {status}, {reason}", self.text("account_id"), self.text("region"));
        if !self.text("analyzer_arn").is_empty() {
            let _ = write!(text, ", {}", self.text("analyzer_arn"));
        }
        if status == "unknown" && !self.text("last_known_status").is_empty() {
            let (known, at) = (self.text("last_known_status"), self.text("last_known_at"));
            let _ = write!(text, "; last known: {known} at {at}");
        }
        if self.is_exempt() {
            let (reason, until) = (self.text("exemption_reason"), self.text("exemption_expires_at"));
            let _ = write!(text, "; exempt until {until}: {reason}");
        }
        text
    }

    /// Its values as texts; what is null is empty.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Cell::to_string)
    }

    /// As a JSON object, with a flag where it is a flag.
    pub fn object(&self) -> Map<String, Value> {
        let value = |(name, cell): (&&str, &Cell)| match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) if **name == *"exempt" => json!(*number == 1),
            Cell::Integer(number) => json!(number),
            Cell::Real(number) => json!(number),
            Cell::Text(text) => json!(text),
        };
        COLUMNS.iter().zip(&self.0).map(|pair| ((*pair.0).to_owned(), value(pair))).collect()
    }
}
