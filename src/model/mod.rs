//! Plain types that every stage of a scan shares: what AWS said, and what we made of it. No I/O.

mod account;
mod alert;
mod analyzer;
mod closed_set;
mod controls;
mod coverage;
mod cron;
mod figures;
mod findings;
mod region;
mod scan;

pub use account::{Account, AccountId, AccountState, InvalidAccountId, OwnedBy};
pub use alert::{Change, Event, EventKind, GapSeen, Incident, IncidentKind, Severity, Standing};
pub use analyzer::{Analyzer, AnalyzerArn, ZoneOfTrust};
pub use closed_set::UnknownWord;
pub use controls::{CONTROLS, RULE, TITLE};
pub use coverage::{ByRequirement, Cause, Coverage, ErrorKind, Failure, Reason, RegionFact, Requirement, Status};
pub use cron::CronLine;
pub use figures::{counted, grouped, hex, inert, percent, ratio, shortened};
pub use findings::{Access, Finding, FindingsCount, ReadRule, TypeCount};
pub use region::{Partition, Region};
pub use scan::{
    CallCount, Discovered, Listed, RegionCoverage, ScanCost, ScanEnd, ScanId, ScanState, Scope, StageSeconds, Trigger,
    Visit, VisitOutcome,
};
