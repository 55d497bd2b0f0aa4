//! Messages, in the order in which each channel is told.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::FromRow;
use sqlx::types::Json;

use super::super::engine::{Connection, Pool, begin, now};
use crate::config::{Alert, Alerting};
use crate::model::Event;
use crate::store::StoreError;
use crate::store::alerts::{Attempt, Outgoing};
use crate::store::error::Doing;
use crate::store::timestamp::Timestamp;

const DOING: &str = "keeping a message";

/// Puts a message at the end of a channel, once however often it is asked.
pub async fn write(
    connection: &mut Connection,
    channel: &str,
    organization_key: Option<i32>,
    incident_key: Option<i32>,
    event: &Event,
) -> Result<(), StoreError> {
    let channel_key = channel_key(connection, channel).await?;
    sqlx::query(
        "INSERT INTO alert_message (channel_key, event_id, kind, organization_key, scan_id, incident_key, event, created_at, state, attempts)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', 0)
         ON CONFLICT (channel_key, event_id) DO NOTHING",
    )
    .bind(channel_key)
    .bind(&event.id)
    .bind(event.kind.as_str())
    .bind(organization_key)
    .bind(event.scan_id)
    .bind(incident_key)
    .bind(Json(event))
    .bind(Timestamp::from(event.at))
    .execute(connection)
    .await
    .doing(DOING)
    .map(|_| ())
}

async fn channel_key(connection: &mut Connection, channel: &str) -> Result<i32, StoreError> {
    let upsert = "INSERT INTO alert_channel (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING channel_key";
    sqlx::query_scalar(upsert).bind(channel).fetch_one(connection).await.doing(DOING)
}

/// Registers channels; says whether any is registered. Nothing is written where all are.
pub async fn keep_channels(pool: &Pool, names: &[&str]) -> Result<bool, StoreError> {
    const DOING: &str = "registering the channels";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let known: Vec<String> =
        sqlx::query_scalar("SELECT name FROM alert_channel").fetch_all(&mut *transaction).await.doing(DOING)?;
    for name in names.iter().filter(|name| !known.iter().any(|known| known == *name)) {
        channel_key(&mut transaction, name).await?;
    }
    transaction.commit().await.doing(DOING)?;
    Ok(!known.is_empty() || !names.is_empty())
}

/// Puts a digest at the end of a channel, once.
pub async fn keep_digest(pool: &Pool, channel: &str, event: &Event) -> Result<(), StoreError> {
    let mut transaction = begin(pool).await.doing(DOING)?;
    write(&mut transaction, channel, None, None, event).await?;
    transaction.commit().await.doing(DOING)
}

/// Whether anything waits for a channel. To be asked before it is taken: nothing is written where nothing waits.
pub async fn any(pool: &Pool, channel: &str) -> Result<bool, StoreError> {
    let waits = "SELECT EXISTS (SELECT 1 FROM alert_message JOIN alert_channel USING (channel_key)
                                WHERE alert_channel.name = $1 AND alert_message.state = 'pending')";
    sqlx::query_scalar(waits).bind(channel).fetch_one(pool).await.doing("looking for messages")
}

/// The oldest message of a channel that waits, if its time has come: whoever takes it alone sends for that channel, for as long as
/// the lease lasts.
pub async fn take(
    pool: &Pool,
    channel: &str,
    worker: &str,
    lease: std::time::Duration,
) -> Result<Option<Outgoing>, StoreError> {
    const DOING: &str = "looking for messages";
    #[derive(FromRow)]
    struct Head {
        message_key: i32,
        event: Json<Event>,
        attempts: i32,
        tried_since: Option<Timestamp>,
        next_attempt_at: Option<Timestamp>,
    }
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let until = Timestamp::from(DateTime::from(now) + TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX));
    let ours: Option<i32> = sqlx::query_scalar(
        "UPDATE alert_channel SET worker = $2, leased_until = $3
         WHERE name = $1 AND (worker IS NULL OR worker = $2 OR leased_until <= $4)
         RETURNING channel_key",
    )
    .bind(channel)
    .bind(worker)
    .bind(until)
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await
    .doing(DOING)?;
    let mut head: Option<Head> = None;
    if let Some(ours) = ours {
        head = sqlx::query_as(
            "SELECT message_key, event, attempts, tried_since, next_attempt_at FROM alert_message
             WHERE channel_key = $1 AND state = 'pending' ORDER BY message_key LIMIT 1",
        )
        .bind(ours)
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
    }
    transaction.commit().await.doing(DOING)?;
    Ok(head.filter(|head| head.next_attempt_at.is_none_or(|at| at <= now)).map(|head| Outgoing {
        number: i64::from(head.message_key),
        event: head.event.0,
        attempts: u32::try_from(head.attempts).unwrap_or_default(),
        tried_since: head.tried_since.map(Into::into),
        now: now.into(),
    }))
}

