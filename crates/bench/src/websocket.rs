//! As much of WebSocket as a client needs that sends and receives text. Many connections can share one read buffer, and
//! whole frames are not copied out of it.

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WsFrameKind {
    Text,
    Close,
    Ping,
    Other,
}

/// One frame from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WsFrame<'a> {
    pub(crate) kind: WsFrameKind,
    pub(crate) payload: &'a [u8],
}

/// Appends a client's frame. Its mask is zero: the protocol requires a mask but leaves its choice to the client.
pub(crate) fn encode(out: &mut Vec<u8>, kind: WsFrameKind, payload: &[u8]) {
    let opcode = match kind {
        WsFrameKind::Text => 1,
        WsFrameKind::Close => 8,
        WsFrameKind::Ping | WsFrameKind::Other => 10,
    };
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        middle @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Splits the received bytes into frames. Keeps the beginning of a frame that is not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    /// Calls `each` with each frame that `bytes` completes, in order.
    pub(crate) fn feed<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(WsFrame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.rest.is_empty() {
            let taken = take_frames(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[taken..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let rest = std::mem::take(&mut self.rest);
            let taken = take_frames(&rest, &mut each)?;
            // Most often nothing is left, and then the memory is freed.
            self.rest = rest[taken..].to_vec();
        }
        Ok(())
    }
}

/// Calls `each` with each whole frame, and returns how many bytes these frames have.
fn take_frames<E>(bytes: &[u8], each: &mut impl FnMut(WsFrame<'_>) -> Result<(), E>) -> Result<usize, E> {
    let mut taken = 0;
    while let Some((frame, length)) = first_frame(&bytes[taken..]) {
        each(frame)?;
        taken += length;
    }
    Ok(taken)
}

/// Returns the first frame and its length with its header, if it is whole. A server's frames have no mask.
fn first_frame(bytes: &[u8]) -> Option<(WsFrame<'_>, usize)> {
    let (head, size) = (*bytes.first()?, *bytes.get(1)?);
    let (start, length): (usize, usize) = match size & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start.checked_add(length)?)?;
    let kind = match head {
        0x81 => WsFrameKind::Text,
        0x88 => WsFrameKind::Close,
        0x89 => WsFrameKind::Ping,
        _ => WsFrameKind::Other,
    };
    Some((WsFrame { kind, payload }, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a text frame as a server sends it, without a mask.
    fn from_server(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, WsFrameKind::Text, payload);
        let mask = bytes.len() - payload.len() - 4;
        bytes.drain(mask..mask + 4);
        bytes[1] &= 0x7f;
        bytes
    }

    #[test]
    fn frames_come_whole_and_in_order_however_the_bytes_are_cut() {
        let payloads = [vec![b'a'; 3], vec![], vec![b'b'; 125], vec![b'c'; 126], vec![b'd'; 70_000], vec![b'e'; 1]];
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| from_server(payload)).collect();
        for cut in [1, 2, 3, 7, 127, 4096, bytes.len()] {
            let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                let keep = |frame: WsFrame<'_>| {
                    assert_eq!(frame.kind, WsFrameKind::Text);
                    seen.push(frame.payload.to_vec());
                    Ok::<_, ()>(())
                };
                decoder.feed(piece, keep).unwrap();
            }
            assert_eq!(seen, payloads, "in pieces of {cut}");
            assert!(decoder.rest.is_empty());
        }
    }
}
