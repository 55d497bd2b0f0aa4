//! Builds a world from a scenario: the same bytes for the same seed.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;
use super::scenario::{Scenario, Shares};
use super::world::{ACCESS_ANALYZER, Account, Denial, Organization, Ou, Policy, Role, Switches, World};

/// The role that changes things.
pub const REMEDIATION_ROLE: &str = "TrustwatchRemediate";

/// The role that imports findings.
pub const HUB_ROLE: &str = "TrustwatchSecurityHub";

const TEAMS: &[&str] = &[
    "payments",
    "ledger",
    "mobile",
    "search",
    "checkout",
    "data",
    "fraud",
    "identity",
    "web",
    "ml",
    "crm",
    "logistics",
];
const STAGES: &[&str] = &["prod", "staging", "dev", "sandbox"];

pub fn world(scenario: &Scenario) -> World {
    let mut rng = Rng::new(scenario.seed);
    let root = format!("r-{}", rng.id(4));
    let organization_id = format!("o-{}", rng.id(10));
    let mut ids = BTreeSet::new();
    let mut new_id = |rng: &mut Rng| loop {
        // A tenth have a leading zero, which careless tools lose.
        let leading = if rng.chance(0.1) { 0 } else { 1 + rng.below(9) };
        let id = format!("{leading}{:011}", rng.below(100_000_000_000));
        if ids.insert(id.clone()) {
            return id;
        }
    };
    let management = new_id(&mut rng);
    let security = new_id(&mut rng);

    let switches = Switches {
        legacy_status: scenario.legacy_status,
        state: scenario.state,
        paths: scenario.paths,
        empty_pages: scenario.empty_pages,
        analyzer_page_size: scenario.analyzer_page_size,
        creating_reads: scenario.creating_reads,
        members_see_organization_analyzers: scenario.members_see_organization_analyzers,
        hide_accounts: false,
        findings_per_analyzer: scenario.findings_per_analyzer,
    };
    let mut world = World {
        seed: scenario.seed,
        partition: scenario.partition.clone(),
        organization: Some(Organization { id: organization_id, root: root.clone(), management: management.clone() }),
        caller: if scenario.delegated_administrator { security.clone() } else { management.clone() },
        member_role: scenario.member_role.clone(),
        accounts: BTreeMap::new(),
        ous: BTreeMap::new(),
        delegated: BTreeMap::new(),
        trusted_access: BTreeSet::from([ACCESS_ANALYZER.to_owned(), "guardduty.amazonaws.com".to_owned()]),
        default_regions: scenario.regions.clone(),
        analyzers: BTreeMap::new(),
        hub_disabled: BTreeSet::new(),
        switches,
    };
    if scenario.delegated_administrator {
        world.delegated.insert(ACCESS_ANALYZER.to_owned(), BTreeSet::from([security.clone()]));
    }
    let leaves = organizational_units(&mut world, &root, &mut rng);
    let infrastructure = leaves[0].clone();

    let role =
        Role { trusts: vec![world.caller.clone()], external_id: scenario.external_id.clone(), max_duration: 3600 };
    let add = |world: &mut World, id: String, name: String, parent: String, with_role: bool, rng: &mut Rng| {
        let account = Account {
            email: format!("aws+{name}@example.com"),
            state: "ACTIVE".into(),
            parent,
            joined: 1_500_000_000 + rng.below(200_000_000) as i64,
            tags: BTreeMap::from([("team".to_owned(), TEAMS[rng.below(TEAMS.len() as u64) as usize].to_owned())]),
            regions: regions(scenario, rng),
            // The roles that change things are everywhere: no StackSet forgets the management account's.
            roles: [
                (scenario.member_role.clone(), with_role),
                (REMEDIATION_ROLE.to_owned(), true),
                (HUB_ROLE.to_owned(), true),
            ]
            .into_iter()
            .filter(|(_, is_there)| *is_there)
            .map(|(name, _)| (name, role.clone()))
            .collect(),
            denials: Vec::new(),
            id: id.clone(),
            name,
        };
        world.accounts.insert(id, account);
    };
    add(&mut world, management.clone(), "management".into(), root, scenario.management_role, &mut rng);
    if scenario.organization {
        add(&mut world, security.clone(), "security-tooling".into(), infrastructure, true, &mut rng);
        for index in 0..scenario.accounts {
            let (team, stage) = (TEAMS[index % TEAMS.len()], STAGES[(index / TEAMS.len()) % STAGES.len()]);
            let generation = index / (TEAMS.len() * STAGES.len());
            let name = if generation == 0 { format!("{team}-{stage}") } else { format!("{team}-{stage}-{generation}") };
            let parent = leaves[1 + rng.below(leaves.len() as u64 - 1) as usize].clone();
            let id = new_id(&mut rng);
            add(&mut world, id.clone(), name, parent, true, &mut rng);
            situation(&mut world, &id, &scenario.shares, &mut rng);
        }
    } else {
        world.organization = None;
        world.caller = management.clone();
        world.delegated.clear();
        if let Some(account) = world.accounts.get_mut(&management) {
            account.name = "standalone".into();
        }
    }
    member_analyzers(&mut world, scenario, &mut rng);
    if scenario.organization {
        let owner = if scenario.delegated_administrator { &security } else { &management };
        organization_analyzers(&mut world, owner, scenario, &mut rng);
    }
    world
}

