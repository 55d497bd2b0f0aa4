//! The words of the verdict, and the facts that it is made from. The spellings are a contract: `docs/sql.md`.

use super::Analyzer;
use super::closed_set::closed_set;

closed_set! {
    /// What satisfies the rule. Standards disagree (IAM.28 asks for `account`, CIS 6 and 7 for `organization`,
    /// CIS 5 takes either), so it is a setting.
    Requirement, "requirement" {
        /// An analyzer of the account's own.
        Account = "account",
        /// The organization's analyzer.
        Organization = "organization",
        /// One of the two.
        Either = "either",
        /// Both, since their zones of trust differ.
        Both = "both",
    }
}

closed_set! {
    /// The verdict on one account × region. AWS Config's words for the same four are COMPLIANT, NON_COMPLIANT,
    /// NOT_APPLICABLE and INSUFFICIENT_DATA.
    Status, "status" {
        /// Watched for external access.
        Covered = "covered",
        /// Looked at, and not watched.
        NotCovered = "not_covered",
        /// There is nothing to watch.
        NotApplicable = "not_applicable",
        /// Could not be looked at: never counted as either.
        Unknown = "unknown",
    }
}

closed_set! {
    /// Why the verdict is what it is. Each reason belongs to one status.
    Reason, "reason" {
        /// Covered by an ACTIVE analyzer of type ACCOUNT.
        AccountAnalyzer = "account_analyzer",
        /// Covered by the organization's ACTIVE analyzer in this region.
        OrganizationAnalyzer = "organization_analyzer",
        /// Covered by both.
        AccountAndOrganizationAnalyzers = "account_and_organization_analyzers",
        /// One that would satisfy the rule exists, but is not ACTIVE.
        AnalyzerNotActive = "analyzer_not_active",
        /// External access is watched, but not with the zone of trust that is required.
        RequiredZoneOfTrustMissing = "required_zone_of_trust_missing",
        /// Only unused-access, internal-access or service-linked analyzers.
        OnlyOtherAnalyzerTypes = "only_other_analyzer_types",
        /// None at all.
        NoAnalyzer = "no_analyzer",
        /// The account has not opted in to the region.
        RegionNotOptedIn = "region_not_opted_in",
        /// Access Analyzer does not exist in the region.
        RegionNotSupported = "region_not_supported",
        /// The account is suspended, closed, or not yet activated.
        AccountNotActive = "account_not_active",
        /// Left out by the configuration.
        Excluded = "excluded",
        /// The member role is missing, or its trust policy refuses us: STS uses one code for both.
        RoleNotAssumable = "role_not_assumable",
        /// Denied by IAM, a permissions boundary, or another policy that is not an SCP.
        AccessDenied = "access_denied",
        /// Denied by a service control policy.
        ScpDenied = "scp_denied",
        /// The credentials were refused.
        Credentials = "credentials",
        /// STS is not activated in the region.
        StsDisabledInRegion = "sts_disabled_in_region",
        /// Throttled to the end of the retries.
        Throttled = "throttled",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or it broke.
        Network = "network",
        /// AWS answered with a fault of its own.
        ServiceError = "service_error",
        /// The answer could not be read.
        MalformedResponse = "malformed_response",
        /// The requirement needs the organization's analyzers, and an owner of theirs could not be read.
        OrganizationAnalyzersUnknown = "organization_analyzers_unknown",
        /// The scan ended before it came to this account.
        NotReached = "not_reached",
    }
}

impl Reason {
    /// The one status that this reason belongs to.
    pub const fn status(self) -> Status {
        match self {
            Self::AccountAnalyzer | Self::OrganizationAnalyzer | Self::AccountAndOrganizationAnalyzers => {
                Status::Covered
            }
            Self::AnalyzerNotActive
            | Self::RequiredZoneOfTrustMissing
            | Self::OnlyOtherAnalyzerTypes
            | Self::NoAnalyzer => Status::NotCovered,
            Self::RegionNotOptedIn | Self::RegionNotSupported | Self::AccountNotActive | Self::Excluded => {
                Status::NotApplicable
            }
            Self::RoleNotAssumable
            | Self::AccessDenied
            | Self::ScpDenied
            | Self::Credentials
            | Self::StsDisabledInRegion
            | Self::Throttled
            | Self::Timeout
            | Self::Network
            | Self::ServiceError
            | Self::MalformedResponse
            | Self::OrganizationAnalyzersUnknown
            | Self::NotReached => Status::Unknown,
        }
    }
}

/// The reasons that each requirement would have led to, from the same facts: so that a change of the requirement can be
/// told from a change of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByRequirement([Reason; Requirement::ALL.len()]);

