//! The setup of the buckets and streams, which every node runs when it starts, and again when one is lost.

mod keeper;

use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, SubjectTransform};
use sendpi_model::Partitions;
use serde::Deserialize;

pub use self::keeper::{StreamLosses, keep_streams};
use crate::push_stream::push_consumer;
use crate::{Bucket, Bus, PutError, subject};

/// The version of the cluster's schema, which is part of the value under `=config` in the partitions bucket.
const SCHEMA_VERSION: u64 = 1;

/// How many bytes the push stream may have at most.
const PUSH_BYTES: u64 = 1 << 30;
/// How many bytes the stream of system events may have at most.
const INGEST_BYTES: u64 = 128 << 20;
/// How many bytes the push log may have at most.
const PUSH_LOG_BYTES: u64 = 64 << 20;
/// How long the push log keeps what became of a push.
const PUSH_LOG_AGE: Duration = Duration::from_secs(72 * 3600);
/// How many bytes the stream of dead letters may have at most.
const DEAD_BYTES: u64 = 64 << 20;
/// How many bytes all streams together may have at most. A NATS server makes them only if so much is free.
pub const RESERVED_BYTES: u64 = PUSH_BYTES + PUSH_LOG_BYTES + INGEST_BYTES + DEAD_BYTES;
/// How long system events are kept, and for how long a repeat is recognized by its `Nats-Msg-Id`.
const INGEST_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long dead letters are kept.
const DEAD_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why the buckets and streams could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// NATS refused, or did not answer.
    #[error("cannot make {what}: {why}")]
    Nats {
        /// The bucket or stream.
        what: &'static str,
        /// What NATS reported.
        why: String,
    },
    /// Something is missing, and this node may not make it.
    #[error(
        "buckets and streams are missing, and NATS refuses to let this node make them ({0}); an operator makes \
             them with `sendpi nats setup`"
    )]
    Refused(String),
    /// The cluster was made with another number of partitions, or by a release with another schema.
    #[error("this cluster was made with {found}, and this node is configured for {expected}")]
    Mismatch {
        /// What the cluster was made with.
        found: String,
        /// What this node is configured for.
        expected: String,
    },
}

/// Makes what is missing, and checks that the cluster was made for `partitions`. A second call changes nothing. What an
/// operator changed of a stream stays, but the push stream always refuses what it has no room for.
///
/// `replicas` is 3 on a cluster. On a single server it is 1, and everything is kept in files, because the memory
/// streams of a single server vanish with it.
///
/// # Errors
/// [`SetupError`] if NATS refuses, or if the cluster was made for something else.
pub async fn setup(bus: &Bus, partitions: Partitions, replicas: usize) -> Result<(), SetupError> {
    let mut refusals = bus.refusals();
    refusals.mark_unchanged();
    let setup = async {
        make_missing(bus, partitions, replicas).await?;
        keep_all_pushes(bus).await?;
        push_consumer(bus).await.map_err(|e| SetupError::Nats { what: subject::PUSH_CONSUMER, why: e.to_string() })?;
        check_config(bus, partitions).await
    };
    // A server answers nothing to what it refuses.
    tokio::select! {
        done = setup => done,
        Ok(()) = refusals.changed() => Err(SetupError::Refused(refusals.borrow().clone())),
    }
}

/// When each bucket and stream was made. A later time means that it was lost in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MadeAt {
    partitions: DateTime,
    presence: DateTime,
    push: DateTime,
}

/// Makes what is missing.
async fn make_missing(bus: &Bus, partitions: Partitions, replicas: usize) -> Result<MadeAt, SetupError> {
    let bucket = |name: &'static str, storage: StorageType, markers: bool| Config {
        name: subject::bucket_stream(name),
        subjects: vec![subject::bucket_prefix(name) + ">"],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        discard: DiscardPolicy::New,
        storage,
        num_replicas: replicas,
        allow_message_ttl: markers,
        subject_delete_marker_ttl: markers.then_some(Duration::from_secs(10)),
        ..Config::default()
    };
    let presence = if replicas > 1 { StorageType::Memory } else { StorageType::File };
    let leases = bucket(subject::PARTITIONS_BUCKET, StorageType::File, false);
    let leases = make(bus, subject::PARTITIONS_BUCKET, leases).await?;
    let presence = make(bus, subject::PRESENCE_BUCKET, bucket(subject::PRESENCE_BUCKET, presence, true)).await?;
    let push = make(bus, subject::PUSH_STREAM, push_stream(replicas)).await?;
    make(bus, subject::INGEST_STREAM, ingest_stream(partitions, replicas)).await?;
    make(bus, subject::DEAD_STREAM, dead_stream(replicas)).await?;
    make(bus, subject::PUSH_LOG_STREAM, push_log_stream(replicas)).await?;
    Ok(MadeAt { partitions: leases, presence, push })
}

