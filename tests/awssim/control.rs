//! The endpoint by which a test, or a person, changes the world while it runs: `/_sim/…`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::generate::REMEDIATION_ROLE;
use super::weather::Rule;
use super::world::{ACCESS_ANALYZER, Account, Denial, Role, World};

/// One change. As JSON: `{"suspend_account": {"account": "111111111111"}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    AddAccount {
        account: String,
        name: String,
    },
    RemoveAccount {
        account: String,
    },
    /// Any state of Organizations, `SUSPENDED` and `ACTIVE` among them.
    SetAccountState {
        account: String,
        state: String,
    },
    SuspendAccount {
        account: String,
    },
    MoveAccount {
        account: String,
        parent: String,
    },
    AddAnalyzer {
        account: String,
        region: String,
        name: String,
        #[serde(rename = "type")]
        kind: String,
    },
    DeleteAnalyzer {
        account: String,
        region: String,
        name: String,
    },
    DisableAnalyzer {
        account: String,
        region: String,
        name: String,
        reason: Option<String>,
    },
    /// The role is gone.
    BreakRole {
        account: String,
    },
    /// So is the one that changes things.
    BreakRemediationRole {
        account: String,
    },
    EnableTrustedAccess {},
    MendRole {
        account: String,
    },
    EnableRegion {
        account: String,
        region: String,
    },
    DisableRegion {
        account: String,
        region: String,
    },
    Deny {
        account: String,
        denial: Denial,
    },
    AllowAll {
        account: String,
    },
    DeregisterDelegatedAdministrator {
        account: String,
    },
    RegisterDelegatedAdministrator {
        account: String,
    },
    DisableTrustedAccess {},
    ExpireSessions {},
    /// AWS's clock is so many seconds ahead of this machine's.
    StepClock {
        ahead: i64,
    },
    Weather {
        rules: Vec<Rule>,
    },
}

/// Carries a change out on the world. What concerns sessions and weather is the server's.
pub fn apply(world: &mut World, change: &Change) -> Result<(), String> {
    match change {
        Change::AddAccount { account, name } => {
            let parent = world.ous.keys().next().cloned().ok_or("the world has no OU")?;
            let role = Role { trusts: vec![world.caller.clone()], external_id: None, max_duration: 3600 };
            let new = Account {
                id: account.clone(),
                name: name.clone(),
                email: format!("aws+{name}@example.com"),
                state: "ACTIVE".into(),
                parent,
                joined: 1_750_000_000,
                tags: BTreeMap::new(),
                regions: world.default_regions.iter().map(|name| (name.clone(), "ENABLED_BY_DEFAULT".into())).collect(),
                roles: BTreeMap::from([(world.member_role.clone(), role)]),
                denials: Vec::new(),
            };
            world.accounts.insert(account.clone(), new);
        }
        Change::RemoveAccount { account } => {
            find(world, account)?;
            world.accounts.remove(account);
            world.analyzers.remove(account);
        }
        Change::SetAccountState { account, state } => find(world, account)?.state.clone_from(state),
        Change::SuspendAccount { account } => find(world, account)?.state = "SUSPENDED".into(),
        Change::MoveAccount { account, parent } => find(world, account)?.parent.clone_from(parent),
        Change::AddAnalyzer { account, region, name, kind } => {
            find(world, account)?;
            let analyzer = world.new_analyzer(account, region, name, kind);
            world.analyzers_mut(account, region).push(analyzer);
        }
        Change::DeleteAnalyzer { account, region, name } => {
            let analyzers = world.analyzers_mut(account, region);
            let before = analyzers.len();
            analyzers.retain(|analyzer| analyzer.name != *name);
            if analyzers.len() == before {
                return Err(format!("no analyzer {name} in {account} {region}"));
            }
        }
        Change::DisableAnalyzer { account, region, name, reason } => {
            let analyzers = world.analyzers_mut(account, region);
            let analyzer = analyzers.iter_mut().find(|analyzer| analyzer.name == *name);
            let analyzer = analyzer.ok_or_else(|| format!("no analyzer {name} in {account} {region}"))?;
            analyzer.status = "DISABLED".into();
            analyzer.status_reason.clone_from(reason);
        }
        Change::BreakRole { account } => {
            let name = world.member_role.clone();
            find(world, account)?.roles.remove(&name);
        }
        Change::BreakRemediationRole { account } => {
            find(world, account)?.roles.remove(REMEDIATION_ROLE);
        }
        Change::EnableTrustedAccess {} => {
            world.trusted_access.insert(ACCESS_ANALYZER.to_owned());
        }
        Change::MendRole { account } => {
            let role = Role { trusts: vec![world.caller.clone()], external_id: None, max_duration: 3600 };
            let name = world.member_role.clone();
            find(world, account)?.roles.insert(name, role);
        }
        Change::EnableRegion { account, region } => {
            find(world, account)?.regions.insert(region.clone(), "ENABLED".into());
        }
        Change::DisableRegion { account, region } => {
            find(world, account)?.regions.insert(region.clone(), "DISABLED".into());
        }
        Change::Deny { account, denial } => find(world, account)?.denials.push(denial.clone()),
        Change::AllowAll { account } => find(world, account)?.denials.clear(),
        Change::DeregisterDelegatedAdministrator { account } => {
            for accounts in world.delegated.values_mut() {
                accounts.remove(account);
            }
            disable_organization_analyzers(world, account, "DELEGATED_ADMINISTRATOR_DEREGISTERED");
        }
        Change::RegisterDelegatedAdministrator { account } => {
            find(world, account)?;
            world.delegated.entry(ACCESS_ANALYZER.into()).or_default().insert(account.clone());
        }
        Change::DisableTrustedAccess {} => {
            world.trusted_access.remove(ACCESS_ANALYZER);
            for owner in world.analyzer_owners() {
                disable_organization_analyzers(world, &owner, "AWS_SERVICE_ACCESS_DISABLED");
            }
        }
        Change::ExpireSessions {} | Change::StepClock { .. } | Change::Weather { .. } => {}
    }
    Ok(())
}

/// One event turns every organization analyzer of an owner `DISABLED`.
fn disable_organization_analyzers(world: &mut World, owner: &str, reason: &str) {
    let Some(regions) = world.analyzers.get_mut(owner) else { return };
    for analyzer in regions.values_mut().flatten().filter(|analyzer| analyzer.is_organization_level()) {
        analyzer.status = "DISABLED".into();
        analyzer.status_reason = Some(reason.into());
    }
}

fn find<'a>(world: &'a mut World, account: &str) -> Result<&'a mut Account, String> {
    world.accounts.get_mut(account).ok_or_else(|| format!("no account {account}"))
}
