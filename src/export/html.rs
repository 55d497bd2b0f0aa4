//! One page that an auditor can read and print: nothing in it comes from anywhere else.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::junit::escaped;
use super::{Form, Head, Row, Trend};
use crate::model::{CONTROLS, RULE, Status, TITLE, percent, ratio};

const STYLE: &str = include_str!("html.css");

/// The size of the trend.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
const MARGIN: f64 = 34.0;

/// Exempt account × regions that are listed one by one; the matrix marks all.
const LISTED: usize = 500;

#[derive(Default)]
pub struct Html {
    regions: Vec<String>,
    /// The organization and account whose line is being written, and how many of its cells are.
    account: Option<(String, String)>,
    cells: usize,
    /// Rows by the summary, and those that came.
    expected: i64,
    rows: i64,
    exempt: Vec<String>,
    more_exempt: usize,
    tail: String,
}

fn figure(value: &str, what: &str) -> String {
    format!("<div class=\"figure\"><b>{}</b>{}</div>\n", escaped(value), escaped(what))
}

fn trend(points: &[Trend]) -> String {
    let count = points.len();
    if count < 2 {
        return "<p class=\"faint\">There are too few scans for a trend.</p>\n".into();
    }
    #[expect(clippy::cast_precision_loss, reason = "a place on a page")]
    let x = |at: usize| (WIDTH - 2.0 * MARGIN).mul_add(at as f64 / (count - 1) as f64, MARGIN);
    let y = |ratio: f64| (HEIGHT - 2.0 * MARGIN).mul_add(1.0 - ratio, MARGIN);
    let line = |of: fn(&Trend) -> Option<f64>| {
        let place = |(at, point): (usize, &Trend)| Some(format!("{:.1},{:.1}", x(at), y(of(point)?)));
        points.iter().enumerate().filter_map(place).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "<svg role=\"img\" aria-label=\"Coverage and measured share over the last {count} scans\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\">\n"
    );
    for (ratio, label) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let at = y(ratio);
        let _ = writeln!(
            text,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#d0d7de\"/>\
             <text x=\"2\" y=\"{:.1}\" font-size=\"11\" fill=\"#57606a\">{label}</text>",
            WIDTH - MARGIN,
            at + 4.0
        );
    }
    let _ = writeln!(
        text,
        "<polyline fill=\"none\" stroke=\"#57606a\" stroke-dasharray=\"4 3\" points=\"{}\"/>\n\
         <polyline fill=\"none\" stroke=\"#1a7f5a\" stroke-width=\"2\" points=\"{}\"/>\n</svg>\n\
         <p class=\"faint\">Solid: coverage, each unknown counted by its last known answer. Dashed: the share that could be read. The last \
         {count} scans of the whole organization, oldest first.</p>",
        line(|point| point.measured),
        line(|point| point.coverage)
    );
    text
}

fn summary(head: &Head) -> String {
    let count = |status: &str| head.sums.iter().filter(|sum| sum.0 == status).map(|sum| sum.2).sum::<i64>();
    let (covered, gaps, unknown) = (count("covered"), count("not_covered"), count("unknown"));
    let exempt: i64 = head.sums.iter().map(|sum| sum.3).sum();
    let mut text = String::from("<h2>Summary</h2>\n<div class=\"figures\">\n");
    // Of rows that were chosen by their status, a share says nothing.
    if head.has_all_statuses {
        text += &figure(&percent(ratio(covered, covered + gaps)), "of what could be read is covered");
        text += &figure(&percent(ratio(covered + gaps, covered + gaps + unknown)), "could be read");
    }
    text += &figure(&gaps.to_string(), "account × regions not covered");
    text += &figure(&unknown.to_string(), "account × regions unknown");
    text += &figure(&exempt.to_string(), "account × regions exempt, counted as what they are");
    text += "</div>\n";
    if head.is_whole {
        text += "<h2>Trend</h2>\n";
        text += &trend(&head.trend);
    }
    text += "<h2>Reasons</h2>\n<table><thead><tr><th>status<th>reason<th>account × regions<th>of these exempt</tr></thead><tbody>\n";
    for (status, reason, rows, exempt) in &head.sums {
        let _ = writeln!(
            text,
            "<tr><td>{}<td>{}<td class=\"number\">{rows}<td class=\"number\">{exempt}</tr>",
            escaped(status),
            escaped(reason)
        );
    }
    text + "</tbody></table>\n"
}

