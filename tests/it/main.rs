//! The integration tests: the real SDK, the real store and the real binary, against a simulated AWS.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking, and speaks for itself"
)]

#[path = "../awssim/mod.rs"]
mod awssim;

mod again;
mod alerts;
mod architecture;
mod aws_cli;
mod bad_input;
mod binary;
mod both;
mod causes;
mod chaos;
mod claims;
mod cli;
mod clock;
mod control;
mod daemon;
mod deploy;
mod detail;
mod documents;
mod exemptions;
mod exports;
mod findings;
mod grafana;
mod history;
mod hub;
mod invariants;
mod keeping;
mod meanwhile;
mod organization;
mod outcomes;
mod ownership;
mod pages;
mod partial;
mod postgres;
mod properties;
mod receivers;
mod remediation;
mod rendered;
mod review;
mod sample;
mod samples;
mod server;
mod status;
mod stories;
mod support;
mod told;
mod truth;
mod unheard;
mod watched;
mod week;
