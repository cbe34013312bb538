//! A hash that is the same on every machine and in every version, because what it says is kept: on
//! the ring of an exchange, and in the rows of a queue with groups. It must never change.

/// FNV-1a.
pub fn fnv<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The end of `MurmurHash3`: what FNV has in its lower bits, for short texts, is spread over all.
pub fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The number of a group of messages. Two groups of one number would wait for each other, no more.
pub fn group(key: &str) -> i64 {
    mixed(fnv(key.as_bytes().iter())).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_groups_are_the_published_ones() {
        assert_eq!(group("customer-7"), -6_995_165_129_928_413_170);
        assert_ne!(group("customer-7"), group("customer-8"));
    }
}
