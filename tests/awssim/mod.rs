//! awssim: a simulated AWS, spoken to over HTTP with the real SDK and AWS's own command line.
//!
//! One port serves STS, Organizations, Account Management, IAM Access Analyzer and Security Hub. As with AWS, the service and the
//! region come from the SigV4 credential scope and the account from the access key. Behind it stands a *world* built
//! from a seed, *weather* that breaks calls, and the *truth* that tests compare results with.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "it stands for AWS: it has a clock of its own, and ends where it cannot go on"
)]

pub mod analyzers;
pub mod auth;
pub mod control;
pub mod counters;
pub mod findings;
pub mod generate;
pub mod hub;
pub mod management;
pub mod organizations;
pub mod paging;
pub mod rng;
pub mod scenario;
pub mod server;
pub mod sts;
pub mod truth;
pub mod weather;
pub mod wire;
pub mod world;

pub use scenario::Scenario;
pub use server::Sim;
