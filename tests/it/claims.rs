//! Who may visit an account, and whose visit counts: leases, and what comes late.

use chrono::{DateTime, Utc};
use trustwatch::clock::{Clock, SystemClock};
use trustwatch::evaluate::OwnerView;
use trustwatch::model::{
    Account, AccountState, CallCount, Listed, Reason, Region, RegionCoverage, RegionFact, Requirement, ScanCost,
    ScanEnd, ScanId, ScanState, Scope, Trigger, Visit, VisitOutcome,
};
use trustwatch::store::{JoinMode, NewScan, StoreError};

use crate::awssim::Scenario;
use crate::support::{Kept, Story, by_hand, discovered, on_each_engine};

fn listed(number: u64, is_owner: bool) -> Listed {
    let account = Account {
        id: format!("{number:012}").parse().unwrap(),
        name: format!("account {number}"),
        state: AccountState::Active,
        ou_path: None,
        tags: None,
        owned_by: None,
    };
    Listed { account, is_owner }
}

pub fn visit(listed: &Listed, reason: Reason) -> Visit {
    let now = SystemClock.now();
    Visit {
        account: listed.account.clone(),
        outcome: VisitOutcome::Audited,
        failure: None,
        started_at: now,
        finished_at: now,
        coverage: vec![RegionCoverage::bare(Region::new("eu-west-1"), reason)],
        regions_read: Vec::new(),
        blind: Vec::new(),
        undecided: false,
        analyzers: Vec::new(),
        findings: Vec::new(),
        entered: Some(true),
    }
}

pub fn scheduled(instant: DateTime<Utc>) -> NewScan {
    NewScan {
        organization_name: "main".into(),
        trigger: Trigger::Schedule,
        scope: Scope::All,
        scheduled_for: Some(instant),
        started_at: instant,
        requirement: Requirement::Either,
        configuration_hash: "same".into(),
        version: "0".into(),
        resumes_from: instant,
        alive_from: instant,
        begins: true,
    }
}

/// A scan of five accounts, listed by `one`.
async fn begun(kept: Kept) -> (Story, ScanId, DateTime<Utc>) {
    let story = Story::begin_in(kept, &Scenario::calm(0)).await;
    let instant = SystemClock.now();
    let store = &story.store;
    let joined = store.begin_scan(&scheduled(instant), "one").await.unwrap();
    assert_eq!(joined.how, JoinMode::Began);
    let scan = joined.scan_id;
    store.identify_organization(scan, "o-test", &[]).await.unwrap();
    store.keep_discovered(scan, &discovered("o-test")).await.unwrap();
    assert!(store.acquire_listing(scan, "one").await.unwrap());
    let accounts: Vec<Listed> = (1..=5).map(|number| listed(number, number == 5)).collect();
    store.add_accounts(scan, "one", &accounts).await.unwrap();
    (story, scan, instant)
}

/// Lets the lease of a process end, as if it had said nothing for that long.
async fn expire(story: &Story, worker: &str) {
    let sql = format!(
        "UPDATE participant SET alive_until = '2000-01-01T00:00:00.000000Z'
         WHERE worker_key = (SELECT worker_key FROM worker WHERE name = '{worker}')"
    );
    by_hand(&story.settings, &sql).await;
}

async fn an_account_is_one_processs_until_its_lease_ends_and_what_it_brings_late_is_not_written(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    assert_eq!(store.begin_scan(&scheduled(instant), "two").await.unwrap().how, JoinMode::Joined);
    let ones = store.claim_accounts(scan, "one", 3, false).await.unwrap();
    assert_eq!(ones[0], listed(5, true), "owners come first");
    let twos = store.claim_accounts(scan, "two", 9, false).await.unwrap();
    assert_eq!((ones.len(), twos.len()), (3, 2), "what one has claimed is not the other's");
    assert!(store.claim_accounts(scan, "two", 9, false).await.unwrap().is_empty());
    let work = store.heartbeat(scan, "two").await.unwrap();
    assert_eq!((work.left, work.owners_left, work.peers, work.replicas), (5, 1, 1, 2));

    expire(&story, "one").await;
    let taken = store.claim_accounts(scan, "two", 9, false).await.unwrap();
    assert_eq!(taken, ones, "the dead one's are free");
    let newer: Vec<Visit> = taken.iter().map(|listed| visit(listed, Reason::AccountAnalyzer)).collect();
    assert_eq!(store.record_visits(scan, &newer, "two").await.unwrap().len(), 3);
    let late: Vec<Visit> = ones.iter().map(|listed| visit(listed, Reason::NoAnalyzer)).collect();
    assert!(store.record_visits(scan, &late, "one").await.unwrap().is_empty(), "it comes too late");
    // Asked again, because the answer was lost, it says the same, and writes nothing.
    assert_eq!(store.record_visits(scan, &newer, "two").await.unwrap().len(), 3);
    assert_eq!(story.rows("SELECT count(*), count(DISTINCT account_id) FROM coverage_history").await, [["3", "3"]]);
    let rows =
        story.rows("SELECT DISTINCT reason, worker FROM current_coverage JOIN account_visits USING (account_id)").await;
    assert_eq!(rows, [["account_analyzer", "two"]]);

    // So it is with what an owner said: the first word counts, and all go by it.
    let (first, later) = (
        OwnerView::default(),
        OwnerView::new(ones[0].account.id, [(&Region::new("eu-west-1"), &RegionFact::NotOptedIn)]),
    );
    let owner = ones[0].account.id;
    assert_eq!(store.keep_owner(scan, owner, &first).await.unwrap(), first);
    assert_eq!(store.keep_owner(scan, owner, &later).await.unwrap(), first);

    // It was not dead: it goes on with what is free.
    assert_eq!(store.heartbeat(scan, "one").await.unwrap().left, 2);
    store.release_claims(scan, "two", &[twos[0].account.id]).await.unwrap();
    assert_eq!(store.claim_accounts(scan, "one", 9, false).await.unwrap(), twos[1..], "the rest was given back");
}

