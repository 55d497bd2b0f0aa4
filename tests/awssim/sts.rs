//! STS: AssumeRole and GetCallerIdentity (query protocol, XML).

use serde_json::{Value, json};

use super::auth::{Caller, Session, Sessions};
use super::wire::{ApiError, Reply, Request, escape, iso};
use super::world::World;

pub fn get_caller_identity(world: &World, caller: &Caller, request_id: &str) -> Reply {
    let user_id = caller.session.as_ref().map_or_else(
        || format!("AIDASIM{}", caller.account),
        |session| format!("AROASIM{}:{}", caller.account, session.session_name),
    );
    let result = format!(
        "<Arn>{}</Arn><UserId>{user_id}</UserId><Account>{}</Account>",
        escape(&caller.arn(&world.partition)),
        caller.account
    );
    reply("GetCallerIdentity", &result, request_id)
}

/// Checks everything that STS checks, in its order, and gives out a session.
pub fn assume_role(
    world: &World,
    sessions: &mut Sessions,
    caller: &Caller,
    request: &Request,
    request_id: &str,
    now: i64,
) -> Result<(Reply, Value), ApiError> {
    let form = request.form();
    let get = |name: &str| form.get(name).map(String::as_str);
    let validation = |message: &str| ApiError::new(400, "ValidationError", message);

    let role_arn = get("RoleArn").unwrap_or_default();
    let session_name = get("RoleSessionName").unwrap_or_default();
    check_word("roleSessionName", session_name, 64, "=,.@-_+")?;
    if let Some(identity) = get("SourceIdentity") {
        check_word("sourceIdentity", identity, 64, "=,.@-_+")?;
    }
    if let Some(external_id) = get("ExternalId") {
        check_word("externalId", external_id, 1224, "=,.@:/-_+")?;
    }
    let duration: u32 = match get("DurationSeconds") {
        None => 3600,
        Some(text) => text.parse().map_err(|_| validation("durationSeconds must be an integer"))?,
    };
    if !(900..=43_200).contains(&duration) {
        return Err(validation(&format!(
            "1 validation error detected: Value '{duration}' at 'durationSeconds' failed to satisfy constraint"
        )));
    }
    let policy = get("Policy");
    let allowed = policy.map(allowed_actions).transpose()?;

    let not_authorized = || {
        ApiError::new(
            403,
            "AccessDenied",
            &format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
                caller.arn(&world.partition)
            ),
        )
    };
    if !caller.is_allowed_by_session_policy("sts:AssumeRole") {
        return Err(not_authorized());
    }
    let mut parts = role_arn.splitn(6, ':');
    let partition = parts.nth(1).unwrap_or_default();
    let account_id = parts.nth(2).unwrap_or_default();
    let role_name = parts.next().and_then(|resource| resource.strip_prefix("role/")).unwrap_or_default();
    // The name is what follows the path.
    let role_name = role_name.rsplit('/').next().unwrap_or_default();
    let account = world.accounts.get(account_id).filter(|_| partition == world.partition);
    let role = account.and_then(|account| account.roles.get(role_name)).ok_or_else(not_authorized)?;
    let principals =
        [Some(caller.account.clone()), caller.role_arn(&world.partition), Some(caller.arn(&world.partition))];
    let is_trusted =
        role.trusts.iter().any(|trust| trust == "*" || principals.iter().flatten().any(|who| who == trust));
    let is_suspended = account.is_some_and(|account| account.state != "ACTIVE");
    if !is_trusted
        || is_suspended
        || role.external_id.as_deref().is_some_and(|wanted| get("ExternalId") != Some(wanted))
    {
        return Err(not_authorized());
    }
    let chained = caller.session.is_some();
    let longest = if chained { 3600 } else { role.max_duration };
    if duration > longest {
        return Err(validation(if chained {
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        } else {
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        }));
    }

    let (key, session) = sessions.add(Session {
        account: account_id.to_owned(),
        role: role_name.to_owned(),
        session_name: session_name.to_owned(),
        secret: String::new(),
        token: String::new(),
        expires: now + i64::from(duration),
        allowed,
        chained,
    });
    let tags: Vec<Value> = (1..)
        .map_while(|index| {
            let key = get(&format!("Tags.member.{index}.Key"))?;
            Some(json!({"Key": key, "Value": get(&format!("Tags.member.{index}.Value"))}))
        })
        .collect();
    let record = json!({
        "role_arn": role_arn, "session_name": session_name, "duration_seconds": duration,
        "external_id": get("ExternalId"), "source_identity": get("SourceIdentity"), "policy": policy, "tags": tags,
        "caller": caller.arn(&world.partition), "chained": session.chained,
    });
    let identity = get("SourceIdentity")
        .map_or_else(String::new, |identity| format!("<SourceIdentity>{}</SourceIdentity>", escape(identity)));
    let result = format!(
        "<AssumedRoleUser><AssumedRoleId>AROASIM{account_id}:{session_name}</AssumedRoleId>\
         <Arn>arn:{partition}:sts::{account_id}:assumed-role/{role_name}/{session_name}</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>\
         <PackedPolicySize>1</PackedPolicySize>{identity}",
        session.secret,
        session.token,
        iso(session.expires),
    );
    Ok((reply("AssumeRole", &result, request_id), record))
}

fn check_word(name: &str, value: &str, longest: usize, punctuation: &str) -> Result<(), ApiError> {
    let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c));
    if fits && (2..=longest).contains(&value.len()) {
        return Ok(());
    }
    let message = format!("1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint");
    Err(ApiError::new(400, "ValidationError", &message))
}

/// The actions that a session policy allows: all that this simulation understands of IAM's language.
fn allowed_actions(policy: &str) -> Result<Vec<String>, ApiError> {
    if policy.len() > 2048 {
        let message = "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048";
        return Err(ApiError::new(400, "ValidationError", message));
    }
    let malformed = || ApiError::new(400, "MalformedPolicyDocument", "This policy contains invalid Json");
    let value: Value = serde_json::from_str(policy).map_err(|_| malformed())?;
    let statements = match &value["Statement"] {
        Value::Array(list) => list.clone(),
        Value::Object(_) => vec![value["Statement"].clone()],
        _ => return Err(malformed()),
    };
    let actions =
        statements.iter().filter(|statement| statement["Effect"] == "Allow").flat_map(
            |statement| match &statement["Action"] {
                Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::String(one) => vec![one.clone()],
                _ => Vec::new(),
            },
        );
    Ok(actions.collect())
}

fn reply(operation: &str, result: &str, request_id: &str) -> Reply {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    );
    Reply::text(200, &body)
}
