//! Analyzers whose findings are read one by one.

use chrono::{DateTime, Utc};

use crate::config::Detail;
use crate::model::{AccountId, ReadRule, Region};

/// An analyzer whose findings are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToRead {
    /// The account that owns it.
    pub account: AccountId,
    /// Where it is.
    pub region: Region,
    /// Its ARN.
    pub analyzer_arn: String,
    /// Its type, as AWS spells it.
    pub analyzer_type: String,
}

/// What a process may read now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The analyzers that are its own to read; those of one account side by side.
    pub analyzers: Vec<ToRead>,
    /// Whether any are left in all, these included.
    pub any_left: bool,
}

/// The findings of an analyzer that were listed in one reading, to tell which are listed no more: 16 bytes for each, which are the
/// id itself where it is a UUID, as AWS's are.
#[derive(Debug, Clone, Default)]
pub struct Listed(Vec<u128>);

impl Listed {
    /// Adds the ids of one page.
    pub fn add<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        self.0.extend(ids.map(short));
    }

    /// Puts them in order: to be done once, after the last page.
    #[must_use]
    pub fn done(mut self) -> Self {
        self.0.sort_unstable();
        self.0.dedup();
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one is among them.
    pub fn has(&self, id: &str) -> bool {
        self.0.binary_search(&short(id)).is_ok()
    }
}

/// An id in 16 bytes: a UUID's own, or those of a hash.
fn short(id: &str) -> u128 {
    let digits = id.bytes().filter(|byte| *byte != b'-').count();
    let uuid = (digits == 32).then(|| u128::from_str_radix(&id.replace('-', ""), 16).ok()).flatten();
    uuid.unwrap_or_else(|| {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(id.as_bytes());
        digest.iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte))
    })
}

/// A finding as it was last listed.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct HeldFinding {
    /// Our number for its analyzer.
    pub reading_key: i32,
    /// Its id.
    pub finding_id: String,
    /// `ACTIVE`, `ARCHIVED` or `RESOLVED`.
    pub status: String,
    /// Whether it was listed when its analyzer was last read; one that is not was archived or resolved, or is gone.
    pub is_listed: bool,
    /// AWS's id of the organization.
    pub organization_id: String,
    /// The configuration's name of the organization.
    pub organization_name: String,
    /// The account that owns its analyzer.
    pub owner_account_id: String,
    /// Where that is.
    pub region: String,
    /// Its ARN.
    pub analyzer_arn: String,
}

/// What came of a reading.
#[derive(Debug, Clone, Copy)]
pub struct ReadingEnd<'a> {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Which findings were asked for, and which of them were listed; or why it failed.
    pub listed: Result<(Detail, &'a Listed), &'a str>,
    /// The analyzer's archive rules, where they were read.
    pub rules: Option<&'a [ReadRule]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_is_known_by_its_id() {
        let ids = ["0f8fad5b-d9cb-469f-a165-70867728950e", "not-a-uuid", "0f8fad5b-d9cb-469f-a165-70867728950e"];
        let mut listed = Listed::default();
        listed.add(ids.into_iter());
        let listed = listed.done();
        assert_eq!((listed.len(), listed.is_empty()), (2, false));
        assert!(ids.iter().all(|id| listed.has(id)));
        assert!(!listed.has("0f8fad5b-d9cb-469f-a165-70867728950f") && !listed.has("another"));
    }
}