async fn after_an_outage_nobody_takes_from_another_before_it_has_been_heard_itself(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    store.begin_scan(&scheduled(instant), "two").await.unwrap();
    let ones = store.claim_accounts(scan, "one", 3, false).await.unwrap();
    expire(&story, "one").await;
    expire(&story, "two").await;
    let twos = store.claim_accounts(scan, "two", 9, false).await.unwrap();
    assert_eq!(twos.len(), 2, "what nobody has is free");
    store.heartbeat(scan, "two").await.unwrap();
    assert_eq!(store.claim_accounts(scan, "two", 9, false).await.unwrap(), ones, "one has said nothing since");
}

async fn the_list_is_one_processs_until_its_lease_ends(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    store.begin_scan(&scheduled(instant), "two").await.unwrap();
    assert!(!store.acquire_listing(scan, "two").await.unwrap(), "somebody does it");
    expire(&story, "one").await;
    assert!(store.acquire_listing(scan, "two").await.unwrap());
    let late = store.add_accounts(scan, "one", &[listed(6, false)]).await.unwrap_err();
    assert!(matches!(late, StoreError::ClaimLost(_)), "{late}");
    let now = SystemClock.now();
    assert!(matches!(store.end_listing(scan, "one", None, now).await, Err(StoreError::ClaimLost(_))));
    // The list is read again: what is there, or recorded, stays as it is.
    let claimed = store.claim_accounts(scan, "two", 1, false).await.unwrap();
    let visits = [visit(&claimed[0], Reason::NoAnalyzer)];
    store.record_visits(scan, &visits, "two").await.unwrap();
    let accounts: Vec<Listed> = (1..=6).map(|number| listed(number, number == 5)).collect();
    store.add_accounts(scan, "two", &accounts).await.unwrap();
    assert_eq!(store.heartbeat(scan, "two").await.unwrap().left, 5);
    store.end_listing(scan, "two", None, now).await.unwrap();
    assert!(store.heartbeat(scan, "two").await.unwrap().listed);
    assert!(!store.acquire_listing(scan, "two").await.unwrap(), "it has ended");
}

async fn an_instant_has_one_scan_whoever_asks(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    let end = ScanEnd { state: ScanState::Incomplete, error: None, list_complete: false };
    store.finish_scan(scan, "one", &end, &ScanCost::default(), instant).await.unwrap();
    let again = store.begin_scan(&scheduled(instant), "two").await.unwrap_err();
    assert!(matches!(again, StoreError::AlreadyMade { .. }), "{again}");
    assert!(matches!(store.heartbeat(scan, "one").await, Err(StoreError::ScanEnded(_))));
    let none = NewScan { begins: false, ..scheduled(instant) };
    assert!(matches!(store.begin_scan(&none, "two").await, Err(StoreError::NothingAtWork(_))));
    for table in ["claim", "participant", "owner_view", "scan_work"] {
        assert_eq!(story.rows(&format!("SELECT count(*) FROM {table}")).await, [["0"]], "{table}");
    }
}

async fn whoever_leaves_adds_what_it_cost_once_though_the_scan_has_ended_meanwhile(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    store.begin_scan(&scheduled(instant), "two").await.unwrap();
    let call = CallCount {
        service: "sts",
        operation: "AssumeRole",
        calls: 5,
        retries: 0,
        throttled: 0,
        errors: 0,
        seconds: 1.0,
        bytes: 100,
        rate_wait_seconds: 0.0,
    };
    let cost = ScanCost { calls: vec![call], ..ScanCost::default() };
    let end = ScanEnd { state: ScanState::Completed, error: None, list_complete: false };
    store.finish_scan(scan, "one", &end, &cost, instant).await.unwrap();
    let lost = store.finish_scan(scan, "one", &end, &cost, instant).await.unwrap_err();
    assert!(matches!(lost, StoreError::ScanEnded(_)), "{lost}");
    assert!(matches!(store.heartbeat(scan, "two").await, Err(StoreError::ScanEnded(_))), "the others find it ended");
    for worker in ["one", "two", "two"] {
        store.leave_scan(scan, worker, &cost).await.unwrap();
    }
    assert_eq!(story.rows("SELECT calls, bytes FROM scan_calls").await, [["10", "200"]]);
}

