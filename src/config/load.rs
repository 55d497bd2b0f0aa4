//! Brings the layers together: file < environment < flags, over the defaults.

use std::path::{Path as FilePath, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use toml_edit::ImDocument;

use super::origin::{Fault, Faults, Origins, shown};
use super::schema::{Checker, not_null, types_of, unknown_key, words_of};
use super::{Config, json_schema, validate};

/// The environment variable that names the file, instead of `--config`.
pub const FILE_VARIABLE: &str = "TRUSTWATCH_CONFIG";

/// The prefix of our environment variables.
const PREFIX: &str = "TRUSTWATCH_";

/// The file that is read where none is named, if it is there.
const DEFAULT_FILE: &str = "trustwatch.toml";

/// Where a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that was asked for. Without one: `trustwatch.toml` in the working directory, if it exists.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags that set a key: the flag, the key, the value.
    pub flags: Vec<(String, String, String)>,
}

/// A configuration that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that it was read from, if any.
    pub file: Option<PathBuf>,
}

/// Reads, merges and checks a configuration.
///
/// # Errors
/// All faults at once.
pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
    let schema = json_schema();
    let mut origins = Origins::default();
    let mut faults = Vec::new();

    let file = match &sources.file {
        Some(file) => Some(file.clone()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
    };
    let mut figment = Figment::new();
    if let Some(file) = &file {
        let layer = read_file(file, &mut origins, &mut faults).map_err(|fault| Faults(vec![fault]))?;
        figment = figment.merge(layer);
    }
    if origins.organizations.is_empty() {
        origins.organizations.push("main".to_owned());
        figment = figment.merge(Layer::new("default", default_organization("main")));
    }
    for (variable, text) in &sources.environment {
        let Some(path) = path_of(variable) else { continue };
        match find_key(&schema, &origins, &path) {
            Err(problem) => faults.push(Fault {
                key: shown(&path),
                value: None,
                origin: Some(format!("environment variable {variable}")),
                problem,
            }),
            Ok(key_schema) => {
                let value = parse_as(&schema, key_schema, text);
                origins.above.insert(shown(&path), format!("environment variable {variable}"));
                figment = figment.merge(Layer::new(variable, figment::util::nest(&path.join("."), value)));
            }
        }
    }
    for (flag, key, value) in &sources.flags {
        origins.above.insert(key.clone(), format!("flag {flag}"));
        figment = figment.merge(Layer::new(flag, figment::util::nest(key, Value::from(value.as_str()))));
    }

    let merged: serde_json::Value = figment.extract().map_err(|error| Faults(vec![unreadable(&error.to_string())]))?;
    let mut checker = Checker { root: &schema, origins: &origins, faults, faulty: Vec::new() };
    checker.check(&schema, &merged, &Vec::new());
    let Checker { mut faults, faulty, .. } = checker;
    faults.extend(validate::exemptions_for_nobody(&merged, &origins));
    // What is at fault is left out, so that the rest can be checked as well.
    let mut sound = merged;
    for path in &faulty {
        remove(&mut sound, path);
    }
    match serde_json::from_value::<Config>(sound) {
        Ok(mut config) => {
            faults.extend(validate::validate(&mut config, &origins));
            if faults.is_empty() {
                return Ok(Loaded { config, file });
            }
        }
        Err(error) if faults.is_empty() => faults.push(unreadable(&error.to_string())),
        Err(_) => {}
    }
    Err(Faults(faults))
}

/// Takes a value out of a tree; an item of a list takes the list with it, so that the other indices stay right.
fn remove(tree: &mut serde_json::Value, path: &[String]) {
    let pointer = |depth: usize| path[..depth].iter().fold(String::new(), |pointer, step| pointer + "/" + step);
    let first_list =
        (0..path.len()).find(|depth| tree.pointer(&pointer(*depth)).is_some_and(serde_json::Value::is_array));
    let depth = first_list.unwrap_or(path.len());
    let Some(last) = depth.checked_sub(1) else { return };
    if let Some(serde_json::Value::Object(members)) = tree.pointer_mut(&pointer(last)) {
        members.shift_remove(&path[last]);
    }
}

fn unreadable(problem: &str) -> Fault {
    Fault { key: "configuration".into(), value: None, origin: None, problem: problem.to_owned() }
}

/// One layer for figment: a table, and the name of where it came from.
struct Layer {
    name: String,
    value: Value,
}

impl Layer {
    fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.value.clone().into_dict().unwrap_or_default()))
    }
}

