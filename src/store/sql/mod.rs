//! The statements, once for both engines: this folder is compiled into each of them, against its own `engine`. What the
//! dialects do not share is in `engine`: how a transaction begins, and how many rows travel at once.

mod analyzers;
mod exemptions;
mod findings;
mod finish;
mod hub;
mod incidents;
mod messages;
mod prune;
mod readings;
mod remediation;
mod report;
mod retire;
mod scans;
mod stale;
mod visits;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::engine::Engine;
use crate::config::{Alert, Alerting, Exemption};
use crate::evaluate::OwnerView;
use crate::model::{AccountId, Discovered, Event, Finding, Listed, Region, ScanCost, ScanEnd, ScanId, Visit};
use crate::store::{
    ActionEnd, Attempt, Claimed, Ground, HeldFinding, HubFinding, HubGround, IdentityConflict, Joined, Known,
    NewAction, NewScan, Outgoing, Overview, Past, Pruned, ReadingEnd, Retention, RowSink, ScanReport, SchemaVersion,
    Settled, Store, StoreError, Tally, Work,
};

#[async_trait]
impl Store for Engine {
    async fn begin_scan(&self, scan: &NewScan, worker: &str) -> Result<Joined, StoreError> {
        scans::begin(self.writer()?, scan, worker, self.lease()).await
    }

    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<IdentityConflict>, StoreError> {
        scans::identify(self.writer()?, scan, organization_id, others).await
    }

    async fn keep_discovered(&self, scan: ScanId, discovered: &Discovered) -> Result<(), StoreError> {
        work::keep_discovered(self.writer()?, scan, discovered).await
    }

    async fn keep_exemptions(&self, scan: ScanId, exemptions: &[Exemption]) -> Result<(), StoreError> {
        exemptions::keep(self.writer()?, scan, exemptions).await
    }

    async fn known(&self, scan: ScanId) -> Result<Option<Known>, StoreError> {
        work::known_to(self.writer()?, scan).await
    }

    async fn acquire_listing(&self, scan: ScanId, worker: &str) -> Result<bool, StoreError> {
        work::acquire_listing(self.writer()?, scan, worker).await
    }

    async fn add_accounts(&self, scan: ScanId, worker: &str, accounts: &[Listed]) -> Result<(), StoreError> {
        work::add_accounts(self.writer()?, scan, worker, accounts).await
    }

    async fn end_listing(
        &self,
        scan: ScanId,
        worker: &str,
        problem: Option<&str>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        work::end_listing(self.writer()?, scan, worker, problem, at).await
    }

    async fn claim_accounts(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        owners_only: bool,
    ) -> Result<Vec<Listed>, StoreError> {
        work::claim(self.writer()?, scan, worker, most, owners_only).await
    }

    async fn release_claims(&self, scan: ScanId, worker: &str, held: &[AccountId]) -> Result<(), StoreError> {
        work::release_claims(self.writer()?, scan, worker, held).await
    }

    async fn keep_owner(&self, scan: ScanId, owner: AccountId, view: &OwnerView) -> Result<OwnerView, StoreError> {
        work::keep_owner(self.writer()?, scan, owner, view).await
    }

