//! Incidents, as scans open and close them, in one with the messages about them.

use futures_util::TryStreamExt;
use sqlx::FromRow;
use sqlx::types::Json;

use super::super::engine::{Connection, Pool, begin, execute};
use super::messages::{retire, write};
use crate::config::{Alert, Alerting};
use crate::model::{Account, Event, Incident, IncidentKind, OwnedBy, ScanId, percent};
use crate::store::StoreError;
use crate::store::alerts::{Found, Gathering, Of, Seen, Settled, recovered};
use crate::store::error::Doing;
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

const DOING: &str = "looking for incidents";

/// Gaps that are written at once.
const CHUNK: usize = 10_000;

/// Characters of a failure that are told.
const MOST_SAID: usize = 300;

/// Says that a scan's incidents are to be looked for, in one with its end.
pub async fn mark_due(connection: &mut Connection, scan: ScanId) -> Result<(), StoreError> {
    let insert = "INSERT INTO alert_due (scan_id) VALUES ($1)";
    sqlx::query(insert).bind(scan).execute(connection).await.doing(DOING).map(|_| ())
}

#[derive(FromRow)]
struct Ended {
    #[sqlx(flatten)]
    of: Of,
    organization_key: i32,
    /// Whether it visited every account: what is said of the organization as a whole goes by those scans alone.
    is_whole: bool,
    first_completed: Option<ScanId>,
    /// Why it failed, if it is one of all accounts and did.
    failure: Option<String>,
    measured_ratio: Option<f64>,
}

/// Whether a scan is due. To be asked before it is settled: a writer is not kept from its work for nothing.
pub async fn any_due(pool: &Pool) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM alert_due)").fetch_one(pool).await.doing(DOING)
}

/// Looks for the incidents of the oldest scan that is due: in one transaction they are kept, and what there is to tell.
pub async fn settle(pool: &Pool, rules: &Alerting, channels: &[Alert]) -> Result<Option<Settled>, StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    // Of two processes that come at once, the second waits here, and finds the scan gone.
    let due: Option<ScanId> = sqlx::query_scalar(
        "DELETE FROM alert_due WHERE scan_id = (SELECT min(scan_id) FROM alert_due) RETURNING scan_id",
    )
    .fetch_optional(&mut *transaction)
    .await
    .doing(DOING)?;
    let Some(scan_id) = due else { return Ok(None) };
    let mut settled = Settled { scan_id, ..Settled::default() };
    let ended: Option<Ended> = sqlx::query_as(
        "SELECT scan.scan_id, organization.organization_key, organization.organization_id, scan.organization_name, scan.finished_at AS at,
                scan.scope = 'all' AND scan.state = 'completed' AS is_whole,
                (SELECT earlier.scan_id FROM scan AS earlier
                 WHERE earlier.organization_key = organization.organization_key AND earlier.scope = 'all' AND earlier.state = 'completed'
                 ORDER BY earlier.scan_id LIMIT 1
                ) AS first_completed,
                CASE WHEN scan.scope = 'all' AND scan.state = 'failed' THEN coalesce(scan.error, '') END AS failure,
                CAST(scan.covered + scan.not_covered AS DOUBLE PRECISION)
                    / nullif(scan.covered + scan.not_covered + scan.unknown, 0) AS measured_ratio
         FROM scan
         -- One that failed early does not know which it is of, and its name does.
         JOIN organization ON organization.organization_key = coalesce(scan.organization_key, (
             SELECT max(named.organization_key) FROM organization AS named WHERE named.name = scan.organization_name))
         WHERE scan.scan_id = $1 AND scan.finished_at IS NOT NULL",
    )
    .bind(scan_id)
    .fetch_optional(&mut *transaction)
    .await
    .doing(DOING)?;
    if let Some(ended) = ended {
        settled.closed = close(&mut transaction, &ended, rules).await?;
        let mut gathering = Gathering::new(&ended.of, channels);
        gather_lost(&mut transaction, &ended, &mut gathering).await?;
        if ended.is_whole {
            gather_unreadable(&mut transaction, &ended, rules, &mut gathering).await?;
            gather_unmeasured(&mut transaction, &ended, rules, &mut gathering).await?;
        }
        if let Some(failure) = &ended.failure
            && !is_open(&mut transaction, &ended, IncidentKind::ScanFailed).await?
        {
            gathering.say(IncidentKind::ScanFailed, &failure.chars().take(MOST_SAID).collect::<String>());
        }
        retire(&mut transaction, channels, ended.of.at, rules).await?;
        for found in gathering.found() {
            open(&mut transaction, &ended, &found).await?;
            settled.opened += 1;
        }
    }
    transaction.commit().await.doing(DOING)?;
    Ok(Some(settled))
}

