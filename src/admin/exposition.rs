//! `/metrics`: the table as text that Prometheus reads (OpenMetrics 1.0).

use super::answer::Failure;
use super::health::readiness;
use super::metrics::{Facts, Kind, METRICS, Metric, Values};
use super::routes::State;
use crate::store::{BOUNDS, Latency};
use axum::extract::State as Of;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(Of(state): Of<Arc<State>>) -> Result<Response, Failure> {
    let listeners = state.operator.listeners();
    let (snapshot, cluster) = (state.handle.snapshot(), state.operator.cluster());
    let facts = Facts {
        ready: readiness(&state.handle, &listeners, cluster.as_ref()).ok,
        uptime_seconds: snapshot.tick.since(state.since) / 1000,
        node_id: state.handle.node_id(),
        durability: state.handle.durability(),
        snapshot,
        listeners,
        bridges: state.operator.bridges(),
        cluster,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(facts));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Failure::inside(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|metric| write(metric, (metric.read)(self), &mut encoder))
    }
}

fn write(metric: &Metric, values: Values, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    // The encoder appends what the format wants a name of this kind to end with.
    let name = metric.name.trim_end_matches("_total").trim_end_matches("_info");
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let help = metric.help.trim_end_matches('.');
    let mut of = encoder.encode_descriptor(name, help, None, kind)?;
    match values {
        Values::One(value) if metric.kind == Kind::Counter => of.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Values::One(value) => of.encode_gauge(&value),
        Values::Each(values) => values
            .into_iter()
            .try_for_each(|(label, value)| one_of(metric.kind, &[(metric.label, label)], value, &mut of)),
        Values::Series(values) => {
            values.iter().try_for_each(|(labels, value)| one_of(metric.kind, labels, *value, &mut of))
        }
        Values::Times(latency) => {
            let (sum, count, buckets) = seconds(&latency);
            of.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
        Values::Labels(labels) => of.encode_info(&labels),
    }
}

/// One of the series of a metric.
fn one_of(kind: Kind, labels: &[(&str, String)], value: f64, of: &mut MetricEncoder<'_>) -> fmt::Result {
    let mut series = of.encode_family(&labels)?;
    match kind {
        Kind::Counter => series.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => series.encode_gauge(&value),
    }
}

/// The histogram in seconds: its sum, its count, and how many there are in each bucket up to its bound.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point, to 2^53")]
fn seconds(latency: &Latency) -> (f64, u64, Vec<(f64, u64)>) {
    let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
    (latency.sum_micros as f64 / 1e6, latency.count(), bounds.zip(latency.counts).collect())
}
