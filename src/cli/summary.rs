//! What a person reads after a scan, in ten seconds.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets};

use super::style::{Style, clean};
use crate::model::{CallCount, ScanCost, ScanState, Scope, StageSeconds, counted, grouped, percent};
use crate::store::{ExemptionUse, RegionCounts, RuleDrift, ScanReport, ScanTotals, Unreadable};

/// Regions and causes that are shown; the rest is counted.
const SHOWN: usize = 8;

/// Renders a scan's report.
pub fn render(report: &ScanReport, cost: &ScanCost, now: DateTime<Utc>, style: Style) -> String {
    let mut text = String::new();
    headline(&report.scan, style, &mut text);
    if report.scan.account_regions.unwrap_or(0) > 0 {
        figures(&report.scan, style, &mut text);
        worst_regions(&report.regions, style, &mut text);
        unreadable(&report.unreadable, style, &mut text);
        exemptions(&report.exemptions, now, style, &mut text);
        redundant(report, style, &mut text);
        rule_drift(&report.rule_drift, style, &mut text);
    }
    let sum = |of: fn(&CallCount) -> u64| cost.calls.iter().map(of).sum::<u64>();
    let (made, retries, throttled) =
        (sum(|count| count.calls), sum(|count| count.retries), sum(|count| count.throttled));
    let line = format!(
        "{} to AWS, {}, {} throttled, {:.1} MB",
        counted(made, "call"),
        if retries == 1 { "1 retry".to_owned() } else { format!("{} retries", grouped(retries)) },
        grouped(throttled),
        megabytes(sum(|count| count.bytes))
    );
    let _ = writeln!(text, "\n  {}", style.faint(&line));
    let StageSeconds { discover, assume, audit, evaluate, store } = cost.stages;
    let line = format!(
        "discover {discover:.1} s, assume {assume:.1} s, audit {audit:.1} s, evaluate {evaluate:.1} s, store {store:.1} s, side by side; \
         bound by {}",
        cost.bound_by
    );
    let _ = writeln!(text, "  {}", style.faint(&line));
    text
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn headline(scan: &ScanTotals, style: Style, text: &mut String) {
    let state = scan.state.0;
    let word = match state {
        ScanState::Completed => style.good(state.as_str()),
        ScanState::Incomplete | ScanState::Running => style.unsure(state.as_str()),
        ScanState::Failed => style.bad(state.as_str()),
    };
    let organization = scan.organization_id.as_deref().unwrap_or("organization not known");
    let _ = writeln!(
        text,
        "{} · {organization} · scan {} · {word} in {:.1} s",
        style.bold(&scan.organization_name),
        scan.scan_id,
        scan.duration_seconds.unwrap_or(0.0)
    );
    if scan.scope == Scope::Partial.as_str() {
        let what = "a partial scan: the accounts asked for, and the owners of the organization's analyzers";
        let _ = writeln!(text, "  {}", style.faint(what));
    }
}

fn figures(scan: &ScanTotals, style: Style, text: &mut String) {
    let count = |number: Option<i64>| number.unwrap_or(0);
    let (covered, not_covered) = (count(scan.covered), count(scan.not_covered));
    let coverage = percent(scan.coverage_ratio);
    let coverage = if not_covered > 0 { style.bad(&coverage) } else { style.good(&coverage) };
    let measured = percent(scan.measured_ratio);
    let measured = if count(scan.unknown) > 0 { style.unsure(&measured) } else { style.good(&measured) };
    let accounts = [
        (count(scan.accounts_audited), "audited"),
        (count(scan.accounts_unreachable), "unreachable"),
        (count(scan.accounts_not_active), "not active"),
        (count(scan.accounts_excluded), "excluded"),
    ];
    let reached: i64 = accounts.iter().map(|(number, _)| number).sum();
    let mut parts: Vec<String> = accounts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", grouped(*number)))
        .collect();
    if count(scan.accounts) > reached {
        parts.push(format!("{} not reached", grouped(count(scan.accounts) - reached)));
    }
    let _ = writeln!(
        text,
        "\n  coverage  {coverage}  {} of {} account × regions are watched for external access",
        grouped(covered),
        grouped(covered + not_covered)
    );
    let _ = writeln!(
        text,
        "  measured  {measured}  {} could not be read",
        counted(count(scan.unknown), "account × region")
    );
    if count(scan.exempt) > 0 {
        let _ = writeln!(
            text,
            "  exempt    {} of these: {} not covered, {} could not be read",
            grouped(count(scan.exempt)),
            grouped(count(scan.not_covered_exempt)),
            grouped(count(scan.unknown_exempt))
        );
    }
    let _ = writeln!(text, "  accounts  {}: {}", grouped(count(scan.accounts)), parts.join(", "));
}

fn worst_regions(regions: &[RegionCounts], style: Style, text: &mut String) {
    let bad: Vec<_> = regions.iter().filter(|region| region.not_covered > 0).collect();
    if bad.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        ["  worst regions", "not covered", "unknown", "covered", "not applicable"].map(|head| style.bold(head)),
    );
    for region in bad.iter().take(SHOWN) {
        table.add_row([
            format!("  {}", region.region),
            grouped(region.not_covered),
            grouped(region.unknown),
            grouped(region.covered),
            grouped(region.not_applicable),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let _ = writeln!(text, "\n{}", table.trim_fmt());
    more(bad.len(), "region", style, text);
}

fn unreadable(causes: &[Unreadable], style: Style, text: &mut String) {
    if causes.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {}", style.bold("could not be read"));
    for cause in causes.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "  {}  {}, {}; for example {}",
            style.unsure(&cause.reason),
            counted(cause.accounts, "account"),
            counted(cause.account_regions, "account × region"),
            cause.example_account_id
        );
        if let Some(message) = &cause.example_message {
            let _ = writeln!(text, "    {}", style.faint(&clean(message)));
        }
    }
    more(causes.len(), "cause", style, text);
}

fn exemptions(exemptions: &[ExemptionUse], now: DateTime<Utc>, style: Style, text: &mut String) {
    let warnings: Vec<String> = exemptions.iter().filter_map(|exemption| exemption.warning(now)).collect();
    if warnings.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {}", style.bold("exemptions"));
    for warning in warnings.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", style.unsure(&clean(warning)));
    }
    more(warnings.len(), "exemption", style, text);
}

