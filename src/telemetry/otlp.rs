//! Traces over OTLP. The only user of OpenTelemetry.

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Tracing;

/// Spans on their way to a collector; what waits is sent when this is dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts where an endpoint is configured.
    ///
    /// # Errors
    /// Where no exporter can be built.
    pub fn start(tracing: &Tracing) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &tracing.otlp_endpoint else { return Ok(None) };
        // The client waits on a thread of its own, and may not be made on one that others wait on.
        let client = std::thread::spawn(|| reqwest::blocking::Client::builder().build()).join();
        let client = client.map_err(|_| anyhow::anyhow!("building the HTTP client panicked"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.context("building the HTTP client")?)
            .with_endpoint(endpoint)
            .build()
            .context("building the exporter of traces")?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(tracing.sample_ratio.0))))
            .with_resource(Resource::builder().with_service_name("trustwatch").build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// What turns spans of the log into spans of a trace.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("trustwatch"))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is gone must not keep the process from ending.
        let _ = self.0.shutdown();
    }
}
