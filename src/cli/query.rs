//! `trustwatch query`: SQL, so that nobody needs another client to begin.

use std::io::Write;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use super::style::clean;
use super::{Context, Failure, closed, load_quietly, say};
use crate::model::inert;
use crate::store::{self, Access, Cell, RowSink, Store};

/// Ask the store a question in SQL. Nothing can be changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch query \"SELECT status, count(*) AS rows FROM current_coverage GROUP BY status\"\n  \
    trustwatch query --format csv \"SELECT * FROM current_coverage\" > coverage.csv\n\n\
    Views: current_coverage, coverage_history, coverage_transitions, coverage_changes, coverage_by_region,\n\
    coverage_by_ou, coverage_by_account, scan_summary, scan_calls, account_visits, current_analyzers,\n\
    analyzer_history, current_exemptions, exemption_history, remediation_actions,\n\
    current_findings_statistics, findings_statistics_history, findings_by_scan, redundant_analyzers,\n\
    current_findings, finding_history, findings_readings, archive_rule_drift,\n\
    security_hub_imports, alert_incidents, alert_deliveries, current_accounts")]
pub struct Query {
    /// The query: one statement that begins with SELECT, WITH, VALUES or EXPLAIN.
    #[arg(allow_hyphen_values = true)]
    sql: String,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns that fit the terminal.
    Table,
    /// Comma-separated values. A text that a spreadsheet would take for a formula begins with an apostrophe.
    Csv,
    /// An array of objects, a row on each line.
    Json,
}

impl Query {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let store = store::open(&loaded.config.store, Access::Read).await?;
        let printed = print(store.as_ref(), &self.sql, self.format).await;
        store.close().await;
        printed
    }
}

/// Prints what a query answers.
pub async fn print(store: &dyn Store, sql: &str, format: Format) -> Result<(), Failure> {
    let result = match format {
        Format::Table => {
            let mut sink = TableSink(Table::new());
            sink.0.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
            let result = store.query(sql, &mut sink).await;
            if result.is_ok() {
                say(&sink.0.to_string())?;
            }
            result
        }
        Format::Csv => {
            let mut sink = CsvSink { writer: csv::Writer::from_writer(std::io::stdout()), error: None };
            let result = store.query(sql, &mut sink).await;
            let error = sink.error.or(sink.writer.flush().err());
            error.map_or(Ok(()), |error| Err(closed(error)))?;
            result
        }
        Format::Json => {
            let mut sink = JsonSink {
                names: Vec::new(),
                writer: std::io::BufWriter::new(std::io::stdout()),
                rows: 0,
                error: None,
            };
            let result = store.query(sql, &mut sink).await;
            if result.is_ok() {
                let end = sink.end();
                sink.note(end);
            }
            sink.error.map_or(Ok(()), |error| Err(closed(error)))?;
            result
        }
    };
    Ok(result?)
}

struct TableSink(Table);

impl RowSink for TableSink {
    fn columns(&mut self, names: Vec<String>) {
        self.0.set_header(names);
    }

    fn row(&mut self, cells: Vec<Cell>) {
        self.0.add_row(cells.iter().map(|cell| clean(&cell.to_string())));
    }
}

struct CsvSink<W: Write> {
    writer: csv::Writer<W>,
    error: Option<std::io::Error>,
}

impl<W: Write> CsvSink<W> {
    fn write(&mut self, record: impl Iterator<Item = String>) {
        if self.error.is_none() {
            self.error = self.writer.write_record(record).err().map(|error| match error.into_kind() {
                csv::ErrorKind::Io(error) => error,
                other => std::io::Error::other(format!("{other:?}")),
            });
        }
    }
}

impl<W: Write + Send> RowSink for CsvSink<W> {
    fn columns(&mut self, names: Vec<String>) {
        self.write(names.into_iter());
    }

    fn row(&mut self, cells: Vec<Cell>) {
        self.write(cells.into_iter().map(|cell| match cell {
            Cell::Text(text) => inert(text),
            other => other.to_string(),
        }));
    }
}

/// A JSON array, a row on each line.
struct JsonSink<W: Write> {
    names: Vec<String>,
    writer: W,
    rows: u64,
    error: Option<std::io::Error>,
}

impl<W: Write> JsonSink<W> {
    fn note(&mut self, result: std::io::Result<()>) {
        if let (None, Err(error)) = (&self.error, result) {
            self.error = Some(error);
        }
    }

    fn end(&mut self) -> std::io::Result<()> {
        writeln!(self.writer, "{}", if self.rows == 0 { "[]" } else { "\n]" })?;
        self.writer.flush()
    }
}

impl<W: Write + Send> RowSink for JsonSink<W> {
    fn columns(&mut self, names: Vec<String>) {
        self.names = names;
    }

    fn row(&mut self, cells: Vec<Cell>) {
        let value = |cell| match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => Value::from(number),
            Cell::Real(number) => Value::from(number),
            Cell::Text(text) => Value::from(text),
        };
        let row: Map<String, Value> = self.names.iter().cloned().zip(cells.into_iter().map(value)).collect();
        let before = if self.rows == 0 { "[\n" } else { ",\n" };
        self.rows += 1;
        let written = write!(self.writer, "{before}  {}", Value::Object(row));
        self.note(written);
    }
}
