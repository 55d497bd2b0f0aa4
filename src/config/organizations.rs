//! `[[organizations]]`: whom to audit, and as whom.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::{Exemption, Ownership, Schedule, Secret, TimeSpan};
use crate::model::{Account, AccountId, Region, Requirement};

/// One organization. Large companies have several, in several partitions.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Organization {
    /// Our name for it: in results, in the log, and in environment variables (`TRUSTWATCH_ORGANIZATIONS__<NAME>__…`).
    pub name: String,
    /// The profile of the AWS configuration to use. Without one: the ambient credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role in the management account or in a delegated administrator, assumed first to read the organization. Without
    /// one, the caller reads it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "role-arn"))]
    pub reader_role_arn: Option<String>,
    /// The role to assume in each account: a name, or an ARN with `{account_id}` and, if you like, `{partition}` in it.
    /// The caller's own account is audited with the caller's own credentials.
    #[schemars(extend("format" = "member-role"))]
    pub member_role: String,
    /// The external id that the member role's trust policy asks for. Advised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "external-id"))]
    pub external_id: Option<Secret>,
    /// A file that holds the external id, instead of `external_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id_file: Option<PathBuf>,
    /// Whether the member role is assumed with the reader role's session (then sessions last an hour at most) instead of
    /// the caller's own credentials.
    pub chain_roles: bool,
    /// The name of the sessions, as the members' CloudTrail shows it.
    #[schemars(extend("format" = "session-word"))]
    pub session_name: String,
    /// How long a session lasts: from 15 minutes to what the role allows.
    pub session_duration: TimeSpan,
    /// The source identity of the sessions, where the trust policies ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "session-word"))]
    pub source_identity: Option<String>,
    /// Whether each session is narrowed to the calls that the audit makes, whatever the role allows.
    pub session_policy: bool,
    /// The region whose STS is asked: where we are, not what is audited. Without one: the caller's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_region: Option<String>,
    /// `"all-enabled"`: every region that AWS names for an account, the disabled ones as `region_not_opted_in`. Or a list:
    /// these only.
    pub regions: RegionSelection,
    /// What satisfies the rule: an ACTIVE analyzer of the account's own, of the organization, either, or both.
    pub requirement: Requirement,
    /// If anything is named here, only accounts that match are audited; the others are `excluded`.
    #[serde(skip_serializing_if = "Selector::is_empty")]
    pub include: Selector,
    /// Accounts that match are not entered, and their regions are `not_applicable`, `excluded`.
    #[serde(skip_serializing_if = "Selector::is_empty")]
    pub exclude: Selector,
    /// Regions that are a decision, not a gap (a region-deny SCP): `not_applicable`, `excluded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_regions: Vec<ExcludeRegions>,
    /// Gaps that somebody answers for, until a day. The first that is for an account and region counts. They change no verdict:
    /// beside it stands that it is exempt, why, and until when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
    /// Who answers for accounts.
    #[serde(skip_serializing_if = "Ownership::is_empty")]
    pub ownership: Ownership,
    /// The share of accounts that may be missing from the list since the last scan. More than that is not believed, and
    /// fails the scan.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_account_loss: f64,
    /// A schedule of its own, instead of `[schedule]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

impl Default for Organization {
    fn default() -> Self {
        Self {
            name: String::new(),
            profile: None,
            reader_role_arn: None,
            member_role: "TrustwatchAudit".into(),
            external_id: None,
            external_id_file: None,
            chain_roles: false,
            session_name: "trustwatch".into(),
            session_duration: TimeSpan::seconds(3600),
            source_identity: None,
            session_policy: true,
            sts_region: None,
            regions: RegionSelection::default(),
            requirement: Requirement::Either,
            include: Selector::default(),
            exclude: Selector::default(),
            exclude_regions: Vec::new(),
            exemptions: Vec::new(),
            ownership: Ownership::default(),
            max_account_loss: 0.2,
            schedule: None,
        }
    }
}

impl Organization {
    /// An organization with every default.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Whether the configuration leaves this account out.
    ///
    /// Never for want of knowledge: an account whose OU or tags could not be read is audited.
    pub fn excludes(&self, account: &Account) -> bool {
        let is_included = self.include.matches(account) || self.include.needs_more_of(account);
        (!self.include.is_empty() && !is_included) || self.exclude.matches(account)
    }

    /// Whether something that decides whether the configuration leaves this account out is not known of it.
    pub fn is_undecided(&self, account: &Account) -> bool {
        self.include.needs_more_of(account) || self.exclude.needs_more_of(account)
    }

