//! Findings, one by one: read after the verdicts, analyzer by analyzer, and written page by page, so that memory does not grow with
//! them. Nothing of the verdicts hangs on it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Engine;
use super::limits::endless;
use super::pipeline::{Begun, IDLE_LOOKS};
use super::sessions::Entered;
use crate::aws::{AwsError, FindingsOf, Operation};
use crate::config::Detail;
use crate::model::{AnalyzerArn, ErrorKind, ReadRule};
use crate::store::{ListedFindings, ReadingEnd, Store, StoreError, ToRead};

/// Accounts whose findings are read at once: each holds one page, and 16 bytes for each finding that it has listed.
const ACCOUNTS: usize = 16;

/// Analyzers claimed at once.
const CLAIMED: u32 = 32;

/// Whether everything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// It was, here or elsewhere; or nothing is to be read.
    All,
    /// A stop or the scan's deadline came first.
    Stopped,
}

/// Why an analyzer was not read to its end.
enum Failed {
    Aws(AwsError),
    Store(StoreError),
}

struct Reader<'a> {
    engine: &'a Engine,
    begun: &'a Begun<'a>,
    deadline: Instant,
    said: AtomicBool,
}

/// Reads what is to be read, with all who take part, until it is done or has to stop.
pub async fn read_all(
    engine: &Engine,
    begun: &Begun<'_>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Result<Read, StoreError> {
    if engine.findings.detail == Detail::Off {
        return Ok(Read::All);
    }
    let reader = Reader { engine, begun, deadline, said: AtomicBool::new(false) };
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            warn!(scan.id = begun.scan_id, "the scan stops before the findings of every analyzer were read: `findings_readings` says which");
            Ok(Read::Stopped)
        }
        () = sleep_until(deadline) => {
            warn!(scan.id = begun.scan_id, "the scan's deadline passed before the findings of every analyzer were read: `findings_readings` says which");
            Ok(Read::Stopped)
        }
        read = reader.work() => read.map(|()| Read::All),
        failed = engine.keep_lease(begun.scan_id, begun.retry) => Err(failed),
    }
}