async fn what_a_process_held_when_it_was_in_the_scan_before_is_free_when_it_comes_again(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    store.begin_scan(&scheduled(instant), "two").await.unwrap();
    let held = store.claim_accounts(scan, "one", 9, false).await.unwrap();
    // It gave up without a word, the other lived on, and it comes back.
    assert_eq!(store.begin_scan(&scheduled(instant), "one").await.unwrap().how, JoinMode::Joined);
    assert_eq!(
        store.claim_accounts(scan, "two", 9, true).await.unwrap(),
        held[..1],
        "owners, where only they are wanted"
    );
    assert_eq!(store.claim_accounts(scan, "two", 9, false).await.unwrap(), held[1..]);
}

async fn a_scan_that_was_left_behind_is_gone_on_with_unless_it_is_too_old_or_another_in_kind(kept: Kept) {
    for (new, how) in [
        (Box::new(|new: NewScan| new) as Box<dyn Fn(NewScan) -> NewScan>, JoinMode::Resumed),
        (Box::new(|new| NewScan { trigger: Trigger::Startup, ..new }), JoinMode::Resumed),
        (
            Box::new(|new| NewScan { resumes_from: new.started_at + chrono::TimeDelta::seconds(1), ..new }),
            JoinMode::Began,
        ),
        (
            Box::new(|new| NewScan { alive_from: new.started_at + chrono::TimeDelta::seconds(1), ..new }),
            JoinMode::Began,
        ),
        (Box::new(|new| NewScan { configuration_hash: "another".into(), ..new }), JoinMode::Began),
        (Box::new(|new| NewScan { trigger: Trigger::Manual, ..new }), JoinMode::Began),
    ] {
        let (story, scan, instant) = begun(kept).await;
        let claimed = story.store.claim_accounts(scan, "one", 2, false).await.unwrap();
        expire(&story, "one").await;
        let next = new(NewScan { scheduled_for: None, ..scheduled(instant) });
        let joined = story.store.begin_scan(&next, "two").await.unwrap();
        assert_eq!(joined.how, how);
        if how == JoinMode::Resumed {
            assert_eq!(joined.scan_id, scan);
            assert_eq!(story.store.claim_accounts(scan, "two", 2, false).await.unwrap(), claimed);
        } else {
            let state = format!("SELECT state FROM scan_summary WHERE scan_id = {scan}");
            assert_eq!(story.rows(&state).await, [["incomplete"]]);
        }
    }
}

async fn a_scan_is_not_resumed_by_what_its_owners_said_long_ago(kept: Kept) {
    let (story, scan, instant) = begun(kept).await;
    let store = &story.store;
    let claimed = store.claim_accounts(scan, "one", 2, false).await.unwrap();
    assert!(claimed[0].is_owner && !claimed[1].is_owner);
    store.keep_owner(scan, claimed[0].account.id, &OwnerView::default()).await.unwrap();
    let visits = [visit(&claimed[0], Reason::NoAnalyzer), visit(&claimed[1], Reason::NoAnalyzer)];
    store.record_visits(scan, &visits, "one").await.unwrap();
    let again = |worker| {
        let alive_from = instant - chrono::TimeDelta::hours(1);
        let scan = NewScan { scheduled_for: None, alive_from, ..scheduled(instant) };
        async move { store.begin_scan(&scan, worker).await.unwrap() }
    };
    expire(&story, "one").await;
    assert_eq!(again("two").await.how, JoinMode::Resumed);
    // It was resumed again and again, so that something was recorded in it just now.
    let long_ago = format!(
        "UPDATE account SET checked_at = '2000-01-01T00:00:00.000000Z' WHERE account_id = '{}'",
        claimed[0].account.id
    );
    by_hand(&story.settings, &long_ago).await;
    expire(&story, "two").await;
    assert_eq!(again("three").await.how, JoinMode::Began);
}

on_each_engine!(
    a_scan_is_not_resumed_by_what_its_owners_said_long_ago,
    an_account_is_one_processs_until_its_lease_ends_and_what_it_brings_late_is_not_written,
    after_an_outage_nobody_takes_from_another_before_it_has_been_heard_itself,
    the_list_is_one_processs_until_its_lease_ends,
    an_instant_has_one_scan_whoever_asks,
    whoever_leaves_adds_what_it_cost_once_though_the_scan_has_ended_meanwhile,
    what_a_process_held_when_it_was_in_the_scan_before_is_free_when_it_comes_again,
    a_scan_that_was_left_behind_is_gone_on_with_unless_it_is_too_old_or_another_in_kind,
);

#[tokio::test]
async fn a_process_that_freezes_within_a_transaction_holds_nobody_up() {
    let story = Story::begin_in(Kept::Postgres, &Scenario::calm(0)).await;
    let limit = story.rows("SELECT current_setting('idle_in_transaction_session_timeout')").await;
    assert_eq!(limit, [["30s"]], "it is {}", story.settings.lease);
}
