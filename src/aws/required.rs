//! A guard against answers that lack what the API promises.
//!
//! The SDK fills a missing required list with an empty one. For `ListAnalyzers` that would turn a truncated answer into
//! "no analyzers here", so the raw body is held against the promise before its content is believed.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// An answer without a member that the API requires.
#[derive(Debug, thiserror::Error)]
#[error("the answer has no list `{0}`")]
pub struct MissingMember(pub &'static str);

/// Operations, and the list that each promises.
const PROMISED: &[(&str, &str)] = &[
    ("ListAnalyzers", "analyzers"),
    ("GetFindingsStatistics", "findingsStatistics"),
    ("ListFindings", "findings"),
    ("ListFindingsV2", "findings"),
    ("ListArchiveRules", "archiveRules"),
];

/// Refuses a successful JSON answer whose top level lacks the list that its operation promises.
#[derive(Debug)]
pub struct RequireList;

impl Intercept for RequireList {
    fn name(&self) -> &'static str {
        "RequireList"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = bag.load::<Metadata>().map(Metadata::name).unwrap_or_default();
        let Some((_, list)) = PROMISED.iter().find(|(name, _)| *name == operation) else { return Ok(()) };
        let response = context.response();
        if !response.status().is_success() {
            return Ok(());
        }
        let body = response.body().bytes().unwrap_or_default();
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| MissingMember(list))?;
        match members.get(*list) {
            Some(serde_json::Value::Array(_)) => Ok(()),
            _ => Err(MissingMember(list).into()),
        }
    }
}
