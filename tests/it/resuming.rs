//! Scans that are resumed, and processes that come back: by whose word, and of when, the rest is judged.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use trustwatch::clock::{Clock, SystemClock};
use trustwatch::config::{Remediation, Schedule};
use trustwatch::evaluate::OwnerView;
use trustwatch::model::{
    Account, AccountId, AccountState, Analyzer, AnalyzerArn, Discovered, Listed, Reason, Region, RegionFact, ScanId,
    ScanState, Trigger, Visit, VisitOutcome,
};
use trustwatch::scan::{Engine, Outcome, Request};
use trustwatch::schedule::{Follower, Timetable};
use trustwatch::store::NewScan;

use crate::alerts::add;
use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::claims;
use crate::clock::ManualClock;
use crate::invariants;
use crate::support::{Kept, Story, on_each_engine};

const REGION: &str = "eu-west-1";

async fn scheduled(engine: &Engine) -> Outcome {
    let request = Request::due(Trigger::Startup, None);
    engine.scan(request, Arc::default(), CancellationToken::new()).await.unwrap()
}

/// An account as a list has it.
pub fn listed(id: &str) -> Listed {
    let account = Account {
        id: id.parse().unwrap(),
        name: "before".into(),
        state: AccountState::Active,
        ou_path: None,
        tags: None,
        owned_by: None,
    };
    Listed { account, is_owner: true }
}

/// A scan as the engine would begin it, that another process began, and left with one account claimed and not visited.
async fn left_behind(story: &Story, name: &str, organization: &str, at: DateTime<Utc>, account: &str) -> ScanId {
    let engine = story.engine();
    let new = NewScan {
        organization_name: name.into(),
        trigger: Trigger::Startup,
        scheduled_for: None,
        requirement: engine.organization.requirement,
        configuration_hash: engine.configuration_hash(),
        ..claims::scheduled(at)
    };
    let store = &story.store;
    let scan = store.begin_scan(&new, "before").await.unwrap().scan_id;
    store.identify_organization(scan, organization, &[]).await.unwrap();
    let owner: AccountId = account.parse().unwrap();
    let discovered = Discovered {
        organization_id: organization.into(),
        management: Some(owner),
        owners: vec![owner],
        owners_known: true,
    };
    store.keep_discovered(scan, &discovered).await.unwrap();
    assert!(store.acquire_listing(scan, "before").await.unwrap());
    store.add_accounts(scan, "before", &[listed(account)]).await.unwrap();
    scan
}

async fn leave(story: &Story, scan: ScanId) {
    story.store.leave_scan(scan, "before", &trustwatch::model::ScanCost::default()).await.unwrap();
}

fn id_of(story: &Story) -> (String, String) {
    let world = story.sim.world();
    (world.organization.as_ref().unwrap().id.clone(), world.management().unwrap().to_owned())
}

async fn what_the_owners_said_before_the_machine_slept_judges_nobody_after(kept: Kept) {
    for is_by_hand in [true, false] {
        let mut story = Story::begin_in(kept, &Scenario { latency_ms: 5, ..Scenario::calm(6) }).await;
        story.limits.accounts_in_flight = 1;
        let owner = story.sim.world().caller.clone();
        story.sim.change(&add(&owner, REGION, "ORGANIZATION"));
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let mut engine = story.engine();
        engine.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let sleep = async {
            // Of the owners, the caller needs no role.
            story.sim.counters().reach("sts:AssumeRole", 3).await;
            let name = "watch".to_owned();
            story.sim.change(&Change::DeleteAnalyzer { account: owner.clone(), region: REGION.into(), name });
            clock.set(clock.now() + TimeDelta::hours(2));
        };
        // The next instant is far off.
        let yearly = Schedule { cron: "0 0 1 1 *".into(), ..Schedule::default() };
        let timetable = Timetable::read(&yearly, "main").unwrap();
        let mut follower = Follower::new(engine.clone(), timetable, Remediation::default());
        let stop = CancellationToken::new();
        let scan = async {
            if is_by_hand { crate::support::scan(&engine).await } else { follower.tick(&stop).await.unwrap().unwrap() }
        };
        let (outcome, ()) = tokio::join!(scan, sleep);
        let last = story.sim.members().pop().unwrap();
        if is_by_hand {
            assert_eq!(outcome.state, ScanState::Incomplete);
            assert!(outcome.error.unwrap().starts_with("this process stood still for 120 minutes"));
            assert_eq!(story.verdict(&last, REGION).await, "unknown not_reached");
        } else {
            assert_eq!(outcome.state, ScanState::Running, "it is handed back");
            let again = follower.tick(&stop).await.unwrap().unwrap();
            assert_eq!((again.state, again.scan_id), (ScanState::Completed, outcome.scan_id + 1), "{:?}", again.error);
            assert_eq!(story.verdict(&last, REGION).await, "not_covered no_analyzer");
        }
        invariants::hold(story.store.as_ref(), "after a sleep").await;
    }
}

