//! Colour where there is a terminal, and numbers that a person can read.

use std::io::IsTerminal;

/// Whether standard output takes colour.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub fn of_stdout() -> Self {
        Self { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what matters most.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what is as it should be.
    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// For what is not.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For what is not known.
    pub fn unsure(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// For what matters least.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// The text without control characters: what AWS or a tag says must not steer the terminal that it is shown on.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// `1,234,567`
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A number of things, as it is shown.
pub fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `1 account`, `2 accounts`.
pub fn counted(number: i64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// A share in per cent with one decimal: only all is 100 %, and only nothing is 0 %.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share > 0.0 && share < 1.0 => format!("{:.1} %", (share * 100.0).clamp(0.1, 99.9)),
        Some(share) => format!("{:.1} %", share * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_per_cent() {
        assert_eq!(percent(Some(0.9999)), "99.9 %");
        assert_eq!(percent(Some(0.0001)), "0.1 %");
        assert_eq!(percent(Some(0.9008)), "90.1 %");
        assert_eq!(percent(Some(1.0)), "100.0 %");
        assert_eq!(percent(None), "–");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "account"), counted(2, "account")], ["1 account", "2 accounts"]);
    }
}
