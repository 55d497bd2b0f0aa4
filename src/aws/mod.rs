//! The only user of the AWS SDK. Each function makes one attempt of one call and turns the answer into plain types, or
//! into an [`AwsError`] whose kind is decided in one place. When to call, how often again and how much at once is the
//! scan's business.

mod access_analyzer;
mod client;
mod error;
mod findings;
mod organizations;
pub mod policy;
mod regions;
mod required;
#[cfg(feature = "security-hub")]
mod security_hub;
#[cfg(feature = "sns")]
mod sns;
mod sts;
mod traffic;

pub use access_analyzer::{Changed, NewAnalyzer};
pub use client::{Aws, ConnectError, ConnectSettings, Session};
pub use error::{AwsError, Operation, Remedy};
pub use findings::FindingsOf;
pub use organizations::{ACCESS_ANALYZER, OrganizationDescription, OuNode};
pub use regions::{OptStatus, RegionListing};
#[cfg(feature = "security-hub")]
pub use security_hub::{Import, MOST_AT_ONCE};
#[cfg(feature = "sns")]
pub use sns::{Once, Publisher};
pub use sts::{AssumeRole, CallerIdentity};

/// One page of a listing, and the token of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it; possibly nothing, even where more follows.
    pub items: Vec<T>,
    /// The token by which to ask for the next page; `None` on the last.
    pub next_token: Option<String>,
}

/// An empty token is no token.
fn token(text: Option<String>) -> Option<String> {
    text.filter(|token| !token.is_empty())
}
