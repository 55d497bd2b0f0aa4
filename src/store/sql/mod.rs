//! The statements, once for both engines: this folder is compiled into each of them, against its own `engine`. What the
//! dialects do not share is in `engine`: how a transaction begins, and how many rows travel at once.

mod analyzers;
mod finish;
mod prune;
mod report;
mod scans;
mod stale;
mod visits;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::engine::Engine;
use crate::model::{AccountId, Region, ScanCost, ScanEnd, ScanId, Visit};
use crate::store::error::Doing;
use crate::store::{NewScan, Pruned, Retention, RowSink, ScanReport, Store, StoreError};

#[async_trait]
impl Store for Engine {
    async fn begin_scan(&self, scan: &NewScan) -> Result<ScanId, StoreError> {
        let hold = self.hold(&scan.organization_name).await?;
        let scan_id = scans::begin(self.writer()?, scan).await?;
        self.keep(scan_id, hold);
        Ok(scan_id)
    }

    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<String>, StoreError> {
        self.hold_organization(scan, organization_id).await?;
        scans::identify(self.writer()?, scan, organization_id, others).await
    }

    async fn known_accounts(&self, scan: ScanId) -> Result<Vec<AccountId>, StoreError> {
        scans::known_accounts(self.reader(), scan).await
    }

    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
        scans::known_regions(self.reader(), scan, account).await
    }

    async fn record_visits(&self, scan: ScanId, visits: &[Visit], worker: &str) -> Result<(), StoreError> {
        visits::record(self.writer()?, scan, visits, worker).await
    }

    async fn finish_scan(
        &self,
        scan: ScanId,
        end: &ScanEnd,
        cost: &ScanCost,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let result = finish::finish(self.writer()?, scan, end, cost, at).await;
        self.let_go(scan).await;
        result
    }

    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError> {
        report::report(self.reader(), scan).await
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

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.reader()).await.doing("asking the database for an answer").map(|_| ())
    }

    async fn close(&self) {
        Engine::close(self).await;
    }
}
