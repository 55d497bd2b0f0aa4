//! What a scan has to tell: its gaps gathered into incidents, and, for each channel, as far as that one is concerned.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::config::Alert;
use crate::model::{Account, Event, EventKind, GapSeen, Incident, IncidentKind, Region, ScanId};
use crate::store::timestamp::Timestamp;

/// Account × regions, and analyzers, that an event names; the numbers are of all.
const NAMED: usize = 5;

/// Incidents that a recovery tells one by one, at most; its title says how many there are. Receivers bound a message (Amazon SNS at
/// 256 KiB), and one that is never taken would hold up what follows.
const MOST_RECOVERED: usize = 20;

/// A message that a process may send now.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its number.
    pub number: i64,
    /// What it says.
    pub event: Event,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it is tried, by the database's clock; `None` where it never was.
    pub tried_since: Option<DateTime<Utc>>,
    /// The time, by the database's clock.
    pub now: DateTime<Utc>,
}

/// What became of an attempt to send a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It was taken.
    Delivered,
    /// It was not; it is tried again after a while.
    Failed {
        /// Why.
        error: String,
        /// After what.
        again_in: std::time::Duration,
    },
    /// It was not, and is given up.
    GivenUp {
        /// Why.
        error: String,
    },
}

/// What was found in one scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// The scan.
    pub scan_id: ScanId,
    /// Incidents that it opened.
    pub opened: usize,
    /// Incidents that it closed.
    pub closed: usize,
}

/// The scan that a gathering is of.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Of {
    /// Its number.
    pub scan_id: ScanId,
    /// AWS's id of the organization.
    pub organization_id: String,
    /// The configuration's name of it.
    pub organization_name: String,
    /// When it ended.
    #[sqlx(try_from = "Timestamp")]
    pub at: DateTime<Utc>,
}

impl Of {
    /// An event of this scan; `id` tells it from others of the same.
    fn event(&self, kind: EventKind, id: &str, title: &str, incidents: Vec<Incident>) -> Event {
        Event {
            id: format!("{}/{}/{id}", self.organization_id, self.scan_id),
            kind,
            severity: incidents.iter().map(|incident| incident.severity).max().unwrap_or_default(),
            title: format!("{}: {title}", self.organization_name),
            at: self.at,
            organization_name: Some(self.organization_name.clone()),
            organization_id: Some(self.organization_id.clone()),
            scan_id: Some(self.scan_id),
            incidents,
            standings: Vec::new(),
            since: None,
        }
    }
}

/// A gap, as it is gathered.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The store's number for the account.
    pub account_key: i32,
    /// The account.
    pub account: Account,
    /// The region.
    pub region: String,
    /// The reason of its status.
    pub reason: String,
    /// The organization's analyzer that covered it.
    pub analyzer: Option<String>,
}

/// How far something reaches.
#[derive(Debug, Clone, Default)]
struct Extent {
    account_regions: u64,
    accounts: BTreeSet<i32>,
    regions: BTreeSet<u16>,
    analyzers: BTreeSet<String>,
    first: Vec<GapSeen>,
}

impl Extent {
    fn add(&mut self, seen: &Seen, region: u16) {
        self.account_regions += 1;
        let is_new = self.accounts.insert(seen.account_key);
        self.regions.insert(region);
        if let Some(arn) = seen.analyzer.as_ref().filter(|_| self.analyzers.len() < NAMED) {
            self.analyzers.insert(arn.clone());
        }
        // Of each account the first region: so five say more.
        if is_new && self.first.len() < NAMED {
            self.first.push(GapSeen {
                account_id: seen.account.id.to_string(),
                account_name: seen.account.name.clone(),
                region: seen.region.clone(),
                reason: seen.reason.clone(),
            });
        }
    }
}

/// The gaps of one cause.
struct Group {
    gaps: Vec<(i32, u16)>,
    whole: Extent,
    /// Of each channel, by its place.
    told: BTreeMap<usize, Extent>,
}

/// An incident that was found, before it has a number.
pub struct Found<'a> {
    gathering: &'a Gathering<'a>,
    /// The cause.
    pub kind: IncidentKind,
    /// What it is of.
    pub subject: Option<&'a str>,
    group: &'a Group,
}

/// Gathers the gaps that a scan opened, cause by cause. What it holds is a few bytes for each gap, however many they are.
pub struct Gathering<'a> {
    of: &'a Of,
    channels: &'a [Alert],
    regions: Vec<String>,
    groups: BTreeMap<(IncidentKind, Option<String>), Group>,
}

impl<'a> Gathering<'a> {
    /// Gathers for these channels.
    pub fn new(of: &'a Of, channels: &'a [Alert]) -> Self {
        Self { of, channels, regions: Vec::new(), groups: BTreeMap::new() }
    }

    /// Takes in what is of the scan as a whole, and of no single gap.
    pub fn say(&mut self, kind: IncidentKind, subject: &str) {
        self.group(kind, Some(subject));
    }

    fn group(&mut self, kind: IncidentKind, subject: Option<&str>) -> &mut Group {
        self.groups.entry((kind, subject.map(str::to_owned))).or_insert_with(|| {
            let hears = |(at, alert): (usize, &Alert)| {
                alert.hears(kind, &self.of.organization_name).then(|| (at, Extent::default()))
            };
            let told = self.channels.iter().enumerate().filter_map(hears).collect();
            Group { gaps: Vec::new(), whole: Extent::default(), told }
        })
    }

