//! E-mail over SMTP.

use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sha2::{Digest, Sha256};

use super::channel::NotSent;
use super::text::hex;
use crate::config::{Alert, Security};
use crate::model::Event;

/// How long the server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server of mail, and addresses.
pub struct Email {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
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
        })
    }

    pub async fn send(&self, event: &Event, text: &str) -> Result<(), NotSent> {
        let failed = |error: lettre::error::Error| NotSent(format!("the message cannot be written: {error}"));
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
        let message = message.body(text.to_owned()).map_err(failed)?;
        self.server.send(message).await.map(|_| ()).map_err(|error| NotSent(format!("the mail server: {error}")))
    }
}
