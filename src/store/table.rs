//! Rows that go to an engine at once, column by column: arrays in Postgres, a JSON array in SQLite.

use std::borrow::Cow;

use serde_json::Value;

use super::timestamp::Timestamp;

/// Rows to be written or joined with, as a table named `new`.
#[derive(Debug)]
pub struct Table {
    /// How many.
    pub rows: usize,
    /// Their columns, in order.
    pub columns: Vec<(Cow<'static, str>, Column)>,
}

/// The values of one column.
#[derive(Debug)]
pub enum Column {
    /// Whole numbers.
    Integer(Vec<Option<i64>>),
    /// Numbers.
    Real(Vec<f64>),
    /// Texts.
    Text(Vec<Option<String>>),
    /// Instants.
    Timestamp(Vec<Option<Timestamp>>),
    /// JSON documents.
    Document(Vec<Option<String>>),
}

impl Column {
    fn value(&self, row: usize) -> Value {
        match self {
            Self::Integer(values) => values[row].into(),
            Self::Real(values) => values[row].into(),
            Self::Text(values) | Self::Document(values) => values[row].as_deref().into(),
            Self::Timestamp(values) => values[row].map(|stamp| stamp.to_string()).into(),
        }
    }
}

impl Table {
    /// Begins a table of these rows; columns are added one by one.
    pub fn of<T>(rows: &[T]) -> TableOf<'_, T> {
        TableOf { rows, columns: Vec::new() }
    }

    /// The rows as a JSON array of arrays.
    pub fn json(&self) -> String {
        let row = |row| Value::Array(self.columns.iter().map(|(_, column)| column.value(row)).collect());
        Value::Array((0..self.rows).map(row).collect()).to_string()
    }
}

/// A table in the making.
pub struct TableOf<'a, T> {
    rows: &'a [T],
    columns: Vec<(Cow<'static, str>, Column)>,
}

impl<T> TableOf<'_, T> {
    fn with(mut self, name: &'static str, column: Column) -> Self {
        self.columns.push((name.into(), column));
        self
    }

    /// A column of whole numbers.
    pub fn integer<V: Into<Option<i64>>>(self, name: &'static str, value: impl Fn(&T) -> V) -> Self {
        let values = self.rows.iter().map(|row| value(row).into()).collect();
        self.with(name, Column::Integer(values))
    }

    /// A column of numbers.
    pub fn real(self, name: &'static str, value: impl Fn(&T) -> f64) -> Self {
        let values = self.rows.iter().map(value).collect();
        self.with(name, Column::Real(values))
    }

    /// A column of texts.
    pub fn text<'v, V: Into<Option<&'v str>>>(self, name: &'static str, value: impl Fn(&'v T) -> V) -> Self
    where
        Self: 'v,
    {
        let values = self.rows.iter().map(|row| value(row).into().map(str::to_owned)).collect();
        self.with(name, Column::Text(values))
    }

    /// A column of instants.
    pub fn stamp<V: Into<Option<Timestamp>>>(self, name: &'static str, value: impl Fn(&T) -> V) -> Self {
        let values = self.rows.iter().map(|row| value(row).into()).collect();
        self.with(name, Column::Timestamp(values))
    }

    /// A column of JSON documents, some of which are missing.
    pub fn documents(self, name: &'static str, value: impl Fn(&T) -> Option<String>) -> Self {
        let values = self.rows.iter().map(value).collect();
        self.with(name, Column::Document(values))
    }

    /// A column of JSON documents.
    pub fn document(self, name: &'static str, value: impl Fn(&T) -> String) -> Self {
        let values = self.rows.iter().map(|row| Some(value(row))).collect();
        self.with(name, Column::Document(values))
    }

    /// The table.
    pub fn done(self) -> Table {
        Table { rows: self.rows.len(), columns: self.columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_arrays_of_their_values() {
        let rows = [(7_i64, Some("a\"b")), (8, None)];
        let table = Table::of(&rows).integer("key", |row| row.0).text("name", |row| row.1).done();
        assert_eq!(table.json(), r#"[[7,"a\"b"],[8,null]]"#);
    }
}