fn evidence(head: &Head) -> String {
    let mut text = String::from(
        "<h2>Method</h2>\n<p>Every account of the organization is entered with a role that may only read, and asked in every region for its IAM \
         Access Analyzer analyzers, page by page. An account × region is <b>covered</b> only by an ACTIVE analyzer of external access, of the \
         account or of its organization, as the requirement says; analyzers of unused or internal access, of other services, and those that \
         are not active do not count. What could not be read is <b>unknown</b>, with its reason: it is neither covered nor a gap. An exemption \
         changes no verdict; it is shown beside it.</p>\n<h2>Controls</h2>\n<table><thead><tr><th>framework<th>control</tr></thead><tbody>\n",
    );
    for (framework, control) in CONTROLS {
        let _ = writeln!(text, "<tr><td>{}<td>{}</tr>", escaped(framework), escaped(control));
    }
    text += "</tbody></table>\n<h2>Evidence</h2>\n";
    for scan in &head.scans {
        let _ = writeln!(
            text,
            "<h3>{} <span class=\"faint\">{}</span></h3>\n<table><tbody>",
            escaped(&scan.organization),
            escaped(&scan.organization_id)
        );
        for (name, value) in &scan.facts {
            let _ = writeln!(text, "<tr><th>{}<td>{}</tr>", escaped(&name.replace('_', " ")), escaped(value));
        }
        text += "</tbody></table>\n";
    }
    text
}

impl Form for Html {
    fn begin(&mut self, out: &mut dyn Write, head: &Head) -> io::Result<()> {
        self.regions.clone_from(&head.regions);
        self.expected = head.sums.iter().map(|sum| sum.2).sum();
        let organizations: Vec<&str> = head.scans.iter().map(|scan| scan.organization.as_str()).collect();
        let organizations = escaped(&organizations.join(", "));
        self.tail = evidence(head);
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
             initial-scale=1\">\n<title>{RULE} · {organizations}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{TITLE}</h1>\n\
             <p class=\"faint\">{RULE} · {organizations} · {} · written {} by trustwatch {}</p>\n{}\
             <h2>Accounts × regions</h2>\n<p class=\"faint\">✓ covered · ✗ not covered · ? unknown · – not applicable · framed: exempt</p>\n\
             <div class=\"scroll\"><table class=\"matrix\"><thead><tr><th>account",
            escaped(&head.asked),
            head.made_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            env!("CARGO_PKG_VERSION"),
            summary(head)
        )?;
        for region in &head.regions {
            write!(out, "<th scope=\"col\"><span>{}</span>", escaped(region))?;
        }
        writeln!(out, "</tr></thead><tbody>")
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        self.rows += 1;
        let (organization, account) = (row.text("organization_id"), row.text("account_id"));
        if self.account.as_ref().is_none_or(|(of, id)| of != organization || id != account) {
            self.fill(out)?;
            self.account = Some((organization.to_owned(), account.to_owned()));
            write!(out, "<tr><th scope=\"row\">{} {}", escaped(account), escaped(row.text("account_name")))?;
        }
        // The rows of an account come by region, and every region has a column.
        let region = row.text("region");
        let columns = self.regions.get(self.cells..).unwrap_or_default();
        let Some(skipped) = columns.iter().position(|column| column == region) else {
            // It came between the columns and the rows: no cell may stand under a region that is not its own.
            return Err(io::Error::other(format!(
                "the results changed while they were read ({region}): write the report again"
            )));
        };
        for _ in 0..skipped {
            write!(out, "<td>")?;
        }
        self.cells += skipped + 1;
        let (class, sign) = match row.status()? {
            Status::Covered => ("c", '✓'),
            Status::NotCovered => ("n", '✗'),
            Status::Unknown => ("u", '?'),
            Status::NotApplicable => ("x", '–'),
        };
        let exempt = if row.is_exempt() { " e" } else { "" };
        if row.is_exempt() && self.exempt.len() < LISTED {
            self.exempt.push(format!(
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
                escaped(account),
                escaped(region),
                escaped(row.text("status")),
                escaped(row.text("exemption_reason")),
                escaped(row.text("exemption_expires_at"))
            ));
        } else if row.is_exempt() {
            self.more_exempt += 1;
        }
        write!(
            out,
            "<td class=\"{class}{exempt}\" title=\"{} {}\">{sign}",
            escaped(region),
            escaped(row.text("reason"))
        )
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.fill(out)?;
        if self.rows != self.expected {
            let problem = "the results changed while they were read: write the report again";
            return Err(io::Error::other(problem));
        }
        writeln!(out, "</tbody></table></div>\n<h2>Exceptions</h2>")?;
        if self.exempt.is_empty() {
            writeln!(out, "<p>Nothing is exempt.</p>")?;
        } else {
            writeln!(out, "<table><thead><tr><th>account<th>region<th>status<th>reason<th>ends</tr></thead><tbody>")?;
            for line in &self.exempt {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "</tbody></table>")?;
        }
        if self.more_exempt > 0 {
            writeln!(out, "<p>And {} more, which the matrix marks.</p>", self.more_exempt)?;
        }
        writeln!(out, "{}</body>\n</html>", self.tail)
    }
}

impl Html {
    /// Ends the line of an account.
    fn fill(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.account.take().is_some() {
            for _ in std::mem::take(&mut self.cells)..self.regions.len() {
                write!(out, "<td>")?;
            }
            writeln!(out, "</tr>")?;
        }
        self.cells = 0;
        Ok(())
    }
}
