//! trustwatch: is every account of an AWS organization watched for external access, in every region?
//!
//! # The way a scan travels
//!
//! `discover → assume → audit → evaluate → store`. [`scan`] lists the accounts of an organization, enters each through
//! STS, lists the analyzers of IAM Access Analyzer in each of its regions, judges each account × region, and stores the
//! answer with its history. Facts flow one way: from AWS ([`aws`]) through plain types ([`model`]) into a pure function
//! that judges ([`evaluate`]), into the store ([`store`]). Nothing flows back.
//!
//! # The dependency rule
//!
//! ```text
//! model, clock  <-  evaluate, config, metrics  <-  aws | store, export  <-  scan  <-  alerts, remediate, security_hub  <-  schedule  <-  glance, health  <-  http  <-  daemon, cli, main
//! ```
//!
//! Never the other way; [`aws`] and [`store`] never see each other. Each dependency has one home: the AWS SDK in
//! [`aws`], sqlx in [`store`], figment and the environment in [`config`], axum in [`http`], tokio-cron-scheduler in
//! [`schedule`], clap in [`cli`]. A test reads the `use` lines and holds them to it.

pub mod alerts;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod evaluate;
pub mod export;
pub mod glance;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod model;
pub mod remediate;
pub mod scan;
pub mod schedule;
#[cfg(feature = "security-hub")]
pub mod security_hub;
pub mod store;
pub mod telemetry;
