//! The port for health checks, metrics and pages. The only user of axum and hyper.
//!
//! Beyond the loopback interface it asks for a bearer token. Without one, the probes (`/livez`, `/readyz`) say their status
//! and nothing else.

mod listen;
mod pages;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Secret;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::store::Store;

/// What is served.
pub struct Served {
    /// Whether the process can do its work.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
    /// What a request must bear to be told more than a status.
    pub token: Option<Secret>,
    /// Whether everybody who reaches the port may ask everything, by whatever name.
    pub is_open: bool,
    /// Where results are kept.
    pub store: Arc<dyn Store>,
    /// The configuration's names of the organizations.
    pub organizations: Vec<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A port that is open.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Opens the port.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was given out.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn run(self, served: Served, stop: CancellationToken) {
        let served = Arc::new(served);
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/buildinfo", get(buildinfo))
            .merge(pages::router(&served))
            .with_state(served);
        listen::serve(self.listener, router, stop).await;
    }
}

impl Served {
    /// Whether a request may be told more than a status.
    fn trusts(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let borne = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let borne =
            borne.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // Digests are compared, so that the time this takes says nothing of the token.
        borne.is_some_and(|(_, borne)| Sha256::digest(borne.trim()) == Sha256::digest(token.expose()))
    }

    /// Whether a request is told more than a status: it bears the token; or none is asked for, and it is for this machine.
    fn tells(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        if !self.trusts(headers) {
            return Err(Box::new(refused()));
        }
        session::misdirected(self, headers).map_or(Ok(()), |refused| Err(Box::new(refused)))
    }
}

/// What a request without the token is told (RFC 6750, section 3).
fn refused() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"trustwatch\"")];
    (StatusCode::UNAUTHORIZED, challenge, Json(json!({"error": "a bearer token is required"}))).into_response()
}

/// The process answers.
async fn livez() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The process can do its work: each thing that it needs, by name.
async fn readyz(State(served): State<Arc<Served>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let checks = served.health.checks().await;
    let is_ready = checks.iter().all(|check| check.problem.is_none());
    let (code, status) = if is_ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    let mut body = Map::from_iter([("status".to_owned(), json!(status))]);
    if served.tells(&headers).is_ok() {
        body.extend(checks.into_iter().map(|check| (check.name, json!(check.problem.as_deref().unwrap_or("ok")))));
    }
    (code, Json(Value::Object(body)))
}

/// Metrics in Prometheus's text format.
async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    if let Err(refused) = served.tells(&headers) {
        return *refused;
    }
    let scraped = served.health.scraped().await;
    let text = served.metrics.render(scraped.as_ref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// What this process was built from.
async fn buildinfo(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    if let Err(refused) = served.tells(&headers) {
        return *refused;
    }
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "commit": env!("BUILD_COMMIT"), "otlp": cfg!(feature = "otlp")}))
        .into_response()
}
