//! The report that is printed at the end.

use std::fmt::Write;

use serde::Serialize;

use crate::database::ReadTrace;
use crate::talk::{Quantiles, TalkOutcome};
use crate::writes::StoreWrites;
use crate::{CaseName, deadnode, idle, live_rooms, masscut, signin, writes};

mod outages;

/// The outcome of a case with load.
#[derive(Debug, Serialize)]
pub(crate) struct Talk {
    pub(crate) case: CaseName,
    pub(crate) sendpi: TalkOutcome,
    pub(crate) limit: Option<TalkOutcome>,
    /// The deliveries per CPU second, divided by those of the limit.
    pub(crate) share: Option<f64>,
}

impl Talk {
    pub(crate) fn new(case: CaseName, sendpi: TalkOutcome, limit: Option<TalkOutcome>) -> Self {
        let of_limit = limit.as_ref().and_then(|limit| limit.deliveries_per_cpu_second);
        let share = sendpi.deliveries_per_cpu_second.zip(of_limit).map(|(sendpi, limit)| sendpi / limit);
        Self { case, sendpi, limit, share }
    }

    /// Returns the median run, ordered by share, or by deliveries if there is no share.
    pub(crate) fn median(mut runs: Vec<Self>) -> Option<Self> {
        let rank = |talk: &Self| talk.share.unwrap_or(talk.sendpi.deliveries as f64);
        runs.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        let middle = runs.len() / 2;
        (!runs.is_empty()).then(|| runs.swap_remove(middle))
    }
}

/// The cost of an idle user.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) who: &'static str,
    #[serde(flatten)]
    pub(crate) point: idle::IdlePoint,
}

/// The outcomes of all cases.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) talk: Vec<Talk>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) live_rooms: Option<live_rooms::LiveRoomsPoint>,
    pub(crate) signin: Vec<signin::SignInPoint>,
    pub(crate) writes: Vec<writes::WritesPoint>,
    pub(crate) masscut: Option<masscut::MassCutOutcome>,
    pub(crate) deadnode: Option<deadnode::DeadNodeOutcome>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if !self.talk.is_empty() {
            writeln!(
                text,
                "{:<9}{:<8}{:>11}{:>13}{:>13}{:>7}{:>18}{:>18}{:>16}{:>9}",
                "case",
                "",
                "messages/s",
                "deliveries/s",
                "per CPU s",
                "share",
                "delivery p50/p99",
                "answer p50/p99",
                "CPU + nats",
                "fsync"
            )?;
            for talk in &self.talk {
                line(text, talk.case.name(), "Sendpi", &talk.sendpi, talk.share)?;
                if let Some(limit) = &talk.limit {
                    line(text, "", "limit", limit, None)?;
                }
            }
        }
        if !self.idle.is_empty() {
            writeln!(text, "\n{:<9}{:<8}{:>11}{:>20}{:>13}", "idle", "", "users", "bytes for each", "in nats")?;
            for Idle { who, point } in &self.idle {
                let bytes = point.bytes_per_user;
                let (server, nats) = (thousands(bytes.server), thousands(bytes.nats));
                writeln!(text, "{:<9}{who:<8}{:>11}{server:>20}{nats:>13}", "", point.users)?;
            }
        }
        if let Some(point) = &self.live_rooms {
            writeln!(text, "\n{:<9}{:<8}{:>11}{:>20}{:>13}", "rooms", "", "live", "bytes for each", "in nats")?;
            let (server, nats) = (thousands(point.bytes_per_room.server), thousands(point.bytes_per_room.nats));
            writeln!(text, "{:<9}{:<8}{:>11}{server:>20}{nats:>13}", "", "Sendpi", point.rooms)?;
        }
        if !self.signin.is_empty() {
            writeln!(text, "\n{:<9}{:<8}{:>11}{:>20}", "signin", "", "rooms", "p50/p99")?;
            for point in &self.signin {
                write!(text, "{:<9}{:<8}{:>11}{:>20}", "", "Sendpi", point.rooms, times(point.welcome_us))?;
                if let Some(trace) = &point.trace {
                    let (days, ReadTrace { live, tombstones }) = (point.days, trace);
                    write!(text, "  after {days} busy days: {live} rows and {tombstones} tombstones read")?;
                }
                writeln!(text)?;
            }
        }
        for point in &self.writes {
            writeln!(text, "\n{:<9}{} members", "writes", point.members)?;
            for (what, written) in [("activation", &point.activation), ("200 messages", &point.messages)] {
                for (table, StoreWrites { statements, rows }) in written {
                    writeln!(text, "{:<9}{what:<14}{table:<20}{statements:>7} statements{rows:>7} rows", "")?;
                }
            }
        }
        if let Some(outcome) = &self.masscut {
            outages::masscut(text, outcome)?;
        }
        if let Some(outcome) = &self.deadnode {
            outages::deadnode(text, outcome)?;
        }
        Ok(())
    }
}

