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

mod alert_delivery;
mod alerts;
mod architecture;
mod aws_cli;
mod bad_input;
mod binary;
mod chaos;
mod claims;
mod cli;
mod clock;
mod config_samples;
mod control;
mod daemon;
mod deploy;
mod documents;
mod engine_parity;
mod exemptions;
mod exports;
mod findings;
mod findings_detail;
mod grafana;
mod history;
mod hub;
mod incident_causes;
mod invariants;
mod observability;
mod organization;
mod outcomes;
mod ownership;
mod pages;
mod partial;
mod plan_conflicts;
mod plan_rendering;
mod postgres;
mod postgres_server;
mod properties;
mod receivers;
mod remediation;
mod resuming;
mod retention;
mod review;
mod sample_history;
mod status;
mod stories;
mod support;
mod truth;
mod unvisited_accounts;
mod week;
