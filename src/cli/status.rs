//! `trustwatch status`: how it stands, at a glance.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::style::{Style, clean};
use super::{Context, Failure, chosen, closed, load_quietly};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::glance::{self, Glance, ago};
use crate::lifecycle;
use crate::model::{counted, grouped, percent};
use crate::store::{self, Access, Store, StoreError};

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
        render(name, &glance::of(store, name, now).await?, now, style, &mut text);
    }
    Ok(text)
}

/// An organization, for a terminal.
fn render(name: &str, glance: &Glance, now: DateTime<Utc>, style: Style, text: &mut String) {
    let Some(newest) = &glance.newest else {
        let _ = writeln!(text, "{} · no completed scan yet; run `trustwatch scan`", style.bold(&clean(name)));
        service(&glance.problems, style, text);
        return;
    };
    let age = newest.at.map_or_else(String::new, |at| ago(now - at));
    let _ = writeln!(
        text,
        "{} · {} · scan {}, {}",
        style.bold(&clean(name)),
        clean(&newest.organization_id),
        newest.scan_id,
        if newest.is_fresh { style.faint(&age) } else { style.unsure(&age) }
    );
    let (gaps, unknown) = (newest.not_covered, newest.unknown);
    for (word, figure, is_well, rest) in [
        ("coverage", &newest.coverage, gaps == 0, format!("{} not covered", counted(gaps, "account × region"))),
        ("measured", &newest.measured, unknown == 0, format!("{} could not be read", grouped(unknown))),
    ] {
        let share = format!("{:>7}", percent(figure.now));
        let share = match (is_well && figure.now.is_some(), word) {
            (true, _) => style.good(&share),
            (false, "coverage") => style.bad(&share),
            (false, _) => style.unsure(&share),
        };
        let _ = writeln!(text, "\n  {word}  {share}  {}  {}\n            {rest}", spark(&figure.trend), figure.moved());
    }
    if newest.exempt > 0 {
        let _ = writeln!(text, "            {} exempt", grouped(newest.exempt));
    }
    let _ = writeln!(text, "\n  {}", style.bold("since yesterday"));
    if !newest.is_fresh {
        let _ = writeln!(text, "  {}", style.unsure("nobody has looked: these figures are old"));
    } else if glance.changes.is_empty() {
        let _ = writeln!(text, "  {}", style.faint("nothing changed"));
    }
    for changed in &glance.changes {
        let by_region = &changed.by_region;
        let named: Vec<String> = by_region
            .iter()
            .take(NAMED)
            .map(|(region, number)| format!("{} {}", clean(region), grouped(*number)))
            .collect();
        let more = by_region.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {}", counted(more, "more region")) } else { String::new() };
        let figure = format!("{:>9}", grouped(changed.sum()));
        let figure = if changed.is_bad { style.bad(&figure) } else { style.good(&figure) };
        let _ = writeln!(text, "  {figure}  {}: {}{more}", changed.what, named.join(", "));
    }
    service(&glance.problems, style, text);
}

/// What is wrong with the service itself, if anything is.
fn service(problems: &[String], style: Style, text: &mut String) {
    if problems.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {}", style.bold("the service itself"));
    for problem in problems {
        let _ = writeln!(text, "  {}", style.unsure(&clean(problem)));
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
}
