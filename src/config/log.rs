//! `[log]`: what is logged, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is logged, and how. Logs go to standard error.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,trustwatch=debug`. Without one: `info`
    /// for `trustwatch run`, `warn` for every other command. The AWS SDK and the HTTP client stay at `warn` unless they
    /// are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "log-filter"))]
    pub level: Option<String>,
    /// How a line is written.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// `json` for `trustwatch run` where there is no terminal, else `text`.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}
