//! What the same calls cost without a scan: this program starts itself with `wire` or `sdk` and is measured from outside.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

/// Runs a floor, if the arguments ask for one: `wire|sdk URL ACCOUNT CALLS IN_FLIGHT`.
pub fn asked_for(arguments: &[String]) -> bool {
    let [kind @ ("wire" | "sdk"), url, account, calls, in_flight] =
        arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return false;
    };
    let calls = calls.parse().expect("a number of calls");
    let in_flight = in_flight.parse().expect("a number of calls in flight");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if kind == "wire" {
        runtime.block_on(wire(url, account, calls, in_flight));
    } else {
        runtime.block_on(sdk(calls, in_flight));
    }
    true
}

/// Makes `calls` calls, `in_flight` at a time.
async fn repeat<F, Fut>(calls: usize, in_flight: usize, call: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicUsize::new(calls));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (left, call) = (Arc::clone(&left), call.clone());
        workers.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                call().await;
            }
        });
    }
    workers.join_all().await;
}

/// The wire's floor: a keep-alive client that names its caller, as ListAnalyzers would, and computes no signature.
async fn wire(url: &str, account: &str, calls: usize, in_flight: usize) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let scope = format!("AKIASIM0{account}/20260101/us-east-1/access-analyzer/aws4_request");
    let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none");
    let url: hyper::Uri = format!("{url}/analyzer").parse().expect("an address");
    let call = move || {
        let request = hyper::Request::get(url.clone()).header("authorization", &authorization);
        let answer = client.request(request.body(Empty::new()).expect("a request"));
        async move {
            let answer = answer.await.expect("an answer");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.into_body().collect().await.expect("a body");
        }
    };
    repeat(calls, in_flight, call).await;
}

/// The SDK's floor: one client for all calls, with the credentials and the endpoint of the environment.
async fn sdk(calls: usize, in_flight: usize) {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config =
        aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).region(Region::new("us-east-1"));
    let config = config.retry_config(RetryConfig::disabled()).load().await;
    let client = aws_sdk_accessanalyzer::Client::new(&config);
    let call = move || {
        let call = client.list_analyzers().send();
        async move {
            call.await.expect("an answer");
        }
    };
    repeat(calls, in_flight, call).await;
}
