//! Accounts that a scan did not visit, and that it learned something about all the same.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trustwatch::clock::{Clock, SystemClock};
use trustwatch::config::Alerting;
use trustwatch::model::{Reason, Requirement, ScanCost, ScanEnd, ScanState};
use trustwatch::scan::{Request, Selection};
use trustwatch::store::NewScan;

use crate::alerts::{add, watched_by_its_administrator};
use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::claims;
use crate::invariants;
use crate::support::{Kept, Story, claim, discovered, on_each_engine};

const REGION: &str = "eu-west-1";
const OPT_IN: &str = "eu-south-1";

async fn scan_only(story: &Story, account: &str) {
    let selection = Selection { accounts: vec![account.parse().unwrap()], ous: Vec::new() };
    let request = Request { selection, ..Request::manual() };
    let outcome = story.engine().scan(request, Arc::default(), CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.error, None);
}

async fn covered(story: &Story) -> String {
    story.rows("SELECT count(*) FROM current_coverage WHERE status = 'covered'").await.remove(0).remove(0)
}

async fn a_list_that_breaks_off_keeps_nobody_covered_by_what_was_found_gone(kept: Kept) {
    let (mut story, administrator) = watched_by_its_administrator(kept, 4).await;
    story.limits.attempts = 1;
    story.complete_scan().await;
    let member = story.sim.members().remove(0);
    assert_eq!(story.verdict(&member, REGION).await, "covered organization_analyzer");
    story.sim.change(&Change::DisableTrustedAccess {});
    story.sim.weather(vec![Rule {
        service: Some("organizations".into()),
        operation: Some("ListAccounts".into()),
        account: None,
        region: None,
        probability: 1.0,
        first: None,
        effect: Effect::Error500,
    }]);
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    assert_eq!(story.verdict(&administrator, REGION).await, "not_covered analyzer_not_active", "owners come first");
    assert_eq!(story.verdict(&member, REGION).await, "unknown organization_analyzers_unknown");
    assert_eq!(covered(&story).await, "0");
    invariants::hold(story.store.as_ref(), "after a list that broke off").await;
}

async fn nobody_stays_covered_by_who_is_no_administrator_any_more(kept: Kept) {
    let (story, administrator) = watched_by_its_administrator(kept, 4).await;
    story.complete_scan().await;
    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator.clone() });
    let [visited, other] = [1, 2].map(|at| story.sim.members().remove(at));
    assert_ne!(visited, administrator);
    scan_only(&story, &visited).await;
    assert_eq!(story.verdict(&visited, REGION).await, "not_covered no_analyzer");
    assert_eq!(story.verdict(&other, REGION).await, "unknown organization_analyzers_unknown");
    assert_eq!(covered(&story).await, "0");
    invariants::hold(story.store.as_ref(), "after a partial scan").await;
}

async fn an_analyzer_of_its_own_hides_no_administrator_that_is_none_any_more(kept: Kept) {
    let (mut story, administrator) = watched_by_its_administrator(kept, 4).await;
    story.organization.requirement = Requirement::Both;
    story.limits.attempts = 1;
    let [visited, other] = [1, 2].map(|at| story.sim.members().remove(at));
    story.sim.change(&add(&other, REGION, "ACCOUNT"));
    story.complete_scan().await;
    assert_eq!(story.verdict(&other, REGION).await, "covered account_and_organization_analyzers");
    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator });
    // What the administrator had is all that is recorded, and the owner that is left cannot be asked.
    story.sim.weather(vec![Rule {
        service: Some("access-analyzer".into()),
        operation: Some("ListAnalyzers".into()),
        account: Some(story.sim.world_caller()),
        region: None,
        probability: 1.0,
        first: None,
        effect: Effect::Error500,
    }]);
    scan_only(&story, &visited).await;
    assert_eq!(story.verdict(&other, REGION).await, "unknown organization_analyzers_unknown");
    assert_eq!(covered(&story).await, "0");
    invariants::hold(story.store.as_ref(), "after a partial scan").await;
}

