//! One scan after another: what is unchanged writes nothing, what is unknown keeps its last answer, what left is closed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trustwatch::model::{ScanState, Trigger};
use trustwatch::scan::{Progress, Request};
use trustwatch::store::{self, Access, StoreError};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::support::{Kept, Nowhere, Story, by_hand, on_each_engine};

const SIZES: &str = "SELECT (SELECT count(*) FROM coverage), (SELECT count(*) FROM analyzer)";

async fn a_scan_of_an_unchanged_organization_adds_no_interval(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario { seed: 2, ..Scenario::default() }).await;
    story.complete_scan().await;
    let (sizes, coverage) = (story.rows(SIZES).await, story.coverage().await);
    for _ in 0..2 {
        story.complete_scan().await;
        assert_eq!(story.rows(SIZES).await, sizes);
        assert_eq!(story.coverage().await, coverage);
    }
    let checked = "SELECT count(*) FROM current_coverage WHERE checked_at <= since OR scan_id <> 3";
    assert_eq!(story.rows(checked).await, [["0"]]);
}

async fn an_account_that_cannot_be_read_keeps_its_last_known_answer(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario { accounts: 4, organization: true, ..Scenario::calm(4) }).await;
    let owner = story.sim.world().caller.clone();
    let member = story.sim.world().accounts.keys().find(|id| **id != owner).unwrap().clone();
    let (region, name, kind) = ("eu-west-1".to_owned(), "org".to_owned(), "ORGANIZATION".to_owned());
    story.sim.change(&Change::AddAnalyzer { account: owner, region, name, kind });
    let first = story.complete_scan().await;
    let management = story.sim.world().management().unwrap().to_owned();
    let member = if member == management { story.sim.members().remove(0) } else { member };
    story.sim.change(&Change::BreakRole { account: member.clone() });
    let second = story.complete_scan().await;
    let row = format!(
        "SELECT status, last_known_status, last_known_at < checked_at, since = checked_at FROM current_coverage
         WHERE account_id = '{member}' AND region = 'eu-west-1'"
    );
    assert_eq!(story.rows(&row).await, [["unknown", "covered", "1", "1"]]);
    // The rows are those of the regions last seen, and the trend does not jump.
    let rows = format!("SELECT count(*) FROM current_coverage WHERE account_id = '{member}'");
    assert_eq!(story.rows(&rows).await, [["19"]]);
    assert_eq!(first.scan.coverage_ratio_last_known, second.scan.coverage_ratio_last_known);
    assert!(second.scan.measured_ratio < first.scan.measured_ratio);

    story.sim.change(&Change::MendRole { account: member.clone() });
    story.complete_scan().await;
    assert_eq!(story.verdict(&member, "eu-west-1").await, "covered organization_analyzer");
}

async fn an_account_that_left_has_no_row_and_comes_back_with_new_ones(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(9)).await;
    let member = story.sim.members().remove(0);
    let (region, name, kind) = ("eu-west-1".to_owned(), "watch".to_owned(), "ACCOUNT".to_owned());
    story.sim.change(&Change::AddAnalyzer { account: member.clone(), region, name, kind });
    story.complete_scan().await;
    let account = story.sim.world().accounts[&member].clone();
    let analyzers = story.sim.world().analyzers[&member].clone();
    let rows = format!("SELECT count(*) FROM current_coverage WHERE account_id = '{member}'");
    assert_eq!(story.rows(&rows).await, [["19"]]);

    story.sim.change(&Change::RemoveAccount { account: member.clone() });
    let report = story.complete_scan().await;
    assert_eq!(report.scan.accounts, Some(10));
    assert_eq!(story.rows(&rows).await, [["0"]]);
    assert_eq!(story.rows("SELECT count(*) FROM current_analyzers").await, [["0"]]);

    story.sim.world().accounts.insert(member.clone(), account);
    story.sim.world().analyzers.insert(member.clone(), analyzers);
    story.complete_scan().await;
    assert_eq!(story.rows(&rows).await, [["19"]]);
    let kept = format!(
        "SELECT count(*), count(*) FILTER (WHERE valid_to IS NULL) FROM coverage JOIN account USING (account_key) WHERE account_id = '{member}'"
    );
    assert_eq!(story.rows(&kept).await, [["38", "19"]]);
}

async fn an_analyzer_that_is_deleted_or_changed_ends_its_interval(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(2)).await;
    let owner = story.sim.world().caller.clone();
    let (account, region, name) = (owner.clone(), "eu-west-1".to_owned(), "watch".to_owned());
    let kind = "ACCOUNT".to_owned();
    story.sim.change(&Change::AddAnalyzer {
        account: account.clone(),
        region: region.clone(),
        name: name.clone(),
        kind,
    });
    story.complete_scan().await;
    let reason = Some("AWS_SERVICE_ACCESS_DISABLED".to_owned());
    let disable =
        Change::DisableAnalyzer { account: account.clone(), region: region.clone(), name: name.clone(), reason };
    story.sim.change(&disable);
    story.complete_scan().await;
    let now = story.rows("SELECT status, status_reason FROM current_analyzers").await;
    assert_eq!(now, [["DISABLED", "AWS_SERVICE_ACCESS_DISABLED"]]);
    assert_eq!(story.verdict(&owner, "eu-west-1").await, "not_covered analyzer_not_active");
    story.sim.change(&Change::DeleteAnalyzer { account, region, name });
    story.complete_scan().await;
    assert_eq!(story.rows("SELECT count(*) FROM current_analyzers").await, [["0"]]);
    assert_eq!(story.rows("SELECT count(*) FROM analyzer WHERE valid_to IS NOT NULL").await, [["2"]]);
}