    /// Takes a gap in.
    pub fn add(&mut self, kind: IncidentKind, subject: Option<&str>, seen: &Seen) {
        let region = self.regions.iter().position(|region| *region == seen.region).unwrap_or_else(|| {
            self.regions.push(seen.region.clone());
            self.regions.len() - 1
        });
        let region = u16::try_from(region).unwrap_or(u16::MAX);
        let channels = self.channels;
        let group = self.group(kind, subject);
        group.gaps.push((seen.account_key, region));
        group.whole.add(seen, region);
        let audited = Region::new(&seen.region);
        for (at, extent) in &mut group.told {
            if channels[*at].is_for(&seen.account, &audited) {
                extent.add(seen, region);
            }
        }
    }

    /// The incidents, one for each cause.
    pub fn found(&self) -> impl Iterator<Item = Found<'_>> {
        self.groups.iter().map(|((kind, subject), group)| Found {
            gathering: self,
            kind: *kind,
            subject: subject.as_deref(),
            group,
        })
    }
}

impl Found<'_> {
    /// Its account × regions.
    pub fn gaps(&self) -> impl Iterator<Item = (i32, &str)> {
        let region = |at: u16| self.gathering.regions.get(usize::from(at)).map_or("", String::as_str);
        self.group.gaps.iter().map(move |(account, at)| (*account, region(*at)))
    }

    /// The whole of it, whoever is concerned.
    pub fn incident(&self, id: i64) -> Incident {
        self.as_far_as(id, &self.group.whole)
    }

    /// What each channel is told that is concerned.
    pub fn events(&self, id: i64) -> impl Iterator<Item = (&str, Event)> {
        let is_of_a_scan = self.group.gaps.is_empty();
        let told = self.group.told.iter().filter(move |(_, extent)| is_of_a_scan || extent.account_regions > 0);
        told.map(move |(at, extent)| {
            let incident = self.as_far_as(id, extent);
            let alert = &self.gathering.channels[*at];
            (alert.name.as_str(), opened(self.gathering.of, incident))
        })
    }

    fn as_far_as(&self, id: i64, extent: &Extent) -> Incident {
        let accounts = extent.accounts.len() as u64;
        let named = |at: &u16| self.gathering.regions.get(usize::from(*at)).cloned();
        let mut regions: Vec<String> = extent.regions.iter().filter_map(named).collect();
        regions.sort_unstable();
        Incident {
            id,
            kind: self.kind,
            severity: self.kind.severity(),
            subject: self.subject.map(str::to_owned),
            title: self.kind.title(self.subject, extent.account_regions, accounts),
            opened_at: self.gathering.of.at,
            closed_at: None,
            account_regions: extent.account_regions,
            accounts,
            regions,
            analyzers: extent.analyzers.iter().cloned().collect(),
            first: extent.first.clone(),
        }
    }
}

/// Says that an incident has opened.
pub fn opened(of: &Of, incident: Incident) -> Event {
    let (id, title) = (format!("{}/opened", incident.id), incident.title.clone());
    of.event(EventKind::Opened, &id, &title, vec![incident])
}

/// Says that incidents are closed, which a channel was told of before.
pub fn recovered(of: &Of, mut incidents: Vec<Incident>) -> Event {
    for incident in &mut incidents {
        incident.closed_at = Some(of.at);
        incident.first.clear();
    }
    let title = match incidents.as_slice() {
        [one] => {
            let what = one.kind.recovery(one.subject.as_deref(), one.account_regions, one.accounts);
            format!("recovered: {what}")
        }
        several => format!("{} incidents recovered", several.len()),
    };
    incidents.truncate(MOST_RECOVERED);
    of.event(EventKind::Recovered, "recovered", &title, incidents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OwnedBy;

    fn alert(text: &str) -> Alert {
        toml_edit::de::from_str(&format!("name = \"x\"\nchannel = \"slack\"\n{text}")).unwrap()
    }

    fn seen(account: i32, region: &str, ou: &str) -> Seen {
        let id = format!("{account:012}");
        Seen {
            account_key: account,
            account: Account::kept(
                id.parse().unwrap(),
                format!("account-{account}"),
                Some(ou.into()),
                OwnedBy::default(),
            ),
            region: region.into(),
            reason: "no_analyzer".into(),
            analyzer: Some(format!("arn:{region}")),
        }
    }

    #[test]
    fn a_storm_is_one_incident_and_each_channel_hears_of_its_part() {
        let of = Of {
            scan_id: 7,
            organization_id: "o-1".into(),
            organization_name: "main".into(),
            at: DateTime::UNIX_EPOCH,
        };
        let mut channels =
            ["", "accounts.ou_paths = [\"o-1/r-1/ou-a/*\"]\nregions = [\"eu-*\"]", "min_severity = \"critical\""]
                .map(alert);
        for (at, channel) in channels.iter_mut().enumerate() {
            channel.name = at.to_string();
        }
        let mut gathering = Gathering::new(&of, &channels);
        for account in 0..1_000 {
            for region in ["eu-west-1", "us-east-1"] {
                let ou = if account < 10 { "o-1/r-1/ou-a" } else { "o-1/r-1/ou-b" };
                gathering.add(IncidentKind::CoverageLost, None, &seen(account, region, ou));
            }
        }
        let found: Vec<Found> = gathering.found().collect();
        let [found] = found.as_slice() else { panic!("one cause") };
        assert_eq!((found.gaps().count(), found.incident(1).accounts), (2_000, 1_000));
        let events: Vec<_> = found.events(1).collect();
        let told: Vec<_> = events.iter().map(|(name, event)| (*name, event.incidents[0].account_regions)).collect();
        assert_eq!(told, [("0", 2_000), ("1", 10)]);
        let incident = &events[1].1.incidents[0];
        assert_eq!((incident.accounts, incident.regions.as_slice()), (10, &["eu-west-1".to_owned()][..]));
        assert_eq!(incident.first.len(), NAMED);
        assert_eq!(
            events[0].1.title,
            "main: coverage was lost: 2,000 account × regions in 1,000 accounts no longer covered"
        );
    }
}
