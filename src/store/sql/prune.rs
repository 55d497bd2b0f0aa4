//! Thinning out old visits, a few accounts at a time, so that no scan waits for it.

use super::super::engine::{Pool, begin, execute, fetch, try_lock_prune};
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;
use crate::store::{Pruned, Retention, StoreError};

const DOING: &str = "pruning the history";

/// Accounts that are pruned in one transaction.
const STEP: usize = 20;

/// The visits of the accounts in `new` that go. Of the days that are thinned out, the newest visit that audited the
/// account stays, or else the newest (of a scan of all accounts, if there was one); and an account's newest visit always stays, because the newest results hang on it.
macro_rules! doomed {
    ($begin:literal, $end:literal) => {
        concat!(
            $begin,
            " SELECT ranked.account_key, ranked.scan_id FROM (
                SELECT visit.account_key, visit.scan_id, new.kept_from, visit.finished_at, account.scan_id AS newest,
                       row_number() OVER (
                           PARTITION BY visit.account_key, substr(CAST(visit.finished_at AS TEXT), 1, 10)
                           ORDER BY CASE visit.outcome WHEN 'audited' THEN 0 ELSE 1 END,
                                    CASE scan.scope WHEN 'all' THEN 0 ELSE 1 END, visit.scan_id DESC
                       ) AS rank
                FROM new
                JOIN account ON account.account_key = new.account_key
                JOIN visit ON visit.account_key = new.account_key
                JOIN scan ON scan.scan_id = visit.scan_id
                WHERE visit.finished_at < new.all_from
              ) AS ranked
              WHERE ranked.scan_id <> ranked.newest AND (ranked.rank > 1 OR ranked.finished_at < ranked.kept_from)",
            $end
        )
    };
}

async fn account_keys(pool: &Pool) -> Result<Vec<i32>, StoreError> {
    sqlx::query_scalar("SELECT account_key FROM account ORDER BY account_key").fetch_all(pool).await.doing(DOING)
}

fn accounts(keys: &[i32], retention: &Retention) -> Table {
    Table::of(keys)
        .integer("account_key", |key| i64::from(*key))
        .stamp("all_from", |_| Timestamp::from(retention.all_visits_from))
        .stamp("kept_from", |_| Timestamp::from(retention.visits_from))
        .stamp("history_from", |_| retention.history_from.map(Timestamp::from))
        .done()
}

/// By what it goes, if anything does: what no scan has followed may be all that there is.
async fn believable(pool: &Pool, retention: &Retention) -> Result<Option<Retention>, StoreError> {
    let newest: Option<Timestamp> =
        sqlx::query_scalar("SELECT max(finished_at) FROM scan WHERE state IN ('completed', 'incomplete')")
            .fetch_one(pool)
            .await
            .doing(DOING)?;
    Ok(newest.map(|newest| retention.no_later_than(newest.into())))
}

/// What would go.
pub async fn count(pool: &Pool, retention: &Retention) -> Result<Pruned, StoreError> {
    let Some(retention) = &believable(pool, retention).await? else { return Ok(Pruned::default()) };
    let mut pruned = Pruned { by: Some(*retention), ..Pruned::default() };
    let keys = account_keys(pool).await?;
    let mut connection = pool.acquire().await.doing(DOING)?;
    for keys in keys.chunks(STEP) {
        let table = accounts(keys, retention);
        let visits: Vec<(i64,)> =
            fetch(&mut connection, &table, doomed!("SELECT count(*) FROM (", ") AS doomed")).await.doing(DOING)?;
        let intervals: Vec<(i64,)> = fetch(
            &mut connection,
            &table,
            "SELECT count(*) FROM new JOIN coverage ON coverage.account_key = new.account_key
             WHERE coverage.valid_to < new.history_from",
        )
        .await
        .doing(DOING)?;
        let exempted: Vec<(i64,)> = fetch(
            &mut connection,
            &table,
            "SELECT count(*) FROM new JOIN exempted ON exempted.account_key = new.account_key
             WHERE exempted.valid_to < new.history_from",
        )
        .await
        .doing(DOING)?;
        pruned.intervals += exempted.iter().map(|row| row.0.unsigned_abs()).sum::<u64>();
        pruned.visits += visits.iter().map(|row| row.0.unsigned_abs()).sum::<u64>();
        pruned.intervals += intervals.iter().map(|row| row.0.unsigned_abs()).sum::<u64>();
    }
    if let Some(from) = retention.history_from {
        let analyzers: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM analyzer WHERE valid_to < $1) + (SELECT count(*) FROM findings_count WHERE valid_to < $1)
                    + (SELECT count(*) FROM finding WHERE valid_to < $1)",
        )
            .bind(Timestamp::from(from))
            .fetch_one(pool)
            .await
            .doing(DOING)?;
        pruned.intervals += analyzers.unsigned_abs();
    }
    Ok(pruned)
}

