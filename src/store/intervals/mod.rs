//! What changes in the intervals of one account when a visit is recorded: a pure function, apart from any engine.

use crate::evaluate::keep_reason_while_blind;
use crate::model::{
    AccountId, AnalyzerArn, Cause, Coverage, Reason, Region, RegionCoverage, Requirement, ScanId, Status,
};
use crate::store::timestamp::Timestamp;

/// An interval that still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Where.
    pub region: Region,
    /// Why; the status follows.
    pub reason: Reason,
    /// The analyzer that it names.
    pub analyzer_arn: Option<String>,
    /// The analyzer that its answer names: of an unknown, that of the answer before it.
    pub answer_arn: Option<String>,
    /// Where its answer is that it is not covered: since when that is so.
    pub uncovered_since: Option<Timestamp>,
    /// Of an unknown: the answer before it.
    pub last_known: Option<LastKnown>,
    /// Of such an answer: whether everything in the configuration that can change a verdict is as it was in the scan that saw it.
    pub same_configuration: bool,
}

/// An answer that an unknown hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastKnown {
    /// Why; the status follows.
    pub reason: Reason,
    /// When it was last seen to hold.
    pub at: Timestamp,
    /// The scan that last saw it.
    pub scan_id: ScanId,
    /// What satisfied the rule in that scan.
    pub requirement: Requirement,
}

/// An account as it was before a visit.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// When it was last looked at: until then, what held was known to hold.
    pub checked_at: Option<Timestamp>,
    /// The scan of its newest visit.
    pub scan_id: ScanId,
    /// What satisfied the rule in that scan.
    pub requirement: Requirement,
    /// Whether everything else in the configuration that can change a verdict is as it was in that scan.
    pub same_configuration: bool,
}

/// An interval that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Where.
    pub region: Region,
    /// Why; the status follows.
    pub reason: Reason,
    /// The analyzer that it names.
    pub analyzer_arn: Option<String>,
    /// The reason of the interval before; `None` at first sight.
    pub from: Option<Reason>,
    /// Where the answer before it was that it is not covered: since when that is so. A gap goes on, whatever its reason.
    pub uncovered_since: Option<Timestamp>,
    /// Why it begins.
    pub cause: Cause,
    /// Of an unknown, and of what follows one: the last answer before it that was known.
    pub last_known: Option<LastKnown>,
    /// Of an answer that follows an unknown and is another than the last known: why.
    pub known_cause: Option<Cause>,
}

/// What must be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Regions whose interval ends. With a cause where none follows.
    pub close: Vec<(Region, Option<Cause>)>,
    /// Intervals that begin.
    pub open: Vec<Opening>,
    /// Intervals that go on, with another analyzer.
    pub rename: Vec<(Region, Option<String>)>,
}

/// Compares what holds with what was just seen. `blind` holds the regions in which the organization's analyzers could not
/// be seen; the account is `undecided` where it could not be read whether it is left out.
pub fn changes(
    account: &Account,
    open: &[Open],
    seen: &[RegionCoverage],
    blind: &[Region],
    undecided: bool,
) -> Changes {
    let mut changes = Changes::default();
    // An account that was moved into an OU that is left out was moved by the world.
    let configured = |is_same: bool| if is_same { Cause::World } else { Cause::Configuration };
    // Behind an unknown, what counts is the configuration of the scan that saw the last answer, not of the one that saw nothing.
    let is_same = |before: &Open| account.same_configuration && before.same_configuration;
    for now in seen {
        let before = open.iter().find(|before| before.region == now.region);
        let Coverage { reason: seen_reason, analyzer_arn } = now.coverage.clone();
        let blind = blind.contains(&now.region);
        let region = now.region.clone();
        let Some(before) = before else {
            let cause = if open.is_empty() { Cause::Membership } else { configured(open.iter().all(is_same)) };
            let opening = Opening {
                region,
                reason: seen_reason,
                analyzer_arn,
                from: None,
                uncovered_since: None,
                cause,
                last_known: None,
                known_cause: None,
            };
            changes.open.push(opening);
            continue;
        };
        // Behind an unknown, what is kept is the answer that it hides.
        let answer = before.last_known.filter(|_| !is_known(before.reason)).map_or(before.reason, |known| known.reason);
        // What hung on no other account's analyzer, its own list has just disproved.
        let was_anothers =
            before.answer_arn.as_deref().and_then(AnalyzerArn::parse).is_some_and(|arn| arn.owner != account.id);
        let blind = blind && (was_anothers || seen_reason.status() != Status::NotCovered);
        let reason = if undecided && answer == Reason::Excluded && is_same(before) {
            // It was left out when that could be read, and nobody has said otherwise.
            answer
        } else {
            keep_reason_while_blind(Some(answer), seen_reason, blind)
        };
        // A reason that was kept keeps its analyzer: it is not the one that was seen. Of two that cover, the account's is named.
        let is_seen = reason == seen_reason || reason == Reason::AccountAndOrganizationAnalyzers;
        let analyzer_arn = if is_seen { analyzer_arn } else { before.answer_arn.clone() };
        if before.reason == reason {
            if before.analyzer_arn != analyzer_arn {
                changes.rename.push((region, analyzer_arn));
            }
            continue;
        }
        let why = |from: Reason, requirement: Requirement, left_out: Cause| {
            let otherwise = keep_reason_while_blind(Some(from), now.by_requirement.under(requirement), blind);
            if from == Reason::Excluded || reason == Reason::Excluded {
                left_out
            } else if otherwise == from {
                Cause::Configuration
            } else {
                Cause::World
            }
        };
        let (was_known, now_known) = (is_known(before.reason), is_known(reason));
        let last_known = match (was_known, now_known) {
            (true, true) => None,
            (true, false) => account.checked_at.map(|at| LastKnown {
                reason: before.reason,
                at,
                scan_id: account.scan_id,
                requirement: account.requirement,
            }),
            (false, _) => before.last_known,
        };
        let is_left_out = before.reason == Reason::Excluded || reason == Reason::Excluded;
        let cause = match why(before.reason, account.requirement, configured(is_same(before))) {
            cause if is_left_out => cause,
            _ if !was_known || !now_known => Cause::Visibility,
            cause => cause,
        };
        let known_cause = match last_known {
            _ if was_known || !now_known || cause != Cause::Visibility => None,
            None => Some(Cause::Membership),
            Some(known) => (known.reason != reason)
                .then(|| why(known.reason, known.requirement, configured(before.same_configuration))),
        };
        changes.close.push((before.region.clone(), None));
        let (from, uncovered_since) = (Some(before.reason), before.uncovered_since);
        changes.open.push(Opening {
            region,
            reason,
            analyzer_arn,
            from,
            uncovered_since,
            cause,
            last_known,
            known_cause,
        });
    }
    let is_gone = |before: &&Open| !seen.iter().any(|now| now.region == before.region);
    let gone = open.iter().filter(is_gone);
    changes.close.extend(gone.map(|before| (before.region.clone(), Some(configured(is_same(before))))));
    changes
}

fn is_known(reason: Reason) -> bool {
    reason.status() != Status::Unknown
}

#[cfg(test)]
mod tests;
