//! A guard against answers that lack what the API promises.
//!
//! The SDK fills a missing required list with an empty one. For `ListAnalyzers` that would turn a truncated answer into
//! "no analyzers here", so the raw body is held against the promise before its content is believed.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// An answer without a member that the API requires.
#[derive(Debug, thiserror::Error)]
#[error("the answer has no list `{0}`")]
pub struct MissingMember(pub &'static str);

/// Refuses a successful JSON answer whose top level lacks a list of this name.
#[derive(Debug)]
pub struct RequireList(pub &'static str);

impl Intercept for RequireList {
    fn name(&self) -> &'static str {
        "RequireList"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if !response.status().is_success() {
            return Ok(());
        }
        let body = response.body().bytes().unwrap_or_default();
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| MissingMember(self.0))?;
        match members.get(self.0) {
            Some(serde_json::Value::Array(_)) => Ok(()),
            _ => Err(MissingMember(self.0).into()),
        }
    }
}