    /// Whether the configuration leaves this region of this account out.
    pub fn excludes_region(&self, account: &Account, region: &Region) -> bool {
        self.exclude_regions.iter().any(|rule| {
            matches_ou(&rule.ou_paths, account)
                && rule.regions.iter().any(|pattern| WildMatch::new(pattern).matches(region.as_str()))
        })
    }

    /// Whether who answers for an account decides whether it is audited.
    pub fn chooses_by_owner(&self) -> bool {
        [&self.include, &self.exclude].iter().any(|chosen| !chosen.owners.is_empty() || !chosen.teams.is_empty())
    }

    /// Whether the tags of accounts are asked for, which costs a call for each.
    pub fn reads_tags(&self) -> bool {
        self.ownership.reads_tags()
            || !self.include.tags.is_empty()
            || !self.exclude.tags.is_empty()
            || self.exemptions.iter().any(|exemption| !exemption.accounts.tags.is_empty())
    }

    /// The exemption of an account and region at an instant.
    pub fn exemption_of(&self, account: &Account, region: &Region, now: DateTime<Utc>) -> Option<&Exemption> {
        self.exemptions.iter().find(|exemption| !exemption.expires.is_over(now) && exemption.is_for(account, region))
    }

    /// The ARN of the member role in an account.
    pub fn member_role_arn(&self, partition: &str, account_id: &str) -> String {
        role_arn(&self.member_role, partition, account_id)
    }
}

/// The ARN in an account of a role that is given as a name, or as an ARN with placeholders.
pub fn role_arn(role: &str, partition: &str, account_id: &str) -> String {
    if role.starts_with("arn:") {
        role.replace("{partition}", partition).replace("{account_id}", account_id)
    } else {
        format!("arn:{partition}:iam::{account_id}:role/{role}")
    }
}

/// Which regions are audited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum RegionSelection {
    /// `"all-enabled"`: every region that AWS names for an account.
    #[default]
    #[serde(with = "all_enabled")]
    #[schemars(with = "AllEnabled")]
    AllEnabled,
    /// These only.
    List(Vec<String>),
}

/// The one word that stands for every region.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
enum AllEnabled {
    #[serde(rename = "all-enabled")]
    AllEnabled,
}

mod all_enabled {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::AllEnabled;

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        AllEnabled::AllEnabled.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        AllEnabled::deserialize(deserializer).map(|AllEnabled::AllEnabled| ())
    }
}

/// A choice of accounts: one that matches any of these is chosen. `*` and `?` are wildcards in all but account ids.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Selector {
    /// Account ids, twelve digits each.
    pub accounts: Vec<AccountId>,
    /// OU paths, such as `o-abc/r-1/ou-sandbox/*` for everything below that OU.
    pub ou_paths: Vec<String>,
    /// Account names.
    pub names: Vec<String>,
    /// Tags of the account in Organizations, key to pattern. Reading them costs a call for each account.
    pub tags: BTreeMap<String, String>,
    /// Who answers for the account, where `ownership` says.
    pub owners: Vec<String>,
    /// Its team, likewise.
    pub teams: Vec<String>,
}

impl Selector {
    pub(super) fn is_empty(&self) -> bool {
        let Self { accounts, ou_paths, names, tags, owners, teams } = self;
        let of_words = [ou_paths, names, owners, teams];
        accounts.is_empty() && tags.is_empty() && of_words.into_iter().all(Vec::is_empty)
    }

    /// Whether something that it chooses by is not known of an account.
    fn needs_more_of(&self, account: &Account) -> bool {
        (account.ou_path.is_none() && !self.ou_paths.is_empty())
            || (account.tags.is_none() && !self.tags.is_empty())
            || (account.owned_by.is_none() && !(self.owners.is_empty() && self.teams.is_empty()))
    }

    pub(super) fn matches(&self, account: &Account) -> bool {
        self.accounts.contains(&account.id)
            || matches_ou(&self.ou_paths, account)
            || self.names.iter().any(|pattern| WildMatch::new(pattern).matches(&account.name))
            || self.tags.iter().any(|(key, pattern)| {
                account
                    .tags
                    .as_ref()
                    .and_then(|tags| tags.get(key))
                    .is_some_and(|value| WildMatch::new(pattern).matches(value))
            })
            || matches_word(&self.owners, account.owned_by.as_ref().and_then(|owned| owned.owner.as_deref()))
            || matches_word(&self.teams, account.owned_by.as_ref().and_then(|owned| owned.team.as_deref()))
    }
}

