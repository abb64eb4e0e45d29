//! Which requests wait for an answer, by the id that the answer will carry.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The requests that wait for an answer, by id.
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

    /// A new id, and where its answer will come.
    pub(crate) fn add(&self) -> (u64, oneshot::Receiver<Utf8Bytes>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last += 1;
        let id = waiting.last;
        waiting.by_id.insert(id, sender);
        (id, receiver)
    }

    /// Sends the answer to whoever waits for it. Returns whether anybody does.
    pub(crate) fn deliver(&self, id: u64, text: &Utf8Bytes) -> bool {
        let sender = self.lock().by_id.remove(&id);
        sender.is_some_and(|sender| sender.send(text.clone()).is_ok())
    }

    fn forget(&self, id: u64) {
        self.lock().by_id.remove(&id);
    }

    /// No more answers will come: whoever waits is woken.
    pub(crate) fn clear(&self) {
        self.lock().by_id.clear();
    }
}

/// Takes a request out again when its caller stops waiting.
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
