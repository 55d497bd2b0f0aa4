//! What a daemon tells of itself: health, metrics, its log, its service manager, and traces.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::awssim::weather::{Effect, Rule};
use crate::awssim::{Scenario, Sim};
use crate::daemon::{Daemon, get};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Once a year: a daemon scans at its start, and no more.
const ONCE: (&str, &str) = ("TRUSTWATCH_SCHEDULE__CRON", "0 0 1 1 *");

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_prometheus_reads_and_say_what_was_found() {
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let channel = "[[alerts]]\nname = \"soc\"\nchannel = \"slack\"\nurl = \"https://hooks.example.com/x\"\n";
    std::fs::write(folder.path().join("trustwatch.toml"), channel).unwrap();
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &[ONCE]);
    let address = daemon.address();
    daemon.wait_for("scan ended");
    let answer = get(&address, "/metrics", "");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    for line in [
        "trustwatch_database_up 1",
        "trustwatch_replicas 0",
        "trustwatch_scans_total{state=\"completed\"} 1",
        "trustwatch_scans_total{state=\"failed\"} 0",
        "trustwatch_visits_total{outcome=\"audited\"} 5",
        "trustwatch_aws_calls_total{service=\"sts\",operation=\"AssumeRole\",outcome=\"ok\"} 4",
        "trustwatch_aws_calls_total{service=\"sts\",operation=\"AssumeRole\",outcome=\"throttled\"} 0",
        "trustwatch_aws_calls_in_flight 0",
        "trustwatch_visits_in_flight 0",
        "trustwatch_accounts_left{organization=\"main\"} 0",
        "trustwatch_accounts{organization=\"main\",outcome=\"audited\"} 5",
        "trustwatch_scan_overdue{organization=\"main\"} 0",
        "trustwatch_measured_ratio{organization=\"main\"} 1",
        "trustwatch_claims_lost_total 0",
        "trustwatch_database_outages_total 0",
        "trustwatch_alert_attempts_total{channel=\"soc\",outcome=\"delivered\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
    for name in [
        "trustwatch_coverage_ratio{",
        "trustwatch_coverage_last_known_ratio{",
        "trustwatch_last_scan_started_timestamp_seconds{",
        "trustwatch_last_scan_completed_timestamp_seconds{",
        "trustwatch_last_scan_duration_seconds{",
        "trustwatch_store_seconds_bucket{verb=\"record_visits\"",
        "trustwatch_scan_stage_seconds_count{stage=\"audit\"}",
        "trustwatch_build_info{",
    ] {
        assert!(text.lines().any(|found| found.starts_with(name)), "no {name} in\n{text}");
    }
    assert!(!text.contains(&sim.world_caller()), "no account is named");
    let described = text.lines().filter(|line| line.starts_with("# HELP trustwatch_")).count();
    let typed = text.lines().filter(|line| line.starts_with("# TYPE trustwatch_")).count();
    assert!(described == typed && described > 15, "each has its help: {described} of {typed}");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_wrong_and_tells_it_to_those_with_the_token() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let refusing = |operation: &str| Rule {
        service: None,
        operation: Some(operation.into()),
        account: None,
        region: None,
        probability: 1.0,
        first: None,
        effect: Effect::ExpiredToken,
    };
    sim.weather(vec![refusing("GetCallerIdentity")]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let settings = [ONCE, ("TRUSTWATCH_HTTP__TOKEN_FILE", "token"), ("TRUSTWATCH_HTTP__LISTEN", "0.0.0.0:0")];
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &settings);
    let address = daemon.address().replace("0.0.0.0", "127.0.0.1");
    daemon.wait_for("scan failed");
    let bearing = format!("Authorization: Bearer {TOKEN}\r\n");
    let told = get(&address, "/readyz", &bearing);
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    let body: serde_json::Value = serde_json::from_str(told.split_once("\r\n\r\n").unwrap().1).unwrap();
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["status", "database", "schema", "credentials of main", "last scan of main"]);
    assert_eq!((&body["database"], &body["schema"]), (&"ok".into(), &"ok".into()));
    assert!(body["credentials of main"].as_str().unwrap().contains("expired"), "{body}");
    assert_eq!(body["last scan of main"], "ok", "it has had no time for one yet");

    let untold = get(&address, "/readyz", "");
    assert!(untold.starts_with("HTTP/1.1 503") && untold.ends_with("{\"status\":\"not ready\"}"), "{untold}");
    assert!(get(&address, "/livez", "").starts_with("HTTP/1.1 200"));
    for path in ["/metrics", "/buildinfo"] {
        for wrong in ["", "Authorization: Bearer 0123456789abcdef0123456789abcdee\r\n", "Authorization: Basic eDp5\r\n"]
        {
            let refused = get(&address, path, wrong);
            assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("www-authenticate: Bearer"), "{refused}");
        }
        assert!(get(&address, path, &bearing).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(get(&address, "/buildinfo", &bearing).contains(env!("CARGO_PKG_VERSION")));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    assert!(!daemon.seen.contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_the_log_is_read_anew_at_hup_and_nothing_else_is() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trustwatch.toml");
    std::fs::write(&file, "[log]\nlevel = \"warn,trustwatch=info\"\n").unwrap();
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &[]);
    daemon.wait_for("scan ended");
    std::fs::write(&file, "[log]\nlevel = \"info,trustwatch=debug\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    assert!(daemon.wait_for("the level of the log was read anew").contains("\"level\":\"info,trustwatch=debug\""));
    std::fs::write(&file, "[log]\nlevel = \"trace\"\n[limits]\nin_flight = \"many\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    let refused = daemon.wait_for("the level of the log stays as it was");
    assert!(refused.contains("limits.in_flight"), "{refused}");
    daemon.wait_for("scan ended");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_that_it_is_ready_alive_and_ending() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = path.to_str().unwrap();
    let settings = [ONCE, ("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "300000")];
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &settings);
    let hear = || {
        let mut heard = [0; 256];
        let length = socket.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).trim().to_owned()
    };
    let mut heard: Vec<String> = Vec::new();
    let times = |heard: &[String], word: &str| heard.iter().filter(|one| *one == word).count();
    while times(&heard, "READY=1") == 0 || times(&heard, "WATCHDOG=1") < 2 {
        heard.push(hear());
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    while hear() != "STOPPING=1" {}
}

#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread")]
async fn traces_of_a_scan_reach_a_collector() {
    use std::io::{Read, Write};
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", collector.local_addr().unwrap());
    let settings = [ONCE, ("TRUSTWATCH_TRACING__OTLP_ENDPOINT", endpoint.as_str())];
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &settings);
    daemon.wait_for("scan ended");
    daemon.signal(Signal::SIGTERM);
    // What waits is sent at the end: the collector answers meanwhile.
    let (mut stream, _) = collector.accept().unwrap();
    let (mut request, mut part) = (Vec::new(), [0; 65_536]);
    let is_whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).into_owned();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        request.len() >= head.len() + 4 + length.unwrap_or(0_usize)
    };
    while !is_whole(&request) {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "the request broke off");
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    drop(stream);
    let text = String::from_utf8_lossy(&request);
    assert!(text.starts_with("POST /v1/traces "), "{text}");
    for word in ["trustwatch", "scan.account", "account.id", "application/x-protobuf"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
}

#[cfg(not(feature = "otlp"))]
#[test]
fn traces_that_this_binary_cannot_send_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = [("TRUSTWATCH_TRACING__OTLP_ENDPOINT", "http://localhost:4318/v1/traces".to_owned())];
    let ran = crate::binary::run(folder.path(), &["run"], &endpoint);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("built without OTLP"), "{}", ran.stderr);
}
