//! How fast messages may be handed out: buckets of tokens. A bucket is kept as the moment when it
//! will be full again, so that a full one need not be kept at all.
//!
//! Invariant: in any stretch of time t, by a clock that is not set back, no more tokens are taken
//! out of a bucket than its burst and what comes in within t. A token that was given back counts as
//! never taken; what might have come in meanwhile is lost, because the bucket might have been full.
//!
//! Callers count time in microseconds; inside it is nanoseconds, rounded so that tokens come a
//! little late, never early. All-zero bytes are a full bucket. Nothing here allocates or panics.

/// How fast tokens come in, and how many a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one token to the next.
    step: i64,
    /// To fill an empty bucket.
    depth: i64,
}

const NANOS: i64 = 1000;

/// The first microsecond at which that many nanoseconds are over.
fn micros(nanos: i64) -> i64 {
    let whole = nanos.div_euclid(NANOS);
    whole.saturating_add(i64::from(nanos.rem_euclid(NANOS) > 0))
}

impl Rate {
    /// So many tokens each `interval`, and at most `burst` at once.
    pub fn new(tokens: i32, interval: i64, burst: i32) -> Self {
        let tokens = i64::from(tokens.max(1));
        let nanos = interval.max(1).saturating_mul(NANOS);
        let step = nanos.saturating_add(tokens.saturating_sub(1)) / tokens;
        Rate {
            step,
            depth: step.saturating_mul(i64::from(burst.max(1))),
        }
    }

    /// From one token to the next, in microseconds.
    pub fn interval(&self) -> i64 {
        micros(self.step)
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: i64,
}

impl Bucket {
    /// One that was empty at a time, and that nobody has taken anything out of since.
    pub fn empty_at(rate: &Rate, time: i64) -> Self {
        Bucket {
            full_at: time.saturating_mul(NANOS).saturating_add(rate.depth),
        }
    }

    pub fn is_full(self, now: i64) -> bool {
        self.full_at <= now.saturating_mul(NANOS)
    }

    /// When it is, or was.
    pub fn full_at(self) -> i64 {
        micros(self.full_at)
    }

    /// It has no more in it than another.
    pub fn lower_to(&mut self, other: Bucket) {
        self.full_at = self.full_at.max(other.full_at);
    }

    /// What it will be when a token is taken, and how long it is until one is there, in nanoseconds.
    fn after_one(&mut self, rate: &Rate, now: i64) -> (i64, i64) {
        let now = now.saturating_mul(NANOS);
        // It never lacks more than all: the rate was another, or the clock was set back.
        let most = now.saturating_add(rate.depth);
        self.full_at = self.full_at.min(most);
        let full_at = self.full_at.max(now).saturating_add(rate.step);
        (full_at, full_at.saturating_sub(most))
    }

    /// When there is a token: now, or later.
    pub fn next(&mut self, rate: &Rate, now: i64) -> i64 {
        let (_, lacking) = self.after_one(rate, now);
        now.saturating_add(micros(lacking.max(0)))
    }

    /// Takes a token; or says when there will be one.
    pub fn take(&mut self, rate: &Rate, now: i64) -> Result<(), i64> {
        let (full_at, lacking) = self.after_one(rate, now);
        if lacking > 0 {
            return Err(now.saturating_add(micros(lacking)));
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Gives back a token that was taken then and not used.
    pub fn give_back(&mut self, rate: &Rate, taken_at: i64, now: i64) {
        let meanwhile = now.saturating_sub(taken_at).max(0).saturating_mul(NANOS);
        let left = rate.step.saturating_sub(meanwhile);
        self.full_at = self.full_at.saturating_sub(left.max(0));
    }
}

/// The bucket of a key, in a table. A full one may be anybody's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keyed {
    key: u64,
    bucket: Bucket,
}

/// The bucket of a key among those places of a table where it may be: `fresh`, if it was not kept. None
/// when there is no room for it: says when there will be.
pub fn find(places: &mut [Keyed], key: u64, fresh: Bucket, now: i64) -> Result<&mut Bucket, i64> {
    let own = places.iter().position(|p| p.key == key);
    let at = own.or_else(|| places.iter().position(|p| p.bucket.is_full(now)));
    let full_at = places.iter().map(|p| p.bucket.full_at()).min();
    let soon = full_at.unwrap_or(i64::MAX).max(now.saturating_add(1));
    let place = at.and_then(|at| places.get_mut(at)).ok_or(soon)?;
    if place.key != key {
        *place = Keyed { key, bucket: fresh };
    }
    place.bucket.lower_to(fresh);
    Ok(&mut place.bucket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Takes at these times; gives when it was given one.
    fn taken(rate: &Rate, bucket: &mut Bucket, times: impl Iterator<Item = i64>) -> Vec<i64> {
        times.filter(|t| bucket.take(rate, *t).is_ok()).collect()
    }

    /// Numbers that look random (xorshift).
    fn random() -> impl FnMut(i64) -> i64 {
        let mut x = 0x2545_F491_4F6C_DD1D_u64;
        move |below| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x % below as u64) as i64
        }
    }

