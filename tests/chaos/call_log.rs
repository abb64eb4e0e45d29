//! What clients asked for, and what came of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sendpi_client::{ClientError, Sent};
use sendpi_model::{Code, Millis};

/// What a client knows of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It was done, and the event is at this seq.
    Done { seq: u64, at: Millis },
    /// It was not done, and never will be.
    Failed(Code),
    /// It was done or not, or is yet to be done.
    Unknown(String),
}

impl CallOutcome {
    /// Returns what the answer to a message says. `may_be_done` is whether an earlier try of it may have been done.
    pub(crate) fn of(answer: &Result<Sent, ClientError>, may_be_done: bool) -> Self {
        match answer {
            Ok(sent) => Self::Done { seq: sent.seq, at: sent.at },
            Err(ClientError::Refused(refusal)) if !may_be_done && refusal.code != Code::Unavailable => {
                Self::Failed(refusal.code)
            }
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// A message that was sent, with all its repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) user: String,
    pub(crate) room: String,
    /// What no other message says.
    pub(crate) text: String,
    pub(crate) began: Millis,
    pub(crate) ended: Millis,
    /// How often it was sent.
    pub(crate) tries: usize,
    pub(crate) outcome: CallOutcome,
}

/// All calls of a run.
#[derive(Debug, Default)]
pub(crate) struct CallLog(Mutex<Vec<Call>>);

impl CallLog {
    pub(crate) fn add(&self, call: Call) {
        self.lock().push(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
