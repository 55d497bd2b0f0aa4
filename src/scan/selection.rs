//! Which accounts a scan visits.

use crate::model::{Account, AccountId, Scope};

/// Which accounts a scan visits: without any choice, all. The owners of the organization's analyzers come with every
/// choice, because the verdict on the others needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These accounts.
    pub accounts: Vec<AccountId>,
    /// The accounts anywhere below these OUs or roots: `ou-…`, `r-…`.
    pub ous: Vec<String>,
}

impl Selection {
    /// Whether every account is visited, or some.
    pub fn scope(&self) -> Scope {
        if self.accounts.is_empty() && self.ous.is_empty() { Scope::All } else { Scope::Partial }
    }

    /// Whether an account is visited. One whose OU could not be read is in none.
    pub fn includes(&self, account: &Account) -> bool {
        let below = |ou: &String| account.ou_path.iter().any(|path| path.split('/').any(|step| step == ou));
        self.scope() == Scope::All || self.accounts.contains(&account.id) || self.ous.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountState;

    fn account(id: &str, ou_path: Option<&str>) -> Account {
        Account {
            id: id.parse().unwrap(),
            name: String::new(),
            state: AccountState::Active,
            ou_path: ou_path.map(str::to_owned),
            tags: None,
            owned_by: None,
        }
    }

    #[test]
    fn an_ou_holds_everything_below_it_and_nothing_beside_it() {
        let selection = Selection { accounts: Vec::new(), ous: vec!["ou-a".into()] };
        assert_eq!(selection.scope(), Scope::Partial);
        assert!(selection.includes(&account("111111111111", Some("o-x/r-1/ou-a"))));
        assert!(selection.includes(&account("111111111111", Some("o-x/r-1/ou-a/ou-b"))));
        assert!(!selection.includes(&account("111111111111", Some("o-x/r-1/ou-ab"))));
        assert!(!selection.includes(&account("111111111111", None)));
    }

    #[test]
    fn without_a_choice_every_account_is_visited() {
        assert!(Selection::default().includes(&account("111111111111", None)));
        let chosen = Selection { accounts: vec!["222222222222".parse().unwrap()], ous: Vec::new() };
        assert!(!chosen.includes(&account("111111111111", None)));
        assert!(chosen.includes(&account("222222222222", None)));
    }
}
