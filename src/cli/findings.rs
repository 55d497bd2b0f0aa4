//! `trustwatch findings`: the review of findings.

use std::collections::BTreeSet;

use clap::{Args, Subcommand, ValueEnum};

use super::query;
use super::style::clean;
use super::{Context, Failure, chosen, load_quietly, say};
use crate::config::{Detail, Loaded};
use crate::daemon::Shared;
use crate::model::{AccountId, counted};
use crate::remediate::{self, Change, Reviewed};
use crate::store::query::{among, ask, literal};
use crate::store::{self, Access, Cell, HeldFinding, Store};

/// Review findings: list them, archive what is intended, restore what is not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    trustwatch findings list --public\n  \
    trustwatch findings show 0f8fad5b-d9cb-469f-a165-70867728950e\n  \
    trustwatch findings archive 0f8fad5b-d9cb-469f-a165-70867728950e --reason \"the partner's role, agreed\"\n  \
    trustwatch findings list --type AWS::SQS::Queue --format ids | xargs -r trustwatch findings archive --reason \"…\"\n\n\
    They are in the store where the configuration has `findings.detail = \"active\"` or `\"all\"`; `remediation.role` archives them.")]
pub struct Findings {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List findings as they were last read.
    List(List),
    /// Show one, with its history and what was done to it.
    Show {
        /// Its id.
        id: String,
    },
    /// Archive findings that are intended. Recorded in `remediation_actions`.
    Archive(Review),
    /// Make archived findings active again. Recorded likewise.
    Restore(Review),
}

#[derive(Debug, Args)]
struct List {
    /// Only this organization.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Only resources of these accounts.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    account: Vec<String>,
    /// Only these regions.
    #[arg(long, value_name = "REGION", value_delimiter = ',')]
    region: Vec<String>,
    /// Only resources of these types, as AWS spells them.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    resource_type: Vec<String>,
    /// Only these statuses.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Status::Active])]
    status: Vec<Status>,
    /// Only public access.
    #[arg(long)]
    public: bool,
    /// Only resources whose ARN contains this.
    #[arg(long, value_name = "TEXT")]
    resource: Option<String>,
    /// How they are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Active,
    Archived,
    Resolved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
    /// An id on each line.
    Ids,
}

#[derive(Debug, Args)]
struct Review {
    /// Their ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Why: it is recorded with who and when.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Findings {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        match self.command {
            Command::List(list) => list.run(&loaded).await,
            Command::Show { id } => show(&loaded, &id).await,
            Command::Archive(review) => review.run(&loaded, Change::Archive).await,
            Command::Restore(review) => review.run(&loaded, Change::Restore).await,
        }
    }
}

impl List {
    async fn run(self, loaded: &Loaded) -> Result<(), Failure> {
        if self.organization.is_some() {
            chosen(loaded, self.organization.as_deref())?;
        }
        for id in &self.account {
            id.parse::<AccountId>().map_err(|error| Failure::Usage(format!("--account: {error}")))?;
        }
        let sql = self.sql();
        let store = store::open(&loaded.config.store, Access::Read).await?;
        let printed = match self.format {
            Format::Table => query::print(store.as_ref(), &sql, query::Format::Table).await,
            Format::Csv => query::print(store.as_ref(), &sql, query::Format::Csv).await,
            Format::Json => query::print(store.as_ref(), &sql, query::Format::Json).await,
            Format::Ids => match ask(store.as_ref(), &sql).await {
                Ok(answer) => answer.rows.iter().try_for_each(|row| say(row[0].text())),
                Err(error) => Err(error.into()),
            },
        };
        let unread = ask(store.as_ref(), "SELECT count(*), count(problem), min(read_at) FROM findings_readings").await;
        store.close().await;
        printed?;
        // On standard error, so that what is piped on is findings.
        let unread = unread?;
        let Some([analyzers, failed, oldest]) = unread.rows.first().map(Vec::as_slice) else { return Ok(()) };
        let is_off = loaded.config.findings.detail == Detail::Off;
        match (analyzers.whole(), is_off) {
            (0, true) => eprintln!("trustwatch: no findings are read one by one: `findings.detail` is \"off\""),
            (0, false) => eprintln!("trustwatch: no findings have been read yet: the next scan reads them"),
            (_, true) => {
                eprintln!("trustwatch: `findings.detail` is \"off\": these are old, some of them from {oldest}");
            }
            (_, false) => {}
        }
        if failed.whole() > 0 {
            let analyzers = counted(failed.whole(), "analyzer");
            eprintln!("trustwatch: {analyzers} could not be read the last time: `findings_readings` says why");
        }
        Ok(())
    }

    fn sql(&self) -> String {
        let status = |status: &Status| match status {
            Status::Active => "ACTIVE",
            Status::Archived => "ARCHIVED",
            Status::Resolved => "RESOLVED",
        };
        let contains = |text: &String| {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("resource LIKE {} ESCAPE '\\'", literal(&format!("%{escaped}%")))
        };
        let mut conditions = vec![among("status", &self.status.iter().map(status).collect::<Vec<_>>())];
        for (column, values) in
            [("resource_account_id", &self.account), ("region", &self.region), ("resource_type", &self.resource_type)]
        {
            conditions.extend((!values.is_empty()).then(|| among(column, values)));
        }
        conditions.extend(self.organization.as_ref().map(|name| format!("organization_name = {}", literal(name))));
        conditions.extend(self.public.then(|| "is_public".to_owned()));
        conditions.extend(self.resource.as_ref().map(contains));
        format!(
            "SELECT finding_id, status, resource_type, resource, resource_account_id, resource_account_name, region, is_public, principal, since, read_at
             FROM current_findings WHERE {} ORDER BY resource_account_id, region, resource, finding_id",
            conditions.join(" AND ")
        )
    }
}