    #[test]
    fn no_window_has_more_than_burst_and_rate() {
        let mut random = random();
        for _ in 0..300 {
            let (n, interval) = (1 + random(20) as i32, 1 + random(5_000));
            let burst = 1 + random(15) as i32;
            let rate = Rate::new(n, interval, burst);
            let mut bucket = Bucket::default();
            let mut now = 1_000_000;
            let (mut given, mut unused) = (Vec::new(), Vec::new());
            for _ in 0..500 {
                now += random(2 * interval / i64::from(n) + 2);
                if bucket.take(&rate, now).is_ok() {
                    match random(3) {
                        0 => unused.push(now),
                        _ => given.push(now),
                    }
                }
                if random(3) == 0
                    && let Some(at) = unused.pop()
                {
                    bucket.give_back(&rate, at, now);
                }
            }
            for (i, from) in given.iter().enumerate() {
                for (j, to) in given.iter().enumerate().skip(i) {
                    let got = (j - i + 1) as i64;
                    let allowed = i64::from(burst) + (to - from) * i64::from(n) / interval;
                    assert!(got <= allowed, "{got} of {allowed} in {}", to - from);
                }
            }
        }
    }

    #[test]
    fn the_rate_is_reached() {
        for (n, interval) in [(1000, 1_000_000), (3, 1_000_000), (7, 10_000)] {
            let rate = Rate::new(n, interval, 1);
            let mut bucket = Bucket::empty_at(&rate, 0);
            let given = taken(&rate, &mut bucket, 0..=5 * interval).len() as i64;
            let ideal = 5 * i64::from(n);
            assert!((ideal - 1..=ideal).contains(&given), "{given} of {ideal}");
        }
    }

    #[test]
    fn who_is_refused_is_told_when() {
        let rate = Rate::new(3, 1_000_000, 2);
        let mut bucket = Bucket::default();
        assert_eq!(taken(&rate, &mut bucket, [7; 5].into_iter()), [7, 7]);
        let at = bucket.take(&rate, 7).unwrap_err();
        assert_eq!(at, 7 + 333_334);
        assert_eq!(bucket.next(&rate, 7), at);
        assert!(bucket.take(&rate, at - 1).is_err());
        assert!(bucket.take(&rate, at).is_ok());
    }

    #[test]
    fn another_rate_counts_at_once() {
        let slow = Rate::new(1, 3_600_000_000, 5);
        let mut bucket = Bucket::empty_at(&slow, 1000);
        let fast = Rate::new(1000, 1_000_000, 1);
        assert_eq!(bucket.take(&fast, 1000), Err(2000));
        assert_eq!(bucket.take(&fast, 1999), Err(2000));
        assert_eq!(bucket.take(&fast, 2000), Ok(()));
        assert_eq!(bucket.next(&fast, 2000), 3000);
    }

    #[test]
    fn only_full_buckets_are_given_up() {
        let rate = Rate::new(1, 1000, 1);
        let mut places = [Keyed::default(); 2];
        let fresh = Bucket::default();
        let mut take = |key, now| find(&mut places, key, fresh, now).map(|b| b.take(&rate, now));
        assert_eq!(take(1, 5000), Ok(Ok(())));
        assert_eq!(take(2, 5500), Ok(Ok(())));
        assert_eq!(take(3, 5600), Err(6000));
        assert_eq!(take(2, 5600), Ok(Err(6500)));
        assert_eq!(take(3, 6000), Ok(Ok(())));
        assert_eq!(take(1, 6000), Err(6500));
        let emptied = Bucket::empty_at(&rate, 9000);
        let bucket = find(&mut places, 4, emptied, 9000);
        assert_eq!(bucket.map(|b| b.take(&rate, 9000)), Ok(Err(10_000)));
    }
}
