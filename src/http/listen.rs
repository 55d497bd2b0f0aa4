//! Connections to the port: so many at once, and none for long.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Connections at once; more wait. Each is an open file, and calls to AWS need those too.
const CONNECTIONS: usize = 128;

/// For how long a connection is waited for that has not asked yet, or not to the end; and at its end for what it has asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long one connection may ask for this and that. Whoever does not take the answers, or does not send what was to come,
/// holds it no longer; all others begin another.
const LIFE: Duration = Duration::from_secs(30);

/// When a connection could not be taken, as where no file can be opened, until the next is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers until `stop`, and then what was asked by then.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
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
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let stop = stop.clone();
        while let Some(ended) = connections.try_join_next() {
            say_if_panicked(ended);
        }
        connections.spawn(async move {
            let _slot = slot;
            let mut connection = pin!(connection);
            // Whoever asked has gone, or does not listen: there is nobody to tell.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = timeout(LIFE, stop.cancelled()) => connection.as_mut().graceful_shutdown(),
            }
            let _ = timeout(PATIENCE, connection).await;
        });
    }
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

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_rest_never_comes_is_given_up_and_so_it_is_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", axum::routing::post(async |body: String| body));
        let half = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await.unwrap();
            stream
        };
        let asking = async {
            let mut stream = half().await;
            let begun = tokio::time::Instant::now();
            assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0, "nobody is answered");
            assert_eq!(begun.elapsed().as_secs(), (LIFE + PATIENCE).as_secs());
            let stream = half().await;
            stop.cancel();
            stream
        };
        tokio::join!(serve(listener, router, stop.clone()), asking);
    }
}
