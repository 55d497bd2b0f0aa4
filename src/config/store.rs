//! `[store]`: where results are kept, and for how long.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, TimeSpan};

/// Where results are kept.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `sqlite://FILE`, relative to the working directory (WAL mode is used, so the file must not be on a network file
    /// system), or `postgres://USER@HOST/DATABASE`. Of Postgres, the server must prove who it is unless the URL says
    /// otherwise: `?sslmode=` verify-full | verify-ca | require | disable, `sslrootcert=`, `sslcert=` and `sslkey=` are as
    /// in libpq. No password here: see `password_file`.
    pub url: String,
    /// The password of the Postgres user. Better from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file that holds the password of the Postgres user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The Postgres schema that holds the tables and views: lower-case letters, digits and underscores. It is made where it
    /// is missing and the user may.
    pub schema: String,
    /// Whether `scan` and `run` bring the schema up to date when they start. Where it is off, `trustwatch migrate` does,
    /// and an outdated schema is refused.
    pub migrate_on_start: bool,
    /// How long a scan waits for a database that is away, before it ends as `incomplete`.
    pub max_outage: TimeSpan,
    /// How long a process of several that share a Postgres database may say nothing before the others take over the accounts
    /// that it was visiting.
    pub lease: TimeSpan,
    /// How long each kind of record is kept.
    pub retention: Retention,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite://trustwatch.db".into(),
            password: None,
            password_file: None,
            schema: "trustwatch".into(),
            migrate_on_start: true,
            max_outage: TimeSpan::seconds(10 * 60),
            lease: TimeSpan::seconds(30),
            retention: Retention::default(),
        }
    }
}

impl Store {
    /// The store that a URL names, everything else as by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Whether the URL names a Postgres server, and no SQLite file.
    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres:") || self.url.starts_with("postgresql:")
    }

    /// The URL as it may be shown: without a password, should one be in it.
    pub fn shown_url(&self) -> String {
        // A file's name holds no password, whatever it looks like.
        if self.url.starts_with("sqlite:") {
            return self.url.clone();
        }
        match url::Url::parse(&self.url) {
            Ok(mut parsed) if !parsed.path().contains('@') && parsed.fragment().is_none() => {
                if parsed.password().is_some() {
                    let _ = parsed.set_password(Some("redacted"));
                }
                let secret = |key: &str| key.to_ascii_lowercase().contains("password");
                if parsed.query_pairs().any(|(key, _)| secret(&key)) {
                    let shown: Vec<(String, String)> = parsed
                        .query_pairs()
                        .map(|(key, value)| {
                            let value = if secret(&key) { "redacted".into() } else { value.into_owned() };
                            (key.into_owned(), value)
                        })
                        .collect();
                    parsed.query_pairs_mut().clear().extend_pairs(shown);
                }
                parsed.to_string()
            }
            // What is not read as it was meant may hold a password anywhere before its last `@`.
            _ => match self.url.rsplit_once('@') {
                Some((_, rest)) => format!("…@{rest}"),
                None => self.url.clone(),
            },
        }
    }

    /// What is wrong with the URL, if anything, and what would be right.
    pub fn problem(&self) -> Option<&'static str> {
        match self.url.split_once(':') {
            Some(("sqlite", rest)) if rest.contains(":memory:") => {
                Some("a store in memory forgets; expected a file, such as \"sqlite://trustwatch.db\"")
            }
            Some(("sqlite", rest)) if !rest.trim_start_matches('/').is_empty() => None,
            Some(("sqlite", _)) => Some("no file is named; expected one such as \"sqlite://trustwatch.db\""),
            Some(("postgres" | "postgresql", _)) => postgres_problem(&self.url),
            _ => Some("a store of unknown kind; expected \"sqlite://FILE\" or \"postgres://USER@HOST/DATABASE\""),
        }
    }

    /// What is wrong with the schema's name, if anything.
    pub fn schema_problem(&self) -> Option<&'static str> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = self.schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        (!begins || !self.schema.chars().all(fits) || self.schema.len() > 63)
            .then_some("expected lower-case letters, digits and underscores, beginning with no digit, at most 63")
    }
}

/// What is wrong with a URL of Postgres.
fn postgres_problem(url: &str) -> Option<&'static str> {
    const MODES: [&str; 4] = ["disable", "require", "verify-ca", "verify-full"];
    const KNOWN: [&str; 12] = [
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "application_name",
        "statement-cache-capacity",
        "options",
    ];
    let Ok(parsed) = url::Url::parse(url) else {
        return Some("not a URL; expected one such as \"postgres://USER@HOST/DATABASE\"");
    };
    let has = |wanted: &str| parsed.query_pairs().any(|(key, _)| key == wanted);
    if parsed.password().is_some() || has("password") {
        return Some("it holds a password, which would be shown; name a file that holds it");
    }
    if parsed.path().trim_start_matches('/').is_empty() && !has("dbname") {
        return Some("no database is named; expected one such as \"postgres://USER@HOST/DATABASE\"");
    }
    if parsed.query_pairs().any(|(key, mode)| key == "sslmode" && !MODES.contains(&mode.as_ref())) {
        return Some("its sslmode is not one of verify-full, verify-ca, require and disable");
    }
    if parsed.query_pairs().any(|(key, _)| !KNOWN.contains(&key.as_ref()) && !key.starts_with("options[")) {
        return Some(
            "it has a parameter that is not known; known: sslmode, sslrootcert, sslcert, sslkey, host, port, dbname, user",
        );
    }
    None
}

/// How long each kind of record is kept. `trustwatch run` deletes the rest once a day, `trustwatch prune` whenever it is asked. Scans,
/// their counts and trends are kept for ever.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long every visit is kept.
    pub visits: TimeSpan,
    /// How long one visit of each account and day is kept, as an auditor's evidence that somebody looked.
    pub daily_visits: TimeSpan,
    /// How long intervals of the history are kept after they ended. Without it: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<TimeSpan>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { visits: TimeSpan::days(90), daily_visits: TimeSpan::days(400), history: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_wherever_it_stands() {
        for (url, shown) in [
            ("postgres://me@db/x", "postgres://me@db/x"),
            ("postgres://me:hunter2@db/x", "postgres://me:redacted@db/x"),
            (
                "postgres://me@db/x?sslmode=require&password=hunter2",
                "postgres://me@db/x?sslmode=require&password=redacted",
            ),
            ("postgres://me:12/hunter2@db/x", "…@db/x"),
            ("sqlite://trustwatch.db", "sqlite://trustwatch.db"),
        ] {
            assert_eq!(Store::at(url).shown_url(), shown);
            assert!(!shown.contains("hunter2"));
        }
    }
}