/// Says what became of an attempt. Of a process that has lost the channel meanwhile, only that it was delivered counts.
pub async fn end_attempt(pool: &Pool, number: i64, worker: &str, attempt: &Attempt) -> Result<(), StoreError> {
    const DOING: &str = "recording what became of a message";
    let mut transaction = begin(pool).await.doing(DOING)?;
    let now = now(&mut transaction).await.doing(DOING)?;
    let (state, error, again_in) = match attempt {
        Attempt::Delivered => ("delivered", None, None),
        Attempt::Failed { error, again_in } => ("pending", Some(error), Some(*again_in)),
        Attempt::GivenUp { error } => ("dead", Some(error), None),
    };
    let next =
        again_in.map(|span| Timestamp::from(DateTime::from(now) + TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)));
    sqlx::query(
        "UPDATE alert_message SET state = $2, error = $3, attempts = attempts + 1, tried_since = coalesce(tried_since, $4),
                                  attempted_at = $4, next_attempt_at = $5
         WHERE message_key = $1 AND state = 'pending'
           AND ($2 = 'delivered' OR EXISTS (
               SELECT 1 FROM alert_channel WHERE alert_channel.channel_key = alert_message.channel_key AND alert_channel.worker = $6))",
    )
    .bind(number)
    .bind(state)
    .bind(error)
    .bind(now)
    .bind(next)
    .bind(worker)
    .execute(&mut *transaction)
    .await
    .doing(DOING)?;
    transaction.commit().await.doing(DOING)
}

/// Lets others send for the channels that this process has sent for.
pub async fn leave(pool: &Pool, worker: &str) -> Result<(), StoreError> {
    let update = "UPDATE alert_channel SET worker = NULL, leased_until = NULL WHERE worker = $1";
    sqlx::query(update).bind(worker).execute(pool).await.doing("leaving the channels").map(|_| ())
}

/// Gives up what waits for channels that are not configured any more. Not at once: another process may know them still.
pub async fn retire(
    connection: &mut Connection,
    channels: &[Alert],
    at: DateTime<Utc>,
    rules: &Alerting,
) -> Result<(), StoreError> {
    let span = TimeDelta::from_std(rules.give_up_after.0).unwrap_or(TimeDelta::MAX);
    let before = at.checked_sub_signed(span).map_or(Timestamp::from(DateTime::UNIX_EPOCH), Timestamp::from);
    let waiting: Vec<(i32, String)> = sqlx::query_as(
        "SELECT DISTINCT alert_channel.channel_key, alert_channel.name
         FROM alert_message JOIN alert_channel USING (channel_key)
         WHERE alert_message.state = 'pending' AND alert_message.created_at < $1",
    )
    .bind(before)
    .fetch_all(&mut *connection)
    .await
    .doing(DOING)?;
    for (channel_key, _) in waiting.iter().filter(|(_, name)| channels.iter().all(|alert| alert.name != *name)) {
        let update = "UPDATE alert_message SET state = 'dead', error = 'the channel is not configured any more',
                             next_attempt_at = NULL, attempts = attempts + 1
                      WHERE channel_key = $1 AND state = 'pending' AND created_at < $2";
        sqlx::query(update).bind(channel_key).bind(before).execute(&mut *connection).await.doing(DOING)?;
    }
    Ok(())
}

/// Lets go of messages that came to an end before an instant, and of closed incidents that nothing speaks of any more.
pub async fn prune(pool: &Pool, from: Timestamp) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM alert_message
         WHERE state <> 'pending' AND created_at < $1
           AND (incident_key IS NULL OR incident_key IN (SELECT incident_key FROM incident WHERE closed_at < $1))",
        "DELETE FROM incident
         WHERE closed_at < $1
           AND NOT EXISTS (SELECT 1 FROM alert_message WHERE alert_message.incident_key = incident.incident_key)",
    ] {
        sqlx::query(statement).bind(from).execute(pool).await.doing("letting go of old messages")?;
    }
    Ok(())
}
