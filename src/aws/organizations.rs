//! AWS Organizations: the accounts, the OUs, and who may own the organization's analyzers.

use aws_sdk_organizations::types as sdk;

use super::client::send;
use super::{Aws, AwsError, Operation, Page, Remedy, Session, token};
use crate::model::{Account, AccountId, AccountState};

/// The service principal under which Access Analyzer's administrator is registered.
pub const ACCESS_ANALYZER: &str = "access-analyzer.amazonaws.com";

/// AWS's largest page; the default is smaller for some operations.
const PAGE_SIZE: i32 = 20;

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationDescription {
    /// `o-…`
    pub id: String,
    /// The management account.
    pub management: AccountId,
}

/// A root or an OU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuNode {
    /// `r-…` or `ou-…`
    pub id: String,
}

impl Aws {
    /// `organizations:DescribeOrganization`; `None` for an account that is in no organization. Any member may ask.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn describe_organization(&self, session: &Session) -> Result<Option<OrganizationDescription>, AwsError> {
        const OPERATION: Operation = Operation::DescribeOrganization;
        let output = match send!(self.organizations.describe_organization(), aws_sdk_organizations, session) {
            Ok(output) => output,
            Err(error) => {
                let error = AwsError::classify(OPERATION, &error);
                let standalone = error.code.as_deref() == Some("AWSOrganizationsNotInUseException");
                return if standalone { Ok(None) } else { Err(error) };
            }
        };
        let described = output.organization.and_then(|organization| {
            let management = organization.master_account_id?.parse().ok()?;
            Some(OrganizationDescription { id: organization.id.filter(|id| !id.is_empty())?, management })
        });
        let incomplete = || AwsError::malformed(OPERATION, "the answer has no id or no management account");
        described.ok_or_else(incomplete).map(Some)
    }

    /// One page of `organizations:ListAccounts`.
    ///
    /// # Errors
    /// As every call: see [`AwsError`]. An account with neither `State` nor `Status` is an error that no retry mends,
    /// never an inactive account.
    pub async fn list_accounts(
        &self,
        session: &Session,
        next_token: Option<String>,
    ) -> Result<Page<Account>, AwsError> {
        const OPERATION: Operation = Operation::ListAccounts;
        let call = self.organizations.list_accounts().max_results(PAGE_SIZE).set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        page(OPERATION, "Accounts", output.accounts, output.next_token, |account| read_account(OPERATION, account))
    }

    /// `organizations:DescribeAccount`.
    ///
    /// # Errors
    /// As [`Aws::list_accounts`].
    pub async fn describe_account(&self, session: &Session, account: AccountId) -> Result<Account, AwsError> {
        const OPERATION: Operation = Operation::DescribeAccount;
        let call = self.organizations.describe_account().account_id(account.as_str());
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let account = output.account.ok_or_else(|| AwsError::malformed(OPERATION, "the answer has no account"))?;
        read_account(OPERATION, account)
    }

    /// One page of `organizations:ListDelegatedAdministrators` for Access Analyzer.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_delegated_administrators(
        &self,
        session: &Session,
        next_token: Option<String>,
    ) -> Result<Page<AccountId>, AwsError> {
        const OPERATION: Operation = Operation::ListDelegatedAdministrators;
        let call = self
            .organizations
            .list_delegated_administrators()
            .service_principal(ACCESS_ANALYZER)
            .max_results(PAGE_SIZE)
            .set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let administrators = output.delegated_administrators;
        page(OPERATION, "DelegatedAdministrators", administrators, output.next_token, |administrator| {
            read_id(OPERATION, administrator.id)
        })
    }

    /// One page of `organizations:ListAWSServiceAccessForOrganization`: whether Access Analyzer is among the services that the
    /// organization trusts.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_trusted_services(
        &self,
        session: &Session,
        next_token: Option<String>,
    ) -> Result<Page<String>, AwsError> {
        const OPERATION: Operation = Operation::ListAwsServiceAccess;
        let call = self
            .organizations
            .list_aws_service_access_for_organization()
            .max_results(PAGE_SIZE)
            .set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let services = output.enabled_service_principals;
        page(OPERATION, "EnabledServicePrincipals", services, output.next_token, |service| {
            service.service_principal.ok_or_else(|| AwsError::malformed(OPERATION, "a service has no principal"))
        })
    }

    /// One page of `organizations:ListRoots`.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_roots(&self, session: &Session, next_token: Option<String>) -> Result<Page<OuNode>, AwsError> {
        const OPERATION: Operation = Operation::ListRoots;
        let call = self.organizations.list_roots().max_results(PAGE_SIZE).set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        page(OPERATION, "Roots", output.roots, output.next_token, |root| read_node(OPERATION, root.id))
    }

    /// One page of `organizations:ListOrganizationalUnitsForParent`.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_ous(
        &self,
        session: &Session,
        parent: &str,
        next_token: Option<String>,
    ) -> Result<Page<OuNode>, AwsError> {
        const OPERATION: Operation = Operation::ListOrganizationalUnitsForParent;
        let call = self
            .organizations
            .list_organizational_units_for_parent()
            .parent_id(parent)
            .max_results(PAGE_SIZE)
            .set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        page(OPERATION, "OrganizationalUnits", output.organizational_units, output.next_token, |ou| {
            read_node(OPERATION, ou.id)
        })
    }

    /// One page of `organizations:ListAccountsForParent`: the accounts directly in a root or an OU.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_accounts_of(
        &self,
        session: &Session,
        parent: &str,
        next_token: Option<String>,
    ) -> Result<Page<AccountId>, AwsError> {
        const OPERATION: Operation = Operation::ListAccountsForParent;
        let call = self
            .organizations
            .list_accounts_for_parent()
            .parent_id(parent)
            .max_results(PAGE_SIZE)
            .set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        page(OPERATION, "Accounts", output.accounts, output.next_token, |account| read_id(OPERATION, account.id))
    }

    /// One page of `organizations:ListTagsForResource` for an account.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_tags(
        &self,
        session: &Session,
        account: AccountId,
        next_token: Option<String>,
    ) -> Result<Page<(String, String)>, AwsError> {
        const OPERATION: Operation = Operation::ListTagsForResource;
        let call = self.organizations.list_tags_for_resource().resource_id(account.as_str()).set_next_token(next_token);
        let output =
            send!(call, aws_sdk_organizations, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        page(OPERATION, "Tags", output.tags, output.next_token, |tag| Ok((tag.key, tag.value)))
    }
}

