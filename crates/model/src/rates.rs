//! How often something may be asked: the rates of the protocol with their defaults, in one place.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many in a time, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many may be asked in `per_s` seconds, for as long as one likes.
    pub count: u32,
    /// The time, in seconds.
    pub per_s: u32,
    /// How many may be asked at once.
    pub burst: u32,
}

impl Rate {
    const fn new(count: u32, per_s: u32, burst: u32) -> Self {
        Self { count, per_s, burst }
    }

    /// Returns the time in which one more may be asked.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs(u64::from(self.per_s)) / self.count.max(1)
    }
}

/// The rule for a rate as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be off, or like 20/s,60 or 60/m,200: how many in a second or minute, and how many at once")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (rate, burst) = text.split_once(',').ok_or(RateError)?;
        let (count, unit) = rate.split_once('/').ok_or(RateError)?;
        let per_s = match unit {
            "s" => 1,
            "m" => 60,
            _ => return Err(RateError),
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0).ok_or(RateError);
        Ok(Self { count: number(count)?, per_s, burst: number(burst)? })
    }
}

/// All rates. They hold on each node by itself. One that is `None` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Frames of a session, or requests of a user over HTTP.
    pub frames: Option<Rate>,
    /// Sends, edits, deletions and reactions of a user.
    pub sends: Option<Rate>,
    /// Rooms that a user creates or joins, and users whom a user invites.
    pub invitations: Option<Rate>,
    /// Resumes, lists of rooms and lists of members that a user asks for.
    pub lists: Option<Rate>,
    /// Sign-ins of a user.
    pub sign_ins: Option<Rate>,
    /// How many connections one address may have: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections: Option<u32>,
    /// How many of them may not be signed in.
    pub unsigned: Option<u32>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            frames: Some(Rate::new(50, 1, 200)),
            sends: Some(Rate::new(20, 1, 60)),
            invitations: Some(Rate::new(60, 60, 200)),
            lists: Some(Rate::new(60, 60, 100)),
            sign_ins: Some(Rate::new(30, 60, 30)),
            connections: Some(1_000),
            unsigned: Some(200),
        }
    }
}

impl Rates {
    /// Returns no rates at all.
    #[must_use]
    pub fn off() -> Self {
        Self {
            frames: None,
            sends: None,
            invitations: None,
            lists: None,
            sign_ins: None,
            connections: None,
            unsigned: None,
        }
    }

    /// Sets one by its name: `sends=20/s,60`, `connections=1000`, or `lists=off`.
    ///
    /// # Errors
    /// Returns the rule that the text breaks.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
        let rate = || match value {
            "off" => Ok(None),
            value => value.parse::<Rate>().map(Some).map_err(|rule| format!("{name} {rule}")),
        };
        let number = || match value {
            "off" => Ok(None),
            value => value.parse().map(Some).map_err(|_| format!("{name} must be off or a number")),
        };
        match name {
            "frames" => self.frames = rate()?,
            "sends" => self.sends = rate()?,
            "invitations" => self.invitations = rate()?,
            "lists" => self.lists = rate()?,
            "sign_ins" => self.sign_ins = rate()?,
            "connections" => self.connections = number()?,
            "unsigned" => self.unsigned = number()?,
            _ => {
                let names = "frames, sends, invitations, lists, sign_ins, connections and unsigned";
                return Err(format!("{name} is not among {names}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_set_by_its_name_and_what_is_none_is_refused_with_the_rule() {
        let mut rates = Rates::default();
        for text in ["sends=5/m,7", "lists=off", "connections=3", "unsigned=off"] {
            rates.set(text).unwrap();
        }
        let sends = rates.sends.unwrap();
        assert_eq!((sends, sends.interval()), (Rate { count: 5, per_s: 60, burst: 7 }, Duration::from_secs(12)));
        assert_eq!((rates.lists, rates.connections, rates.unsigned), (None, Some(3), None));
        for text in ["sends", "sends=5", "sends=5/h,7", "sends=0/s,7", "sends=5/s,x", "connections=x", "other=off"] {
            assert!(rates.set(text).is_err(), "{text}");
        }
    }
}
