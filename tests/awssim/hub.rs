//! AWS Security Hub (REST JSON): findings that are imported.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::auth::Caller;
use super::management::denied;
use super::wire::ApiError;
use super::world::{Policy, World};

/// What each account has in each region, by id.
#[derive(Debug, Default)]
pub struct Hub(BTreeMap<(String, String), BTreeMap<String, Value>>);

impl Hub {
    pub fn of(&self, account: &str, region: &str) -> Vec<Value> {
        let place = (account.to_owned(), region.to_owned());
        self.0.get(&place).map(|findings| findings.values().cloned().collect()).unwrap_or_default()
    }
}

/// The operation that a method and a path name.
pub fn operation(method: &str, path: &str) -> Option<&'static str> {
    match (method, path) {
        ("POST", "/findings/import") => Some("BatchImportFindings"),
        ("POST", "/findings") => Some("GetFindings"),
        _ => None,
    }
}

pub fn call(
    world: &World,
    hub: &mut Hub,
    caller: &Caller,
    region: &str,
    operation: &str,
    input: &Value,
) -> Result<Value, ApiError> {
    let account = caller.account.as_str();
    if !world.is_enabled(account, region) {
        let message = "The security token included in the request is invalid.";
        return Err(ApiError::new(403, "UnrecognizedClientException", message));
    }
    let action = format!("securityhub:{operation}");
    if let Some(policy) = world.denial(account, &action, region) {
        return Err(denied(caller, world, &action, policy));
    }
    if !caller.is_allowed_by_session_policy(&action) {
        return Err(denied(caller, world, &action, Policy::Session));
    }
    if world.hub_disabled.contains(account) {
        let message = format!("Account {account} is not subscribed to AWS Security Hub");
        return Err(ApiError::new(401, "InvalidAccessException", &message));
    }
    match operation {
        "BatchImportFindings" => import(world, hub, account, region, input),
        "GetFindings" => Ok(json!({"Findings": hub.of(account, region)})),
        _ => Err(ApiError::new(404, "UnknownOperationException", "")),
    }
}

fn import(world: &World, hub: &mut Hub, account: &str, region: &str, input: &Value) -> Result<Value, ApiError> {
    let findings = input["Findings"].as_array().filter(|all| (1..=100).contains(&all.len()));
    let findings = findings.ok_or_else(|| ApiError::new(400, "InvalidInputException", "1 to 100 findings"))?;
    let product = format!("arn:{}:securityhub:{region}:{account}:product/{account}/default", world.partition);
    let held = hub.0.entry((account.to_owned(), region.to_owned())).or_default();
    let mut failed = Vec::new();
    for finding in findings {
        let id = finding["Id"].as_str().unwrap_or_default().to_owned();
        if finding["ProductArn"] != product.as_str() || finding["AwsAccountId"] != account {
            failed
                .push(json!({"Id": id, "ErrorCode": "InvalidInput", "ErrorMessage": "not of this account and region"}));
            continue;
        }
        let required = ["SchemaVersion", "GeneratorId", "CreatedAt", "UpdatedAt", "Title", "Description"];
        let missing = required.iter().find(|name| finding[**name].as_str().is_none_or(str::is_empty));
        if let Some(name) = missing.filter(|_| !id.is_empty()) {
            failed.push(json!({"Id": id, "ErrorCode": "InvalidInput", "ErrorMessage": format!("{name} is missing")}));
            continue;
        }
        // Only the first import says anything of the workflow; after that it is the team's (API Reference, BatchImportFindings).
        let before = held.get(&id);
        let workflow = before.map_or_else(|| finding["Workflow"].clone(), |before| before["Workflow"].clone());
        if before.is_none_or(|before| before["UpdatedAt"].as_str() < finding["UpdatedAt"].as_str()) {
            let mut finding = finding.clone();
            finding["Workflow"] = if workflow.is_null() { json!({"Status": "NEW"}) } else { workflow };
            held.insert(id, finding);
        }
    }
    Ok(json!({"FailedCount": failed.len(), "SuccessCount": findings.len() - failed.len(), "FailedFindings": failed}))
}