/// Whether an incident of the kind is open.
async fn is_open(connection: &mut Connection, ended: &Ended, kind: IncidentKind) -> Result<bool, StoreError> {
    let open = "SELECT EXISTS (SELECT 1 FROM incident WHERE organization_key = $1 AND kind = $2 AND closed_at IS NULL)";
    let open = sqlx::query_scalar(open).bind(ended.organization_key).bind(kind.as_str());
    open.fetch_one(connection).await.doing(DOING)
}

/// That a row's account × region is not exempt.
macro_rules! not_exempt {
    ($row:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM exempted WHERE exempted.account_key = ",
            $row,
            ".account_key AND exempted.region = ",
            $row,
            ".region AND exempted.valid_to IS NULL)"
        )
    };
}

/// The columns of a gap, of `changed` (its account and region) joined with its account.
macro_rules! gap {
    ($more:literal) => {
        concat!(
            "account.account_key, account.account_id, account.name, account.ou_path, account_owner.owner, account_owner.team,
             changed.region, changed.reason",
            $more
        )
    };
}

/// What is unknown now of an organization's accounts, as far as a condition holds.
macro_rules! unknown {
    ($($condition:expr),+) => {
        concat!(
            "SELECT ",
            gap!(""),
            " FROM account
              JOIN coverage AS changed ON changed.account_key = account.account_key AND changed.valid_to IS NULL
              LEFT JOIN account_owner ON account_owner.account_key = account.account_key
              WHERE account.organization_key = $1 AND changed.status = 'unknown' AND ",
            $($condition,)+
            " ORDER BY account.account_id, changed.region"
        )
    };
}

#[derive(FromRow)]
struct Gap {
    account_key: i32,
    account_id: String,
    name: String,
    ou_path: Option<String>,
    owner: Option<String>,
    team: Option<String>,
    region: String,
    reason: String,
}

impl Gap {
    fn seen(self, analyzer: Option<String>) -> Result<Seen, StoreError> {
        let owned_by = OwnedBy { owner: self.owner, team: self.team };
        let corrupt = |error| StoreError::Corrupt { doing: DOING, problem: format!("`{}`: {error}", self.account_id) };
        let id = self.account_id.parse().map_err(corrupt)?;
        Ok(Seen {
            account_key: self.account_key,
            account: Account::kept(id, self.name, self.ou_path, owned_by),
            region: self.region,
            reason: self.reason,
            analyzer,
        })
    }
}

