//! Finding every account: pages, shapes, callers, and lists that are not believed.

use trustwatch::config::{Rate, Selector, TimeSpan};
use trustwatch::model::ScanState;

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::awssim::weather::{Effect, Rule};
use crate::awssim::world::Role;
use crate::invariants;
use crate::support::{Story, scan};

async fn accounts_found(scenario: Scenario) -> usize {
    let story = Story::begin(&scenario).await;
    story.complete_scan().await;
    let found = story.rows("SELECT DISTINCT account_id FROM current_coverage ORDER BY account_id").await;
    let expected: Vec<Vec<String>> = story.sim.world().accounts.keys().map(|id| vec![id.clone()]).collect();
    assert_eq!(found, expected);
    found.len()
}

#[tokio::test]
async fn all_accounts_are_found_without_the_retired_status_and_with_empty_pages() {
    for seed in 1..=4 {
        let scenario = Scenario { seed, accounts: 55, empty_pages: true, legacy_status: false, ..Scenario::default() };
        assert_eq!(accounts_found(scenario).await, 57);
    }
}

#[tokio::test]
async fn all_accounts_are_found_where_only_the_retired_status_is_there() {
    let scenario = Scenario { legacy_status: true, state: false, ..Scenario::calm(25) };
    assert_eq!(accounts_found(scenario).await, 27);
}

#[tokio::test]
async fn an_account_with_neither_state_nor_status_fails_the_scan() {
    let scenario = Scenario { legacy_status: false, state: false, ..Scenario::calm(3) };
    let story = Story::begin(&scenario).await;
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    let first = story.sim.world().accounts.keys().next().unwrap().clone();
    let expected = format!(
        "listing the accounts: organizations:ListAccounts: account {first} has neither State nor Status, so whether it is \
         active is not known; this is not what AWS's API promises: check for a proxy or an AWS_ENDPOINT_URL in between, and \
         for a newer trustwatch"
    );
    assert_eq!(outcome.error, Some(expected));
}

#[tokio::test]
async fn without_paths_the_ous_are_walked() {
    let with = Story::begin(&Scenario { seed: 9, ..Scenario::default() }).await;
    with.complete_scan().await;
    let without = Story::begin(&Scenario { seed: 9, paths: false, ..Scenario::default() }).await;
    without.complete_scan().await;
    let paths = "SELECT DISTINCT account_id, ou_path FROM current_coverage ORDER BY account_id";
    let found = with.rows(paths).await;
    assert_eq!(found, without.rows(paths).await);
    assert!(found.iter().all(|row| row[1].starts_with("o-")));
    assert!(found.iter().any(|row| row[1].matches("/ou-").count() == 2));
}

#[tokio::test]
async fn accounts_are_excluded_by_ou() {
    let mut story = Story::begin(&Scenario::calm(20)).await;
    let (sandbox, inside) = {
        let world = story.sim.world();
        let (id, _) = world.ous.iter().find(|(_, ou)| ou.name == "Sandbox").unwrap();
        let inside = world.accounts.values().filter(|account| account.parent == *id).count() as i64;
        (id.clone(), inside)
    };
    story.organization.exclude = Selector { ou_paths: vec![format!("*/{sandbox}/*")], ..Selector::default() };
    let report = story.complete_scan().await;
    assert!(inside > 0);
    assert_eq!(report.scan.accounts_excluded, Some(inside));
}

#[tokio::test]
async fn a_member_that_may_not_list_its_organization_is_an_error_with_advice() {
    let story = Story::begin(&Scenario::calm(3)).await;
    let (member, management) = {
        let world = story.sim.world();
        let member = world.members().remove(0);
        (member, world.management().unwrap().to_owned())
    };
    let outcome = scan(&story.engine_as(&member)).await;
    assert_eq!(outcome.state, ScanState::Failed);
    let expected = format!(
        "listing the accounts: organizations:ListAccounts: AccessDeniedException: You don't have permissions to access this \
         resource.; account {member} may not read the organization: use credentials of the management account \
         ({management}) or of a delegated administrator, or set `reader_role_arn` to a role there; `trustwatch policy` \
         prints what it needs"
    );
    assert_eq!(outcome.error, Some(expected));
}

