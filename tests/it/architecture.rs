//! The dependency rule, held by reading the `use` lines.

use std::path::{Path, PathBuf};

/// Each part, and the parts that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("evaluate", &["model"]),
    ("config", &["model"]),
    ("metrics", &["model"]),
    ("aws", &["model", "config"]),
    ("store", &["model", "evaluate", "config"]),
    ("scan", &["model", "clock", "evaluate", "config", "metrics", "aws", "store"]),
    ("alerts", &["model", "clock", "config", "metrics", "aws", "store"]),
    ("export", &["model", "config", "store"]),
    ("remediate", &["model", "config", "aws", "store", "scan"]),
    ("security_hub", &["model", "config", "aws", "store", "scan", "export"]),
    ("schedule", &["model", "config", "scan", "remediate", "store"]),
    ("glance", &["model", "store"]),
    ("health", &["clock", "metrics", "aws", "store", "scan", "schedule"]),
    ("http", &["model", "clock", "config", "metrics", "store", "glance", "health"]),
    ("telemetry", &["config"]),
    ("lifecycle", &[]),
    (
        "daemon",
        &[
            "alerts",
            "clock",
            "config",
            "metrics",
            "aws",
            "store",
            "scan",
            "schedule",
            "remediate",
            "health",
            "http",
            "lifecycle",
        ],
    ),
    (
        "cli",
        &[
            "alerts",
            "glance",
            "model",
            "clock",
            "config",
            "aws",
            "store",
            "scan",
            "schedule",
            "remediate",
            "export",
            "security_hub",
            "daemon",
            "lifecycle",
            "telemetry",
        ],
    ),
];

/// Each dependency that has one home.
const HOMES: &[(&str, &[&str])] = &[
    ("aws_", &["aws"]),
    ("sqlx", &["store"]),
    ("figment", &["config"]),
    ("std::env::var", &["config", "cli"]),
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("tokio_cron_scheduler", &["schedule"]),
    ("clap", &["cli"]),
    ("reqwest", &["alerts", "telemetry"]),
    ("lettre", &["alerts", "config"]),
    ("askama", &["http"]),
    ("minijinja", &["alerts", "config"]),
    ("anyhow", &["cli", "daemon", "lifecycle", "metrics", "schedule", "telemetry"]),
    ("governor", &["scan"]),
    ("metrics_exporter_prometheus", &["metrics"]),
    ("use ::metrics", &["metrics"]),
    ("opentelemetry", &["telemetry"]),
    ("sd_notify", &["lifecycle", "daemon"]),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part that a file belongs to, and its code.
fn parts() -> Vec<(String, PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    found
        .into_iter()
        .map(|path| {
            let within = path.strip_prefix(&source).unwrap().to_path_buf();
            let first = within.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (first.trim_end_matches(".rs").to_owned(), within, text)
        })
        .collect()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn parts_use_only_what_they_may() {
    let mut checked = 0;
    for (part, path, text) in parts() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == part) else {
            assert!(["main", "lib"].contains(&part.as_str()), "{}: a part that the rule does not name", path.display());
            continue;
        };
        for line in code(&text) {
            let all: Vec<&str> = line.match_indices("crate::").map(|(at, word)| &line[at + word.len()..]).collect();
            for used in all {
                let names: Vec<&str> = match used.strip_prefix('{') {
                    Some(list) => list.split(['}', ',']).map(str::trim).collect(),
                    None => vec![used],
                };
                for name in names {
                    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if MAY_USE.iter().any(|(known, _)| *known == name) && name != part {
                        checked += 1;
                        assert!(
                            allowed.contains(&name.as_str()),
                            "{}: `{part}` may not use `{name}`: {line}",
                            path.display()
                        );
                    }
                }
            }
        }
    }
    assert!(checked > 50, "the test reads the code: {checked} uses");
}

#[test]
fn each_dependency_has_one_home() {
    for (part, path, text) in parts() {
        for line in code(&text) {
            for (dependency, homes) in HOMES {
                let is_used = line.contains(&format!("{dependency}::"))
                    || (dependency.ends_with(['_', 'r']) && names(line, dependency));
                assert!(
                    !is_used || homes.contains(&part.as_str()),
                    "{}: {dependency} belongs to {homes:?}: {line}",
                    path.display()
                );
            }
        }
    }
}

/// Whether a line of code begins a path with this prefix, as `aws_config::` with `aws_`.
fn names(line: &str, prefix: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(prefix).any(|(at, _)| {
        let starts = !line[..at].ends_with(|c| is_word(c) || c == '"' || c == ':');
        let rest: String = line[at..].chars().take_while(|c| is_word(*c)).collect();
        starts && line[at + rest.len()..].starts_with("::")
    })
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        files(&root.join(folder), &mut found);
    }
    for path in found {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}
