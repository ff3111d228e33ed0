//! Every metric of Sluice: its name, labels and meaning, in this one file.
//!
//! No label is ever a session, a message, a recipient or a text of a provider: label values come from enums
//! and route patterns. `_total` ends counters and nothing else. "Dropped" is said only of real loss.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Buckets of waits inside the process and up to the broker or the store, seconds.
const SHORT: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of calls to providers, seconds.
const CALL: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0];
/// Buckets of waits that a rate limit or a person's phone decides, seconds.
const LONG: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0];

/// Why metrics could not be made or shown.
pub type Error = prometheus::Error;

/// The metrics of a process.
#[derive(Debug)]
#[allow(missing_docs, reason = "the help text of each is its documentation, and /metrics shows it")]
pub struct Metrics {
    registry: Registry,
    names: Vec<String>,
    // HTTP and edge
    pub http_requests: IntCounterVec,
    pub http_request_seconds: HistogramVec,
    pub http_in_flight: IntGaugeVec,
    pub edge_ack_seconds: HistogramVec,
    pub edge_writes: IntCounterVec,
    pub webhooks: IntCounterVec,
    // directory
    pub directory_entries: IntGaugeVec,
    pub directory_unreadable: IntCounterVec,
    pub sessions: IntGaugeVec,
    // sender
    pub intake_lag_seconds: Gauge,
    pub open_messages: IntGaugeVec,
    pub restores: IntCounterVec,
    pub work_available_seconds: Gauge,
    pub attempts: IntCounterVec,
    pub attempt_seconds: HistogramVec,
    pub accept_to_submit_seconds: Histogram,
    pub limiter_wait_seconds: Histogram,
    pub rate_violations: IntCounter,
    pub sessions_slowed: IntGauge,
    pub circuits_open: IntGaugeVec,
    pub circuits_opened: IntCounterVec,
    pub in_doubt_open: IntGauge,
    pub in_doubt_oldest_seconds: Gauge,
    pub in_doubt_resolved: IntCounterVec,
    /// Webhooks that attempts in doubt wait for.
    pub watermark_behind: IntGauge,
    /// How long they have waited for them.
    pub watermark_wait_seconds: Gauge,
    pub duplicates: IntCounterVec,
    pub partitions: IntGaugeVec,
    pub restore_seconds: Histogram,
    // processor and reducer
    pub webhook_events: IntCounterVec,
    pub receipt_latency_seconds: HistogramVec,
    pub unmatched_receipts: IntCounterVec,
    pub facts: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub store_seconds: HistogramVec,
    pub store_errors: IntCounterVec,
}

