//! STS: who we are, and becoming somebody else.

use std::time::Duration;

use aws_credential_types::Credentials;

use super::client::send;
use super::{Aws, AwsError, Operation, Session};
use crate::model::AccountId;

/// Who a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The account.
    pub account: AccountId,
    /// The ARN of the user, role session or other principal.
    pub arn: String,
}

/// What to assume, and how.
#[derive(Debug, Clone)]
pub struct AssumeRole {
    /// The role.
    pub role_arn: String,
    /// As CloudTrail will show it.
    pub session_name: String,
    /// As the trust policy asks for it. Held as text only for as long as the request is built.
    pub external_id: Option<crate::config::Secret>,
    /// As the trust policy asks for it.
    pub source_identity: Option<String>,
    /// How long the session lasts.
    pub duration: Duration,
    /// Narrows what the role allows.
    pub session_policy: Option<String>,
}

impl Aws {
    /// `sts:GetCallerIdentity`. It needs no permission.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn caller_identity(&self, session: &Session) -> Result<CallerIdentity, AwsError> {
        const OPERATION: Operation = Operation::GetCallerIdentity;
        let output = send!(self.sts.get_caller_identity(), aws_sdk_sts, session)
            .map_err(|error| AwsError::classify(OPERATION, &error))?;
        let account = output.account.as_deref().unwrap_or_default().parse();
        let account =
            account.map_err(|error| AwsError::malformed(OPERATION, format!("the answer's account: {error}")))?;
        Ok(CallerIdentity { account, arn: output.arn.unwrap_or_default() })
    }

    /// `sts:AssumeRole` at the regional endpoint, whose tokens are valid in every enabled region (those of the global
    /// endpoint are not valid in opt-in regions).
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn assume_role(&self, session: &Session, request: &AssumeRole) -> Result<Session, AwsError> {
        const OPERATION: Operation = Operation::AssumeRole;
        let seconds = i32::try_from(request.duration.as_secs()).unwrap_or(3600);
        let call = self
            .sts
            .assume_role()
            .role_arn(&request.role_arn)
            .role_session_name(&request.session_name)
            .duration_seconds(seconds)
            .set_external_id(request.external_id.as_ref().map(|id| id.expose().to_owned()))
            .set_source_identity(request.source_identity.clone())
            .set_policy(request.session_policy.clone());
        let output = send!(call, aws_sdk_sts, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let given =
            output.credentials.ok_or_else(|| AwsError::malformed(OPERATION, "the answer has no credentials"))?;
        let incomplete = [&given.access_key_id, &given.secret_access_key, &given.session_token];
        if incomplete.iter().any(|part| part.is_empty()) {
            return Err(AwsError::malformed(OPERATION, "the answer's credentials are incomplete"));
        }
        let expires = std::time::SystemTime::try_from(given.expiration).ok();
        let token = Some(given.session_token);
        let credentials = Credentials::new(given.access_key_id, given.secret_access_key, token, expires, "AssumeRole");
        Ok(Session::Assumed(credentials))
    }
}