#[tokio::test]
async fn a_reader_role_reads_the_organization_for_a_caller_that_may_not() {
    for chain_roles in [false, true] {
        let mut story = Story::begin(&Scenario::calm(3)).await;
        let (caller, management, partition_role) = {
            let mut world = story.sim.world();
            let caller = world.members().remove(0);
            let management = world.management().unwrap().to_owned();
            let trusted = if chain_roles { management.clone() } else { caller.clone() };
            for account in world.accounts.values_mut() {
                account.roles.values_mut().for_each(|role| role.trusts = vec![trusted.clone()]);
            }
            let reader = Role { trusts: vec![caller.clone()], external_id: None, max_duration: 3600 };
            world.accounts.get_mut(&management).unwrap().roles.insert("OrgReader".into(), reader);
            (caller, management.clone(), format!("arn:aws:iam::{management}:role/OrgReader"))
        };
        story.organization.reader_role_arn = Some(partition_role);
        story.organization.chain_roles = chain_roles;
        story.limits.attempt_timeout = TimeSpan::seconds(5);
        let outcome = scan(&story.engine_as(&caller)).await;
        assert_eq!(outcome.error, None, "chained: {chain_roles}");
        let audited = story.rows("SELECT account_id FROM account_visits WHERE outcome = 'audited'").await;
        assert_eq!(audited.len(), 5);
        let of_members =
            story.sim.assumed().into_iter().filter(|one| !one["role_arn"].as_str().unwrap().ends_with("OrgReader"));
        for session in of_members {
            assert_eq!(session["chained"], chain_roles);
            assert!(!session["role_arn"].as_str().unwrap().contains(&management), "the reader audits its own account");
        }
    }
}

#[tokio::test]
async fn a_standalone_account_is_audited_alone() {
    let story = Story::begin(&Scenario { organization: false, ..Scenario::calm(0) }).await;
    let account = story.sim.world().caller.clone();
    let (region, name, kind) = ("eu-west-1".to_owned(), "watch".to_owned(), "ACCOUNT".to_owned());
    story.sim.change(&Change::AddAnalyzer { account: account.clone(), region, name, kind });
    let report = story.complete_scan().await;
    assert_eq!(report.scan.organization_id, Some(format!("account:{account}")));
    assert_eq!(story.verdict(&account, "eu-west-1").await, "covered account_analyzer");
    assert_eq!(story.verdict(&account, "us-east-1").await, "not_covered no_analyzer");
    assert_eq!(story.sim.counters().calls("sts:AssumeRole"), 0);
}

#[tokio::test]
async fn a_standalone_account_that_joins_an_organization_is_one_account_still() {
    let story = Story::begin(&Scenario::calm(2)).await;
    let organization = story.sim.world().organization.take();
    let account = story.sim.world().caller.clone();
    story.complete_scan().await;
    story.sim.world().organization = organization;
    let report = story.complete_scan().await;
    let rows = "SELECT DISTINCT organization_id FROM current_coverage";
    assert_eq!(story.rows(rows).await, [[report.scan.organization_id.clone().unwrap()]]);
    let closed = "SELECT DISTINCT account_id, cause FROM coverage_transitions WHERE to_status IS NULL";
    assert_eq!(story.rows(closed).await, [[account, "membership".to_owned()]]);
    invariants::hold(story.store.as_ref(), "after a standalone account has joined").await;

    // The other way round may be credentials of somebody else.
    let before = story.coverage().await;
    story.sim.world().organization = None;
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    let error = outcome.error.unwrap();
    let was = format!("`main` has been {} so far, and is account:", report.scan.organization_id.unwrap());
    assert!(error.contains(&was), "{error}");
    assert_eq!(story.coverage().await, before);
}

#[tokio::test]
async fn a_list_that_shrank_too_much_fails_the_scan_and_closes_nothing() {
    let story = Story::begin(&Scenario::calm(8)).await;
    story.complete_scan().await;
    let before = story.coverage().await;
    let gone: Vec<String> = story.sim.members().into_iter().take(3).collect();
    for account in &gone {
        story.sim.change(&Change::RemoveAccount { account: account.clone() });
    }
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    assert_eq!(
        outcome.error.unwrap(),
        "listing the accounts: 3 of 10 known accounts are missing from the list, more than `max_account_loss` (0.2) allows, \
         which is not believed; no account was closed. If they did leave, raise `max_account_loss` of organization `main` \
         for one scan"
    );
    assert_eq!(story.coverage().await, before);

    let mut believed = story.engine();
    believed.organization.max_account_loss = 0.5;
    assert_eq!(scan(&believed).await.state, ScanState::Completed);
    assert_eq!(story.rows("SELECT DISTINCT account_id FROM current_coverage").await.len(), 7);
}

