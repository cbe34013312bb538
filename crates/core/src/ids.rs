//! Ids for the messages of one queue, handed out of blocks that a sequence gives.
//!
//! The sequence moves on by a block at a time and never back, so no id is given twice whatever is
//! forgotten here; what is forgotten is a gap. Ids rise as they are handed out: of two blocks that
//! were fetched at the same time, the lower one is used first or not at all.
//!
//! All-zero bytes are the fresh state. Nothing here allocates or panics.

/// How many ids one step of the sequence stands for.
pub const BLOCK: i64 = 64;

/// The ids that are left of the block in use.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    next: i64,
    end: i64,
}

impl Ids {
    /// Up to `n` ids that follow each other: the first, and how many.
    pub fn take(&mut self, n: i64) -> (i64, i64) {
        let n = n.min(self.end.saturating_sub(self.next)).max(0);
        let first = self.next;
        self.next = first.saturating_add(n);
        (first, n)
    }

    /// The last id that was taken; none when that is not known.
    pub fn last(&self) -> Option<i64> {
        (self.next > 0).then(|| self.next - 1)
    }

    /// A block that was fetched, by its first id. It is dropped when a higher one came before.
    pub fn put(&mut self, first: i64) {
        if first == self.end && self.next < self.end {
            self.end = first.saturating_add(BLOCK);
        } else if first >= self.end {
            // What is left of the block in use is below all of this one: it would be in order, but
            // there is nowhere to keep two.
            self.next = first;
            self.end = first.saturating_add(BLOCK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_and_never_repeat() {
        // Three sessions that fetch and put in every order, by a small generator.
        let mut seed = 1_u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        let (mut ids, mut sequence, mut last) = (Ids::default(), 1, 0);
        let mut fetched: Vec<i64> = Vec::new();
        let mut given = 0;
        for _ in 0..100_000 {
            match draw(3) {
                0 => {
                    let (first, n) = ids.take(1 + draw(150) as i64);
                    assert!(n == 0 || first > last, "{first} after {last}");
                    last = if n == 0 { last } else { first + n - 1 };
                    given += n;
                }
                1 if fetched.len() < 3 => {
                    fetched.push(sequence);
                    sequence += BLOCK;
                }
                _ if !fetched.is_empty() => {
                    let at = draw(fetched.len() as u64) as usize;
                    ids.put(fetched.swap_remove(at));
                }
                _ => {}
            }
        }
        assert!(given > sequence / 3, "{given} of {sequence} were used");
    }

    #[test]
    fn a_whole_block_in_order() {
        let mut ids = Ids::default();
        assert_eq!(ids.take(1).1, 0);
        ids.put(1);
        assert_eq!(ids.take(1), (1, 1));
        assert_eq!(ids.take(100), (2, BLOCK - 1));
        assert_eq!(ids.take(1).1, 0);
    }
}
