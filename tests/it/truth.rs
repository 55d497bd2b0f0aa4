//! Results held against the truth: for worlds of several seeds, under every weather.

use std::collections::BTreeMap;

use trustwatch::model::Requirement;

use crate::awssim::truth::Truth;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::{Scenario, Sim};
use crate::support::Story;

type Rows = BTreeMap<(String, String), (String, String)>;

fn seen(truth: &[Truth]) -> Rows {
    truth
        .iter()
        .map(|row| {
            let verdict = (row.seen_status.to_owned(), row.seen_reason.to_owned());
            ((row.account_id.clone(), row.region.clone()), verdict)
        })
        .collect()
}

fn rule(effect: Effect) -> Rule {
    Rule { service: None, operation: None, account: None, region: None, probability: 1.0, first: None, effect }
}

/// What differs, for a message that can be read.
fn differences(found: &Rows, expected: &Rows) -> Vec<String> {
    let keys = found.keys().chain(expected.keys()).collect::<std::collections::BTreeSet<_>>();
    keys.into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| format!("{key:?}: found {:?}, expected {:?}", found.get(key), expected.get(key)))
        .collect()
}

async fn holds_under(seed: u64, weather: Vec<Rule>) {
    let story = Story::begin(&Scenario { seed, weather, ..Scenario::default() }).await;
    story.complete_scan().await;
    let expected = seen(&story.sim.truth("either"));
    assert_eq!(differences(&story.coverage().await, &expected), Vec::<String>::new(), "seed {seed}");
}

/// Every weather that retries can outlast: results must be the truth all the same.
fn survivable() -> Vec<(&'static str, Vec<Rule>)> {
    let sometimes = |probability, effect| Rule { probability, ..rule(effect) };
    let first = |effect| Rule { first: Some(2), ..rule(effect) };
    let of_listing = |rule: Rule| Rule { operation: Some("ListAnalyzers".into()), ..rule };
    vec![
        ("calm", vec![]),
        ("latency with a tail", vec![rule(Effect::Tail { ms: 2, tail_ms: 60, share: 0.05 })]),
        ("throttled at first", vec![Rule { service: Some("sts".into()), ..first(Effect::Throttle) }]),
        ("a token bucket", vec![of_listing(rule(Effect::Rate { per_second: 10.0, burst: 1.0 }))]),
        ("500 now and then", vec![sometimes(0.05, Effect::Error500)]),
        ("503 now and then", vec![sometimes(0.05, Effect::Error503)]),
        ("connections reset", vec![sometimes(0.05, Effect::Reset)]),
        ("hangs", vec![of_listing(sometimes(0.01, Effect::Hang))]),
        ("bodies that break off", vec![sometimes(0.05, Effect::Truncate)]),
        ("bodies cut short", vec![of_listing(first(Effect::CutShort))]),
        ("bodies that are no JSON", vec![of_listing(first(Effect::Malformed))]),
        ("objects without their members", vec![of_listing(first(Effect::EmptyObject))]),
    ]
}

async fn every_weather_of(seed: u64) {
    for (name, weather) in survivable() {
        eprintln!("seed {seed}: {name}");
        holds_under(seed, weather).await;
    }
}

#[tokio::test]
async fn seed_1_under_every_weather() {
    every_weather_of(1).await;
}

#[tokio::test]
async fn seed_2_under_every_weather() {
    every_weather_of(2).await;
}

#[tokio::test]
async fn seed_3_under_every_weather() {
    every_weather_of(3).await;
}

#[tokio::test]
async fn seed_4_under_every_weather() {
    every_weather_of(4).await;
}

#[tokio::test]
async fn seed_5_under_every_weather() {
    every_weather_of(5).await;
}

/// What no retry outlasts: the rows that it strikes are `unknown` with its reason, and every other row is the truth, but
/// for members whose organization's analyzers are out of sight.
async fn strikes_one_region(effect: Effect, reason: &str) {
    for seed in 1..=5 {
        let weather =
            Rule { region: Some("eu-west-1".into()), service: Some("access-analyzer".into()), ..rule(effect) };
        let mut story = Story::begin(&Scenario { seed, weather: vec![weather], ..Scenario::default() }).await;
        story.limits.attempts = 2;
        story.complete_scan().await;
        let found = story.coverage().await;
        for (key, expected) in seen(&story.sim.truth("either")) {
            let asked = expected.0 == "covered" || expected.0 == "not_covered" || expected.1 == "access_denied";
            let expected = if key.1 == "eu-west-1" && asked { ("unknown".into(), reason.into()) } else { expected };
            assert_eq!(found.get(&key), Some(&expected), "seed {seed}: {key:?}");
        }
    }
}

#[tokio::test]
async fn a_region_that_always_throttles_is_unknown_throttled() {
    strikes_one_region(Effect::Throttle, "throttled").await;
}

#[tokio::test]
async fn a_region_that_is_out_is_unknown_service_error() {
    strikes_one_region(Effect::Error503, "service_error").await;
}

#[tokio::test]
async fn a_region_that_hangs_is_unknown_timeout() {
    strikes_one_region(Effect::Hang, "timeout").await;
}

#[tokio::test]
async fn a_region_that_resets_connections_is_unknown_network() {
    strikes_one_region(Effect::Reset, "network").await;
}

#[tokio::test]
async fn a_region_that_answers_no_json_is_unknown_malformed_response() {
    strikes_one_region(Effect::Malformed, "malformed_response").await;
}

#[tokio::test]
async fn a_region_that_leaves_the_list_out_is_unknown_malformed_response() {
    strikes_one_region(Effect::EmptyObject, "malformed_response").await;
}

#[tokio::test]
async fn a_region_that_refuses_the_credentials_is_unknown_credentials() {
    strikes_one_region(Effect::BadCredentials, "credentials").await;
}

#[tokio::test]
async fn the_truth_is_found_within_aws_own_rate_limits() {
    for seed in 1..=5 {
        let scenario = Scenario { seed, accounts: 60, aws_rate_limits: true, ..Scenario::default() };
        let story = Story::begin(&scenario).await;
        story.complete_scan().await;
        let expected = seen(&story.sim.truth("either"));
        assert_eq!(differences(&story.coverage().await, &expected), Vec::<String>::new(), "seed {seed}");
    }
}

#[tokio::test]
async fn the_truth_is_found_for_every_requirement() {
    for requirement in Requirement::ALL {
        for seed in [1, 6] {
            let mut story = Story::begin(&Scenario { seed, ..Scenario::default() }).await;
            story.organization.requirement = *requirement;
            story.complete_scan().await;
            let expected = seen(&story.sim.truth(requirement.as_str()));
            let different = differences(&story.coverage().await, &expected);
            assert_eq!(different, Vec::<String>::new(), "seed {seed}, {requirement}");
        }
    }
}

#[tokio::test]
async fn the_truth_is_the_same_whether_members_list_the_organizations_analyzers_or_not() {
    let scenario = Scenario { members_see_organization_analyzers: true, ..Scenario::default() };
    let story = Story::begin(&scenario).await;
    story.complete_scan().await;
    let expected = seen(&story.sim.truth("either"));
    assert_eq!(differences(&story.coverage().await, &expected), Vec::<String>::new());
}

#[tokio::test]
async fn a_world_is_the_same_to_the_byte_for_the_same_seed() {
    let world = |seed| async move {
        let sim = Sim::start(&Scenario { seed, ..Scenario::default() }, 0).await.unwrap();
        serde_json::to_string(&*sim.world()).unwrap()
    };
    assert_eq!(world(7).await, world(7).await);
    assert_ne!(world(7).await, world(8).await);
}
