//! What was imported into AWS Security Hub.

use chrono::{DateTime, Utc};

use crate::model::AccountId;

/// An organization whose results are imported: its id, and every account that has results, or a finding that is not archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubGround {
    /// AWS's id of the organization.
    pub organization_id: String,
    /// The accounts.
    pub accounts: Vec<AccountId>,
}

/// A finding as it was last imported.
#[derive(Debug, Clone, PartialEq)]
pub struct HubFinding {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// A hash of what was said.
    pub digest: String,
    /// When.
    pub imported_at: DateTime<Utc>,
    /// Whether it was archived.
    pub is_archived: bool,
    /// What was said.
    pub finding: serde_json::Value,
}