fn read_file(file: &FilePath, origins: &mut Origins, faults: &mut Vec<Fault>) -> Result<Layer, Fault> {
    let shown_file = file.display().to_string();
    let is_variable = std::env::var_os(FILE_VARIABLE).is_some_and(|value| value == file.as_os_str());
    let text = std::fs::read_to_string(file).map_err(|error| Fault {
        key: "--config".into(),
        value: Some(format!("\"{shown_file}\"")),
        origin: is_variable.then(|| format!("environment variable {FILE_VARIABLE}")),
        problem: format!("the file cannot be read: {error}"),
    })?;
    let document = ImDocument::parse(text.clone()).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Fault {
            key: "--config".into(),
            value: Some(format!("\"{shown_file}\"")),
            origin: Some(format!("{shown_file}, line {line}")),
            problem: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
        }
    })?;
    let parsed = Toml::string(&text).data().map_err(|error| unreadable(&error.to_string()))?;
    let mut table = parsed.into_values().next().unwrap_or_default();
    origins.file = Some((file.to_owned(), document));
    let organizations = table.remove("organizations");
    if let Some(other) = organizations.as_ref().filter(|value| !matches!(value, Value::Array(..))) {
        let path = vec!["organizations".to_owned()];
        let origin = origins.of(&path);
        let found = if matches!(other, Value::Dict(..)) { "[organizations]" } else { "a value" };
        let problem = format!("expected a list of tables, [[organizations]], found {found}");
        faults.push(Fault { key: shown(&path), value: None, origin, problem });
    }
    if let Some(Value::Array(tag, list)) = organizations {
        let mut by_name = Dict::new();
        for (position, item) in list.into_iter().enumerate() {
            let organization = item.into_dict().unwrap_or_default();
            let name = organization.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let is_second = by_name.contains_key(&key_of(&name));
            let key = if name.is_empty() || is_second { position.to_string() } else { key_of(&name) };
            origins.organizations.push(key.clone());
            let path = vec!["organizations".to_owned(), key.clone()];
            if name.is_empty() {
                let origin = origins.of(&path);
                let problem = "the key `name` is missing: every organization needs a name of its own".to_owned();
                faults.push(Fault { key: shown(&path), value: None, origin, problem });
            } else if is_second {
                let problem = "a second organization of this name; names must differ in more than case and punctuation"
                    .to_owned();
                let (key, origin) = (shown(&path), origins.of(&path));
                faults.push(Fault { key, value: Some(format!("\"{name}\"")), origin, problem });
            }
            by_name.insert(key.clone(), numbered(position, organization));
        }
        table.insert("organizations".into(), Value::Dict(tag, by_name));
    }
    Ok(Layer::new(&shown_file, Value::from(table)))
}

/// An organization with its place in the file.
fn numbered(position: usize, mut organization: Dict) -> Value {
    organization.insert("#".into(), Value::from(position));
    Value::from(organization)
}

fn default_organization(name: &str) -> Value {
    let organization = numbered(0, Dict::from([("name".into(), Value::from(name))]));
    figment::util::nest(&format!("organizations.{name}"), organization)
}

/// An organization's name as it stands in a key and, in capitals, in a variable.
pub fn key_of(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// The key that a variable sets; `None` for a variable that is not ours: another prefix, the variables of our own flags,
/// and those that Kubernetes puts into every pod beside a Service named `trustwatch`.
fn path_of(variable: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix(PREFIX)?;
    let from_kubernetes = rest == "SERVICE_HOST"
        || rest == "PORT"
        || rest.starts_with("SERVICE_PORT")
        || (rest.starts_with("PORT_") && !rest.contains("__"));
    let of_a_flag = rest == "CONFIG";
    if from_kubernetes || of_a_flag {
        return None;
    }
    Some(rest.to_ascii_lowercase().split("__").map(str::to_owned).collect())
}

fn find_key<'s>(
    schema: &'s serde_json::Value,
    origins: &Origins,
    path: &[String],
) -> Result<&'s serde_json::Value, String> {
    let (start, path) = match path {
        [first, name, rest @ ..] if first == "organizations" && !rest.is_empty() => {
            if !origins.organizations.contains(name) {
                let known = origins.organizations.join(", ");
                return Err(format!("no organization is named `{name}`; configured: {known}"));
            }
            (&schema["properties"]["organizations"]["items"], rest)
        }
        _ => (schema, path),
    };
    if path.first().is_some_and(|first| first == "alerts") && path.len() > 1 {
        return Err("channels are a list, which only the file has; there secrets are read from files: `url_file`, `secret_file`".to_owned());
    }
    let mut at = not_null(schema, start);
    for step in path {
        let next = at["properties"].get(step).filter(|_| step != "organizations");
        let Some(next) = next else {
            let known = at["properties"].as_object().into_iter().flat_map(serde_json::Map::keys);
            let hint = unknown_key(step, known.map(String::as_str));
            let levels = if path.len() == 1 { "; levels are separated by two underscores" } else { "" };
            return Err(format!("{hint}{levels}"));
        };
        at = not_null(schema, next);
    }
    Ok(at)
}

/// A variable's text as the type that its key has. A string stays as it is: an account id keeps its leading zeros.
fn parse_as(root: &serde_json::Value, schema: &serde_json::Value, text: &str) -> Value {
    let schema = not_null(root, schema);
    let is_text = types_of(schema).contains(&"string") || words_of(schema).is_some();
    if is_text {
        return Value::from(text);
    }
    let is_list = |schema: &serde_json::Value| types_of(schema).contains(&"array");
    let may_be_list = is_list(schema) || schema["anyOf"].as_array().is_some_and(|choices| choices.iter().any(is_list));
    let is_word =
        schema["anyOf"].as_array().into_iter().flatten().filter_map(words_of).flatten().any(|word| word == text);
    if may_be_list && !is_word && !text.trim_start().starts_with('[') {
        return Value::from(text.split(',').map(str::trim).collect::<Vec<_>>());
    }
    let parsed = format!("value = {text}").parse::<toml_edit::DocumentMut>().ok();
    let parsed = parsed.and_then(|document| toml_edit::de::from_document::<Dict>(document).ok());
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(text))
}

/// The variables of this process that may set a key.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}