/// Findings that go in one step.
const FINDINGS: i64 = 5_000;

/// Lets go of what is older than it is kept.
pub async fn prune(pool: &Pool, retention: &Retention) -> Result<Pruned, StoreError> {
    let Some(retention) = &believable(pool, retention).await? else { return Ok(Pruned::default()) };
    let mut pruned = Pruned { by: Some(*retention), ..Pruned::default() };
    let keys = account_keys(pool).await?;
    for keys in keys.chunks(STEP) {
        let table = accounts(keys, retention);
        let mut transaction = begin(pool).await.doing(DOING)?;
        if !try_lock_prune(&mut transaction).await.doing(DOING)? {
            return Ok(pruned);
        }
        let delete = doomed!("DELETE FROM visit WHERE (account_key, scan_id) IN (", ")");
        pruned.visits += execute(&mut transaction, &table, delete).await.doing(DOING)?;
        if retention.history_from.is_some() {
            let delete = "DELETE FROM coverage WHERE (account_key, region, valid_from) IN (
                              SELECT coverage.account_key, coverage.region, coverage.valid_from
                              FROM new JOIN coverage ON coverage.account_key = new.account_key
                              WHERE coverage.valid_to < new.history_from)";
            pruned.intervals += execute(&mut transaction, &table, delete).await.doing(DOING)?;
            let delete = "DELETE FROM exempted WHERE (account_key, region, valid_from) IN (
                              SELECT exempted.account_key, exempted.region, exempted.valid_from
                              FROM new JOIN exempted ON exempted.account_key = new.account_key
                              WHERE exempted.valid_to < new.history_from)";
            pruned.intervals += execute(&mut transaction, &table, delete).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        // Whoever waits for the writer comes first.
        tokio::task::yield_now().await;
    }
    super::messages::prune(pool, retention.visits_from.into()).await?;
    if let Some(from) = retention.history_from {
        let mut transaction = begin(pool).await.doing(DOING)?;
        if !try_lock_prune(&mut transaction).await.doing(DOING)? {
            return Ok(pruned);
        }
        for delete in ["DELETE FROM analyzer WHERE valid_to < $1", "DELETE FROM findings_count WHERE valid_to < $1"] {
            let gone = sqlx::query(delete).bind(Timestamp::from(from)).execute(&mut *transaction).await.doing(DOING)?;
            pruned.intervals += gone.rows_affected();
        }
        transaction.commit().await.doing(DOING)?;
        pruned.intervals += prune_findings(pool, from.into()).await?;
    }
    Ok(pruned)
}

/// Lets go of findings that ended before an instant, and of the readings of analyzers that are gone and have none left.
async fn prune_findings(pool: &Pool, from: Timestamp) -> Result<u64, StoreError> {
    let mut sum = 0;
    loop {
        let delete = sqlx::query(
            "DELETE FROM finding WHERE (reading_key, finding_id, valid_from) IN (
                 SELECT reading_key, finding_id, valid_from FROM finding WHERE valid_to < $1 LIMIT $2)",
        );
        let gone = delete.bind(from).bind(FINDINGS).execute(pool).await.doing(DOING)?.rows_affected();
        sum += gone;
        if gone == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let gone = "SELECT reading.reading_key FROM reading
                WHERE reading.is_due = 0
                  AND NOT EXISTS (SELECT 1 FROM finding WHERE finding.reading_key = reading.reading_key)
                  AND NOT EXISTS (SELECT 1 FROM analyzer WHERE analyzer.organization_key = reading.organization_key
                                  AND analyzer.analyzer_arn = reading.analyzer_arn)";
    let mut transaction = begin(pool).await.doing(DOING)?;
    for table in ["archive_rule", "reading"] {
        let delete = format!("DELETE FROM {table} WHERE reading_key IN ({gone})");
        sqlx::query(sqlx::AssertSqlSafe(delete)).execute(&mut *transaction).await.doing(DOING)?;
    }
    transaction.commit().await.doing(DOING)?;
    Ok(sum)
}
