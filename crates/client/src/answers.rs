//! The requests that wait for an answer, by the id that the answer will carry.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A table of the requests that wait for an answer, by id.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    by_id: HashMap<u64, oneshot::Sender<Utf8Bytes>>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request. Returns its new id, and the receiver that its answer is sent to.
    pub(crate) fn add(&self) -> (u64, oneshot::Receiver<Utf8Bytes>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last += 1;
        let id = waiting.last;
        waiting.by_id.insert(id, sender);
        (id, receiver)
    }

    /// Sends an answer to the request that waits for it. Returns `false` if none does.
    pub(crate) fn deliver(&self, id: u64, text: &Utf8Bytes) -> bool {
        let sender = self.lock().by_id.remove(&id);
        sender.is_some_and(|sender| sender.send(text.clone()).is_ok())
    }

    fn forget(&self, id: u64) {
        self.lock().by_id.remove(&id);
    }

    /// Drops all senders, which tells the waiting requests that no answer will come.
    pub(crate) fn clear(&self) {
        self.lock().by_id.clear();
    }
}

/// Removes a request from the table when its caller stops waiting.
#[derive(Debug)]
pub(crate) struct ForgetOnDrop<'a>(&'a Answers, u64);

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl<'a> ForgetOnDrop<'a> {
    pub(crate) fn new(answers: &'a Answers, id: u64) -> Self {
        Self(answers, id)
    }
}