fn organizational_units(world: &mut World, root: &str, rng: &mut Rng) -> Vec<String> {
    let mut add = |name: &str, parent: &str| {
        let id = format!("ou-{}-{}", &root[2..], rng.id(8));
        world.ous.insert(id.clone(), Ou { name: name.into(), parent: parent.into() });
        id
    };
    let infrastructure = add("Infrastructure", root);
    let workloads = add("Workloads", root);
    let production = add("Production", &workloads);
    let development = add("Development", &workloads);
    let sandbox = add("Sandbox", root);
    vec![infrastructure, production, development, sandbox]
}

fn regions(scenario: &Scenario, rng: &mut Rng) -> BTreeMap<String, String> {
    let mut regions: BTreeMap<_, _> =
        scenario.regions.iter().map(|name| (name.clone(), "ENABLED_BY_DEFAULT".to_owned())).collect();
    for name in &scenario.opt_in_regions {
        let status = if rng.chance(scenario.shares.opted_in) {
            "ENABLED"
        } else if rng.chance(scenario.shares.enabling) {
            if rng.chance(0.5) { "ENABLING" } else { "DISABLING" }
        } else {
            "DISABLED"
        };
        regions.insert(name.clone(), status.to_owned());
    }
    regions
}

/// At most one awkward situation for an account.
fn situation(world: &mut World, id: &str, shares: &Shares, rng: &mut Rng) {
    let mut dice = super::rng::unit(rng.next());
    let mut falls_in = |share: f64| {
        let hit = (0.0..share).contains(&dice);
        dice -= share;
        hit
    };
    let list_analyzers = "access-analyzer:ListAnalyzers";
    let deny = |action: &str, regions: &[&str], by| Denial {
        action: action.into(),
        regions: regions.iter().map(|name| (*name).to_owned()).collect(),
        by,
    };
    let role = world.member_role.clone();
    let Some(account) = world.accounts.get_mut(id) else { return };
    if falls_in(shares.suspended) {
        account.state = "SUSPENDED".into();
    } else if falls_in(shares.pending_closure) {
        account.state = "PENDING_CLOSURE".into();
    } else if falls_in(shares.closed) {
        account.state = "CLOSED".into();
    } else if falls_in(shares.pending_activation) {
        account.state = "PENDING_ACTIVATION".into();
    } else if falls_in(shares.role_missing) {
        account.roles.clear();
    } else if falls_in(shares.trust_refuses) {
        if let Some(role) = account.roles.get_mut(&role) {
            role.trusts = vec!["999999999999".into()];
        }
    } else if falls_in(shares.iam_denied) {
        account.denials.push(deny(list_analyzers, &[], Policy::Iam));
    } else if falls_in(shares.boundary_denied) {
        account.denials.push(deny(list_analyzers, &["us-east-1", "eu-west-1"], Policy::Boundary));
    } else if falls_in(shares.scp_region_denied) {
        let by = if rng.chance(0.5) { Policy::Scp } else { Policy::ScpWithoutAllow };
        account.denials.push(deny(list_analyzers, &["ap-south-1", "sa-east-1", "ca-central-1"], by));
    } else if falls_in(shares.list_regions_denied) {
        account.denials.push(deny("account:ListRegions", &[], Policy::Iam));
    }
}

