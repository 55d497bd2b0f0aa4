//! A week of hourly scans in simulated time: the real follower, engine and store, and a clock that a test sets.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use trustwatch::clock::Clock;
use trustwatch::config::{Rate, Remediation, Schedule};
use trustwatch::model::Requirement;
use trustwatch::schedule::{Follower, Timetable};

use crate::awssim::Scenario;
use crate::clock::ManualClock;
use crate::invariants;
use crate::support::{Kept, Story, on_each_engine};

/// How often the question is asked what is due.
const STEP: TimeDelta = TimeDelta::minutes(5);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn every_hour_of_a_week_has_its_scan_once(kept: Kept) {
    let scenario = Scenario { regions: vec!["eu-west-1".into()], ..Scenario::calm(1) };
    let mut story = Story::begin_in(kept, &scenario).await;
    // An hour of simulated time takes no time, in which AWS's own rates would be waited for.
    for rate in story.limits.rates.values_mut() {
        *rate = Rate { per_second: 1_000.0, burst: 1_000 };
    }
    // In Berlin the 25th of October 2026 has 25 hours: 02:17 comes at 00:17Z and at 01:17Z.
    let begin = at("2026-10-22T00:00:00Z");
    let clock = Arc::new(ManualClock::at(begin));
    let mut engine = story.engine();
    engine.clock = clock.clone();
    let schedule = Schedule { time_zone: "Europe/Berlin".into(), ..Schedule::default() };
    let mut follower = Follower::new(engine, Timetable::read(&schedule, "main").unwrap(), Remediation::default());
    let stop = CancellationToken::new();
    let asleep = at("2026-10-26T10:00:00Z")..at("2026-10-26T13:00:00Z");
    let mut has_stepped = false;
    while clock.now() < begin + TimeDelta::days(7) {
        while follower.tick(&stop).await.unwrap().is_some() {}
        let mut now = clock.now() + STEP;
        if asleep.contains(&now) {
            now = asleep.end;
        }
        if now == at("2026-10-24T12:20:00Z") && !has_stepped {
            // 12:17 has just been scanned, and comes again.
            has_stepped = true;
            now -= TimeDelta::minutes(10);
        }
        clock.set(now);
    }
    let sql = "SELECT trigger, scheduled_for, state FROM scan_summary ORDER BY scan_id";
    let made = story.rows(sql).await;
    assert_eq!((made[0][0].as_str(), made[0][1].as_str()), ("startup", "2026-10-21T23:17:00.000000Z"));
    assert!(made.iter().all(|scan| scan[2] == "completed"));
    // The machine slept from 10:00 to 13:00: of the three instants that it missed, the newest is made up.
    let missed = ["2026-10-26T10:17:00.000000Z", "2026-10-26T11:17:00.000000Z"];
    let hours = (0..7 * 24).map(|hour| begin + TimeDelta::hours(hour) + TimeDelta::minutes(17));
    let hours = hours.map(|at| at.format("%Y-%m-%dT%H:%M:%S.000000Z").to_string());
    let expected: Vec<String> = hours.filter(|at| !missed.contains(&at.as_str())).collect();
    let scheduled: Vec<String> = made[1..].iter().map(|scan| scan[1].clone()).collect();
    assert_eq!(scheduled, expected);
    invariants::hold(story.store.as_ref(), "a week").await;
}

async fn results_by_another_configuration_are_stale_at_the_next_start(kept: Kept) {
    let mut story = Story::begin_in(kept, &Scenario::calm(1)).await;
    let clock = Arc::new(ManualClock::at(at("2026-10-22T00:20:00Z")));
    let stop = CancellationToken::new();
    let start = |story: &Story| {
        let mut engine = story.engine();
        engine.clock = clock.clone();
        Follower::new(engine, Timetable::read(&Schedule::default(), "main").unwrap(), Remediation::default())
    };
    assert!(start(&story).tick(&stop).await.unwrap().is_some());
    assert!(start(&story).tick(&stop).await.unwrap().is_none(), "the results are of this hour");
    story.organization.requirement = Requirement::Account;
    assert!(start(&story).tick(&stop).await.unwrap().is_some(), "they are of another rule");
    assert!(start(&story).tick(&stop).await.unwrap().is_none());
}

on_each_engine!(every_hour_of_a_week_has_its_scan_once, results_by_another_configuration_are_stale_at_the_next_start,);
