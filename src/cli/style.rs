//! Colour where there is a terminal.

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
