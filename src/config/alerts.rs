//! `[alerting]` and `[[alerts]]`: who is told of what, and how.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::schedule::check_instants;
use super::{Secret, Selector, TimeSpan};
use crate::model::{Account, Change, IncidentKind, Region, Severity};

/// Bytes of the key of a signature, at least.
const SHORTEST_KEY: usize = 16;

/// When something is an incident, and for how long people are tried to be told.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerting {
    /// For how many scans in a row an account × region has to be `unknown` before that is an incident.
    #[schemars(range(min = 1, max = 1000))]
    pub unknown_for_scans: u32,
    /// Below which share of what applies, measured, a scan is an incident (`measured_ratio` in `scan_summary`).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub measured_below: f64,
    /// For how long a message is tried before it is given up: `dead` in `alert_deliveries`.
    pub give_up_after: TimeSpan,
}

impl Default for Alerting {
    fn default() -> Self {
        Self { unknown_for_scans: 3, measured_below: 0.9, give_up_after: TimeSpan::days(1) }
    }
}

/// A channel: somebody who is told.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Our name for it: in `alert_deliveries`, in metrics, and for `trustwatch alerts test`. Under another name it is another channel.
    #[schemars(extend("format" = "word"))]
    pub name: String,
    /// How messages travel.
    pub channel: ChannelKind,
    /// Of `webhook` and `slack`: where to. It is a secret, because whoever knows it can write there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// A file that holds the URL, instead of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Of `webhook`: the key of the signature, `whsec_` and Base64 (Standard Webhooks), or any text. Without one nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A file that holds the key, instead of `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Of `webhook` and `slack`: whether the URL may lead to a private, loopback or link-local address, and be plain HTTP.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Of `sns`: the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "topic-arn"))]
    pub topic_arn: Option<String>,
    /// Of `sns`: the profile of the AWS configuration to use. Without one: the ambient credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Of `email`: the server, and the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
    /// The text of messages, in the language of Jinja, over the event as `docs/alerts.md` describes it. Without one: ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Incidents below this severity are not sent.
    #[serde(default = "everything")]
    pub min_severity: Severity,
    /// Which kinds of change are told; every one without it. A change of the configuration never is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// The organizations that it is for, by their names, with wildcards; every one without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// The accounts that it is for: those that *any* of these names. Every account where nothing is named. Tags cannot be named here:
    /// they are not kept.
    #[serde(default, skip_serializing_if = "Selector::is_empty")]
    pub accounts: Selector,
    /// The regions that it is for, with wildcards; every region without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// When it is told how things stand, whatever has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

const fn everything() -> Severity {
    Severity::Low
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ChannelKind {
    /// An HTTP request that bears a CloudEvent, signed.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// Amazon SNS. A binary built without the feature `sns` refuses it.
    Sns,
    /// E-mail over SMTP.
    Email,
}

/// A server of mail, and addresses.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Smtp {
    /// The server's name, which its certificate must bear.
    pub host: String,
    /// Its port. Without one: 587, or 465 with `security = "tls"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is secured.
    #[serde(default)]
    pub security: Security,
    /// The name to log in with; none for a server that asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file that holds the password, instead of `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whom messages are from.
    #[schemars(extend("format" = "mailbox"))]
    pub from: String,
    /// Whom they go to.
    pub to: Vec<String>,
}

/// How a connection is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Security {
    /// It becomes TLS before anything is said, or is given up.
    #[default]
    Starttls,
    /// It is TLS from the first byte.
    Tls,
    /// It is not: for a relay on the same machine.
    None,
}

/// When a channel is told how things stand.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Digest {
    /// A cron expression: `"0 9 * * 1-5"` for nine in the morning on working days, `"0 9 * * 1"` for Mondays.
    pub cron: String,
    /// The IANA time zone in which it is read.
    #[serde(default = "utc")]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What is wrong with a channel: the key, the value if it may be shown, and what would be right.
pub(super) type Problem = (&'static [&'static str], Option<String>, String);

impl Alert {
    /// Whether it is told of such an incident in an organization.
    pub fn hears(&self, kind: IncidentKind, organization_name: &str) -> bool {
        kind.severity() >= self.min_severity
            && (self.changes.is_empty() || self.changes.contains(&kind.change()))
            && self.is_for_organization(organization_name)
    }

