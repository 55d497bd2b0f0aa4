//! What each account × region really is, and what a perfect observer through the member role could say of it.
//!
//! Written from the documents, apart from the product's own evaluation, so that one can hold the other to account.

use serde::Serialize;

use super::world::{Account, Analyzer, Policy, World};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Truth {
    pub account_id: String,
    pub region: String,
    /// What is so, whoever may see it.
    pub status: &'static str,
    pub reason: &'static str,
    /// What a perfect observer through the role reports: the same, or why it cannot be seen.
    pub seen_status: &'static str,
    pub seen_reason: &'static str,
}

/// The truth for every account and for every region in which it has a row on a first visit.
pub fn truth(world: &World, requirement: &str) -> Vec<Truth> {
    world.accounts.values().flat_map(|account| of_account(world, account, requirement)).collect()
}

fn of_account(world: &World, account: &Account, requirement: &str) -> Vec<Truth> {
    let entered = account.state == "ACTIVE" && may_enter(world, account);
    let names_its_regions = world.denial(&account.id, "account:ListRegions", "us-east-1").is_none();
    let regions: Vec<&String> = if entered && names_its_regions {
        account.regions.keys().collect()
    } else {
        world.default_regions.iter().collect()
    };
    regions
        .into_iter()
        .map(|region| {
            let (status, reason) = real(world, account, region, requirement);
            let (seen_status, seen_reason) = seen(world, account, region, requirement, (status, reason));
            Truth { account_id: account.id.clone(), region: region.clone(), status, reason, seen_status, seen_reason }
        })
        .collect()
}

fn may_enter(world: &World, account: &Account) -> bool {
    account.id == world.caller
        || account
            .roles
            .get(&world.member_role)
            .is_some_and(|role| role.trusts.iter().any(|trust| trust == "*" || *trust == world.caller))
}

fn denied_as(policy: Policy) -> &'static str {
    match policy {
        Policy::Scp | Policy::ScpWithoutAllow => "scp_denied",
        _ => "access_denied",
    }
}

/// Why an account's analyzers in a region cannot be listed, if they cannot.
fn blind_spot(world: &World, account: &Account, region: &str) -> Option<&'static str> {
    if account.state != "ACTIVE" || !may_enter(world, account) {
        return Some("role_not_assumable");
    }
    if !world.is_enabled(&account.id, region) {
        return None;
    }
    world.denial(&account.id, "access-analyzer:ListAnalyzers", region).map(denied_as)
}

/// The organization's analyzers in a region. They live in their owner, in regions that the owner has enabled.
fn of_organization<'a>(world: &'a World, region: &str) -> Vec<&'a Analyzer> {
    world
        .analyzer_owners()
        .iter()
        .filter(|owner| world.is_enabled(owner, region))
        .flat_map(|owner| world.analyzers_in(owner, region))
        .filter(|analyzer| analyzer.kind == "ORGANIZATION" && analyzer.managed_by.is_none())
        .collect()
}

fn real(world: &World, account: &Account, region: &str, requirement: &str) -> (&'static str, &'static str) {
    if account.state != "ACTIVE" {
        return ("not_applicable", "account_not_active");
    }
    if !world.is_enabled(&account.id, region) {
        return ("not_applicable", "region_not_opted_in");
    }
    let listed = world.analyzers_in(&account.id, region);
    let own: Vec<_> = listed.iter().filter(|one| one.kind == "ACCOUNT" && one.managed_by.is_none()).collect();
    let shared = of_organization(world, region);
    let works = |list: &[&Analyzer]| list.iter().any(|analyzer| analyzer.status == "ACTIVE");
    let broken = |list: &[&Analyzer]| list.iter().any(|analyzer| analyzer.status != "ACTIVE");
    let (has_own, has_shared) = (works(&own), works(&shared));
    let (wants_own, wants_shared) = match requirement {
        "account" => (true, false),
        "organization" => (false, true),
        "both" => (true, true),
        _ => (false, false),
    };
    let fulfilled = if requirement == "either" {
        has_own || has_shared
    } else {
        (!wants_own || has_own) && (!wants_shared || has_shared)
    };
    if fulfilled {
        return match (has_own, has_shared) {
            (true, true) => ("covered", "account_and_organization_analyzers"),
            (true, false) => ("covered", "account_analyzer"),
            _ => ("covered", "organization_analyzer"),
        };
    }
    let own_counts = requirement == "either" || wants_own;
    let shared_counts = requirement == "either" || wants_shared;
    let reason = if (own_counts && !has_own && broken(&own)) || (shared_counts && !has_shared && broken(&shared)) {
        "analyzer_not_active"
    } else if has_own || has_shared {
        "required_zone_of_trust_missing"
    } else if listed
        .iter()
        .any(|one| !["ACCOUNT", "ORGANIZATION"].contains(&one.kind.as_str()) || one.managed_by.is_some())
    {
        "only_other_analyzer_types"
    } else {
        "no_analyzer"
    };
    ("not_covered", reason)
}

fn seen(
    world: &World,
    account: &Account,
    region: &str,
    requirement: &str,
    real: (&'static str, &'static str),
) -> (&'static str, &'static str) {
    if account.state != "ACTIVE" {
        return real;
    }
    if !may_enter(world, account) {
        return ("unknown", "role_not_assumable");
    }
    if let Some(why) = blind_spot(world, account, region) {
        return ("unknown", why);
    }
    if real.0 == "not_applicable" {
        return real;
    }
    let owners = world.analyzer_owners();
    let owner_hidden = owners.iter().filter_map(|owner| world.accounts.get(owner)).any(|owner| {
        // An owner that does not name its regions was asked in the default ones only.
        let names = world.denial(&owner.id, "account:ListRegions", "us-east-1").is_none();
        let asked = names || world.default_regions.iter().any(|name| name == region);
        blind_spot(world, owner, region).is_some() || !asked
    });
    if !owner_hidden {
        return real;
    }
    // Without sight of the organization's analyzers, only the account's own can speak.
    let own = world.analyzers_in(&account.id, region);
    let has_own = own.iter().any(|one| one.kind == "ACCOUNT" && one.status == "ACTIVE" && one.managed_by.is_none());
    match requirement {
        "account" | "either" if has_own => ("covered", "account_analyzer"),
        "account" => real,
        "both" if !has_own => real,
        _ => ("unknown", "organization_analyzers_unknown"),
    }
}
