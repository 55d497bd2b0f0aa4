//! What an AWS call's failure means: one closed word, and whether another attempt can help.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::required::MissingMember;
use crate::model::{ErrorKind, Failure};

/// Defines the operations in one list: one that is not among [`Operation::ALL`] would have no rate and no cost.
macro_rules! operations {
    ($($variant:ident = $action:literal),+ $(,)?) => {
        /// The calls that the product makes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $( #[doc = concat!("`", $action, "`")] $variant ),+
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),+ ];

            /// The IAM action: `service:Operation`.
            pub const fn action(self) -> &'static str {
                match self { $( Self::$variant => $action ),+ }
            }
        }
    };
}

operations! {
    GetCallerIdentity = "sts:GetCallerIdentity",
    AssumeRole = "sts:AssumeRole",
    DescribeOrganization = "organizations:DescribeOrganization",
    ListAccounts = "organizations:ListAccounts",
    DescribeAccount = "organizations:DescribeAccount",
    ListDelegatedAdministrators = "organizations:ListDelegatedAdministrators",
    ListRoots = "organizations:ListRoots",
    ListOrganizationalUnitsForParent = "organizations:ListOrganizationalUnitsForParent",
    ListAccountsForParent = "organizations:ListAccountsForParent",
    ListTagsForResource = "organizations:ListTagsForResource",
    ListRegions = "account:ListRegions",
    ListAnalyzers = "access-analyzer:ListAnalyzers",
    ListAwsServiceAccess = "organizations:ListAWSServiceAccessForOrganization",
    GetAnalyzer = "access-analyzer:GetAnalyzer",
    CreateAnalyzer = "access-analyzer:CreateAnalyzer",
    DeleteAnalyzer = "access-analyzer:DeleteAnalyzer",
    GetFindingsStatistics = "access-analyzer:GetFindingsStatistics",
    ListFindings = "access-analyzer:ListFindings",
    ListFindingsV2 = "access-analyzer:ListFindingsV2",
    ListArchiveRules = "access-analyzer:ListArchiveRules",
    UpdateFindings = "access-analyzer:UpdateFindings",
    BatchImportFindings = "securityhub:BatchImportFindings",
}

/// What can mend a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing that we could do.
    Nothing,
    /// The same call again, later.
    Again,
    /// The same call signed with AWS's time: ours is wrong. The SDK reads it from the answer and keeps it.
    CorrectedTime,
    /// A new session: this one has ended.
    FreshCredentials,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", operation.action())]
pub struct AwsError {
    /// Which call.
    pub operation: Operation,
    /// What it means.
    pub kind: ErrorKind,
    /// AWS's code, where AWS answered.
    pub code: Option<String>,
    /// What AWS said, for a person.
    pub message: String,
    /// What can mend it.
    pub remedy: Remedy,
    /// How long AWS asked us to wait.
    pub retry_after: Option<Duration>,
    /// AWS's id of the request, where AWS answered.
    pub request_id: Option<String>,
}

impl AwsError {
    /// A failure that was found in an answer, not told by AWS.
    pub(super) fn malformed(operation: Operation, message: impl Into<String>) -> Self {
        Self {
            operation,
            kind: ErrorKind::MalformedResponse,
            code: None,
            message: message.into(),
            remedy: Remedy::Again,
            retry_after: None,
            request_id: None,
        }
    }

    /// Decides what a failure of the SDK means.
    pub(super) fn classify<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let code = error.code().map(str::to_owned);
        let response = error.raw_response();
        let status = response.map_or(0, |response| response.status().as_u16());
        let retry_after = response
            .and_then(|response| response.headers().get("retry-after"))
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        let aws_message = error.message().unwrap_or_default();
        let (kind, remedy) = match error {
            SdkError::TimeoutError(_) => (ErrorKind::Timeout, Remedy::Again),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => (ErrorKind::Timeout, Remedy::Again),
            _ if credentials_error(error).is_some_and(is_set_up_wrong) => (ErrorKind::Credentials, Remedy::Nothing),
            // An agent that restarts, a sidecar that is not up yet.
            _ if credentials_error(error).is_some() => (ErrorKind::Credentials, Remedy::Again),
            SdkError::DispatchFailure(_) => (ErrorKind::Network, Remedy::Again),
            SdkError::ConstructionFailure(_) => (ErrorKind::ServiceError, Remedy::Nothing),
            SdkError::ServiceError(_) if code.is_some() => kind_of_code(operation, error, status, aws_message),
            SdkError::ServiceError(_) | SdkError::ResponseError(_) if status >= 500 => {
                (ErrorKind::ServiceError, Remedy::Again)
            }
            SdkError::ServiceError(_) | SdkError::ResponseError(_) if status == 429 => {
                (ErrorKind::Throttled, Remedy::Again)
            }
            // An answer that is not the API's: a proxy's page, half a body, JSON without its members.
            _ => (ErrorKind::MalformedResponse, Remedy::Again),
        };
        let message = match (&code, aws_message) {
            (Some(code), "") => code.clone(),
            (Some(code), message) if message.contains("session policy") => format!(
                "{code}: {message}; trustwatch narrows its sessions itself: if nobody else narrows them, this is its fault, and \
                 `session_policy = false` helps"
            ),
            (Some(code), message) => format!("{code}: {message}"),
            (None, _) => plain_message(error, status),
        };
        let request_id = response
            .and_then(|response| REQUEST_ID.iter().find_map(|name| response.headers().get(*name)))
            .map(str::to_owned);
        Self { operation, kind, code, message, remedy, retry_after, request_id }
    }

    /// Whether AWS does not know the credentials *in this region*: what it answers in a region that the account has not
    /// opted in to, and to broken credentials anywhere.
    pub fn is_unrecognized_client(&self) -> bool {
        self.code.as_deref() == Some("UnrecognizedClientException")
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.remedy == Remedy::Again
    }

    /// The failure as a fact of a scan.
    pub fn into_failure(self) -> Failure {
        Failure { kind: self.kind, message: self.to_string() }
    }
}

