//! `[remediation]`: what may be proposed and, by a person's command, done about gaps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeSpan;

/// What may be proposed and, by a person's command, done about gaps. Nothing is ever changed without `trustwatch remediate apply`
/// or `trustwatch findings`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Remediation {
    /// What `trustwatch run` does after each completed scan.
    pub mode: Mode,
    /// Where plans are written in mode `plan`: `trustwatch-plan-<organization>.json`.
    pub plan_folder: PathBuf,
    /// The role that changes things, in each account: as `member_role`, and another than that one, because the audit may change
    /// nothing. `trustwatch policy` prints what it needs. The organization's external id is used with it too.
    #[schemars(extend("format" = "member-role"))]
    pub role: String,
    /// How the analyzers that are created are named, followed by `-account` or `-organization`. By name and type they are found
    /// again, so it is not to be changed between two applications of one plan.
    #[schemars(extend("format" = "analyzer-name"))]
    pub analyzer_name: String,
    /// The tags of the analyzers that are created.
    pub tags: BTreeMap<String, String>,
    /// The archive rules of the analyzers that are created: findings that are intended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archive_rules: Vec<ArchiveRule>,
    /// How long a plan may be applied after it was made.
    pub plan_lifetime: TimeSpan,
    /// How long an analyzer that was created may take to become `ACTIVE` before that is said.
    pub wait: TimeSpan,
    /// Steps under way at once.
    #[schemars(range(min = 1, max = 64))]
    pub in_flight: u32,
}

/// What `trustwatch run` does after each completed scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// It writes a plan, for a person to read and apply.
    Plan,
}

/// Findings that an analyzer archives by itself, because they are intended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ArchiveRule {
    /// Its name, unique within an analyzer.
    #[schemars(extend("format" = "analyzer-name"))]
    pub name: String,
    /// Which findings: every property that is named has to fit (IAM User Guide, "Access Analyzer filter keys").
    pub filter: BTreeMap<String, Criterion>,
}

/// What a property of a finding has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Criterion {
    /// One of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eq: Vec<String>,
    /// None of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub neq: Vec<String>,
    /// Something that contains one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// There, or not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

impl Default for Remediation {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            plan_folder: PathBuf::from("."),
            role: "TrustwatchRemediate".into(),
            analyzer_name: "trustwatch".into(),
            tags: BTreeMap::new(),
            archive_rules: Vec::new(),
            plan_lifetime: TimeSpan::days(1),
            wait: TimeSpan::seconds(600),
            in_flight: 8,
        }
    }
}