    async fn heartbeat(&self, scan: ScanId, worker: &str) -> Result<Work, StoreError> {
        work::heartbeat(self.writer()?, scan, worker, self.lease()).await
    }

    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
        scans::known_regions(self.reader(), scan, account).await
    }

    async fn record_visits(&self, scan: ScanId, visits: &[Visit], worker: &str) -> Result<Vec<AccountId>, StoreError> {
        visits::record(self.writer()?, scan, visits, worker).await
    }

    async fn begin_readings(&self, scan: ScanId) -> Result<(), StoreError> {
        readings::begin_all(self.writer()?, scan).await
    }

    async fn claim_readings(
        &self,
        scan: ScanId,
        worker: &str,
        most: u32,
        held: &[String],
    ) -> Result<Claimed, StoreError> {
        readings::claim(self.writer()?, scan, worker, most, held).await
    }

    async fn write_findings(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        findings: &[Finding],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        readings::write(self.writer()?, scan, worker, analyzer_arn, findings, at).await
    }

    async fn end_reading(
        &self,
        scan: ScanId,
        worker: &str,
        analyzer_arn: &str,
        end: &ReadingEnd<'_>,
    ) -> Result<(), StoreError> {
        readings::end(self.writer()?, scan, worker, analyzer_arn, end).await
    }

    async fn held_findings(&self, ids: &[String]) -> Result<Vec<HeldFinding>, StoreError> {
        readings::held(self.reader(), ids).await
    }

    async fn set_status(&self, findings: &[HeldFinding], status: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        readings::set_status(self.writer()?, findings, status, at).await
    }

    async fn tally(&self, scan: ScanId) -> Result<Tally, StoreError> {
        work::tally(self.writer()?, scan).await
    }

    async fn leave_scan(&self, scan: ScanId, worker: &str, cost: &ScanCost) -> Result<(), StoreError> {
        finish::leave(self.writer()?, scan, worker, cost).await
    }

    async fn finish_scan(
        &self,
        scan: ScanId,
        worker: &str,
        end: &ScanEnd,
        cost: &ScanCost,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        finish::finish(self.writer()?, scan, worker, end, cost, at).await
    }

    async fn abandon_scans(
        &self,
        organization_name: &str,
        worker: &str,
        problem: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        scans::abandon(self.writer()?, organization_name, worker, problem, at).await
    }

    async fn past(
        &self,
        organization_name: &str,
        configuration_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<Past, StoreError> {
        scans::past(self.reader(), organization_name, configuration_hash, now).await
    }

    async fn overview(&self, organization_name: &str) -> Result<Overview, StoreError> {
        report::overview(self.reader(), organization_name).await
    }

    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError> {
        report::report(self.reader(), scan).await
    }

    async fn ground(
        &self,
        organization_name: &str,
        owners: [Option<AccountId>; 2],
    ) -> Result<Option<Ground>, StoreError> {
        remediation::ground(self.reader(), organization_name, owners).await
    }

    async fn begin_action(&self, action: &NewAction<'_>) -> Result<i64, StoreError> {
        remediation::begin_action(self.writer()?, action).await
    }

    async fn end_action(&self, number: i64, end: &ActionEnd<'_>) -> Result<(), StoreError> {
        remediation::end_action(self.writer()?, number, end).await
    }

    async fn hub_ground(&self, organization_name: &str) -> Result<Option<HubGround>, StoreError> {
        hub::ground(self.reader(), organization_name).await
    }

    async fn hub_findings(&self, organization_id: &str, accounts: &[AccountId]) -> Result<Vec<HubFinding>, StoreError> {
        hub::findings(self.reader(), organization_id, accounts).await
    }

    async fn keep_hub_findings(&self, organization_id: &str, findings: &[HubFinding]) -> Result<(), StoreError> {
        hub::keep(self.writer()?, organization_id, findings).await
    }

    async fn update_incidents(&self, rules: &Alerting, channels: &[Alert]) -> Result<Option<Settled>, StoreError> {
        if !incidents::any_due(self.reader()).await? {
            return Ok(None);
        }
        incidents::settle(self.writer()?, rules, channels).await
    }

    async fn keep_digest(&self, channel: &str, event: &Event) -> Result<(), StoreError> {
        messages::keep_digest(self.writer()?, channel, event).await
    }

    async fn keep_channels(&self, names: &[&str]) -> Result<bool, StoreError> {
        messages::keep_channels(self.writer()?, names).await
    }

    async fn has_messages(&self, channel: &str) -> Result<bool, StoreError> {
        messages::any(self.reader(), channel).await
    }

    async fn take_message(&self, channel: &str, worker: &str, lease: Duration) -> Result<Option<Outgoing>, StoreError> {
        messages::take(self.writer()?, channel, worker, lease).await
    }

    async fn end_attempt(&self, number: i64, worker: &str, attempt: &Attempt) -> Result<(), StoreError> {
        messages::end_attempt(self.writer()?, number, worker, attempt).await
    }

    async fn leave_channels(&self, worker: &str) -> Result<(), StoreError> {
        messages::leave(self.writer()?, worker).await
    }

    async fn retire(&self, organization_name: &str, at: DateTime<Utc>) -> Result<Option<u64>, StoreError> {
        retire::retire(self.writer()?, organization_name, at).await
    }

    async fn prune(&self, retention: &Retention, dry_run: bool) -> Result<Pruned, StoreError> {
        if dry_run {
            return prune::count(self.reader(), retention).await;
        }
        prune::prune(self.writer()?, retention).await
    }

    async fn query(&self, sql: &str, sink: &mut dyn RowSink) -> Result<(), StoreError> {
        super::query::run(self.reader(), sql, sink).await
    }

    async fn schema_version(&self) -> Result<SchemaVersion, StoreError> {
        self.check().await?;
        super::version(self.reader()).await
    }

    async fn close(&self) {
        Engine::close(self).await;
    }
}
