//! Tokens for handing messages out, of queues that limit their rate. Taken for good as soon as a
//! message is handed out, also when that is rolled back: somebody has seen it.

use super::frontier;
use crate::catalog::Queue;
use crate::pg::board;
use crate::pg::buckets;
use crate::pg::time::{self, Micros};
use pg_broker_core::board::Key;
use pg_broker_core::hash::{fnv, mixed};
use pg_broker_core::rate::{self, Bucket, Rate};

/// Whose bucket a message's token comes out of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Queue,
    /// Everybody's whose key has this number.
    Key(u64),
}

/// The number of a key of a queue; messages without one have one together. Keys of one number would
/// share a bucket, no more.
pub fn number(q: &Queue, key: Option<&str>) -> u64 {
    let key = key.map(str::as_bytes);
    let told_apart = [u8::from(key.is_some())];
    let bytes = told_apart.iter().chain(key.unwrap_or_default());
    mixed(fnv(bytes) ^ frontier::key(q).hash().rotate_left(20))
}

/// A bucket that nobody has taken anything out of, as far as is known: what was handed out before the
/// server's start, nobody knows.
fn fresh(q: &Queue, rate: &Rate) -> Bucket {
    let started = buckets::started();
    match q.created_at < started {
        true => Bucket::empty_at(rate, started),
        false => Bucket::default(),
    }
}

fn on<R>(
    q: &Queue,
    rate: &Rate,
    whose: Whose,
    f: impl FnOnce(&mut Bucket, Micros) -> R,
) -> Option<Result<R, Micros>> {
    let fresh = fresh(q, rate);
    match whose {
        Whose::Queue => {
            let key: Key = frontier::key(q);
            board::with(key, true, |h| {
                // The bucket's own time, so that those who come one after the other are told rising ones.
                let now = time::now();
                let bucket = &mut h.state.gate.bucket;
                bucket.lower_to(fresh);
                Ok(f(bucket, now))
            })
        }
        Whose::Key(key) => buckets::with(key, |places, now| {
            rate::find(places, key, fresh, now).map(|bucket| f(bucket, now))
        }),
    }
}

/// Takes a token, and gives when; or when to ask again. None without a place in shared memory.
pub fn take(q: &Queue, rate: &Rate, whose: Whose) -> Option<Result<Micros, Micros>> {
    let taken = on(q, rate, whose, |bucket, now| {
        bucket.take(rate, now).map(|()| now)
    });
    taken.map(Result::flatten)
}

/// A token was taken then for a message that was not to be had.
pub fn give_back(q: &Queue, rate: &Rate, whose: Whose, taken_at: Micros) {
    let _ = on(q, rate, whose, |bucket, now| {
        bucket.give_back(rate, taken_at, now);
    });
}

/// When there will be a token, or was; as in `take`.
pub fn next(q: &Queue, rate: &Rate, whose: Whose) -> Option<Micros> {
    let next = on(q, rate, whose, |bucket, now| bucket.next(rate, now));
    next.map(|next| next.unwrap_or_else(|at| at))
}
