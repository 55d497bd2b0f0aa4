//! *assume*: whose credentials each account is audited with.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::limits::Calls;
use super::{DiscoverError, Engine, Limits, advise};
use crate::aws::{AssumeRole, Aws, AwsError, CallerIdentity, Operation, Page, Remedy, Session, policy};
use crate::config::{Organization, role_arn};
use crate::model::{AccountId, Partition, Region};

/// A session with less time left than this is replaced before it is used.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// Gives out sessions of one organization.
pub struct Sessions<'a> {
    aws: &'a Aws,
    limits: &'a Limits,
    organization: &'a Organization,
    caller: CallerIdentity,
    /// The account of the reader role, where there is one, its session, and when that was given.
    reader: Option<(AccountId, Mutex<(Session, Instant)>)>,
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
        // Who is charged for this call is what it asks.
        let caller = limits.in_visit(deadline).call(Operation::GetCallerIdentity, identity).await?;
        let mut sessions = Self { aws, limits, organization, caller, reader: None };
        if let Some(arn) = &organization.reader_role_arn {
            let session = sessions.assume_reader(arn, deadline).await?;
            let identity = || aws.caller_identity(&session);
            let account = limits.in_visit(deadline).call(Operation::GetCallerIdentity, identity).await?.account;
            sessions.reader = Some((account, Mutex::new((session, Instant::now()))));
        }
        Ok(sessions)
    }

    /// The same, for whoever does something beside a scan.
    ///
    /// # Errors
    /// As [`Sessions::begin`], with what to do about it.
    pub async fn of(engine: &'a Engine, limits: &'a Limits) -> Result<Self, DiscoverError> {
        let deadline = Instant::now() + engine.limits.visit_deadline.0;
        let sessions = Self::begin(&engine.aws, limits, &engine.organization, deadline).await;
        sessions.map_err(|error| advise(&error, "finding out who we are", None, None))
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

    /// Calls that read the organization: the account that they are made from is charged for them.
    pub fn reading(&self, deadline: Instant) -> Calls<'a> {
        self.limits.from_caller(self.reader_account(), deadline)
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
        if self.is_ending(&session.0, session.1) {
            *session = (self.assume_reader(arn, deadline).await?, Instant::now());
        }
        Ok(session.0.clone())
    }

    /// Enters an account, for one visit.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn enter(&self, account: AccountId, deadline: Instant) -> Result<Entered<'_>, AwsError> {
        self.enter_to(account, false, deadline).await
    }

    /// Enters an account, to read findings.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn enter_to_read_findings(&self, account: AccountId, deadline: Instant) -> Result<Entered<'_>, AwsError> {
        self.enter_to(account, true, deadline).await
    }

    async fn enter_to(
        &self,
        account: AccountId,
        reads_findings: bool,
        deadline: Instant,
    ) -> Result<Entered<'_>, AwsError> {
        let session = self.member(account, reads_findings, deadline).await?;
        let calls = self.limits.in_visit(deadline);
        let session = Mutex::new((0, session, Instant::now()));
        Ok(Entered { sessions: self, account, reads_findings, deadline, calls, session })
    }

    /// A session in an account: the caller's or the reader's own where it is theirs, else the member role's.
    async fn member(&self, account: AccountId, reads_findings: bool, deadline: Instant) -> Result<Session, AwsError> {
        if account == self.caller.account {
            return Ok(Session::Caller);
        }
        if account == self.reader_account() {
            return self.reader(deadline).await;
        }
        let role_arn = self.organization.member_role_arn(self.partition().as_str(), account.as_str());
        self.assume(role_arn, policy::session_policy(reads_findings), deadline).await
    }

    /// A session of a role of an account, narrowed where the configuration says so.
    async fn assume(&self, role_arn: String, narrowed: String, deadline: Instant) -> Result<Session, AwsError> {
        let (from, charged) = if self.organization.chain_roles {
            (self.reader(deadline).await?, self.reader_account())
        } else {
            (Session::Caller, self.caller.account)
        };
        let session_policy = self.organization.session_policy.then_some(narrowed);
        let external_id = self.organization.external_id.clone();
        let request = AssumeRole { external_id, session_policy, ..self.request(role_arn) };
        let calls = self.limits.from_caller(charged, deadline);
        calls.call(Operation::AssumeRole, || self.aws.assume_role(&from, &request)).await
    }

    /// A session of the role that changes things, which is assumed in every account: the caller's own may change nothing.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn changing(&self, account: AccountId, role: &str, deadline: Instant) -> Result<Session, AwsError> {
        self.in_role(account, role, policy::remediation_session_policy(), deadline).await
    }

    /// A session of the role that changes things, which may archive findings and no more.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn reviewing(&self, account: AccountId, role: &str, deadline: Instant) -> Result<Session, AwsError> {
        self.in_role(account, role, policy::review_session_policy(), deadline).await
    }

    /// A session of the role that imports findings into Security Hub, which is assumed in every account.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    #[cfg(feature = "security-hub")]
    pub async fn importing(&self, account: AccountId, role: &str, deadline: Instant) -> Result<Session, AwsError> {
        self.in_role(account, role, policy::security_hub_session_policy(), deadline).await
    }

    /// A session of a role that is assumed in every account, the caller's own included.
    async fn in_role(
        &self,
        account: AccountId,
        role: &str,
        narrowed: String,
        deadline: Instant,
    ) -> Result<Session, AwsError> {
        let role_arn = role_arn(role, self.partition().as_str(), account.as_str());
        self.assume(role_arn, narrowed, deadline).await
    }

    async fn assume_reader(&self, arn: &str, deadline: Instant) -> Result<Session, AwsError> {
        let request = self.request(arn.to_owned());
        let assume = || self.aws.assume_role(&Session::Caller, &request);
        self.limits.from_caller(self.caller.account, deadline).call(Operation::AssumeRole, assume).await
    }

    /// Whether a session has little time left: by how long it has been ours, because our clock and AWS's may disagree.
    fn is_ending(&self, session: &Session, given: Instant) -> bool {
        match session {
            Session::Caller => false,
            Session::Assumed(_) => given.elapsed() + RENEW_BEFORE >= self.organization.session_duration.0,
        }
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

/// An account that was entered, for as long as its visit lasts: one session, renewed where AWS says that it has ended. It is
/// held in memory only, and wiped when it is dropped.
pub struct Entered<'a> {
    sessions: &'a Sessions<'a>,
    account: AccountId,
    reads_findings: bool,
    deadline: Instant,
    calls: Calls<'a>,
    /// How often it was renewed, the session, and when it was given.
    session: Mutex<(u32, Session, Instant)>,
}

