//! Connections to the port: so many at once, and none for long that asks for nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Connections at once; more wait. Each is an open file, and calls to AWS need those too.
const CONNECTIONS: usize = 128;

/// For how long a connection is waited for that has not asked yet, or not to the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// When a connection could not be taken, as where no file can be opened, until the next is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers until `stop`, and then what was asked by then.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let under_way = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let next = async || {
        // It is never closed.
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return (slot, stream),
                Err(error) => {
                    warn!("a connection cannot be taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    let mut connections = JoinSet::new();
    while let Some((slot, stream)) = stop.run_until_cancelled(next()).await {
        let service = TowerToHyperService::new(router.clone());
        let connection = under_way.watch(http.serve_connection(TokioIo::new(stream), service));
        while let Some(ended) = connections.try_join_next() {
            say_if_panicked(ended);
        }
        connections.spawn(async move {
            // Whoever asked has gone: there is nobody to tell.
            let _ = connection.await;
            drop(slot);
        });
    }
    under_way.shutdown().await;
    while let Some(ended) = connections.join_next().await {
        say_if_panicked(ended);
    }
}

/// One request that cannot be answered ends its connection alone.
fn say_if_panicked(ended: Result<(), JoinError>) {
    if let Err(problem) = ended {
        error!("answering a request failed: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_never_end_hold_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "answered"));
        let half = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            stream
        };
        let asking = async {
            let mut halves = Vec::new();
            for _ in 0..CONNECTIONS {
                halves.push(half().await);
            }
            let mut whole = TcpStream::connect(address).await.unwrap();
            whole.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            whole.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("answered"), "{answer}");
            halves.push(half().await);
            stop.cancel();
            halves
        };
        tokio::join!(serve(listener, router, stop.clone()), asking);
    }
}
