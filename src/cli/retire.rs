//! `trustwatch retire`: closes what is known of an organization that is scanned no more.

use clap::Args;

use super::{Context, Failure, load_quietly, open_existing, say};
use crate::clock::{Clock, SystemClock};
use crate::model::counted;
use crate::store::query::{Answer, ask};

/// Close what is known of an organization that was taken out of the configuration: its accounts leave `current_coverage`, and its
/// incidents are closed. The history stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trustwatch retire subsidiary     once no process scans it any more")]
pub struct Retire {
    /// Its name, as the configuration had it.
    name: String,
}

impl Retire {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let name = &self.name;
        if loaded.config.organizations.iter().any(|organization| organization.name == *name) {
            return Err(Failure::Usage(format!(
                "retire {name}: it is in the configuration, and the next scan would bring it back; take it out first"
            )));
        }
        let store = open_existing(&loaded.config.store, true).await?;
        let retired = store.retire(name, SystemClock.now()).await;
        let known = match retired {
            Ok(None) => ask(store.as_ref(), "SELECT DISTINCT organization_name FROM current_accounts ORDER BY 1").await,
            _ => Ok(Answer::default()),
        };
        store.close().await;
        match retired? {
            Some(accounts) => {
                say(&format!("retired {name}: {} closed; the history stays", counted(accounts, "account")))
            }
            None => {
                let known: Vec<String> = known?.rows.iter().map(|row| row[0].text().to_owned()).collect();
                Err(Failure::Usage(format!(
                    "retire {name}: nothing is known of an organization of this name; there are: {}",
                    known.join(", ")
                )))
            }
        }
    }
}
