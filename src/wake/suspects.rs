//! Prepared transactions. Whoever ends one, no session hears of what it did; so what it touched was
//! noted on the board as a suspect, and is told when the suspect is found to have ended: by whoever
//! ends it, or by the next reader, whichever comes first. Whoever finds it also wakes those who
//! wait, because he need not take what there is.

use crate::pg::board::{self, Held};
use crate::pg::time::{self, Micros};
use crate::pg::waiters::Calls;
use pg_broker_core::board::{ANY_RANK, RANKS, Suspect};
use pg_broker_core::frontier::Span;

/// Notes the transactions that were prepared before anything was known of the queue.
pub(super) fn list(h: &mut Held, prepared: &[u32]) {
    if h.state.is_listed() {
        return;
    }
    for &xid in prepared {
        h.state.suspect(Suspect {
            xid,
            rank: ANY_RANK,
            ids: Span::new(0, i64::MAX),
        });
    }
    h.state.list();
}

/// Reports what ended prepared transactions touched. The calls are to be made once the lock of the
/// queue is free.
pub(super) fn settle(h: &mut Held, now: Micros, calls: &mut Option<Calls>) {
    if !h.state.has_suspects() {
        return;
    }
    while let Some(s) = h.state.take_ended(|xid| !board::is_open(xid)) {
        // What it did to figures, nobody knows.
        h.state.counting.forget();
        for rank in (0..RANKS).filter(|r| s.rank == ANY_RANK || s.rank as usize == *r) {
            h.report(rank, s.ids);
        }
        let n = usize::try_from(s.ids.hi.saturating_sub(s.ids.lo)).unwrap_or(0);
        h.wake(
            n.min(Calls::MOST),
            now,
            calls.get_or_insert_with(Calls::none),
        );
    }
}

/// A prepared transaction of this database has ended: queues that suspect one are told. Where it is
/// not known which, all who wait there are worth waking.
pub(super) fn ended() {
    let now = time::now();
    for key in board::own(|state| state.has_suspects() || !state.is_reliable()) {
        let mut calls = None;
        board::with(key, false, |h| {
            settle(h, now, &mut calls);
            if !h.state.is_reliable() {
                h.wake(Calls::MOST, now, calls.get_or_insert_with(Calls::none));
            }
        });
        if let Some(calls) = calls {
            calls.make();
        }
    }
}
