//! `[[organizations.exemptions]]`: gaps that somebody answers for, until a day.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use wildmatch::WildMatch;

use super::Selector;
use crate::model::{Account, Region, hex};

/// For so long before its end an exemption is warned of.
const WARNED_BEFORE: TimeDelta = TimeDelta::days(14);

/// A gap that somebody answers for, until a day. The verdict stays what it is; beside it stands that it is exempt.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Exemption {
    /// Who answers for it: a team or a person.
    #[schemars(extend("format" = "said"))]
    pub owner: String,
    /// Why.
    #[schemars(extend("format" = "said"))]
    pub reason: String,
    /// Where that was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "said"))]
    pub ticket: Option<String>,
    /// When it ends: a day, which it includes (in UTC), or an instant. Afterwards it is as if it were not there.
    pub expires: Expiry,
    /// The accounts that it is for: those that *any* of these names, so that each more makes it wider. Every account where nothing is
    /// named.
    #[serde(default, skip_serializing_if = "Selector::is_empty")]
    pub accounts: Selector,
    /// The regions that it is for, with wildcards; every region without it.
    #[serde(default = "everywhere")]
    pub regions: Vec<String>,
}

fn everywhere() -> Vec<String> {
    vec!["*".into()]
}

impl Exemption {
    /// Whether it is for this account and region. Never for want of knowledge: an account whose OU or tags could not be read
    /// is exempt only by its id or its name.
    pub fn is_for(&self, account: &Account, region: &Region) -> bool {
        (self.accounts.is_empty() || self.accounts.matches(account))
            && self.regions.iter().any(|pattern| WildMatch::new(pattern).matches(region.as_str()))
    }

    /// Which it is: whatever is changed in it makes it another.
    pub fn digest(&self) -> String {
        let text = serde_json::json!(self).to_string();
        hex(&Sha256::digest(text.as_bytes())[..8])
    }

    /// What it is for, as a JSON object.
    pub fn scope(&self) -> serde_json::Value {
        let mut scope = serde_json::json!(self.accounts);
        if let Some(parts) = scope.as_object_mut() {
            parts.retain(|_, part| {
                part.as_array().is_none_or(|list| !list.is_empty()) && *part != serde_json::json!({})
            });
            parts.insert("regions".into(), serde_json::json!(self.regions));
        }
        scope
    }
}

/// The first instant at which an exemption is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(pub DateTime<Utc>);

impl Expiry {
    /// Whether it has come.
    pub fn is_over(self, now: DateTime<Utc>) -> bool {
        self.0 <= now
    }

    /// Whether it comes so soon that somebody has to be told.
    pub fn is_near(self, now: DateTime<Utc>) -> bool {
        !self.is_over(now) && self.0 - now <= WARNED_BEFORE
    }
}

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant = DateTime::parse_from_rfc3339(text).map(|instant| instant.with_timezone(&Utc)).ok();
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.succ_opt();
        let end = instant.or_else(|| day().map(|next| next.and_time(NaiveTime::MIN).and_utc()));
        // For ever is no day: and of the years beyond, text order is not time order.
        end.filter(|end| (2000..=9000).contains(&end.year()))
            .map(Self)
            .ok_or("expected a day such as \"2027-03-31\", or an instant such as \"2027-03-31T18:00:00Z\"")
    }
}

/// As it is read: a day where it ends with one.
impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.time() == NaiveTime::MIN {
            return (self.0 - TimeDelta::days(1)).date_naive().fmt(f);
        }
        f.write_str(&self.0.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Expiry {
    fn schema_name() -> Cow<'static, str> {
        "Expiry".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "expiry"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(text: &str) -> Expiry {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_included_to_its_end_and_an_instant_is_itself() {
        let day = expiry("2027-03-31");
        assert!(!day.is_over("2027-03-31T23:59:59Z".parse().unwrap()));
        assert!(day.is_over("2027-04-01T00:00:00Z".parse().unwrap()));
        assert_eq!(expiry("2027-03-31T20:00:00+02:00").to_string(), "2027-03-31T18:00:00Z");
        for text in ["2027-03-31", "2027-03-31T18:00:00Z"] {
            assert_eq!(expiry(text).to_string(), text);
        }
        for text in ["31.3.2027", "2027-02-30", "9999-12-31", "+12345-01-01", "1000-01-01T00:00:00Z"] {
            assert!(text.parse::<Expiry>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_is_near_for_a_fortnight_before_it_comes() {
        let day = expiry("2027-03-31");
        let near = |text: &str| day.is_near(text.parse().unwrap());
        assert!(!near("2027-03-17T23:59:59Z") && near("2027-03-18T00:00:00Z") && near("2027-03-31T12:00:00Z"));
        assert!(!near("2027-04-01T00:00:00Z"));
    }

    #[test]
    fn whatever_is_changed_makes_it_another() {
        let read = |text: &str| toml_edit::de::from_str::<Exemption>(text).unwrap();
        let one = read("owner = 'a'\nreason = 'b'\nexpires = '2027-03-31'");
        let other = read("owner = 'a'\nreason = 'b'\nexpires = '2027-04-01'");
        assert_ne!(one.digest(), other.digest());
        assert_eq!(one.digest(), one.clone().digest());
        assert_eq!(one.scope().to_string(), r#"{"regions":["*"]}"#);
    }
}
