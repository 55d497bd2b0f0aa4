//! What changes in the intervals of one account when a visit is recorded: a pure function, apart from any engine.

use crate::evaluate::keep_reason_while_blind;
use crate::model::{Coverage, Reason, Region, RegionCoverage, Status};

/// An interval that still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Where.
    pub region: Region,
    /// Why; the status follows.
    pub reason: Reason,
    /// The analyzer that it names.
    pub analyzer_arn: Option<String>,
    /// Of an unknown: the answer before it, and when that last held.
    pub last_known: Option<(Status, String)>,
}

/// What must be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Regions whose interval ends.
    pub close: Vec<Region>,
    /// Intervals that begin.
    pub open: Vec<Open>,
    /// Intervals that go on, with another analyzer.
    pub rename: Vec<(Region, Option<String>)>,
}

/// Compares what holds with what was just seen. `last_checked` is when the account was last looked at before this visit:
/// until then what held was known to hold.
pub fn changes(open: &[Open], seen: &[RegionCoverage], blind: &[Region], last_checked: Option<&str>) -> Changes {
    let mut changes = Changes::default();
    for now in seen {
        let before = open.iter().find(|before| before.region == now.region);
        let Coverage { reason: seen_reason, analyzer_arn } = now.coverage.clone();
        let blind = blind.contains(&now.region);
        let reason = keep_reason_while_blind(before.map(|before| before.reason), seen_reason, blind);
        match before {
            Some(before) if before.reason == reason => {
                // A reason that was kept keeps its analyzer: it is not the one that was seen.
                if reason == seen_reason && before.analyzer_arn != analyzer_arn {
                    changes.rename.push((now.region.clone(), analyzer_arn));
                }
            }
            _ => {
                let last_known =
                    (reason.status() == Status::Unknown).then(|| last_known(before?, last_checked)).flatten();
                changes.close.extend(before.map(|before| before.region.clone()));
                changes.open.push(Open { region: now.region.clone(), reason, analyzer_arn, last_known });
            }
        }
    }
    let is_gone = |before: &&Open| !seen.iter().any(|now| now.region == before.region);
    changes.close.extend(open.iter().filter(is_gone).map(|before| before.region.clone()));
    changes
}

fn last_known(before: &Open, last_checked: Option<&str>) -> Option<(Status, String)> {
    match before.reason.status() {
        Status::Unknown => before.last_known.clone(),
        known => Some((known, last_checked?.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YESTERDAY: &str = "2026-11-22T09:00:00.000000Z";

    fn open(region: &str, reason: Reason) -> Open {
        Open { region: Region::new(region), reason, analyzer_arn: None, last_known: None }
    }

    fn seen(region: &str, reason: Reason) -> RegionCoverage {
        RegionCoverage { region: Region::new(region), coverage: Coverage::bare(reason) }
    }

    #[test]
    fn what_is_unchanged_writes_nothing() {
        let changes = changes(
            &[open("a", Reason::NoAnalyzer), open("b", Reason::Throttled)],
            &[seen("b", Reason::Throttled), seen("a", Reason::NoAnalyzer)],
            &[],
            Some(YESTERDAY),
        );
        assert_eq!(changes, Changes::default());
    }

    #[test]
    fn an_unknown_keeps_the_last_known_answer_through_any_number_of_unknowns() {
        let first = changes(&[open("a", Reason::AccountAnalyzer)], &[seen("a", Reason::Timeout)], &[], Some(YESTERDAY));
        let expected = Some((Status::Covered, YESTERDAY.to_owned()));
        assert_eq!(first.open[0].last_known, expected);
        let second = changes(&first.open, &[seen("a", Reason::Throttled)], &[], Some("2026-11-23T09:00:00.000000Z"));
        assert_eq!(second.open[0].last_known, expected);
        let third = changes(&second.open, &[seen("a", Reason::NoAnalyzer)], &[], None);
        assert_eq!(third.open[0].last_known, None);
    }

    #[test]
    fn a_region_that_is_gone_ends() {
        let changes = changes(&[open("a", Reason::NoAnalyzer)], &[], &[], None);
        assert_eq!(changes.close, [Region::new("a")]);
    }

    #[test]
    fn losing_sight_of_the_owner_does_not_change_a_region_that_its_own_analyzer_covers() {
        let both = [open("a", Reason::AccountAndOrganizationAnalyzers)];
        let own = [seen("a", Reason::AccountAnalyzer)];
        assert_eq!(changes(&both, &own, &[Region::new("a")], None), Changes::default());
        assert_eq!(changes(&both, &own, &[], None).open[0].reason, Reason::AccountAnalyzer);
    }
}
