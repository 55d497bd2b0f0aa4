//! `[http]`: the port for health checks, metrics and pages.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// The port of `trustwatch run`: `/livez`, `/readyz`, `/metrics`, `/buildinfo`, and the pages.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Whether the port is opened at all.
    pub enabled: bool,
    /// The address. Anything but the loopback interface needs `token_file`, or `without_token`.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub listen: SocketAddr,
    /// A file that holds the token which a request must bear (`Authorization: Bearer …`). A request that does not is told the
    /// status alone by `/livez` and `/readyz`, as the probes of Kubernetes need, and is refused everywhere else; a browser is asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// What `token_file` holds.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// Whether everybody who reaches the port may ask everything, beyond the loopback interface, too.
    pub without_token: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            token_file: None,
            token: None,
            without_token: false,
        }
    }
}
