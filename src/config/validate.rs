//! What a schema cannot say: formats, ranges of time, and keys that depend on each other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::alerts::{any, check_mailbox};
use super::load::key_of;
use super::origin::{Fault, Origins, shown};
use super::schedule::check_instants;
use super::{
    Alert, Config, Expiry, Export, Http, Organization, Ownership, RegionSelection, Remediation, Retention, Schedule,
    Secret, Selector, Store, TimeSpan,
};
use crate::model::AccountId;

/// The longest time that any limit can be.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// The longest delay of a scheduled scan.
const LONGEST_JITTER: Duration = Duration::from_hours(12);

/// The range of a lease: long enough to be renewed in time, short enough for others to take over on the same day.
const LEASE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// Checks a text against one of the formats that the schema names. Formats that are not ours pass.
///
/// # Errors
/// What is wrong with the text and what would be right, without repeating the text: it may be a secret.
pub fn check_format(format: &str, text: &str) -> Result<(), String> {
    let word = |punctuation: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c));
    match format {
        "duration" => humantime::parse_duration(text)
            .map(|_| ())
            .map_err(|_| "expected a duration with its unit, such as \"30s\" or \"15m\"".into()),
        "account-id" => {
            AccountId::from_str(text).map(|_| ()).map_err(|_| "not an account id: expected twelve digits".into())
        }
        "session-word" if !word("=,.@-_+") || !(2..=64).contains(&text.len()) => {
            Err("expected 2 to 64 letters, digits or any of =,.@-_+".into())
        }
        "external-id" if !word("=,.@:/-_+") => Err("expected letters, digits or any of =,.@:/-_+ only".into()),
        "external-id" if !(2..=1224).contains(&text.len()) => {
            Err(format!("expected 2 to 1224 characters, found {}", text.len()))
        }
        "role-arn" => check_role_arn(text, false),
        "member-role" if text.starts_with("arn:") || text.contains(':') => check_role_arn(text, true),
        "member-role" if text.is_empty() || !word("=,.@-_+/") || text.len() > 512 => {
            Err("expected a role's name, or an ARN such as \"arn:{partition}:iam::{account_id}:role/TrustwatchAudit\""
                .into())
        }
        "analyzer-name" if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !word("_.-") || text.len() > 200 => {
            Err("expected a letter, then letters, digits or any of _.-, at most 200".into())
        }
        "socket-address" => match text.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("expected an address and a port, such as \"127.0.0.1:9464\"".into()),
        },
        "http-url" => match url::Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(()),
            _ => Err("expected a URL such as \"http://localhost:4318/v1/traces\"".into()),
        },
        "word" if text.is_empty() || !word("_-") || text.len() > 64 => {
            Err("expected 1 to 64 letters, digits or any of _-".into())
        }
        "topic-arn" => {
            let fields: Vec<&str> = text.split(':').collect();
            let is_topic = matches!(fields.as_slice(), ["arn", partition, "sns", region, account, name]
                if partition.starts_with("aws") && !region.is_empty() && AccountId::from_str(account).is_ok() && !name.is_empty());
            is_topic
                .then_some(())
                .ok_or_else(|| "expected one like \"arn:aws:sns:eu-west-1:111111111111:trustwatch\"".into())
        }
        "mailbox" => check_mailbox(text),
        "expiry" => Expiry::from_str(text).map(|_| ()).map_err(Into::into),
        "said" if text.trim().is_empty() => Err("expected a few words".into()),
        "log-filter" => tracing_subscriber::EnvFilter::try_new(text)
            .map(|_| ())
            .map_err(|error| format!("{error}; expected a level such as \"info\", or directives")),
        _ => Ok(()),
    }
}

