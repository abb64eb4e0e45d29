//! A run: people talk while a script happens, and what they saw is held against the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sendpi_client::EventFrame;
use sendpi_model::Millis;
use sendpi_tests::{Proxy, PushRecorder, Recording, within};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::call_log::{CallLog, CallOutcome};
use crate::checker::{Evidence, SURELY_GONE};
use crate::device::{BUSY, ChaosDevice, Habit, Sending, SharedByDevices};
use crate::given_up::times_given_up;
use crate::script::{ChaosAction, ChaosCast, Script};

/// How many rooms there are. Some of them are quiet.
const ROOMS: usize = 9;
/// How soon everybody has seen everything when nothing more happens, and how soon everything is pushed.
const QUIET: Duration = Duration::from_secs(100);
/// What takes longer than this at the end is told.
const SLOW: Duration = Duration::from_secs(3);
/// How long people talk before anything happens: longer than it takes to give up a node.
const CALM: Duration = Duration::from_secs(6);
/// Who is there, with which devices.
const PEOPLE: [(&str, &[&str], Habit); 8] = [
    ("ann", &["phone", "laptop"], Habit::Talks),
    ("bob", &["phone", "tablet"], Habit::Talks),
    ("cleo", &["phone"], Habit::Talks),
    ("dora", &["laptop"], Habit::Talks),
    ("emil", &["phone"], Habit::Talks),
    ("fred", &["phone"], Habit::ComesAndGoes),
    ("gina", &["phone"], Habit::ComesAndGoes),
    (LEAVES, &["phone"], Habit::Leaves),
];
/// Who leaves at the beginning.
const LEAVES: &str = "hank";
/// Who is a member and never comes.
const NEVER_THERE: &str = "zoe";

/// What a script acts on.
pub(crate) trait ChaosStage {
    /// Returns how many there are of what things happen to.
    fn cast(&self) -> ChaosCast;
    /// Returns the addresses of the gateways.
    fn gateways(&self) -> Vec<String>;
    /// Takes over the lines of the devices of a run.
    fn set_devices(&mut self, devices: Vec<Arc<Proxy>>);
    /// Returns a token of a user.
    async fn token(&self, user: &str) -> String;
    /// Begins to fetch all push jobs.
    async fn pushes(&self) -> PushRecorder;
    /// Has happen what scripts do not bring about, in rooms where people talk. Returns what did not come about.
    async fn before_script(&mut self, seed: u64, rooms: &[String]) -> Vec<String>;
    /// Does one step of a script.
    async fn perform(&mut self, action: ChaosAction);
    /// Waits until everything is up. Nothing is wrong any more at the end of a script.
    async fn heal(&mut self);
    /// Returns what the processes that are up have printed.
    fn printed(&self) -> Vec<String>;
    /// Returns what processes did that no fault explains.
    fn violations(&mut self) -> Vec<String>;
    /// Returns the events of rooms in the store.
    async fn truth(&mut self, rooms: &[String]) -> BTreeMap<String, Vec<EventFrame>>;
}