    /// Whether it is for an organization.
    pub fn is_for_organization(&self, name: &str) -> bool {
        self.organizations.is_empty() || any(&self.organizations, name)
    }

    /// Whether it is for a region of an account.
    pub fn is_for(&self, account: &Account, region: &Region) -> bool {
        (self.accounts.is_empty() || self.accounts.matches(account)) && self.is_for_region(region.as_str())
    }

    /// Whether it is for a region.
    pub fn is_for_region(&self, region: &str) -> bool {
        self.regions.is_empty() || any(&self.regions, region)
    }

    /// Leaves of each secret that came from a file the file alone: both keys together would be refused.
    pub(super) fn forget_what_files_hold(&mut self) {
        if self.url_file.is_some() {
            self.url = None;
        }
        if self.secret_file.is_some() {
            self.secret = None;
        }
        if let Some(smtp) = self.smtp.as_mut().filter(|smtp| smtp.password_file.is_some()) {
            smtp.password = None;
        }
    }

    /// Reads the files that hold secrets, and says what is wrong.
    pub(super) fn check(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut settle = |key: &'static [&'static str], secret: &mut _, file: Option<&PathBuf>, name: &str| {
            if let Err((value, problem)) = Secret::resolve(secret, file, name) {
                problems.push((key, value, problem));
            }
        };
        settle(&["url_file"], &mut self.url, self.url_file.as_ref(), "url");
        settle(&["secret_file"], &mut self.secret, self.secret_file.as_ref(), "secret");
        if let Some(smtp) = &mut self.smtp {
            settle(&["smtp", "password_file"], &mut smtp.password, smtp.password_file.as_ref(), "password");
        }
        if let Some(smtp) = &self.smtp {
            let to_fault = smtp.to.is_empty().then(|| ("[]".to_owned(), "expected at least one address".to_owned()));
            let bad = smtp.to.iter().find_map(|to| Some((format!("\"{to}\""), check_mailbox(to).err()?)));
            problems.extend(to_fault.or(bad).map(|(value, problem)| (&["smtp", "to"][..], Some(value), problem)));
            if smtp.username.is_some() != smtp.password.is_some() && smtp.password_file.is_none() {
                let problem = "`username` and `password` (or `password_file`) go together";
                problems.push((&["smtp", "username"], smtp.username.clone(), problem.to_owned()));
            }
        }
        if let Some(problem) = self.secret.as_ref().and_then(|secret| check_key(secret.expose()).err()) {
            let key: &[&str] = if self.secret_file.is_some() { &["secret_file"] } else { &["secret"] };
            problems.push((key, None, problem));
        }
        self.check_kind(&mut problems);
        self.check_url(&mut problems);
        if !self.accounts.tags.is_empty() {
            let problem =
                "tags are not kept with results: name accounts by `accounts`, `names`, `ou_paths`, `owners` or `teams`";
            problems.push((&["accounts", "tags"], None, problem.to_owned()));
        }
        if let Some(template) = &self.template
            && let Err(error) = minijinja::Environment::new().template_from_str(template)
        {
            problems.push((&["template"], None, format!("not a template: {error}")));
        }
        if let Some(digest) = &self.digest {
            for (key, problem) in check_instants(&digest.cron, &digest.time_zone) {
                let (key, value): (&'static [&'static str], _) = if key == "cron" {
                    (&["digest", "cron"], &digest.cron)
                } else {
                    (&["digest", "time_zone"], &digest.time_zone)
                };
                problems.push((key, Some(format!("\"{value}\"")), problem));
            }
        }
        problems
    }

    /// Each kind of channel has keys of its own, and needs some of them.
    fn check_kind(&self, problems: &mut Vec<Problem>) {
        let has_url = self.url.is_some() || self.url_file.is_some();
        let kinds: [(&'static [&'static str], bool, &[ChannelKind], &str); 5] = [
            (&["url"], has_url, &[ChannelKind::Webhook, ChannelKind::Slack], "`url` or `url_file`"),
            (&["topic_arn"], self.topic_arn.is_some(), &[ChannelKind::Sns], "`topic_arn`"),
            (&["smtp"], self.smtp.is_some(), &[ChannelKind::Email], "`smtp`"),
            (&["secret"], self.secret.is_some(), &[ChannelKind::Webhook], ""),
            (&["profile"], self.profile.is_some(), &[ChannelKind::Sns], ""),
        ];
        for (key, is_set, of, needed) in kinds {
            let is_of = of.contains(&self.channel);
            if is_set && !is_of {
                problems.push((key, None, "this kind of channel has no such key".to_owned()));
            } else if is_of && !is_set && !needed.is_empty() {
                problems.push((&["channel"], None, format!("this kind of channel needs {needed}")));
            }
        }
        #[cfg(not(feature = "sns"))]
        if self.channel == ChannelKind::Sns {
            let problem = "this binary was built without the feature `sns`".to_owned();
            problems.push((&["channel"], Some("\"sns\"".to_owned()), problem));
        }
    }

    fn check_url(&self, problems: &mut Vec<Problem>) {
        let Some(url) = &self.url else { return };
        // It is a secret: what is wrong is said without it.
        let problem = match url::Url::parse(url.expose()) {
            Err(error) => format!("not a URL: {error}"),
            Ok(url) if !["http", "https"].contains(&url.scheme()) || !url.has_host() => {
                "expected a URL that begins with https://".to_owned()
            }
            Ok(_) if self.allow_private_addresses => return,
            Ok(url) if url.scheme() != "https" => {
                "others could read along: expected https://, or `allow_private_addresses = true`".to_owned()
            }
            Ok(url) if !leads_outside(&url) => {
                "it leads to a private, loopback or link-local address: expected another, or \
                                                `allow_private_addresses = true`"
                    .to_owned()
            }
            Ok(_) => return,
        };
        problems.push((if self.url_file.is_some() { &["url_file"] } else { &["url"] }, None, problem));
    }
}

