//! What a world is made from: a seed, sizes, and the share of each awkward situation.

use serde::Deserialize;

use super::weather::Rule;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Everything that is chosen is chosen from this.
    pub seed: u64,
    /// Member accounts, beside the management account and the delegated administrator.
    pub accounts: usize,
    /// `false` makes one standalone account.
    pub organization: bool,
    pub partition: String,
    /// Regions enabled by default.
    pub regions: Vec<String>,
    /// Regions that an account must opt in to.
    pub opt_in_regions: Vec<String>,
    /// The role that members have for us.
    pub member_role: String,
    /// The external id that the role asks for.
    pub external_id: Option<String>,
    /// Whether the management account has the role too (a stack of its own).
    pub management_role: bool,
    /// Whether Access Analyzer has a delegated administrator.
    pub delegated_administrator: bool,
    /// `Account.Status`, retired on 2026-09-09, is present.
    pub legacy_status: bool,
    /// `Account.State` is present.
    pub state: bool,
    /// `Account.Paths` is present.
    pub paths: bool,
    /// Now and then a page is empty and has a NextToken.
    pub empty_pages: bool,
    /// Analyzers on a page, at most.
    pub analyzer_page_size: usize,
    /// Reads of a new analyzer that still answer `CREATING`.
    pub creating_reads: u32,
    /// The findings of each analyzer; without it, each has up to eleven.
    pub findings_per_analyzer: Option<u64>,
    /// Whether a member's own list shows the organization's analyzers: AWS does not say.
    pub members_see_organization_analyzers: bool,
    /// Refuse a request whose signature is wrong.
    pub verify_signatures: bool,
    /// AWS's published request rates are enforced.
    pub aws_rate_limits: bool,
    /// Every answer takes this long.
    pub latency_ms: u64,
    pub shares: Shares,
    pub weather: Vec<Rule>,
}

/// Of accounts (the first group; at most one applies to an account), and of account × region (the second).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    pub suspended: f64,
    pub pending_closure: f64,
    pub closed: f64,
    pub pending_activation: f64,
    pub role_missing: f64,
    pub trust_refuses: f64,
    pub iam_denied: f64,
    pub boundary_denied: f64,
    pub scp_region_denied: f64,
    pub list_regions_denied: f64,

    pub opted_in: f64,
    pub enabling: f64,
    pub account_analyzer: f64,
    pub inactive_analyzer: f64,
    pub unused_access: f64,
    pub internal_access: f64,
    pub service_linked: f64,
    /// Of regions: those in which the organization's analyzer exists.
    pub organization_analyzer: f64,
    /// Of regions: those in which it exists but is not ACTIVE.
    pub organization_analyzer_inactive: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        let strings = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Self {
            seed: 1,
            accounts: 30,
            organization: true,
            partition: "aws".into(),
            regions: strings(&[
                "ap-northeast-1",
                "ap-northeast-2",
                "ap-northeast-3",
                "ap-south-1",
                "ap-southeast-1",
                "ap-southeast-2",
                "ca-central-1",
                "eu-central-1",
                "eu-north-1",
                "eu-west-1",
                "eu-west-2",
                "eu-west-3",
                "sa-east-1",
                "us-east-1",
                "us-east-2",
                "us-west-1",
                "us-west-2",
            ]),
            opt_in_regions: strings(&["af-south-1", "eu-south-1"]),
            member_role: "TrustwatchAudit".into(),
            external_id: None,
            management_role: true,
            delegated_administrator: true,
            legacy_status: false,
            state: true,
            paths: true,
            empty_pages: true,
            analyzer_page_size: 100,
            creating_reads: 1,
            findings_per_analyzer: None,
            members_see_organization_analyzers: false,
            verify_signatures: true,
            aws_rate_limits: false,
            latency_ms: 0,
            shares: Shares::default(),
            weather: Vec::new(),
        }
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            suspended: 0.03,
            pending_closure: 0.02,
            closed: 0.02,
            pending_activation: 0.02,
            role_missing: 0.04,
            trust_refuses: 0.03,
            iam_denied: 0.03,
            boundary_denied: 0.02,
            scp_region_denied: 0.05,
            list_regions_denied: 0.03,
            opted_in: 0.3,
            enabling: 0.03,
            account_analyzer: 0.35,
            inactive_analyzer: 0.03,
            unused_access: 0.08,
            internal_access: 0.04,
            service_linked: 0.1,
            organization_analyzer: 0.75,
            organization_analyzer_inactive: 0.06,
        }
    }
}

impl Scenario {
    /// Reads a scenario; unknown keys are errors.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml_edit::de::from_str(text).map_err(|error| error.to_string())
    }

    /// An organization in which every call succeeds and nothing is awkward: for tests that say what is.
    pub fn calm(accounts: usize) -> Self {
        let nothing = Shares {
            suspended: 0.0,
            pending_closure: 0.0,
            closed: 0.0,
            pending_activation: 0.0,
            role_missing: 0.0,
            trust_refuses: 0.0,
            iam_denied: 0.0,
            boundary_denied: 0.0,
            scp_region_denied: 0.0,
            list_regions_denied: 0.0,
            opted_in: 0.0,
            enabling: 0.0,
            account_analyzer: 0.0,
            inactive_analyzer: 0.0,
            unused_access: 0.0,
            internal_access: 0.0,
            service_linked: 0.0,
            organization_analyzer: 0.0,
            organization_analyzer_inactive: 0.0,
        };
        Self { accounts, shares: nothing, empty_pages: false, ..Self::default() }
    }
}
