//! The list of accounts on its way to the store.

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::discover::Lister;
use super::pipeline::Begun;
use super::record::BATCH;
use super::{Engine, Progress};
use crate::model::{Account, Listed};
use crate::store::StoreError;

/// Accounts listed ahead of those that are in the store.
const LISTED_AHEAD: usize = 64;

/// Puts the list of accounts into the store, where all who take part claim them.
pub struct ListWriter<'a> {
    pub engine: &'a Engine,
    pub begun: &'a Begun<'a>,
    pub deadline: Instant,
    pub progress: &'a Progress,
}

impl ListWriter<'_> {
    /// Lists every account that is to be visited; `more` is told whenever there are more to claim.
    ///
    /// # Errors
    /// Where the store fails. That the list cannot be read is kept with the scan.
    pub async fn list(&self, more: &Notify) -> Result<(), StoreError> {
        let Begun { scan_id, costs, selection, sessions, retry, known, .. } = *self.begun;
        let (engine, worker) = (self.engine, self.engine.worker.as_str());
        let discovered = &known.discovered;
        let _discovering = costs.discovers.enter();
        let lister = Lister {
            aws: &engine.aws,
            sessions,
            organization: &engine.organization,
            discovered,
            selection,
            deadline: self.deadline,
        };
        let (sender, mut receiver) = mpsc::channel::<Account>(LISTED_AHEAD);
        let list = async move {
            let result = lister.run(&sender).await;
            drop(sender);
            result
        };
        let write = async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                let listed = |account: Account| Listed { is_owner: discovered.owners.contains(&account.id), account };
                let listed: Vec<Listed> = batch.drain(..).map(listed).collect();
                retry.run("add_accounts", |store| store.add_accounts(scan_id, worker, &listed)).await?;
                self.progress.accounts_listed(listed.len() as u64);
                more.notify_one();
            }
            Ok(())
        };
        let (result, shelved) = tokio::join!(list, write);
        let ended = match shelved {
            Ok(()) => {
                let problem = result.err().map(|error| error.to_string());
                let at = engine.clock.now();
                retry.run("end_listing", |store| store.end_listing(scan_id, worker, problem.as_deref(), at)).await
            }
            Err(error) => Err(error),
        };
        match ended {
            // Another process took this one for dead, and lists them.
            Err(StoreError::ClaimLost(_)) => Ok(()),
            other => other,
        }
    }
}
