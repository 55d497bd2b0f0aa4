//! `trustwatch prune`: deletes what is older than it is kept.

use clap::Args;

use super::{Context, Failure, load_quietly, open_existing, say};
use crate::clock::{Clock, SystemClock};
use crate::model::counted;
use crate::store::Retention;

/// Delete visits and intervals that are older than the configuration keeps them. `trustwatch run` does so by itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trustwatch prune --dry-run     what would go?\n  trustwatch prune\n\n\
    How long each kind is kept: [store.retention] in the configuration.")]
pub struct Prune {
    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let settings = &loaded.config.store;
        let store = open_existing(settings, !self.dry_run).await?;
        let retention = Retention::at(SystemClock.now(), &settings.retention);
        let pruned = store.prune(&retention, self.dry_run).await;
        store.close().await;
        let pruned = pruned?;
        let Some(by) = pruned.by else { return say("nothing was scanned yet: nothing is old") };
        let verb = if self.dry_run { "would delete" } else { "deleted" };
        let day = |instant: chrono::DateTime<chrono::Utc>| instant.format("%Y-%m-%d").to_string();
        say(&format!(
            "{verb} {}: every one from before {} but one of each account and day, and all from before {}",
            counted(pruned.visits, "visit"),
            day(by.all_visits_from),
            day(by.visits_from),
        ))?;
        match by.history_from {
            None => say("the history is kept for ever"),
            Some(from) => {
                let intervals = counted(pruned.intervals, "interval");
                say(&format!("{verb} {intervals} of the history that ended before {}", day(from)))
            }
        }
    }
}
