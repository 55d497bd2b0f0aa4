//! IAM Access Analyzer (REST JSON): findings, made up from the analyzer's ARN, and their statistics.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::analyzers::{not_found, validation};
use super::auth::hex;
use super::paging::page;
use super::rng;
use super::wire::{ApiError, iso};
use super::world::World;

const RESOURCE_TYPES: &[&str] = &[
    "AWS::S3::Bucket",
    "AWS::IAM::Role",
    "AWS::SQS::Queue",
    "AWS::Lambda::Function",
    "AWS::KMS::Key",
    "AWS::SecretsManager::Secret",
    "AWS::SNS::Topic",
];

/// What `UpdateFindings` changed: analyzer → finding → status.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<String, BTreeMap<String, String>>);

impl Findings {
    pub fn forget(&mut self, analyzer: &str) {
        self.0.remove(analyzer);
    }

    /// Somebody archives the first active finding of an analyzer of external access.
    pub fn archive_one(&mut self, seed: u64, count: Option<u64>, analyzer: &str) {
        let active = self.of(seed, count, analyzer, "ACCOUNT").into_iter().find(|finding| finding.status == "ACTIVE");
        if let Some(finding) = active {
            self.0.entry(analyzer.to_owned()).or_default().insert(finding.id, "ARCHIVED".into());
        }
    }

    fn of(&self, seed: u64, count: Option<u64>, analyzer: &str, kind: &str) -> Vec<Finding> {
        let count = count.unwrap_or_else(|| rng::hash(seed, &["findings", analyzer]) % 12);
        (0..count)
            .map(|index| {
                let bits = rng::hash(seed, &[analyzer, &index.to_string()]);
                let id = uuid(bits, rng::hash(seed, &["id", analyzer, &index.to_string()]));
                let made_up = ["ACTIVE", "ACTIVE", "ARCHIVED", "RESOLVED"][(bits % 4) as usize];
                let status = self.0.get(analyzer).and_then(|changed| changed.get(&id)).map_or(made_up, String::as_str);
                let resource_type = RESOURCE_TYPES[(bits >> 8) as usize % RESOURCE_TYPES.len()];
                Finding {
                    status: status.to_owned(),
                    resource: format!("arn:aws:sim:::{}/{index}", &id[..8]),
                    resource_type,
                    finding_type: if kind.ends_with("UNUSED_ACCESS") {
                        "UnusedIAMRole"
                    } else if kind.ends_with("INTERNAL_ACCESS") {
                        "InternalAccess"
                    } else {
                        "ExternalAccess"
                    },
                    is_public: bits & 0x100_0000 != 0,
                    created: 1_700_000_000 + (bits % 10_000_000) as i64,
                    id,
                }
            })
            .collect()
    }
}

