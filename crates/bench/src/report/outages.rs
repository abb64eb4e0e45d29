//! The tables of the cases in which something breaks.

use std::fmt::{Result, Write};

use super::{thousands, time};
use crate::deadnode::{DeadNodeOutcome, Waits};
use crate::masscut::MassCutOutcome;
use crate::talk::Quantiles;

/// The median and the longest time.
fn longest(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(|| "-".into(), |q| format!("{} / {}", time(q.p50), time(q.longest)))
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| format!("{} MB", thousands(bytes as f64 / 1e6)))
}

pub(super) fn masscut(text: &mut String, outcome: &MassCutOutcome) -> Result {
    writeln!(
        text,
        "\n{:<9}{:<8}{:>11}{:>13}{:>20}{:>20}{:>20}{:>18}{:>11}",
        "masscut",
        "",
        "messages/s",
        "newcomers",
        "sign-in p50/longest",
        "room p50/longest",
        "send p50/longest",
        "peak at cut/end",
        "push jobs"
    )?;
    let jobs = outcome.push_jobs.map_or_else(
        || "-".into(),
        |push| format!("{}{}", if push.all { "" } else { "> " }, thousands(push.jobs as f64)),
    );
    write!(
        text,
        "{:<9}{:<8}{:>11}{:>13}{:>20}{:>20}{:>20}{:>18}{:>11}",
        "",
        "Sendpi",
        thousands(outcome.messages as f64 / outcome.seconds),
        thousands(outcome.newcomers as f64),
        longest(outcome.sign_in_us),
        longest(outcome.create_us),
        longest(outcome.send_us),
        format!("{} / {}", megabytes(outcome.peak_at_cut), megabytes(outcome.peak)),
        jobs,
    )?;
    if outcome.wrong > 0 {
        write!(text, "  WRONG: {} left out or repeated before the cut", outcome.wrong)?;
    }
    if outcome.failed > 0 {
        write!(text, "  {} newcomers failed", outcome.failed)?;
    }
    if outcome.refused > 0 {
        write!(text, "  {} refused before the cut", outcome.refused)?;
    }
    writeln!(text)
}

pub(super) fn deadnode(text: &mut String, outcome: &DeadNodeOutcome) -> Result {
    writeln!(
        text,
        "\n{:<9}{:<8}{:>11}{:>22}{:>22}",
        "deadnode", "", "refused", "answer p50/longest", "delivery p50/longest"
    )?;
    let mut line = |when: &str, waits: Waits| {
        let (answer, delivery) = (longest(waits.answer_us), longest(waits.latency_us));
        writeln!(text, "{:<9}{when:<8}{:>11}{answer:>22}{delivery:>22}", "", waits.refused)
    };
    line("before", outcome.before)?;
    line("after", outcome.after)?;
    writeln!(text, "{:<9}{} messages/s on the node that died", "", thousands(outcome.busy_per_second))?;
    let DeadNodeOutcome { wrong, unanswered, .. } = outcome;
    if wrong + unanswered > 0 {
        writeln!(text, "{:<9}WRONG: {wrong} left out, repeated or missing, {unanswered} unanswered", "")?;
    }
    Ok(())
}
