//! What a query is, whatever the engine, and what ours are made of.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Cell, RowSink, Store, StoreError};

/// A text as SQL writes it, where a backslash is a letter like any other: always in SQLite, and in Postgres because each connection is
/// set so.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An instant as SQL writes it, the same in both engines.
pub fn instant(at: DateTime<Utc>) -> String {
    literal(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// That a column has one of some values.
pub fn among<T: AsRef<str>>(column: &str, values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(|value| literal(value.as_ref())).collect();
    format!("{column} IN ({})", values.join(", "))
}

/// What a query answers, where that is little.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The names of its columns.
    pub names: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

impl RowSink for Answer {
    fn columns(&mut self, names: Vec<String>) {
        self.names = names;
    }

    fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }
}

/// Asks a query whose answer is little.
///
/// # Errors
/// As [`Store::query`].
pub async fn ask(store: &dyn Store, sql: &str) -> Result<Answer, StoreError> {
    let mut answer = Answer::default();
    store.query(sql, &mut answer).await?;
    Ok(answer)
}

/// Whether a text begins as a query does, after comments, and holds no second statement. The connection can only read in
/// any case; this is for what reading allows too, such as attaching or making files, and for a message that can be read.
pub fn is_one_query(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    loop {
        let comment = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(line), _) => line.split_once('\n').map(|(_, after)| after),
            (_, Some(block)) => block.split_once("*/").map(|(_, after)| after),
            (None, None) => break,
        };
        rest = comment.unwrap_or_default().trim_start();
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    let reads = ["SELECT", "WITH", "VALUES", "EXPLAIN"].iter().any(|known| word.eq_ignore_ascii_case(known));
    // A semicolon within a text is no end of a statement: quotes come in pairs before it.
    let ends_early = rest.trim_end().trim_end_matches(';').match_indices(';').any(|(at, _)| {
        let before = &rest[..at];
        before.matches('\'').count().is_multiple_of(2) && before.matches('"').count().is_multiple_of(2)
    });
    reads && !ends_early
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_that_reads_is_a_query() {
        for sql in
            ["SELECT 1", " -- why\n/* how */ with x as (select ';') select * from x;", "VALUES (1)", "explain select 1"]
        {
            assert!(is_one_query(sql), "{sql}");
        }
        for sql in ["", "DELETE FROM visit", "SELECT 1; DELETE FROM visit", "PRAGMA x", "ATTACH 'x' AS y"] {
            assert!(!is_one_query(sql), "{sql}");
        }
    }
}
