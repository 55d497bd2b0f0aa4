//! From gaps to the fewest safe steps. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::plan::{Access, Plan, Refusal, Step, Verb, Why};
use crate::config::Remediation;
use crate::model::{AccountId, Region, Requirement, Status, ZoneOfTrust};
use crate::store::{Closed, Gap, Ground, Standing};

/// Analyzers of the organization in one region of one account (IAM Access Analyzer User Guide, "Quotas").
const ORGANIZATION_QUOTA: usize = 5;

/// What a person chose for a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Whether an analyzer that failed is deleted, with its findings, and replaced.
    pub replace_failed: bool,
}

/// Proposes the steps.
pub fn propose(
    organization: &str,
    ground: &Ground,
    access: Access,
    remediation: &Remediation,
    choices: Choices,
    now: DateTime<Utc>,
) -> Plan {
    let mut proposal = Proposal {
        ground,
        access: &access,
        remediation,
        choices,
        standing: BTreeMap::new(),
        steps: Vec::new(),
        refused: BTreeMap::new(),
    };
    for analyzer in &ground.standing {
        let place = (analyzer.owner_account_id.0, analyzer.region.as_str());
        proposal.standing.entry(place).or_default().push(analyzer);
    }
    let mut by_region: BTreeMap<&str, Vec<&Gap>> = BTreeMap::new();
    for gap in &ground.gaps {
        by_region.entry(&gap.region).or_default().push(gap);
    }
    for (region, gaps) in by_region {
        proposal.region(region, &gaps);
    }
    let advice = proposal.advice();
    let (steps, refusals) = (std::mem::take(&mut proposal.steps), proposal.refusals());
    let lifetime = TimeDelta::from_std(remediation.plan_lifetime.0).unwrap_or(TimeDelta::MAX);
    let plan = Plan {
        format: 0,
        id: String::new(),
        created_at: now,
        expires_at: now.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC),
        organization: organization.to_owned(),
        scan_id: ground.scan_id,
        scanned_at: ground.scanned_at,
        requirement: ground.requirement,
        tags: remediation.tags.clone(),
        archive_rules: remediation.archive_rules.clone(),
        steps,
        refusals,
        advice,
        access,
    };
    plan.sealed()
}

