//! `[tracing]`: where traces go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces of scans, over OTLP: a span for each scan and account; where `log.level` is `debug`, for each call to AWS and each verb of the
/// store, too. Off by default.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// Where spans are sent, as protobuf over HTTP, such as `http://localhost:4318/v1/traces`. Needs a binary that was built
    /// with `--features otlp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "http-url"))]
    pub otlp_endpoint: Option<String>,
    /// Of how many scans traces are sent: 1 for all, 0.1 for every tenth.
    #[schemars(range(min = 0, max = 1))]
    pub sample_ratio: Ratio,
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Ratio(pub f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}