async fn an_owner_that_is_visited_again_is_heard_again(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let (organization, management) = id_of(&story);
    let scan = left_behind(&story, "main", &organization, SystemClock.now(), &management).await;
    let arn = format!("arn:aws:access-analyzer:{REGION}:{management}:analyzer/gone");
    let gone = Analyzer {
        location: AnalyzerArn::parse(&arn).unwrap(),
        arn,
        name: "gone".into(),
        analyzer_type: "ORGANIZATION".into(),
        status: "ACTIVE".into(),
        status_reason: None,
        managed_by: None,
        created_at: None,
        tags: std::collections::BTreeMap::new(),
    };
    let owner: AccountId = management.parse().unwrap();
    let view = OwnerView::new(owner, [(&Region::new(REGION), &RegionFact::Listed(vec![gone]))]);
    story.store.keep_owner(scan, owner, &view).await.unwrap();
    leave(&story, scan).await;
    let outcome = scheduled(&story.engine()).await;
    assert_eq!((outcome.scan_id, outcome.state), (scan, ScanState::Completed), "{:?}", outcome.error);
    for account in [management, story.sim.members().pop().unwrap()] {
        assert_eq!(story.verdict(&account, REGION).await, "not_covered no_analyzer");
    }
}

async fn nobody_goes_on_with_the_scan_of_another_organization(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let (organization, _) = id_of(&story);
    let scan = left_behind(&story, "main", "o-another", SystemClock.now(), "999999999999").await;
    leave(&story, scan).await;
    let outcome = scheduled(&story.engine()).await;
    assert_eq!((outcome.scan_id, outcome.state), (scan, ScanState::Failed));
    let expected = format!("`main` has been o-another so far, and is {organization} now: check `profile`");
    assert!(outcome.error.as_ref().unwrap().starts_with(&expected), "{:?}", outcome.error);
    assert_eq!(story.rows("SELECT count(*) FROM current_coverage").await, [["0"]]);
}

async fn a_scan_is_of_the_organization_that_was_found_first(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(0)).await;
    let scan = left_behind(&story, "main", "o-one", SystemClock.now(), "999999999999").await;
    let clash = story.store.identify_organization(scan, "o-two", &[]).await.unwrap();
    assert_eq!(clash, Some(trustwatch::store::IdentityConflict::OfAnother("o-one".into())));
    let of = format!("SELECT organization_id FROM scan_summary WHERE scan_id = {scan}");
    assert_eq!(story.rows(&of).await, [["o-one"]]);
}

async fn what_a_clock_that_was_ahead_left_behind_is_not_gone_on_with(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(2)).await;
    let (organization, management) = id_of(&story);
    let ahead = SystemClock.now() + TimeDelta::hours(2);
    let scan = left_behind(&story, "main", &organization, ahead, &management).await;
    leave(&story, scan).await;
    let outcome = scheduled(&story.engine()).await;
    assert_eq!((outcome.scan_id, outcome.state), (scan + 1, ScanState::Completed), "{:?}", outcome.error);
    let state = format!("SELECT state FROM scan_summary WHERE scan_id = {scan}");
    assert_eq!(story.rows(&state).await, [["incomplete"]]);
}

async fn a_scan_that_was_left_under_another_name_is_ended(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(2)).await;
    let now = SystemClock.now();
    let long_ago = left_behind(&story, "gone", "o-gone", now - TimeDelta::days(2), "999999999999").await;
    leave(&story, long_ago).await;
    let lately = left_behind(&story, "other", "o-other", now, "888888888888").await;
    leave(&story, lately).await;
    story.complete_scan().await;
    let states = "SELECT organization_name, state FROM scan_summary ORDER BY scan_id";
    assert_eq!(story.rows(states).await, [["gone", "incomplete"], ["other", "running"], ["main", "completed"]]);
}

async fn a_scan_in_which_another_gave_up_on_accounts_is_not_complete(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let (organization, management) = id_of(&story);
    let scan = left_behind(&story, "main", &organization, SystemClock.now(), &management).await;
    let claimed = story.store.claim_accounts(scan, "before", 1, false).await.unwrap();
    let visit = claims::visit(&claimed[0], Reason::NotReached);
    let pending = Visit { outcome: VisitOutcome::Pending, entered: None, ..visit };
    assert_eq!(story.store.record_visits(scan, &[pending], "before").await.unwrap().len(), 1);
    leave(&story, scan).await;
    let outcome = scheduled(&story.engine()).await;
    assert_eq!((outcome.scan_id, outcome.state), (scan, ScanState::Incomplete));
    assert_eq!(outcome.error.as_deref(), Some("1 account not reached: another process that took part gave up"));
    invariants::hold(story.store.as_ref(), "after another gave up").await;
}

on_each_engine!(
    what_the_owners_said_before_the_machine_slept_judges_nobody_after,
    an_owner_that_is_visited_again_is_heard_again,
    nobody_goes_on_with_the_scan_of_another_organization,
    a_scan_is_of_the_organization_that_was_found_first,
    what_a_clock_that_was_ahead_left_behind_is_not_gone_on_with,
    a_scan_that_was_left_under_another_name_is_ended,
    a_scan_in_which_another_gave_up_on_accounts_is_not_complete,
);
