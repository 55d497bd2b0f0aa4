//! Accounts of an AWS organization.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::closed_set::closed_set;

/// A twelve-digit AWS account id. Leading zeros are part of it, so it is never a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId([u8; 12]);

/// The text is not twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an AWS account id: twelve digits are expected")]
pub struct InvalidAccountId(pub String);

impl AccountId {
    /// The id as text, with its leading zeros.
    pub fn as_str(&self) -> &str {
        // Only ASCII digits are ever stored: `from_str` is the only constructor.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for AccountId {
    type Err = InvalidAccountId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match <[u8; 12]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(Self(digits)),
            _ => Err(InvalidAccountId(text.to_owned())),
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for AccountId {
    fn schema_name() -> Cow<'static, str> {
        "AccountId".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "account-id"})
    }
}

closed_set! {
    /// `Account.State` of AWS Organizations, which replaced `Account.Status` on 2026-09-09.
    AccountState, "account state" {
        /// Created or invited, not yet usable.
        PendingActivation = "PENDING_ACTIVATION",
        /// In normal use: the only state in which an account can be entered.
        Active = "ACTIVE",
        /// Suspended by AWS.
        Suspended = "SUSPENDED",
        /// Being closed.
        PendingClosure = "PENDING_CLOSURE",
        /// Closed; it leaves the organization some ninety days later.
        Closed = "CLOSED",
    }
}

/// One account of an organization, as Organizations describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Account {
    /// The twelve digits.
    pub id: AccountId,
    /// The friendly name; empty where Organizations gives none.
    pub name: String,
    /// The life-cycle state.
    pub state: AccountState,
    /// `o-…/r-…/ou-…` without a trailing slash and without the account itself; `None` where it is not known
    /// (a standalone account has none).
    pub ou_path: Option<String>,
    /// The account's tags in Organizations; read only where the configuration asks for tags. `None` where not known.
    pub tags: Option<BTreeMap<String, String>>,
    /// Who answers for it; `None` where that could not be found out this time.
    #[serde(default)]
    pub owned_by: Option<OwnedBy>,
}

impl Account {
    /// An account as far as results keep it, to be held against a choice of accounts: tags are not kept, and what its state is
    /// chooses nothing.
    pub const fn kept(id: AccountId, name: String, ou_path: Option<String>, owned_by: OwnedBy) -> Self {
        Self { id, name, state: AccountState::Active, ou_path, tags: None, owned_by: Some(owned_by) }
    }
}

/// Who answers for an account, as far as anybody says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnedBy {
    /// Who.
    pub owner: Option<String>,
    /// In which team.
    pub team: Option<String>,
}
