//! Webhooks: a CloudEvent with a signature, and Slack's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::channel::SendError;
use super::guard::Target;
use super::text::Text;
use crate::config::{Alert, Secret};
use crate::model::{Event, shortened};

/// A receiver of CloudEvents.
pub struct Webhook {
    target: Target,
    key: Option<Secret>,
}

impl Webhook {
    pub fn new(alert: &Alert) -> Result<Self, String> {
        Ok(Self { target: Target::new(alert)?, key: alert.secret.clone() })
    }

    pub async fn send(&self, event: &Event, text: &str, now: DateTime<Utc>) -> Result<(), SendError> {
        let body = cloud_event(event, text).to_string();
        let at = now.timestamp();
        let signature = self.key.as_ref().map(|key| sign(key, &event.id, at, &body)).transpose()?;
        let headers = |request: reqwest::RequestBuilder| match &signature {
            None => request,
            Some(signature) => request
                .header("webhook-id", &event.id)
                .header("webhook-timestamp", at)
                .header("webhook-signature", signature),
        };
        self.target.post("application/cloudevents+json; charset=utf-8", body, headers).await
    }
}

/// An event in structured mode (CloudEvents 1.0.2, JSON Event Format).
pub fn cloud_event(event: &Event, text: &str) -> Value {
    let mut data = json!(event);
    data["text"] = text.into();
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("/trustwatch/{}", event.organization_id.as_deref().unwrap_or("all")),
        "type": format!("trustwatch.{}", event.kind),
        "time": event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// The signature of a message (Standard Webhooks 1.0.0): HMAC-SHA256 over its id, the time and the body.
fn sign(key: &Secret, id: &str, at: i64, body: &str) -> Result<String, SendError> {
    let key = match key.expose().strip_prefix("whsec_").map(|encoded| STANDARD.decode(encoded)) {
        Some(Ok(key)) => key,
        Some(Err(_)) => return Err(SendError("`secret` begins with whsec_ and is not Base64 after it".to_owned())),
        None => key.expose().as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| SendError(error.to_string()))?;
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// An incoming webhook of Slack.
pub struct Slack {
    target: Target,
}

/// Characters of a section of Slack's Block Kit, at most 3,000.
const SECTION: usize = 2_900;

impl Slack {
    pub fn new(alert: &Alert) -> Result<Self, String> {
        Ok(Self { target: Target::new(alert)? })
    }

    pub async fn send(&self, event: &Event, text: &Text) -> Result<(), SendError> {
        let event = escaped(event)?;
        let text = shortened(&text.of(&event), SECTION);
        let section = json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
        let body = json!({"text": event.title, "blocks": [section]});
        self.target.post("application/json; charset=utf-8", body.to_string(), |request| request).await
    }
}

/// The same with the three characters replaced that mean something to Slack ("Formatting text for app surfaces"): an account's name
/// calls nobody.
fn escaped(event: &Event) -> Result<Event, SendError> {
    fn escape(value: &mut Value) {
        match value {
            Value::String(text) => *text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
            Value::Array(items) => items.iter_mut().for_each(escape),
            Value::Object(members) => members.values_mut().for_each(escape),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut value = json!(event);
    escape(&mut value);
    serde_json::from_value(value).map_err(|error| SendError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::sample;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of the Standard Webhooks specification's reference libraries.
        let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}").unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(sign(&Secret::new("whsec_?".to_owned()), "", 0, "").is_err());
    }

    #[test]
    fn a_name_calls_nobody_in_slack() {
        let mut event = sample(DateTime::UNIX_EPOCH);
        event.incidents[0].first[0].account_name = "<!channel> & co".to_owned();
        assert_eq!(escaped(&event).unwrap().incidents[0].first[0].account_name, "&lt;!channel&gt; &amp; co");
    }
}
