//! The metrics of a gateway.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sendpi_model::Code;

/// The labels of a request over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: String,
    pub(crate) status: u16,
}

/// The label of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabel {
    code: String,
}

/// The metrics of a gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct GatewayMetrics {
    pub(crate) connections: Gauge,
    pub(crate) frames: Counter,
    pub(crate) requests: Family<RequestLabels, Counter>,
    refusals: Family<RefusalLabel, Counter>,
}

impl GatewayMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections of clients", self.connections.clone());
        registry.register("frames", "Frames of clients that were read", self.frames.clone());
        registry.register("http_requests", "Requests over HTTP, by method and status", self.requests.clone());
        let refused = "Frames of clients that the gateway refused, by code";
        registry.register("refused_frames", refused, self.refusals.clone());
    }

    /// Counts a frame that the gateway refused.
    pub(crate) fn refused(&self, code: Code) {
        let code = serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned));
        self.refusals.get_or_create(&RefusalLabel { code: code.unwrap_or_default() }).inc();
    }
}
