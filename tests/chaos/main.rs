//! Chaos: real processes are killed, frozen, stopped and started, and their connections fail in every way, while people
//! talk. At the end nothing that was acknowledged is missing, nothing is there twice, everybody saw the same, and who
//! was away was pushed.
//!
//! `SENDPI_SEED` is the first seed, `SENDPI_SEEDS` how many are played, and `SENDPI_CHAOS_SECONDS` how long things
//! happen in each. With `SENDPI_SOAK_SECONDS` random seeds are played for so long, and what the fleet uses must stay
//! what it was.

mod call_log;
mod checker;
mod device;
mod faults;
mod fleet;
mod given_up;
mod one_process;
mod resources;
mod run;
mod script;
mod seat;
mod truth;
mod two_owners;

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use sendpi_tests::PushRecorder;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::fleet::ChaosFleet;
use self::one_process::OneProcess;
use self::resources::{ResourceSample, risen};
use self::run::{ChaosStage, play};

/// For how long things happen to a fleet in a run, and to one process, in seconds.
const FLEET_SECONDS: u64 = 90;
const PROCESS_SECONDS: u64 = 45;
/// How many violations are shown.
const SHOWN: usize = 40;
/// Each takes the whole machine.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Returns the number in an environment variable.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Returns for how long things happen in each run.
fn length(seconds: u64) -> Duration {
    Duration::from_secs(variable("SENDPI_CHAOS_SECONDS").unwrap_or(seconds))
}

/// Returns the seeds to play.
fn seeds() -> Range<u64> {
    let first = variable("SENDPI_SEED").unwrap_or(1);
    first..first + variable("SENDPI_SEEDS").unwrap_or(1)
}

/// Plays a seed. Nothing may be wrong.
async fn play_well(stage: &mut impl ChaosStage, pushes: &PushRecorder, seed: u64, seconds: u64) {
    let violations = play(stage, pushes, seed, length(seconds)).await;
    let shown: Vec<&str> = violations.iter().take(SHOWN).map(String::as_str).collect();
    let (count, shown) = (violations.len(), shown.join("\n  "));
    assert!(violations.is_empty(), "{count} violations; play it again with SENDPI_SEED={seed}:\n  {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_in_chaos_loses_repeats_and_contradicts_nothing() {
    let _alone = ALONE.lock().await;
    let mut fleet = ChaosFleet::start().await;
    let pushes = fleet.pushes().await;
    let Some(soak) = variable("SENDPI_SOAK_SECONDS").map(Duration::from_secs) else {
        for seed in seeds() {
            play_well(&mut fleet, &pushes, seed, FLEET_SECONDS).await;
        }
        return;
    };
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < soak {
        play_well(&mut fleet, &pushes, rand::random_range(1..1_000_000), FLEET_SECONDS).await;
        let sample = ResourceSample::take(&fleet).await;
        println!("after {:?}: {sample}", began.elapsed());
        samples.push(sample);
    }
    assert_eq!(risen(&samples), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_again_and_again_loses_repeats_and_contradicts_nothing() {
    let _alone = ALONE.lock().await;
    let mut process = OneProcess::start().await;
    let pushes = process.pushes().await;
    for seed in seeds() {
        play_well(&mut process, &pushes, seed, PROCESS_SECONDS).await;
    }
}
