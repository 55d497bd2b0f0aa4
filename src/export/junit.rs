//! `JUnit`'s XML, for pipelines: a suite for each account, a case for each region. A gap is a failure, what could not be read is an
//! error, what is exempt or not applicable is skipped.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Form, Head, Row};
use crate::model::{CONTROLS, RULE, Status};

/// The rows of one account: at most one for each region there is.
#[derive(Default)]
pub struct Junit {
    account: String,
    name: String,
    cases: String,
    tests: u32,
    failures: u32,
    errors: u32,
    skipped: u32,
}

/// A text within XML. What XML 1.0 has no character for is left out.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

impl Junit {
    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let suite = std::mem::take(self);
        if suite.tests == 0 {
            return Ok(());
        }
        let name =
            if suite.name.is_empty() { suite.account.clone() } else { format!("{} {}", suite.account, suite.name) };
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n    <properties>",
            escaped(&name),
            suite.tests,
            suite.failures,
            suite.errors,
            suite.skipped
        )?;
        for (framework, control) in CONTROLS {
            writeln!(out, "      <property name=\"{}\" value=\"{}\"/>", escaped(framework), escaped(control))?;
        }
        write!(out, "    </properties>\n{}  </testsuite>\n", suite.cases)
    }
}

impl Form for Junit {
    fn begin(&mut self, out: &mut dyn Write, _: &Head) -> io::Result<()> {
        writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"trustwatch {RULE}\">")
    }

    fn row(&mut self, out: &mut dyn Write, row: Row) -> io::Result<()> {
        let account = row.text("account_id");
        if account != self.account {
            self.flush(out)?;
            account.clone_into(&mut self.account);
            row.text("account_name").clone_into(&mut self.name);
        }
        self.tests += 1;
        let (sentence, reason) = (escaped(&row.sentence()), escaped(row.text("reason")));
        let inner = match row.status()? {
            _ if row.is_suppressed()? => {
                self.skipped += 1;
                format!("<skipped message=\"{sentence}\"/>")
            }
            Status::Covered => String::new(),
            Status::NotApplicable => {
                self.skipped += 1;
                format!("<skipped message=\"{sentence}\"/>")
            }
            Status::NotCovered => {
                self.failures += 1;
                format!("<failure type=\"{reason}\" message=\"{sentence}\"/>")
            }
            Status::Unknown => {
                self.errors += 1;
                format!("<error type=\"{reason}\" message=\"{sentence}\"/>")
            }
        };
        let region = escaped(row.text("region"));
        let _ =
            writeln!(self.cases, "    <testcase name=\"{region}\" classname=\"{RULE}.{account}\">{inner}</testcase>");
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.flush(out)?;
        writeln!(out, "</testsuites>")
    }
}
