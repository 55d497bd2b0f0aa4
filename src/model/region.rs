//! Regions and partitions: the little that the product must know by itself.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An AWS region code, such as `eu-central-1`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Region(Arc<str>);

impl Region {
    /// Takes a region's code as AWS spells it.
    pub fn new(code: &str) -> Self {
        Self(Arc::from(code))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Access Analyzer runs in this region. It does in every region of every partition but `aws-iso` and
    /// `aws-iso-b` (AWS General Reference, Access Analyzer endpoints). A list, never a DNS probe: broken DNS would
    /// turn gaps into "not supported".
    pub fn has_access_analyzer(&self) -> bool {
        !["us-iso-", "us-isob-"].iter().any(|prefix| self.0.starts_with(prefix))
    }
}

impl From<String> for Region {
    fn from(code: String) -> Self {
        Self::new(&code)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0.as_ref().to_owned()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An AWS partition: a set of regions with accounts of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition(String);

/// The regions that are enabled in every account of a partition: what is audited, and what has rows, where an
/// account will not say which regions it has (AWS Account Management Reference Guide, "Regions enabled by default").
const DEFAULT_ENABLED: &[(&str, &[&str])] = &[
    (
        "aws",
        &[
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-southeast-1",
            "ap-southeast-2",
            "ca-central-1",
            "eu-central-1",
            "eu-north-1",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        ],
    ),
    ("aws-cn", &["cn-north-1", "cn-northwest-1"]),
    ("aws-us-gov", &["us-gov-east-1", "us-gov-west-1"]),
    ("aws-eusc", &["eusc-de-east-1"]),
    ("aws-iso", &["us-iso-east-1", "us-iso-west-1"]),
    ("aws-iso-b", &["us-isob-east-1", "us-isob-west-1"]),
    ("aws-iso-e", &["eu-isoe-west-1"]),
    ("aws-iso-f", &["us-isof-east-1", "us-isof-south-1"]),
];

/// The first characters of a region's code, and the partition that they mean. `aws` is what is left.
const REGION_PREFIXES: &[(&str, &str)] = &[
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("us-iso-", "aws-iso"),
    ("eu-isoe-", "aws-iso-e"),
];

impl Partition {
    /// The partition of a region.
    pub fn of_region(region: &str) -> Self {
        let name =
            REGION_PREFIXES.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, name)| name);
        Self(name.to_owned())
    }

    /// The partition named in an ARN (its second field).
    pub fn of_arn(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        (parts.next()? == "arn").then_some(())?;
        parts.next().filter(|name| !name.is_empty()).map(|name| Self(name.to_owned()))
    }

    /// The name: `aws`, `aws-cn`, `aws-us-gov`, …
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The regions enabled by default in this partition; none for a partition unknown to us.
    pub fn default_regions(&self) -> Vec<Region> {
        DEFAULT_ENABLED
            .iter()
            .find(|(name, _)| *name == self.0)
            .map(|(_, codes)| codes.iter().map(|code| Region::new(code)).collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_region_belongs_to_its_partition() {
        for (name, codes) in DEFAULT_ENABLED {
            for code in *codes {
                assert_eq!(Partition::of_region(code).as_str(), *name, "{code}");
            }
        }
    }

    #[test]
    fn seventeen_commercial_regions_are_enabled_by_default() {
        assert_eq!(Partition::of_region("eu-west-1").default_regions().len(), 17);
    }

    #[test]
    fn access_analyzer_is_missing_in_iso_and_iso_b_only() {
        let missing: Vec<_> = DEFAULT_ENABLED
            .iter()
            .flat_map(|(_, codes)| codes.iter())
            .filter(|code| !Region::new(code).has_access_analyzer())
            .collect();
        assert_eq!(missing, [&"us-iso-east-1", &"us-iso-west-1", &"us-isob-east-1", &"us-isob-west-1"]);
    }
}