fn check_role_arn(text: &str, template: bool) -> Result<(), String> {
    let example = if template {
        "arn:{partition}:iam::{account_id}:role/TrustwatchAudit"
    } else {
        "arn:aws:iam::111111111111:role/OrgReader"
    };
    let fields: Vec<&str> = text.splitn(6, ':').collect();
    let is_arn = match fields.as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            let partition_fits = partition.starts_with("aws") || (template && *partition == "{partition}");
            let account_fits = if template { *account == "{account_id}" } else { AccountId::from_str(account).is_ok() };
            partition_fits && account_fits && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
        }
        _ => false,
    };
    if is_arn { Ok(()) } else { Err(format!("malformed role ARN; expected one like \"{example}\"")) }
}

/// Checks what is between keys and reads the files that hold secrets. Returns every fault.
pub fn validate(config: &mut Config, origins: &Origins) -> Vec<Fault> {
    let mut check = Check { origins, faults: Vec::new() };
    for organization in &mut config.organizations {
        check.organization(organization);
    }
    check.schedule(&["schedule"], &config.schedule);
    check.store(&mut config.store);
    check.http(&mut config.http);
    check.remediation(&config.remediation, &config.organizations);
    check.export(&config.export, &config.organizations, &config.remediation);
    check.alerts(&mut config.alerts, config.alerting.give_up_after, &config.organizations);
    let limits = &config.limits;
    for (key, value) in [
        ("connect_timeout", limits.connect_timeout),
        ("attempt_timeout", limits.attempt_timeout),
        ("call_deadline", limits.call_deadline),
        ("visit_deadline", limits.visit_deadline),
        ("scan_deadline", limits.scan_deadline),
        ("shutdown_grace", limits.shutdown_grace),
    ] {
        if value.0 < Duration::from_millis(1) || value.0 > LONGEST {
            let problem = format!("expected more than nothing, and at most {}", TimeSpan(LONGEST));
            check.fault(&["limits", key], Some(quoted(value)), problem);
        }
    }
    if limits.call_deadline.0 <= limits.attempt_timeout.0 {
        let problem = format!("expected more than limits.attempt_timeout, which is {}", limits.attempt_timeout);
        check.fault(&["limits", "call_deadline"], Some(quoted(limits.call_deadline)), problem);
    }
    check.faults
}

/// Exemptions whose `accounts` is there and names nothing: what was emptied is not for every account, as what is left out is.
pub fn exemptions_for_nobody(merged: &Value, origins: &Origins) -> Vec<Fault> {
    let mut check = Check { origins, faults: Vec::new() };
    let is_empty = |part: &Value| part.as_array().is_some_and(Vec::is_empty) || *part == serde_json::json!({});
    for (key, organization) in merged["organizations"].as_object().into_iter().flatten() {
        for (index, exemption) in organization["exemptions"].as_array().into_iter().flatten().enumerate() {
            let accounts = &exemption["accounts"];
            if accounts.as_object().is_some_and(|parts| parts.values().all(is_empty)) {
                let path = ["organizations", key, "exemptions", &index.to_string(), "accounts"];
                let problem = "an exemption for no account; leave `accounts` out for every account";
                check.fault(&path, Some(accounts.to_string()), problem);
            }
        }
    }
    check.faults
}

