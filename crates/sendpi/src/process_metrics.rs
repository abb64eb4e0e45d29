//! What a process uses: tasks, memory and open files. A figure that rises for hours while the load stays the same is a
//! leak.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

/// Reads what the process uses when it is asked for.
#[derive(Debug)]
struct ProcessMetrics(Handle);

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in [
            ("tasks", "Tasks of this process.", i64::try_from(self.0.metrics().num_alive_tasks()).ok()),
            ("resident_bytes", "Memory of this process. Only on Linux.", resident_bytes()),
            ("open_files", "Open files and sockets of this process. Only on Linux.", open_files()),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// Registers the metrics of this process. It must be called in its runtime.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessMetrics(Handle::current())));
}

/// Returns `VmRSS` of `/proc/self/status` (proc(5)).
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.parse::<i64>().ok()?.checked_mul(1024)
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
