//! IAM Access Analyzer (REST JSON): the analyzers.

use serde_json::{Value, json};

use super::auth::Caller;
use super::findings::{self, Findings};
use super::management::denied;
use super::paging::page;
use super::wire::{ApiError, Request, iso};
use super::world::{ACCESS_ANALYZER, Analyzer, Policy, World};

pub const TYPES: &[&str] = &[
    "ACCOUNT",
    "ORGANIZATION",
    "ACCOUNT_UNUSED_ACCESS",
    "ORGANIZATION_UNUSED_ACCESS",
    "ACCOUNT_INTERNAL_ACCESS",
    "ORGANIZATION_INTERNAL_ACCESS",
];

/// The operation that a method and a path name.
pub fn operation(method: &str, path: &str) -> Option<&'static str> {
    Some(match (method, path) {
        ("GET", "/analyzer") => "ListAnalyzers",
        ("PUT", "/analyzer") => "CreateAnalyzer",
        ("POST", "/finding") => "ListFindings",
        ("PUT", "/finding") => "UpdateFindings",
        ("POST", "/findingv2") => "ListFindingsV2",
        ("POST", "/analyzer/findings/statistics") => "GetFindingsStatistics",
        ("GET", path) if path.starts_with("/analyzer/") && path.ends_with("/archive-rule") => "ListArchiveRules",
        ("PUT", path) if path.starts_with("/analyzer/") && path.ends_with("/archive-rule") => "CreateArchiveRule",
        ("DELETE", path) if path.starts_with("/analyzer/") && path.contains("/archive-rule/") => "DeleteArchiveRule",
        ("GET", path) if path.starts_with("/analyzer/") => "GetAnalyzer",
        ("DELETE", path) if path.starts_with("/analyzer/") => "DeleteAnalyzer",
        _ => return None,
    })
}

pub fn validation(message: &str) -> ApiError {
    ApiError::new(400, "ValidationException", message).with(json!({"reason": "other"}))
}

pub fn not_found(id: &str) -> ApiError {
    ApiError::new(404, "ResourceNotFoundException", &format!("The specified analyzer {id} was not found"))
        .with(json!({"resourceId": id, "resourceType": "ANALYZER"}))
}

/// Answers one operation of one account in one region.
pub fn call(
    world: &mut World,
    findings: &mut Findings,
    caller: &Caller,
    region: &str,
    operation: &str,
    request: &Request,
) -> Result<Value, ApiError> {
    let account = caller.account.as_str();
    if !world.is_enabled(account, region) {
        let message = "The security token included in the request is invalid.";
        return Err(ApiError::new(403, "UnrecognizedClientException", message));
    }
    let action = format!("access-analyzer:{operation}");
    if let Some(policy) = world.denial(account, &action, region) {
        return Err(denied(caller, world, &action, policy));
    }
    if !caller.is_allowed_by_session_policy(&action) {
        return Err(denied(caller, world, &action, Policy::Session));
    }
    match operation {
        "ListAnalyzers" => list(world, account, region, request),
        "GetAnalyzer" => {
            let name = name_in_path(request)?;
            let analyzers = world.analyzers_mut(account, region);
            let analyzer =
                analyzers.iter_mut().find(|analyzer| analyzer.name == name).ok_or_else(|| not_found(&name))?;
            settle(analyzer);
            let mut value = describe(analyzer);
            if let Some(kind) = analyzer.kind.strip_suffix("_UNUSED_ACCESS") {
                let _ = kind;
                value["configuration"] = json!({"unusedAccess": {"unusedAccessAge": 90}});
            }
            Ok(json!({"analyzer": value}))
        }
        "CreateAnalyzer" => create(world, account, region, &request.json()?),
        "DeleteAnalyzer" => {
            let name = name_in_path(request)?;
            let analyzers = world.analyzers_mut(account, region);
            let position =
                analyzers.iter().position(|analyzer| analyzer.name == name).ok_or_else(|| not_found(&name))?;
            if analyzers[position].managed_by.is_some() {
                return Err(ApiError::new(403, "AccessDeniedException", "The analyzer is managed by an AWS service"));
            }
            findings.forget(&analyzers.remove(position).arn);
            Ok(json!({}))
        }
        "ListArchiveRules" | "CreateArchiveRule" | "DeleteArchiveRule" => {
            let name = name_in_path(request)?;
            let analyzers = world.analyzers_mut(account, region);
            let analyzer = analyzers.iter_mut().find(|one| one.name == name).ok_or_else(|| not_found(&name))?;
            archive_rules(analyzer, operation, request)
        }
        _ => findings::call(world, findings, account, region, operation, &request.json()?),
    }
}