/// The headers in which services give a request's id.
const REQUEST_ID: [&str; 2] = ["x-amzn-requestid", "x-amz-request-id"];

/// Every cause of an error, outermost first.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
}

/// The SDK reports credentials that could not be found or renewed as a request that could not be sent.
fn credentials_error<E>(error: &SdkError<E, HttpResponse>) -> Option<&CredentialsError>
where
    E: Error + Send + Sync + 'static,
{
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether there are no credentials, or none can come of how they are set up: then asking again helps nothing.
fn is_set_up_wrong(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
}

fn kind_of_code<E>(
    operation: Operation,
    error: &SdkError<E, HttpResponse>,
    status: u16,
    message: &str,
) -> (ErrorKind, Remedy)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error.code().unwrap_or_default() {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown" => (ErrorKind::Throttled, Remedy::Again),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" if is_scp(message) => {
            (ErrorKind::ScpDenied, Remedy::Nothing)
        }
        // STS has one code for a role that is missing and for a trust policy that refuses.
        "AccessDenied" | "AccessDeniedException" if operation == Operation::AssumeRole => {
            (ErrorKind::RoleNotAssumable, Remedy::Nothing)
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            (ErrorKind::AccessDenied, Remedy::Nothing)
        }
        "RegionDisabledException" => (ErrorKind::StsDisabledInRegion, Remedy::Nothing),
        "ExpiredToken" | "ExpiredTokenException" => (ErrorKind::Credentials, Remedy::FreshCredentials),
        // What a clock that is wrong leads to, and a wrong secret as well: one more attempt tells them apart.
        "RequestExpired" | "RequestTimeTooSkewed" | "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            (ErrorKind::Credentials, Remedy::CorrectedTime)
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "AuthFailure" => (ErrorKind::Credentials, Remedy::Nothing),
        "RequestTimeout" | "RequestTimeoutException" => (ErrorKind::Timeout, Remedy::Again),
        _ if status >= 500 => (ErrorKind::ServiceError, Remedy::Again),
        _ => (ErrorKind::ServiceError, Remedy::Nothing),
    }
}

/// AWS's two wordings for a denial by a service control policy (IAM User Guide, "Access denied error messages").
fn is_scp(message: &str) -> bool {
    message.contains("explicit deny in a service control policy")
        || message.contains("no service control policy allows")
}

/// What to say where AWS gave no code: the causes, in one line and without the response in them.
fn plain_message<E>(error: &SdkError<E, HttpResponse>, status: u16) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let Some(missing) = causes(error).find_map(|cause| cause.downcast_ref::<MissingMember>()) {
        return missing.to_string();
    }
    let (prefix, first): (&str, &(dyn Error + 'static)) = match credentials_error(error) {
        Some(CredentialsError::CredentialsNotLoaded(_)) => return "no AWS credentials were found".to_owned(),
        Some(other) => ("the AWS credentials cannot be used: ", other),
        None => ("", error),
    };
    // What a `credential_process` wrote to its standard error may hold anything, and the SDK passes all of it on.
    let said = |cause: &(dyn Error + 'static)| {
        let text = cause.to_string().replace('\n', " ");
        text.split(" Stderr:").next().unwrap_or_default().to_owned()
    };
    let mut chain: Vec<String> = causes(first).map(said).collect();
    chain.dedup();
    let chain = chain.join(": ");
    if status == 0 { format!("{prefix}{chain}") } else { format!("{prefix}{chain} (HTTP {status})") }
}