impl<'a> Reader<'a> {
    async fn work(&self) -> Result<(), StoreError> {
        let Begun { scan_id, retry, .. } = *self.begun;
        let worker = self.engine.worker.as_str();
        retry.run("begin_readings", |store| store.begin_readings(scan_id)).await?;
        let mut under_way = FuturesUnordered::new();
        // At most one, beside what is under way: that may hold what a claim waits for.
        let mut claimings = FuturesUnordered::new();
        let mut waiting: Vec<Vec<ToRead>> = Vec::new();
        let mut may_claim = true;
        // What is claimed here and not read to its end.
        let mut held: BTreeSet<String> = BTreeSet::new();
        loop {
            while under_way.len() < ACCOUNTS
                && let Some(account) = waiting.pop()
            {
                under_way.push(self.account(account));
            }
            if may_claim && claimings.is_empty() && under_way.len() < ACCOUNTS {
                let held: Vec<String> = held.iter().cloned().collect();
                claimings.push(async move {
                    let claim = |store: &'a dyn Store| {
                        let held = held.clone();
                        async move { store.claim_readings(scan_id, worker, CLAIMED, &held).await }
                    };
                    retry.run("claim_readings", claim).await
                });
            }
            tokio::select! {
                Some(claimed) = claimings.next(), if !claimings.is_empty() => {
                    let claimed = claimed?;
                    let is_idle = claimed.analyzers.is_empty() && under_way.is_empty();
                    if is_idle && !claimed.any_left {
                        return Ok(());
                    }
                    if is_idle {
                        // Others read what is left, and may die of it.
                        sleep(IDLE_LOOKS).await;
                    }
                    may_claim = is_idle || !claimed.analyzers.is_empty();
                    for analyzer in claimed.analyzers {
                        held.insert(analyzer.analyzer_arn.clone());
                        match waiting.last_mut() {
                            Some(account) if account[0].account == analyzer.account => account.push(analyzer),
                            _ => waiting.push(vec![analyzer]),
                        }
                    }
                }
                Some(read) = under_way.next(), if !under_way.is_empty() => {
                    let read: Vec<ToRead> = read?;
                    for analyzer in &read {
                        held.remove(&analyzer.analyzer_arn);
                    }
                    may_claim = true;
                }
            }
        }
    }

    /// Reads the analyzers of one account, one after another; and says which those were.
    async fn account(&self, analyzers: Vec<ToRead>) -> Result<Vec<ToRead>, StoreError> {
        let Some(account) = analyzers.first().map(|analyzer| analyzer.account) else { return Ok(analyzers) };
        let entered = self.begun.sessions.enter_to_read_findings(account, self.deadline).await;
        for analyzer in &analyzers {
            let ended = match &entered {
                Ok(entered) => self.analyzer(entered, analyzer).await,
                Err(error) => self.fail(analyzer, error, None).await,
            };
            match ended {
                // Another process has taken it over, for this one seemed dead.
                Err(StoreError::ClaimLost(_)) => {
                    info!(analyzer.arn = analyzer.analyzer_arn, "another process reads its findings now");
                }
                ended => ended?,
            }
        }
        Ok(analyzers)
    }

    async fn analyzer(&self, entered: &Entered<'_>, analyzer: &ToRead) -> Result<(), StoreError> {
        let name = AnalyzerArn::name_of(&analyzer.analyzer_arn);
        let (aws, region) = (&self.engine.aws, &analyzer.region);
        let rules = |session, token| async move { aws.list_archive_rules(&session, region, name, token).await };
        let rules = match entered.all_pages_in(region, Operation::ListArchiveRules, rules).await {
            Ok(rules) => Some(rules),
            // Who waited in vain once does not wait again.
            Err(error) if error.kind == ErrorKind::Timeout => return self.fail(analyzer, &error, None).await,
            Err(error) => {
                self.say(analyzer, &error);
                None
            }
        };
        let rules = rules.as_deref();
        match self.findings(entered, analyzer).await? {
            Ok(listed) => self.end(analyzer, Ok(&listed), rules).await,
            Err(Failed::Aws(error)) => self.fail(analyzer, &error, rules).await,
            Err(Failed::Store(error)) => {
                warn!(analyzer.arn = analyzer.analyzer_arn, "its findings cannot be kept: {error}");
                self.end(analyzer, Err(&error.to_string()), rules).await
            }
        }
    }

    /// Lists an analyzer's findings, and writes each page before it asks for the next.
    async fn findings(
        &self,
        entered: &Entered<'_>,
        analyzer: &ToRead,
    ) -> Result<Result<ListedFindings, Failed>, StoreError> {
        let Begun { scan_id, retry, .. } = *self.begun;
        let (engine, worker) = (self.engine, self.engine.worker.as_str());
        let of = FindingsOf {
            analyzer_arn: &analyzer.analyzer_arn,
            analyzer_type: &analyzer.analyzer_type,
            active_only: engine.findings.detail == Detail::Active,
        };
        let mut listed = ListedFindings::default();
        let mut next_token: Option<String> = None;
        loop {
            let list = |session| {
                let token = next_token.clone();
                async move { engine.aws.list_findings(&session, &analyzer.region, &of, token).await }
            };
            let page = match entered.call_in(&analyzer.region, of.operation(), list).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(Failed::Aws(error))),
            };
            listed.add(page.items.iter().map(|finding| finding.id.as_str()));
            if !page.items.is_empty() {
                let (arn, findings, now) = (&analyzer.analyzer_arn, &page.items, engine.clock.now());
                let write = |store: &'a dyn Store| store.write_findings(scan_id, worker, arn, findings, now);
                match retry.run("write_findings", write).await {
                    // What the database does not take of one analyzer is no reason to leave all others unread.
                    Err(error @ StoreError::Statement { .. }) => return Ok(Err(Failed::Store(error))),
                    written => written?,
                }
            }
            match page.next_token {
                None => return Ok(Ok(listed.done())),
                same if same == next_token => return Ok(Err(Failed::Aws(endless(of.operation())))),
                next => next_token = next,
            }
        }
    }

    /// Ends a reading that failed.
    async fn fail(&self, analyzer: &ToRead, error: &AwsError, rules: Option<&[ReadRule]>) -> Result<(), StoreError> {
        self.say(analyzer, error);
        self.end(analyzer, Err(&error.to_string()), rules).await
    }

    async fn end(
        &self,
        analyzer: &ToRead,
        listed: Result<&ListedFindings, &str>,
        rules: Option<&[ReadRule]>,
    ) -> Result<(), StoreError> {
        let Begun { scan_id, retry, .. } = *self.begun;
        let worker = self.engine.worker.as_str();
        let detail = self.engine.findings.detail;
        let end = ReadingEnd { at: self.engine.clock.now(), listed: listed.map(|listed| (detail, listed)), rules };
        let (arn, end) = (&analyzer.analyzer_arn, &end);
        retry.run("end_reading", |store| store.end_reading(scan_id, worker, arn, end)).await
    }

    fn say(&self, analyzer: &ToRead, error: &AwsError) {
        if !self.said.swap(true, Ordering::Relaxed) {
            warn!(
                analyzer.arn = analyzer.analyzer_arn,
                error.kind = %error.kind,
                "findings are not read everywhere, which is said once; `findings_readings` says where: {error}; `trustwatch policy` prints \
                 what the member role needs, `findings.detail = \"off\"` does without"
            );
        }
    }
}
