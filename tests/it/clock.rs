//! A clock that steps back, and answers that come in another order than they are recorded: intervals never overlap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use trustwatch::clock::Clock;
use trustwatch::model::{
    Account, AccountState, Analyzer, AnalyzerArn, Reason, Region, RegionCoverage, Requirement, ScanState, Scope,
    Trigger, Visit, VisitOutcome,
};
use trustwatch::store::NewScan;

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::support::{self, Kept, Story, on_each_engine, scan};

/// Says what it is told.
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

async fn a_clock_that_steps_back_breaks_no_scan(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(9)).await;
    let clock = Arc::new(ManualClock::at(noon()));
    let mut engine = story.engine();
    engine.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let (owner, member) = {
        let world = story.sim.world();
        let member = world.members().remove(0);
        (world.caller.clone(), member)
    };
    let region = || "eu-west-1".to_owned();
    let (account, name, kind) = (owner.clone(), "org".to_owned(), "ORGANIZATION".to_owned());
    story.sim.change(&Change::AddAnalyzer { account, region: region(), name, kind });
    let (account, name, kind) = (member.clone(), "watch".to_owned(), "ACCOUNT".to_owned());
    story.sim.change(&Change::AddAnalyzer { account, region: region(), name, kind });
    assert_eq!(scan(&engine).await.state, ScanState::Completed);

    *clock.0.lock().unwrap() -= TimeDelta::hours(1);
    story.sim.change(&Change::DeleteAnalyzer { account: owner, region: region(), name: "org".into() });
    story.sim.change(&Change::RemoveAccount { account: member.clone() });
    assert_eq!(scan(&engine).await.error, None);
    assert_eq!(story.rows("SELECT count(*) FROM coverage WHERE valid_to <= valid_from").await, [["0"]]);
    let gone = format!("SELECT count(*) FROM current_coverage WHERE account_id = '{member}'");
    assert_eq!(story.rows(&gone).await, [["0"]]);
    let left = "SELECT count(*) FROM current_coverage WHERE region = 'eu-west-1' AND reason = 'no_analyzer'";
    assert_eq!(story.rows(left).await, [["10"]]);
}

fn visit(account: &str, finished_at: DateTime<Utc>, status: &str) -> Visit {
    let arn = "arn:aws:access-analyzer:eu-west-1:999999999999:analyzer/org".to_owned();
    let analyzer = Analyzer {
        location: AnalyzerArn::parse(&arn).unwrap(),
        arn,
        name: "org".into(),
        analyzer_type: "ORGANIZATION".into(),
        status: status.into(),
        status_reason: None,
        managed_by: None,
        created_at: None,
        tags: BTreeMap::new(),
    };
    let region = Region::new("eu-west-1");
    Visit {
        account: Account {
            id: account.parse().unwrap(),
            name: String::new(),
            state: AccountState::Active,
            ou_path: None,
            tags: None,
            owned_by: None,
        },
        outcome: VisitOutcome::Audited,
        failure: None,
        started_at: finished_at,
        finished_at,
        coverage: vec![RegionCoverage::bare(region.clone(), Reason::NoAnalyzer)],
        regions_read: vec![region],
        blind: Vec::new(),
        undecided: false,
        analyzers: vec![analyzer],
        findings: Vec::new(),
        entered: Some(true),
    }
}

async fn what_two_members_saw_of_one_owner_may_be_recorded_in_any_order(kept: Kept) {
    let story = Story::begin_in(kept, &Scenario::calm(0)).await;
    let begun = NewScan {
        organization_name: "main".into(),
        trigger: Trigger::Manual,
        scope: Scope::All,
        scheduled_for: None,
        started_at: noon(),
        requirement: Requirement::Either,
        configuration_hash: String::new(),
        version: String::new(),
        resumes_from: noon(),
        alive_from: noon(),
        begins: true,
    };
    let scan = story.store.begin_scan(&begun, "test").await.unwrap().scan_id;
    story.store.identify_organization(scan, "o-test", &[]).await.unwrap();
    story.store.keep_discovered(scan, &support::discovered("o-test")).await.unwrap();
    let later = noon() + TimeDelta::seconds(5);
    for visits in [[visit("000000000001", later, "ACTIVE")], [visit("000000000002", noon(), "DISABLED")]] {
        support::claim(story.store.as_ref(), scan, "test", &visits).await;
        assert_eq!(story.store.record_visits(scan, &visits, "test").await.unwrap(), [visits[0].account.id]);
    }
    assert_eq!(story.rows("SELECT status FROM current_analyzers").await, [["DISABLED"]]);
}

on_each_engine!(a_clock_that_steps_back_breaks_no_scan, what_two_members_saw_of_one_owner_may_be_recorded_in_any_order,);
