//! The port for health checks. The only user of axum.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

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
    ///
    /// # Errors
    /// Where the port breaks.
    pub async fn run(self, store: Arc<dyn Store>, stop: CancellationToken) -> std::io::Result<()> {
        let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(store);
        axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

/// The process answers.
async fn livez() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The process can do its work: each thing that it needs, by name.
async fn readyz(State(store): State<Arc<dyn Store>>) -> (StatusCode, Json<Value>) {
    match store.ping().await {
        Ok(()) => (StatusCode::OK, Json(json!({"status": "ok", "database": "ok"}))),
        Err(error) => {
            let body = json!({"status": "not ready", "database": error.to_string()});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}
