//! AWS Organizations (JSON 1.1).

use serde_json::{Value, json};

use super::auth::Caller;
use super::paging::page;
use super::wire::ApiError;
use super::world::{Account, World};

/// Answers one operation. Only the management account and delegated administrators may ask anything but
/// `DescribeOrganization`.
pub fn call(world: &World, caller: &Caller, operation: &str, input: &Value) -> Result<Value, ApiError> {
    let Some(organization) = &world.organization else {
        let message = "Your account is not a member of an organization.";
        return Err(ApiError::new(400, "AWSOrganizationsNotInUseException", message));
    };
    let action = format!("organizations:{operation}");
    let may = operation == "DescribeOrganization" || world.is_management_or_delegated(&caller.account);
    if !may
        || !caller.is_allowed_by_session_policy(&action)
        || world.denial(&caller.account, &action, "us-east-1").is_some()
    {
        let message = "You don't have permissions to access this resource.";
        return Err(ApiError::new(400, "AccessDeniedException", message));
    }
    match operation {
        "DescribeOrganization" => Ok(json!({"Organization": {
            "Id": organization.id,
            "Arn": arn(world, &format!("organization/{}", organization.id)),
            "FeatureSet": "ALL",
            "MasterAccountId": organization.management,
            "MasterAccountArn": arn(world, &format!("account/{}/{}", organization.id, organization.management)),
            "MasterAccountEmail": world.accounts[&organization.management].email,
        }})),
        "ListAccounts" => {
            let accounts: Vec<&Account> = world.accounts.values().filter(|_| !world.switches.hide_accounts).collect();
            list(world, input, "Accounts", &accounts, |account| describe(world, account))
        }
        "DescribeAccount" => {
            let account = world.accounts.get(text(input, "AccountId")).ok_or_else(|| {
                let message = "You specified an account that doesn't exist.";
                ApiError::new(400, "AccountNotFoundException", message)
            })?;
            Ok(json!({"Account": describe(world, account)}))
        }
        "ListRoots" => {
            let root = json!({"Id": organization.root, "Name": "Root", "PolicyTypes": [],
                "Arn": arn(world, &format!("root/{}/{}", organization.id, organization.root))});
            list(world, input, "Roots", &[root], Value::clone)
        }
        "ListOrganizationalUnitsForParent" => {
            let parent = existing_parent(world, text(input, "ParentId"))?;
            let ous: Vec<_> = world.ous.iter().filter(|(_, ou)| ou.parent == parent).collect();
            list(world, input, "OrganizationalUnits", &ous, |(id, ou)| {
                json!({"Id": id, "Name": ou.name, "Path": world.ou_path(id),
                    "Arn": arn(world, &format!("ou/{}/{id}", organization.id))})
            })
        }
        "ListAccountsForParent" => {
            let parent = existing_parent(world, text(input, "ParentId"))?;
            let accounts: Vec<_> = world.accounts.values().filter(|account| account.parent == parent).collect();
            list(world, input, "Accounts", &accounts, |account| describe(world, account))
        }
        "ListParents" => {
            let child = text(input, "ChildId");
            let parent = world
                .accounts
                .get(child)
                .map(|account| &account.parent)
                .or_else(|| world.ous.get(child).map(|ou| &ou.parent))
                .ok_or_else(|| {
                    ApiError::new(400, "ChildNotFoundException", "You specified a child that doesn't exist.")
                })?;
            let kind = if parent.starts_with("r-") { "ROOT" } else { "ORGANIZATIONAL_UNIT" };
            list(world, input, "Parents", &[json!({"Id": parent, "Type": kind})], Value::clone)
        }
        "ListDelegatedAdministrators" => {
            let wanted = input["ServicePrincipal"].as_str();
            let accounts: std::collections::BTreeSet<&String> = world
                .delegated
                .iter()
                .filter(|(principal, _)| wanted.is_none_or(|wanted| wanted == *principal))
                .flat_map(|(_, accounts)| accounts)
                .collect();
            let accounts: Vec<_> = accounts.into_iter().filter_map(|id| world.accounts.get(id)).collect();
            list(world, input, "DelegatedAdministrators", &accounts, |account| {
                let mut value = describe(world, account);
                value["DelegationEnabledDate"] = json!(account.joined);
                if let Some(object) = value.as_object_mut() {
                    object.remove("Paths");
                }
                value
            })
        }
        "ListAWSServiceAccessForOrganization" => {
            let principals: Vec<_> = world.trusted_access.iter().collect();
            list(
                world,
                input,
                "EnabledServicePrincipals",
                &principals,
                |principal| json!({"ServicePrincipal": principal, "DateEnabled": 1_600_000_000}),
            )
        }
        "ListTagsForResource" => {
            let account = world.accounts.get(text(input, "ResourceId")).ok_or_else(|| {
                let message = "We can't find a root, OU, account, or policy with the ID that you specified.";
                ApiError::new(400, "TargetNotFoundException", message)
            })?;
            let tags: Vec<_> = account.tags.iter().collect();
            list(world, input, "Tags", &tags, |(key, value)| json!({"Key": key, "Value": value}))
        }
        _ => Err(ApiError::new(400, "UnknownOperationException", "")),
    }
}

