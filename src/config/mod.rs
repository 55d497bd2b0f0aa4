//! Configuration: defaults, then a TOML file, then the environment, then flags.
//!
//! One file for each section. Everything is checked before anything starts, and every fault is reported at once, each
//! with its key, its value, where it came from and what would be right.

mod alerts;
mod exemptions;
mod export;
mod findings;
mod http;
mod limits;
mod load;
mod log;
mod organizations;
mod origin;
mod ownership;
mod reference;
mod remediation;
mod schedule;
mod schema;
mod store;
mod tracing;
mod types;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alerts::{Alert, Alerting, ChannelKind, Digest, Security, Smtp, is_public};
pub use exemptions::{Exemption, Expiry};
pub use export::Export;
pub use findings::{Detail, Findings};
pub use http::Http;
pub use limits::{Limits, Rate};
pub use load::{FILE_VARIABLE, Loaded, Sources, environment, load};
pub use log::{Log, LogFormat};
pub use organizations::{ExcludeRegions, Organization, RegionSelection, Selector, role_arn};
pub use origin::{Fault, Faults};
pub use ownership::Ownership;
pub use reference::{json_schema, markdown_reference};
pub use remediation::{ArchiveRule, Criterion, Mode, Remediation};
pub use schedule::{Missed, OnStart, Schedule};
pub use store::{Retention, Store};
pub use tracing::Tracing;
pub use types::{Secret, TimeSpan};

/// The whole configuration. Every key has a default: with no file at all, the ambient AWS credentials, the organization
/// that they belong to and a SQLite file in the working directory are used.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The organizations to audit. Without any, the one that the ambient credentials belong to, named `main`.
    #[serde(with = "organizations::by_name")]
    #[schemars(with = "Vec<Organization>")]
    pub organizations: Vec<Organization>,
    /// Where results are kept.
    pub store: Store,
    /// When `trustwatch run` scans.
    pub schedule: Schedule,
    /// How much at once, how long, and how often again.
    pub limits: Limits,
    /// What may be proposed and, by a person's command, done about gaps.
    pub remediation: Remediation,
    /// What is read of Access Analyzer's own findings.
    pub findings: Findings,
    /// What reports say beside the results.
    pub export: Export,
    /// When something is an incident.
    pub alerting: Alerting,
    /// Who is told of incidents.
    pub alerts: Vec<Alert>,
    /// The port for health checks, metrics and pages.
    pub http: Http,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub tracing: Tracing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            organizations: vec![Organization::named("main")],
            store: Store::default(),
            schedule: Schedule::default(),
            limits: Limits::default(),
            remediation: Remediation::default(),
            findings: Findings::default(),
            export: Export::default(),
            alerting: Alerting::default(),
            alerts: Vec::new(),
            http: Http::default(),
            log: Log::default(),
            tracing: Tracing::default(),
        }
    }
}

impl Config {
    /// The schedule of an organization: its own, or the common one.
    pub fn schedule_of<'a>(&'a self, organization: &'a Organization) -> &'a Schedule {
        organization.schedule.as_ref().unwrap_or(&self.schedule)
    }

    /// The effective configuration as TOML, secrets redacted.
    ///
    /// # Errors
    /// Where a value has no form in TOML, which none of ours lacks.
    pub fn to_toml(&self) -> Result<String, toml_edit::ser::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            organizations: &'a [Organization],
            store: &'a Store,
            schedule: &'a Schedule,
            limits: &'a Limits,
            remediation: &'a Remediation,
            findings: &'a Findings,
            export: &'a Export,
            alerting: &'a Alerting,
            #[serde(skip_serializing_if = "<[Alert]>::is_empty")]
            alerts: &'a [Alert],
            http: &'a Http,
            log: &'a Log,
            tracing: &'a Tracing,
        }
        let Self { store, schedule, limits, remediation, findings, export, alerting, http, log, tracing, .. } = self;
        // A secret that came from a file is shown as the file: both keys together would be refused.
        let mut organizations = self.organizations.clone();
        for organization in organizations.iter_mut().filter(|organization| organization.external_id_file.is_some()) {
            organization.external_id = None;
        }
        let organizations = &organizations;
        let mut store = store.clone();
        if store.password_file.is_some() {
            store.password = None;
        }
        let store = &store;
        let mut alerts = self.alerts.clone();
        for alert in &mut alerts {
            alert.forget_what_files_hold();
        }
        let alerts = &alerts;
        toml_edit::ser::to_string_pretty(&Shown {
            organizations,
            store,
            schedule,
            limits,
            remediation,
            findings,
            export,
            alerting,
            alerts,
            http,
            log,
            tracing,
        })
    }
}
