//! The kinds of faults, and the steps that each is made of.

use std::time::Duration;

use rand::rngs::StdRng;
use sendpi_tests::HalfOpen;

use crate::script::{ChaosAction, ChaosPart, Line, millis};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is killed, and soon started again.
    Kill,
    /// It is stopped as planned, and soon started again.
    Stop,
    /// It is frozen for less than any limit.
    FreezeShortly,
    /// It is frozen for longer than its lease lasts.
    FreezeLong,
    /// It is frozen, and killed without having gone on.
    FreezeAndKill,
    /// It loses NATS for less than any limit.
    CutShortly,
    /// It loses NATS, but not the database, for longer than its lease lasts.
    CutLong,
    /// Nothing comes through to or from NATS, and nobody is told.
    VanishNats,
    /// NATS is far away.
    DelayNats,
    /// NATS sees it end, and it does not.
    HalfOpenHere,
    /// It sees NATS end, and NATS does not.
    HalfOpenThere,
    /// It loses the database, but not NATS.
    CutDatabase,
    /// The database does not answer it.
    VanishDatabase,
    /// The database is far away from it.
    DelayDatabase,
    /// It is killed, and what it was writing goes in seconds later.
    LateWrites,
    /// Others take it for dead while it writes, and it does not know.
    Superseded,
    /// The NATS server says good-bye, and is started again when it has ended.
    LameDuck,
    /// The NATS server loses the others, but not its clients. Owners and nodes there go on without knowing.
    Isolate,
    /// The NATS servers lose each other for a moment, and with it what was under way between them. Nobody is told.
    CutRoutes,
    /// The only NATS server is killed, and is started again by itself.
    KillNats,
    /// The line of a device breaks.
    CutDevice,
    /// Nothing comes through the line of a device.
    VanishDevice,
    /// A device is far away.
    DelayDevice,
    /// A device's connection ends for its gateway only.
    HalfOpenDevice,
    /// A device's connection ends for the device only.
    HalfOpenGateway,
}

/// What happens to workers.
pub(crate) const WORKER: &[Fault] = &[
    Fault::Kill,
    Fault::Kill,
    Fault::Stop,
    Fault::FreezeShortly,
    Fault::FreezeLong,
    Fault::FreezeAndKill,
    Fault::CutShortly,
    Fault::CutLong,
    Fault::VanishNats,
    Fault::DelayNats,
    Fault::HalfOpenHere,
    Fault::HalfOpenThere,
    Fault::CutDatabase,
    Fault::VanishDatabase,
    Fault::DelayDatabase,
    Fault::LateWrites,
    Fault::Superseded,
];

/// What happens to gateways.
pub(crate) const GATEWAY: &[Fault] = &[
    Fault::Kill,
    Fault::Stop,
    Fault::FreezeShortly,
    Fault::FreezeLong,
    Fault::CutShortly,
    Fault::VanishNats,
    Fault::DelayNats,
    Fault::HalfOpenHere,
    Fault::HalfOpenThere,
    Fault::VanishDatabase,
    Fault::DelayDatabase,
];

/// What happens to NATS servers.
pub(crate) const NATS: &[Fault] = &[Fault::Kill, Fault::FreezeShortly, Fault::FreezeLong, Fault::LameDuck];

/// What happens between NATS servers.
pub(crate) const ROUTES: &[Fault] = &[Fault::Isolate, Fault::Isolate, Fault::CutRoutes];

/// What happens to the database.
pub(crate) const DATABASE: &[Fault] = &[Fault::Kill, Fault::FreezeShortly, Fault::FreezeShortly];

/// What happens to a Sendpi that is one process.
pub(crate) const PROCESS: &[Fault] =
    &[Fault::Kill, Fault::Kill, Fault::Kill, Fault::Stop, Fault::FreezeShortly, Fault::FreezeLong, Fault::KillNats];

/// What happens to the lines of devices.
pub(crate) const DEVICE: &[Fault] =
    &[Fault::CutDevice, Fault::VanishDevice, Fault::DelayDevice, Fault::HalfOpenDevice, Fault::HalfOpenGateway];

/// The steps of a fault, each with its time since the fault began, and how long the fault lasts.
type Steps = (Vec<(Duration, ChaosAction)>, Duration);

