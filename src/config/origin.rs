//! Faults in a configuration, and where each value came from.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use toml_edit::{ImDocument, Item, TableLike};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `organizations.main.member_role`.
    pub key: String,
    /// The value as it was written; `[redacted]` for a secret.
    pub value: Option<String>,
    /// The file and line, the variable or the flag; `None` for a default.
    pub origin: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a fault")?,
            count => write!(f, "the configuration has {count} faults")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// A key as its steps; an index of a list is a step of digits.
pub type Path = Vec<String>;

/// The key as it is shown: `a.b[0].c`.
pub fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if !text.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            let _ = write!(text, "[{step}]");
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(step);
        }
    }
    text
}

/// Where the values of a configuration came from.
#[derive(Debug, Default)]
pub struct Origins {
    /// The file, its text, and the text's structure.
    pub file: Option<(PathBuf, ImDocument<String>)>,
    /// The keys of the organizations, in the order of the file.
    pub organizations: Vec<String>,
    /// Key → the variable or flag that set it; later layers replace earlier ones.
    pub above: BTreeMap<String, String>,
}

impl Origins {
    /// The origin of a key: the last layer that set it, or the nearest table around it.
    pub fn of(&self, path: &[String]) -> Option<String> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.above.get(&shown(&path[..length])).cloned())
            .or_else(|| self.line_of(path))
    }

    fn line_of(&self, path: &[String]) -> Option<String> {
        let (name, document) = self.file.as_ref()?;
        let mut span = None;
        let mut at = Node::Table(document.as_table());
        let mut in_organizations = false;
        for step in path.iter().map(String::as_str) {
            let position = match step.parse::<usize>() {
                Ok(position) => Some(position),
                Err(_) if in_organizations => self.organizations.iter().position(|key| key == step),
                Err(_) => None,
            };
            let Some((next, next_span)) = at.step(step, position) else { break };
            in_organizations = step == "organizations" && span.is_none();
            span = next_span.or(span);
            at = next;
        }
        let line = document.raw().get(..span?.start)?.matches('\n').count() + 1;
        Some(format!("{}, line {line}", name.display()))
    }
}

enum Node<'a> {
    Table(&'a dyn TableLike),
    Item(&'a Item),
    Value(&'a toml_edit::Value),
}

impl<'a> Node<'a> {
    fn step(self, key: &str, position: Option<usize>) -> Option<(Node<'a>, Option<std::ops::Range<usize>>)> {
        match self {
            Self::Table(table) => {
                let (key, item) = table.get_key_value(key)?;
                Some((Self::Item(item), key.span()))
            }
            Self::Item(Item::ArrayOfTables(tables)) => {
                let table = tables.get(position?)?;
                Some((Self::Table(table), table.span()))
            }
            Self::Item(Item::Table(table)) => Self::Table(table).step(key, position),
            Self::Item(Item::Value(value)) => Self::Value(value).step(key, position),
            Self::Value(toml_edit::Value::InlineTable(table)) => Self::Table(table).step(key, position),
            Self::Value(toml_edit::Value::Array(array)) => {
                let value = array.get(position?)?;
                Some((Self::Value(value), value.span()))
            }
            Self::Item(Item::None) | Self::Value(_) => None,
        }
    }
}
