//! How many bytes the calls move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::config_bag::ConfigBag;

use super::Operation;

/// Bytes sent and received by each operation: heads and bodies as HTTP/1.1 writes them, without TLS and without answers that
/// broke off.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<[AtomicU64; Operation::ALL.len()]>);

impl Traffic {
    /// Bytes so far.
    pub fn of(&self, operation: Operation) -> u64 {
        let counter = Operation::ALL.iter().position(|one| *one == operation).and_then(|index| self.0.get(index));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn add(&self, bag: &ConfigBag, bytes: usize) {
        let Some(name): Option<&str> = bag.load::<Metadata>().map(Metadata::name) else { return };
        // No two of our operations have the same name.
        let index = Operation::ALL.iter().position(|operation| operation.action().ends_with(name));
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// A head: its first line, and each header with its colon, space and line end.
fn head(first_line: usize, headers: &Headers) -> usize {
    first_line + 4 + headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
}

impl Intercept for Traffic {
    fn name(&self) -> &'static str {
        "Traffic"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let first_line = request.method().len() + request.uri().len() + " HTTP/1.1 ".len();
        let body = request.body().bytes().map_or(0, <[u8]>::len);
        self.add(bag, head(first_line, request.headers()) + body);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().map_or(0, <[u8]>::len);
        self.add(bag, head("HTTP/1.1 200 OK".len(), response.headers()) + body);
        Ok(())
    }
}
