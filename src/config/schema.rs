//! Holds a configuration against its JSON schema, so that every misspelt key and every wrong type is reported at once.

use serde_json::Value;

use super::origin::{Fault, Origins, Path, shown};
use super::validate::check_format;

/// Collects the faults of one configuration.
pub struct Checker<'a> {
    /// The schema of the whole.
    pub root: &'a Value,
    /// Where values came from.
    pub origins: &'a Origins,
    /// What was found.
    pub faults: Vec<Fault>,
    /// Where.
    pub faulty: Vec<Path>,
}

impl Checker<'_> {
    /// Checks a value and all below it.
    pub fn check(&mut self, schema: &Value, value: &Value, path: &Path) {
        let schema = resolve(self.root, schema);
        if let Some(choices) = schema["anyOf"].as_array() {
            self.check_choices(schema, choices, value, path);
            return;
        }
        if let Some(words) = words_of(schema) {
            if !words.contains(&value) {
                let words: Vec<_> = words.iter().map(ToString::to_string).collect();
                self.fault(schema, value, path, format!("expected one of {}", words.join(", ")));
            }
            return;
        }
        if !types_of(schema).iter().any(|name| is_of_type(value, name)) {
            let problem = format!("expected {}, found {}", expectation(self.root, schema), kind_of(value));
            self.fault(schema, value, path, problem);
            return;
        }
        match value {
            Value::Object(members) => self.check_object(schema, members, path),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(&schema["items"], item, &with(path, &index.to_string()));
                }
            }
            Value::String(text) => {
                if let Some(Err(problem)) = schema["format"].as_str().map(|format| check_format(format, text)) {
                    self.fault(schema, value, path, problem);
                }
            }
            Value::Number(number) => self.check_range(schema, number.as_f64().unwrap_or_default(), value, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// `organizations` is a table by name while layers are merged.
    pub fn check_organizations(&mut self, organizations: &serde_json::Map<String, Value>) {
        let root = self.root;
        let item = &root["properties"]["organizations"]["items"];
        for (key, organization) in organizations {
            let path = vec!["organizations".to_owned(), key.clone()];
            let mut organization = organization.clone();
            if let Some(members) = organization.as_object_mut() {
                members.shift_remove("#");
            }
            self.check(item, &organization, &path);
        }
    }

    fn check_object(&mut self, schema: &Value, members: &serde_json::Map<String, Value>, path: &Path) {
        for (key, member) in members {
            let path = with(path, key);
            if path.len() == 1 && key == "organizations" {
                match member {
                    Value::Object(organizations) => self.check_organizations(organizations),
                    other => self.fault(schema, other, &path, "expected a list of tables, [[organizations]]".into()),
                }
            } else if let Some(known) = schema["properties"].get(key) {
                self.check(known, member, &path);
            } else if let Some(names) =
                words_of(&schema["propertyNames"]).filter(|names| !names.contains(&&Value::from(key.as_str())))
            {
                self.unknown(&path, key, names.into_iter().filter_map(Value::as_str));
            } else if schema["additionalProperties"].is_object() {
                self.check(&schema["additionalProperties"], member, &path);
            } else {
                let known = schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys);
                self.unknown(&path, key, known.map(String::as_str));
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(required) {
                let origin = self.origins.of(path);
                let problem = format!("the key `{required}` is missing");
                self.faults.push(Fault { key: shown(path), value: None, origin, problem });
                self.faulty.push(path.clone());
            }
        }
    }

    fn check_choices(&mut self, schema: &Value, choices: &[Value], value: &Value, path: &Path) {
        let fitting = choices.iter().find(|choice| {
            let choice = resolve(self.root, choice);
            words_of(choice).is_some_and(|words| words.contains(&value))
                || (words_of(choice).is_none() && types_of(choice).iter().any(|name| is_of_type(value, name)))
        });
        match fitting {
            Some(choice) => self.check(choice, value, path),
            None => {
                let problem = format!("expected {}", expectation(self.root, schema));
                self.fault(schema, value, path, problem);
            }
        }
    }

    fn check_range(&mut self, schema: &Value, number: f64, value: &Value, path: &Path) {
        let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let (low, high) = (low.unwrap_or(f64::MIN), high.unwrap_or(f64::MAX));
            self.fault(schema, value, path, format!("expected a number from {low} to {high}"));
        }
    }

    fn fault(&mut self, schema: &Value, value: &Value, path: &Path, problem: String) {
        let is_secret = schema["writeOnly"] == Value::Bool(true);
        let written = date_of(value).map_or_else(|| value.to_string(), str::to_owned);
        let value = if is_secret { "[redacted]".to_owned() } else { written };
        let origin = self.origins.of(path);
        self.faults.push(Fault { key: shown(path), value: Some(value), origin, problem });
        self.faulty.push(path.clone());
    }

    fn unknown<'k>(&mut self, path: &Path, key: &str, known: impl Iterator<Item = &'k str>) {
        let origin = self.origins.of(path);
        let problem = unknown_key(key, known);
        self.faults.push(Fault { key: shown(path), value: None, origin, problem });
        self.faulty.push(path.clone());
    }
}

/// What to say of a key that is not known: the nearest that is, or all of them.
pub fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.collect();
    match known.iter().map(|candidate| (distance(key, candidate), candidate)).min() {
        Some((far, nearest)) if far <= (key.len() / 3).max(1) => format!("unknown key; did you mean `{nearest}`?"),
        _ => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// Levenshtein's distance: how many letters to change, add or drop.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Follows a reference within the schema.
pub fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(schema),
        None => schema,
    }
}

/// The schema itself, or the one choice of an optional value that is not null.
pub fn not_null<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let schema = resolve(root, schema);
    let choices = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    match choices {
        [choice, Value::Object(null)] if null.get("type") == Some(&Value::from("null")) => resolve(root, choice),
        _ => schema,
    }
}

/// The words of an enumeration.
pub fn words_of(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().collect());
    }
    let choices = schema["oneOf"].as_array()?;
    choices.iter().map(|choice| choice.get("const")).collect()
}

/// The types that a schema allows.
pub fn types_of(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) if date_of(value).is_some() => "a date without quotes",
        Value::Object(_) => "a table",
    }
}

/// A date of TOML's own, which its parser hands on as a table with a name that it made up.
fn date_of(value: &Value) -> Option<&str> {
    value.get("$__toml_private_datetime")?.as_str()
}

/// What a schema expects, for a person.
pub fn expectation(root: &Value, schema: &Value) -> String {
    let schema = not_null(root, schema);
    if let Some(words) = words_of(schema) {
        return words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(|choice| expectation(root, choice)).collect::<Vec<_>>().join(" or ");
    }
    let one = match types_of(schema).first().copied() {
        Some("string") if schema["format"] == "expiry" => "a day in quotes, such as \"2027-03-31\"",
        Some("string") if schema["format"] == "duration" => "a duration such as \"30s\" or \"15m\"",
        Some("string") => "a string",
        Some("boolean") => "true or false",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("array") => return format!("a list of {}", plural(&expectation(root, &schema["items"]))),
        Some("object") => "a table",
        _ => "something else",
    };
    one.to_owned()
}

fn plural(one: &str) -> String {
    match one.strip_prefix("a ") {
        Some(noun) => format!("{noun}s"),
        None => one.to_owned(),
    }
}

fn with(path: &Path, step: &str) -> Path {
    let mut path = path.clone();
    path.push(step.to_owned());
    path
}
