//! Two stores that are fed the same: whatever one answers, the other must.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use trustwatch::model::{AccountId, Region, ScanCost, ScanEnd, ScanId, Visit};
use trustwatch::store::{NewScan, Pruned, Retention, RowSink, ScanReport, Store, StoreError};

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
];

/// A SQLite file and a Postgres schema, side by side.
pub struct Both {
    pub sqlite: Arc<dyn Store>,
    pub postgres: Arc<dyn Store>,
}

impl Both {
    /// Fails if any view differs.
    pub async fn agree(&self, what: &str) {
        for view in VIEWS {
            let query = format!("SELECT * FROM {view}");
            let (mut here, mut there) =
                (rows(self.sqlite.as_ref(), &query).await, rows(self.postgres.as_ref(), &query).await);
            here.sort();
            there.sort();
            if let Some((here, there)) = here.iter().zip(&there).find(|(here, there)| here != there) {
                panic!("{what}: {view}: {here:?} and {there:?}");
            }
            assert_eq!(here.len(), there.len(), "{what}: {view}");
        }
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
    async fn begin_scan(&self, scan: &NewScan) -> Result<ScanId, StoreError> {
        same(self.sqlite.begin_scan(scan).await, self.postgres.begin_scan(scan).await)
    }

    async fn identify_organization(
        &self,
        scan: ScanId,
        organization_id: &str,
        others: &[String],
    ) -> Result<Option<String>, StoreError> {
        let here = self.sqlite.identify_organization(scan, organization_id, others).await;
        same(here, self.postgres.identify_organization(scan, organization_id, others).await)
    }

    async fn known_accounts(&self, scan: ScanId) -> Result<Vec<AccountId>, StoreError> {
        let sorted = |accounts: Result<Vec<AccountId>, StoreError>| {
            accounts.map(|mut accounts| {
                accounts.sort();
                accounts
            })
        };
        same(sorted(self.sqlite.known_accounts(scan).await), sorted(self.postgres.known_accounts(scan).await))
    }

    async fn known_regions(&self, scan: ScanId, account: AccountId) -> Result<Vec<Region>, StoreError> {
        same(self.sqlite.known_regions(scan, account).await, self.postgres.known_regions(scan, account).await)
    }

    async fn record_visits(&self, scan: ScanId, visits: &[Visit], worker: &str) -> Result<(), StoreError> {
        let here = self.sqlite.record_visits(scan, visits, worker).await;
        same(here, self.postgres.record_visits(scan, visits, worker).await)
    }

    async fn finish_scan(
        &self,
        scan: ScanId,
        end: &ScanEnd,
        cost: &ScanCost,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let here = self.sqlite.finish_scan(scan, end, cost, at).await;
        same(here, self.postgres.finish_scan(scan, end, cost, at).await)
    }

    async fn report(&self, scan: ScanId) -> Result<ScanReport, StoreError> {
        let (here, there) = (self.sqlite.report(scan).await?, self.postgres.report(scan).await?);
        assert_eq!(serde_json::to_value(&here).unwrap(), serde_json::to_value(&there).unwrap());
        Ok(here)
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

    async fn ping(&self) -> Result<(), StoreError> {
        same(self.sqlite.ping().await, self.postgres.ping().await)
    }

    async fn close(&self) {
        self.sqlite.close().await;
        self.postgres.close().await;
    }
}