/// Plays the script of a seed, and returns every violation.
pub(crate) async fn play(
    stage: &mut impl ChaosStage,
    pushes: &PushRecorder,
    seed: u64,
    length: Duration,
) -> Vec<String> {
    let run = format!("{seed}-{:08x}", rand::random::<u32>());
    let rooms = make_rooms(stage, &run).await;
    let (tell_gateways, gateways) = watch::channel(stage.gateways());
    let ((stop, stops), (come_back, all_back)) = (watch::channel(false), watch::channel(false));
    let shared = Arc::new(SharedByDevices { rooms: rooms.clone(), log: CallLog::default(), gateways, stops, all_back });
    let (mut lines, mut living, mut away) = (Vec::new(), Vec::new(), Vec::new());
    for (name, devices, habit) in PEOPLE {
        let user = user(name, &run);
        let token = stage.token(&user).await;
        for device in devices {
            let gateways = stage.gateways();
            let number = lines.len();
            let line = Arc::new(Proxy::start(&gateways[number % gateways.len()]).await);
            lines.push(Arc::clone(&line));
            let device =
                ChaosDevice::sign_in((&user, device), &token, habit, line, Arc::clone(&shared), seed + number as u64);
            let life = tokio::spawn(device.await.live());
            if habit == Habit::Leaves { away.push(life) } else { living.push(life) }
        }
    }
    stage.set_devices(lines);

    let gone_since = Millis::now();
    // While nothing happens, nobody may take a node that is well for dead.
    let before = times_given_up(&stage.printed());
    sleep(CALM).await;
    let given_up = times_given_up(&stage.printed()).saturating_sub(before);
    let wrong = (given_up > 0).then(|| format!("{given_up} times a node was given up while all was well"));
    let mut violations: Vec<String> = wrong.into_iter().collect();
    violations.extend(stage.before_script(seed, &rooms[..BUSY]).await);

    let script = Script::of(seed, length, stage.cast());
    println!("the script of seed {seed}:\n{script}");
    let began = Instant::now();
    for (at, action) in &script.0 {
        sleep_until(began + *at).await;
        let late = began.elapsed().saturating_sub(*at);
        stage.perform(*action).await;
        tell_gateways.send_replace(stage.gateways());
        if late > Duration::from_secs(1) {
            println!("{action:?} was {late:?} late");
        }
    }
    stage.heal().await;
    println!("seed {seed}: all is well after {:?}", began.elapsed());

    stop.send_replace(true);
    let mut devices = at_end(living).await;
    let reader = sign_in(stage, PEOPLE[0].0, "reader", &run).await;
    for (number, room) in rooms.iter().enumerate() {
        let text = format!("{} says good-bye {number}", reader.user());
        within(QUIET, "a message is acknowledged when all is well", send(&reader, room, text, &shared.log)).await;
    }
    // Who comes back before the last owners have pushed what was left reads it, and is not pushed it any more.
    violations.extend(until_pushed(&reader, &rooms, &user(LEAVES, &run), gone_since, pushes).await.err());
    come_back.send_replace(true);
    devices.extend(at_end(away).await);
    violations.extend(catch_up(&reader, &mut devices, &rooms).await);
    reader.finish().await;
    println!("seed {seed}: everybody has everything after {:?}", began.elapsed());
    let mut witnesses = Vec::new();
    for device in devices {
        witnesses.push(device.testify().await);
    }
    violations.extend(stage.violations());
    let truth = stage.truth(&rooms).await;
    let members = everybody(&run).into_iter().collect();
    let calls = shared.log.calls();
    let mut evidence = Evidence { calls, witnesses, truth, members, pushes: BTreeSet::new() };
    let _unreached = timeout(QUIET, async {
        loop {
            evidence.pushes = pushes.seen();
            if evidence.unreached().is_empty() {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    violations.extend(evidence.violations());
    println!("seed {seed}: {}, {} violations, {:?}", told(&evidence), violations.len(), began.elapsed());
    violations
}

fn user(name: &str, run: &str) -> String {
    format!("{name}-{run}")
}

/// Returns all members of a run's rooms, who makes them first.
fn everybody(run: &str) -> Vec<String> {
    PEOPLE.iter().map(|(name, ..)| *name).chain([NEVER_THERE]).map(|name| user(name, run)).collect()
}

async fn sign_in(stage: &impl ChaosStage, name: &str, device: &str, run: &str) -> Recording {
    let (user, gateways) = (user(name, run), stage.gateways());
    Recording::connect_with(&gateways[0], &stage.token(&user).await, &user, device, Default::default()).await
}

/// Makes the rooms of a run, with everybody in them.
async fn make_rooms(stage: &impl ChaosStage, run: &str) -> Vec<String> {
    let founder = sign_in(stage, PEOPLE[0].0, "founder", run).await;
    let everybody = everybody(run);
    let others: Vec<&str> = everybody[1..].iter().map(String::as_str).collect();
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        let made = founder.client().create(&format!("room {number}"), &others).await;
        rooms.push(made.unwrap_or_else(|error| panic!("no room: {error}")).room.to_string());
    }
    founder.finish().await;
    rooms
}

/// Waits for the devices when their lives end.
async fn at_end(living: Vec<JoinHandle<ChaosDevice>>) -> Vec<ChaosDevice> {
    let mut devices = Vec::new();
    for device in living {
        devices.push(device.await.unwrap_or_else(|error| panic!("{error}")));
    }
    devices
}

/// Sends a message until it is acknowledged.
async fn send(by: &Recording, room: &str, text: String, log: &CallLog) {
    let mut sending = Sending::new(room, text, by);
    loop {
        sending.send(by.client()).await;
        if !matches!(sending.call.outcome, CallOutcome::Unknown(_)) {
            return log.add(sending.call);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until all devices have seen everything that there is. Returns who has not in time.
async fn catch_up(reader: &Recording, devices: &mut [ChaosDevice], rooms: &[String]) -> Vec<String> {
    let (mut violations, mut heads) = (Vec::new(), Vec::new());
    loop {
        let mut now = Vec::new();
        for room in rooms {
            let began = Instant::now();
            now.push(history(reader, room).await.last().and_then(|event| event.seq).unwrap_or(0));
            if began.elapsed() > SLOW {
                println!("{room} could be read after {:?}", began.elapsed());
            }
        }
        // An event of a call that nobody waits for any more may still come.
        if now == heads || !violations.is_empty() {
            return violations;
        }
        heads = now;
        for device in &mut *devices {
            for (room, head) in rooms.iter().zip(&heads) {
                let began = Instant::now();
                violations.extend(device.catch_up(room, *head, QUIET).await.err());
                if began.elapsed() > SLOW {
                    println!("{device} had {room} after {:?}", began.elapsed());
                }
            }
        }
    }
}

/// Waits until a user who is away since some time was pushed every message that came after everybody must have noticed
/// it. Returns what was not pushed in time.
async fn until_pushed(
    reader: &Recording,
    rooms: &[String],
    user: &str,
    gone_since: Millis,
    pushes: &PushRecorder,
) -> Result<(), String> {
    let from = Millis(gone_since.0 + SURELY_GONE.as_millis() as u64);
    let missing = async || {
        let mut due = BTreeSet::new();
        for room in rooms {
            let events = history(reader, room).await.into_iter();
            let messages = events.filter(|event| event.kind == "message" && event.at >= from);
            due.extend(messages.filter_map(|message| Some((room.clone(), message.seq?, user.to_owned()))));
        }
        due.difference(&pushes.seen()).cloned().collect::<Vec<_>>()
    };
    let until = Instant::now() + QUIET;
    loop {
        let missing = missing().await;
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("not pushed for {QUIET:?} to who is away: {missing:?}"));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Returns the events of a room. Its owner may still be on its way to the database.
async fn history(reader: &Recording, room: &str) -> Vec<EventFrame> {
    within(QUIET, "a room can be read when all is well", async {
        loop {
            if let Ok(events) = reader.whole_history(room).await {
                return events;
            }
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await
}

fn told(evidence: &Evidence) -> String {
    let count = |wanted: fn(&CallOutcome) -> bool| evidence.calls.iter().filter(|call| wanted(&call.outcome)).count();
    format!(
        "{} calls done, {} failed, {} unknown; {} events, {} pushes",
        count(|outcome| matches!(outcome, CallOutcome::Done { .. })),
        count(|outcome| matches!(outcome, CallOutcome::Failed(_))),
        count(|outcome| matches!(outcome, CallOutcome::Unknown(_))),
        evidence.truth.values().map(Vec::len).sum::<usize>(),
        evidence.pushes.iter().filter(|(room, ..)| evidence.truth.contains_key(room)).count(),
    )
}