fn list(world: &mut World, account: &str, region: &str, request: &Request) -> Result<Value, ApiError> {
    let parameters = request.query_parameters();
    let wanted = parameters.get("type").map(String::as_str);
    if wanted.is_some_and(|kind| !TYPES.contains(&kind)) {
        return Err(validation("Invalid analyzer type"));
    }
    let size = match parameters.get("maxResults") {
        None => world.switches.analyzer_page_size,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|size| (1..=1000).contains(size))
            .ok_or_else(|| validation("maxResults is out of range"))?
            .min(world.switches.analyzer_page_size),
    };
    world.analyzers_mut(account, region).iter_mut().for_each(settle);
    let mut visible: Vec<Analyzer> = world.analyzers_in(account, region).to_vec();
    if world.switches.members_see_organization_analyzers {
        for owner in world.analyzer_owners() {
            if owner != account {
                let shared =
                    world.analyzers_in(&owner, region).iter().filter(|one| one.kind == "ORGANIZATION").cloned();
                visible.extend(shared);
            }
        }
    }
    visible.retain(|analyzer| wanted.is_none_or(|kind| analyzer.kind == kind));
    let seed = world.switches.empty_pages.then_some(world.seed);
    // An empty list never has a second page.
    let seed = seed.filter(|_| !visible.is_empty());
    let token = parameters.get("nextToken").map(String::as_str);
    let (items, next) = page(&visible, token, size, seed, || validation("Invalid nextToken"))?;
    let mut output = json!({"analyzers": items.iter().map(describe).collect::<Vec<_>>()});
    if let Some(next) = next {
        output["nextToken"] = json!(next);
    }
    Ok(output)
}

/// A new analyzer is `CREATING` for so many reads, then `ACTIVE`.
fn settle(analyzer: &mut Analyzer) {
    if analyzer.status != "CREATING" || analyzer.creating_reads == u32::MAX {
        return;
    }
    if analyzer.creating_reads == 0 {
        analyzer.status = "ACTIVE".into();
    } else {
        analyzer.creating_reads -= 1;
    }
}