async fn a_scan_that_is_stopped_says_which_accounts_it_did_not_reach(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(30)).await;
    story.complete_scan().await;
    // Every listing of one account hangs, so the scan cannot end by itself before it is stopped.
    let hanging = story.sim.world().accounts.keys().next_back().unwrap().clone();
    story.sim.weather(vec![Rule {
        service: None,
        operation: Some("ListAnalyzers".into()),
        account: Some(hanging.clone()),
        region: None,
        probability: 1.0,
        first: None,
        effect: Effect::Hang,
    }]);
    let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
    let mut engine = story.engine();
    engine.limits.attempts = 20;
    let scan = engine.scan(Request::manual(), Arc::clone(&progress), stop.clone());
    let stopper = async {
        while progress.snapshot().recorded < 31 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(scan, stopper);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.state, ScanState::Incomplete);
    assert_eq!(outcome.error.as_deref(), Some("interrupted before every account was visited"));
    let pending = "SELECT account_id FROM account_visits WHERE scan_id = 2 AND outcome = 'pending'";
    assert_eq!(story.rows(pending).await, [[hanging.as_str()]]);
    let row = format!(
        "SELECT reason, last_known_status FROM current_coverage WHERE account_id = '{hanging}' AND region = 'eu-west-1'"
    );
    assert_eq!(story.rows(&row).await, [["not_reached", "not_covered"]]);
    let summary =
        "SELECT accounts, account_regions = covered + not_covered + not_applicable + unknown FROM scan_summary
                   WHERE scan_id = 2";
    assert_eq!(story.rows(summary).await, [["32", "1"]]);
}

async fn a_scan_of_a_dead_process_with_another_configuration_is_closed_by_the_next(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    story.complete_scan().await;
    // What a killed process leaves: a scan without an end.
    let engine = story.engine();
    let begun = trustwatch::store::NewScan {
        organization_name: "main".into(),
        trigger: Trigger::Schedule,
        scope: trustwatch::model::Scope::All,
        scheduled_for: None,
        started_at: engine.clock.now(),
        requirement: trustwatch::model::Requirement::Either,
        configuration_hash: "another".into(),
        version: "0".into(),
        resumes_from: engine.clock.now(),
        alive_from: engine.clock.now(),
        begins: true,
    };
    story.store.begin_scan(&begun, "dead").await.unwrap();
    let request = trustwatch::scan::Request::manual();
    let error = engine.scan(request, Default::default(), Default::default()).await.unwrap_err();
    assert!(error.is_passing(), "the daemon waits for the next scan");
    assert_eq!(
        error.to_string(),
        "another trustwatch process is scanning organization `main`: wait for it, or stop it"
    );
    by_hand(&story.settings, "UPDATE participant SET alive_until = '2000-01-01T00:00:00.000000Z'").await;
    story.complete_scan().await;
    let states = story.rows("SELECT scan_id, state, error FROM scan_summary ORDER BY scan_id").await;
    assert_eq!(states[1], ["2", "incomplete", "the process ended, or stood still, before the scan did"]);
    assert_eq!(states[2], ["3", "completed", "null"]);
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let story = Story::begin(&Scenario::calm(1)).await;
    let error = store::open(&story.settings, Access::Write { migrate: true }).await.err().unwrap();
    assert!(matches!(error, StoreError::InUse(_)));
    let path = story.path("trustwatch.db");
    assert_eq!(
        error.to_string(),
        format!(
            "another trustwatch process is writing to {}; SQLite takes one writer: wait for it, or stop it",
            path.display()
        )
    );
    assert!(store::open(&story.settings, Access::Read).await.is_ok(), "readers are welcome");
}

#[tokio::test]
async fn a_query_can_change_nothing() {
    let story = Story::begin(&Scenario::calm(1)).await;
    story.complete_scan().await;
    for sql in [
        "DELETE FROM visit",
        "PRAGMA user_version = 7",
        "CREATE TABLE x (y)",
        "PRAGMA query_only = off; DELETE FROM visit",
    ] {
        let _ = story.store.query(sql, &mut Nowhere).await;
    }
    assert_eq!(story.rows("SELECT count(*) > 0 FROM visit").await, [["1"]]);
    assert_eq!(story.rows("SELECT * FROM pragma_user_version").await, [["0"]]);
    assert!(story.store.query("DELETE FROM visit", &mut Nowhere).await.is_err());
}

on_each_engine!(
    a_scan_of_an_unchanged_organization_adds_no_interval,
    an_account_that_cannot_be_read_keeps_its_last_known_answer,
    an_account_that_left_has_no_row_and_comes_back_with_new_ones,
    an_analyzer_that_is_deleted_or_changed_ends_its_interval,
    a_scan_that_is_stopped_says_which_accounts_it_did_not_reach,
    a_scan_of_a_dead_process_with_another_configuration_is_closed_by_the_next,
);
