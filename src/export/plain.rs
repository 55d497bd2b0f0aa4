//! The rows as they are: CSV, JSON, and a JSON object on each line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::row::COLUMNS;
use super::{Form, Head, Row};
use crate::model::{CONTROLS, inert};

/// Every control that the rule answers, in one text.
fn controls() -> String {
    CONTROLS.iter().map(|(framework, control)| format!("{framework}: {control}")).collect::<Vec<_>>().join("; ")
}

/// One record, as CSV has it.
pub fn record(out: &mut dyn Write, fields: impl Iterator<Item = String>, delimiter: u8) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    writer.write_record(fields).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })?;
    writer.flush()
}

/// Comma-separated values.
pub struct Csv;

impl Form for Csv {
    fn begin(&mut self, out: &mut dyn Write, _: &Head) -> io::Result<()> {
        record(out, COLUMNS.iter().copied().chain(["controls"]).map(str::to_owned), b',')
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        record(out, row.texts().map(inert).chain([controls()]), b',')
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// JSON: an array of objects, a row on each line, or nothing but the lines.
pub struct Json {
    is_array: bool,
    rows: u64,
}

impl Json {
    /// An array.
    pub const fn array() -> Self {
        Self { is_array: true, rows: 0 }
    }

    /// Lines.
    pub const fn lines() -> Self {
        Self { is_array: false, rows: 0 }
    }

    /// Writes a value, after what separates it from the one before.
    pub fn value(&mut self, out: &mut dyn Write, value: &Value) -> io::Result<()> {
        self.rows += 1;
        match (self.is_array, self.rows) {
            (false, _) => writeln!(out, "{value}"),
            (true, 1) => write!(out, "[\n{value}"),
            (true, _) => write!(out, ",\n{value}"),
        }
    }

    /// Writes what stands after all values.
    pub fn close(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match (self.is_array, self.rows) {
            (false, _) => Ok(()),
            (true, 0) => writeln!(out, "[]"),
            (true, _) => writeln!(out, "\n]"),
        }
    }
}

impl Form for Json {
    fn begin(&mut self, _: &mut dyn Write, _: &Head) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let mut object = row.object();
        let control = |(framework, control): &(&str, &str)| ((*framework).to_owned(), json!(control));
        object.insert("controls".into(), Value::Object(CONTROLS.iter().map(control).collect()));
        self.value(out, &Value::Object(object))
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.close(out)
    }
}