fn create(world: &mut World, account: &str, region: &str, input: &Value) -> Result<Value, ApiError> {
    let name = input["analyzerName"].as_str().unwrap_or_default();
    let kind = input["type"].as_str().unwrap_or_default();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) && name.len() <= 255;
    if !starts_well || !fits {
        return Err(validation("Invalid analyzer name"));
    }
    if !TYPES.contains(&kind) {
        return Err(validation("Invalid analyzer type"));
    }
    let token = input["clientToken"].as_str();
    let existing = world.analyzers_in(account, region);
    if let Some(same) = existing.iter().find(|one| token.is_some() && one.client_token.as_deref() == token) {
        return Ok(json!({"arn": same.arn}));
    }
    if existing.iter().any(|analyzer| analyzer.name == name) {
        let message = format!("An analyzer with the name {name} already exists");
        return Err(ApiError::new(409, "ConflictException", &message)
            .with(json!({"resourceId": name, "resourceType": "ANALYZER"})));
    }
    if kind.starts_with("ORGANIZATION") {
        if world.organization.is_none() || !world.analyzer_owners().contains(account) {
            let message =
                "You must be the management account or a delegated administrator to create an organization analyzer";
            return Err(ApiError::new(403, "AccessDeniedException", message));
        }
        if !world.trusted_access.contains(ACCESS_ANALYZER) {
            return Err(validation("Trusted access for IAM Access Analyzer is not enabled in the organization"));
        }
    }
    // One of each account-level type; five of each organization-level type, but one for internal access.
    let quota = match kind {
        "ORGANIZATION" | "ORGANIZATION_UNUSED_ACCESS" => 5,
        _ => 1,
    };
    let owned = existing.iter().filter(|one| one.kind == kind && one.managed_by.is_none()).count();
    if owned >= quota {
        let message = format!("You have reached the quota of {quota} analyzers of type {kind} in this region");
        return Err(ApiError::new(402, "ServiceQuotaExceededException", &message)
            .with(json!({"resourceId": name, "resourceType": "ANALYZER"})));
    }
    let mut analyzer = world.new_analyzer(account, region, name, kind);
    analyzer.status = "CREATING".into();
    analyzer.creating_reads = world.switches.creating_reads;
    analyzer.client_token = token.map(str::to_owned);
    for rule in input["archiveRules"].as_array().into_iter().flatten() {
        let name = rule["ruleName"].as_str().unwrap_or_default().to_owned();
        analyzer.archive_rules.insert(name, rule["filter"].clone());
    }
    if let Some(tags) = input["tags"].as_object() {
        analyzer.tags = tags.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
    }
    let arn = analyzer.arn.clone();
    world.analyzers_mut(account, region).push(analyzer);
    Ok(json!({"arn": arn}))
}

fn archive_rules(analyzer: &mut Analyzer, operation: &str, request: &Request) -> Result<Value, ApiError> {
    match operation {
        "CreateArchiveRule" => {
            let input = request.json()?;
            let (name, filter) = (input["ruleName"].as_str().unwrap_or_default(), &input["filter"]);
            if name.is_empty() || !filter.is_object() {
                return Err(validation("ruleName and filter are required"));
            }
            analyzer.archive_rules.insert(name.to_owned(), filter.clone());
            Ok(json!({}))
        }
        "DeleteArchiveRule" => {
            let name = request.path.rsplit('/').next().unwrap_or_default();
            analyzer.archive_rules.remove(name).ok_or_else(|| not_found(name))?;
            Ok(json!({}))
        }
        _ => {
            let describe = |(name, filter): (&String, &Value)| {
                let at = iso(analyzer.created);
                json!({"ruleName": name, "filter": filter, "createdAt": at, "updatedAt": at})
            };
            Ok(json!({"archiveRules": analyzer.archive_rules.iter().map(describe).collect::<Vec<_>>()}))
        }
    }
}

fn name_in_path(request: &Request) -> Result<String, ApiError> {
    let encoded = request.path.strip_prefix("/analyzer/").unwrap_or_default().split('/').next().unwrap_or_default();
    let name: String = url::form_urlencoded::parse(format!("n={}", encoded.replace('+', "%2B")).as_bytes())
        .map(|(_, value)| value.into_owned())
        .collect();
    if name.is_empty() { Err(validation("Invalid analyzer name")) } else { Ok(name) }
}

fn describe(analyzer: &Analyzer) -> Value {
    let mut value = json!({
        "arn": analyzer.arn,
        "name": analyzer.name,
        "type": analyzer.kind,
        "createdAt": iso(analyzer.created),
        "status": analyzer.status,
        "tags": analyzer.tags,
    });
    if let Some(code) = &analyzer.status_reason {
        value["statusReason"] = json!({"code": code});
    }
    if let Some(service) = &analyzer.managed_by {
        value["managedBy"] = json!(service);
    }
    if analyzer.status == "ACTIVE" {
        value["lastResourceAnalyzed"] = json!(format!("arn:aws:iam::{}:role/last", &analyzer.arn[..3]));
        value["lastResourceAnalyzedAt"] = json!(iso(chrono::Utc::now().timestamp()));
    }
    value
}
