//! Handing out: the common case in one statement, the rest when something is due.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::queue::bury;
use crate::storage::claim::{self, Among, Candidate, Fate, Take};
use crate::storage::{length, settle};
use crate::wake::deliveries;
use crate::wake::totals::{self, Total};

/// How many more ready rows are looked at than wanted, beside due ones: others may take some.
const SLACK: i64 = 64;
/// How many rows one read buries in passing.
const BURIED: usize = 64;

/// Where the columns that decide the order stand in a row of `mq.message`.
const ID: usize = 0;
const PRIORITY: usize = 9;

/// Rows handed out, in order: by priority, then by id.
#[derive(Default)]
pub struct HandedOut {
    pieces: Vec<Rows>,
    order: Vec<(i16, i64, usize, usize)>,
}

impl HandedOut {
    fn add(&mut self, rows: Rows) {
        let piece = self.pieces.len();
        self.order.extend((0..rows.len()).filter_map(|row| {
            let (priority, id) = (
                rows.get(row, PRIORITY).as_int2()?,
                rows.get(row, ID).as_int8()?,
            );
            Some((-priority, id, piece, row))
        }));
        self.pieces.push(rows);
    }

    fn finish(mut self) -> Self {
        self.order.sort_unstable();
        self
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.order.iter().map(|o| o.1)
    }

    /// The rows with their place in each piece.
    pub fn rows(&self) -> impl Iterator<Item = (&Rows, usize)> {
        self.order.iter().map(|o| (&self.pieces[o.2], o.3))
    }
}

/// Hands out up to `qty` messages of a queue that is not paused.
pub fn hand_out(spi: &Spi, q: &Queue, qty: i64, take: Take, now: Micros) -> Result<HandedOut> {
    write_failures(spi, q)?;
    let mut out = HandedOut::default();
    out.add(claim::claim(spi, q, Among::Ready, take, qty, now)?);
    if out.is_empty() {
        look_closer(spi, q, qty, take, now, &mut out)?;
    }
    let out = out.finish();
    totals::count(q, Total::Delivered, out.len());
    deliveries::note(q, out.ids());
    if let Take::Away = take {
        length::add(spi, q, -(out.len() as i64))?;
    }
    Ok(out)
}

/// Adds the failures of this session's rolled-back transactions to the rows.
fn write_failures(spi: &Spi, q: &Queue) -> Result<()> {
    let failures = deliveries::take_failures(q);
    if failures.is_empty() {
        return Ok(());
    }
    totals::count(q, Total::Failed, failures.len());
    settle::blame(spi, q, &failures)
}

/// Nothing was handed out: because something is due that may come first, or because the queue is
/// empty. Due rows that are over are buried in passing.
fn look_closer(
    spi: &Spi,
    q: &Queue,
    qty: i64,
    take: Take,
    now: Micros,
    out: &mut HandedOut,
) -> Result<()> {
    let candidates = claim::candidates(spi, q, qty.saturating_add(SLACK), now)?;
    if candidates.is_empty() {
        return Ok(());
    }
    let over: Vec<i64> = candidates
        .iter()
        .filter(|c| c.fate != Fate::Claimable)
        .map(|c| c.id)
        .take(BURIED)
        .collect();
    bury::over(spi, q, &over, now)?;
    let list = in_order(candidates);
    if !list.is_empty() {
        out.add(claim::claim(spi, q, Among::Listed(&list), take, qty, now)?);
    }
    // Others took what was seen, or what was seen was not all: the rest, without waiting.
    for among in [Among::Due, Among::ReadyOnly] {
        let wanted = qty - out.len() as i64;
        if wanted > 0 {
            out.add(claim::claim(spi, q, among, take, wanted, now)?);
        }
    }
    Ok(())
}

fn in_order(mut candidates: Vec<Candidate>) -> Vec<i64> {
    candidates.retain(|c| c.fate == Fate::Claimable);
    candidates.sort_unstable_by_key(|c| (-c.priority, c.id));
    candidates.into_iter().map(|c| c.id).collect()
}
