//! Leave to hand out, of queues that limit how fast or how many at a time: tokens and places are
//! `wake`'s to give. Who is refused says by when it is worth looking again, and is called before that
//! when a place becomes free.

use super::look;
use crate::catalog::Queue;
use crate::catalog::limits::GROUP_KEY;
use crate::error::{Error, Result};
use crate::pg::board;
use crate::pg::time::{self, Micros};
use crate::storage::claim::{Gate, Leave, Met};
use crate::storage::flight as leases;
use crate::wake::flight::{self, Answer, Ended};
use crate::wake::rate::{self, Whose};
use crate::wake::{counts, frontier};
use pg_broker_core::rate::Rate;
use std::collections::HashMap;

/// So often it is asked again where others are told of changes meanwhile.
const TRIES: usize = 8;
/// So soon it is tried again where it was not known how many messages are in flight.
const SOON: Micros = 100_000;
/// A message whose key has no token is looked at again after so long at the latest: those before it
/// may have been deleted.
const FARTHEST: Micros = 30_000_000;

/// What keeps a queue's readers back, for one read.
pub struct Limits<'a> {
    q: &'a Queue,
    now: Micros,
    places: Option<i64>,
    rate: Option<Rate>,
    /// Keys without a token: when they have one, and how many of their messages were passed.
    passed: HashMap<u64, (Micros, i64)>,
    is_refused: bool,
    opens_at: Option<Micros>,
}

/// A reader of a queue that has limits begins at `now`, and wants so many messages. None: it is not to
/// look at any.
pub fn enter(q: &Queue, wanted: i64, now: Micros) -> Result<Option<Limits<'_>>> {
    let limits = &q.options.limits;
    if !board::is_there() {
        return Err(Error::NeedsBoard(q.name.clone()));
    }
    let rate = limits.rate();
    let no_place = || Error::NoPlace(q.name.clone());
    if let Some(rate) = rate.filter(|_| limits.rate_key.is_none()) {
        let next = rate::next(q, &rate, Whose::Queue).ok_or_else(no_place)?;
        if next > time::now() {
            flight::refused(q, now, Some(next));
            return Ok(None);
        }
    }
    let mut places = None;
    if let Some(max) = limits.max_in_flight {
        match ask(q, max, wanted) {
            Answer::Places(n) => places = Some(n),
            Answer::NoPlace => return Err(no_place()),
            Answer::Full(next) => {
                flight::refused(q, now, next);
                return Ok(None);
            }
            Answer::Unknown | Answer::Doubt(_) => {
                flight::refused(q, now, Some(time::now() + SOON));
                return Ok(None);
            }
        }
    }
    Ok(Some(Limits {
        q,
        now,
        places,
        rate,
        passed: HashMap::new(),
        is_refused: false,
        opens_at: None,
    }))
}

/// Asks for places, and looks at what has to be known for that.
fn ask(q: &Queue, max: i32, wanted: i64) -> Answer {
    let mut known: Option<Ended> = None;
    for _ in 0..TRIES {
        match flight::ask(q, max, wanted, known.as_ref()) {
            Answer::Doubt(doubt) => {
                let (ended, next) = leases::ended(q, &doubt.open, time::now());
                known = Some(doubt.settled(ended, next));
            }
            Answer::Unknown => {
                let is_lost = counts::is_known(frontier::key(q)) == Some(false);
                if !is_lost || !look::recount(q, |_| true) {
                    break;
                }
            }
            other => return other,
        }
    }
    Answer::Unknown
}

impl Limits<'_> {
    /// How many messages it may take.
    pub fn most(&self, wanted: usize) -> usize {
        let places = self.places.map(|n| usize::try_from(n).unwrap_or(0));
        places.map_or(wanted, |n| n.min(wanted))
    }

    /// So many were handed out; `is_over`: it went on until there was nothing more.
    pub fn end(self, handed_out: usize, is_over: bool) {
        if let Some(n) = self.places {
            flight::give_back(self.q, n - handed_out as i64);
        }
        if self.is_refused {
            flight::refused(self.q, self.now, self.opens_at);
        } else if is_over {
            flight::found_nothing(self.q, self.now);
        }
    }

    fn refused(&mut self, opens_at: Micros) {
        self.is_refused = true;
        self.opens_at = Some(self.opens_at.map_or(opens_at, |at| at.min(opens_at)));
    }
}

fn whose(q: &Queue, row: &dyn Met) -> Whose {
    match &q.options.limits.rate_key {
        None => Whose::Queue,
        Some(key) if key == GROUP_KEY => Whose::Key(rate::number(q, row.group().as_deref())),
        Some(key) => Whose::Key(rate::number(q, row.header(key).as_deref())),
    }
}

/// When there will be a token for a message, if there is none now.
pub fn token_at(q: &Queue, row: &dyn Met) -> Option<Micros> {
    let rate = q.options.limits.rate()?;
    let now = time::now();
    let next = rate::next(q, &rate, whose(q, row)).unwrap_or(now + SOON);
    (next > now).then_some(next)
}

impl Gate for Limits<'_> {
    fn ask(&mut self, row: &dyn Met) -> Leave {
        let Some(rate) = self.rate else {
            return Leave::Take(None);
        };
        let whose = whose(self.q, row);
        // The first that is passed has the next token, the second the one after that.
        if let Whose::Key(key) = whose
            && let Some((until, n)) = self.passed.get_mut(&key)
        {
            let behind = rate.interval().saturating_mul(*n).min(FARTHEST);
            *n += 1;
            return Leave::Pass(until.saturating_add(behind));
        }
        match rate::take(self.q, &rate, whose) {
            Some(Ok(at)) => Leave::Take(Some(at)),
            refused => {
                let next = refused.and_then(std::result::Result::err);
                let until = next.unwrap_or_else(|| time::now() + SOON);
                self.refused(until);
                match whose {
                    Whose::Queue => Leave::Stop,
                    Whose::Key(key) => {
                        self.passed.insert(key, (until, 1));
                        Leave::Pass(until)
                    }
                }
            }
        }
    }

    fn give_back(&mut self, row: &dyn Met, taken_at: Micros) {
        if let Some(rate) = self.rate {
            rate::give_back(self.q, &rate, whose(self.q, row), taken_at);
        }
    }
}

/// A reader that began then had nothing to look at.
pub fn found_nothing(q: &Queue, begun_at: Micros) {
    if q.options.limits.hold_back() {
        flight::found_nothing(q, begun_at);
    }
}

/// The same found only what may not be handed out before that.
pub fn found_later(q: &Queue, begun_at: Micros, opens_at: Micros) {
    flight::refused(q, begun_at, Some(opens_at));
}

/// Whether a reader would be kept from all messages now.
pub fn is_shut(q: &Queue, now: Micros) -> Result<bool> {
    if !q.options.limits.hold_back() {
        return Ok(false);
    }
    Ok(enter(q, 0, now)?.is_none())
}

/// A lease ends as it did, and is to be prolonged: whether it may be. Where it has ended, another
/// message may have its place.
pub fn may_extend(q: &Queue, has_ended: bool) -> bool {
    let Some(max) = q.options.limits.max_in_flight else {
        return true;
    };
    if !has_ended {
        flight::keep(q);
        return true;
    }
    !board::is_there() || matches!(ask(q, max, 1), Answer::Places(1))
}