fn uuid(high: u64, low: u64) -> String {
    let digits = hex(&[high.to_be_bytes(), low.to_be_bytes()].concat());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

struct Finding {
    id: String,
    status: String,
    resource: String,
    resource_type: &'static str,
    finding_type: &'static str,
    is_public: bool,
    created: i64,
}

impl Finding {
    fn matches(&self, filter: &Value) -> bool {
        let Some(filter) = filter.as_object() else { return true };
        filter.iter().all(|(name, criterion)| {
            let value = match name.as_str() {
                "status" => self.status.clone(),
                "resourceType" => self.resource_type.to_owned(),
                "isPublic" => self.is_public.to_string(),
                "id" => self.id.clone(),
                "resource" => self.resource.clone(),
                "findingType" => self.finding_type.to_owned(),
                _ => return false,
            };
            let among = |list: &Value| list.as_array().map(|list| list.iter().any(|one| one == value.as_str()));
            among(&criterion["eq"]).unwrap_or(true) && !among(&criterion["neq"]).unwrap_or(false)
        })
    }

    fn describe(&self, account: &str, v2: bool) -> Value {
        let mut value = json!({
            "id": self.id, "resource": self.resource, "resourceType": self.resource_type,
            "createdAt": iso(self.created), "analyzedAt": iso(self.created + 60), "updatedAt": iso(self.created + 60),
            "status": self.status, "resourceOwnerAccount": account,
        });
        if v2 {
            value["findingType"] = json!(self.finding_type);
        } else {
            value["isPublic"] = json!(self.is_public);
            value["condition"] = json!({});
            value["action"] = json!(["sts:AssumeRole"]);
            value["principal"] = json!({"AWS": if self.is_public { "*" } else { "888888888888" }});
        }
        value
    }
}

pub fn call(
    world: &World,
    findings: &mut Findings,
    account: &str,
    region: &str,
    operation: &str,
    input: &Value,
) -> Result<Value, ApiError> {
    let arn = input["analyzerArn"].as_str().unwrap_or_default();
    let analyzer = world
        .analyzers_in(account, region)
        .iter()
        .find(|analyzer| analyzer.arn == arn)
        .ok_or_else(|| not_found(arn))?;
    let all = findings.of(world.seed, world.switches.findings_per_analyzer, arn, &analyzer.kind);
    match operation {
        "ListFindings" | "ListFindingsV2" => {
            let v2 = operation == "ListFindingsV2";
            if !v2 && !["ACCOUNT", "ORGANIZATION"].contains(&analyzer.kind.as_str()) {
                return Err(validation("This operation does not support this analyzer type. Use ListFindingsV2."));
            }
            let found: Vec<_> = all.iter().filter(|finding| finding.matches(&input["filter"])).collect();
            let size = match &input["maxResults"] {
                Value::Null => 100,
                value => value.as_u64().filter(|n| (1..=100).contains(n)).ok_or_else(|| validation("maxResults"))?,
            };
            let token = input["nextToken"].as_str();
            let (items, next) = page(&found, token, size as usize, None, || validation("Invalid nextToken"))?;
            let items: Vec<_> = items.iter().map(|finding| finding.describe(account, v2)).collect();
            let mut output = json!({"findings": items});
            if let Some(next) = next {
                output["nextToken"] = json!(next);
            }
            Ok(output)
        }
        "GetFindingsStatistics" => Ok(statistics(&all, &analyzer.kind)),
        "UpdateFindings" => {
            let status = input["status"].as_str().filter(|status| ["ACTIVE", "ARCHIVED"].contains(status));
            let status = status.ok_or_else(|| validation("status must be ACTIVE or ARCHIVED"))?;
            let ids: Vec<&str> = match (&input["ids"], input["resourceArn"].as_str()) {
                (Value::Array(ids), _) => ids.iter().filter_map(Value::as_str).collect(),
                (_, Some(resource)) => {
                    all.iter().filter(|one| one.resource == resource).map(|one| one.id.as_str()).collect()
                }
                _ => return Err(validation("ids or resourceArn is required")),
            };
            if let Some(missing) = ids.iter().find(|id| !all.iter().any(|finding| finding.id == **id)) {
                return Err(validation(&format!("The finding {missing} does not exist")));
            }
            let changed = findings.0.entry(arn.to_owned()).or_default();
            changed.extend(ids.into_iter().map(|id| (id.to_owned(), status.to_owned())));
            Ok(json!({}))
        }
        _ => Err(ApiError::new(404, "UnknownOperationException", "")),
    }
}

fn statistics(all: &[Finding], kind: &str) -> Value {
    let count = |status: &str| all.iter().filter(|finding| finding.status == status).count();
    let active = || all.iter().filter(|finding| finding.status == "ACTIVE");
    let mut totals = json!({
        "totalActiveFindings": count("ACTIVE"),
        "totalArchivedFindings": count("ARCHIVED"),
        "totalResolvedFindings": count("RESOLVED"),
    });
    let member = if kind.ends_with("UNUSED_ACCESS") {
        totals["unusedAccessTypeStatistics"] = json!([{"unusedAccessType": "UnusedIAMRole", "total": count("ACTIVE")}]);
        "unusedAccessFindingsStatistics"
    } else {
        let mut by_type: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for finding in active() {
            let entry = by_type.entry(finding.resource_type).or_default();
            if finding.is_public { entry.0 += 1 } else { entry.1 += 1 }
        }
        let by_type: BTreeMap<_, _> = by_type
            .into_iter()
            .map(|(name, (public, other))| {
                (name, json!({"totalActivePublic": public, "totalActiveCrossAccount": other}))
            })
            .collect();
        totals["resourceTypeStatistics"] = json!(by_type);
        if kind.ends_with("INTERNAL_ACCESS") {
            "internalAccessFindingsStatistics"
        } else {
            "externalAccessFindingsStatistics"
        }
    };
    json!({"findingsStatistics": [{member: totals}], "lastUpdatedAt": iso(1_700_000_000)})
}
