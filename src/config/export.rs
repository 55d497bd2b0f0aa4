//! `[export]`: what reports say beside the results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What reports say beside the results.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Export {
    /// How severe a gap is. Sources disagree: AWS says high, Trend Micro Conformity medium, Prowler low.
    pub severity: Severity,
    /// The role that `trustwatch export --to security-hub` imports findings with, in each account: as `member_role`, and another than
    /// that one. `trustwatch policy --security-hub` prints what it needs. The organization's external id is used with it too.
    #[schemars(extend("format" = "member-role"))]
    pub security_hub_role: String,
}

impl Default for Export {
    fn default() -> Self {
        Self { severity: Severity::default(), security_hub_role: "TrustwatchSecurityHub".to_owned() }
    }
}

/// How severe a gap is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Severity {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    #[default]
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