struct Proposal<'a> {
    ground: &'a Ground,
    access: &'a Access,
    remediation: &'a Remediation,
    choices: Choices,
    standing: BTreeMap<(AccountId, &'a str), Vec<&'a Standing>>,
    steps: Vec<Step>,
    /// Why and which word → the accounts and regions.
    refused: BTreeMap<(Why, String), Vec<(AccountId, &'a str)>>,
}

impl<'a> Proposal<'a> {
    fn analyzers(&self, owner: AccountId, region: &str, zone: ZoneOfTrust) -> Vec<&'a Standing> {
        let there = self.standing.get(&(owner, region)).map(Vec::as_slice).unwrap_or_default();
        there.iter().copied().filter(|analyzer| analyzer.analyzer_type == zone.as_str()).collect()
    }

    fn is_active(&self, owner: AccountId, region: &str, zone: ZoneOfTrust) -> bool {
        self.analyzers(owner, region, zone).iter().any(|analyzer| analyzer.status == "ACTIVE")
    }

    fn refuse(&mut self, why: Why, reason: &str, gaps: &[&'a Gap]) {
        let places = gaps.iter().map(|gap| (gap.account_id.0, gap.region.as_str()));
        self.refused.entry((why, reason.to_owned())).or_default().extend(places);
    }

    /// Whether the organization lets an analyzer of its own be created.
    fn administrator(&self) -> Option<AccountId> {
        self.access.delegated_administrator.filter(|_| self.access.trusted != Some(false))
    }

    /// Why the delegated administrator cannot own an analyzer in a region.
    fn closed(&self, region: &str) -> Option<&'a str> {
        self.closed_to(self.access.delegated_administrator?, region).map(|closed| closed.reason.as_str())
    }

    /// Why nobody knows what the management account has in a region.
    fn unread(&self, region: &str) -> Option<&'a str> {
        let closed = self.closed_to(self.access.management?, region);
        closed.filter(|closed| closed.status == Status::Unknown.as_str()).map(|closed| closed.reason.as_str())
    }

    fn closed_to(&self, owner: AccountId, region: &str) -> Option<&'a Closed> {
        self.ground.closed.iter().find(|closed| closed.account_id.0 == owner && closed.region == region)
    }

    fn region(&mut self, region: &'a str, gaps: &[&'a Gap]) {
        let owners = [self.access.management, self.access.delegated_administrator];
        let has_organizations =
            owners.iter().flatten().any(|owner| self.is_active(*owner, region, ZoneOfTrust::Organization));
        let may_cover = matches!(self.ground.requirement, Requirement::Either | Requirement::Organization);
        if has_organizations && may_cover {
            return self.refuse(Why::ScanAgain, ZoneOfTrust::Organization.as_str(), gaps);
        }
        let lacks_own = |gap: &&&Gap| !self.is_active(gap.account_id.0, region, ZoneOfTrust::Account);
        let (for_organization, for_accounts): (Vec<&Gap>, Vec<&Gap>) = match self.ground.requirement {
            Requirement::Organization => (gaps.to_vec(), Vec::new()),
            Requirement::Both => (
                if has_organizations { Vec::new() } else { gaps.to_vec() },
                gaps.iter().filter(lacks_own).copied().collect(),
            ),
            Requirement::Either if self.administrator().is_some() && self.closed(region).is_none() => {
                (gaps.to_vec(), Vec::new())
            }
            Requirement::Account | Requirement::Either => (Vec::new(), gaps.to_vec()),
        };
        if !for_organization.is_empty() {
            self.organization(region, &for_organization);
        }
        for gap in for_accounts {
            self.account(gap);
        }
    }

    fn organization(&mut self, region: &'a str, gaps: &[&'a Gap]) {
        const ZONE: ZoneOfTrust = ZoneOfTrust::Organization;
        let Some(owner) = self.administrator() else {
            return self.refuse(Why::OrganizationNotReady, ZONE.as_str(), gaps);
        };
        if let Some(reason) = self.closed(region) {
            return self.refuse(Why::AdministratorNotThere, reason, gaps);
        }
        if let Some(reason) = self.unread(region) {
            return self.refuse(Why::ManagementUnread, reason, gaps);
        }
        let there = self.analyzers(owner, region, ZONE);
        // One that is not at work in the management account is looked into before there is another.
        let elsewhere = self.access.management.filter(|management| *management != owner);
        let elsewhere = elsewhere.map(|management| self.analyzers(management, region, ZONE)).unwrap_or_default();
        if elsewhere.iter().any(|analyzer| analyzer.status == "CREATING") {
            return self.refuse(Why::BeingCreated, "CREATING", gaps);
        }
        let mut disabled = elsewhere.iter().filter(|analyzer| analyzer.status == "DISABLED");
        if let Some(reason) = disabled.find_map(|analyzer| analyzer.status_reason.as_deref()) {
            return self.refuse(Why::Disabled, reason, gaps);
        }
        let Some(replaced) = self.replaced(&there, gaps, ZONE) else { return };
        if replaced.is_empty() && there.len() >= ORGANIZATION_QUOTA {
            return self.refuse(Why::Quota, ZONE.as_str(), gaps);
        }
        let name = gaps
            .iter()
            .find(|gap| gap.account_id.0 == owner)
            .map_or("delegated administrator", |gap| &gap.account_name);
        self.step(owner, name, region, ZONE, gaps.len(), replaced);
    }

    fn account(&mut self, gap: &'a Gap) {
        const ZONE: ZoneOfTrust = ZoneOfTrust::Account;
        let there = self.analyzers(gap.account_id.0, &gap.region, ZONE);
        let Some(replaced) = self.replaced(&there, &[gap], ZONE) else { return };
        self.step(gap.account_id.0, &gap.account_name, &gap.region, ZONE, 1, replaced);
    }

    /// The analyzers that stand in the way and are to be replaced; `None` where nothing can be done because of one.
    fn replaced(&mut self, there: &[&'a Standing], gaps: &[&'a Gap], zone: ZoneOfTrust) -> Option<Vec<String>> {
        let mut replaced = Vec::new();
        for analyzer in there.iter().filter(|analyzer| analyzer.status != "ACTIVE") {
            let reason = analyzer.status_reason.as_deref().unwrap_or(&analyzer.status);
            let why = match analyzer.status.as_str() {
                "CREATING" => Why::BeingCreated,
                "FAILED" if self.choices.replace_failed => {
                    replaced.push(analyzer.name.clone());
                    continue;
                }
                "FAILED" => Why::Failed,
                // What the organization's access turned off comes back with it; what somebody turned off is left to them, and
                // there is room for another beside it. An account has room for one.
                "DISABLED" if zone == ZoneOfTrust::Organization && analyzer.status_reason.is_none() => continue,
                _ => Why::Disabled,
            };
            self.refuse(why, reason, gaps);
            return None;
        }
        Some(replaced)
    }

    fn step(
        &mut self,
        account: AccountId,
        account_name: &str,
        region: &str,
        zone: ZoneOfTrust,
        covers: usize,
        replaces: Vec<String>,
    ) {
        let suffix = match zone {
            ZoneOfTrust::Account => "account",
            ZoneOfTrust::Organization => "organization",
        };
        let there = self.standing.get(&(account, region)).map(Vec::as_slice).unwrap_or_default();
        self.steps.push(Step {
            id: format!("{account}/{region}/{}", zone.as_str()),
            verb: if replaces.is_empty() { Verb::Create } else { Verb::Replace },
            account,
            account_name: account_name.to_owned(),
            region: Region::new(region),
            zone,
            analyzer_name: format!("{}-{suffix}", self.remediation.analyzer_name),
            covers,
            replaces,
            expects: there.iter().map(|one| (one.analyzer_arn.clone(), one.status.clone())).collect(),
        });
    }

    /// How fewer steps would do.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.ground.requirement == Requirement::Account || self.access.management.is_none() {
            return advice;
        }
        if self.access.trusted == Some(false) {
            advice.push(
                "the organization does not trust Access Analyzer: in the management account, run `aws organizations \
                 enable-aws-service-access --service-principal access-analyzer.amazonaws.com`; one analyzer of the organization then \
                 covers a region of every account"
                    .to_owned(),
            );
        }
        if self.access.delegated_administrator.is_none() {
            advice.push(
                "the organization has no delegated administrator of Access Analyzer: in the management account, run `aws organizations \
                 register-delegated-administrator --service-principal access-analyzer.amazonaws.com --account-id <your security \
                 account>`; one analyzer of the organization then covers a region of every account"
                    .to_owned(),
            );
        }
        if self.access.trusted.is_none() && self.access.delegated_administrator.is_some() {
            advice.push(
                "whether the organization trusts Access Analyzer may not be read (organizations:ListAWSServiceAccessForOrganization): \
                 if it does not, AWS refuses to create its analyzers"
                    .to_owned(),
            );
        }
        advice
    }

    fn refusals(self) -> Vec<Refusal> {
        let of_left = self.ground.left.iter().map(|left| {
            let why = match left.why.as_str() {
                "exempt" => Why::Exempt,
                "account_not_active" => Why::AccountNotActive,
                "excluded" => Why::Excluded,
                _ => Why::Unreadable,
            };
            let whole = |number: i64| usize::try_from(number).unwrap_or_default();
            Refusal {
                why,
                reason: left.why.clone(),
                accounts: whole(left.accounts),
                account_regions: whole(left.account_regions),
                example: left.example_account_id.clone(),
                advice: advise(why, &left.why, self.access),
            }
        });
        let of_gaps = self.refused.iter().map(|((why, reason), places)| {
            let accounts: BTreeSet<AccountId> = places.iter().map(|(account, _)| *account).collect();
            let example = places.first().map_or_else(String::new, |(account, region)| format!("{account} {region}"));
            Refusal {
                why: *why,
                reason: reason.clone(),
                accounts: accounts.len(),
                account_regions: places.len(),
                example,
                advice: advise(*why, reason, self.access),
            }
        });
        of_gaps.chain(of_left).collect()
    }
}

