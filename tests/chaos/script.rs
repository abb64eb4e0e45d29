//! What happens to whom and when. It follows from a seed alone, so that a run that failed can be played again.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sendpi_tests::{HalfOpen, Proxy};

use crate::faults::{DATABASE, DEVICE, Fault, GATEWAY, NATS, PROCESS, ROUTES, WORKER};

/// A process that things happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChaosPart {
    Gateway(usize),
    Worker(usize),
    Nats(usize),
    Database,
}

/// A connection, or a few that fail together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// Those of a node to all NATS servers.
    ToNats(ChaosPart),
    /// Those of a node to the database.
    ToDatabase(ChaosPart),
    /// That of a device to its gateway.
    Device(usize),
    /// Those of a NATS server to the others.
    RoutesOf(ChaosPart),
    /// Those of all NATS servers to each other.
    AllRoutes,
}

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChaosAction {
    Kill(ChaosPart),
    /// As an operator stops it.
    Stop(ChaosPart),
    Start(ChaosPart),
    Freeze(ChaosPart),
    Thaw(ChaosPart),
    /// The NATS server says good-bye to its clients and ends.
    LameDuck(ChaosPart),
    Cut(Line),
    Vanish(Line),
    /// What is sent is so much longer under way, and what is answered so much.
    Delay(Line, Duration, Duration),
    HalfOpen(Line, HalfOpen),
    Mend(Line),
}

impl ChaosAction {
    /// Returns the line that it happens to. `None` if it happens to a process.
    pub(crate) fn line(self) -> Option<Line> {
        match self {
            Self::Cut(line) | Self::Vanish(line) | Self::Mend(line) => Some(line),
            Self::Delay(line, ..) | Self::HalfOpen(line, _) => Some(line),
            _ => None,
        }
    }

    /// Does what happens to a line to one of its proxies.
    pub(crate) fn change(self, proxy: &Proxy) {
        match self {
            Self::Cut(_) => proxy.cut(),
            Self::Vanish(_) => proxy.vanish(),
            Self::Mend(_) => proxy.mend(),
            Self::Delay(_, up, down) => proxy.delay(up, down),
            Self::HalfOpen(_, stays) => proxy.half_open(stays),
            _ => unreachable!("{self:?} happens to a process"),
        }
    }
}

/// How many there are of what things happen to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChaosCast {
    pub(crate) gateways: usize,
    pub(crate) workers: usize,
    pub(crate) nats: usize,
    pub(crate) devices: usize,
    /// Whether all of it but NATS is one process, [`ChaosPart::Worker`] 0.
    pub(crate) is_one_process: bool,
}

/// The steps of a run, in order, each with its time since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<(Duration, ChaosAction)>);

/// Who or what a fault happens to. It has one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FaultTarget {
    Part(ChaosPart),
    Device(usize),
    /// What leads from a NATS server to the others.
    Routes(ChaosPart),
}

impl FaultTarget {
    /// Returns whether nothing may happen to this one while something happens to the other. With a NATS server away,
    /// the two that are left must reach each other: without two of three nobody can claim anything, and little happens.
    fn excludes(self, other: Self) -> bool {
        let is_nats = |target| matches!(target, Self::Routes(_) | Self::Part(ChaosPart::Nats(_)));
        self == other || is_nats(self) && is_nats(other)
    }
}

impl Script {
    /// Returns the script of a seed that lasts so long. At its end all is well, but for what takes time to start.
    pub(crate) fn of(seed: u64, length: Duration, cast: ChaosCast) -> Self {
        let parts =
            |part: fn(usize) -> ChaosPart, count| (0..count).map(|n| FaultTarget::Part(part(n))).collect::<Vec<_>>();
        let devices: Vec<FaultTarget> = (0..cast.devices).map(FaultTarget::Device).collect();
        let workers = parts(ChaosPart::Worker, cast.workers);
        let lanes: Vec<(&'static [Fault], Vec<FaultTarget>)> = if cast.is_one_process {
            vec![(PROCESS, workers), (DEVICE, devices)]
        } else {
            vec![
                (WORKER, workers.clone()),
                (WORKER, workers),
                (GATEWAY, parts(ChaosPart::Gateway, cast.gateways)),
                (NATS, parts(ChaosPart::Nats, cast.nats)),
                (ROUTES, (0..cast.nats).map(|n| FaultTarget::Routes(ChaosPart::Nats(n))).collect()),
                (DATABASE, vec![FaultTarget::Part(ChaosPart::Database)]),
                (DEVICE, devices.clone()),
                (DEVICE, devices),
            ]
        };
        let lanes = lanes.into_iter().zip(0..).map(|((faults, targets), number)| {
            let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(101).wrapping_add(number));
            let next = millis(&mut rng, 500..5_000);
            // Without the database nothing goes on, and there would be little to lose.
            let pauses = match targets.first() {
                Some(FaultTarget::Part(ChaosPart::Database)) => 10_000..30_000,
                // The two lanes of NATS wait for each other.
                Some(FaultTarget::Part(ChaosPart::Nats(_))) => 5_000..20_000,
                _ => 500..8_000,
            };
            Lane { faults, targets, deck: Vec::new(), rng, next, pauses }
        });
        let mut lanes: Vec<Lane> = lanes.collect();
        let (mut busy, mut steps) = (BTreeMap::new(), Vec::new());
        while let Some(lane) = lanes.iter_mut().filter(|lane| lane.next < length).min_by_key(|lane| lane.next) {
            steps.extend(lane.write(&mut busy, length));
        }
        steps.sort_by_key(|(at, _)| *at);
        Self(steps)
    }
}