impl Fault {
    /// Returns the steps of the fault on a process.
    pub(crate) fn on_part(self, rng: &mut StdRng, part: ChaosPart) -> Steps {
        use ChaosAction::{Cut, Delay, Freeze, HalfOpen, Kill, LameDuck, Mend, Start, Stop, Thaw, Vanish};
        let (nats, database) = (Line::ToNats(part), Line::ToDatabase(part));
        let for_a_while = |rng: &mut StdRng, begin, range, end| {
            let lasts = millis(rng, range);
            (vec![(Duration::ZERO, begin), (lasts, end)], lasts)
        };
        let at_once = |action, lasts| (vec![(Duration::ZERO, action)], lasts);
        match self {
            Self::Kill => for_a_while(rng, Kill(part), 1..3_000, Start(part)),
            Self::Stop => for_a_while(rng, Stop(part), 1_000..6_000, Start(part)),
            Self::FreezeShortly => for_a_while(rng, Freeze(part), 300..8_000, Thaw(part)),
            Self::FreezeLong => for_a_while(rng, Freeze(part), 11_000..20_000, Thaw(part)),
            Self::CutShortly => for_a_while(rng, Cut(nats), 200..5_000, Mend(nats)),
            Self::CutLong => for_a_while(rng, Cut(nats), 11_000..20_000, Mend(nats)),
            Self::VanishNats => for_a_while(rng, Vanish(nats), 500..14_000, Mend(nats)),
            Self::CutDatabase => for_a_while(rng, Cut(database), 500..5_000, Mend(database)),
            Self::VanishDatabase => for_a_while(rng, Vanish(database), 500..6_000, Mend(database)),
            Self::DelayNats => {
                let begin = Delay(nats, millis(rng, 20..400), millis(rng, 20..400));
                for_a_while(rng, begin, 3_000..8_000, Mend(nats))
            }
            Self::DelayDatabase => {
                let begin = Delay(database, millis(rng, 50..1_500), millis(rng, 1..500));
                for_a_while(rng, begin, 3_000..8_000, Mend(database))
            }
            Self::HalfOpenHere => at_once(HalfOpen(nats, self::HalfOpen::Client), Duration::from_secs(12)),
            Self::HalfOpenThere => at_once(HalfOpen(nats, self::HalfOpen::Server), Duration::from_secs(12)),
            Self::LameDuck => for_a_while(rng, LameDuck(part), 33_000..34_000, Start(part)),
            Self::KillNats => for_a_while(rng, Kill(ChaosPart::Nats(0)), 500..15_000, Start(ChaosPart::Nats(0))),
            Self::Isolate => for_a_while(rng, Cut(Line::RoutesOf(part)), 2_000..9_000, Mend(Line::RoutesOf(part))),
            Self::CutRoutes => for_a_while(rng, Cut(Line::AllRoutes), 50..1_500, Mend(Line::AllRoutes)),
            Self::FreezeAndKill => {
                let frozen = millis(rng, 3_000..18_000);
                let back = frozen + millis(rng, 1..2_000);
                (vec![(Duration::ZERO, Freeze(part)), (frozen, Kill(part)), (back, Start(part))], back)
            }
            Self::LateWrites => {
                let (late, kill) = (millis(rng, 1_000..4_000), millis(rng, 300..1_000));
                let back = kill + late + millis(rng, 1..2_000);
                let begin = Delay(database, late, Duration::ZERO);
                (vec![(Duration::ZERO, begin), (kill, Kill(part)), (back, Mend(database)), (back, Start(part))], back)
            }
            Self::Superseded => {
                let half = millis(rng, 100..600);
                let begin = Delay(database, millis(rng, 500..2_500), Duration::ZERO);
                let (end, lasts) = (half + Duration::from_secs(8), half + Duration::from_secs(13));
                let gone = HalfOpen(nats, self::HalfOpen::Client);
                (vec![(Duration::ZERO, begin), (half, gone), (end, Mend(database))], lasts)
            }
            Self::CutDevice | Self::VanishDevice | Self::DelayDevice | Self::HalfOpenDevice | Self::HalfOpenGateway => {
                unreachable!("it happens to devices")
            }
        }
    }

    /// Returns the steps of the fault on a device's line.
    pub(crate) fn on_device(self, rng: &mut StdRng, device: usize) -> Steps {
        let line = Line::Device(device);
        let half_open = |stays| (vec![(Duration::ZERO, ChaosAction::HalfOpen(line, stays))], Duration::from_secs(5));
        let begin = match self {
            Self::HalfOpenDevice => return half_open(HalfOpen::Client),
            Self::HalfOpenGateway => return half_open(HalfOpen::Server),
            Self::CutDevice => ChaosAction::Cut(line),
            Self::DelayDevice => ChaosAction::Delay(line, millis(rng, 20..800), millis(rng, 20..800)),
            _ => ChaosAction::Vanish(line),
        };
        let lasts = millis(rng, 200..12_000);
        (vec![(Duration::ZERO, begin), (lasts, ChaosAction::Mend(line))], lasts)
    }
}
