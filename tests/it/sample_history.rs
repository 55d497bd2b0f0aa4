//! A small organization over five months, fed to a store scan by scan: what `docs/sql.md` shows, and what there is to
//! migrate, to move and to thin out.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use trustwatch::model::{
    Account, AccountState, Analyzer, AnalyzerArn, CallCount, Coverage, ErrorKind, Failure, Reason, Region,
    RegionCoverage, Requirement, ScanCost, ScanEnd, ScanState, Scope, StageSeconds, Trigger, Visit, VisitOutcome,
};
use trustwatch::store::{NewScan, Store};

use crate::support;

const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

/// Id, name, OU.
const ACCOUNTS: [(&str, &str, &str); 7] = [
    ("111111111111", "management", "o-example/r-1"),
    ("222222222222", "security", "o-example/r-1/ou-core"),
    ("333333333333", "shop", "o-example/r-1/ou-work"),
    ("444444444444", "billing", "o-example/r-1/ou-work"),
    ("555555555555", "sandbox", "o-example/r-1/ou-sandbox"),
    ("666666666666", "new-team", "o-example/r-1/ou-work"),
    ("777777777777", "legacy", "o-example/r-1/ou-work"),
];

pub fn day(month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, month, day).unwrap()
}

fn nine(date: NaiveDate) -> DateTime<Utc> {
    date.and_hms_opt(9, 0, 0).unwrap().and_utc()
}

fn analyzer(owner: &str, region: &str, name: &str, kind: &str, disabled: bool) -> Analyzer {
    let arn = format!("arn:aws:access-analyzer:{region}:{owner}:analyzer/{name}");
    Analyzer {
        location: AnalyzerArn::parse(&arn).unwrap(),
        arn,
        name: name.into(),
        analyzer_type: kind.into(),
        status: if disabled { "DISABLED" } else { "ACTIVE" }.into(),
        status_reason: disabled.then(|| "AWS_SERVICE_ACCESS_DISABLED".into()),
        managed_by: None,
        created_at: Some(nine(day(6, 1))),
        tags: BTreeMap::from([("team".into(), "security".into()), ("env".into(), "prod".into())]),
    }
}

/// Whether the shop has an analyzer of its own on a day.
fn owns(date: NaiveDate) -> bool {
    (day(8, 5)..day(11, 23)).contains(&date)
}

/// The analyzers that an account owns on a day.
fn analyzers(account: &str, date: NaiveDate) -> Vec<Analyzer> {
    match account {
        "222222222222" => vec![
            analyzer(account, "eu-west-1", "organization", "ORGANIZATION", false),
            analyzer(account, "eu-west-1", "organization-again", "ORGANIZATION", false),
            analyzer(account, "us-east-1", "organization", "ORGANIZATION", date >= day(11, 14)),
        ],
        "333333333333" if owns(date) => vec![analyzer(account, "us-east-1", "shop", "ACCOUNT", false)],
        "444444444444" => {
            REGIONS.iter().map(|region| analyzer(account, region, "unused", "ACCOUNT_UNUSED_ACCESS", false)).collect()
        }
        _ => Vec::new(),
    }
}

fn verdict(account: &str, region: &str, date: NaiveDate) -> Coverage {
    let organization = |name: &str| Some(format!("arn:aws:access-analyzer:{region}:222222222222:analyzer/{name}"));
    let own = account == "333333333333" && region == "us-east-1" && owns(date);
    let disabled = region == "us-east-1" && date >= day(11, 14);
    let (reason, analyzer_arn) = match (own, disabled) {
        _ if account == "666666666666" && date < day(11, 12) => (Reason::Throttled, None),
        _ if account == "333333333333" && date == day(11, 21) => (Reason::Throttled, None),
        (true, true) => {
            (Reason::AccountAnalyzer, Some("arn:aws:access-analyzer:us-east-1:333333333333:analyzer/shop".into()))
        }
        (true, false) => (
            Reason::AccountAndOrganizationAnalyzers,
            Some("arn:aws:access-analyzer:us-east-1:333333333333:analyzer/shop".into()),
        ),
        (false, true) => (Reason::AnalyzerNotActive, organization("organization")),
        (false, false) => (Reason::OrganizationAnalyzer, organization("organization")),
    };
    Coverage { reason, analyzer_arn }
}