/// What is covered no more because AWS changed, and what has joined uncovered. As in `coverage_changes`, what was unknown between
/// two answers is passed over. What is exempt is no incident.
///
/// Where the organization's analyzer covered, and none of it is active in that region any more, that is the cause; of several, the one
/// that changed last. The cause is looked for by the region and not by the ARN of the interval before: where both covered, that is the
/// account's own.
async fn gather_lost(
    connection: &mut Connection,
    ended: &Ended,
    gathering: &mut Gathering<'_>,
) -> Result<(), StoreError> {
    #[derive(FromRow)]
    struct Lost {
        #[sqlx(flatten)]
        gap: Gap,
        has_joined: bool,
        analyzer_arn: Option<String>,
        owner_account_id: Option<String>,
        status_reason: Option<String>,
    }
    let mut lost = sqlx::query_as::<_, Lost>(concat!(
        "WITH changed AS (
             SELECT account_key, region, reason,
                    CASE from_status WHEN 'unknown' THEN last_known_status ELSE from_status END AS was,
                    CASE from_status WHEN 'unknown' THEN last_known_reason ELSE from_reason END AS was_so,
                    coalesce(known_cause, cause) AS cause
             FROM coverage
             WHERE first_scan_id = $1 AND status = 'not_covered'
               AND (from_status IS DISTINCT FROM 'unknown' OR last_known_reason IS DISTINCT FROM reason)
         ), ranked AS (
             SELECT region, analyzer_arn, owner_account_id, status_reason,
                    row_number() OVER (PARTITION BY region ORDER BY coalesce(valid_to, valid_from) DESC, valid_from DESC, analyzer_arn) AS rank,
                    max(CASE WHEN valid_to IS NULL AND status = 'ACTIVE' THEN 1 ELSE 0 END) OVER (PARTITION BY region) AS is_active
             FROM analyzer
             WHERE organization_key = $2 AND type = 'ORGANIZATION'
         )
         SELECT ",
        gap!(", changed.was IS NULL AS has_joined, ranked.analyzer_arn, ranked.owner_account_id, ranked.status_reason"),
        "
         FROM changed
         JOIN account USING (account_key)
         LEFT JOIN account_owner USING (account_key)
         LEFT JOIN ranked ON ranked.region = changed.region AND ranked.rank = 1 AND ranked.is_active = 0
             AND changed.was_so IN ('organization_analyzer', 'account_and_organization_analyzers')
         WHERE ((changed.cause = 'world' AND changed.was IN ('covered', 'not_applicable'))
                OR (changed.cause = 'membership' AND changed.was IS NULL
                    -- Not those that the first completed scan could not read, and that are readable now.
                    AND $3 < $1
                    AND ($3 < (SELECT min(first.first_scan_id) FROM coverage AS first WHERE first.account_key = changed.account_key)
                         OR EXISTS (SELECT 1 FROM coverage AS left_once
                                    WHERE left_once.account_key = changed.account_key AND left_once.end_cause = 'membership'))))
           -- Nor those that were lost twice before anybody looked: they are told of already.
           AND NOT EXISTS (
               SELECT 1 FROM incident_gap JOIN incident USING (incident_key)
               WHERE incident_gap.account_key = changed.account_key AND incident_gap.region = changed.region
                 AND incident.kind <> 'accounts_unreadable')
           AND ",
        not_exempt!("changed"),
        " ORDER BY account.account_id, changed.region",
    ))
    .bind(ended.of.scan_id)
    .bind(ended.organization_key)
    .bind(ended.first_completed.unwrap_or(ended.of.scan_id))
    .fetch(connection);
    while let Some(row) = lost.try_next().await.doing(DOING)? {
        let owner = row.owner_account_id;
        let (kind, subject) = match (row.has_joined, owner, row.status_reason.as_deref()) {
            (true, ..) => (IncidentKind::JoinedUncovered, None),
            (_, None, _) => (IncidentKind::CoverageLost, None),
            (_, Some(_), Some("AWS_SERVICE_ACCESS_DISABLED")) => (IncidentKind::TrustedAccessWithdrawn, None),
            (_, owner, Some("DELEGATED_ADMINISTRATOR_DEREGISTERED")) => {
                (IncidentKind::DelegatedAdministratorDeregistered, owner)
            }
            (_, owner, _) => (IncidentKind::OrganizationAnalyzerLost, owner),
        };
        gathering.add(kind, subject.as_deref(), &row.gap.seen(row.analyzer_arn)?);
    }
    Ok(())
}

