//! `GET /metrics`: the pool's statistics, as Prometheus reads them.
//!
//! Promise: each number that [`SpillPool::record_metrics`](overspill::SpillPool::record_metrics) records is
//! in it, under its name, with its description.

use crate::files::Files;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// `GET /metrics`.
pub async fn get(State(files): State<Arc<Files>>) -> impl IntoResponse {
    let recorder = Text::default();
    with_local_recorder(&recorder, || files.pool.record_metrics());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.render())
}

/// A recorder that keeps one value for each metric.
#[derive(Debug, Default)]
struct Text(Mutex<BTreeMap<String, Family>>);

#[derive(Debug, Default)]
struct Family {
    help: SharedString,
    kind: &'static str,
    samples: Vec<(String, Arc<Value>)>,
}

#[derive(Debug, Default)]
struct Value(Mutex<f64>);

impl Text {
    fn describe(&self, name: &KeyName, help: SharedString) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.entry(name.as_str().to_owned()).or_default().help = help;
    }

    fn add(&self, key: &Key, kind: &'static str) -> Arc<Value> {
        let labels = key.labels().map(|label| format!("{}={:?}", label.key(), label.value()));
        let (labels, value) = (labels.collect::<Vec<_>>().join(","), Arc::default());
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(key.name().to_owned()).or_default();
        family.kind = kind;
        family.samples.push((labels, Arc::clone(&value)));
        value
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(text, "# HELP {name} {}", family.help); // a string takes all
            let _ = writeln!(text, "# TYPE {name} {}", family.kind);
            for (labels, value) in &family.samples {
                let value = *value.0.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        }
        text
    }
}

impl Recorder for Text {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.add(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.add(key, "gauge"))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop() // a pool has none
    }
}

impl Value {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *value = change(*value);
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are floating")]
impl CounterFn for Value {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl GaugeFn for Value {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_a_pool_has_its_help_its_type_and_a_value() {
        let (recorder, pool) = (Text::default(), overspill::SpillPool::default());
        with_local_recorder(&recorder, || pool.record_metrics());
        let text = recorder.render();
        let names: Vec<_> = recorder.0.lock().unwrap().keys().cloned().collect();
        assert!(names.len() > 10, "{text}");
        for name in names {
            let lines = [format!("# HELP {name} "), format!("# TYPE {name} "), format!("{name}{{pool=\"\"")];
            for line in lines {
                let is_there = |other: &str| other.strip_prefix(&line).is_some_and(|rest| !rest.is_empty());
                assert!(text.lines().any(is_there), "no {line} in {text}");
            }
        }
        assert!(text.contains("overspill_memory_bytes{pool=\"\",state=\"limit\"} 67108864\n"), "{text}");
    }
}