fn visit((id, name, ou): (&str, &str, &str), date: NaiveDate, at: DateTime<Utc>, locked: bool) -> Visit {
    let account = Account {
        id: id.parse().unwrap(),
        name: name.into(),
        state: AccountState::Active,
        ou_path: Some(ou.into()),
        tags: None,
        owned_by: None,
    };
    let started_at = at;
    let finished_at = at + TimeDelta::milliseconds(1_500);
    let rows = REGIONS.iter().map(|region| {
        let coverage = if locked { Coverage::bare(Reason::RoleNotAssumable) } else { verdict(id, region, date) };
        RegionCoverage { coverage: coverage.clone(), ..RegionCoverage::bare(Region::new(region), coverage.reason) }
    });
    let failure = |kind, message: &str| Some(Failure { kind, message: message.to_owned() });
    Visit {
        outcome: if locked { VisitOutcome::Unreachable } else { VisitOutcome::Audited },
        failure: if locked {
            failure(ErrorKind::RoleNotAssumable, "sts:AssumeRole: not authorized to perform sts:AssumeRole")
        } else {
            None
        },
        started_at,
        finished_at,
        coverage: rows.collect(),
        regions_read: if locked { Vec::new() } else { REGIONS.iter().map(|region| Region::new(region)).collect() },
        blind: Vec::new(),
        undecided: false,
        analyzers: if locked { Vec::new() } else { analyzers(id, date) },
        findings: Vec::new(),
        entered: Some(!locked),
        account,
    }
}

/// Who makes the visits.
const WORKER: &str = "scanner-1:1";

/// Feeds a store the scans of every morning, from the first of July.
pub async fn fill(store: &dyn Store) {
    let mut date = day(7, 1);
    while date <= day(11, 23) {
        scan(store, nine(date), &[]).await;
        date += TimeDelta::days(1);
    }
}

/// Feeds a store one scan; some accounts cannot be entered.
pub async fn scan(store: &dyn Store, at: DateTime<Utc>, locked: &[&str]) {
    let date = at.date_naive();
    let scan = NewScan {
        organization_name: "main".into(),
        trigger: Trigger::Schedule,
        scope: Scope::All,
        scheduled_for: Some(at),
        started_at: at,
        requirement: Requirement::Either,
        configuration_hash: "5f2b8a1c9d3e4f60".into(),
        version: "0.1.0".into(),
        resumes_from: at,
        alive_from: at,
        begins: true,
    };
    let scan = store.begin_scan(&scan, WORKER).await.unwrap().scan_id;
    assert_eq!(store.identify_organization(scan, "o-example", &[]).await.unwrap(), None);
    store.keep_discovered(scan, &support::discovered("o-example")).await.unwrap();
    let members = ACCOUNTS.into_iter().filter(|(id, ..)| match *id {
        "666666666666" => date >= day(11, 10),
        "777777777777" => date < day(10, 15),
        _ => true,
    });
    let visits: Vec<Visit> = members
        .enumerate()
        .map(|(at_once, account)| {
            let locked = account.0 == "555555555555" || locked.contains(&account.0);
            visit(account, date, at + TimeDelta::milliseconds(200 * at_once as i64), locked)
        })
        .collect();
    support::claim(store, scan, WORKER, &visits).await;
    assert_eq!(store.record_visits(scan, &visits, WORKER).await.unwrap().len(), visits.len());
    let end = ScanEnd { state: ScanState::Completed, error: None, list_complete: true };
    let count = |service, operation, calls| CallCount {
        service,
        operation,
        calls,
        retries: u64::from(date.day().is_multiple_of(7)),
        throttled: 0,
        errors: 0,
        seconds: 0.25,
        bytes: 1500 * calls,
        rate_wait_seconds: 0.0,
    };
    let cost = ScanCost {
        calls: vec![count("sts", "AssumeRole", 6), count("access-analyzer", "ListAnalyzers", 12)],
        stages: StageSeconds { discover: 0.5, assume: 1.0, audit: 3.0, evaluate: 0.25, store: 0.5 },
        bound_by: "the latency of AWS".into(),
    };
    store.finish_scan(scan, WORKER, &end, &cost, at + TimeDelta::seconds(4)).await.unwrap();
}
