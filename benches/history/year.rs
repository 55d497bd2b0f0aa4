//! A year of an organization: what each scan sees, and the rows that a store must hold afterwards, worked out apart from it.

use chrono::{DateTime, TimeDelta, Utc};
use trustwatch::model::{
    Account, AccountState, Analyzer, AnalyzerArn, Coverage, ErrorKind, Failure, Reason, Region, RegionCoverage, Visit,
    VisitOutcome,
};

pub const ACCOUNTS: usize = 1_000;
pub const SCANS: i64 = 365 * 24;
/// Of the account × regions, those that change in each scan.
const CHANGES: f64 = 0.000_5;
/// Of the visits, those that fail.
const FAILURES: f64 = 0.002;
pub const OUS: usize = 20;

pub const REGIONS: [&str; 17] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// When scan 1 began. The year ends at the present, so that the retention's limits fall where they would.
pub fn begin() -> DateTime<Utc> {
    "2025-11-24T00:17:00Z".parse().expect("an instant")
}

/// When a scan began. Scans are numbered from 1.
pub fn scan_at(scan: i64) -> DateTime<Utc> {
    begin() + TimeDelta::hours(scan - 1)
}

/// When an account was visited in a scan.
pub fn visit_at(scan: i64, account: usize) -> DateTime<Utc> {
    scan_at(scan) + TimeDelta::milliseconds(20 * account as i64)
}

pub fn account_id(account: usize) -> String {
    format!("{:012}", 100_000_000_000_usize + account)
}

pub fn ou(account: usize) -> String {
    format!("o-bench/r-1/ou-{:02}", account % OUS)
}

/// xorshift64*: the same year in every run.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= probability
    }
}

/// The world as scans find it, one after the other.
pub struct World {
    rng: Rng,
    /// What each account × region is.
    pub known: Vec<[Reason; REGIONS.len()]>,
    /// The accounts that this scan cannot read.
    pub failed: Vec<bool>,
}

impl World {
    pub fn new() -> Self {
        let mut rng = Rng::new(7);
        let mut draw = || match rng.below(20) {
            0 => Reason::NoAnalyzer,
            1 => Reason::AccountAnalyzer,
            _ => Reason::OrganizationAnalyzer,
        };
        let known = (0..ACCOUNTS).map(|_| std::array::from_fn(|_| draw())).collect();
        Self { rng, known, failed: vec![false; ACCOUNTS] }
    }

    /// Goes on to the next scan.
    pub fn step(&mut self) {
        let changes = (ACCOUNTS * REGIONS.len()) as f64 * CHANGES;
        let changes = changes as usize + usize::from(self.rng.chance(changes.fract()));
        for _ in 0..changes {
            let (account, region) = (self.rng.below(ACCOUNTS), self.rng.below(REGIONS.len()));
            let slot = &mut self.known[account][region];
            *slot = match *slot {
                Reason::OrganizationAnalyzer => Reason::NoAnalyzer,
                Reason::NoAnalyzer => Reason::AccountAnalyzer,
                _ => Reason::OrganizationAnalyzer,
            };
        }
        for failed in &mut self.failed {
            *failed = self.rng.chance(FAILURES);
        }
    }

    /// The verdict that a scan gives.
    pub fn seen(&self, account: usize, region: usize) -> Reason {
        if self.failed[account] { Reason::Throttled } else { self.known[account][region] }
    }

    /// A visit as the engine would hand it to the store.
    pub fn visit(&self, scan: i64, account: usize) -> Visit {
        let at = visit_at(scan, account);
        let failed = self.failed[account];
        let row = |region: usize| {
            let reason = self.seen(account, region);
            let bare = RegionCoverage::bare(Region::new(REGIONS[region]), reason);
            RegionCoverage { coverage: Coverage { reason, analyzer_arn: arn(account, region, reason) }, ..bare }
        };
        let failure = || Failure { kind: ErrorKind::Throttled, message: THROTTLED.into() };
        Visit {
            account: Account {
                id: account_id(account).parse().expect("an id"),
                name: format!("account-{account}"),
                state: AccountState::Active,
                ou_path: Some(ou(account)),
                tags: None,
                owned_by: None,
            },
            outcome: if failed { VisitOutcome::Unreachable } else { VisitOutcome::Audited },
            failure: failed.then(failure),
            started_at: at - TimeDelta::milliseconds(900),
            finished_at: at,
            coverage: (0..REGIONS.len()).map(row).collect(),
            regions_read: if failed { Vec::new() } else { REGIONS.iter().map(|region| Region::new(region)).collect() },
            blind: Vec::new(),
            undecided: false,
            analyzers: if failed { Vec::new() } else { vec![analyzer(account)] },
            findings: Vec::new(),
            entered: Some(!failed),
        }
    }
}

pub const THROTTLED: &str = "access-analyzer:ListAnalyzers: Rate exceeded";

/// The analyzer that a verdict names.
pub fn arn(account: usize, region: usize, reason: Reason) -> Option<String> {
    let region = REGIONS[region];
    match reason {
        Reason::OrganizationAnalyzer => {
            Some(format!("arn:aws:access-analyzer:{region}:{}:analyzer/organization-external", account_id(0)))
        }
        Reason::AccountAnalyzer => {
            Some(format!("arn:aws:access-analyzer:{region}:{}:analyzer/account-external", account_id(account)))
        }
        _ => None,
    }
}

/// The one analyzer that each account lists throughout the year.
pub fn analyzer(account: usize) -> Analyzer {
    let arn = format!("arn:aws:access-analyzer:us-east-1:{}:analyzer/unused", account_id(account));
    Analyzer {
        location: AnalyzerArn::parse(&arn).expect("an ARN"),
        arn,
        name: "unused".into(),
        analyzer_type: "ACCOUNT_UNUSED_ACCESS".into(),
        status: "ACTIVE".into(),
        status_reason: None,
        managed_by: None,
        created_at: Some(begin()),
        tags: [("team".to_owned(), "security".to_owned())].into(),
    }
}
