//! The time that a user with many rooms waits for the welcome.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::crowd::fresh_name;
use crate::database::ReadTrace;
use crate::histogram::Histogram;
use crate::progress::BenchProgress;
use crate::server::BenchServer;
use crate::talk::Quantiles;
use crate::{BenchArgs, BenchError, token};

/// How many times each user signs in.
const TIMES: usize = 50;
/// The size of the first page of rooms that a client asks for.
const PAGE: usize = 50;
/// The rooms of a busy user.
const BUSY_ROOMS: usize = 50;

/// The sign-in times of one user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SignInPoint {
    pub(crate) rooms: usize,
    /// The days for which all of the rooms were active without a break.
    pub(crate) days: u32,
    pub(crate) welcome_us: Option<Quantiles>,
    /// How many order rows a sign-in reads, if that is known.
    pub(crate) trace: Option<ReadTrace>,
}

/// Measures the sign-in of one user for each number of rooms, and on a database of two with 50 rooms: a fresh one, and
/// one whose rooms were active for days.
pub(crate) async fn run(
    server: &BenchServer,
    args: &BenchArgs,
    progress: &BenchProgress,
) -> Result<Vec<SignInPoint>, BenchError> {
    let name = fresh_name();
    let mut shapes: Vec<(usize, u32)> = args.rooms.iter().map(|rooms| (*rooms, 0)).collect();
    if server.keyspace.is_some() {
        shapes.extend([(BUSY_ROOMS, 0), (BUSY_ROOMS, args.days)]);
    }
    let users: Vec<_> = (0..shapes.len()).map(|n| format!("{name}-u{n}")).collect();
    let tokens = token::fetch(server.address(), &users).await?;
    for (((rooms, days), user), token) in shapes.iter().zip(&users).zip(&tokens) {
        let mut connection = Connection::sign_in(server.address(), token, PAGE).await?.connection;
        let rooms: Vec<String> = (0..*rooms).map(|n| format!("{user}-r{n}")).collect();
        let create = |room: &String| json!({"op": "create", "room": room, "name": "a room"});
        let say = |done| progress.say(&format!("making room {done} of {}", rooms.len()));
        connection.ask_all(rooms.iter().map(create), say).await?;
        connection.close().await?;
        if let Some(keyspace) = server.keyspace.as_ref().filter(|_| *days > 0) {
            progress.say(&format!("writing the rows of {days} days"));
            keyspace.age(user, &rooms, *days).await?;
        }
    }
    progress.say("waiting for the rooms to become quiet");
    sleep(Duration::from_secs(args.settle)).await;
    let mut points = Vec::new();
    for (((rooms, days), user), token) in shapes.into_iter().zip(&users).zip(&tokens) {
        let trace = match &server.keyspace {
            Some(keyspace) => Some(keyspace.trace(user).await?),
            None => None,
        };
        let mut times = Histogram::default();
        for n in 0..TIMES {
            // The previous sign-out is complete only once the user's rooms know about it.
            sleep(Duration::from_millis(100) + Duration::from_micros(100) * rooms as u32).await;
            let signed_in = Connection::sign_in(server.address(), token, PAGE).await?;
            times.record(signed_in.took.as_nanos() as u64);
            if signed_in.rooms.len() < PAGE.min(rooms) {
                return Err(BenchError::protocol(format!(
                    "a welcome lists {} of {rooms} rooms",
                    signed_in.rooms.len()
                )));
            }
            signed_in.connection.close().await?;
            progress.say(&format!("signing in with {rooms} rooms, {n} of {TIMES}"));
        }
        points.push(SignInPoint { rooms, days, welcome_us: Quantiles::of(&times), trace });
    }
    Ok(points)
}