fn matches_word(patterns: &[String], word: Option<&str>) -> bool {
    word.is_some_and(|word| patterns.iter().any(|pattern| WildMatch::new(pattern).matches(word)))
}

/// A pattern names an OU with or without a slash at its end: `…/ou-x`, `…/ou-x/` and `…/ou-x/*` all hold the accounts
/// directly in it.
fn matches_ou(patterns: &[String], account: &Account) -> bool {
    let path = account.ou_path.as_deref().unwrap_or_default();
    patterns.iter().any(|pattern| {
        let pattern = WildMatch::new(pattern);
        pattern.matches(path) || pattern.matches(&format!("{path}/"))
    })
}

/// Regions that are left out for some accounts.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ExcludeRegions {
    /// The OU paths whose accounts this is for; `["*"]` for all.
    pub ou_paths: Vec<String>,
    /// The regions, with wildcards.
    pub regions: Vec<String>,
}

/// While layers are merged, organizations are a table by name, so that a variable or a flag can address one of them; in
/// the program they are a list, in the order of the file.
pub(super) mod by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Organization;

    #[derive(Deserialize)]
    struct Numbered {
        #[serde(rename = "#")]
        position: usize,
        #[serde(flatten)]
        rest: serde_json::Map<String, serde_json::Value>,
    }

    pub fn serialize<S: Serializer>(organizations: &[Organization], serializer: S) -> Result<S::Ok, S::Error> {
        organizations.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Organization>, D::Error> {
        let mut numbered: Vec<Numbered> =
            BTreeMap::<String, Numbered>::deserialize(deserializer)?.into_values().collect();
        numbered.sort_by_key(|organization| organization.position);
        numbered
            .into_iter()
            .map(|one| Organization::deserialize(serde_json::Value::Object(one.rest)).map_err(serde::de::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountState;

    fn account(path: &str) -> Account {
        Account {
            id: "000000000001".parse().unwrap(),
            name: "payments-closed".into(),
            state: AccountState::Active,
            ou_path: Some(path.into()),
            tags: Some(BTreeMap::from([("audit".into(), "off".into())])),
            owned_by: None,
        }
    }

    #[test]
    fn an_ou_pattern_holds_the_accounts_in_the_ou_and_below_it() {
        let below = |pattern: &str, path: &str| matches_ou(&[pattern.to_owned()], &account(path));
        assert!(below("o-1/r-1/ou-a/*", "o-1/r-1/ou-a"));
        assert!(below("o-1/r-1/ou-a/*", "o-1/r-1/ou-a/ou-b"));
        assert!(below("o-1/r-1/ou-a", "o-1/r-1/ou-a"));
        assert!(!below("o-1/r-1/ou-a/*", "o-1/r-1/ou-ab"));
        assert!(!below("o-1/r-1/ou-a", "o-1/r-1/ou-a/ou-b"));
    }

    #[test]
    fn an_account_is_not_left_out_for_want_of_knowledge() {
        let tags = BTreeMap::from([("audit".to_owned(), "on".to_owned())]);
        let by_tag = Organization { include: Selector { tags, ..Selector::default() }, ..Organization::named("x") };
        let by_ou = Organization {
            include: Selector { ou_paths: vec!["o-1/*".into()], ..Selector::default() },
            ..Organization::named("x")
        };
        let unknown = Account { tags: None, ou_path: None, ..account("") };
        assert!(by_tag.excludes(&account("o-2/r-1")) && by_ou.excludes(&account("o-2/r-1")));
        assert!(!by_tag.excludes(&unknown) && !by_ou.excludes(&unknown));
    }

    #[test]
    fn each_selector_chooses_by_itself_and_exclude_wins_over_include() {
        let by_name = Selector { names: vec!["*-closed".into()], ..Selector::default() };
        let by_tag = Selector { tags: BTreeMap::from([("audit".into(), "o*".into())]), ..Selector::default() };
        let nothing = Selector { names: vec!["other".into()], ..Selector::default() };
        let organization = |include: &Selector, exclude: &Selector| Organization {
            include: include.clone(),
            exclude: exclude.clone(),
            ..Organization::named("x")
        };
        let account = account("o-1/r-1");
        assert!(!organization(&by_name, &Selector::default()).excludes(&account));
        assert!(organization(&nothing, &Selector::default()).excludes(&account));
        assert!(organization(&by_name, &by_tag).excludes(&account));
    }
}