impl ByRequirement {
    /// Asks for each requirement.
    pub fn each(mut reason: impl FnMut(Requirement) -> Reason) -> Self {
        let mut reasons = [Reason::NotReached; Requirement::ALL.len()];
        for (slot, requirement) in reasons.iter_mut().zip(Requirement::ALL) {
            *slot = reason(*requirement);
        }
        Self(reasons)
    }

    /// A reason that hangs on no requirement.
    pub const fn same(reason: Reason) -> Self {
        Self([reason; Requirement::ALL.len()])
    }

    /// The reason under one requirement.
    pub const fn under(&self, requirement: Requirement) -> Reason {
        self.0[requirement as usize]
    }
}

closed_set! {
    /// Why a verdict is another than before.
    Cause, "cause" {
        /// AWS changed.
        World = "world",
        /// What we can see changed: to or from `unknown`.
        Visibility = "visibility",
        /// Our requirement, exclusions or regions changed.
        Configuration = "configuration",
        /// The account joined or left the organization.
        Membership = "membership",
    }
}

closed_set! {
    /// Why something could not be looked at: the words of `unknown`'s reasons that AWS can cause.
    ErrorKind, "error kind" {
        /// STS refused to let us in.
        RoleNotAssumable = "role_not_assumable",
        /// A policy that is not an SCP.
        AccessDenied = "access_denied",
        /// A service control policy.
        ScpDenied = "scp_denied",
        /// Refused, expired or missing credentials.
        Credentials = "credentials",
        /// `RegionDisabledException`.
        StsDisabledInRegion = "sts_disabled_in_region",
        /// Too many requests.
        Throttled = "throttled",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or it broke.
        Network = "network",
        /// AWS's own fault, or an error that we do not know.
        ServiceError = "service_error",
        /// Not what the API promises.
        MalformedResponse = "malformed_response",
    }
}

impl ErrorKind {
    /// The reason of an `unknown` verdict that this kind leads to: the same word.
    pub const fn reason(self) -> Reason {
        match self {
            Self::RoleNotAssumable => Reason::RoleNotAssumable,
            Self::AccessDenied => Reason::AccessDenied,
            Self::ScpDenied => Reason::ScpDenied,
            Self::Credentials => Reason::Credentials,
            Self::StsDisabledInRegion => Reason::StsDisabledInRegion,
            Self::Throttled => Reason::Throttled,
            Self::Timeout => Reason::Timeout,
            Self::Network => Reason::Network,
            Self::ServiceError => Reason::ServiceError,
            Self::MalformedResponse => Reason::MalformedResponse,
        }
    }
}

/// Something that could not be looked at: a value in the scan, not an end of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The closed word.
    pub kind: ErrorKind,
    /// What AWS said, for a person.
    pub message: String,
}

/// What was seen in one region of one account: a fact, not yet a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegionFact {
    /// Every page of `ListAnalyzers` was read.
    Listed(Vec<Analyzer>),
    /// The account has not opted in.
    NotOptedIn,
    /// Access Analyzer does not exist there.
    NotSupported,
    /// It could not be read.
    Failed(Failure),
}

/// The verdict on one account × region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Why; the status follows from it.
    pub reason: Reason,
    /// The analyzer that covers, or the one that should but is not active.
    pub analyzer_arn: Option<String>,
}

impl Coverage {
    /// A verdict without an analyzer to name.
    pub const fn bare(reason: Reason) -> Self {
        Self { reason, analyzer_arn: None }
    }

    /// The status that follows from the reason.
    pub const fn status(&self) -> Status {
        self.reason.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_is_a_reason_of_unknown_with_the_same_word() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.reason().as_str(), kind.as_str());
            assert_eq!(kind.reason().status(), Status::Unknown);
        }
    }

    #[test]
    fn each_requirement_has_its_own_reason() {
        let reasons = ByRequirement::each(|requirement| match requirement {
            Requirement::Both => Reason::RequiredZoneOfTrustMissing,
            _ => Reason::AccountAnalyzer,
        });
        assert_eq!(reasons.under(Requirement::Both), Reason::RequiredZoneOfTrustMissing);
        assert_eq!(reasons.under(Requirement::Account), Reason::AccountAnalyzer);
    }

    #[test]
    fn a_word_outside_the_set_is_refused_with_the_valid_ones() {
        let error = "yes".parse::<Status>().unwrap_err();
        assert_eq!(error.to_string(), "`yes` is not a status; valid: covered, not_covered, not_applicable, unknown");
    }
}
