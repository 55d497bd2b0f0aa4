//! `trustwatch doctor`: what works, what does not, and what to do about it.

use std::sync::Arc;

use clap::Args;
use tokio::time::Instant;

use super::style::{Style, clean};
use super::{Context, Failure, chosen, load_quietly, say};
use crate::aws::{Aws, AwsError, Operation};
use crate::config::{Config, Loaded, Organization};
use crate::daemon;
use crate::model::{Account, AccountId, AccountState, Discovered, counted};
use crate::scan::{Limits, ProcessLimits, Sessions, advise, fallback_regions, organization};
use crate::store::{self, StoreError};

/// Check credentials, permissions and the database; each line says what to do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trustwatch doctor\n  trustwatch doctor --account 123456789012")]
pub struct Doctor {
    /// Only this organization.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// The account to enter, instead of the first that is active.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

/// The lines, and whether any of them is bad.
struct Lines {
    style: Style,
    bad: bool,
    failure: Option<Failure>,
}

impl Lines {
    fn good(&mut self, text: &str) {
        let mark = self.style.good("✓");
        self.line(&format!("{mark} {}", clean(text)));
    }

    fn bad(&mut self, text: &str) {
        self.bad = true;
        let mark = self.style.bad("✗");
        self.line(&format!("{mark} {}", clean(text)));
    }

    /// What cannot be written ends the command, but no check.
    fn line(&mut self, text: &str) {
        if let (None, Err(failure)) = (&self.failure, say(text)) {
            self.failure = Some(failure);
        }
    }
}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = load_quietly(context)?;
        let organizations = chosen(&loaded, self.organization.as_deref())?;
        let account: Option<AccountId> = match &self.account {
            None => None,
            Some(id) => Some(id.parse().map_err(|error| Failure::Usage(format!("--account: {error}")))?),
        };
        let mut lines = Lines { style: Style::of_stdout(), bad: false, failure: None };
        database(&loaded, &mut lines).await;
        for organization in organizations {
            let name = lines.style.bold(&organization.name);
            lines.line(&name);
            examine(&loaded.config, organization, account, &mut lines).await?;
        }
        if let Some(failure) = lines.failure {
            return Err(failure);
        }
        if lines.bad { Err(Failure::Reported) } else { Ok(()) }
    }
}

async fn database(loaded: &Loaded, lines: &mut Lines) {
    let settings = &loaded.config.store;
    let shown =
        if settings.is_postgres() { settings.shown_url() } else { store::file_of(&settings.url).display().to_string() };
    match store::schema_version(settings).await {
        Ok(version) if version.found == version.known => {
            lines.good(&format!("the database {shown} answers; its schema is current (version {})", version.found));
        }
        Ok(version) if version.found < version.known => lines.bad(&format!(
            "the database {shown} has schema version {}, and {} is needed: run `trustwatch migrate`",
            version.found, version.known
        )),
        Ok(version) => {
            let error = StoreError::NewerSchema { found: version.found, known: version.known };
            lines.bad(&error.to_string());
        }
        Err(StoreError::Missing(path)) => match store::check_writable(&settings.url) {
            Ok(()) => lines.good(&format!("the database {} is not there yet; the first scan makes it", path.display())),
            Err(error) => lines.bad(&error.to_string()),
        },
        Err(error) => lines.bad(&error.to_string()),
    }
}

async fn examine(
    config: &Config,
    organization_config: &Organization,
    wanted: Option<AccountId>,
    lines: &mut Lines,
) -> Result<(), Failure> {
    let aws = daemon::connect(config, organization_config).await?;
    let limits = Limits::new(Arc::new(ProcessLimits::new(&config.limits)));
    let deadline = Instant::now() + config.limits.visit_deadline.0;
    let sessions = match Sessions::begin(&aws, &limits, organization_config, deadline).await {
        Ok(sessions) => sessions,
        Err(error) => {
            lines.bad(&advise(&error, "who you are", None, None).to_string());
            return Ok(());
        }
    };
    lines.good(&format!("you are {}", sessions.caller().arn));
    if let Some(arn) = &organization_config.reader_role_arn {
        lines.good(&format!("the reader role {arn} can be assumed"));
    }
    let discovered = match organization(&aws, &sessions, deadline).await {
        Ok(discovered) => discovered,
        Err(error) => {
            lines.bad(&error.to_string());
            return Ok(());
        }
    };
    describe(&discovered, lines);
    let account = match (wanted, discovered.management) {
        (Some(id), _) => Some(id),
        (None, None) => Some(sessions.reader_account()),
        (None, Some(management)) => match first_account(&aws, &sessions, organization_config, deadline).await {
            Ok(found) => {
                lines.good("the accounts can be listed");
                found
            }
            Err(error) => {
                let advice = advise(&error, "listing the accounts", Some(sessions.reader_account()), Some(management));
                lines.bad(&advice.to_string());
                None
            }
        },
    };
    if let Some(account) = account {
        enter(&aws, &sessions, organization_config, account, deadline, lines).await;
    }
    // What the organization's analyzers cover, their owners alone say: one that cannot be entered leaves all others unknown.
    if wanted.is_none() {
        for owner in discovered.owners.iter().filter(|owner| Some(**owner) != account) {
            enter(&aws, &sessions, organization_config, *owner, deadline, lines).await;
        }
    }
    Ok(())
}

