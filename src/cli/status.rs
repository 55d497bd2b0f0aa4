//! `trustwatch status`: how it stands, at a glance.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::style::{Style, clean, counted, grouped, percent};
use super::{Context, Failure, chosen, closed, load_quietly};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::lifecycle;
use crate::store::query::{ask, instant, literal};
use crate::store::{self, Access, Store, StoreError};

/// Points of a trend.
const TREND: usize = 40;

/// Places that are named.
const NAMED: usize = 3;

/// Show how it stands: coverage and its trend, what changed since yesterday, and what is wrong with the service itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch status\n  \
    trustwatch status --watch        until INT\n  \
    trustwatch status --watch 60")]
pub struct Status {
    /// Only this organization.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Show it again and again, every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

impl Status {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let names: Vec<String> = chosen(&loaded, self.organization.as_deref())?
            .into_iter()
            .map(|organization| organization.name.clone())
            .collect();
        let Some(seconds) = self.watch else {
            return show(&loaded, &names, false).await;
        };
        let stop = CancellationToken::new();
        lifecycle::listen(stop.clone(), None)?;
        loop {
            show(&loaded, &names, std::io::stdout().is_terminal()).await?;
            // To be told to stop is how this ends.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
        }
    }
}

/// Opens the store anew each time: it may have been away, or moved, since.
async fn show(loaded: &Loaded, names: &[String], clears: bool) -> Result<(), Failure> {
    let store = store::open(&loaded.config.store, Access::Read).await?;
    let rendered = render_all(store.as_ref(), names, SystemClock.now(), Style::of_stdout()).await;
    store.close().await;
    let text = rendered?;
    let mut out = std::io::stdout().lock();
    // Home, and what was below is erased: no flicker.
    let clear = if clears { "\x1b[H\x1b[2J" } else { "" };
    write!(out, "{clear}{text}").and_then(|()| out.flush()).map_err(closed)
}

async fn render_all(
    store: &dyn Store,
    names: &[String],
    now: DateTime<Utc>,
    style: Style,
) -> Result<String, StoreError> {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        render(store, name, now, style, &mut text).await?;
    }
    Ok(text)
}

async fn render(
    store: &dyn Store,
    name: &str,
    now: DateTime<Utc>,
    style: Style,
    text: &mut String,
) -> Result<(), StoreError> {
    let of = literal(name);
    let trend = format!(
        "SELECT finished_at, coverage_ratio, measured_ratio, not_covered, unknown, exempt, scan_id, organization_id
         FROM scan_summary WHERE organization_name = {of} AND scope = 'all' AND state = 'completed'
         ORDER BY scan_id DESC LIMIT {TREND}"
    );
    let trend = ask(store, &trend).await?.rows;
    let yesterday = now - TimeDelta::days(1);
    if let Some(newest) = trend.first() {
        let age = newest[0].instant().map_or_else(String::new, |at| ago(now - at));
        let _ = writeln!(
            text,
            "{} · {} · scan {}, {}",
            style.bold(&clean(name)),
            clean(newest[7].text()),
            newest[6].whole(),
            style.faint(&age)
        );
        let before = "SELECT coverage_ratio, measured_ratio FROM scan_summary
                      WHERE scope = 'all' AND state = 'completed'";
        let before = format!(
            "{before} AND organization_name = {of} AND finished_at <= {} ORDER BY scan_id DESC LIMIT 1",
            instant(yesterday)
        );
        let before = ask(store, &before).await?.rows;
        let before = before.first();
        let (gaps, unknown) = (newest[3].whole(), newest[4].whole());
        let points = |column: usize| trend.iter().rev().map(|row| row[column].real()).collect::<Vec<_>>();
        for (word, column, is_well, rest) in [
            ("coverage", 1, gaps == 0, format!("{} not covered", counted(gaps, "account × region"))),
            ("measured", 2, unknown == 0, format!("{} could not be read", grouped(unknown))),
        ] {
            let figure = format!("{:>7}", percent(newest[column].real()));
            let figure = match (is_well, column) {
                (true, _) => style.good(&figure),
                (false, 1) => style.bad(&figure),
                (false, _) => style.unsure(&figure),
            };
            let moved = moved(newest[column].real(), before.and_then(|row| row[column - 1].real()));
            let _ = writeln!(text, "\n  {word}  {figure}  {}  {moved}\n            {rest}", spark(&points(column)));
        }
        if newest[5].whole() > 0 {
            let _ = writeln!(text, "            {} exempt", grouped(newest[5].whole()));
        }
        changes(store, &of, yesterday, style, text).await?;
    } else {
        let _ = writeln!(text, "{} · no completed scan yet; run `trustwatch scan`", style.bold(&clean(name)));
    }
    service(store, &of, now, style, text).await
}