fn line(text: &mut String, case: &str, who: &str, outcome: &TalkOutcome, share: Option<f64>) -> std::fmt::Result {
    let rate = |count: u64| thousands(count as f64 / outcome.seconds);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let cpu = outcome.cpu.map(|cpu| format!("{:.2} + {:.2} s", cpu.server, cpu.nats));
    write!(
        text,
        "{case:<9}{who:<8}{:>11}{:>13}{:>13}{:>7}{:>18}{:>18}{:>16}{:>9}",
        rate(outcome.messages),
        rate(outcome.deliveries),
        or_dash(outcome.deliveries_per_cpu_second.map(thousands)),
        or_dash(share.map(|share| format!("{share:.2}"))),
        times(outcome.latency_us),
        times(outcome.answer_us),
        or_dash(cpu),
        or_dash(outcome.fsync_us.map(time)),
    )?;
    if outcome.wrong() > 0 {
        let TalkOutcome { gaps, repeats, missing, .. } = outcome;
        write!(text, "  WRONG: {gaps} left out, {repeats} repeated, {missing} missing at the end")?;
    }
    if outcome.refused > 0 {
        write!(text, "  {} refused", outcome.refused)?;
    }
    writeln!(text)
}

fn times(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(|| "-".into(), |q| format!("{} / {}", time(q.p50), time(q.p99)))
}

/// Formats microseconds in a unit that suits them.
fn time(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        ..10_000.0 => format!("{:.1} ms", micros / 1e3),
        ..1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_made_to_be_read() {
        assert_eq!((thousands(999.4), thousands(1_234_567.0)), ("999".into(), "1,234,567".into()));
        assert_eq!([12.3, 1234.0, 45_600.0, 2e6].map(time), ["12 µs", "1.2 ms", "46 ms", "2.0 s"]);
    }

    fn talk(per_cpu: f64, limit: f64) -> Talk {
        let outcome = |rate| TalkOutcome {
            seconds: 1.0,
            messages: 1,
            deliveries: 10,
            cpu: None,
            deliveries_per_cpu_second: Some(rate),
            latency_us: Some(Quantiles { p50: 100.0, p99: 2000.0, longest: 3000.0 }),
            answer_us: None,
            refused: 0,
            gaps: 0,
            repeats: 0,
            missing: 0,
            fsync_us: None,
        };
        Talk::new(CaseName::Big, outcome(per_cpu), Some(outcome(limit)))
    }

    #[test]
    fn the_middle_run_is_shown_with_its_own_limit() {
        let middle = Talk::median(vec![talk(9.0, 10.0), talk(1.0, 10.0), talk(4.0, 8.0)]).unwrap();
        assert_eq!(middle.share, Some(0.5));
        let table = Report { talk: vec![middle], ..Report::default() }.table();
        assert!(table.contains("0.50") && table.contains("100 µs / 2.0 ms"), "{table}");
    }
}
