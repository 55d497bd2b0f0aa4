//! `[organizations.ownership]`: who answers for accounts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Account, AccountId, OwnedBy};

/// Who answers for accounts: `account_owner` and `team` in `current_coverage`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Ownership {
    /// The tag of the account in Organizations that says who answers for it. Reading tags costs a call for each account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_tag: Option<String>,
    /// The tag that says in which team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_tag: Option<String>,
    /// A CSV file with the columns `account_id`, `account_owner` and `team`, in any order: what it says counts for more than a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// What the file says.
    #[serde(skip)]
    pub listed: BTreeMap<AccountId, OwnedBy>,
}

impl Ownership {
    /// Whether nothing says who answers for accounts.
    pub(super) fn is_empty(&self) -> bool {
        !self.reads_tags() && self.file.is_none()
    }

    /// Whether it takes the tags of accounts.
    pub(super) const fn reads_tags(&self) -> bool {
        self.owner_tag.is_some() || self.team_tag.is_some()
    }

    /// Who answers for an account; `None` where its tags are asked for and could not be read.
    pub fn of(&self, account: &Account) -> Option<OwnedBy> {
        let tag = |name: &Option<String>| {
            let value = account.tags.as_ref()?.get(name.as_ref()?)?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let listed = self.listed.get(&account.id);
        if listed.is_none() && self.reads_tags() && account.tags.is_none() {
            return None;
        }
        Some(OwnedBy {
            owner: listed.and_then(|listed| listed.owner.clone()).or_else(|| tag(&self.owner_tag)),
            team: listed.and_then(|listed| listed.team.clone()).or_else(|| tag(&self.team_tag)),
        })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub(super) fn read(text: &str) -> Result<BTreeMap<AccountId, OwnedBy>, String> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let names = reader.headers().map_err(|error| error.to_string())?.clone();
        let column = |wanted: &str| names.iter().position(|name| name.trim_start_matches('\u{feff}') == wanted);
        let id = column("account_id").ok_or("the column `account_id` is missing from its first line")?;
        let (owner, team) = (column("account_owner"), column("team"));
        if owner.is_none() && team.is_none() {
            return Err("it has neither a column `account_owner` nor a column `team`".to_owned());
        }
        let known = ["account_id", "account_owner", "team"];
        if let Some(other) =
            names.iter().map(|name| name.trim_start_matches('\u{feff}')).find(|name| !known.contains(name))
        {
            return Err(format!("unknown column `{other}`; known: {}", known.join(", ")));
        }
        let mut listed = BTreeMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let line = record.position().map_or(0, csv::Position::line);
            let account: AccountId =
                record[id].parse().map_err(|error| format!("line {line}: `{}`: {error}", &record[id]))?;
            let cell =
                |column: Option<usize>| column.map(|column| record[column].to_owned()).filter(|text| !text.is_empty());
            let owned_by = OwnedBy { owner: cell(owner), team: cell(team) };
            if listed.insert(account, owned_by).is_some() {
                return Err(format!("line {line}: account {account} is there twice"));
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountState;

    fn account(tags: Option<&[(&str, &str)]>) -> Account {
        Account {
            id: "111111111111".parse().unwrap(),
            name: String::new(),
            state: AccountState::Active,
            ou_path: None,
            tags: tags.map(|tags| tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            owned_by: None,
        }
    }

    #[test]
    fn the_list_counts_for_more_than_tags_and_what_could_not_be_read_is_not_known() {
        let by_tag =
            Ownership { owner_tag: Some("owner".into()), team_tag: Some("team".into()), ..Ownership::default() };
        let tagged = account(Some(&[("owner", " ann "), ("team", "")]));
        assert_eq!(by_tag.of(&tagged), Some(OwnedBy { owner: Some("ann".into()), team: None }));
        assert_eq!(by_tag.of(&account(None)), None);
        assert_eq!(Ownership::default().of(&account(None)), Some(OwnedBy::default()));
        let listed = Ownership::read("team,account_id\nshop,111111111111\n").unwrap();
        let both = Ownership { listed, ..by_tag };
        assert_eq!(both.of(&tagged), Some(OwnedBy { owner: Some("ann".into()), team: Some("shop".into()) }));
        assert_eq!(both.of(&account(None)).unwrap().team.as_deref(), Some("shop"));
    }

    #[test]
    fn a_file_with_a_fault_says_where() {
        for (text, problem) in [
            ("id,team\n1,x\n", "the column `account_id` is missing"),
            ("account_id\n111111111111\n", "neither a column"),
            ("account_id,team,mail\n111111111111,x,y\n", "unknown column `mail`"),
            ("account_id,team\n111111111111,x\n12,y\n", "line 3: `12`"),
            ("account_id,team\n111111111111,x\n111111111111,y\n", "line 3: account 111111111111 is there twice"),
            ("account_id,team\n111111111111\n", "found record with 1 fields"),
        ] {
            let said = Ownership::read(text).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
    }
}
