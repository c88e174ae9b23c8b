//! The fingerprint of a signature.

/// FNV-1a over the text. It is the same on every machine and with every version of the compiler, which
/// [`std::hash::Hasher`]s don't promise.
pub(super) fn fingerprint(signature: &str) -> u64 {
    signature.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fingerprint_never_changes() {
        assert_eq!(super::fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(super::fingerprint("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