fn member_analyzers(world: &mut World, scenario: &Scenario, rng: &mut Rng) {
    let shares = &scenario.shares;
    let accounts: Vec<String> = world.accounts.keys().cloned().collect();
    for account in accounts {
        // Half of the accounts use Access Analyzer of their own accord, and then in most regions.
        let diligent = rng.chance(0.5);
        let regions: Vec<String> = world.accounts[&account].regions.keys().cloned().collect();
        for region in regions {
            let mut found = Vec::new();
            let own = shares.account_analyzer * if diligent { 1.8 } else { 0.2 };
            if rng.chance(own) {
                found.push(world.new_analyzer(&account, &region, "account-analyzer", "ACCOUNT"));
            } else if rng.chance(shares.inactive_analyzer) {
                let mut analyzer = world.new_analyzer(&account, &region, "account-analyzer", "ACCOUNT");
                (analyzer.status, analyzer.status_reason) = match rng.below(3) {
                    0 => ("CREATING".into(), None),
                    1 => ("DISABLED".into(), None),
                    _ => ("FAILED".into(), Some("SERVICE_LINKED_ROLE_CREATION_FAILED".into())),
                };
                // A long-lived CREATING: it stays so however often it is read.
                analyzer.creating_reads = u32::MAX;
                found.push(analyzer);
            }
            if rng.chance(shares.unused_access) {
                found.push(world.new_analyzer(&account, &region, "unused-access", "ACCOUNT_UNUSED_ACCESS"));
            }
            if rng.chance(shares.internal_access) {
                found.push(world.new_analyzer(&account, &region, "internal-access", "ACCOUNT_INTERNAL_ACCESS"));
            }
            if region == "us-east-1" && rng.chance(shares.service_linked) {
                let name = format!("_AccessAnalyzerForSecurityHub-{}", rng.id(8));
                let mut analyzer = world.new_analyzer(&account, &region, &name, "ACCOUNT_UNUSED_ACCESS");
                analyzer.managed_by = Some("securityhubv2.amazonaws.com".into());
                found.push(analyzer);
            }
            if !found.is_empty() {
                *world.analyzers_mut(&account, &region) = found;
            }
        }
    }
}

fn organization_analyzers(world: &mut World, owner: &str, scenario: &Scenario, rng: &mut Rng) {
    let shares = &scenario.shares;
    let regions: Vec<String> = world.accounts[owner].regions.keys().cloned().collect();
    for region in regions {
        if !rng.chance(shares.organization_analyzer) {
            continue;
        }
        let mut analyzer = world.new_analyzer(owner, &region, "organization-analyzer", "ORGANIZATION");
        if rng.chance(shares.organization_analyzer_inactive) {
            analyzer.status = "DISABLED".into();
            analyzer.status_reason = Some("AWS_SERVICE_ACCESS_DISABLED".into());
        }
        world.analyzers_mut(owner, &region).push(analyzer);
    }
    if shares.unused_access > 0.0 {
        let unused = world.new_analyzer(owner, "us-east-1", "org-unused", "ORGANIZATION_UNUSED_ACCESS");
        let internal = world.new_analyzer(owner, "us-east-1", "org-internal", "ORGANIZATION_INTERNAL_ACCESS");
        world.analyzers_mut(owner, "us-east-1").extend([unused, internal]);
    }
}
