//! E-mail over SMTP.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tracing::warn;

use super::channel::SendError;
use crate::config::{Alert, Security};
use crate::model::{Event, hex};

/// How long the server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server of mail, and addresses.
pub struct Email {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    progress: Mutex<Progress>,
}

/// Who has a message already that is being sent.
#[derive(Default)]
struct Progress {
    event_id: String,
    taken: BTreeSet<String>,
    /// Addresses that will never take it, and what the server said.
    refused: BTreeMap<String, String>,
}

impl Email {
    pub fn new(alert: &Alert) -> Result<Self, String> {
        let smtp = alert.smtp.as_ref().ok_or("it has no `smtp`")?;
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|error| format!("the address `{text}`: {error}"));
        let relay = match smtp.security {
            Security::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&smtp.host),
            Security::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(&smtp.host),
            Security::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host).port(587)),
        };
        let mut relay = relay.map_err(|error| format!("the server `{}`: {error}", smtp.host))?.timeout(Some(PATIENCE));
        if let Some(port) = smtp.port {
            relay = relay.port(port);
        }
        if let (Some(username), Some(password)) = (&smtp.username, &smtp.password) {
            relay = relay.credentials(Credentials::new(username.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            server: relay.build(),
            from: mailbox(&smtp.from)?,
            to: smtp.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            progress: Mutex::default(),
        })
    }

    pub async fn send(&self, event: &Event, text: &str) -> Result<(), SendError> {
        let failed = |error: lettre::error::Error| SendError(format!("the message cannot be written: {error}"));
        // The same however often it is sent, so that a mailbox can tell.
        let id = format!("<{}@trustwatch>", hex(&Sha256::digest(&event.id)[..16]));
        let mut message = Message::builder()
            .from(self.from.clone())
            .message_id(Some(id))
            .subject(format!("[trustwatch] {}", event.title))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(text.to_owned()).map_err(failed)?.formatted();
        let mut progress = self.progress.lock().await;
        if progress.event_id != event.id {
            *progress = Progress { event_id: event.id.clone(), ..Progress::default() };
        }
        // One by one, so that no mailbox keeps the message from the others; and at another attempt, not again to those who have it.
        let mut waits = None;
        for to in &self.to {
            let address = to.email.to_string();
            if progress.taken.contains(&address) || progress.refused.contains_key(&address) {
                continue;
            }
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]).map_err(failed)?;
            match self.server.send_raw(&envelope, &message).await {
                Ok(_) => _ = progress.taken.insert(address),
                Err(error) if error.is_permanent() => _ = progress.refused.insert(address, said(&error)),
                Err(error) => waits = Some(said(&error)),
            }
        }
        if let Some(problem) = waits {
            return Err(SendError(problem));
        }
        let Progress { taken, refused, .. } = std::mem::take(&mut *progress);
        let Some(problem) = refused.values().next() else { return Ok(()) };
        if taken.is_empty() {
            return Err(SendError(problem.clone()));
        }
        let (refused, all) = (refused.len(), self.to.len());
        warn!(alert.id = event.id, "the message was not taken for {refused} of {all} addresses: {problem}");
        Ok(())
    }
}

/// What went wrong, without what the server said: that may name addresses.
fn said(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(status) => format!("the mail server answered {status}"),
        None => format!("the mail server: {error}"),
    }
}
