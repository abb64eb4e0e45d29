//! The FNV-1a hashes: the same on every machine and in every release. <http://www.isthe.com/chongo/tech/comp/fnv/>

/// Returns the 32-bit FNV-1a hash of `bytes`.
#[must_use]
pub(crate) fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Returns the 64-bit FNV-1a hash of `bytes`.
#[must_use]
pub fn fnv1a_64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let prime = 0x0100_0000_01b3;
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(prime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_the_published_fnv1a() {
        // These are the test vectors of the FNV reference.
        assert_eq!((fnv1a_32(b""), fnv1a_64(*b"")), (0x811c_9dc5, 0xcbf2_9ce4_8422_2325));
        assert_eq!((fnv1a_32(b"a"), fnv1a_64(*b"a")), (0xe40c_292c, 0xaf63_dc4c_8601_ec8c));
        assert_eq!((fnv1a_32(b"foobar"), fnv1a_64(*b"foobar")), (0xbf9c_f968, 0x8594_4171_f739_67e8));
    }
}