/// What a person can do.
fn advise(why: Why, reason: &str, access: &Access) -> String {
    const STAYS: &str = "what disabled it is over: scan again; if it stays DISABLED, delete it by hand, with its findings, and make another plan";
    match why {
        Why::Unreadable => {
            "what could not be read is neither covered nor a gap: `account_visits` says what AWS answered"
        }
        Why::Exempt => "the configuration exempts it",
        Why::AccountNotActive => "nothing can be created in it",
        Why::Excluded => "the configuration leaves it out",
        Why::OrganizationNotReady => "the rule asks for an analyzer of the organization: see the advice",
        Why::AdministratorNotThere => match reason {
            "region_not_opted_in" => "opt the delegated administrator's account in to the region",
            _ => "see why the delegated administrator's account could not be read there",
        },
        Why::ManagementUnread => {
            "see why the management account could not be read there: it may have an analyzer of the organization already"
        }
        Why::BeingCreated => "wait for it to become ACTIVE, and scan again",
        Why::Failed => "`--replace-failed` deletes it, with its findings, and creates another",
        Why::Disabled => match reason {
            "AWS_SERVICE_ACCESS_DISABLED" if access.trusted == Some(true) => STAYS,
            "DELEGATED_ADMINISTRATOR_DEREGISTERED" if access.delegated_administrator.is_some() => STAYS,
            "AWS_SERVICE_ACCESS_DISABLED" => {
                "enable trusted access again: `aws organizations enable-aws-service-access --service-principal \
                 access-analyzer.amazonaws.com`"
            }
            "DELEGATED_ADMINISTRATOR_DEREGISTERED" => {
                "register the delegated administrator again: `aws organizations register-delegated-administrator \
                 --service-principal access-analyzer.amazonaws.com --account-id …`"
            }
            _ => "find out who disabled it, or delete it by hand, with its findings",
        },
        Why::ScanAgain => "an analyzer of the organization is ACTIVE there by now: scan again",
        Why::Quota => "delete an analyzer of the organization that is not needed, or have the quota raised",
    }
    .to_owned()
}