fn describe(discovered: &Discovered, lines: &mut Lines) {
    let Some(management) = discovered.management else {
        lines.good(&format!("{}: in no organization; it alone is audited", discovered.organization_id));
        return;
    };
    lines.good(&format!("the organization is {}, its management account {management}", discovered.organization_id));
    if discovered.owners_known {
        let delegated = discovered.owners.len().saturating_sub(1);
        lines.good(&format!("Access Analyzer has {}", counted(delegated, "delegated administrator")));
    } else {
        lines.bad(
            "the delegated administrators cannot be listed, so members may be unknown: allow \
             organizations:ListDelegatedAdministrators; `trustwatch policy` prints what is needed",
        );
    }
}

/// The first account that a scan would enter through the member role.
async fn first_account(
    aws: &Aws,
    sessions: &Sessions<'_>,
    organization: &Organization,
    deadline: Instant,
) -> Result<Option<AccountId>, AwsError> {
    let reader = sessions.reader(deadline).await?;
    let own = [sessions.caller().account, sessions.reader_account()];
    let would_enter = |account: &Account| {
        account.state == AccountState::Active && !own.contains(&account.id) && !organization.excludes(account)
    };
    let mut next_token: Option<String> = None;
    loop {
        let list = || aws.list_accounts(&reader, next_token.clone());
        let page = sessions.reading(deadline).call(Operation::ListAccounts, list).await?;
        if let Some(account) = page.items.iter().find(|account| would_enter(account)) {
            return Ok(Some(account.id));
        }
        next_token = page.next_token;
        if next_token.is_none() {
            return Ok(Some(sessions.caller().account));
        }
    }
}

async fn enter(
    aws: &Aws,
    sessions: &Sessions<'_>,
    organization: &Organization,
    account: AccountId,
    deadline: Instant,
    lines: &mut Lines,
) {
    let role = organization.member_role_arn(sessions.partition().as_str(), account.as_str());
    let entered = match sessions.enter(account, deadline).await {
        Ok(entered) => entered,
        Err(error) => {
            lines.bad(&format!(
                "account {account} cannot be entered as {role}: {error}; is the role there, does its trust policy name \
                 {}, and is the external id right?",
                sessions.caller().arn
            ));
            return;
        }
    };
    let own = account == sessions.caller().account || account == sessions.reader_account();
    let how = if own { "with your own credentials".to_owned() } else { format!("as {role}") };
    lines.good(&format!("account {account} can be entered {how}"));
    let list = |session, token| async move { aws.list_regions(&session, token).await };
    match entered.all_pages(Operation::ListRegions, list).await {
        Ok(regions) => {
            lines.good(&format!("it names {}", counted(regions.len(), "region")));
        }
        Err(error) => lines.bad(&format!(
            "it does not name its regions, so only the default ones are audited: {error}; allow account:ListRegions"
        )),
    }
    let Some(region) = fallback_regions(organization, &sessions.partition()).into_iter().next() else { return };
    let region = &region;
    let list = |session, token| async move { aws.list_analyzers(&session, region, token).await };
    match entered.all_pages_in(region, Operation::ListAnalyzers, list).await {
        Ok(analyzers) => {
            lines.good(&format!("it lists {} in {region}", counted(analyzers.len(), "analyzer")));
        }
        Err(error) => lines
            .bad(&format!("its analyzers in {region} cannot be listed: {error}; allow access-analyzer:ListAnalyzers")),
    }
}
