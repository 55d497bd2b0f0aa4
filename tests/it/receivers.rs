//! Those who are told: an HTTP server, a sink of mail, and Amazon SNS as moto has it. Each listens on loopback, for real.

use std::convert::Infallible;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::daemon::Running;

/// What a receiver was sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that keeps what it is sent, and answers as it is told.
pub struct Receiver {
    pub url: String,
    shared: Arc<Shared>,
    /// Ends with it.
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// What it answers; 0 for nothing at all.
    status: AtomicU16,
    more: Notify,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { status: AtomicU16::new(200), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let mut serving_it = JoinSet::new();
        serving_it.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&serving);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, shared, _serving: serving_it }
    }

    /// From now on it answers so; 0 is for not at all.
    pub fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until it was sent so many.
    pub async fn reaches(&self, number: usize) -> Vec<Received> {
        loop {
            let more = self.shared.more.notified();
            let received = self.received();
            if received.len() >= number {
                return received;
            }
            more.await;
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = request.headers().iter().map(header).collect();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    shared.received.lock().unwrap().push(Received { headers, body });
    shared.more.notify_waiters();
    match shared.status.load(Ordering::SeqCst) {
        0 => std::future::pending().await,
        status => Ok(Response::builder().status(status).body(Full::default()).unwrap()),
    }
}

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/receivers/bin").join(name)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server that has to be given its port, and waits until it is there.
async fn start(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> (Running, u16) {
    loop {
        let port = free_port();
        let mut child = Command::new(tool(program))
            .args(arguments(port))
            .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make test` installs the receivers");
        while child.try_wait().unwrap().is_none() {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return (Running(child), port);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A mail server that keeps what it is given in a folder, one file for each message, and holds off the addresses that the file
/// `held` beside that folder names.
pub async fn mail_sink(folder: &Path) -> (Running, u16) {
    let folder = folder.display().to_string();
    start("aiosmtpd", |port| {
        ["-n", "-l", &format!("127.0.0.1:{port}"), "-c", "mail_sink.Sink", &folder].map(str::to_owned).to_vec()
    })
    .await
}

/// What a mail server was given.
pub fn mails(folder: &Path) -> Vec<String> {
    let mut mails: Vec<_> =
        std::fs::read_dir(folder.join("new")).into_iter().flatten().map(|one| one.unwrap().path()).collect();
    mails.sort();
    mails.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// moto, which answers as Amazon SNS and SQS do.
pub async fn moto() -> (Running, String) {
    let (running, port) =
        start("moto_server", |port| ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec()).await;
    (running, format!("http://127.0.0.1:{port}"))
}