/// A listing's page. Organizations may answer with an empty page and a token; a page with neither a list nor a token is
/// no answer.
fn page<S, T>(
    operation: Operation,
    member: &str,
    items: Option<Vec<S>>,
    next_token: Option<String>,
    read: impl Fn(S) -> Result<T, AwsError>,
) -> Result<Page<T>, AwsError> {
    let next_token = token(next_token);
    if items.is_none() && next_token.is_none() {
        return Err(AwsError::malformed(operation, format!("the answer has no list `{member}`")));
    }
    let items = items.unwrap_or_default().into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Page { items, next_token })
}

fn read_id(operation: Operation, id: Option<String>) -> Result<AccountId, AwsError> {
    let id = id.unwrap_or_default();
    id.parse().map_err(|error: crate::model::InvalidAccountId| AwsError::malformed(operation, error.to_string()))
}

fn read_node(operation: Operation, id: Option<String>) -> Result<OuNode, AwsError> {
    let id = id.filter(|id| !id.is_empty());
    id.map(|id| OuNode { id }).ok_or_else(|| AwsError::malformed(operation, "a root or an OU has no id"))
}

fn read_account(operation: Operation, account: sdk::Account) -> Result<Account, AwsError> {
    let id = read_id(operation, account.id)?;
    // `State` replaced `Status`, which AWS retired on 2026-09-09.
    let word = match (&account.state, &account.status) {
        (Some(state), _) => state.as_str(),
        (None, Some(status)) => status.as_str(),
        (None, None) => {
            let message = format!("account {id} has neither State nor Status, so whether it is active is not known");
            return Err(AwsError { remedy: Remedy::Nothing, ..AwsError::malformed(operation, message) });
        }
    };
    let state: AccountState = word.parse().map_err(|error| AwsError {
        remedy: Remedy::Nothing,
        ..AwsError::malformed(operation, format!("account {id}: {error}"))
    })?;
    let ou_path = account.paths.unwrap_or_default().into_iter().next().map(|path| ou_path(&path, id));
    Ok(Account { id, name: account.name.unwrap_or_default(), state, ou_path, tags: None, owned_by: None })
}

/// `o-…/r-…/ou-…`: AWS ends a path with a slash, and with the account's own id before it.
fn ou_path(path: &str, id: AccountId) -> String {
    let path = path.trim_end_matches('/');
    path.strip_suffix(id.as_str()).unwrap_or(path).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_loses_its_slash_and_the_account() {
        let id: AccountId = "000000000001".parse().unwrap();
        for path in ["o-1/r-1/ou-1/000000000001/", "o-1/r-1/ou-1/", "o-1/r-1/ou-1"] {
            assert_eq!(ou_path(path, id), "o-1/r-1/ou-1");
        }
    }

    #[test]
    fn an_account_with_neither_state_nor_status_is_an_error_that_no_retry_mends() {
        let account = sdk::Account::builder().id("000000000001").name("x").build();
        let error = read_account(Operation::ListAccounts, account).unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(
            error.to_string(),
            "organizations:ListAccounts: account 000000000001 has neither State nor Status, so whether it is active \
             is not known"
        );
    }
}
