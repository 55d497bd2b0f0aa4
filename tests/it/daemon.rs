//! The daemon as a process: it scans on its schedule, answers health checks, and ends when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::awssim::server::environment;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::{Scenario, Sim};
use crate::binary::{command, run};

/// A process that ends with the test, however that ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Daemon {
    child: Running,
    log: BufReader<ChildStderr>,
    pub seen: String,
}

impl Daemon {
    pub fn start(sim: &Sim, folder: &std::path::Path, arguments: &[&str]) -> Self {
        Self::start_with(sim, folder, arguments, &[])
    }

    pub fn start_with(sim: &Sim, folder: &std::path::Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let caller = sim.world().caller.clone();
        let mut command = command(folder, arguments);
        command
            .envs(environment(&sim.url(), &caller))
            .env("TRUSTWATCH_SCHEDULE__CRON", "* * * * * *")
            .env("TRUSTWATCH_HTTP__LISTEN", "127.0.0.1:0")
            .envs((arguments == ["scan"]).then_some(("TRUSTWATCH_LOG__LEVEL", "info")))
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child: Running(child), log, seen: String::new() }
    }

    /// Reads the log until a line has these words in it.
    pub fn wait_for(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).unwrap();
            assert!(read > 0, "the log ended without {words:?}:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The address of its port, once that is open.
    pub fn address(&mut self) -> String {
        let line = self.wait_for("the port for health checks and metrics is open");
        let opened: serde_json::Value = serde_json::from_str(&line).expect("JSON where there is no terminal");
        opened["address"].as_str().unwrap().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.0.id() as i32), signal).unwrap();
    }

    /// Tells it to end, and expects it to end well.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.end(), Some(0), "{}", self.seen);
    }

    pub fn end(&mut self) -> Option<i32> {
        let _ = self.log.read_to_string(&mut self.seen);
        self.child.0.wait().unwrap().code()
    }
}

/// Asks the port of a daemon; `headers` are whole lines.
pub fn get(address: &str, path: &str, headers: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}"), "")
}

/// Sends a request as it stands, but for the end of its headers.
pub fn ask(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn it_scans_on_schedule_answers_and_ends_on_term() {
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(&sim, folder.path(), &["run"]);
    let address = daemon.address();
    for _ in 0..3 {
        daemon.wait_for("scan ended");
    }
    assert!(get(&address, "/livez", "").starts_with("HTTP/1.1 200"));
    let ready = get(&address, "/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"database\":\"ok\""), "{ready}");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    let sql =
        "SELECT min(trigger), max(trigger), count(*) >= 3, count(DISTINCT scheduled_for) = count(*) FROM scan_summary";
    let ran = run(folder.path(), &["query", "--format", "csv", sql], &[]);
    assert_eq!(ran.stdout.lines().last(), Some("schedule,startup,1,1"), "{}", ran.stderr);
}

fn hang() -> Vec<Rule> {
    vec![Rule {
        service: None,
        operation: Some("ListAnalyzers".into()),
        account: None,
        region: Some("eu-west-1".into()),
        probability: 1.0,
        first: None,
        effect: Effect::Hang,
    }]
}

#[tokio::test(flavor = "multi_thread")]
async fn term_in_the_middle_of_a_scan_hands_it_back_with_exit_code_0_and_the_next_start_completes_it() {
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    sim.weather(hang());
    let folder = tempfile::tempdir().unwrap();
    let mut daemon =
        Daemon::start_with(&sim, folder.path(), &["run"], &[("TRUSTWATCH_LIMITS__SHUTDOWN_GRACE", "50ms")]);
    daemon.wait_for("scan begins");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    let ask = |sql: &str| {
        let ran = run(folder.path(), &["query", "--format", "csv", sql], &[]);
        ran.stdout.lines().last().unwrap().to_owned()
    };
    assert_eq!(ask("SELECT state FROM scan_summary WHERE scan_id = 1"), "running");
    sim.weather(vec![]);
    let mut daemon = Daemon::start(&sim, folder.path(), &["run"]);
    daemon.wait_for("scan is resumed where another process left it");
    daemon.wait_for("scan ended");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    assert_eq!(ask("SELECT state, accounts FROM scan_summary WHERE scan_id = 1"), "completed,5");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_term_is_finished_within_the_grace() {
    let sim = Sim::start(&Scenario { latency_ms: 20, ..Scenario::calm(30) }, 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let few = [("TRUSTWATCH_LIMITS__ACCOUNTS_IN_FLIGHT", "4"), ("TRUSTWATCH_LIMITS__SHUTDOWN_GRACE", "1m")];
    let mut daemon = Daemon::start_with(&sim, folder.path(), &["run"], &few);
    daemon.wait_for("scan begins");
    sim.counters().reach("access-analyzer:ListAnalyzers", 1).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end(), Some(0), "{}", daemon.seen);
    let sql = "SELECT count(*) > 0, count(*) < 32, count(*) FILTER (WHERE outcome = 'pending') FROM account_visits";
    let ran = run(folder.path(), &["query", "--format", "csv", sql], &[]);
    assert_eq!(ran.stdout.lines().last(), Some("1,1,0"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_scan_ends_with_exit_code_130_and_keeps_what_it_recorded() {
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    sim.weather(hang());
    let folder = tempfile::tempdir().unwrap();
    let mut scan = Daemon::start(&sim, folder.path(), &["scan"]);
    scan.wait_for("scan begins");
    scan.signal(Signal::SIGINT);
    assert_eq!(scan.end(), Some(130), "{}", scan.seen);
    let sql = "SELECT count(*) FROM scan_summary WHERE state IN ('incomplete', 'failed') AND finished_at IS NOT NULL";
    let ran = run(folder.path(), &["query", "--format", "csv", sql], &[]);
    assert_eq!(ran.stdout.lines().last(), Some("1"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_killed_is_gone_on_with_by_the_next() {
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    sim.weather(hang());
    let folder = tempfile::tempdir().unwrap();
    let mut scan = Daemon::start(&sim, folder.path(), &["scan"]);
    scan.wait_for("scan begins");
    scan.signal(Signal::SIGKILL);
    assert_eq!(scan.end(), None);
    sim.weather(vec![]);
    let mut next = Daemon::start(&sim, folder.path(), &["scan"]);
    assert_eq!(next.end(), Some(0), "{}", next.seen);
    let sql = "SELECT scan_id, state, accounts FROM scan_summary";
    let ran = run(folder.path(), &["query", "--format", "csv", sql], &[]);
    assert_eq!(ran.stdout.lines().last(), Some("1,completed,5"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_the_daemon_with_a_failure() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let caller = sim.world().caller.clone();
    let output = command(folder.path(), &["run"])
        .envs(environment(&sim.url(), &caller))
        .env("TRUSTWATCH_HTTP__LISTEN", &address)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&format!("opening the port {address} (http.listen)")), "{log}");
}