fn push_stream(replicas: usize) -> Config {
    Config {
        name: subject::PUSH_STREAM.to_owned(),
        subjects: vec![subject::PUSH_SUBJECTS.to_owned()],
        retention: RetentionPolicy::WorkQueue,
        // A push that nobody fetched for a day is of no use to anybody.
        max_age: Duration::from_secs(24 * 3600),
        max_bytes: PUSH_BYTES as i64,
        // A queue that is full refuses further jobs, which slows the rooms that they come from.
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        ..Config::default()
    }
}

fn ingest_stream(partitions: Partitions, replicas: usize) -> Config {
    Config {
        name: subject::INGEST_STREAM.to_owned(),
        subjects: vec![subject::INGEST_SUBJECTS.to_owned()],
        subject_transform: Some(SubjectTransform {
            source: subject::INGEST_SUBJECTS.to_owned(),
            destination: subject::ingest_transform(partitions.count()),
        }),
        max_age: INGEST_AGE,
        duplicate_window: INGEST_AGE,
        max_bytes: INGEST_BYTES as i64,
        // A publisher that asks for an acknowledgement learns that there is no room.
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        ..Config::default()
    }
}

fn push_log_stream(replicas: usize) -> Config {
    Config {
        name: subject::PUSH_LOG_STREAM.to_owned(),
        subjects: vec![subject::PUSH_LOG_SUBJECTS.to_owned()],
        max_age: PUSH_LOG_AGE,
        max_bytes: PUSH_LOG_BYTES as i64,
        max_messages_per_subject: crate::push_log::ENTRIES,
        num_replicas: replicas,
        ..Config::default()
    }
}

fn dead_stream(replicas: usize) -> Config {
    Config {
        name: subject::DEAD_STREAM.to_owned(),
        subjects: vec![subject::DEAD_SUBJECTS.to_owned()],
        max_age: DEAD_AGE,
        max_bytes: DEAD_BYTES as i64,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// Mends the push stream of an earlier release, which dropped the jobs that it had no room for.
async fn keep_all_pushes(bus: &Bus) -> Result<(), SetupError> {
    let failed = |why: String| SetupError::Nats { what: subject::PUSH_STREAM, why };
    let stream = bus.jetstream().get_stream(subject::PUSH_STREAM).await.map_err(|e| failed(e.to_string()))?;
    let found = &stream.cached_info().config;
    if found.discard != DiscardPolicy::New {
        let mended = Config { discard: DiscardPolicy::New, ..found.clone() };
        bus.jetstream().update_stream(mended).await.map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// Makes one bucket or stream if it is missing. Returns when it was made.
async fn make(bus: &Bus, what: &'static str, config: Config) -> Result<DateTime, SetupError> {
    bus.jetstream()
        .get_or_create_stream(config)
        .await
        .map(|stream| stream.cached_info().created)
        .map_err(|e| SetupError::Nats { what, why: e.to_string() })
}

/// What a cluster was made for, as every release has written it.
#[derive(Debug, Deserialize)]
struct ClusterConfig {
    #[serde(rename = "partitions")]
    _partitions: u64,
    #[serde(rename = "schema")]
    _schema: u64,
}

async fn check_config(bus: &Bus, partitions: Partitions) -> Result<(), SetupError> {
    let what = subject::PARTITIONS_BUCKET;
    let bucket = Bucket::new(bus, what);
    let ours = serde_json::json!({"partitions": partitions.count(), "schema": SCHEMA_VERSION}).to_string();
    let failed = |e: &dyn std::fmt::Display| SetupError::Nats { what, why: e.to_string() };
    loop {
        let entry = bucket.read(subject::CLUSTER_CONFIG_KEY).await.map_err(|e| failed(&e))?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        match entry.and_then(|entry| entry.value) {
            Some(found) if found == ours.as_bytes() => return Ok(()),
            // What is no configuration is written anew. The store knows the number of partitions, too.
            Some(found) if serde_json::from_slice::<ClusterConfig>(&found).is_ok() => {
                let found = String::from_utf8_lossy(&found).into_owned();
                return Err(SetupError::Mismatch { found, expected: ours });
            }
            _ => match bucket.put(subject::CLUSTER_CONFIG_KEY, ours.clone().into(), Some(revision), None).await {
                Ok(_) => return Ok(()),
                // Another node was faster.
                Err(PutError::WrongRevision) => {}
                Err(e) => return Err(failed(&e)),
            },
        }
    }
}
