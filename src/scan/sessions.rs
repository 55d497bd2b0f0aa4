//! *assume*: whose credentials each account is audited with.

use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Limits;
use crate::aws::{AssumeRole, Aws, AwsError, CallerIdentity, Operation, Session, policy};
use crate::config::Organization;
use crate::model::{AccountId, Partition};

/// A session with less time left than this is replaced before it is used.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// Gives out sessions of one organization.
pub struct Sessions<'a> {
    aws: &'a Aws,
    limits: &'a Limits,
    organization: &'a Organization,
    caller: CallerIdentity,
    /// The reader role's session, where there is one, and the account it is in.
    reader: Option<(AccountId, Mutex<Session>)>,
}

impl<'a> Sessions<'a> {
    /// Finds out who we are, and assumes the reader role where one is configured.
    ///
    /// # Errors
    /// Where the caller has no usable credentials, or the reader role cannot be assumed.
    pub async fn begin(
        aws: &'a Aws,
        limits: &'a Limits,
        organization: &'a Organization,
        deadline: Instant,
    ) -> Result<Self, AwsError> {
        let identity = || aws.caller_identity(&Session::Caller);
        let caller = limits.call(Operation::GetCallerIdentity, deadline, identity).await?;
        let mut sessions = Self { aws, limits, organization, caller, reader: None };
        if let Some(arn) = &organization.reader_role_arn {
            let session = sessions.assume_reader(arn, deadline).await?;
            let account = limits.call(Operation::GetCallerIdentity, deadline, || aws.caller_identity(&session));
            sessions.reader = Some((account.await?.account, Mutex::new(session)));
        }
        Ok(sessions)
    }

    /// The caller.
    pub fn caller(&self) -> &CallerIdentity {
        &self.caller
    }

    /// The partition that the caller lives in.
    pub fn partition(&self) -> Partition {
        Partition::of_arn(&self.caller.arn).unwrap_or_else(|| self.aws.partition())
    }

    /// The account that the organization is read from.
    pub fn reader_account(&self) -> AccountId {
        self.reader.as_ref().map_or(self.caller.account, |(account, _)| *account)
    }

    /// The session that the organization is read with.
    ///
    /// # Errors
    /// Where the reader role's session has to be renewed and cannot be.
    pub async fn reader(&self, deadline: Instant) -> Result<Session, AwsError> {
        let (Some((_, session)), Some(arn)) = (&self.reader, &self.organization.reader_role_arn) else {
            return Ok(Session::Caller);
        };
        let mut session = session.lock().await;
        if is_ending(&session) {
            *session = self.assume_reader(arn, deadline).await?;
        }
        Ok(session.clone())
    }

    /// A session in an account: the caller's or the reader's own where it is theirs, else the member role's.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn member(&self, account: AccountId, deadline: Instant) -> Result<Session, AwsError> {
        if account == self.caller.account {
            return Ok(Session::Caller);
        }
        if account == self.reader_account() {
            return self.reader(deadline).await;
        }
        let from = if self.organization.chain_roles { self.reader(deadline).await? } else { Session::Caller };
        let role_arn = self.organization.member_role_arn(self.partition().as_str(), account.as_str());
        let session_policy = self.organization.session_policy.then(policy::session_policy);
        let external_id = self.organization.external_id.clone();
        let request = AssumeRole { external_id, session_policy, ..self.request(role_arn) };
        self.limits.call(Operation::AssumeRole, deadline, || self.aws.assume_role(&from, &request)).await
    }

    async fn assume_reader(&self, arn: &str, deadline: Instant) -> Result<Session, AwsError> {
        let request = self.request(arn.to_owned());
        let assume = || self.aws.assume_role(&Session::Caller, &request);
        self.limits.call(Operation::AssumeRole, deadline, assume).await
    }

    fn request(&self, role_arn: String) -> AssumeRole {
        AssumeRole {
            role_arn,
            session_name: self.organization.session_name.clone(),
            external_id: None,
            source_identity: self.organization.source_identity.clone(),
            duration: self.organization.session_duration.0,
            session_policy: None,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a session's end is an instant of AWS's clock, not of a scan's")]
fn is_ending(session: &Session) -> bool {
    match session {
        Session::Caller => false,
        Session::Assumed(credentials) => {
            credentials.expiry().is_some_and(|expiry| expiry < SystemTime::now() + RENEW_BEFORE)
        }
    }
}
