//! `[findings]`: what is read of Access Analyzer's own findings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is read of Access Analyzer's own findings.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Findings {
    /// Whether they are counted: one call for each analyzer. Where the member role may not, that is said once, and the rest goes on.
    pub statistics: bool,
}

impl Default for Findings {
    fn default() -> Self {
        Self { statistics: true }
    }
}