impl Metrics {
    /// Fresh metrics, all at zero.
    ///
    /// # Errors
    /// If two have one name; a test makes them.
    pub fn new() -> Result<Self, Error> {
        let make = Maker { registry: Registry::new(), names: RefCell::default() };
        Ok(Self {
            http_requests: make.counters(
                "sluice_http_requests_total",
                "HTTP requests answered, by listener, route pattern and status.",
                &["listener", "route", "status"],
            )?,
            http_request_seconds: make.histograms(
                "sluice_http_request_seconds",
                "Time to answer an HTTP request.",
                &["listener", "route"],
                SHORT,
            )?,
            http_in_flight: make.gauges(
                "sluice_http_in_flight",
                "HTTP requests being answered.",
                &["listener"],
            )?,
            edge_ack_seconds: make.histograms(
                "sluice_edge_ack_seconds",
                "Time from handing a record to the Kafka producer to the broker's acknowledgement.",
                &["kind"],
                SHORT,
            )?,
            edge_writes: make.counters(
                "sluice_edge_writes_total",
                "Records the edge wrote, by kind and result (acked, failed, too_large).",
                &["kind", "result"],
            )?,
            webhooks: make.counters(
                "sluice_webhooks_total",
                "Webhooks received, by provider and result (accepted, unsigned, unknown, too_large, unavailable).",
                &["provider", "result"],
            )?,
            directory_entries: make.gauges(
                "sluice_directory_entries",
                "Entries of the directory in memory, by kind.",
                &["kind"],
            )?,
            directory_unreadable: make.counters(
                "sluice_directory_unreadable_total",
                "Directory records or credentials that could not be read, by kind.",
                &["kind"],
            )?,
            sessions: make.gauges(
                "sluice_sessions",
                "Sessions by what their provider last said of their connection.",
                &["connection"],
            )?,
            intake_lag_seconds: make.gauge(
                "sluice_intake_lag_seconds",
                "Age of the oldest request that this process owns and has not taken in.",
            )?,
            restores: make.counters(
                "sluice_restores_total",
                "Partitions taken over, by what they were restored from: their local state, or the ledger alone.",
                &["from"],
            )?,
            open_messages: make.gauges(
                "sluice_open_messages",
                "Messages accepted and not finished, by state.",
                &["state"],
            )?,
            work_available_seconds: make.gauge(
                "sluice_work_available_seconds",
                "Seconds of provider calls that the limits would allow now and that wait: the autoscaling signal.",
            )?,
            attempts: make.counters(
                "sluice_attempts_total",
                "Attempts, by provider, outcome and error class.",
                &["provider", "outcome", "class"],
            )?,
            attempt_seconds: make.histograms(
                "sluice_attempt_seconds",
                "Time of an attempt's HTTP call.",
                &["provider"],
                CALL,
            )?,
            accept_to_submit_seconds: make.histogram(
                "sluice_accept_to_submit_seconds",
                "Time from ACCEPTED (or due) to SUBMITTED.",
                LONG,
            )?,
            limiter_wait_seconds: make.histogram(
                "sluice_limiter_wait_seconds",
                "Time a due message waited for its session's rate.",
                LONG,
            )?,
            rate_violations: make.counter(
                "sluice_rate_violations_total",
                "Calls made above a session's own limits. Must stay 0.",
            )?,
            sessions_slowed: make.integer(
                "sluice_sessions_slowed",
                "Sessions that go slower than their limits because they were throttled.",
            )?,
            circuits_open: make.gauges(
                "sluice_circuits_open",
                "Circuits that are not closed: calls failed again and again, by what is held (session, base_url).",
                &["of"],
            )?,
            circuits_opened: make.counters(
                "sluice_circuits_opened_total",
                "Times a circuit opened, by what is held (session, base_url).",
                &["of"],
            )?,
            in_doubt_open: make.integer("sluice_in_doubt_open", "Messages in doubt.")?,
            in_doubt_oldest_seconds: make.gauge(
                "sluice_in_doubt_oldest_seconds",
                "Time since the oldest attempt that is in doubt was claimed; 0 if none is.",
            )?,
            in_doubt_resolved: make.counters(
                "sluice_in_doubt_resolved_total",
                "Messages no longer in doubt, by how (evidence, resend, fail, operator).",
                &["how"],
            )?,
            watermark_behind: make.integer(
                "sluice_watermark_behind",
                "Webhooks the processor has yet to process before attempts in doubt may be decided.",
            )?,
            watermark_wait_seconds: make.gauge(
                "sluice_watermark_wait_seconds",
                "How long attempts in doubt have waited for the processor.",
            )?,
            duplicates: make.counters(
                "sluice_duplicate_requests_total",
                "Requests with a known id, by kind (same, conflict).",
                &["kind"],
            )?,
            partitions: make.gauges(
                "sluice_partitions",
                "Partitions of the sender, by state (restoring, owned, giving_back).",
                &["state"],
            )?,
            restore_seconds: make.histogram(
                "sluice_restore_seconds",
                "Time to take over a partition.",
                LONG,
            )?,
            webhook_events: make.counters(
                "sluice_webhook_events_total",
                "What webhooks told, by provider and kind (status, received, connection, link, ignored, unparseable).",
                &["provider", "kind"],
            )?,
            receipt_latency_seconds: make.histograms(
                "sluice_receipt_latency_seconds",
                "Time from a receipt's own time to its webhook, by status.",
                &["status"],
                LONG,
            )?,
            unmatched_receipts: make.counters(
                "sluice_unmatched_receipts_total",
                "Receipts whose message was not known yet, by what became of them (kept, joined, expired).",
                &["result"],
            )?,
            facts: make.counters(
                "sluice_facts_total",
                "Facts folded into the store, by status.",
                &["status"],
            )?,
            dead_letters: make.counters(
                "sluice_dead_letters_total",
                "Dead letters written, by role and reason.",
                &["role", "reason"],
            )?,
            store_seconds: make.histograms(
                "sluice_store_seconds",
                "Time of a store operation.",
                &["operation"],
                SHORT,
            )?,
            store_errors: make.counters(
                "sluice_store_errors_total",
                "Store operations that failed.",
                &["operation"],
            )?,
            registry: make.registry,
            names: make.names.into_inner(),
        })
    }

    /// Names of all of them, in the order of this file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All of them in the Prometheus text format.
    ///
    /// # Errors
    /// If a metric cannot be written; does not happen for ours.
    pub fn text(&self) -> Result<String, Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

struct Maker {
    registry: Registry,
    names: RefCell<Vec<String>>,
}

impl Maker {
    fn keep<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, Error> {
        self.names.borrow_mut().extend(metric.desc().iter().map(|desc| desc.fq_name.clone()));
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.keep(Gauge::new(name, help)?)
    }

    fn integer(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, Error> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts hang on these: a rename must be a reviewed change of this list.
    const NAMES: &str = include_str!("metric_names.txt");

    #[test]
    fn the_names_are_those_of_the_list() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.names().join("\n"), NAMES.trim_end());
    }

    #[test]
    fn only_counters_end_in_total_and_every_counter_does() {
        let metrics = Metrics::new().unwrap();
        metrics.http_requests.with_label_values(&["api", "/x", "200"]).inc();
        metrics.attempts.with_label_values(&["wasender", "submitted", "none"]).inc();
        metrics.partitions.with_label_values(&["owned"]).set(1);
        for line in metrics.text().unwrap().lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
    }
}
