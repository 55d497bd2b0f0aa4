//! Requests that leave for the public Internet, and go nowhere else unless that is allowed.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

use super::channel::SendError;
use crate::config::{Alert, Secret, is_public};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where requests of one channel go.
pub struct Target {
    client: Client,
    url: Secret,
}

impl Target {
    /// Prepares requests to the URL of a channel.
    pub fn new(alert: &Alert) -> Result<Self, String> {
        let url = alert.url.clone().ok_or("it has no `url`")?;
        let host = url::Url::parse(url.expose()).ok().and_then(|url| url.host_str().map(str::to_owned));
        let mut client = Client::builder()
            .timeout(PATIENCE)
            .user_agent(concat!("trustwatch/", env!("CARGO_PKG_VERSION")))
            // Whom we trust with a message may not pass it on, or send us elsewhere.
            .redirect(Policy::none())
            .referer(false);
        if !alert.allow_private_addresses {
            client = client.dns_resolver(PublicOnly { host: host.unwrap_or_default() });
        }
        let client = client.build().map_err(|error| format!("building the HTTP client: {error}"))?;
        Ok(Self { client, url })
    }

    /// Sends a JSON document.
    pub async fn post(
        &self,
        content_type: &str,
        body: String,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<(), SendError> {
        let request = self.client.post(self.url.expose()).header("content-type", content_type).body(body);
        // The URL is a secret, and what is answered may repeat it.
        let failed = |error: reqwest::Error| SendError(chain(&error.without_url()));
        let status = with(request).send().await.map_err(failed)?.status();
        if status.is_success() { Ok(()) } else { Err(SendError(format!("the receiver answered {status}"))) }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Looks names up, and refuses the receiver's if it leads within. Whatever a name meant when the configuration was checked, this is
/// what is connected to.
struct PublicOnly {
    host: String,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        // A proxy may be within: only the receiver may not.
        let is_receiver = name.as_str().eq_ignore_ascii_case(&self.host);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if is_receiver && addresses.iter().any(|address| !is_public(address.ip())) {
                let problem = "it leads to a private, loopback or link-local address, which `allow_private_addresses` does not allow";
                return Err(problem.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_within_is_refused_unless_it_is_a_proxys() {
        let guard = PublicOnly { host: "localhost".to_owned() };
        let refused = guard.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(refused.to_string().contains("allow_private_addresses"), "{refused}");
        let proxy = PublicOnly { host: "hooks.example.com".to_owned() };
        assert!(proxy.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
