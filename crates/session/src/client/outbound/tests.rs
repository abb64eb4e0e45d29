use std::io::IoSlice;
use std::sync::atomic::AtomicUsize;

use super::*;

const AGE: Duration = Duration::from_secs(5);

/// A socket that takes a limited number of bytes.
#[derive(Debug, Default)]
struct Socket(AtomicUsize);

impl Transport for Socket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        let taken = self.0.load(Ordering::Relaxed).min(length);
        self.0.fetch_sub(taken, Ordering::Relaxed);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

fn outbound(takes: usize, limit: usize) -> (Outbound, Arc<Socket>) {
    let socket = Arc::new(Socket(AtomicUsize::new(takes)));
    (Outbound::new(Arc::clone(&socket) as Arc<dyn Transport>, limit), socket)
}

#[test]
fn what_was_written_at_once_was_prompt_whenever_that_was() {
    let (outbound, _) = outbound(1000, 1000);
    outbound.push(Bytes::from_static(b"event"), false);
    assert!(!outbound.was_prompt(AGE, Instant::now()), "it is not written yet");
    outbound.flush().unwrap();
    assert!(outbound.was_prompt(AGE, Instant::now()));
}

#[test]
fn what_the_socket_did_not_take_at_once_was_not_prompt_until_a_while_after_it_was_written() {
    let (outbound, socket) = outbound(2, 1000);
    outbound.push(Bytes::from_static(b"event"), false);
    outbound.flush().unwrap();
    assert!(!outbound.was_prompt(AGE, Instant::now() + AGE));
    socket.0.store(1000, Ordering::Relaxed);
    outbound.flush().unwrap();
    let now = Instant::now();
    assert!(!outbound.was_prompt(AGE, now));
    assert!(outbound.was_prompt(AGE, now + AGE));
}

#[test]
fn what_was_dropped_was_never_prompt() {
    let (outbound, socket) = outbound(0, 6);
    outbound.push(Bytes::from_static(b"event"), false);
    outbound.push(Bytes::from_static(b"event"), false);
    socket.0.store(1000, Ordering::Relaxed);
    outbound.flush().unwrap();
    assert!(!outbound.was_prompt(AGE, Instant::now() + AGE));
}
