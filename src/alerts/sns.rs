//! Amazon SNS.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::channel::SendError;
use super::webhook::cloud_event;
use crate::aws::{ConnectSettings, Once, Publisher};
use crate::config::{Alert, Limits};
use crate::model::{Event, hex, shortened};

/// Characters of a subject, at most (Amazon SNS API Reference, `Publish`).
const SUBJECT: usize = 99;

/// A topic.
pub struct Topic {
    publisher: Publisher,
    arn: String,
    channel: String,
}

impl Topic {
    pub async fn connect(alert: &Alert, limits: &Limits) -> Result<Self, String> {
        let arn = alert.topic_arn.clone().ok_or("it has no `topic_arn`")?;
        let settings = ConnectSettings {
            profile: alert.profile.clone(),
            sts_region: None,
            connect_timeout: limits.connect_timeout.0,
            attempt_timeout: limits.attempt_timeout.0,
            connections_per_host: 1,
        };
        let region = arn.split(':').nth(3).unwrap_or_default().to_owned();
        let publisher = Publisher::connect(&settings, &region).await.map_err(|error| error.to_string())?;
        Ok(Self { publisher, arn, channel: alert.name.clone() })
    }

    pub async fn send(&self, event: &Event, text: &str) -> Result<(), SendError> {
        // Machines are told the event, and people the text.
        let message = json!({"default": cloud_event(event, text).to_string(), "email": text, "sms": event.title});
        let ascii = |c: char| {
            if c == '×' {
                'x'
            } else if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        };
        let subject: String = shortened(&event.title, SUBJECT).chars().map(ascii).collect();
        // A topic that keeps the order also drops what comes twice within five minutes.
        let once = self
            .arn
            .strip_suffix(".fifo")
            .map(|_| Once { group: self.channel.clone(), id: hex(&Sha256::digest(&event.id)) });
        self.publisher.publish(&self.arn, &subject, &message.to_string(), once).await.map_err(SendError)
    }
}
