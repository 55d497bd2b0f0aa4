//! `trustwatch status`: how it stands, at a glance, and again and again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trustwatch::config;

use crate::alerts::add;
use crate::awssim::control::Change;
use crate::awssim::{Scenario, Sim};
use crate::binary::{command, run_against};
use crate::support::by_hand;

const REGION: &str = "eu-west-1";

#[tokio::test]
async fn it_says_what_holds_what_changed_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    let ran = run_against(&sim, folder, &["scan"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let status = || async {
        let ran = run_against(&sim, folder, &["status"]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
    };
    let first = status().await;
    for expected in
        ["main · o-", "scan 1, just now", "coverage    0.0 %  █", "85 account × regions not covered", "nothing changed"]
    {
        assert!(first.contains(expected), "{expected}: {first}");
    }
    assert!(!first.contains("the service itself"), "{first}");

    let owner = sim.world_caller();
    let region = REGION.to_owned();
    sim.change(&add(&owner, REGION, "ORGANIZATION"));
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let gained = status().await;
    assert!(gained.contains("5  gained coverage: eu-west-1 5"), "{gained}");
    assert!(gained.contains("▁█"), "the trend: {gained}");

    // It is lost again, and an account cannot be read any more.
    sim.change(&Change::DeleteAnalyzer { account: owner.clone(), region, name: "watch".into() });
    let member = sim.members().remove(0);
    sim.change(&Change::BreakRole { account: member });
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let lost = status().await;
    for expected in
        ["4  lost coverage: eu-west-1 4", "19  became unreadable: ", "and 16 more regions", "19 could not be read"]
    {
        assert!(lost.contains(expected), "{expected}: {lost}");
    }

    sim.world().switches.hide_accounts = true;
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 1);
    let failed = status().await;
    assert!(failed.contains("scan 4 is failed: listing the accounts"), "{failed}");
    assert!(failed.contains("scan 3, just now"), "what holds is of the newest that was completed: {failed}");
}

#[tokio::test]
async fn what_is_seen_no_more_is_not_shown_as_it_was_and_what_is_old_is_called_old() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sim = Sim::start(&Scenario::calm(3), 0).await.unwrap();
    sim.change(&add(&sim.world_caller(), REGION, "ORGANIZATION"));
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let all: Vec<String> = sim.world().accounts.keys().cloned().collect();
    for account in &all {
        sim.change(&Change::BreakRole { account: account.clone() });
    }
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 1, "nobody can be entered");
    let blind = run_against(&sim, folder, &["status"]).await.stdout;
    for expected in ["scan 2, just now", "became unreadable: ", "scan 2 is failed"] {
        assert!(blind.contains(expected), "{expected}: {blind}");
    }
    assert!(!blind.contains("  0 could not be read"), "{blind}");
    sim.change(&Change::AddAccount { account: "999999999999".into(), name: "joined".into() });
    for account in all {
        sim.change(&Change::MendRole { account });
    }
    assert_eq!(run_against(&sim, folder, &["scan"]).await.code, 0);
    let joined = run_against(&sim, folder, &["status"]).await.stdout;
    assert!(joined.contains("new gaps: "), "{joined}");

    let url = format!("sqlite://{}", folder.join("trustwatch.db").display());
    by_hand(&config::Store::at(url), "UPDATE scan SET finished_at = '2026-01-01T00:00:00.000000Z'").await;
    let old = run_against(&sim, folder, &["status"]).await.stdout;
    assert!(old.contains("nobody has looked: these figures are old"), "{old}");
    assert!(!old.contains("since yesterday  ") && !old.contains("as yesterday"), "{old}");
}

#[tokio::test]
async fn before_the_first_scan_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let ran = run_against(&sim, folder.path(), &["status"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("trustwatch scan"), "{}", ran.stderr);
    let ran = run_against(&sim, folder.path(), &["status", "--organization", "other"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("no such organization"), "{}", ran.stderr);
    let ran = run_against(&sim, folder.path(), &["status", "--watch", "0"]).await;
    assert_eq!(ran.code, 2);
}

#[tokio::test]
async fn it_is_shown_again_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    assert_eq!(run_against(&sim, folder.path(), &["scan"]).await.code, 0);
    let mut child = command(folder.path(), &["status", "--watch", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let shown = tokio::task::spawn_blocking(move || {
        let mut lines = out.lines().map_while(Result::ok);
        // To a pipe it writes what it writes to a terminal, without moving any cursor.
        let heads = lines.by_ref().filter(|line| line.starts_with("main · ")).take(2).count();
        (heads, lines)
    });
    let (heads, lines) = shown.await.unwrap();
    assert_eq!(heads, 2);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
