//! What a room writes into the database: when it becomes active, and for each message.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::crowd::{fresh_name, make_room};
use crate::live_rooms::EVICTION;
use crate::progress::BenchProgress;
use crate::server::BenchServer;
use crate::{BenchError, token};

/// The numbers of members.
const MEMBERS: [usize; 3] = [2, 100, 1_000];
/// How many messages are counted, one after the other.
const MESSAGES: u64 = 200;
/// How long what follows an answer may take to be written.
const REST: Duration = Duration::from_secs(1);

/// The statements and the rows of one kind of write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct StoreWrites {
    pub(crate) statements: u64,
    pub(crate) rows: u64,
}

/// What is written, by the name of the statement.
pub(crate) type WrittenBy = BTreeMap<String, StoreWrites>;

/// What a room of so many members writes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WritesPoint {
    pub(crate) members: usize,
    /// With its first message after it was evicted.
    pub(crate) activation: WrittenBy,
    /// With all the messages after that one.
    pub(crate) messages: WrittenBy,
}

/// Counts the writes of rooms of 2, 100 and 1,000 members, of whom one is online.
pub(crate) async fn run(server: &BenchServer, progress: &BenchProgress) -> Result<Vec<WritesPoint>, BenchError> {
    let mut points = Vec::new();
    for members in MEMBERS {
        let name = fresh_name();
        let users: Vec<_> = (0..members).map(|n| format!("{name}-u{n}")).collect();
        let tokens = token::fetch(server.address(), &users[..1]).await?;
        let room = format!("{name}-r");
        progress.say(&format!("making a room of {members}"));
        make_room(server.address(), &tokens[0], &room, &users).await?;
        progress.say("waiting until it is evicted");
        sleep(EVICTION).await;
        let mut owner = Connection::sign_in(server.address(), &tokens[0], 0).await?.connection;
        sleep(REST).await;
        let before = written(server.address()).await?;
        owner.ask(send(&room, 0)).await?;
        sleep(REST).await;
        let active = written(server.address()).await?;
        for nonce in 1..=MESSAGES {
            owner.ask(send(&room, nonce)).await?;
        }
        sleep(REST).await;
        let after = written(server.address()).await?;
        owner.close().await?;
        points.push(WritesPoint { members, activation: since(&active, &before), messages: since(&after, &active) });
    }
    Ok(points)
}

fn send(room: &str, nonce: u64) -> Value {
    json!({"op": "send", "room": room, "nonce": format!("n{nonce}"), "body": {"text": "x"}})
}

/// Returns what was written after `before`.
fn since(after: &WrittenBy, before: &WrittenBy) -> WrittenBy {
    let changed = after.iter().map(|(name, now)| {
        let then = before.get(name).copied().unwrap_or_default();
        (name.clone(), StoreWrites { statements: now.statements - then.statements, rows: now.rows - then.rows })
    });
    changed.filter(|(_, written)| written.statements > 0).collect()
}

/// Reads from the metrics what the server has written since it started.
async fn written(address: &str) -> Result<WrittenBy, BenchError> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(read(&answer))
}

fn read(metrics: &str) -> WrittenBy {
    let mut written = WrittenBy::new();
    for line in metrics.lines() {
        let value = |name: &str| {
            let (query, value) = line.strip_prefix(name)?.strip_prefix("{query=\"write_")?.split_once("\"} ")?;
            Some((query.to_owned(), value.trim().parse().ok()?))
        };
        if let Some((query, statements)) = value("sendpi_store_queries_seconds_count") {
            written.entry(query).or_default().statements = statements;
        } else if let Some((query, rows)) = value("sendpi_store_written_rows_total") {
            written.entry(query).or_default().rows = rows;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_from_the_metrics() {
        let metrics = "# TYPE sendpi_store_queries_seconds histogram\n\
                       sendpi_store_queries_seconds_count{query=\"write_timeline\"} 3\n\
                       sendpi_store_queries_seconds_count{query=\"read_fence\"} 9\n\
                       sendpi_store_written_rows_total{query=\"write_timeline\"} 12\n";
        let before = read(metrics);
        assert_eq!(before, WrittenBy::from([("timeline".into(), StoreWrites { statements: 3, rows: 12 })]));
        let after = read(&metrics.replace(" 3\n", " 4\n").replace(" 12\n", " 14\n"));
        assert_eq!(
            since(&after, &before),
            WrittenBy::from([("timeline".into(), StoreWrites { statements: 1, rows: 2 })])
        );
        assert!(since(&before, &before).is_empty());
    }
}