impl Entered<'_> {
    /// Reads a listing of the account itself to its end.
    ///
    /// # Errors
    /// As [`Calls::all_pages`], or where the session has ended and another cannot be had.
    pub async fn all_pages<T, F, Fut>(&self, operation: Operation, page: F) -> Result<Vec<T>, AwsError>
    where
        F: Fn(Session, Option<String>) -> Fut,
        Fut: Future<Output = Result<Page<T>, AwsError>>,
    {
        let (calls, page) = (&self.calls, &page);
        self.renewing(|session| async move { calls.all_pages(operation, |token| page(session.clone(), token)).await })
            .await
    }

    /// Reads a listing of one of the account's regions to its end.
    ///
    /// # Errors
    /// As [`Entered::all_pages`].
    pub async fn all_pages_in<T, F, Fut>(
        &self,
        region: &Region,
        operation: Operation,
        page: F,
    ) -> Result<Vec<T>, AwsError>
    where
        F: Fn(Session, Option<String>) -> Fut,
        Fut: Future<Output = Result<Page<T>, AwsError>>,
    {
        let (calls, page) = (&self.calls.in_region(region), &page);
        self.renewing(|session| async move { calls.all_pages(operation, |token| page(session.clone(), token)).await })
            .await
    }

    /// Makes one call to the account itself.
    ///
    /// # Errors
    /// As [`Calls::call`], or where the session has ended and another cannot be had.
    pub async fn call<T, F, Fut>(&self, operation: Operation, attempt: F) -> Result<T, AwsError>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let (calls, attempt) = (&self.calls, &attempt);
        self.renewing(|session| async move { calls.call(operation, || attempt(session.clone())).await }).await
    }

    /// Makes one call to one of the account's regions.
    ///
    /// # Errors
    /// As [`Entered::call`].
    pub async fn call_in<T, F, Fut>(&self, region: &Region, operation: Operation, attempt: F) -> Result<T, AwsError>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let (calls, attempt) = (&self.calls.in_region(region), &attempt);
        self.renewing(|session| async move { calls.call(operation, || attempt(session.clone())).await }).await
    }

    /// Does something with the session; and again with another, where AWS says that it has ended.
    async fn renewing<T, Fut>(&self, attempt: impl Fn(Session) -> Fut) -> Result<T, AwsError>
    where
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let (renewals, session) = self.session().await?;
        match attempt(session).await {
            Err(error) if error.remedy == Remedy::FreshCredentials => attempt(self.renew(renewals).await?).await,
            answer => answer,
        }
    }

    async fn session(&self) -> Result<(u32, Session), AwsError> {
        let session = self.session.lock().await;
        if self.sessions.is_ending(&session.1, session.2) {
            let renewals = session.0;
            drop(session);
            return Ok((renewals + 1, self.renew(renewals).await?));
        }
        Ok((session.0, session.1.clone()))
    }

    /// Another session, if nobody has renewed it since it was seen to have ended: one for all regions that wait for it.
    async fn renew(&self, seen: u32) -> Result<Session, AwsError> {
        let mut session = self.session.lock().await;
        if session.0 == seen {
            *session = (
                seen + 1,
                self.sessions.member(self.account, self.reads_findings, self.deadline).await?,
                Instant::now(),
            );
        }
        Ok(session.1.clone())
    }
}