fn text<'a>(input: &'a Value, name: &str) -> &'a str {
    input[name].as_str().unwrap_or_default()
}

fn arn(world: &World, resource: &str) -> String {
    format!("arn:{}:organizations::{}:{resource}", world.partition, world.management().unwrap_or_default())
}

fn existing_parent<'a>(world: &World, parent: &'a str) -> Result<&'a str, ApiError> {
    let is_root = world.organization.as_ref().is_some_and(|organization| organization.root == parent);
    if is_root || world.ous.contains_key(parent) {
        return Ok(parent);
    }
    let message = "You specified a root or OU that doesn't exist.";
    Err(ApiError::new(400, "ParentNotFoundException", message))
}

fn describe(world: &World, account: &Account) -> Value {
    let organization = world.organization.as_ref().map_or("", |organization| organization.id.as_str());
    let mut value = json!({
        "Id": account.id,
        "Arn": arn(world, &format!("account/{organization}/{}", account.id)),
        "Email": account.email,
        "Name": account.name,
        "JoinedMethod": "CREATED",
        "JoinedTimestamp": account.joined,
    });
    if world.switches.state {
        value["State"] = json!(account.state);
    }
    // The retired field knew three of the five states, and left out the others.
    if world.switches.legacy_status && ["ACTIVE", "SUSPENDED", "PENDING_CLOSURE"].contains(&account.state.as_str()) {
        value["Status"] = json!(account.state);
    }
    if world.switches.paths {
        value["Paths"] = json!([format!("{}{}/", world.ou_path(&account.parent), account.id)]);
    }
    value
}

fn list<T>(
    world: &World,
    input: &Value,
    member: &str,
    items: &[T],
    describe: impl Fn(&T) -> Value,
) -> Result<Value, ApiError> {
    let invalid = |reason: &str| {
        let message = "You provided a value that does not match the required pattern.";
        ApiError::new(400, "InvalidInputException", message).with(json!({"Reason": reason}))
    };
    let size = match &input["MaxResults"] {
        Value::Null => 20,
        value => value.as_u64().filter(|size| (1..=20).contains(size)).ok_or_else(|| invalid("MAX_VALUE_EXCEEDED"))?,
    };
    let seed = world.switches.empty_pages.then_some(world.seed);
    let (items, next) =
        page(items, input["NextToken"].as_str(), size as usize, seed, || invalid("INVALID_NEXT_TOKEN"))?;
    let mut output = json!({member: items.iter().map(describe).collect::<Vec<_>>()});
    if let Some(next) = next {
        output["NextToken"] = json!(next);
    }
    Ok(output)
}
