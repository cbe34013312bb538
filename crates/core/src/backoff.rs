//! How long a failed message waits before its next try.

/// Which entry of the list serves retry `failure` (1 for the first): the last repeats.
pub fn step(failures: i32, steps: usize) -> Option<usize> {
    steps
        .checked_sub(1)
        .map(|last| usize::try_from(failures - 1).unwrap_or(0).min(last))
}

/// `micros` moved by up to a tenth either way; `random` is any 64 random bits.
pub fn jitter(micros: i64, random: u64) -> i64 {
    let tenth = micros / 10;
    if tenth <= 0 {
        return micros;
    }
    let spread = (random % (2 * tenth as u64 + 1)) as i64;
    micros.saturating_add(spread - tenth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_repeats() {
        assert_eq!(step(1, 0), None);
        assert_eq!(
            [1, 2, 3, 9].map(|f| step(f, 3)),
            [Some(0), Some(1), Some(2), Some(2)]
        );
        assert_eq!(step(0, 3), Some(0));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for random in (0..1_000_000u64).step_by(997).chain([u64::MAX]) {
            let j = jitter(1_000_000, random);
            assert!((900_000..=1_100_000).contains(&j), "{j}");
        }
        assert_eq!(jitter(5, 3), 5);
        assert_eq!(jitter(1_000_000, 0), 900_000);
        assert_eq!(jitter(1_000_000, 200_000), 1_100_000);
    }
}
