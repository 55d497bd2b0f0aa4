//! Invariants of the SQL interface, over generated worlds and generated changes of them.

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::rng::Rng;
use crate::awssim::scenario::Shares;
use crate::support::Story;

/// What must hold in every database after every scan.
async fn invariants_hold(story: &Story, what: &str) {
    let none = |sql: &'static str| async move {
        let rows = story.rows(sql).await;
        assert!(rows.is_empty(), "{what}: {sql}: {rows:?}");
    };
    // Nothing disappears, and unknown is on neither side.
    none(
        "SELECT scan_id FROM scan_summary WHERE state <> 'running' AND
         account_regions <> covered + not_covered + not_applicable + unknown",
    )
    .await;
    none(
        "SELECT scan_id FROM scan_summary WHERE state <> 'running' AND
         abs(coverage_ratio - 1.0 * covered / (covered + not_covered)) > 1e-9",
    )
    .await;
    // Exactly one row for each account × region.
    none("SELECT account_id, region FROM current_coverage GROUP BY account_id, region HAVING count(*) <> 1").await;
    // Every account has rows in every scan.
    none(
        "SELECT v.account_id FROM account_visits AS v WHERE v.scan_id = (SELECT max(scan_id) FROM scan_summary)
         AND NOT EXISTS (SELECT 1 FROM current_coverage AS c WHERE c.account_id = v.account_id)",
    )
    .await;
    // A reason belongs to one status.
    none(
        "SELECT account_id, region, status, reason FROM current_coverage WHERE status <> CASE
           WHEN reason IN ('account_analyzer', 'organization_analyzer', 'account_and_organization_analyzers') THEN 'covered'
           WHEN reason IN ('no_analyzer', 'only_other_analyzer_types', 'analyzer_not_active', 'required_zone_of_trust_missing') THEN 'not_covered'
           WHEN reason IN ('region_not_opted_in', 'region_not_supported', 'account_not_active', 'excluded') THEN 'not_applicable'
           ELSE 'unknown' END",
    )
    .await;
    // Intervals never overlap and leave no hole while the account is a member.
    none(
        "SELECT account_key, region, valid_from FROM (
             SELECT account_key, region, valid_from, valid_to, lead(valid_from) OVER
                 (PARTITION BY account_key, region ORDER BY valid_from) AS next FROM coverage)
         WHERE next IS NOT NULL AND (valid_to IS NULL OR valid_to <> next)",
    )
    .await;
    // Two intervals side by side differ.
    none(
        "SELECT a.account_key FROM coverage AS a JOIN coverage AS b ON b.account_key = a.account_key
         AND b.region = a.region AND b.valid_from = a.valid_to AND b.reason = a.reason",
    )
    .await;
    // What is known is known by its own answer.
    none("SELECT region FROM current_coverage WHERE status <> 'unknown' AND (last_known_status <> status OR last_known_at <> checked_at)").await;
    none("SELECT region FROM current_coverage WHERE last_known_at > checked_at OR since > checked_at").await;
}

/// Rows that `docs/sql.md` promises for a first scan: those of the truth, no more and no fewer.
async fn rows_are_complete(story: &Story) {
    let mut found: Vec<_> = story.coverage().await.into_keys().collect();
    let mut expected: Vec<_> = story.sim.truth("either").into_iter().map(|row| (row.account_id, row.region)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// A world whose sizes and shares are drawn from a seed.
fn drawn(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut share = |most: f64| most * (rng.below(1000) as f64 / 1000.0);
    let shares = Shares {
        suspended: share(0.15),
        role_missing: share(0.2),
        trust_refuses: share(0.1),
        iam_denied: share(0.15),
        scp_region_denied: share(0.15),
        list_regions_denied: share(0.15),
        opted_in: share(1.0),
        enabling: share(0.4),
        account_analyzer: share(0.6),
        inactive_analyzer: share(0.3),
        organization_analyzer: share(1.0),
        organization_analyzer_inactive: share(0.5),
        ..Shares::default()
    };
    let accounts = 3 + rng.below(12) as usize;
    Scenario {
        seed,
        accounts,
        delegated_administrator: rng.chance(0.7),
        management_role: rng.chance(0.8),
        members_see_organization_analyzers: rng.chance(0.5),
        paths: rng.chance(0.7),
        analyzer_page_size: 1 + rng.below(3) as usize,
        shares,
        ..Scenario::default()
    }
}

/// Changes something in the world.
fn shake(story: &Story, rng: &mut Rng) {
    let mut world = story.sim.world();
    let ids: Vec<String> = world.accounts.keys().filter(|id| **id != world.caller).cloned().collect();
    let account = ids[rng.below(ids.len() as u64) as usize].clone();
    let regions: Vec<String> = world.accounts[&account].regions.keys().cloned().collect();
    let region = regions[rng.below(regions.len() as u64) as usize].clone();
    let name = format!("made-{}", rng.id(6));
    let change = match rng.below(8) {
        0 => Change::BreakRole { account },
        1 => Change::MendRole { account },
        2 => Change::SuspendAccount { account },
        3 => Change::SetAccountState { account, state: "ACTIVE".into() },
        4 => Change::EnableRegion { account, region: "af-south-1".into() },
        5 => Change::DisableRegion { account, region: "af-south-1".into() },
        6 => Change::AddAnalyzer { account, region, name, kind: "ACCOUNT".into() },
        _ => {
            let id = format!("{:012}", rng.below(1_000_000_000_000));
            Change::AddAccount { account: id, name }
        }
    };
    let _ = crate::awssim::control::apply(&mut world, &change);
}

#[tokio::test]
async fn the_invariants_hold_over_generated_worlds_and_their_changes() {
    for seed in 100..112 {
        let story = Story::begin(&drawn(seed)).await;
        let mut rng = Rng::new(seed ^ 0xABCD);
        story.scan().await;
        rows_are_complete(&story).await;
        invariants_hold(&story, &format!("seed {seed}, first scan")).await;
        for round in 0..3 {
            for _ in 0..4 {
                shake(&story, &mut rng);
            }
            story.scan().await;
            invariants_hold(&story, &format!("seed {seed}, round {round}")).await;
        }
    }
}
