//! The memory that a live room costs whose members are all online.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, write_all};
use crate::crowd::{AT_ONCE, check_open_files, fresh_name};
use crate::idle::settled;
use crate::load::Load;
use crate::progress::BenchProgress;
use crate::receiver::{Receiver, put_send};
use crate::server::{BenchServer, Parts, ServerShape};
use crate::{BenchError, token};

/// Rooms without a subscriber are evicted soon, so that none is live before its members sign in.
pub(crate) const SERVER: ServerShape = ServerShape { more_nodes: 0, args: &["--idle-min", "2s"] };
/// How long the eviction of the rooms takes, with the time of [`SERVER`].
pub(crate) const EVICTION: Duration = Duration::from_secs(8);
const USERS: usize = 1000;
const MEMBERS: usize = 10;
/// How many users share one place in the rooms.
const GROUPS: usize = USERS / MEMBERS;
/// How long the first messages of all rooms may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The resident bytes per live room, without those that are resident while the same users are idle.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LiveRoomsPoint {
    pub(crate) users: usize,
    pub(crate) rooms_of_user: usize,
    pub(crate) rooms: usize,
    pub(crate) bytes_per_room: Parts<f64>,
}

/// Returns the members of a room: from each place one user, so that no two layers have the same rooms.
fn members(layer: usize, group: usize) -> impl Iterator<Item = usize> {
    (0..MEMBERS).map(move |place| place * GROUPS + (group + layer * place) % GROUPS)
}

/// Measures the memory per live room of ten, with `rooms_of_user` rooms for each of 1,000 users. The rooms exist and
/// are not live when the first figure is taken. Then one message makes each of them live.
pub(crate) async fn run(
    server: &BenchServer,
    rooms_of_user: usize,
    progress: &BenchProgress,
) -> Result<LiveRoomsPoint, BenchError> {
    check_open_files(USERS)?;
    let name = fresh_name();
    let users: Vec<_> = (0..USERS).map(|n| format!("{name}-u{n}")).collect();
    let tokens = token::fetch(server.address(), &users).await?;
    let room = |layer, group| format!("{name}-r{layer}-{group}");
    progress.say("making rooms");
    // The first member of all rooms of a group is the same user.
    let owners = (0..GROUPS).map(|group| {
        let of_layer = |layer| {
            let others: Vec<_> = members(layer, group).skip(1).map(|member| users[member].as_str()).collect();
            json!({"op": "create", "room": room(layer, group), "name": "a room", "members": others})
        };
        let rooms: Vec<_> = (0..rooms_of_user).map(of_layer).collect();
        let token = &tokens[group];
        async move {
            let mut owner = Connection::sign_in(server.address(), token, 0).await?.connection;
            owner.ask_all(rooms.into_iter(), |_| {}).await?;
            owner.close().await
        }
    });
    stream::iter(owners).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    progress.say("waiting until no room is live");
    sleep(EVICTION).await;

    let load = Arc::new(Load::new(Vec::new()));
    let (mut receivers, mut streams) = (JoinSet::new(), Vec::new());
    let mut sign_ins =
        stream::iter(tokens.iter().map(|token| Connection::sign_in(server.address(), token, 0))).buffered(AT_ONCE);
    while let Some(signed_in) = sign_ins.next().await {
        let connection = signed_in?.connection;
        streams.push(connection.stream.clone());
        receivers.spawn(Receiver::new(connection, load.clone(), None, false).run());
        progress.say(&format!("signing in {} of {USERS}", streams.len()));
    }
    let idle = settled(server).await?;
    for (group, stream) in streams.iter().take(GROUPS).enumerate() {
        let mut out = Vec::new();
        (0..rooms_of_user).for_each(|layer| put_send(&mut out, &room(layer, group), &load));
        write_all(stream, &out).await?;
    }
    let begun = Instant::now();
    while load.unanswered() > 0 && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    load.check()?;
    let unanswered = load.unanswered();
    let refused = load.tally().refused;
    if refused + unanswered > 0 {
        return Err(BenchError::protocol(format!("{refused} first messages were refused, {unanswered} not answered")));
    }
    progress.say("waiting for memory to settle");
    let live = settled(server).await?;
    receivers.abort_all();
    let rooms = GROUPS * rooms_of_user;
    let per_room = |live: u64, idle: u64| (live as f64 - idle as f64) / rooms as f64;
    let bytes_per_room = Parts { server: per_room(live.server, idle.server), nats: per_room(live.nats, idle.nats) };
    Ok(LiveRoomsPoint { users: USERS, rooms_of_user, rooms, bytes_per_room })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_one_room_of_each_layer() {
        for layer in [0, 1, 19] {
            let mut all: Vec<_> = (0..GROUPS).flat_map(|group| members(layer, group)).collect();
            assert!((0..GROUPS).all(|group| members(layer, group).next() == Some(group)), "the owner");
            all.sort_unstable();
            assert_eq!(all, (0..USERS).collect::<Vec<_>>());
        }
    }
}
