//! The state behind the services: accounts, OUs, roles, regions, analyzers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The service principal under which Access Analyzer is trusted and delegated.
pub const ACCESS_ANALYZER: &str = "access-analyzer.amazonaws.com";

#[derive(Debug, Clone, Serialize)]
pub struct World {
    pub seed: u64,
    pub partition: String,
    pub organization: Option<Organization>,
    /// The account whose keys the caller of a scan holds.
    pub caller: String,
    pub member_role: String,
    pub accounts: BTreeMap<String, Account>,
    pub ous: BTreeMap<String, Ou>,
    /// Service principal → accounts.
    pub delegated: BTreeMap<String, BTreeSet<String>>,
    pub trusted_access: BTreeSet<String>,
    pub default_regions: Vec<String>,
    /// Account → region → analyzers, in order of creation.
    pub analyzers: BTreeMap<String, BTreeMap<String, Vec<Analyzer>>>,
    /// Accounts in which Security Hub is not enabled.
    pub hub_disabled: BTreeSet<String>,
    pub switches: Switches,
}

#[derive(Debug, Clone, Serialize)]
pub struct Organization {
    pub id: String,
    pub root: String,
    pub management: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Switches {
    pub legacy_status: bool,
    pub state: bool,
    pub paths: bool,
    pub empty_pages: bool,
    pub analyzer_page_size: usize,
    pub creating_reads: u32,
    pub members_see_organization_analyzers: bool,
    /// ListAccounts answers with an empty list.
    pub hide_accounts: bool,
    /// The findings of each analyzer; some, without it.
    pub findings_per_analyzer: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Ou {
    pub name: String,
    pub parent: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub id: String,
    pub name: String,
    pub email: String,
    pub state: String,
    /// The root or an OU.
    pub parent: String,
    /// Seconds since the epoch.
    pub joined: i64,
    pub tags: BTreeMap<String, String>,
    /// Region → opt-in status.
    pub regions: BTreeMap<String, String>,
    pub roles: BTreeMap<String, Role>,
    pub denials: Vec<Denial>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Role {
    /// Accounts or role ARNs that may assume it.
    pub trusts: Vec<String>,
    pub external_id: Option<String>,
    pub max_duration: u32,
}

/// A policy that denies an action in some regions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Denial {
    /// `service:Operation`, or `*`.
    pub action: String,
    /// Empty: everywhere.
    #[serde(default)]
    pub regions: Vec<String>,
    pub by: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    Iam,
    Scp,
    ScpWithoutAllow,
    Boundary,
    ResourceControl,
    VpcEndpoint,
    Session,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Analyzer {
    pub arn: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub status_reason: Option<String>,
    pub managed_by: Option<String>,
    /// Seconds since the epoch.
    pub created: i64,
    pub tags: BTreeMap<String, String>,
    pub client_token: Option<String>,
    /// What it archives, by the rule's name.
    #[serde(default)]
    pub archive_rules: BTreeMap<String, serde_json::Value>,
    /// Reads that still answer `CREATING`.
    #[serde(skip)]
    pub creating_reads: u32,
}

impl Analyzer {
    pub fn is_organization_level(&self) -> bool {
        self.kind.starts_with("ORGANIZATION")
    }
}

impl World {
    pub fn management(&self) -> Option<&str> {
        self.organization.as_ref().map(|organization| organization.management.as_str())
    }

    pub fn is_management_or_delegated(&self, account: &str) -> bool {
        self.management() == Some(account) || self.delegated.values().any(|accounts| accounts.contains(account))
    }

    /// The accounts that may own analyzers of the organization.
    pub fn analyzer_owners(&self) -> BTreeSet<String> {
        let mut owners = self.delegated.get(ACCESS_ANALYZER).cloned().unwrap_or_default();
        owners.extend(self.management().map(str::to_owned));
        owners
    }

    /// The accounts that may not.
    pub fn members(&self) -> Vec<String> {
        let owners = self.analyzer_owners();
        self.accounts.keys().filter(|id| !owners.contains(*id)).cloned().collect()
    }

    /// `o-…/r-…/ou-…/`, with a trailing slash as Organizations has it.
    pub fn ou_path(&self, parent: &str) -> String {
        let Some(organization) = &self.organization else { return String::new() };
        let mut ids = Vec::new();
        let mut at = parent;
        while let Some(ou) = self.ous.get(at) {
            ids.push(at);
            at = &ou.parent;
        }
        let mut path = format!("{}/{}/", organization.id, organization.root);
        for id in ids.iter().rev() {
            path.push_str(id);
            path.push('/');
        }
        path
    }

    pub fn is_enabled(&self, account: &str, region: &str) -> bool {
        self.accounts
            .get(account)
            .and_then(|account| account.regions.get(region))
            .is_some_and(|status| matches!(status.as_str(), "ENABLED" | "ENABLED_BY_DEFAULT" | "DISABLING"))
    }

    pub fn analyzers_in(&self, account: &str, region: &str) -> &[Analyzer] {
        self.analyzers.get(account).and_then(|regions| regions.get(region)).map_or(&[], Vec::as_slice)
    }

    pub fn analyzers_mut(&mut self, account: &str, region: &str) -> &mut Vec<Analyzer> {
        self.analyzers.entry(account.to_owned()).or_default().entry(region.to_owned()).or_default()
    }

    /// The policy that denies an action of a role's session in an account, if one does.
    pub fn denial(&self, account: &str, action: &str, region: &str) -> Option<Policy> {
        let denials = &self.accounts.get(account)?.denials;
        denials
            .iter()
            .find(|denial| {
                let in_region = denial.regions.is_empty() || denial.regions.iter().any(|name| name == region);
                in_region && (denial.action == "*" || denial.action == action)
            })
            .map(|denial| denial.by)
    }

    pub fn new_analyzer(&self, account: &str, region: &str, name: &str, kind: &str) -> Analyzer {
        Analyzer {
            arn: format!("arn:{}:access-analyzer:{region}:{account}:analyzer/{name}", self.partition),
            name: name.to_owned(),
            kind: kind.to_owned(),
            status: "ACTIVE".to_owned(),
            status_reason: None,
            managed_by: None,
            created: 1_700_000_000,
            tags: BTreeMap::new(),
            client_token: None,
            archive_rules: BTreeMap::new(),
            creating_reads: 0,
        }
    }
}
