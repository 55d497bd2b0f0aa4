//! What a message says to a person.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use minijinja::{Environment, UndefinedBehavior};
use tracing::warn;

use super::sample;
use crate::model::{Event, EventKind, Incident, Standing, counted, percent, ratio};

/// The name of the one template.
const TEMPLATE: &str = "template";

/// Regions that are named.
const REGIONS: usize = 8;

/// How events become texts: by a template, or as we have it.
pub struct Text {
    environment: Option<Environment<'static>>,
}

impl Text {
    /// Reads a template, and tries it on an event that has everything: there a field that is not known is a fault.
    ///
    /// # Errors
    /// Where it is no template, or fails on that event.
    pub fn new(template: Option<&str>) -> Result<Self, String> {
        let Some(template) = template else { return Ok(Self { environment: None }) };
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .add_template_owned(TEMPLATE, template.to_owned())
            .map_err(|error| format!("`template`: {error}"))?;
        let mut full = sample(DateTime::UNIX_EPOCH);
        for incident in &mut full.incidents {
            incident.closed_at = Some(full.at);
        }
        render(&environment, &full).map_err(|error| format!("`template`: {error:#}"))?;
        // From here on, what an event does not have is empty: a digest has no incident, and a recovery names no account.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        Ok(Self { environment: Some(environment) })
    }

    /// An event's text. Where the template fails on it, or has nothing to say (which some receivers refuse), ours: nobody is left
    /// untold for that.
    pub fn of(&self, event: &Event) -> String {
        let Some(environment) = &self.environment else { return plain(event) };
        let problem = match render(environment, event) {
            Ok(text) if text.trim().is_empty() => "it is empty".to_owned(),
            Ok(text) => return text,
            Err(error) => format!("{error:#}"),
        };
        warn!(alert.id = event.id, "`template` fails on this event, which is told in our own words: {problem}");
        plain(event)
    }
}

fn render(environment: &Environment<'_>, event: &Event) -> Result<String, minijinja::Error> {
    let mut fields = serde_json::json!(event);
    leave_nulls_out(&mut fields);
    let fields = minijinja::Value::from(minijinja::value::Serde(fields));
    environment.get_template(TEMPLATE)?.render(minijinja::context! { event => fields, text => plain(event) })
}

/// What is not there is empty, and not the word for nothing.
fn leave_nulls_out(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(leave_nulls_out);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(leave_nulls_out),
        _ => {}
    }
}

/// Our own text.
fn plain(event: &Event) -> String {
    let mut text = format!("{}\n", event.title);
    for incident in &event.incidents {
        tell(&mut text, event, incident);
    }
    for standing in &event.standings {
        stands(&mut text, standing);
    }
    if event.kind == EventKind::Opened
        && let Some(name) = &event.organization_name
    {
        let status = match event.incidents.first().map(|incident| incident.kind.change()) {
            Some(crate::model::Change::Visibility) => "unknown",
            _ => "not_covered",
        };
        let name = name.replace('\'', "''");
        let _ = write!(
            text,
            "\nWhat is so now: SELECT account_id, region, reason, since FROM current_coverage WHERE organization_name = '{name}' AND status = '{status}'\n"
        );
    }
    text
}

fn tell(text: &mut String, event: &Event, incident: &Incident) {
    let _ = write!(text, "\n{} · {} · incident {}", incident.severity, incident.kind, incident.id);
    if let Some(scan) = event.scan_id {
        let _ = write!(text, " · scan {scan}");
    }
    match incident.closed_at {
        Some(closed) => {
            let lasted = (closed - incident.opened_at).to_std().unwrap_or_default();
            let lasted = humantime::format_duration(std::time::Duration::from_secs(lasted.as_secs()));
            let _ = write!(text, "\nclosed {}, {lasted} after it was found", instant(closed));
        }
        None => {
            let _ = write!(text, "\nfound {}", instant(incident.opened_at));
        }
    }
    if event.incidents.len() > 1 || event.kind == EventKind::Test {
        let _ = write!(text, "\n{}", incident.title);
    }
    if incident.regions.is_empty() {
        text.push('\n');
        return;
    }
    let regions = &incident.regions[..incident.regions.len().min(REGIONS)];
    let more = incident.regions.len() - regions.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = write!(text, "\nregions: {}{more}", regions.join(", "));
    for arn in &incident.analyzers {
        let _ = write!(text, "\nanalyzer: {arn}");
    }
    for gap in &incident.first {
        let _ = write!(text, "\n  {}  {}  {}  {}", gap.account_id, gap.region, gap.reason, gap.account_name);
    }
    let more = incident.accounts.saturating_sub(incident.first.len() as u64);
    if !incident.first.is_empty() && more > 0 {
        let _ = write!(text, "\n  and {}", counted(more, "more account"));
    }
    text.push('\n');
}

fn stands(text: &mut String, standing: &Standing) {
    let Standing { organization_name, covered, not_covered, exempt, unknown, lost, gained, open_incidents, open } =
        standing;
    let (known, all) = (covered + not_covered, covered + not_covered + unknown);
    let _ = write!(
        text,
        "\n{organization_name}\n  coverage {} · measured {}\n  covered {covered} · not covered {not_covered} (exempt {exempt}) · unknown {unknown}\n  \
         since the last digest: {lost} lost, {gained} gained\n",
        percent(ratio(*covered, known)),
        percent(ratio(known, all)),
    );
    if open.is_empty() {
        text.push_str("  no incident is open\n");
    }
    for incident in open {
        let _ = writeln!(text, "  open: {incident}");
    }
    let more = open_incidents.saturating_sub(open.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_says_what_it_wants_and_misspelt_fields_are_faults() {
        let mut event = sample(DateTime::UNIX_EPOCH);
        event.title = "<b>".to_owned();
        let template =
            "{{ event.severity }}: {{ event.title }} {{ event.scan_id }} {{ event.incidents[0].first[0].region }}";
        let text = Text::new(Some(template)).unwrap();
        assert_eq!(text.of(&event), "low: <b> 0 eu-west-1");
        // What tells of nothing in particular is told all the same.
        (event.scan_id, event.incidents) = (None, Vec::new());
        assert_eq!(text.of(&event), "low: <b>  ");
        assert!(Text::new(Some("{{ event.titel }}")).is_err_and(|problem| problem.contains("undefined")));
        assert!(Text::new(Some("{{ event.")).is_err());
        let fails = Text::new(Some("{{ 1 // event.incidents|length }}")).unwrap();
        assert_eq!(fails.of(&event), plain(&event));
        let silent = Text::new(Some("{% if event.kind == 'opened' %}{{ event.title }}{% endif %}\n")).unwrap();
        assert_eq!(silent.of(&event), plain(&event), "a receiver may refuse a message without a text");
    }

    #[test]
    fn our_text_names_what_when_and_the_first_few() {
        let mut event = sample(DateTime::UNIX_EPOCH);
        event.kind = EventKind::Opened;
        event.incidents[0].accounts = 1_000;
        let text = plain(&event);
        for said in [
            "incident 0",
            "000000000000  eu-west-1  no_analyzer  example",
            "and 999 more accounts",
            "status = 'not_covered'",
        ] {
            assert!(text.contains(said), "{text}");
        }
    }
}