async fn show(loaded: &Loaded, id: &str) -> Result<(), Failure> {
    let store = store::open(&loaded.config.store, Access::Read).await?;
    let shown = show_from(store.as_ref(), id).await;
    store.close().await;
    shown
}

async fn show_from(store: &dyn Store, id: &str) -> Result<(), Failure> {
    let is = literal(id);
    let history = format!(
        "SELECT status, valid_from, valid_to FROM finding_history WHERE finding_id = {is} ORDER BY analyzer_arn, valid_from"
    );
    let history = ask(store, &history).await?.rows;
    if history.is_empty() {
        return Err(unknown(&[id]));
    }
    let now = ask(store, &format!("SELECT * FROM current_findings WHERE finding_id = {is}")).await?;
    for row in &now.rows {
        for (name, value) in now.names.iter().zip(row).filter(|(_, value)| **value != Cell::Null) {
            say(&format!("{name:<22} {}", clean(&value.to_string())))?;
        }
    }
    if now.rows.is_empty() {
        say("it is listed no more")?;
    }
    say("\nhistory")?;
    for row in &history {
        let until = if row[2] == Cell::Null { "now" } else { row[2].text() };
        say(&format!("  {:<9} {} to {until}", clean(row[0].text()), row[1]))?;
    }
    let actions = format!(
        "SELECT action, started_at, actor, result, reason, error FROM remediation_actions
         WHERE CAST(finding_ids AS TEXT) LIKE {} ORDER BY action_id",
        literal(&format!("%\"{id}\"%"))
    );
    for row in ask(store, &actions).await?.rows {
        let error = if row[5] == Cell::Null { String::new() } else { format!(": {}", clean(row[5].text())) };
        let (actor, reason) = (clean(row[2].text()), clean(row[4].text()));
        say(&format!("\n{} {} by {actor}, {}{error}\n  {reason}", row[0], row[1], row[3]))?;
    }
    Ok(())
}

fn unknown(ids: &[&str]) -> Failure {
    Failure::Failed(anyhow::anyhow!(
        "no such finding: {}; `trustwatch findings list` shows those that were last read",
        ids.join(", ")
    ))
}

impl Review {
    async fn run(self, loaded: &Loaded, change: Change) -> Result<(), Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::Usage("--reason is empty: say why, for those who ask later".into()));
        }
        let shared = Shared::open(&loaded.config).await?;
        let reviewed = self.review(loaded, &shared, change).await;
        shared.store.close().await;
        let reviewed = reviewed?;
        let (mut done, mut failed) = (0, 0);
        for Reviewed { analyzer_arn, finding_ids, problem } in &reviewed {
            let findings = counted(finding_ids.len(), "finding");
            if let Some(problem) = problem {
                failed += finding_ids.len();
                say(&format!("{analyzer_arn}: {findings}: failed: {}", clean(problem)))?;
            } else {
                done += finding_ids.len();
                let what = if change == Change::Archive { "archived" } else { "active again" };
                say(&format!("{analyzer_arn}: {findings} {what}"))?;
            }
        }
        if failed > 0 {
            return Err(Failure::Failed(anyhow::anyhow!("{failed} of {} findings are as they were", done + failed)));
        }
        say(&format!("{} done", counted(done, "finding")))
    }

    async fn review(&self, loaded: &Loaded, shared: &Shared, change: Change) -> Result<Vec<Reviewed>, Failure> {
        let held = shared.store.held_findings(&self.ids).await?;
        let known: BTreeSet<&str> = held.iter().map(|finding| finding.finding_id.as_str()).collect();
        let missing: Vec<&str> = self.ids.iter().map(String::as_str).filter(|id| !known.contains(id)).collect();
        if !missing.is_empty() {
            return Err(unknown(&missing));
        }
        if let Some(other) = held.iter().find(|finding| !change.fits(finding)) {
            let status = if other.is_listed { other.status.as_str() } else { "listed no more" };
            return Err(Failure::Failed(anyhow::anyhow!(
                "finding {} is {status}, and only one that is {} can be; nothing was changed",
                other.finding_id,
                change.from_status()
            )));
        }
        let names: BTreeSet<&str> = held.iter().map(|finding| finding.organization_name.as_str()).collect();
        let mut reviewed = Vec::new();
        for name in names {
            let organizations = chosen(loaded, Some(name))?;
            let Some(organization) = organizations.first() else { continue };
            let engine = shared.engine(&loaded.config, organization).await?;
            let of_it: Vec<HeldFinding> =
                held.iter().filter(|finding| finding.organization_name == name).cloned().collect();
            let settings = &loaded.config.remediation;
            reviewed.extend(remediate::review(&engine, settings, &of_it, change, &self.reason).await?);
        }
        Ok(reviewed)
    }
}
