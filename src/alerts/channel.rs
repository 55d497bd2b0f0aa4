//! A channel, ready to send.

use chrono::{DateTime, Utc};

use super::ChannelError;
use super::email::Email;
#[cfg(feature = "sns")]
use super::sns::Topic;
use super::text::Text;
use super::webhook::{Slack, Webhook};
use crate::config::{Alert, ChannelKind, Limits};
use crate::model::{Event, EventKind, GapSeen, Incident, IncidentKind, Severity, Standing};

/// A message was not taken; why. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SendError(pub String);

/// A channel, ready to send.
pub struct Channel {
    name: String,
    text: Text,
    means: Means,
}

enum Means {
    Webhook(Webhook),
    Slack(Slack),
    Email(Box<Email>),
    #[cfg(feature = "sns")]
    Sns(Topic),
}

impl Channel {
    /// Prepares a channel. Nothing is sent.
    ///
    /// # Errors
    /// Where a client cannot be built, or the template fails on an event such as ours.
    pub async fn open(alert: &Alert, limits: &Limits) -> Result<Self, ChannelError> {
        let failed = |problem: String| ChannelError { channel: alert.name.clone(), problem };
        let text = Text::new(alert.template.as_deref()).map_err(failed)?;
        let means = match alert.channel {
            ChannelKind::Webhook => Webhook::new(alert).map(Means::Webhook),
            ChannelKind::Slack => Slack::new(alert).map(Means::Slack),
            ChannelKind::Email => Email::new(alert).map(|email| Means::Email(Box::new(email))),
            #[cfg(feature = "sns")]
            ChannelKind::Sns => Topic::connect(alert, limits).await.map(Means::Sns),
            #[cfg(not(feature = "sns"))]
            ChannelKind::Sns => {
                let _ = limits;
                Err("this binary was built without the feature `sns`".to_owned())
            }
        };
        Ok(Self { name: alert.name.clone(), text, means: means.map_err(failed)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Where it was not taken.
    pub async fn send(&self, event: &Event, now: DateTime<Utc>) -> Result<(), SendError> {
        match &self.means {
            Means::Webhook(webhook) => webhook.send(event, &self.text.of(event), now).await,
            Means::Slack(slack) => slack.send(event, &self.text).await,
            Means::Email(email) => email.send(event, &self.text.of(event)).await,
            #[cfg(feature = "sns")]
            Means::Sns(topic) => topic.send(event, &self.text.of(event)).await,
        }
    }
}

/// An event that says nothing but shows what others look like: it has everything that an event can have.
pub fn sample(at: DateTime<Utc>) -> Event {
    let kind = IncidentKind::CoverageLost;
    let gap = GapSeen {
        account_id: "000000000000".to_owned(),
        account_name: "example".to_owned(),
        region: "eu-west-1".to_owned(),
        reason: "no_analyzer".to_owned(),
    };
    let incident = Incident {
        id: 0,
        kind,
        severity: kind.severity(),
        subject: Some("000000000000".to_owned()),
        title: kind.title(None, 1, 1),
        opened_at: at,
        closed_at: None,
        account_regions: 1,
        accounts: 1,
        regions: vec![gap.region.clone()],
        analyzers: vec!["arn:aws:access-analyzer:eu-west-1:000000000000:analyzer/example".to_owned()],
        first: vec![gap],
    };
    Event {
        id: format!("test/{}", at.timestamp_micros()),
        kind: EventKind::Test,
        severity: Severity::Low,
        title: "a test of this channel: nothing has happened, and what follows is an example".to_owned(),
        at,
        organization_name: Some("example".to_owned()),
        organization_id: Some("o-example".to_owned()),
        scan_id: Some(0),
        incidents: vec![incident],
        standings: vec![Standing {
            organization_name: "example".to_owned(),
            not_covered: 1,
            open_incidents: 1,
            open: vec![kind.title(None, 1, 1)],
            ..Standing::default()
        }],
        since: Some(at),
    }
}
