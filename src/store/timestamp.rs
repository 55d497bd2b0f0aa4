//! Instants as the engines keep them: `timestamptz` in Postgres, and text of fixed width in SQLite, so that the order of
//! text is the order of time. Both hold microseconds.

use std::error::Error;
use std::fmt;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Serialize, Serializer};
use sqlx::encode::IsNull;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};

const FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// An instant of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// This instant, or, where a clock has stepped back behind what is kept already, just after that: intervals never
    /// overlap, and none ends before it began.
    #[must_use]
    pub fn no_earlier_than(self, newest: Option<Self>) -> Self {
        newest.map_or(self, |Self(newest)| self.max(Self(newest + TimeDelta::microseconds(1))))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.trunc_subsecs(6))
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(stamp: Timestamp) -> Self {
        stamp.0
    }
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.format(FORMAT).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Type<Sqlite> for Timestamp {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &SqliteTypeInfo) -> bool {
        <String as Type<Sqlite>>::compatible(ty)
    }
}

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, Box<dyn Error + Send + Sync>> {
        Encode::<Sqlite>::encode(self.to_string(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let text = <&str as Decode<Sqlite>>::decode(value)?;
        Ok(Self(DateTime::parse_from_rfc3339(text)?.with_timezone(&Utc)))
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        <DateTime<Utc> as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, Box<dyn Error + Send + Sync>> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(Decode::<Postgres>::decode(value)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(micros: i64) -> Timestamp {
        DateTime::from_timestamp_micros(micros).unwrap().into()
    }

    #[test]
    fn the_order_of_text_is_the_order_of_time() {
        assert_eq!(stamp(1_700_000_000_000_000).to_string(), "2023-11-14T22:13:20.000000Z");
        assert!(stamp(1_700_000_000_000_000).to_string() < stamp(1_700_000_000_000_001).to_string());
    }

    #[test]
    fn what_follows_is_never_before_what_is_kept() {
        let (earlier, later) = (stamp(10), stamp(20));
        assert_eq!(later.no_earlier_than(Some(earlier)), later);
        assert_eq!(earlier.no_earlier_than(Some(later)), stamp(21));
        assert_eq!(earlier.no_earlier_than(None), earlier);
    }
}