/// What has been unknown for as many scans of all accounts as the rules say, and is part of no such incident.
async fn gather_unreadable(
    connection: &mut Connection,
    ended: &Ended,
    rules: &Alerting,
    gathering: &mut Gathering<'_>,
) -> Result<(), StoreError> {
    let oldest: Option<ScanId> = sqlx::query_scalar(
        "SELECT scan_id FROM scan
         WHERE organization_key = $1 AND scope = 'all' AND state = 'completed' AND scan_id <= $2
         ORDER BY scan_id DESC LIMIT 1 OFFSET $3",
    )
    .bind(ended.organization_key)
    .bind(ended.of.scan_id)
    .bind(i64::from(rules.unknown_for_scans) - 1)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let Some(oldest) = oldest else { return Ok(()) };
    let mut unknown = sqlx::query_as::<_, Gap>(unknown!(
        "account.left_at IS NULL
           AND CASE WHEN changed.last_known_scan_id IS NOT NULL THEN changed.last_known_scan_id < $2
               ELSE (SELECT max(first.first_scan_id) FROM coverage AS first
                     WHERE first.account_key = changed.account_key AND first.region = changed.region AND first.from_status IS NULL) <= $2 END
           AND NOT EXISTS (
               SELECT 1 FROM incident_gap JOIN incident USING (incident_key)
               WHERE incident_gap.account_key = changed.account_key AND incident_gap.region = changed.region
                 AND incident.kind = 'accounts_unreadable')
           AND ",
        not_exempt!("changed")
    ))
    .bind(ended.organization_key)
    .bind(oldest)
    .fetch(connection);
    while let Some(gap) = unknown.try_next().await.doing(DOING)? {
        let reason = gap.reason.clone();
        gathering.add(IncidentKind::AccountsUnreadable, Some(&reason), &gap.seen(None)?);
    }
    Ok(())
}

/// What is unknown now, where that is too much of the whole and nobody was told yet.
async fn gather_unmeasured(
    connection: &mut Connection,
    ended: &Ended,
    rules: &Alerting,
    gathering: &mut Gathering<'_>,
) -> Result<(), StoreError> {
    let Some(ratio) = ended.measured_ratio.filter(|ratio| *ratio < rules.measured_below) else { return Ok(()) };
    if is_open(connection, ended, IncidentKind::MeasuredShareLow).await? {
        return Ok(());
    }
    let share = percent(Some(ratio));
    let mut unknown = sqlx::query_as::<_, Gap>(unknown!("account.scan_id = $2"))
        .bind(ended.organization_key)
        .bind(ended.of.scan_id)
        .fetch(connection);
    while let Some(gap) = unknown.try_next().await.doing(DOING)? {
        gathering.add(IncidentKind::MeasuredShareLow, Some(&share), &gap.seen(None)?);
    }
    Ok(())
}

/// Keeps an incident and its gaps, and what each channel is told.
async fn open(connection: &mut Connection, ended: &Ended, found: &Found<'_>) -> Result<(), StoreError> {
    let incident = found.incident(0);
    let whole = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let key: i32 = sqlx::query_scalar(
        "INSERT INTO incident (organization_key, kind, subject, title, opened_scan_id, opened_at, account_regions, accounts, regions)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         RETURNING incident_key",
    )
    .bind(ended.organization_key)
    .bind(found.kind.as_str())
    .bind(found.subject)
    .bind(&incident.title)
    .bind(ended.of.scan_id)
    .bind(Timestamp::from(ended.of.at))
    .bind(whole(incident.account_regions))
    .bind(whole(incident.accounts))
    .bind(whole(incident.regions.len() as u64))
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    // What is of the scan as a whole is not closed by single gaps.
    if found.kind.has_gaps() {
        let gaps: Vec<(i32, &str)> = found.gaps().collect();
        for chunk in gaps.chunks(CHUNK) {
            let table = Table::of(chunk)
                .integer("account_key", |gap| i64::from(gap.0))
                .text("region", |gap| gap.1)
                .integer("incident_key", |_| i64::from(key))
                .done();
            let insert = "INSERT INTO incident_gap (account_key, region, incident_key) SELECT account_key, region, incident_key FROM new";
            execute(&mut *connection, &table, insert).await.doing(DOING)?;
        }
    }
    for (channel, event) in found.events(i64::from(key)) {
        write(connection, channel, Some(ended.organization_key), Some(key), &event).await?;
    }
    Ok(())
}

