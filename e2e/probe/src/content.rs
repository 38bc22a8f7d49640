//! Files whose content follows from name and place, so that each piece of them can be checked by itself: bytes of another
//! file, of another place, of an earlier read, or zeros, are seen.

/// Pieces begin at a multiple of this, in bytes.
pub const ALIGNMENT: u64 = 8;

/// Fills `buffer` with what the file `name` holds from `offset` on, a multiple of [`ALIGNMENT`].
pub fn fill(name: &str, offset: u64, buffer: &mut [u8]) {
    let seed = name.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte)));
    for (nth, word) in (offset / ALIGNMENT..).zip(buffer.chunks_mut(ALIGNMENT as usize)) {
        word.copy_from_slice(&mix(seed.wrapping_add(nth)).to_le_bytes()[..word.len()]);
    }
}

/// A number that looks random: the steps of SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(name: &str, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        fill(name, offset, &mut buffer);
        buffer
    }

    #[test]
    fn a_piece_is_a_piece_of_the_whole_and_of_nothing_else() {
        let whole = piece("a", 0, 4099);
        assert_eq!(piece("a", 1024, 3075), whole[1024..]);
        assert_ne!(piece("b", 0, 4099), whole);
        assert_ne!(piece("a", 8, 1024), whole[..1024]);
    }
}
