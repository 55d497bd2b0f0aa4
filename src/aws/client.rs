//! The one HTTP client, the SDK's configuration, and a client for each service and region.
//!
//! Making a client is the dear part (179 µs against 58 µs for a call), so one is kept for each service and region, and
//! the credentials of each account are put into each call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_http_client::pool::{self, ConnectionPool};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls;

use super::Operation;
use super::required::RequireList;
use super::traffic::Traffic;
use crate::model::{Partition, Region};

/// The caller's credentials are replaced so long before they end. Not much longer: the instance metadata service may give some
/// that hold for a few minutes only, which would then be asked for anew by each call.
const RENEW_BEFORE: Duration = Duration::from_mins(2);

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectSettings {
    /// The profile of the AWS configuration; the ambient credentials without one.
    pub profile: Option<String>,
    /// The region whose STS is asked; the caller's region without one.
    pub sts_region: Option<String>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// Connections kept to one host.
    pub connections_per_host: usize,
}

/// AWS, as one caller sees it.
#[derive(Debug)]
pub struct Aws {
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) organizations: aws_sdk_organizations::Client,
    pub(super) account: aws_sdk_account::Client,
    access_analyzer: Mutex<HashMap<Region, aws_sdk_accessanalyzer::Client>>,
    #[cfg(feature = "security-hub")]
    security_hub: Mutex<HashMap<Region, aws_sdk_securityhub::Client>>,
    config: SdkConfig,
    home_region: String,
    traffic: Traffic,
}

/// Whose credentials a call is made with.
#[derive(Debug, Clone)]
pub enum Session {
    /// The caller's own, renewed by the SDK.
    Caller,
    /// Those of an assumed role. They are wiped from memory when dropped and never written anywhere.
    Assumed(Credentials),
}

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("building the HTTP client: {0}")]
pub struct ConnectError(String);

/// The client of a service in a region, made once, with whatever else is to look at its calls.
macro_rules! in_region {
    ($aws:expr, $sdk:ident, $clients:expr, $region:expr $(, $interceptor:expr)?) => {{
        let mut clients = $clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry($region.clone()).or_insert_with(|| {
            let config = $sdk::config::Builder::from(&$aws.config)
                .region(aws_config::Region::new($region.as_str().to_owned()))
                $(.interceptor($interceptor))?
                .interceptor($aws.traffic.clone())
                .build();
            $sdk::Client::from_conf(config)
        });
        client.clone()
    }};
}

impl Aws {
    /// Finds the caller's credentials and region, and prepares the clients. No call is made.
    ///
    /// # Errors
    /// Where no HTTP client can be built: no usable root certificates, or a proxy that cannot be read.
    pub async fn connect(settings: &ConnectSettings) -> Result<Self, ConnectError> {
        let pool = ConnectionPool::builder()
            .max_connections_per_host(settings.connections_per_host)
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https()
            .map_err(|error| ConnectError(error.to_string()))?;
        let http = pool::Client::new(&pool).map_err(|error| ConnectError(error.to_string()))?;
        // Set once, here: a timeout that is overridden for a call would make another pool.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.attempt_timeout)
            .operation_attempt_timeout(settings.attempt_timeout)
            .build();
        // Credentials that end are replaced before: how long they hold is judged by this machine's clock, which may be behind.
        let renewing = IdentityCache::lazy().buffer_time(RENEW_BEFORE).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http.clone())
            .timeout_config(timeouts)
            .identity_cache(renewing);
        if let Some(profile) = &settings.profile {
            // A profile that was asked for is taken, whatever the environment holds: the default chain would prefer that.
            let region = aws_config::profile::ProfileFileRegionProvider::builder().profile_name(profile).build();
            let region = region.region().await;
            // It may have to assume a role, which takes a region, though it names none.
            let assumes_in = match (&region, &settings.sts_region) {
                (Some(region), _) => Some(region.clone()),
                (None, Some(region)) => Some(aws_config::Region::new(region.clone())),
                (None, None) => aws_config::default_provider::region::default_provider().region().await,
            };
            let provider = ProviderConfig::without_region().with_http_client(http).with_region(assumes_in);
            let credentials = ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile);
            loader = loader.profile_name(profile).credentials_provider(credentials.build());
            if let Some(region) = region {
                loader = loader.region(region);
            }
        }
        Ok(Self::new(loader.load().await, settings.sts_region.as_deref()))
    }

    /// Prepares the clients over a configuration of the SDK.
    pub fn new(config: SdkConfig, sts_region: Option<&str>) -> Self {
        let ambient = config.region().map(|region| region.as_ref().to_owned());
        let home_region = sts_region.map(str::to_owned).or(ambient).unwrap_or_else(|| "us-east-1".to_owned());
        // The SDK's budget of retries is one for all accounts of a region: one sick account would take it from all. Only
        // the providers of the caller's own credentials keep theirs.
        let config = config
            .into_builder()
            .region(aws_config::Region::new(home_region.clone()))
            .retry_config(RetryConfig::disabled())
            .build();
        let traffic = Traffic::default();
        macro_rules! client {
            ($sdk:ident) => {{
                let config = $sdk::config::Builder::from(&config).interceptor(traffic.clone());
                $sdk::Client::from_conf(config.build())
            }};
        }
        Self {
            sts: client!(aws_sdk_sts),
            organizations: client!(aws_sdk_organizations),
            account: client!(aws_sdk_account),
            access_analyzer: Mutex::default(),
            #[cfg(feature = "security-hub")]
            security_hub: Mutex::default(),
            config,
            home_region,
            traffic,
        }
    }

    /// The bytes that an operation moved so far, over all scans of this caller.
    pub fn bytes(&self, operation: Operation) -> u64 {
        self.traffic.of(operation)
    }

    /// The SDK's configuration.
    #[cfg(feature = "sns")]
    pub(super) const fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The partition that the caller's region is in.
    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.home_region)
    }

    /// The client of Access Analyzer in a region; made once.
    pub(super) fn access_analyzer_in(&self, region: &Region) -> aws_sdk_accessanalyzer::Client {
        in_region!(self, aws_sdk_accessanalyzer, self.access_analyzer, region, RequireList)
    }

    /// The client of Security Hub in a region; made once.
    #[cfg(feature = "security-hub")]
    pub(super) fn security_hub_in(&self, region: &Region) -> aws_sdk_securityhub::Client {
        in_region!(self, aws_sdk_securityhub, self.security_hub, region)
    }
}

/// Makes one call with a session's credentials: `send!(request, sdk crate, session)`.
macro_rules! send {
    ($request:expr, $sdk:ident, $session:expr) => {
        match $session {
            $crate::aws::Session::Caller => $request.send().await,
            $crate::aws::Session::Assumed(credentials) => {
                let identity = $sdk::config::Builder::new().credentials_provider(credentials.clone());
                $request.customize().config_override(identity).send().await
            }
        }
    };
}

pub(super) use send;
