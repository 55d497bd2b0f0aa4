//! *discover*: which organization, who may own its analyzers, and every account, page by page.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::limits::{MOST_PAGES, endless};
use super::{Selection, Sessions};
use crate::aws::{Aws, AwsError, Operation, Session};
use crate::config::Organization;
use crate::model::{Account, AccountId, AccountState, Discovered, ErrorKind, Scope};

/// The organization cannot be read, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiscoverError(pub String);

/// Turns a failure of a call into advice.
pub fn advise(error: &AwsError, what: &str, reader: Option<AccountId>, management: Option<AccountId>) -> DiscoverError {
    let advice = match error.kind {
        ErrorKind::Credentials => {
            "check the credentials: `profile`, AWS_PROFILE, AWS_ACCESS_KEY_ID, the instance's or the pod's role"
                .to_owned()
        }
        ErrorKind::RoleNotAssumable => {
            "check `reader_role_arn`, its trust policy, and that the caller may sts:AssumeRole it".to_owned()
        }
        ErrorKind::AccessDenied | ErrorKind::ScpDenied => {
            let reader = reader.map_or_else(|| "the caller".to_owned(), |account| format!("account {account}"));
            let management = management.map_or_else(String::new, |account| format!(" ({account})"));
            format!(
                "{reader} may not read the organization: use credentials of the management account{management} or of a \
                 delegated administrator, or set `reader_role_arn` to a role there; `trustwatch policy` prints what it \
                 needs"
            )
        }
        ErrorKind::Network | ErrorKind::Timeout => {
            "check the network: DNS, HTTPS_PROXY, VPC endpoints, AWS_ENDPOINT_URL".to_owned()
        }
        ErrorKind::MalformedResponse => {
            "this is not what AWS's API promises: check for a proxy or an AWS_ENDPOINT_URL in between, and for a newer \
             trustwatch"
                .to_owned()
        }
        _ => "this is AWS's answer; try again, and see the log for what came before".to_owned(),
    };
    DiscoverError(format!("{what}: {error}; {advice}"))
}

/// An organization, or a standalone account.
pub struct Which {
    /// AWS's id of the organization, or `account:<id>`.
    pub id: String,
    /// The management account, where there is one.
    management: Option<AccountId>,
}

/// Asks AWS which organization this is.
///
/// # Errors
/// Where AWS does not say.
pub async fn which(aws: &Aws, sessions: &Sessions<'_>, deadline: Instant) -> Result<Which, DiscoverError> {
    let reader_account = sessions.reader_account();
    let failed = |error: AwsError| advise(&error, "reading the organization", Some(reader_account), None);
    let reader = sessions.reader(deadline).await.map_err(failed)?;
    let describe = || aws.describe_organization(&reader);
    let described = sessions.reading(deadline).call(Operation::DescribeOrganization, describe).await.map_err(failed)?;
    Ok(match described {
        Some(described) => Which { id: described.id, management: Some(described.management) },
        None => Which { id: format!("account:{reader_account}"), management: None },
    })
}

/// Reads the organization and the owners of its analyzers.
///
/// # Errors
/// Where AWS does not say which organization this is.
pub async fn organization(aws: &Aws, sessions: &Sessions<'_>, deadline: Instant) -> Result<Discovered, DiscoverError> {
    let reader_account = sessions.reader_account();
    let Which { id: organization_id, management } = which(aws, sessions, deadline).await?;
    let Some(management) = management else {
        warn!(account.id = %reader_account, "the account belongs to no organization: it alone is audited");
        return Ok(Discovered { organization_id, management: None, owners: Vec::new(), owners_known: true });
    };
    let failed = |error: AwsError| advise(&error, "reading the organization", Some(reader_account), None);
    let reader = sessions.reader(deadline).await.map_err(failed)?;
    let calls = sessions.reading(deadline);
    let list = |token| aws.list_delegated_administrators(&reader, token);
    let delegated = calls.all_pages(Operation::ListDelegatedAdministrators, list).await;
    let owners_known = delegated.is_ok();
    let delegated = delegated.unwrap_or_else(|error| {
        warn!(error.kind = %error.kind, %error, "the delegated administrators cannot be listed: the organization's analyzers may be out of sight");
        Vec::new()
    });
    let mut owners = vec![management];
    owners.extend(delegated.into_iter().filter(|id| *id != management));
    Ok(Discovered { organization_id, management: Some(management), owners, owners_known })
}

