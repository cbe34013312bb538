//! Numbers that nobody foresaw, and that can be had again.

use pg_broker_core::frontier::Span;

/// xorshift64*, good enough to be unforeseen.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        (drawn as i64).rem_euclid(end)
    }

    pub fn span(&mut self, end: i64, length: i64) -> Span {
        let lo = self.below(end);
        Span::new(lo, lo + self.below(length))
    }
}