fn redundant(report: &ScanReport, style: Style, text: &mut String) {
    if report.redundant.is_empty() {
        return;
    }
    let billed = counted(report.billed_analyzers, "billed analyzer");
    let _ = writeln!(
        text,
        "\n  {}  {}",
        style.bold("analyzers that could go"),
        style.faint(&format!("of {billed} in all"))
    );
    for redundant in &report.redundant {
        let _ = writeln!(
            text,
            "  {}  {}, {} of them billed; for example {}",
            style.unsure(&redundant.why),
            counted(redundant.analyzers, "analyzer"),
            grouped(redundant.billed),
            clean(&redundant.example)
        );
    }
}

fn rule_drift(drift: &[RuleDrift], style: Style, text: &mut String) {
    if drift.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {}", style.bold("archive rules that are not the same everywhere"));
    for rule in drift.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "  {}  of account {}: {} without it, {} with another form of it; for example in {}",
            style.unsure(&clean(&rule.rule_name)),
            rule.owner_account_id,
            counted(rule.missing, "analyzer"),
            grouped(rule.different),
            clean(&rule.example)
        );
    }
    more(drift.len(), "rule", style, text);
}

fn more(number: usize, what: &str, style: Style, text: &mut String) {
    if number > SHOWN {
        let rest = counted(number - SHOWN, what);
        let _ = writeln!(text, "  {}", style.faint(&format!("and {rest} more")));
    }
}
