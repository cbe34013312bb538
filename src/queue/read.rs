//! Handing out: the common case in one look, the rest when something is due.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::{self, Micros};
use crate::pg::tuple::{Pinned, RowLocks, Tid, buffers_touched};
use crate::queue::bury;
use crate::storage::claim::{self, Among, Bound, Candidate, Fate, Take};
use crate::storage::place::{self, Place};
use crate::storage::{length, settle};
use crate::wake::totals::{self, Total};
use crate::wake::{bounds, deliveries};
use pg_broker_core::names::DEFAULT_PRIORITY;
use std::collections::HashSet;

/// How many more candidates are looked at than wanted: others may be taking the first.
const SLACK: i64 = 8;
/// When that was too few, so many times more.
const WIDER: i64 = 8;
/// How many rows one read buries in passing.
const BURIED: usize = 64;

/// Where the columns that decide the order stand in a row of `mq.message`.
const ID: usize = 0;
const PRIORITY: usize = 9;

/// Rows handed out, in order: by priority, then by id.
pub struct HandedOut {
    rows: Option<Rows>,
    order: Vec<(i16, i64, usize)>,
}

impl HandedOut {
    fn new(rows: Option<Rows>) -> Self {
        let mut order: Vec<_> = rows
            .iter()
            .flat_map(|r| (0..r.len()).map(move |row| (r, row)))
            .filter_map(|(r, row)| {
                Some((
                    -r.get(row, PRIORITY).as_int2()?,
                    r.get(row, ID).as_int8()?,
                    row,
                ))
            })
            .collect();
        order.sort_unstable();
        HandedOut { rows, order }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.order.iter().map(|o| o.1)
    }

    /// The rows, each with its place.
    pub fn rows(&self) -> impl Iterator<Item = (&Rows, usize)> {
        self.order
            .iter()
            .filter_map(|o| Some((self.rows.as_ref()?, o.2)))
    }
}

/// Picks candidates for one reader by locking them.
struct Picker<'a> {
    spi: &'a Spi,
    q: &'a Queue,
    now: Micros,
    qty: usize,
    locks: RowLocks,
    tried: HashSet<Tid>,
    picked: Vec<Place>,
    /// How many of the picked had a lease that ended.
    ended: usize,
    /// The first candidate of the default priority.
    first_id: Option<i64>,
}

impl Picker<'_> {
    fn wanted(&self) -> i64 {
        (self.qty - self.picked.len()) as i64
    }

    fn pick(&mut self, candidates: impl Iterator<Item = Candidate>) {
        for c in candidates {
            if self.picked.len() == self.qty {
                break;
            }
            if self.tried.insert(c.place.0) && self.locks.try_lock(c.place.0) {
                self.picked.push(c.place);
                self.ended += usize::from(c.lease_ended);
            }
        }
    }

    /// Picks from one kind of candidates until satisfied or there are no more. Gives whether
    /// there were any.
    fn sweep(&mut self, among: Among) -> Result<bool> {
        let mut limit = self.wanted().saturating_add(SLACK);
        let mut any = false;
        while self.wanted() > 0 {
            let found = claim::candidates(self.spi, self.q, among, limit, self.now)?;
            let exhausted = (found.len() as i64) < limit;
            any |= !found.is_empty();
            self.first_id = self.first_id.or_else(|| {
                found
                    .iter()
                    .find(|c| c.priority == DEFAULT_PRIORITY)
                    .map(|c| c.place.1)
            });
            self.pick(found.into_iter());
            if exhausted {
                break;
            }
            limit = limit.saturating_mul(WIDER);
        }
        Ok(any)
    }

    /// The common case: ready messages, unless anything is due. Gives whether there were any.
    fn look(&mut self) -> Result<bool> {
        if let Some((from_id, due_after)) = bounds::get(self.q, self.now) {
            let any = self.sweep(Among::ReadyFrom(Bound { from_id, due_after }))?;
            bounds::moved(self.q, self.first_id);
            if any && !self.picked.is_empty() {
                return Ok(true);
            }
        }
        self.first_id = None;
        let quick = !bounds::expiry_is_due(self.q, self.now);
        let (began, touched) = (time::now(), buffers_touched());
        let any = self.sweep(if quick {
            Among::ReadyQuick
        } else {
            Among::Ready
        })?;
        let cost = buffers_touched() - touched;
        bounds::looked(self.q, self.first_id, cost, self.now, time::now() - began);
        Ok(any)
    }

    /// Nothing was ready: because something is due that may come first, or because the queue is
    /// empty. What is over is buried in passing.
    fn look_closer(&mut self) -> Result<()> {
        let limit = self.wanted().saturating_add(SLACK);
        let mut found = claim::candidates(self.spi, self.q, Among::DueOrReady, limit, self.now)?;
        if found.is_empty() {
            return Ok(());
        }
        let over = found
            .iter()
            .filter(|c| c.fate != Fate::Claimable)
            .map(|c| c.place);
        let over: Vec<Place> = place::lock_found(self.q, over).take(BURIED).collect();
        bury::over(self.spi, self.q, &over, self.now)?;
        found.retain(|c| c.fate == Fate::Claimable);
        found.sort_unstable_by_key(|c| (-c.priority, c.place.1));
        self.pick(found.into_iter());
        // Others took what was seen, or what was seen was not all.
        self.sweep(Among::Due)?;
        self.sweep(Among::ReadyOnly)?;
        Ok(())
    }
}

/// Hands out up to `qty` messages of a queue that is not paused.
pub fn hand_out(spi: &Spi, q: &Queue, qty: i64, take: Take, now: Micros) -> Result<HandedOut> {
    write_failures(spi, q, now)?;
    let pinned = Pinned::now();
    let mut picker = Picker {
        spi,
        q,
        now,
        qty: usize::try_from(qty).unwrap_or(usize::MAX),
        locks: RowLocks::of(q.storage),
        tried: HashSet::new(),
        picked: Vec::new(),
        ended: 0,
        first_id: None,
    };
    if !picker.look()? {
        picker.look_closer()?;
    }
    let Picker { picked, ended, .. } = picker;
    let rows = match picked.is_empty() {
        true => None,
        false => Some(claim::take(spi, q, &picked, take, now)?),
    };
    drop(pinned);
    let out = HandedOut::new(rows);
    totals::count(q, Total::Delivered, out.len());
    totals::count(q, Total::Failed, ended);
    deliveries::note(q, out.ids());
    if let Take::Away = take {
        totals::count(q, Total::Acked, out.len());
        length::add(spi, q, -(out.len() as i64))?;
    }
    Ok(out)
}

/// Adds the failures of this session's rolled-back transactions to the rows.
fn write_failures(spi: &Spi, q: &Queue, now: Micros) -> Result<()> {
    let failures = deliveries::take_failures(q);
    if failures.is_empty() {
        return Ok(());
    }
    totals::count(q, Total::Failed, failures.len());
    failures
        .into_iter()
        .try_for_each(|(id, n)| settle::blame(spi, q, id, n, now))
}
