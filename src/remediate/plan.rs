//! A plan, as a file that a person reviews.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::ArchiveRule;
use crate::model::{AccountId, Region, Requirement, ScanId, ZoneOfTrust, hex};

/// The form of the file. Another form has another number.
const FORMAT: u32 = 1;

/// What is to be done about the gaps of one organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The form of the file.
    pub format: u32,
    /// Of everything else in it: an edited plan is refused.
    pub id: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is not applied.
    pub expires_at: DateTime<Utc>,
    /// The configuration's name of the organization.
    pub organization: String,
    /// The scan that it goes by.
    pub scan_id: ScanId,
    /// When that ended.
    pub scanned_at: DateTime<Utc>,
    /// What satisfies the rule.
    pub requirement: Requirement,
    /// What the organization allowed.
    pub access: Access,
    /// The tags of what is created.
    pub tags: BTreeMap<String, String>,
    /// The archive rules of what is created.
    pub archive_rules: Vec<ArchiveRule>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What is not touched, and why.
    pub refusals: Vec<Refusal>,
    /// How fewer steps would do.
    pub advice: Vec<String>,
}

/// What an organization allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// `o-…`, or `account:<id>` for a standalone account.
    pub organization_id: String,
    /// The management account; `None` for a standalone account.
    pub management: Option<AccountId>,
    /// The delegated administrator of Access Analyzer.
    pub delegated_administrator: Option<AccountId>,
    /// Whether the organization trusts Access Analyzer; `None` where that may not be read.
    pub trusted: Option<bool>,
}

/// One analyzer that is to be created.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name within the plan.
    pub id: String,
    /// What is done.
    pub verb: Verb,
    /// In which account.
    pub account: AccountId,
    /// The account's name.
    pub account_name: String,
    /// In which region.
    pub region: Region,
    /// Of external access, always.
    #[serde(rename = "type")]
    pub zone: ZoneOfTrust,
    /// How it is named.
    pub analyzer_name: String,
    /// Account × regions that it covers and that are not covered.
    pub covers: usize,
    /// The names of the analyzers that are deleted first, with their findings.
    pub replaces: Vec<String>,
    /// The analyzers of external access that were there: ARN and status. Where others are there now, nothing is done.
    pub expects: BTreeMap<String, String>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// An analyzer is created.
    Create,
    /// One that failed is deleted, with its findings, and another is created.
    Replace,
}

/// What a plan leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Which word, where there are several of a kind: the reason of the verdict.
    pub reason: String,
    /// How many accounts.
    pub accounts: usize,
    /// How many account × regions.
    pub account_regions: usize,
    /// An account and a region, or an account: one of them.
    pub example: String,
    /// What a person can do.
    pub advice: String,
}

/// Why something is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It could not be read, so nobody knows whether there is anything to do.
    Unreadable,
    /// Somebody answers for it.
    Exempt,
    /// The account is suspended, closed, or not yet active.
    AccountNotActive,
    /// The configuration leaves it out.
    Excluded,
    /// It needs the organization's analyzer, and the organization does not allow one.
    OrganizationNotReady,
    /// The delegated administrator cannot own an analyzer there.
    AdministratorNotThere,
    /// The management account could not be read there: it may own an analyzer of the organization already.
    ManagementUnread,
    /// An analyzer is being created already.
    BeingCreated,
    /// An analyzer has failed, and replacing it destroys its findings.
    Failed,
    /// An analyzer is disabled.
    Disabled,
    /// There are as many analyzers as AWS allows.
    Quota,
    /// An analyzer of the organization is at work there already: the results are older than it.
    ScanAgain,
}

/// Why a plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("reading the plan {file}: {problem}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        problem: String,
    },
    /// It is not what it was.
    #[error(
        "the plan {file} was edited: it says that it is {said}, and it is {found}. Make another with `trustwatch remediate plan`; \
         what is not to be done is exempted in the configuration"
    )]
    Edited {
        /// The file.
        file: String,
        /// What it says.
        said: String,
        /// What it is.
        found: String,
    },
}

impl Plan {
    /// Gives a plan its id.
    #[must_use]
    pub fn sealed(self) -> Self {
        Self { id: self.digest(), format: FORMAT, ..self }
    }

    /// Of everything but the id. It tells an edited plan, not a forged one: whoever may apply plans may make them.
    fn digest(&self) -> String {
        let bare = Self { id: String::new(), format: FORMAT, ..self.clone() };
        let text = serde_json::json!(bare).to_string();
        hex(&Sha256::digest(text.as_bytes())[..16])
    }

    /// The same for every attempt at a step, so that AWS does it once.
    pub fn client_token(&self, step: &Step) -> String {
        let text = format!("{} {}", self.id, step.id);
        hex(&Sha256::digest(text.as_bytes())[..16])
    }

    /// As it stands in the file.
    ///
    /// # Errors
    /// Never: what it holds can all be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// Where the file cannot be read, is no plan, or was edited.
    pub fn read(file: &Path) -> Result<Self, PlanError> {
        let name = file.display().to_string();
        let unreadable = |problem: String| PlanError::Unreadable { file: name.clone(), problem };
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
        let plan: Self = serde_json::from_str(&text).map_err(|error| {
            unreadable(format!("{error}; expected a file that `trustwatch remediate plan --out` wrote"))
        })?;
        if plan.format != FORMAT {
            return Err(unreadable(format!("its form is {}, and this trustwatch knows {FORMAT}", plan.format)));
        }
        let found = plan.digest();
        if found != plan.id {
            return Err(PlanError::Edited { file: name, said: plan.id, found });
        }
        Ok(plan)
    }
}
