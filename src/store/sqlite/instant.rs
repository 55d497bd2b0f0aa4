//! Instants as SQLite keeps them: text of fixed width, so that the order of text is the order of time.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::super::StoreError;
use super::super::error::Doing;

const FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub fn text(instant: DateTime<Utc>) -> String {
    instant.format(FORMAT).to_string()
}

/// The instant `at`, or, where the clock has stepped back behind what is kept of an account's coverage already, just after
/// that: intervals never overlap, and none ends before it began.
pub async fn after_coverage(
    connection: &mut SqliteConnection,
    account_key: i64,
    at: &str,
) -> Result<String, StoreError> {
    let newest: Option<String> = sqlx::query_scalar(
        "SELECT max(max(valid_from), max(coalesce(valid_to, ''))) FROM coverage WHERE account_key = $1",
    )
    .bind(account_key)
    .fetch_one(connection)
    .await
    .doing("finding the newest interval")?;
    Ok(not_before(newest.as_deref(), at))
}

/// The same for the analyzers of an owner.
pub async fn after_analyzers(
    connection: &mut SqliteConnection,
    organization_key: i64,
    owner: &str,
    at: &str,
) -> Result<String, StoreError> {
    let newest: Option<String> = sqlx::query_scalar(
        "SELECT max(max(valid_from), max(coalesce(valid_to, ''))) FROM analyzer
         WHERE organization_key = $1 AND owner_account_id = $2",
    )
    .bind(organization_key)
    .bind(owner)
    .fetch_one(connection)
    .await
    .doing("finding the newest interval")?;
    Ok(not_before(newest.as_deref(), at))
}

fn not_before(newest: Option<&str>, at: &str) -> String {
    match newest.and_then(just_after) {
        Some(earliest) if earliest.as_str() > at => earliest,
        _ => at.to_owned(),
    }
}

/// The instant just after one that is kept as text; `None` where the text is no instant.
fn just_after(text_of_instant: &str) -> Option<String> {
    let instant = DateTime::parse_from_rfc3339(text_of_instant).ok()?;
    Some(text(instant.with_timezone(&Utc) + chrono::TimeDelta::microseconds(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_text_is_the_order_of_time() {
        let instant = |micros: i64| text(DateTime::from_timestamp_micros(micros).unwrap());
        assert_eq!(instant(1_700_000_000_000_000), "2023-11-14T22:13:20.000000Z");
        assert!(instant(1_700_000_000_000_000) < instant(1_700_000_000_000_001));
        assert_eq!(just_after(&instant(1_700_000_000_999_999)), Some(instant(1_700_000_001_000_000)));
    }
}