/// Lists accounts into a channel: the owners of analyzers first, because the verdict on the others needs them.
pub struct Lister<'a> {
    pub aws: &'a Aws,
    pub sessions: &'a Sessions<'a>,
    pub organization: &'a Organization,
    pub discovered: &'a Discovered,
    pub selection: &'a Selection,
    pub deadline: Instant,
}

impl Lister<'_> {
    /// Sends every account that is to be visited once. Ends early where nobody listens any more.
    ///
    /// # Errors
    /// Where the list cannot be read to its end, or lacks an account that was asked for.
    pub async fn run(&self, accounts: &mpsc::Sender<Account>) -> Result<(), DiscoverError> {
        let Some(management) = self.discovered.management else {
            let id = self.sessions.reader_account();
            let name = "standalone".to_owned();
            let mut account =
                Account { id, name, state: AccountState::Active, ou_path: None, tags: None, owned_by: None };
            account.owned_by = self.organization.ownership.of(&account);
            if !self.selection.includes(&account) {
                let error = format!("account {id} is in no organization, so it is the only one that can be selected");
                return Err(DiscoverError(error));
            }
            let _ = accounts.send(account).await;
            return Ok(());
        };
        let reader_account = self.sessions.reader_account();
        let failed = |error: AwsError| advise(&error, "listing the accounts", Some(reader_account), Some(management));
        let calls = self.sessions.reading(self.deadline);
        let mut sent = HashSet::new();
        let mut ou_paths = None;
        for owner in &self.discovered.owners {
            let reader = self.sessions.reader(self.deadline).await.map_err(failed)?;
            let describe = || self.aws.describe_account(&reader, *owner);
            match calls.call(Operation::DescribeAccount, describe).await {
                // Without a list it would not come at all, and nobody would know why others are unknown.
                Err(error) if !self.reads_list() => return Err(failed(error)),
                // It will come with the list.
                Err(error) => warn!(account.id = %owner, error.kind = %error.kind, %error, "cannot be described"),
                Ok(account) => {
                    sent.insert(account.id);
                    let account = self.complete(account, &reader, &mut ou_paths).await;
                    if accounts.send(account).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        if !self.reads_list() {
            for id in self.selection.accounts.iter().filter(|id| !sent.contains(*id)) {
                let what = format!("describing account {id}");
                let failed = |error: AwsError| match error.code.as_deref() {
                    Some("AccountNotFoundException") => self.not_a_member(*id),
                    _ => advise(&error, &what, Some(reader_account), Some(management)),
                };
                let reader = self.sessions.reader(self.deadline).await.map_err(failed)?;
                let describe = || self.aws.describe_account(&reader, *id);
                let account = calls.call(Operation::DescribeAccount, describe).await.map_err(failed)?;
                let account = self.complete(account, &reader, &mut ou_paths).await;
                if accounts.send(account).await.is_err() {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let mut next_token: Option<String> = None;
        let (mut listed, mut selected) = (0, 0);
        for _ in 0..MOST_PAGES {
            let reader = self.sessions.reader(self.deadline).await.map_err(failed)?;
            let list = || self.aws.list_accounts(&reader, next_token.clone());
            let page = calls.call(Operation::ListAccounts, list).await.map_err(failed)?;
            listed += page.items.len();
            for account in page.items {
                let is_new = sent.insert(account.id);
                if !is_new && self.selection.scope() == Scope::All {
                    continue;
                }
                let account = self.complete(account, &reader, &mut ou_paths).await;
                let is_selected = self.selection.includes(&account);
                selected += usize::from(is_selected);
                // Owners that could not be described come all the same: the verdict on the others needs them.
                if !is_new || !(is_selected || self.discovered.owners.contains(&account.id)) {
                    continue;
                }
                if accounts.send(account).await.is_err() {
                    return Ok(());
                }
            }
            match page.next_token {
                None if listed == 0 => {
                    let error = "listing the accounts: the list is empty, which is not believed; no account was closed";
                    return Err(DiscoverError(error.into()));
                }
                None if selected == 0 && self.selection.scope() == Scope::Partial => {
                    let ous = self.selection.ous.join(", ");
                    return Err(DiscoverError(format!(
                        "no account is below {ous}; expected the id of an OU or a root"
                    )));
                }
                None => {
                    let missing = self.selection.accounts.iter().find(|id| !sent.contains(*id));
                    return missing.map_or(Ok(()), |id| Err(self.not_a_member(*id)));
                }
                same if same == next_token => break,
                next => next_token = next,
            }
        }
        Err(failed(endless(Operation::ListAccounts)))
    }

    /// Whether the list of accounts is read. Accounts that are named need none: that of a large organization takes a minute.
    fn reads_list(&self) -> bool {
        self.selection.scope() == Scope::All || !self.selection.ous.is_empty()
    }

    fn not_a_member(&self, account: AccountId) -> DiscoverError {
        DiscoverError(format!("account {account} is not in organization {}", self.discovered.organization_id))
    }

    /// Adds what the listing lacks: the OU path where AWS leaves `Paths` out, and tags where they are selected by.
    async fn complete(
        &self,
        mut account: Account,
        reader: &Session,
        ou_paths: &mut Option<BTreeMap<AccountId, String>>,
    ) -> Account {
        if account.ou_path.is_none() {
            if ou_paths.is_none() {
                let walked = self.walk(reader).await.unwrap_or_else(|error| {
                    warn!(error.kind = %error.kind, %error, "the OUs cannot be read: accounts without a path stay without one");
                    BTreeMap::new()
                });
                *ou_paths = Some(walked);
            }
            account.ou_path = ou_paths.as_ref().and_then(|paths| paths.get(&account.id).cloned());
        }
        if self.organization.reads_tags() {
            let list = |token| self.aws.list_tags(reader, account.id, token);
            match self.sessions.reading(self.deadline).all_pages(Operation::ListTagsForResource, list).await {
                Ok(tags) => account.tags = Some(tags.into_iter().collect()),
                // An account that cannot be shown to be left out is audited.
                Err(error) => {
                    warn!(account.id = %account.id, error.kind = %error.kind, %error, "its tags cannot be read");
                }
            }
        }
        account.owned_by = self.organization.ownership.of(&account);
        account
    }

    /// Walks the tree of OUs, for the path of every account.
    async fn walk(&self, reader: &Session) -> Result<BTreeMap<AccountId, String>, AwsError> {
        let (aws, calls) = (self.aws, self.sessions.reading(self.deadline));
        let roots = calls.all_pages(Operation::ListRoots, |token| aws.list_roots(reader, token)).await?;
        let id = &self.discovered.organization_id;
        let mut to_visit: Vec<(String, String)> =
            roots.into_iter().map(|root| (format!("{id}/{}", root.id), root.id)).collect();
        let mut paths = BTreeMap::new();
        while let Some((path, parent)) = to_visit.pop() {
            let list = |token| aws.list_accounts_of(reader, &parent, token);
            let accounts = calls.all_pages(Operation::ListAccountsForParent, list).await?;
            paths.extend(accounts.into_iter().map(|account| (account, path.clone())));
            let list = |token| aws.list_ous(reader, &parent, token);
            let ous = calls.all_pages(Operation::ListOrganizationalUnitsForParent, list).await?;
            to_visit.extend(ous.into_iter().map(|ou| (format!("{path}/{}", ou.id), ou.id)));
        }
        Ok(paths)
    }
}
