//! Values that carry their unit or their secrecy with them.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written with its unit: `"30s"`, `"15m"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self(Duration::from_hours(days * 24))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 3600;
        let seconds = self.0.as_secs();
        // Whole days stay days: months and years have no fixed length.
        if seconds >= DAY && seconds.is_multiple_of(DAY) && self.0.subsec_nanos() == 0 {
            return write!(f, "{}days", seconds / DAY);
        }
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for TimeSpan {
    fn schema_name() -> Cow<'static, str> {
        "TimeSpan".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}

/// A secret: never printed, and wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// Reads a secret that a file holds, without the end of its line. Where the file cannot be read, as those of root cannot by a service
    /// of systemd, the credential of its name that the service was handed (`LoadCredential=`, systemd.exec(5)).
    ///
    /// # Errors
    /// Where neither can be read.
    pub fn read(file: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(file).or_else(|error| {
            let handed = std::env::var_os("CREDENTIALS_DIRECTORY").zip(file.file_name());
            handed.and_then(|(folder, name)| std::fs::read_to_string(Path::new(&folder).join(name)).ok()).ok_or(error)
        })?;
        Ok(Self::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Takes a secret from its file, where the configuration names one instead of the secret itself: the keys `name` and
    /// `name_file`.
    ///
    /// # Errors
    /// The value of `name_file` to show, and what is wrong with it.
    pub(super) fn resolve(
        secret: &mut Option<Self>,
        file: Option<&PathBuf>,
        name: &str,
    ) -> Result<(), (Option<String>, String)> {
        let Some(file) = file else { return Ok(()) };
        if secret.is_some() {
            return Err((None, format!("both `{name}` and `{name}_file` are set; keep one")));
        }
        match Self::read(file) {
            Ok(read) => *secret = Some(read),
            Err(error) => {
                return Err((Some(format!("\"{}\"", file.display())), format!("the file cannot be read: {error}")));
            }
        }
        Ok(())
    }

    /// The secret itself: for the request that needs it, and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }
}