#[tokio::test]
async fn one_organization_under_two_names_is_refused() {
    let story = Story::begin(&Scenario::calm(1)).await;
    story.complete_scan().await;
    let mut second = story.engine();
    second.organization.name = "second".into();
    second.others = vec!["main".into()];
    let outcome = scan(&second).await;
    assert_eq!(outcome.state, ScanState::Failed);
    let error = outcome.error.unwrap();
    assert!(error.contains("is configured twice, as `main` and as `second`"), "{error}");
    assert_eq!(story.rows("SELECT DISTINCT organization_name FROM current_coverage").await, [["main"]]);
}

#[tokio::test]
async fn an_empty_list_fails_the_scan_though_the_owners_could_be_described() {
    let story = Story::begin(&Scenario::calm(3)).await;
    story.sim.world().switches.hide_accounts = true;
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    let expected = "listing the accounts: the list is empty, which is not believed; no account was closed";
    assert_eq!(outcome.error.as_deref(), Some(expected));
}

#[tokio::test]
async fn ous_that_cannot_be_walked_leave_accounts_without_a_path_and_audited() {
    let mut story = Story::begin(&Scenario { paths: false, ..Scenario::calm(3) }).await;
    story.limits.attempts = 1;
    story.sim.weather(vec![failing("ListRoots", 1.0)]);
    let report = story.complete_scan().await;
    assert_eq!(report.scan.accounts_audited, Some(5));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_fails_the_scan_and_closes_nothing() {
    let mut story = Story::begin(&Scenario::calm(50)).await;
    story.limits.attempts = 2;
    story.complete_scan().await;
    let before = story.coverage().await;
    story.sim.weather(vec![failing("ListAccounts", 1.0)]);
    let outcome = story.scan().await;
    assert_eq!(outcome.state, ScanState::Failed);
    assert!(outcome.error.unwrap().starts_with("listing the accounts: organizations:ListAccounts: ServiceException"));
    assert_eq!(story.coverage().await, before);
}

fn failing(operation: &str, probability: f64) -> Rule {
    Rule {
        service: Some("organizations".into()),
        operation: Some(operation.into()),
        account: None,
        region: None,
        probability,
        first: None,
        effect: Effect::Error500,
    }
}

#[tokio::test]
async fn with_the_delegated_administrators_out_of_sight_members_are_unknown() {
    let mut story = Story::begin(&Scenario::calm(3)).await;
    story.limits.attempts = 1;
    story.sim.weather(vec![failing("ListDelegatedAdministrators", 1.0)]);
    story.complete_scan().await;
    let reasons = story.rows("SELECT DISTINCT reason FROM current_coverage WHERE status <> 'not_applicable'").await;
    assert_eq!(reasons, [["organization_analyzers_unknown"]]);
}

#[tokio::test]
async fn an_owner_that_cannot_be_described_is_read_when_the_list_comes_to_it() {
    let mut story = Story::begin(&Scenario { seed: 4, ..Scenario::default() }).await;
    story.limits.attempts = 1;
    story.sim.weather(vec![failing("DescribeAccount", 1.0)]);
    story.complete_scan().await;
    let unknown = "SELECT count(*) FROM current_coverage WHERE reason = 'organization_analyzers_unknown'";
    assert_eq!(story.rows(unknown).await, [["0"]]);
}

#[tokio::test]
async fn an_owner_that_comes_late_in_the_list_is_waited_for_by_all_and_stops_nobody() {
    const ACCOUNTS: usize = 1_300;
    let one_region = |seed| Scenario {
        seed,
        regions: vec!["eu-west-1".into()],
        opt_in_regions: Vec::new(),
        delegated_administrator: false,
        verify_signatures: false,
        ..Scenario::calm(ACCOUNTS)
    };
    // The list is in the order of ids, and the seed says where in it the management account is.
    let comes_late = |seed: &u64| {
        let world = crate::awssim::generate::world(&one_region(*seed));
        world.accounts.keys().position(|id| Some(id.as_str()) == world.management()).unwrap() > 1_100
    };
    let seed = (1..100).find(comes_late).unwrap();
    let mut story =
        Story::begin(&Scenario { weather: vec![failing("DescribeAccount", 1.0)], ..one_region(seed) }).await;
    story.limits.attempts = 1;
    story.limits.attempt_timeout = TimeSpan::seconds(60);
    story.limits.rates.insert("organizations:ListAccounts".into(), Rate { per_second: 1000.0, burst: 1000 });
    let management = story.sim.world().management().unwrap().to_owned();
    let (region, name, kind) = ("eu-west-1".into(), "org".into(), "ORGANIZATION".into());
    story.sim.change(&Change::AddAnalyzer { account: management, region, name, kind });
    let report = story.complete_scan().await;
    assert_eq!(report.scan.covered, report.scan.account_regions);
    assert!(report.scan.covered > Some(1_300), "{:?}", report.scan.covered);
}
