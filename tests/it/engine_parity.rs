//! Two stores that are fed the same: whatever one answers, the other must.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use trustwatch::config::{Alert, Alerting, Exemption};
use trustwatch::evaluate::OwnerView;
use trustwatch::model::{AccountId, Discovered, Event, Finding, Listed, Region, ScanCost, ScanEnd, ScanId, Visit};
use trustwatch::store::{
    ActionEnd, Attempt, Claimed, Ground, HeldFinding, HubFinding, HubGround, IdentityConflict, Joined, Known,
    NewAction, NewScan, Outgoing, Overview, Past, Pruned, ReadingEnd, Retention, RowSink, ScanReport, SchemaVersion,
    Settled, Store, StoreError, Tally, Work,
};

use crate::support::rows;

/// Every view of `docs/sql.md`.
pub const VIEWS: &[&str] = &[
    "current_coverage",
    "coverage_history",
    "coverage_transitions",
    "coverage_changes",
    "scan_summary",
    "scan_calls",
    "coverage_by_region",
    "coverage_by_ou",
    "coverage_by_account",
    "account_visits",
    "current_analyzers",
    "analyzer_history",
    "current_exemptions",
    "exemption_history",
    "remediation_actions",
    "current_findings_statistics",
    "findings_statistics_history",
    "findings_by_scan",
    "redundant_analyzers",
    "current_findings",
    "finding_history",
    "findings_readings",
    "archive_rule_drift",
    "security_hub_imports",
    "alert_incidents",
    "alert_deliveries",
    "current_accounts",
];

/// A SQLite file and a Postgres schema, side by side.
pub struct Both {
    pub sqlite: Arc<dyn Store>,
    pub postgres: Arc<dyn Store>,
    /// What a scan lists and claims at once would else come in another order here than there.
    turn: tokio::sync::Mutex<()>,
}

impl Both {
    pub fn new(sqlite: Arc<dyn Store>, postgres: Arc<dyn Store>) -> Self {
        Self { sqlite, postgres, turn: tokio::sync::Mutex::default() }
    }

    /// Fails if any view differs.
    pub async fn agree(&self, what: &str) {
        for view in VIEWS {
            let query = format!("SELECT * FROM {view}");
            let (mut here, mut there) =
                (rows(self.sqlite.as_ref(), &query).await, rows(self.postgres.as_ref(), &query).await);
            // The order of the keys of a JSON object means nothing.
            for cell in here.iter_mut().chain(&mut there).flatten().filter(|cell| cell.starts_with('{')) {
                *cell = sorted(&serde_json::from_str(cell).unwrap());
            }
            here.sort();
            there.sort();
            if let Some((here, there)) = here.iter().zip(&there).find(|(here, there)| here != there) {
                panic!("{what}: {view}: {here:?} and {there:?}");
            }
            assert_eq!(here.len(), there.len(), "{what}: {view}");
        }
    }
}

/// A JSON document with the keys of its objects in order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, String> = members.iter().map(|(key, value)| (key, sorted(value))).collect();
            format!("{members:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    here: Result<T, StoreError>,
    there: Result<T, StoreError>,
) -> Result<T, StoreError> {
    match (here, there) {
        (Ok(here), Ok(there)) => {
            assert_eq!(here, there);
            Ok(here)
        }
        (Err(here), Err(there)) => {
            assert_eq!(std::mem::discriminant(&here), std::mem::discriminant(&there), "{here} and {there}");
            Err(here)
        }
        (here, there) => panic!("{here:?} and {there:?}"),
    }
}

#[async_trait]
impl Store for Both {
    async fn begin_scan(&self, scan: &NewScan, worker: &str) -> Result<Joined, StoreError> {
        same(self.sqlite.begin_scan(scan, worker).await, self.postgres.begin_scan(scan, worker).await)
    }

    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<IdentityConflict>, StoreError> {
        let here = self.sqlite.identify_organization(scan, organization_id, others).await;
        same(here, self.postgres.identify_organization(scan, organization_id, others).await)
    }

