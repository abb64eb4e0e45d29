//! The recorder of one connection, which receives its frames and notes what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sendpi_client::{Client, ClientError, Frames, HeadsAnswer, Options, Range, ServerFrame, Welcome, connect};
use sendpi_model::Millis;
use tokio::task::JoinHandle;

use super::Seen;
use crate::Timelines;
use crate::test_log::TestLog;

/// How soon a read is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Signs in, resuming what is known, and starts to record.
pub(super) async fn sign_in(
    url: &str,
    token: &str,
    device: &str,
    options: &Options,
    seen: &Arc<Seen>,
) -> Result<(Client, Welcome, JoinHandle<()>), ClientError> {
    let known = seen.lock().timelines.to_resume();
    let resume: BTreeMap<_, _> = options.resume.clone().into_iter().chain(known).collect();
    let options = Options { resume: resume.clone(), ..options.clone() };
    let (client, frames, welcome) = connect(url, token, device, options).await?;
    let log = TestLog::open(&format!("{}-{device}", welcome.user));
    let heads: Vec<String> = welcome.rooms.iter().map(|info| format!("{} {}", info.room, info.seq)).collect();
    log.write(format_args!("{} welcome {heads:?}, resumed {resume:?}", Millis::now().0));
    // This comes before the first frame is received, because the frames are checked against the welcome.
    seen.change(|all| all.timelines.welcome(&welcome.rooms, &resume));
    let recorder = tokio::spawn(record(frames, client.clone(), Arc::clone(seen), log));
    Ok((client, welcome, recorder))
}

/// Records frames until the connection ends, and reads at once what the server says was missed.
async fn record(mut frames: Frames, client: Client, seen: Arc<Seen>, log: TestLog) {
    while let Some(frame) = frames.next().await {
        log.write(format_args!("{} {frame:?}", Millis::now().0));
        let mut missed = Vec::new();
        match frame {
            Err(error) => seen.change(|all| all.unreadable.push(format!("a frame cannot be read: {error}"))),
            Ok(ServerFrame::Event(event)) if event.seq.is_some() => seen.change(|all| all.timelines.push(event)),
            Ok(frame) => seen.change(|all| {
                missed = note(&mut all.timelines, &frame);
                all.others.push(frame);
            }),
        }
        for room in missed {
            let read = read_missed(&client, &seen, &room).await;
            log.write(format_args!("{} read {room}: {read}", Millis::now().0));
            if !read {
                // What follows the gap would look as if there had been none. The next session resumes before it.
                return;
            }
        }
    }
}

/// Reads the history of a room from the last seq that this client has seen to the end. Tries again while the room
/// cannot be read. Returns `false` if the connection ends before.
async fn read_missed(client: &Client, seen: &Seen, room: &str) -> bool {
    let mut last = seen.lock().timelines.last(room).unwrap_or(0);
    let mut events = Vec::new();
    loop {
        let more = match client.history(room, Range::After(last), 200).await {
            Ok(page) => {
                last = page.events.last().and_then(|event| event.seq).unwrap_or(last);
                let more = page.more && !page.events.is_empty();
                events.extend(page.events);
                more
            }
            Err(ClientError::Closed(_)) => return false,
            Err(error) if error.is_unknown() => {
                tokio::time::sleep(AGAIN).await;
                true
            }
            Err(_) => false,
        };
        if !more {
            seen.change(|all| all.timelines.history(room, &events));
            return true;
        }
    }
}

/// Notes what a frame says about rooms, and returns the rooms in which events were missed.
fn note(timelines: &mut Timelines, frame: &ServerFrame) -> Vec<String> {
    match frame {
        ServerFrame::RoomAdded { info } => timelines.added(info),
        ServerFrame::RoomRemoved(removed) => timelines.removed(&removed.room),
        ServerFrame::Resumed(resumed) => {
            timelines.resumed(resumed);
            let truncated = resumed.rooms.iter().filter(|(_, state)| state.truncated);
            return truncated.map(|(room, _)| room.to_string()).collect();
        }
        ServerFrame::Heads(HeadsAnswer { rooms }) => {
            timelines.heads(rooms);
            return rooms.keys().map(ToString::to_string).collect();
        }
        _ => {}
    }
    Vec::new()
}
