//! What the stories have in common: a simulated AWS, a store in a folder of its own, and scans between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;
use trustwatch::aws::Aws;
use trustwatch::clock::SystemClock;
use trustwatch::config::{self, Findings, Limits, Organization, TimeSpan};
use trustwatch::model::{Discovered, Listed, ScanId, Visit};
use trustwatch::scan::{Engine, Outcome, ProcessLimits, Progress, Request};
use trustwatch::store::{self, Access, Cell, RowSink, ScanReport, Store};

use crate::awssim::{Scenario, Sim, auth};
use crate::postgres;

/// A simulated organization, and everything that a scan of it needs.
pub struct Story {
    pub sim: Sim,
    pub organization: Organization,
    pub limits: Limits,
    pub findings: Findings,
    pub store: Arc<dyn Store>,
    pub settings: config::Store,
    pub folder: tempfile::TempDir,
}

/// What a story is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Sqlite,
    Postgres,
}

/// Stamps tests for each engine: each is a function of [`Kept`].
macro_rules! on_each_engine {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Kept::Sqlite).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Kept::Postgres).await; })+
        }
    };
}
pub(crate) use on_each_engine;

impl Story {
    pub async fn begin(scenario: &Scenario) -> Self {
        Self::begin_in(Kept::Sqlite, scenario).await
    }

    pub async fn begin_in(kept: Kept, scenario: &Scenario) -> Self {
        let sim = Sim::start(scenario, 0).await.expect("the simulation starts");
        let folder = tempfile::tempdir().expect("a folder");
        let settings = config::Store::at(match kept {
            Kept::Sqlite => format!("sqlite://{}", folder.path().join("trustwatch.db").display()),
            Kept::Postgres => postgres::database().await,
        });
        let store = store::open(&settings, Access::Write { migrate: true }).await.expect("the store opens");
        let limits = Limits { attempt_timeout: TimeSpan(Duration::from_secs(2)), ..Limits::default() };
        Self {
            sim,
            organization: Organization::named("main"),
            limits,
            findings: Findings::default(),
            store,
            settings,
            folder,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn engine(&self) -> Engine {
        self.engine_as(&self.sim.world().caller.clone())
    }

    /// The engine of a caller in another account.
    pub fn engine_as(&self, caller: &str) -> Engine {
        Engine {
            aws: Arc::new(Aws::new(sdk_config(&self.sim.url(), caller, &self.limits), None)),
            organization: self.organization.clone(),
            others: Vec::new(),
            limits: self.limits.clone(),
            findings: self.findings,
            process_limits: Arc::new(ProcessLimits::new(&self.limits)),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            worker: "test".into(),
            lease: self.settings.lease.0,
            max_outage: self.settings.max_outage.0,
        }
    }

    pub async fn scan(&self) -> Outcome {
        scan(&self.engine()).await
    }

    /// Scans, and expects every account to have been visited.
    pub async fn complete_scan(&self) -> ScanReport {
        let outcome = self.scan().await;
        assert_eq!(outcome.error, None);
        self.store.report(outcome.scan_id).await.expect("a report")
    }

    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        rows(self.store.as_ref(), sql).await
    }

    /// `(status, reason)` of every account × region.
    pub async fn coverage(&self) -> BTreeMap<(String, String), (String, String)> {
        self.rows("SELECT account_id, region, status, reason FROM current_coverage")
            .await
            .into_iter()
            .map(|row| match <[String; 4]>::try_from(row) {
                Ok([account, region, status, reason]) => ((account, region), (status, reason)),
                Err(row) => panic!("{row:?}"),
            })
            .collect()
    }

    /// The verdict on one account × region, as `status reason`.
    pub async fn verdict(&self, account: &str, region: &str) -> String {
        let key = (account.to_owned(), region.to_owned());
        let coverage = self.coverage().await;
        coverage.get(&key).map_or_else(|| "no row".to_owned(), |(status, reason)| format!("{status} {reason}"))
    }
}

pub async fn scan(engine: &Engine) -> Outcome {
    engine
        .scan(Request::manual(), Arc::new(Progress::default()), CancellationToken::new())
        .await
        .expect("the store does its part")
}

/// Statements beside the store's own, as nobody should make them.
pub async fn by_hand(settings: &config::Store, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if settings.is_postgres() {
        let mut connection = PgConnection::connect(&settings.url).await.unwrap();
        connection.execute("SET search_path = trustwatch").await.unwrap();
        connection.execute(sql).await.unwrap();
    } else {
        let options = SqliteConnectOptions::new().filename(store::file_of(&settings.url));
        options.connect().await.unwrap().execute(sql).await.unwrap();
    }
}

/// Claims the accounts of visits, as whoever is to record them has done.
pub async fn claim(store: &dyn Store, scan: ScanId, worker: &str, visits: &[Visit]) {
    let listed: Vec<Listed> =
        visits.iter().map(|visit| Listed { account: visit.account.clone(), is_owner: false }).collect();
    assert!(store.acquire_listing(scan, worker).await.unwrap(), "the list is not another's");
    store.add_accounts(scan, worker, &listed).await.unwrap();
    assert_eq!(store.claim_accounts(scan, worker, listed.len() as u32, false).await.unwrap().len(), listed.len());
}

/// What is known of an organization of one account.
pub fn discovered(organization_id: &str) -> Discovered {
    Discovered { organization_id: organization_id.into(), management: None, owners: Vec::new(), owners_known: true }
}

/// The SDK's configuration of a caller, with the endpoint that `AWS_ENDPOINT_URL` would name.
pub fn sdk_config(url: &str, account: &str, limits: &Limits) -> SdkConfig {
    let credentials = Credentials::new(auth::access_key(account), auth::secret_key(account), None, None, "test");
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(limits.connect_timeout.0)
        .read_timeout(limits.attempt_timeout.0)
        .operation_attempt_timeout(limits.attempt_timeout.0)
        .build();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .time_source(aws_smithy_async::time::SystemTimeSource::new())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(url)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .build()
}

/// Takes no notice of any row.
pub struct Nowhere;

impl RowSink for Nowhere {
    fn columns(&mut self, _: Vec<String>) {}
    fn row(&mut self, _: Vec<Cell>) {}
}

pub async fn rows(store: &dyn Store, sql: &str) -> Vec<Vec<String>> {
    #[derive(Default)]
    struct Rows(Vec<Vec<String>>);
    impl RowSink for Rows {
        fn columns(&mut self, _: Vec<String>) {}
        fn row(&mut self, cells: Vec<Cell>) {
            self.0.push(cells.into_iter().map(text).collect());
        }
    }
    let mut sink = Rows::default();
    store.query(sql, &mut sink).await.expect("a query that can be answered");
    sink.0
}

pub fn text(cell: Cell) -> String {
    match cell {
        Cell::Null => "null".into(),
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => format!("{number:.4}"),
        Cell::Text(text) => text,
    }
}
