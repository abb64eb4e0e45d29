//! The time that a user with many rooms waits for the welcome.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::crowd::fresh_name;
use crate::histogram::Histogram;
use crate::progress::BenchProgress;
use crate::server::BenchServer;
use crate::talk::Quantiles;
use crate::{BenchError, token};

/// How many times each user signs in.
const TIMES: usize = 50;
/// The size of the first page of rooms that a client asks for.
const PAGE: usize = 50;

/// The sign-in times of one user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SignInPoint {
    pub(crate) rooms: usize,
    pub(crate) welcome_us: Option<Quantiles>,
}

/// Measures the sign-in of one user for each number of rooms in `counts`.
pub(crate) async fn run(
    server: &BenchServer,
    counts: &[usize],
    settle: Duration,
    progress: &BenchProgress,
) -> Result<Vec<SignInPoint>, BenchError> {
    let name = fresh_name();
    let users: Vec<_> = counts.iter().map(|rooms| format!("{name}-with-{rooms}")).collect();
    let tokens = token::fetch(server.address(), &users).await?;
    for ((rooms, user), token) in counts.iter().zip(&users).zip(&tokens) {
        let mut connection = Connection::sign_in(server.address(), token, PAGE).await?.connection;
        let room = |n| json!({"op": "create", "room": format!("{user}-r{n}"), "name": format!("room {n}")});
        let say = |done| progress.say(&format!("making room {done} of {rooms}"));
        connection.ask_all((0..*rooms).map(room), say).await?;
        connection.close().await?;
    }
    progress.say("waiting for the rooms to become quiet");
    sleep(settle).await;
    let mut points = Vec::new();
    for (rooms, token) in counts.iter().zip(&tokens) {
        let mut times = Histogram::default();
        for n in 0..TIMES {
            // The previous sign-out is complete only once the user's rooms know about it.
            sleep(Duration::from_millis(100) + Duration::from_micros(100) * *rooms as u32).await;
            let signed_in = Connection::sign_in(server.address(), token, PAGE).await?;
            times.record(signed_in.took.as_nanos() as u64);
            if signed_in.rooms.len() < PAGE.min(*rooms) {
                return Err(BenchError::protocol(format!(
                    "a welcome lists {} of {rooms} rooms",
                    signed_in.rooms.len()
                )));
            }
            signed_in.connection.close().await?;
            progress.say(&format!("signing in with {rooms} rooms, {n} of {TIMES}"));
        }
        points.push(SignInPoint { rooms: *rooms, welcome_us: Quantiles::of(&times) });
    }
    Ok(points)
}
