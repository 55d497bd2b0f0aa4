//! Instants as SQLite keeps them: text of fixed width, so that the order of text is the order of time.

use chrono::{DateTime, Utc};

const FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub fn text(instant: DateTime<Utc>) -> String {
    instant.format(FORMAT).to_string()
}

/// The instant just after one that is kept as text; `None` where the text is no instant.
pub fn just_after(text_of_instant: &str) -> Option<String> {
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
