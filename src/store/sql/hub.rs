//! What was imported into AWS Security Hub, and what there is to import.

use sqlx::FromRow;
use sqlx::types::Json;

use super::super::engine::{Pool, execute, fetch};
use crate::model::AccountId;
use crate::store::StoreError;
use crate::store::error::Doing;
use crate::store::hub::{HubFinding, HubGround};
use crate::store::table::Table;
use crate::store::timestamp::Timestamp;

const DOING: &str = "looking up what was imported into Security Hub";

pub async fn ground(pool: &Pool, organization_name: &str) -> Result<Option<HubGround>, StoreError> {
    let id: Option<String> = sqlx::query_scalar(
        "SELECT organization_id FROM scan JOIN organization USING (organization_key)
         WHERE organization.name = $1
           AND scan_id = (SELECT max(scan_id) FROM scan WHERE organization_name = $1 AND organization_key IS NOT NULL)",
    )
    .bind(organization_name)
    .fetch_optional(pool)
    .await
    .doing(DOING)?;
    let Some(organization_id) = id else { return Ok(None) };
    let accounts: Vec<String> = sqlx::query_scalar(
        "SELECT account_id FROM current_coverage WHERE organization_id = $1
         UNION SELECT account_id FROM security_hub_imports WHERE organization_id = $1 AND NOT archived
         ORDER BY account_id",
    )
    .bind(&organization_id)
    .fetch_all(pool)
    .await
    .doing(DOING)?;
    let parse = |id: String| {
        let corrupt =
            |error| StoreError::Corrupt { doing: DOING, problem: format!("`{id}` is no account id: {error}") };
        id.parse().map_err(corrupt)
    };
    Ok(Some(HubGround { organization_id, accounts: accounts.into_iter().map(parse).collect::<Result<_, _>>()? }))
}

pub async fn findings(
    pool: &Pool,
    organization_id: &str,
    accounts: &[AccountId],
) -> Result<Vec<HubFinding>, StoreError> {
    #[derive(FromRow)]
    struct Row {
        account_id: String,
        region: String,
        digest: String,
        imported_at: Timestamp,
        is_archived: i32,
        finding: Json<serde_json::Value>,
    }
    let mut connection = pool.acquire().await.doing(DOING)?;
    let table =
        Table::of(accounts).text("organization_id", |_| organization_id).text("account_id", AccountId::as_str).done();
    let statement = "SELECT hub_finding.account_id, hub_finding.region, hub_finding.digest, hub_finding.imported_at,
                            hub_finding.is_archived, hub_finding.finding
                     FROM new
                     JOIN organization ON organization.organization_id = new.organization_id
                     JOIN hub_finding ON hub_finding.organization_key = organization.organization_key
                                     AND hub_finding.account_id = new.account_id
                     ORDER BY hub_finding.account_id, hub_finding.region";
    let rows: Vec<Row> = fetch(&mut connection, &table, statement).await.doing(DOING)?;
    let held = |row: Row| HubFinding {
        account: row.account_id,
        region: row.region,
        digest: row.digest,
        imported_at: row.imported_at.into(),
        is_archived: row.is_archived == 1,
        finding: row.finding.0,
    };
    Ok(rows.into_iter().map(held).collect())
}

pub async fn keep(pool: &Pool, organization_id: &str, findings: &[HubFinding]) -> Result<(), StoreError> {
    const DOING: &str = "recording what was imported into Security Hub";
    if findings.is_empty() {
        return Ok(());
    }
    let mut connection = pool.acquire().await.doing(DOING)?;
    let table = Table::of(findings)
        .text("organization_id", |_| organization_id)
        .text("account_id", |one| one.account.as_str())
        .text("region", |one| one.region.as_str())
        .text("digest", |one| one.digest.as_str())
        .stamp("imported_at", |one| Timestamp::from(one.imported_at))
        .integer("is_archived", |one| i64::from(one.is_archived))
        .document("finding", |one| one.finding.to_string())
        .done();
    // Without a WHERE, SQLite would take ON CONFLICT for the condition of the join.
    let insert = "INSERT INTO hub_finding (organization_key, account_id, region, digest, imported_at, is_archived, finding)
                  SELECT organization.organization_key, new.account_id, new.region, new.digest, new.imported_at, new.is_archived, new.finding
                  FROM new JOIN organization ON organization.organization_id = new.organization_id WHERE 1 = 1
                  ON CONFLICT (organization_key, account_id, region) DO UPDATE
                  SET digest = excluded.digest, imported_at = excluded.imported_at, is_archived = excluded.is_archived,
                      finding = excluded.finding";
    execute(&mut connection, &table, insert).await.doing(DOING).map(|_| ())
}
