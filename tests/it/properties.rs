//! Invariants of the SQL interface, over generated worlds and generated changes of them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trustwatch::config::{self, Alert, Alerting, Detail};
use trustwatch::model::Requirement;
use trustwatch::scan::{Request, Selection};
use trustwatch::store::{self, Access, Store};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::rng::Rng;
use crate::awssim::scenario::Shares;
use crate::engine_parity::Both;
use crate::support::Story;
use crate::{invariants, postgres};

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

/// Changes something in the world, in the configuration, or in the weather. Says which accounts the next scan is for.
fn shake(story: &mut Story, rng: &mut Rng) -> Selection {
    let draw = |rng: &mut Rng, list: &[String]| list[rng.below(list.len() as u64) as usize].clone();
    let mut selection = Selection::default();
    let mut world = story.sim.world();
    let ids: Vec<String> = world.accounts.keys().filter(|id| **id != world.caller).cloned().collect();
    let account = draw(rng, &ids);
    let regions: Vec<String> = world.accounts[&account].regions.keys().cloned().collect();
    let region = draw(rng, &regions);
    let name = format!("made-{}", rng.id(6));
    let any: Vec<(String, String, String)> = world
        .analyzers
        .iter()
        .flat_map(|(owner, regions)| regions.iter().map(move |(region, list)| (owner, region, list)))
        .flat_map(|(owner, region, list)| list.iter().map(|one| (owner.clone(), region.clone(), one.name.clone())))
        .collect();
    let analyzer = (!any.is_empty()).then(|| any[rng.below(any.len() as u64) as usize].clone());
    let change = match (rng.below(15), analyzer) {
        (0, _) => Change::BreakRole { account },
        (1, _) => Change::MendRole { account },
        (2, _) => Change::SuspendAccount { account },
        (3, _) => Change::SetAccountState { account, state: "ACTIVE".into() },
        (4, _) => Change::EnableRegion { account, region: "af-south-1".into() },
        (5, _) => Change::DisableRegion { account, region: "af-south-1".into() },
        (6, _) => Change::AddAnalyzer { account, region, name, kind: "ACCOUNT".into() },
        (7, Some((account, region, name))) => Change::DeleteAnalyzer { account, region, name },
        (8, Some((account, region, name))) => Change::DisableAnalyzer { account, region, name, reason: None },
        (9, _) => Change::RemoveAccount { account },
        (10, _) => {
            let ous: Vec<String> = world.ous.keys().cloned().collect();
            Change::MoveAccount { account, parent: draw(rng, &ous) }
        }
        (11, _) => {
            story.organization.requirement = Requirement::ALL[rng.below(4) as usize];
            return selection;
        }
        (12, _) => {
            story.organization.exclude.accounts =
                if rng.chance(0.5) { vec![account.parse().unwrap()] } else { Vec::new() };
            return selection;
        }
        (13, _) => {
            selection.accounts.push(account.parse().unwrap());
            return selection;
        }
        _ => Change::AddAccount { account: format!("{:012}", rng.below(1_000_000_000_000)), name },
    };
    let _ = crate::awssim::control::apply(&mut world, &change);
    selection
}

#[tokio::test]
async fn both_engines_tell_the_same_story_and_the_invariants_hold_after_every_step() {
    for seed in 100..112 {
        let mut story = Story::begin(&drawn(seed)).await;
        let postgres = config::Store::at(postgres::database().await);
        let postgres = store::open(&postgres, Access::Write { migrate: true }).await.unwrap();
        let both = Arc::new(Both::new(Arc::clone(&story.store), postgres));
        story.store = Arc::clone(&both) as Arc<dyn Store>;
        // Accounts that a story takes away are not disbelieved, and what is not answered is given up soon.
        story.organization.max_account_loss = 1.0;
        story.findings.detail = if seed % 3 == 0 { Detail::All } else { Detail::Off };
        let mut rng = Rng::new(seed ^ 0xABCD);
        let channel = "name = \"x\"\nchannel = \"slack\"\nregions = [\"eu-*\"]";
        let channels: [Alert; 1] = [toml_edit::de::from_str(channel).unwrap()];
        for round in 0..5 {
            let mut selection = Selection::default();
            for _ in 0..if round == 0 { 0 } else { 6 } {
                selection = shake(&mut story, &mut rng);
            }
            let request = Request { selection, ..Request::manual() };
            let outcome = story.engine().scan(request, Arc::default(), CancellationToken::new()).await.unwrap();
            both.report(outcome.scan_id).await.unwrap();
            let what = format!("seed {seed}, round {round}, {:?}", outcome.error);
            if round == 0 {
                rows_are_complete(&story).await;
            }
            // Of some scans the incidents are looked for late.
            while round % 2 == 0 && both.update_incidents(&Alerting::default(), &channels).await.unwrap().is_some() {}
            invariants::hold(both.sqlite.as_ref(), &what).await;
            both.agree(&what).await;
        }
        both.close().await;
    }
}