async fn an_analyzer_in_a_region_that_its_account_left_is_gone(kept: Kept) {
    let scenario = Scenario { opt_in_regions: vec![OPT_IN.into()], ..Scenario::calm(4) };
    let story = Story::begin_in(kept, &scenario).await;
    let owner = story.sim.world().caller.clone();
    let members = story.sim.members();
    for account in members.iter().chain([&owner]) {
        story.sim.change(&Change::EnableRegion { account: account.clone(), region: OPT_IN.into() });
    }
    let (region, name, kind) = (OPT_IN.to_owned(), "watch".to_owned(), "ORGANIZATION".to_owned());
    story.sim.change(&Change::AddAnalyzer { account: owner.clone(), region, name, kind });
    story.complete_scan().await;
    assert_eq!(story.verdict(&members[1], OPT_IN).await, "covered organization_analyzer");
    story.sim.change(&Change::DisableRegion { account: owner, region: OPT_IN.into() });
    scan_only(&story, &members[0]).await;
    assert_eq!(story.verdict(&members[0], OPT_IN).await, "not_covered no_analyzer");
    assert_eq!(story.verdict(&members[1], OPT_IN).await, "unknown organization_analyzers_unknown");
    assert_eq!(story.rows("SELECT count(*) FROM current_analyzers").await, [["0"]]);
    invariants::hold(story.store.as_ref(), "after a region was left").await;
}

async fn an_account_is_in_the_organization_that_lists_it_and_in_no_other(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(3)).await;
    let [moved, stayed] = [0, 1].map(|at| story.sim.members().remove(at));
    let now = SystemClock.now();
    let before = NewScan { organization_name: "before".into(), ..claims::scheduled(now) };
    let store = story.store.as_ref();
    let scan = store.begin_scan(&before, "test").await.unwrap().scan_id;
    store.identify_organization(scan, "o-before", &[]).await.unwrap();
    store.keep_discovered(scan, &discovered("o-before")).await.unwrap();
    let visits = [moved.as_str(), "999999999999"]
        .map(|account| claims::visit(&crate::resuming::listed(account), Reason::OrganizationAnalyzer));
    claim(store, scan, "test", &visits).await;
    store.record_visits(scan, &visits, "test").await.unwrap();
    let end = ScanEnd { state: ScanState::Completed, error: None, list_complete: true };
    store.finish_scan(scan, "test", &end, &ScanCost::default(), now).await.unwrap();
    scan_only(&story, &stayed).await;
    assert_eq!(covered(&story).await, "2", "nobody has looked for it");
    story.complete_scan().await;
    assert_eq!(story.verdict(&moved, REGION).await, "not_covered no_analyzer");
    let left = "SELECT organization_id, account_id FROM current_coverage WHERE organization_name = 'before'";
    assert_eq!(story.rows(left).await, [["o-before", "999999999999"]]);
    let ended = "SELECT account_id, from_status, cause FROM coverage_transitions WHERE to_status IS NULL";
    assert_eq!(story.rows(ended).await, [[moved.as_str(), "covered", "membership"]]);
    invariants::hold(store, "after an account went from one organization to another").await;
}

async fn an_organization_that_is_scanned_no_more_stays_known_until_it_is_retired(kept: Kept) {
    let (story, administrator) = watched_by_its_administrator(kept, 4).await;
    let store = story.store.as_ref();
    let look = || async { while store.update_incidents(&Alerting::default(), &[]).await.unwrap().is_some() {} };
    story.complete_scan().await;
    story.sim.change(&Change::DeregisterDelegatedAdministrator { account: administrator });
    story.complete_scan().await;
    look().await;
    let open = "SELECT count(*) FROM alert_incidents WHERE closed_at IS NULL";
    assert_eq!(story.rows(open).await, [["1"]]);
    assert_eq!(store.retire("subsidiary", SystemClock.now()).await.unwrap(), None);
    let members = story.sim.world().accounts.len() as u64;
    assert_eq!(store.retire("main", SystemClock.now()).await.unwrap(), Some(members));
    for view in ["current_coverage", "current_accounts", "current_analyzers"] {
        assert_eq!(story.rows(&format!("SELECT count(*) FROM {view}")).await, [["0"]], "{view}");
    }
    assert_eq!(story.rows(open).await, [["0"]]);
    let ended = "SELECT DISTINCT cause FROM coverage_transitions WHERE to_status IS NULL";
    assert_eq!(story.rows(ended).await, [["membership"]]);
    assert_eq!(store.retire("main", SystemClock.now()).await.unwrap(), Some(0), "nothing is done twice");
    invariants::hold(store, "after an organization was retired").await;
    story.complete_scan().await;
    let accounts = story.rows("SELECT count(*) FROM current_accounts").await;
    assert_eq!(accounts, [[members.to_string()]], "it was meant after all");
    invariants::hold(store, "after it came back").await;
}

on_each_engine!(
    an_organization_that_is_scanned_no_more_stays_known_until_it_is_retired,
    an_analyzer_of_its_own_hides_no_administrator_that_is_none_any_more,
    an_account_is_in_the_organization_that_lists_it_and_in_no_other,
    a_list_that_breaks_off_keeps_nobody_covered_by_what_was_found_gone,
    nobody_stays_covered_by_who_is_no_administrator_any_more,
    an_analyzer_in_a_region_that_its_account_left_is_gone,
);