/// Closes every incident of an organization that is scanned no more. Nobody is told: nothing has recovered.
pub async fn close_all_of(
    connection: &mut Connection,
    organization_key: i32,
    scan: ScanId,
    at: Timestamp,
) -> Result<(), StoreError> {
    const DOING: &str = "closing incidents";
    sqlx::query(
        "DELETE FROM incident_gap WHERE incident_key IN (
             SELECT incident_key FROM incident WHERE organization_key = $1 AND closed_at IS NULL)",
    )
    .bind(organization_key)
    .execute(&mut *connection)
    .await
    .doing(DOING)?;
    sqlx::query(
        "UPDATE incident SET closed_scan_id = $2, closed_at = $3 WHERE organization_key = $1 AND closed_at IS NULL",
    )
    .bind(organization_key)
    .bind(scan)
    .bind(at)
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

/// Lets go of gaps that are none any more, closes incidents that have none left, and tells the channels that were told of them.
async fn close(connection: &mut Connection, ended: &Ended, rules: &Alerting) -> Result<usize, StoreError> {
    #[derive(FromRow)]
    struct Told {
        channel: String,
        incident_key: i32,
        event: Json<Event>,
    }
    sqlx::query(concat!(
        "DELETE FROM incident_gap
         WHERE incident_key IN (SELECT incident_key FROM incident WHERE organization_key = $1 AND closed_at IS NULL)
           AND NOT EXISTS (
               SELECT 1 FROM coverage, incident
               WHERE incident.incident_key = incident_gap.incident_key
                 AND coverage.account_key = incident_gap.account_key AND coverage.region = incident_gap.region
                 AND coverage.valid_to IS NULL
                 AND CASE incident.kind WHEN 'accounts_unreadable' THEN coverage.status = 'unknown'
                     ELSE 'not_covered' IN (coverage.status, CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status END) END
                 AND ",
        not_exempt!("coverage"),
        ")",
    ))
    .bind(ended.organization_key)
    .execute(&mut *connection)
    .await
    .doing(DOING)?;
    let is_measured = ended.is_whole && ended.measured_ratio.is_some_and(|ratio| ratio >= rules.measured_below);
    let closed: Vec<i32> = sqlx::query_scalar(
        "UPDATE incident SET closed_scan_id = $2, closed_at = $3
         WHERE organization_key = $1 AND closed_at IS NULL AND opened_scan_id < $2
           AND CASE kind WHEN 'measured_share_low' THEN $4 WHEN 'scan_failed' THEN $5
               ELSE NOT EXISTS (SELECT 1 FROM incident_gap WHERE incident_gap.incident_key = incident.incident_key) END
         RETURNING incident_key",
    )
    .bind(ended.organization_key)
    .bind(ended.of.scan_id)
    .bind(Timestamp::from(ended.of.at))
    .bind(is_measured)
    .bind(ended.is_whole)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    if closed.is_empty() {
        return Ok(0);
    }
    let told: Vec<Told> = sqlx::query_as(
        "SELECT alert_channel.name AS channel, alert_message.incident_key, alert_message.event
         FROM incident
         JOIN alert_message ON alert_message.incident_key = incident.incident_key
         JOIN alert_channel USING (channel_key)
         WHERE incident.organization_key = $1 AND incident.closed_scan_id = $2
         ORDER BY alert_message.channel_key, alert_message.incident_key",
    )
    .bind(ended.organization_key)
    .bind(ended.of.scan_id)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    for told in told.chunk_by(|a, b| a.channel == b.channel) {
        let incidents: Vec<Incident> = told
            .iter()
            .filter(|told| closed.contains(&told.incident_key))
            .flat_map(|told| told.event.0.incidents.clone())
            .collect();
        let event = recovered(&ended.of, incidents);
        write(connection, &told[0].channel, Some(ended.organization_key), None, &event).await?;
    }
    Ok(closed.len())
}
