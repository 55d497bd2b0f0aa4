//! `[findings]`: what is read of Access Analyzer's own findings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is read of Access Analyzer's own findings.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Findings {
    /// Whether they are counted: one call for each analyzer. Where the member role may not, that is said once, and the rest goes on.
    pub statistics: bool,
    /// Which findings are read one by one, after the verdicts, with the archive rules of their analyzers: for `current_findings`,
    /// `finding_history` and `archive_rule_drift`. The member role needs more for that: `trustwatch policy` prints it.
    pub detail: Detail,
}

/// Which findings are read one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Detail {
    /// None.
    #[default]
    Off,
    /// Those that are active: one that is archived or resolved ceases to be listed.
    Active,
    /// All, archived and resolved ones too.
    All,
}

impl Detail {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Active => "active",
            Self::All => "all",
        }
    }
}

impl Default for Findings {
    fn default() -> Self {
        Self { statistics: true, detail: Detail::Off }
    }
}
