//! What a fleet uses when nobody is online, from run to run: it must stay what it was.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sendpi_bus::subject::{
    DEAD_STREAM, INGEST_STREAM, PARTITIONS_BUCKET, PRESENCE_BUCKET, PUSH_LOG_STREAM, PUSH_STREAM,
};
use sendpi_tests::{get, metric, within};
use serde_json::Value;
use tokio::time::sleep;

use crate::fleet::ChaosFleet;

/// How soon the keys of those who were online are gone.
const GONE: Duration = Duration::from_secs(90);
/// The buckets of Sendpi, and its other streams.
const BUCKETS: [&str; 2] = [PARTITIONS_BUCKET, PRESENCE_BUCKET];
const STREAMS: [&str; 4] = [DEAD_STREAM, INGEST_STREAM, PUSH_STREAM, PUSH_LOG_STREAM];
/// What is measured, and by how much it may rise on its own: a share of what it was, and so many more.
const MEASURED: [(&str, f64, u64); 5] = [
    // Allocators keep what they once needed.
    ("memory of the largest node in MiB", 0.5, 64),
    ("tasks", 0.2, 60),
    ("open files", 0.2, 60),
    ("keys", 0.0, 2),
    ("consumers", 0.0, 2),
];

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceSample(BTreeMap<&'static str, u64>);

impl ResourceSample {
    /// Measures a fleet, once the presence of all who were online is gone.
    pub(crate) async fn take(fleet: &ChaosFleet) -> Self {
        let bus = fleet.bus().await;
        let info = async |stream: &str| -> Value {
            let answer = bus.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await;
            answer.ok().and_then(|answer| serde_json::from_slice(answer.payload()).ok()).unwrap_or_default()
        };
        let nodes = fleet.nodes().count() as u64;
        let bucket = |name: &str| format!("KV_{name}");
        let keys = async || info(&bucket(PRESENCE_BUCKET)).await["state"]["num_subjects"].as_u64();
        within(GONE, "only nodes have keys of presence", async {
            while keys().await.is_none_or(|keys| keys > nodes) {
                sleep(Duration::from_millis(500)).await;
            }
        })
        .await;
        let mut sample: BTreeMap<&'static str, u64> = MEASURED.iter().map(|(name, ..)| (*name, 0)).collect();
        let mut add = |name, value: u64| *sample.entry(name).or_default() += value;
        let mut largest = 0;
        for node in fleet.nodes() {
            let metrics = get(node.url(), "/metrics", &[]).await.map(|answer| answer.body).unwrap_or_default();
            largest = largest.max(metric(&metrics, "sendpi_resident_bytes") / (1024 * 1024));
            add("tasks", metric(&metrics, "sendpi_tasks"));
            add("open files", metric(&metrics, "sendpi_open_files"));
        }
        add("memory of the largest node in MiB", largest);
        for stream in BUCKETS.map(bucket).into_iter().chain(STREAMS.map(str::to_owned)) {
            add("consumers", info(&stream).await["state"]["consumer_count"].as_u64().unwrap_or(0));
        }
        for stream in BUCKETS.map(bucket) {
            add("keys", info(&stream).await["state"]["num_subjects"].as_u64().unwrap_or(0));
        }
        Self(sample)
    }
}

impl fmt::Display for ResourceSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Returns what has risen: of the runs after the first, which warms everything up, the last third uses more than the
/// first.
pub(crate) fn risen(samples: &[ResourceSample]) -> Vec<String> {
    let warm = samples.get(1..).unwrap_or_default();
    let third = warm.len() / 3;
    if third == 0 {
        return vec![format!("{} runs are too few to tell", samples.len())];
    }
    let median = |samples: &[ResourceSample], name: &str| {
        let mut values: Vec<u64> = samples.iter().filter_map(|sample| sample.0.get(name).copied()).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let risen = MEASURED.iter().filter_map(|(name, share, more)| {
        let (before, after) = (median(&warm[..third], name), median(&warm[warm.len() - third..], name));
        let most = before + (before as f64 * share) as u64 + more;
        (after > most).then(|| format!("{name}: {after}, and {before} at first"))
    });
    risen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(keys: &[u64]) -> Vec<ResourceSample> {
        keys.iter().map(|keys| ResourceSample(BTreeMap::from([("keys", *keys), ("tasks", 100)]))).collect()
    }

    #[test]
    fn what_rises_is_found_and_what_varies_is_not() {
        assert_eq!(risen(&samples(&[5, 70, 71, 70, 70, 69, 71])), Vec::<String>::new());
        assert_eq!(risen(&samples(&[5, 70, 71, 75, 80, 85, 90])), ["keys: 90, and 71 at first"]);
        assert_eq!(risen(&samples(&[5, 70])), ["2 runs are too few to tell"]);
    }
}