/// Faults that come one after the other.
struct Lane {
    faults: &'static [Fault],
    targets: Vec<FaultTarget>,
    /// What is still to come before all come again.
    deck: Vec<Fault>,
    rng: StdRng,
    /// When something happens next.
    next: Duration,
    /// How long nothing happens between two faults, in milliseconds.
    pauses: Range<u64>,
}

impl Lane {
    /// Returns the steps of the next fault. `busy` says until when something happens to whom.
    fn write(&mut self, busy: &mut BTreeMap<FaultTarget, Duration>, length: Duration) -> Vec<(Duration, ChaosAction)> {
        if self.deck.is_empty() {
            self.deck = self.faults.to_vec();
            self.deck.shuffle(&mut self.rng);
        }
        let now = self.next;
        let mut free: Vec<FaultTarget> = self.targets.clone();
        free.retain(|target| !busy.iter().any(|(other, until)| *until >= now && target.excludes(*other)));
        free.shuffle(&mut self.rng);
        let (Some(fault), Some(first)) = (self.deck.pop(), free.first().copied()) else {
            self.next += millis(&mut self.rng, 500..2_000);
            return Vec::new();
        };
        let (steps, lasts) = match first {
            FaultTarget::Device(device) => fault.on_device(&mut self.rng, device),
            FaultTarget::Routes(part) | FaultTarget::Part(part) => fault.on_part(&mut self.rng, part),
        };
        self.next = now + lasts + millis(&mut self.rng, self.pauses.clone());
        if now + lasts > length {
            return Vec::new();
        }
        busy.insert(first, now + lasts);
        steps.into_iter().map(|(at, action)| (now + at, action)).collect()
    }
}

/// Draws a time between these milliseconds.
pub(crate) fn millis(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, action) in &self.0 {
            writeln!(f, "{:7.2} s  {action:?}", at.as_secs_f32())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CAST: ChaosCast = ChaosCast { gateways: 2, workers: 3, nats: 3, devices: 12, is_one_process: false };
    const LENGTH: Duration = Duration::from_secs(110);

    #[test]
    fn a_seed_is_a_script_and_another_seed_another_one() {
        assert_eq!(Script::of(7, LENGTH, CAST), Script::of(7, LENGTH, CAST));
        assert_ne!(Script::of(7, LENGTH, CAST), Script::of(8, LENGTH, CAST));
    }

    #[test]
    fn all_is_well_at_the_end_of_a_script() {
        for seed in 0..200 {
            let (mut down, mut bad) = (BTreeMap::new(), BTreeSet::new());
            for (at, action) in Script::of(seed, LENGTH, CAST).0 {
                assert!(at <= LENGTH);
                match action {
                    ChaosAction::Kill(part)
                    | ChaosAction::Stop(part)
                    | ChaosAction::Freeze(part)
                    | ChaosAction::LameDuck(part) => {
                        let before = down.insert(part, action);
                        assert!(
                            before.is_none_or(|before| before == ChaosAction::Freeze(part)),
                            "{action:?}, {before:?}"
                        );
                    }
                    ChaosAction::Start(part) | ChaosAction::Thaw(part) => {
                        assert!(down.remove(&part).is_some(), "{action:?}")
                    }
                    ChaosAction::Cut(line) | ChaosAction::Vanish(line) | ChaosAction::Delay(line, ..) => {
                        bad.insert(line);
                    }
                    ChaosAction::Mend(line) => {
                        bad.remove(&line);
                    }
                    ChaosAction::HalfOpen(..) => {}
                }
            }
            assert!(down.is_empty() && bad.is_empty(), "{seed}: {down:?} {bad:?}");
        }
    }

    #[test]
    fn at_most_one_nats_server_is_away_at_a_time() {
        for seed in 0..200 {
            let mut away: Vec<ChaosPart> = Vec::new();
            for (_, action) in Script::of(seed, LENGTH, CAST).0 {
                match action {
                    ChaosAction::Kill(part @ ChaosPart::Nats(_)) | ChaosAction::Freeze(part @ ChaosPart::Nats(_)) => {
                        away.push(part)
                    }
                    ChaosAction::LameDuck(part) | ChaosAction::Cut(Line::RoutesOf(part)) => away.push(part),
                    ChaosAction::Mend(Line::RoutesOf(part)) => away.retain(|other| *other != part),
                    ChaosAction::Start(part) | ChaosAction::Thaw(part) => away.retain(|other| *other != part),
                    _ => {}
                }
                away.dedup();
                assert!(away.len() <= 1, "{seed}: {away:?}");
            }
        }
    }
}
