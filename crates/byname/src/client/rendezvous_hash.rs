//! Orders replicas for a client or for a key: [`rendezvous_hash`]. It is pure.

use std::fmt::{self, Display, Write};

/// The weight of a replica for this identity. It is the same in every process and in every version, because clients must agree
/// on it.
pub(super) fn rendezvous_hash(identity: u64, replica: &impl Display) -> u64 {
    let mut text = FnvHash::new();
    write!(text, "{replica}").expect("a hash takes every text");
    mix(text.0 ^ mix(identity))
}

/// The identity of a key.
pub(super) fn key_hash(key: &[u8]) -> u64 {
    let mut bytes = FnvHash::new();
    bytes.put(key);
    bytes.0
}

/// FNV-1a, with 64 bits.
struct FnvHash(u64);

impl FnvHash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Write for FnvHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// The finalizer of SplitMix64. FNV alone leaves similar texts close to each other.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