/// Checks the key of a signature.
fn check_key(text: &str) -> Result<(), String> {
    let bytes = match text.strip_prefix("whsec_").map(|encoded| STANDARD.decode(encoded)) {
        Some(Ok(bytes)) => bytes.len(),
        Some(Err(_)) => return Err("it begins with whsec_: expected Base64 after that".to_owned()),
        None => text.len(),
    };
    let example = "such as `openssl rand -base64 32` makes";
    if bytes >= SHORTEST_KEY { Ok(()) } else { Err(format!("expected at least {SHORTEST_KEY} bytes, {example}")) }
}

/// Whether any of the patterns, with wildcards, matches a text.
pub(super) fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| WildMatch::new(pattern).matches(text))
}

/// Checks an address of mail, with or without a name before it.
pub(super) fn check_mailbox(text: &str) -> Result<(), String> {
    let parsed: Result<lettre::message::Mailbox, _> = text.parse();
    parsed.map(|_| ()).map_err(|_| "expected an address such as \"Security <security@example.com>\"".to_owned())
}

/// Whether a URL's host, where it is an address, is one of the public Internet. A name is looked up when it is used.
fn leads_outside(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
        Some(url::Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
        Some(url::Host::Domain(name)) => name != "localhost" && !name.ends_with(".localhost"),
        None => false,
    }
}

/// Whether an address is one of the public Internet: in none of the blocks that IANA's registries of special-purpose addresses
/// (RFC 6890) keep for other uses.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 240..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special && !address.is_multicast()
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // An IPv4 address in the clothes of the other: mapped, translated (RFC 6052), tunnelled (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        [0x2001, 0..=0x1ff | 0xdb8, ..] => false,
        // What is allotted to the public (RFC 4291) is 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_within_are_not_public_in_whatever_clothes() {
        let within = [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "fc00::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
            "2001::1",
        ];
        for address in within {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_channel_hears_what_it_is_for() {
        let alert = |text: &str| -> Alert {
            toml_edit::de::from_str(&format!("name = \"x\"\nchannel = \"slack\"\n{text}")).unwrap()
        };
        let hears = |text: &str, kind| alert(text).hears(kind, "main");
        assert!(hears("", IncidentKind::AccountsUnreadable));
        assert!(!hears("min_severity = \"high\"", IncidentKind::AccountsUnreadable));
        assert!(hears("min_severity = \"high\"", IncidentKind::CoverageLost));
        assert!(!hears("changes = [\"world\"]", IncidentKind::MeasuredShareLow));
        assert!(!hears("organizations = [\"other*\"]", IncidentKind::CoverageLost));
        assert!(hears("organizations = [\"ma*\"]", IncidentKind::CoverageLost));
    }
}