/// What changed since yesterday: by what became of it, with the places that most of it was in.
async fn changes(
    store: &dyn Store,
    of: &str,
    since: DateTime<Utc>,
    style: Style,
    text: &mut String,
) -> Result<(), StoreError> {
    let _ = writeln!(text, "\n  {}", style.bold("since yesterday"));
    let mut is_quiet = true;
    for (what, is_bad, from, condition) in [
        ("lost coverage", true, "coverage_changes", "from_status = 'covered' AND to_status = 'not_covered'"),
        ("gained coverage", false, "coverage_changes", "from_status = 'not_covered' AND to_status = 'covered'"),
        ("can be read no more", true, "coverage_transitions", "to_status = 'unknown' AND cause = 'visibility'"),
    ] {
        let sql = format!(
            "SELECT region, count(*), count(DISTINCT account_id) FROM {from}
             WHERE organization_name = {of} AND at > {} AND {condition} GROUP BY region ORDER BY count(*) DESC, region",
            instant(since)
        );
        let by_region = ask(store, &sql).await?.rows;
        let sum: i64 = by_region.iter().map(|row| row[1].whole()).sum();
        if sum == 0 {
            continue;
        }
        is_quiet = false;
        let named: Vec<String> = by_region
            .iter()
            .take(NAMED)
            .map(|row| format!("{} {}", clean(row[0].text()), grouped(row[1].whole())))
            .collect();
        let more = by_region.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more regions") } else { String::new() };
        let figure = format!("{:>9}", grouped(sum));
        let figure = if is_bad { style.bad(&figure) } else { style.good(&figure) };
        let _ = writeln!(text, "  {figure}  {what}: {}{more}", named.join(", "));
    }
    if is_quiet {
        let _ = writeln!(text, "  {}", style.faint("nothing changed"));
    }
    Ok(())
}

/// What is wrong with the service itself, if anything is.
async fn service(
    store: &dyn Store,
    of: &str,
    now: DateTime<Utc>,
    style: Style,
    text: &mut String,
) -> Result<(), StoreError> {
    let mut problems = Vec::new();
    let newest = format!(
        "SELECT scan_id, state, error, started_at FROM scan_summary WHERE organization_name = {of} AND scope = 'all'
         ORDER BY scan_id DESC LIMIT 1"
    );
    for row in ask(store, &newest).await?.rows {
        let (scan, state) = (row[0].whole(), row[1].text());
        match state {
            "completed" => {}
            "running" => {
                let since = row[3].instant().map_or_else(String::new, |at| format!(", begun {}", ago(now - at)));
                problems.push(format!("scan {scan} is running{since}"));
            }
            state => problems.push(format!("scan {scan} is {state}: {}", clean(row[2].text()))),
        }
    }
    let unread = format!(
        "SELECT count(*), min(problem) FROM findings_readings WHERE organization_name = {of} AND problem IS NOT NULL"
    );
    for row in ask(store, &unread).await?.rows.iter().filter(|row| row[0].whole() > 0) {
        let analyzers = counted(row[0].whole(), "analyzer");
        problems.push(format!("the findings of {analyzers} could not be read, for example: {}", clean(row[1].text())));
    }
    if !problems.is_empty() {
        let _ = writeln!(text, "\n  {}", style.bold("the service itself"));
        for problem in problems {
            let _ = writeln!(text, "  {}", style.unsure(&problem));
        }
    }
    Ok(())
}

/// How long ago.
fn ago(span: TimeDelta) -> String {
    let minutes = span.num_minutes().max(0);
    match minutes {
        0 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}

/// By how much a share moved, in points of a per cent.
fn moved(now: Option<f64>, before: Option<f64>) -> String {
    match (now, before) {
        (Some(now), Some(before)) if (now - before).abs() < 0.0005 => "as yesterday".to_owned(),
        (Some(now), Some(before)) => format!("{:+.1} since yesterday", (now - before) * 100.0),
        _ => String::new(),
    }
}

/// A trend as a line of blocks, from the least of it to the most.
fn spark(points: &[Option<f64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known: Vec<f64> = points.iter().flatten().copied().collect();
    let (least, most) =
        known.iter().fold((f64::MAX, f64::MIN), |(least, most), point| (least.min(*point), most.max(*point)));
    let block = |point: &Option<f64>| match point {
        None => ' ',
        Some(_) if most - least < 1e-9 => BLOCKS[7],
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        Some(point) => BLOCKS[(((point - least) / (most - least)) * 7.0).round() as usize],
    };
    points.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_goes_from_its_least_to_its_most() {
        assert_eq!(spark(&[Some(0.5), None, Some(0.75), Some(1.0)]), "▁ ▅█");
        assert_eq!(spark(&[Some(0.9), Some(0.9)]), "██");
        assert_eq!(spark(&[]), "");
    }

    #[test]
    fn what_did_not_move_is_as_yesterday() {
        assert_eq!(moved(Some(0.9), Some(0.9001)), "as yesterday");
        assert_eq!(moved(Some(0.9), Some(0.95)), "-5.0 since yesterday");
        assert_eq!(moved(Some(0.9), None), "");
        assert_eq!(
            [ago(TimeDelta::seconds(59)), ago(TimeDelta::hours(3)), ago(TimeDelta::days(3))],
            ["just now", "3 h ago", "3 days ago"]
        );
    }
}
