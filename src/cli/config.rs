//! `trustwatch config`: check it, show it, describe it.

use clap::{Args, Subcommand, ValueEnum};

use chrono::{DateTime, Utc};

use super::{Context, Failure, say};
use crate::alerts::Text;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Mode, json_schema, markdown_reference};

/// Look at the configuration.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration; every fault is reported at once.
    Check,
    /// Print the configuration in effect, secrets redacted.
    Show,
    /// Describe every key.
    Schema {
        /// As a JSON schema for editors, or as the reference in Markdown.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Markdown,
}

impl Config {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        match self.command {
            Command::Check => {
                let loaded = context.load()?;
                let file =
                    loaded.file.map_or_else(|| "defaults and environment".into(), |file| file.display().to_string());
                for (at, alert) in loaded.config.alerts.iter().enumerate() {
                    let fault =
                        |problem| Failure::Usage(format!("alerts[{at}].template of `{}`: {problem}", alert.name));
                    Text::new(alert.template.as_deref()).map_err(fault)?;
                }
                let names: Vec<_> = loaded.config.organizations.iter().map(|one| one.name.as_str()).collect();
                say(&format!("{file}: valid; organizations: {}", names.join(", ")))?;
                for warning in warnings(&loaded.config, SystemClock.now()) {
                    eprintln!("trustwatch: {warning}");
                }
            }
            Command::Show => say(context.load()?.config.to_toml()?.trim_end())?,
            Command::Schema { format: Format::Json } => say(&serde_json::to_string_pretty(&json_schema())?)?,
            Command::Schema { format: Format::Markdown } => say(markdown_reference().trim_end())?,
        }
        Ok(())
    }
}

/// What is no fault, and will surprise somebody.
fn warnings(config: &config::Config, now: DateTime<Utc>) -> Vec<String> {
    let mut warnings = Vec::new();
    for organization in &config.organizations {
        for (at, exemption) in organization.exemptions.iter().enumerate() {
            let key =
                format!("organizations.{}.exemptions[{at}].expires = \"{}\"", organization.name, exemption.expires);
            if exemption.expires.is_over(now) {
                warnings.push(format!("{key}: that is over, so that it exempts nothing"));
            } else if exemption.expires.is_near(now) {
                warnings.push(format!("{key}: that is soon"));
            }
        }
    }
    let remediation = &config.remediation;
    if remediation.mode == Mode::Plan && !remediation.plan_folder.is_dir() {
        let folder = remediation.plan_folder.display();
        warnings.push(format!(
            "remediation.plan_folder = \"{folder}\": there is no such folder here, so that no plan can be written"
        ));
    }
    warnings
}