struct Check<'a> {
    origins: &'a Origins,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, path: &[&str], value: Option<String>, problem: impl Into<String>) {
        let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
        let origin = self.origins.of(&path);
        self.faults.push(Fault { key: shown(&path), value, origin, problem: problem.into() });
    }

    fn organization(&mut self, organization: &mut Organization) {
        let key = key_of(&organization.name);
        let at = |last: &'static str| ["organizations".to_owned(), key.clone(), last.to_owned()];
        let mut fault = |last: &'static str, value: Option<String>, problem: String| {
            let steps = at(last);
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            self.fault(&steps, value, problem);
        };

        let duration = organization.session_duration;
        let longest = if organization.chain_roles { 3600 } else { 43_200 };
        if !(900..=longest).contains(&duration.0.as_secs()) {
            let why = if organization.chain_roles { " (a chained session lasts an hour at most)" } else { "" };
            let longest = TimeSpan::seconds(longest);
            fault("session_duration", Some(quoted(duration)), format!("expected 15m to {longest}{why}"));
        }
        if organization.chain_roles && organization.reader_role_arn.is_none() {
            let problem = "there is no role to chain from; set `reader_role_arn`, or leave this out";
            fault("chain_roles", Some("true".into()), problem.into());
        }
        if let Some(region) = organization.sts_region.as_ref().filter(|region| !looks_like_a_region(region)) {
            fault("sts_region", Some(quoted(region)), "not a region's code; expected one like \"eu-west-1\"".into());
        }
        if let RegionSelection::List(regions) = &organization.regions {
            if regions.is_empty() {
                fault("regions", Some("[]".into()), "expected \"all-enabled\" or at least one region".into());
            }
            for region in regions.iter().filter(|region| !looks_like_a_region(region)) {
                fault("regions", Some(quoted(region)), "not a region's code; expected one like \"eu-west-1\"".into());
            }
        }
        if organization.external_id.is_some() && organization.external_id_file.is_some() {
            fault("external_id_file", None, "both `external_id` and `external_id_file` are set; keep one".into());
        } else if let Some(file) = &organization.external_id_file {
            let shown_file = Some(quoted(file.display()));
            match Secret::read(file) {
                Err(error) => fault("external_id_file", shown_file, format!("the file cannot be read: {error}")),
                Ok(secret) => match check_format("external-id", secret.expose()) {
                    Err(problem) => fault("external_id_file", shown_file, format!("what the file holds: {problem}")),
                    Ok(()) => organization.external_id = Some(secret),
                },
            }
        }
        if let Some(file) = &organization.ownership.file {
            let read = std::fs::read_to_string(file).map_err(|error| format!("the file cannot be read: {error}"));
            let listed = read
                .and_then(|text| Ownership::read(&text).map_err(|problem| format!("what the file holds: {problem}")));
            match listed {
                Ok(listed) => organization.ownership.listed = listed,
                Err(problem) => {
                    let value = Some(quoted(file.display()));
                    self.fault(&["organizations", &key, "ownership", "file"], value, problem);
                }
            }
        }
        if let Some(schedule) = &organization.schedule {
            self.schedule(&["organizations", &key, "schedule"], schedule);
        }
        self.choices(&key, organization);
    }

    /// What chooses accounts and regions.
    fn choices(&mut self, key: &str, organization: &Organization) {
        let path = ["organizations", key];
        self.selector(&[&path[..], &["include"]].concat(), &organization.include);
        self.selector(&[&path[..], &["exclude"]].concat(), &organization.exclude);
        for (index, rule) in organization.exclude_regions.iter().enumerate() {
            let index = index.to_string();
            let path = [&path[..], &["exclude_regions", &index]].concat();
            self.words(&[&path[..], &["ou_paths"]].concat(), &rule.ou_paths);
            self.words(&[&path[..], &["regions"]].concat(), &rule.regions);
        }
        for (index, exemption) in organization.exemptions.iter().enumerate() {
            let index = index.to_string();
            let path = [&path[..], &["exemptions", &index]].concat();
            let regions = [&path[..], &["regions"]].concat();
            self.selector(&[&path[..], &["accounts"]].concat(), &exemption.accounts);
            self.words(&regions, &exemption.regions);
            if exemption.regions.is_empty() {
                let problem = "an exemption for no region; leave `regions` out for every region";
                self.fault(&regions, Some("[]".into()), problem);
            }
        }
    }

    fn selector(&mut self, path: &[&str], selector: &Selector) {
        let Selector { ou_paths, names, owners, teams, accounts: _, tags: _ } = selector;
        for (last, words) in [("ou_paths", ou_paths), ("names", names), ("owners", owners), ("teams", teams)] {
            self.words(&[path, &[last]].concat(), words);
        }
    }

    /// An empty word, such as a variable that was not set leaves, would choose nobody, or those of whom nothing is known.
    fn words(&mut self, path: &[&str], words: &[String]) {
        if words.iter().any(|word| word.trim().is_empty()) {
            let problem = "an empty word: expected a name or a pattern; leave it out if nothing is meant";
            self.fault(path, Some(format!("{words:?}")), problem);
        }
    }

    fn schedule(&mut self, path: &[&str], schedule: &Schedule) {
        for (key, problem) in check_instants(&schedule.cron, &schedule.time_zone) {
            let value = if key == "cron" { &schedule.cron } else { &schedule.time_zone };
            self.fault(&[path, &[key]].concat(), Some(quoted(value)), problem);
        }
        if schedule.jitter.0 > LONGEST_JITTER {
            let problem = format!("expected at most {}", TimeSpan(LONGEST_JITTER));
            self.fault(&[path, &["jitter"]].concat(), Some(quoted(schedule.jitter)), problem);
        }
    }

    fn http(&mut self, http: &mut Http) {
        const EXAMPLE: &str = "of at least 16 letters, digits or any of -._~+/=, such as `openssl rand -hex 32` makes";
        if let Some(file) = &http.token_file {
            let problem = match Secret::read(file) {
                Ok(token) if is_token(token.expose()) => {
                    http.token = Some(token);
                    None
                }
                Ok(_) => Some(format!("what the file holds: expected a token {EXAMPLE}")),
                Err(error) => Some(format!("the file cannot be read: {error}")),
            };
            if let Some(problem) = problem {
                self.fault(&["http", "token_file"], Some(quoted(file.display())), problem);
            }
        } else if http.enabled && !http.listen.ip().is_loopback() && !http.without_token {
            let problem = "others could reach it: expected an address on the loopback interface, such as \
                           \"127.0.0.1:9464\", or `http.token_file`, or `http.without_token = true`";
            self.fault(&["http", "listen"], Some(quoted(http.listen)), problem);
        }
        if http.token_file.is_some() && http.without_token {
            self.fault(&["http", "without_token"], Some("true".into()), "there is a `token_file`; keep one of the two");
        }
    }

    fn export(&mut self, export: &Export, organizations: &[Organization], remediation: &Remediation) {
        let role = &export.security_hub_role;
        let member = organizations.iter().any(|organization| organization.member_role == *role);
        if member || remediation.role == *role {
            let other = if member { "the member role, which may change nothing" } else { "`remediation.role`" };
            let problem = format!("this is {other}: expected a role of its own");
            self.fault(&["export", "security_hub_role"], Some(quoted(role)), problem);
        }
    }

    fn remediation(&mut self, remediation: &Remediation, organizations: &[Organization]) {
        if organizations.iter().any(|organization| organization.member_role == remediation.role) {
            let problem = "this is the member role: expected another, because the audit may change nothing";
            self.fault(&["remediation", "role"], Some(quoted(&remediation.role)), problem);
        }
        for (key, span) in [("plan_lifetime", remediation.plan_lifetime), ("wait", remediation.wait)] {
            if span.0 < Duration::from_secs(1) || span.0 > LONGEST {
                let problem = format!("expected at least 1s, and at most {}", TimeSpan(LONGEST));
                self.fault(&["remediation", key], Some(quoted(span)), problem);
            }
        }
        let empty = |rule: &&super::ArchiveRule| rule.filter.is_empty();
        if let Some(rule) = remediation.archive_rules.iter().find(empty) {
            let problem = "it would archive every finding: expected at least one property in `filter`";
            self.fault(&["remediation", "archive_rules"], Some(quoted(&rule.name)), problem);
        }
    }

    fn alerts(&mut self, alerts: &mut [Alert], give_up_after: TimeSpan, organizations: &[Organization]) {
        if give_up_after.0 < Duration::from_secs(1) || give_up_after.0 > LONGEST {
            let problem = format!("expected at least 1s, and at most {}", TimeSpan(LONGEST));
            self.fault(&["alerting", "give_up_after"], Some(quoted(give_up_after)), problem);
        }
        let known: Vec<&str> = organizations.iter().map(|organization| organization.name.as_str()).collect();
        let mut names = BTreeSet::new();
        for (index, alert) in alerts.iter_mut().enumerate() {
            let index = index.to_string();
            if !names.insert(alert.name.clone()) {
                let problem = "a second channel of this name";
                self.fault(&["alerts", &index, "name"], Some(quoted(&alert.name)), problem);
            }
            // One that is named beside others that are there would not be missed: after a renaming, nobody would be told.
            let is_nobody = |named: &&String| !known.iter().any(|name| any(std::slice::from_ref(*named), name));
            if let Some(named) = alert.organizations.iter().find(is_nobody) {
                let problem = format!("no organization is named {named:?}; configured: {}", known.join(", "));
                self.fault(&["alerts", &index, "organizations"], Some(format!("{:?}", alert.organizations)), problem);
            }
            self.selector(&["alerts", &index, "accounts"], &alert.accounts);
            self.words(&["alerts", &index, "regions"], &alert.regions);
            for (key, value, problem) in alert.check() {
                self.fault(&[&["alerts", index.as_str()], key].concat(), value, problem);
            }
        }
    }

    fn store(&mut self, store: &mut Store) {
        if let Some(problem) = store.problem() {
            self.fault(&["store", "url"], Some(quoted(store.shown_url())), problem);
        }
        if let Some(problem) = store.schema_problem() {
            self.fault(&["store", "schema"], Some(quoted(&store.schema)), problem);
        }
        if let Err((value, problem)) = Secret::resolve(&mut store.password, store.password_file.as_ref(), "password") {
            self.fault(&["store", "password_file"], value, problem);
        }
        if !(LEASE.0..=LEASE.1).contains(&store.lease.0) {
            let problem = format!("expected {} to {}", TimeSpan(LEASE.0), TimeSpan(LEASE.1));
            self.fault(&["store", "lease"], Some(quoted(store.lease)), problem);
        }
        if store.max_outage.0 > LONGEST {
            let problem = format!("expected at most {}", TimeSpan(LONGEST));
            self.fault(&["store", "max_outage"], Some(quoted(store.max_outage)), problem);
        }
        let Retention { visits, daily_visits, history } = &store.retention;
        let longest = TimeSpan::days(36_500);
        for (key, span) in
            [("visits", Some(visits)), ("daily_visits", Some(daily_visits)), ("history", history.as_ref())]
        {
            if let Some(span) = span.filter(|span| span.0 < TimeSpan::days(1).0 || span.0 > longest.0) {
                let problem = "expected one day to a hundred years";
                self.fault(&["store", "retention", key], Some(quoted(span)), problem);
            }
        }
        if let Some(history) = history.filter(|history| history.0 < daily_visits.0) {
            let problem = format!(
                "expected no less than store.retention.daily_visits, which is {daily_visits}: a visit says little without \
                 what it saw"
            );
            self.fault(&["store", "retention", "history"], Some(quoted(history)), problem);
        }
        if daily_visits.0 < visits.0 {
            let problem = format!("expected no less than store.retention.visits, which is {visits}");
            self.fault(&["store", "retention", "daily_visits"], Some(quoted(daily_visits)), problem);
        }
    }
}

/// Whether a text can be a bearer token (RFC 6750, section 2.1), long enough not to be guessed.
fn is_token(text: &str) -> bool {
    text.len() >= 16 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c))
}

fn looks_like_a_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let (Some(last), true) = (parts.last(), parts.len() >= 3) else { return false };
    let words = &parts[..parts.len() - 1];
    words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !last.is_empty()
        && last.bytes().all(|b| b.is_ascii_digit())
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}
