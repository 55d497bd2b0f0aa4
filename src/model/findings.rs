//! Findings of Access Analyzer, counted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How many findings an analyzer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingsCount {
    /// The analyzer.
    pub analyzer_arn: String,
    /// Findings that are active.
    pub active: i64,
    /// Findings that are archived: intended, and not active.
    pub archived: i64,
    /// Findings that are resolved.
    pub resolved: i64,
    /// The active ones by type of resource, or of unused access.
    pub by_type: BTreeMap<String, TypeCount>,
}

/// The active findings of one type. What the kind of analyzer does not count is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TypeCount {
    /// Of public access.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public: Option<i64>,
    /// Of access from other accounts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cross_account: Option<i64>,
    /// In all, where they are not told apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active: Option<i64>,
}

/// A finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its id, unique within its analyzer.
    pub id: String,
    /// `ACTIVE`, `ARCHIVED` or `RESOLVED`, as AWS spells it.
    pub status: String,
    /// What it is about, as AWS spells it: `ExternalAccess` for every finding of an analyzer of external access.
    pub finding_type: String,
    /// The resource.
    pub resource: Option<String>,
    /// Its type, as AWS spells it.
    pub resource_type: String,
    /// The account that owns the resource.
    pub owner: String,
    /// What only a finding of external access has.
    pub access: Option<Access>,
    /// Why AWS could not analyze the resource.
    pub error: Option<String>,
    /// When AWS made it.
    pub created_at: Option<DateTime<Utc>>,
    /// When AWS last changed it.
    pub updated_at: Option<DateTime<Utc>>,
}

/// Who has access to what, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether everybody has; `None` where AWS does not say.
    pub is_public: Option<bool>,
    /// Who, by kind of principal.
    pub principal: BTreeMap<String, String>,
    /// To what.
    pub action: Vec<String>,
    /// Under which conditions.
    pub condition: BTreeMap<String, String>,
}

/// A rule by which an analyzer archives findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRule {
    /// Its name, unique within its analyzer.
    pub name: String,
    /// What it archives: a JSON object, its keys and the values of each criterion in order, so that equal ones are equal texts.
    pub filter: String,
}

impl FindingsCount {
    /// Active findings of public access; `None` where the kind of analyzer knows no such thing.
    pub fn public(&self) -> Option<i64> {
        self.by_type.values().map(|count| count.public).sum()
    }

    /// Active findings of access from other accounts.
    pub fn cross_account(&self) -> Option<i64> {
        self.by_type.values().map(|count| count.cross_account).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_apart_has_no_sum() {
        let count = |kind: TypeCount| FindingsCount {
            analyzer_arn: String::new(),
            active: 3,
            archived: 0,
            resolved: 0,
            by_type: BTreeMap::from([("a".to_owned(), kind), ("b".to_owned(), kind)]),
        };
        let external = count(TypeCount { public: Some(1), cross_account: Some(2), active: None });
        assert_eq!((external.public(), external.cross_account()), (Some(2), Some(4)));
        let unused = count(TypeCount { active: Some(3), ..TypeCount::default() });
        assert_eq!((unused.public(), unused.cross_account()), (None, None));
    }
}
