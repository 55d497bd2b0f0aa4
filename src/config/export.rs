//! `[export]`: what reports say beside the results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Severity;

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
