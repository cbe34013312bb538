//! How many ids the next segment of a queue takes.
//!
//! A segment that lasts about as long as one rotation is to take bounds both what a queue occupies
//! beside its messages (a few segments) and what it costs to begin anew (some rows of the catalog, one
//! exclusive lock). A queue begins small and grows by steps: what it will carry is not known.

use crate::ids::BLOCK;

/// The first segment of a queue that chooses for itself, and the least but for heavy messages. What
/// comes before fits into the first table.
pub const FIRST: i64 = 8192;
/// The most that is chosen.
pub const MOST: i64 = 1 << 22;
/// A segment is not to be larger than this, by what its predecessor weighed.
pub const BYTES: i64 = 1 << 30;
/// It grows and shrinks by at most so much at a time.
const STEP: i64 = 8;
/// A backlog is in about so many segments at most, up to `MOST` in each: everyone who looks through the
/// queue locks all of them.
const SPREAD: i64 = 16;
const FIXED_SPREAD: i64 = 256;

/// What is known of the segment before.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    pub ids: i64,
    /// How long it took to use them up, in microseconds.
    pub took: i64,
    /// What it weighs, if it was measured.
    pub bytes: i64,
    /// The ids of all segments that still have messages.
    pub backlog: i64,
}

/// How many ids come next, where one rotation is to take `interval` microseconds.
pub fn next(last: Option<Last>, interval: i64) -> i64 {
    let Some(last) = last else { return FIRST };
    let by_time = i128::from(last.ids) * i128::from(interval) / i128::from(last.took.max(1));
    let by_time = by_time.clamp(
        i128::from(last.ids / STEP),
        i128::from(last.ids.saturating_mul(STEP)),
    ) as i64;
    let by_weight = match last.bytes {
        1.. => (i128::from(last.ids) * i128::from(BYTES) / i128::from(last.bytes)) as i64,
        _ => i64::MAX,
    };
    let wanted = by_time.max(FIRST).min(by_weight).max(FIRST / STEP);
    whole(wanted.max(last.backlog / SPREAD).min(MOST))
}

/// How many ids come next where somebody has said how many, but not for how long a backlog.
pub fn fixed(ids: i64, backlog: i64) -> i64 {
    whole(ids.max((backlog / FIXED_SPREAD).min(MOST)))
}

/// In whole blocks, at least one.
pub fn whole(ids: i64) -> i64 {
    (ids.max(1).saturating_add(BLOCK - 1) / BLOCK).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn last(ids: i64, took: i64, bytes: i64) -> Option<Last> {
        Some(Last {
            ids,
            took,
            bytes,
            backlog: 0,
        })
    }

    #[test]
    fn follows_the_rate_by_steps() {
        assert_eq!(next(None, MINUTE), FIRST);
        assert_eq!(next(last(8192, MINUTE, 0), MINUTE), 8192);
        assert_eq!(next(last(8192, MINUTE / 2, 0), MINUTE), 16384);
        assert_eq!(next(last(8192, 1, 0), MINUTE), 8192 * STEP);
        assert_eq!(next(last(80_000, i64::MAX, 0), MINUTE), 10_048);
        assert_eq!(next(last(MOST, 1, 0), MINUTE), MOST);
        assert_eq!(next(last(FIRST, i64::MAX, 0), MINUTE), FIRST);
    }

    #[test]
    fn settles_at_a_steady_rate() {
        // 5,000 ids a second.
        let mut ids = next(None, MINUTE);
        for _ in 0..6 {
            ids = next(last(ids, ids * 200, 0), MINUTE);
        }
        assert!((299_000..=301_000).contains(&ids), "{ids}");
    }

    #[test]
    fn heavy_messages_make_short_segments() {
        // A megabyte each.
        assert_eq!(next(last(8192, 1000, 8192 << 20), MINUTE), 1024);
        // Never below what is worth a rotation.
        assert_eq!(next(last(1024, 1000, 1024 << 25), MINUTE), 1024);
    }

    #[test]
    fn a_backlog_is_in_few_segments() {
        // A message a second, for a year, that nobody reads.
        let (mut ids, mut total, mut n) = (FIRST, 0, 0);
        while total < 365 * 86_400 {
            let last = Last {
                ids,
                took: ids * 1_000_000,
                bytes: 0,
                backlog: total,
            };
            ids = next(Some(last), MINUTE);
            total += ids;
            n += 1;
        }
        assert!(n < 150, "{n} segments");
    }

    #[test]
    fn a_fixed_size_bends_to_a_long_backlog() {
        assert_eq!(fixed(100, 0), 128);
        assert_eq!(fixed(128, 128 * 256), 128);
        assert_eq!(fixed(128, 1 << 20), 4096);
        assert_eq!(fixed(1 << 25, 1 << 40), 1 << 25);
    }

    #[test]
    fn whole_blocks() {
        assert_eq!(whole(0), BLOCK);
        assert_eq!(whole(BLOCK), BLOCK);
        assert_eq!(whole(BLOCK + 1), 2 * BLOCK);
    }
}
