//! How a scan ends.

use chrono::TimeDelta;

use super::Engine;
use super::pipeline::Begun;
use crate::model::{ScanEnd, ScanState, Scope, counted};
use crate::store::{StoreError, Tally};

/// Why a scan ends before its list does.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// This process is told to end.
    Interrupted,
    /// The scan has had its time.
    Deadline,
    /// The machine slept, or the process was stopped: what the owners said is of before that.
    ClockJumped(TimeDelta),
}

/// Says how a scan ended, over all who took part.
///
/// # Errors
/// Where the store does not answer.
pub async fn end(engine: &Engine, begun: &Begun<'_>, stopped: Option<Stop>) -> Result<ScanEnd, StoreError> {
    let scan_id = begun.scan_id;
    let tally = begun.retry.run("tally", |store| store.tally(scan_id)).await?;
    let end = |state, error, list_complete| Ok(ScanEnd { state, error, list_complete });
    let scope = begun.selection.scope();
    if let Some(error) = tally.list_error {
        return end(ScanState::Failed, Some(error), false);
    }
    if let Some(problem) = unbelievable(engine, &tally).filter(|_| tally.listed && scope == Scope::All) {
        return end(ScanState::Failed, Some(problem), false);
    }
    let list_complete = tally.listed && scope == Scope::All;
    match stopped {
        Some(Stop::Interrupted) => {
            let error = "interrupted before every account was visited";
            end(ScanState::Incomplete, Some(error.into()), list_complete)
        }
        Some(Stop::ClockJumped(time)) => {
            let error = format!(
                "this process stood still for {} minutes, as a machine does that sleeps: what the owners of the \
                 organization's analyzers had said was too old for the accounts that were left",
                time.num_minutes()
            );
            end(ScanState::Incomplete, Some(error), list_complete)
        }
        Some(Stop::Deadline) => {
            let deadline = engine.limits.scan_deadline;
            let error = format!("the scan's deadline passed ({deadline}, limits.scan_deadline)");
            end(ScanState::Incomplete, Some(error), list_complete)
        }
        None if scope == Scope::All && tally.entered == 0 && tally.locked > 0 => {
            let example = tally.example.unwrap_or_default();
            let error = format!(
                "no account could be entered ({} tried), for example {example}; check `member_role`, its trust policy \
                 and the external id with `trustwatch doctor`",
                tally.locked
            );
            end(ScanState::Failed, Some(error), list_complete)
        }
        None if tally.pending > 0 => {
            let error =
                format!("{} not reached: another process that took part gave up", counted(tally.pending, "account"));
            end(ScanState::Incomplete, Some(error), list_complete)
        }
        None => end(ScanState::Completed, None, list_complete),
    }
}

/// Why the account list is not believed, if it is not: it is much shorter than what is known.
fn unbelievable(engine: &Engine, tally: &Tally) -> Option<String> {
    let Tally { known, missing, .. } = *tally;
    let most = engine.organization.max_account_loss;
    #[expect(clippy::cast_precision_loss, reason = "numbers of accounts are far below 2^53")]
    let share = missing as f64 / known.max(1) as f64;
    (share > most).then(|| {
        format!(
            "listing the accounts: {missing} of {known} known accounts are missing from the list, more than \
             `max_account_loss` ({most}) allows, which is not believed; no account was closed. If they did leave, raise \
             `max_account_loss` of organization `{}` for one scan",
            engine.organization.name
        )
    })
}
