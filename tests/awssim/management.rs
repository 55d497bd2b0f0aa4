//! AWS Account Management (REST JSON): which regions an account has.

use serde_json::{Value, json};

use super::auth::Caller;
use super::paging::page;
use super::wire::ApiError;
use super::world::{Policy, World};

pub fn call(world: &World, caller: &Caller, operation: &str, input: &Value) -> Result<Value, ApiError> {
    let action = format!("account:{operation}");
    let target = match input["AccountId"].as_str() {
        None => caller.account.as_str(),
        Some(other) if world.is_management_or_delegated(&caller.account) => other,
        Some(_) => return Err(denied(caller, world, &action, Policy::Iam)),
    };
    if let Some(policy) = world.denial(target, &action, "us-east-1") {
        return Err(denied(caller, world, &action, policy));
    }
    if !caller.is_allowed_by_session_policy(&action) {
        return Err(denied(caller, world, &action, Policy::Session));
    }
    let invalid = |message: &str| ApiError::new(400, "ValidationException", message);
    let account = world.accounts.get(target).ok_or_else(|| invalid("The account does not exist"))?;
    match operation {
        "ListRegions" => {
            let wanted = input["RegionOptStatusContains"].as_array();
            let regions: Vec<_> = account
                .regions
                .iter()
                .filter(|(_, status)| wanted.is_none_or(|wanted| wanted.iter().any(|one| one == status.as_str())))
                .collect();
            let size = match &input["MaxResults"] {
                Value::Null => 50,
                value => value.as_u64().filter(|size| (1..=50).contains(size)).ok_or_else(|| invalid("MaxResults"))?,
            };
            let (regions, next) =
                page(&regions, input["NextToken"].as_str(), size as usize, None, || invalid("NextToken"))?;
            let regions: Vec<_> =
                regions.iter().map(|(name, status)| json!({"RegionName": name, "RegionOptStatus": status})).collect();
            let mut output = json!({"Regions": regions});
            if let Some(next) = next {
                output["NextToken"] = json!(next);
            }
            Ok(output)
        }
        "GetRegionOptStatus" => {
            let name = input["RegionName"].as_str().unwrap_or_default();
            let status = account.regions.get(name).ok_or_else(|| invalid("The region does not exist"))?;
            Ok(json!({"RegionName": name, "RegionOptStatus": status}))
        }
        _ => Err(ApiError::new(404, "UnknownOperationException", "")),
    }
}

/// AWS's wording for each kind of policy that can deny (IAM User Guide, "Access denied error messages").
pub fn denied(caller: &Caller, world: &World, action: &str, policy: Policy) -> ApiError {
    let why = match policy {
        Policy::Iam => format!("because no identity-based policy allows the {action} action"),
        Policy::Scp => "with an explicit deny in a service control policy".to_owned(),
        Policy::ScpWithoutAllow => format!("because no service control policy allows the {action} action"),
        Policy::Boundary => format!("because no permissions boundary allows the {action} action"),
        Policy::ResourceControl => "with an explicit deny in a resource control policy".to_owned(),
        Policy::VpcEndpoint => format!("because no VPC endpoint policy allows the {action} action"),
        Policy::Session => format!("because no session policy allows the {action} action"),
    };
    let message =
        format!("User: {} is not authorized to perform: {action} on resource: * {why}", caller.arn(&world.partition));
    ApiError::new(403, "AccessDeniedException", &message)
}
