//! Encodes WebSocket frames. A server does not mask its frames, so one encoded frame serves all sessions of a node.
//! Pure.

use bytes::{BufMut, Bytes, BytesMut};
use sendpi_model::CloseCode;

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
/// The longest payload of a control frame, in bytes.
const CONTROL_MAX: usize = 125;

/// Encodes a text frame.
#[must_use]
pub(crate) fn text(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    frame.put_u8(FINAL | TEXT);
    match payload.len() {
        length @ 0..=125 => frame.put_u8(length as u8),
        length @ 126..=0xffff => {
            frame.put_u8(126);
            frame.put_u16(length as u16);
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

/// Encodes a control frame. Truncates a payload that is too long.
#[must_use]
pub(crate) fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = payload.get(..CONTROL_MAX).unwrap_or(payload);
    let mut frame = BytesMut::with_capacity(payload.len() + 2);
    frame.put_u8(FINAL | (opcode & 0xf));
    frame.put_u8(payload.len() as u8);
    frame.put_slice(payload);
    frame.freeze()
}

/// Encodes a close frame.
#[must_use]
pub(crate) fn close(code: CloseCode) -> Bytes {
    let mut payload = code.code().to_be_bytes().to_vec();
    payload.extend_from_slice(code.reason().as_bytes());
    control(CLOSE, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frames_length_takes_the_shortest_form() {
        assert_eq!(&text(b"hi")[..], b"\x81\x02hi");
        assert_eq!(&text(&[b'x'; 126])[..4], &[0x81, 126, 0, 126]);
        assert_eq!(&text(&[b'x'; 65_536])[..10], &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_tells_code_and_reason() {
        assert_eq!(&close(CloseCode::Drain)[..], b"\x88\x07\x0f\xa0drain");
    }

    #[test]
    fn a_control_frame_is_never_longer_than_the_protocol_allows() {
        assert_eq!(control(0xA, &[0; 500]).len(), 127);
    }
}