    async fn keep_discovered(&self, scan: ScanId, discovered: &Discovered) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.keep_discovered(scan, discovered).await;
        same(here, self.postgres.keep_discovered(scan, discovered).await)
    }

    async fn keep_exemptions(&self, scan: ScanId, exemptions: &[Exemption]) -> Result<(), StoreError> {
        let here = self.sqlite.keep_exemptions(scan, exemptions).await;
        same(here, self.postgres.keep_exemptions(scan, exemptions).await)
    }

    async fn known(&self, scan: ScanId) -> Result<Option<Known>, StoreError> {
        same(self.sqlite.known(scan).await, self.postgres.known(scan).await)
    }

    async fn acquire_listing(&self, scan: ScanId, worker: &str) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        same(self.sqlite.acquire_listing(scan, worker).await, self.postgres.acquire_listing(scan, worker).await)
    }

    async fn add_accounts(&self, scan: ScanId, worker: &str, accounts: &[Listed]) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.add_accounts(scan, worker, accounts).await;
        same(here, self.postgres.add_accounts(scan, worker, accounts).await)
    }

    async fn end_listing(
        &self,
        scan: ScanId,
        worker: &str,
        problem: Option<&str>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.end_listing(scan, worker, problem, at).await;
        same(here, self.postgres.end_listing(scan, worker, problem, at).await)
    }

    async fn claim_accounts(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        owners_only: bool,
    ) -> Result<Vec<Listed>, StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.claim_accounts(scan, worker, most, owners_only).await;
        same(here, self.postgres.claim_accounts(scan, worker, most, owners_only).await)
    }

    async fn release_claims(&self, scan: ScanId, worker: &str, held: &[AccountId]) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.release_claims(scan, worker, held).await;
        same(here, self.postgres.release_claims(scan, worker, held).await)
    }

    async fn keep_owner(&self, scan: ScanId, owner: AccountId, view: &OwnerView) -> Result<OwnerView, StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.keep_owner(scan, owner, view).await;
        same(here, self.postgres.keep_owner(scan, owner, view).await)
    }

    async fn heartbeat(&self, scan: ScanId, worker: &str) -> Result<Work, StoreError> {
        let _turn = self.turn.lock().await;
        same(self.sqlite.heartbeat(scan, worker).await, self.postgres.heartbeat(scan, worker).await)
    }

    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
        same(self.sqlite.known_regions(scan, account).await, self.postgres.known_regions(scan, account).await)
    }

    async fn record_visits(&self, scan: ScanId, visits: &[Visit], worker: &str) -> Result<Vec<AccountId>, StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.record_visits(scan, visits, worker).await;
        same(here, self.postgres.record_visits(scan, visits, worker).await)
    }

    async fn begin_readings(&self, scan: ScanId) -> Result<(), StoreError> {
        same(self.sqlite.begin_readings(scan).await, self.postgres.begin_readings(scan).await)
    }

    async fn claim_readings(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        held: &[String],
    ) -> Result<Claimed, StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.claim_readings(scan, worker, most, held).await;
        same(here, self.postgres.claim_readings(scan, worker, most, held).await)
    }

    async fn write_findings(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        findings: &[Finding],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.write_findings(scan, worker, analyzer_arn, findings, at).await;
        same(here, self.postgres.write_findings(scan, worker, analyzer_arn, findings, at).await)
    }

    async fn end_reading(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        end: &ReadingEnd<'_>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let here = self.sqlite.end_reading(scan, worker, analyzer_arn, end).await;
        same(here, self.postgres.end_reading(scan, worker, analyzer_arn, end).await)
    }

    async fn held_findings(&self, ids: &[String]) -> Result<Vec<HeldFinding>, StoreError> {
        same(self.sqlite.held_findings(ids).await, self.postgres.held_findings(ids).await)
    }

    async fn set_status(&self, findings: &[HeldFinding], status: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        let here = self.sqlite.set_status(findings, status, at).await;
        same(here, self.postgres.set_status(findings, status, at).await)
    }

    async fn tally(&self, scan: ScanId) -> Result<Tally, StoreError> {
        same(self.sqlite.tally(scan).await, self.postgres.tally(scan).await)
    }

    async fn leave_scan(&self, scan: ScanId, worker: &str, cost: &ScanCost) -> Result<(), StoreError> {
        let here = self.sqlite.leave_scan(scan, worker, cost).await;
        same(here, self.postgres.leave_scan(scan, worker, cost).await)
    }

    async fn abandon_scans(
        &self,
        organization_name: &str,
        worker: &str,
        problem: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let here = self.sqlite.abandon_scans(organization_name, worker, problem, at).await;
        same(here, self.postgres.abandon_scans(organization_name, worker, problem, at).await)
    }

    async fn past(&self, organization_name: &str, hash: &str, now: DateTime<Utc>) -> Result<Past, StoreError> {
        let here = self.sqlite.past(organization_name, hash, now).await;
        same(here, self.postgres.past(organization_name, hash, now).await)
    }

    async fn finish_scan(
        &self,
        scan: ScanId,
        worker: &str,
        end: &ScanEnd,
        cost: &ScanCost,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let here = self.sqlite.finish_scan(scan, worker, end, cost, at).await;
        same(here, self.postgres.finish_scan(scan, worker, end, cost, at).await)
    }

    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError> {
        let (here, there) = (self.sqlite.report(scan).await?, self.postgres.report(scan).await?);
        assert_eq!(serde_json::to_value(&here).unwrap(), serde_json::to_value(&there).unwrap());
        Ok(here)
    }

    async fn ground(
        &self,
        organization_name: &str,
        owners: [Option<AccountId>; 2],
    ) -> Result<Option<Ground>, StoreError> {
        let here = self.sqlite.ground(organization_name, owners).await?;
        let there = self.postgres.ground(organization_name, owners).await?;
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
        Ok(here)
    }

    async fn begin_action(&self, action: &NewAction<'_>) -> Result<i64, StoreError> {
        same(self.sqlite.begin_action(action).await, self.postgres.begin_action(action).await)
    }

    async fn end_action(&self, number: i64, end: &ActionEnd<'_>) -> Result<(), StoreError> {
        same(self.sqlite.end_action(number, end).await, self.postgres.end_action(number, end).await)
    }

    async fn hub_ground(&self, organization_name: &str) -> Result<Option<HubGround>, StoreError> {
        same(self.sqlite.hub_ground(organization_name).await, self.postgres.hub_ground(organization_name).await)
    }

    async fn hub_findings(&self, organization_id: &str, accounts: &[AccountId]) -> Result<Vec<HubFinding>, StoreError> {
        let here = self.sqlite.hub_findings(organization_id, accounts).await;
        same(here, self.postgres.hub_findings(organization_id, accounts).await)
    }

    async fn keep_hub_findings(&self, organization_id: &str, findings: &[HubFinding]) -> Result<(), StoreError> {
        let here = self.sqlite.keep_hub_findings(organization_id, findings).await;
        same(here, self.postgres.keep_hub_findings(organization_id, findings).await)
    }

    async fn update_incidents(&self, rules: &Alerting, channels: &[Alert]) -> Result<Option<Settled>, StoreError> {
        same(self.sqlite.update_incidents(rules, channels).await, self.postgres.update_incidents(rules, channels).await)
    }

    async fn keep_digest(&self, channel: &str, event: &Event) -> Result<(), StoreError> {
        same(self.sqlite.keep_digest(channel, event).await, self.postgres.keep_digest(channel, event).await)
    }

    async fn keep_channels(&self, names: &[&str]) -> Result<bool, StoreError> {
        same(self.sqlite.keep_channels(names).await, self.postgres.keep_channels(names).await)
    }

    async fn has_messages(&self, channel: &str) -> Result<bool, StoreError> {
        same(self.sqlite.has_messages(channel).await, self.postgres.has_messages(channel).await)
    }

    async fn take_message(&self, channel: &str, worker: &str, lease: Duration) -> Result<Option<Outgoing>, StoreError> {
        let here = self.sqlite.take_message(channel, worker, lease).await;
        let event = |taken: Result<Option<Outgoing>, StoreError>| taken.map(|taken| taken.map(|taken| taken.event));
        // The databases' clocks differ.
        same(event(here), event(self.postgres.take_message(channel, worker, lease).await))?;
        self.sqlite.take_message(channel, worker, lease).await
    }

    async fn end_attempt(&self, number: i64, worker: &str, attempt: &Attempt) -> Result<(), StoreError> {
        let here = self.sqlite.end_attempt(number, worker, attempt).await;
        same(here, self.postgres.end_attempt(number, worker, attempt).await)
    }

    async fn leave_channels(&self, worker: &str) -> Result<(), StoreError> {
        same(self.sqlite.leave_channels(worker).await, self.postgres.leave_channels(worker).await)
    }

    async fn retire(&self, organization_name: &str, at: DateTime<Utc>) -> Result<Option<u64>, StoreError> {
        same(self.sqlite.retire(organization_name, at).await, self.postgres.retire(organization_name, at).await)
    }

    async fn prune(&self, retention: &Retention, dry_run: bool) -> Result<Pruned, StoreError> {
        same(self.sqlite.prune(retention, dry_run).await, self.postgres.prune(retention, dry_run).await)
    }

    async fn query(&self, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError> {
        let (mut here, mut there) = (rows(self.sqlite.as_ref(), sql).await, rows(self.postgres.as_ref(), sql).await);
        here.sort();
        there.sort();
        assert_eq!(here, there, "{sql}");
        self.sqlite.query(sql, sink).await
    }

    async fn schema_version(&self) -> Result<SchemaVersion, StoreError> {
        same(self.sqlite.schema_version().await, self.postgres.schema_version().await)
    }

    async fn overview(&self, organization_name: &str) -> Result<Overview, StoreError> {
        let (here, there) =
            (self.sqlite.overview(organization_name).await?, self.postgres.overview(organization_name).await?);
        assert_eq!(format!("{here:?}"), format!("{there:?}"));
        Ok(here)
    }

    async fn close(&self) {
        self.sqlite.close().await;
        self.postgres.close().await;
    }
}
