//! Prepared transactions. Whoever ends one, no session hears of what it did; so what it touched was
//! noted on the board as a suspect, and is told when the suspect is found to have ended: by whoever
//! ends it, or by the next reader, whichever comes first. Whoever finds it also wakes those who
//! wait, because he need not take what there is, and adds what it had counted to the totals.

use super::{groups, totals};
use crate::pg::board::{self, Held};
use crate::pg::time::{self, Micros};
use crate::pg::waiters::Calls;
use pg_broker_core::board::{ANY_RANK, Key, RANKS, SUSPECTS, Suspect, TOTALS};
use pg_broker_core::frontier::Span;

const ALL: Span = Span::new(0, i64::MAX);

/// Notes the transactions that were prepared before anything was known of the queue.
pub(super) fn list(h: &mut Held, prepared: &[u32]) {
    if h.state.is_listed() {
        return;
    }
    for &xid in prepared {
        h.state.suspect(Suspect {
            xid,
            rank: ANY_RANK,
            ids: ALL,
            counted: [0; TOTALS],
            promised: 0,
        });
    }
    h.state.list();
}

/// What is left to do for suspects that have ended, once the lock of their queue is free.
pub(super) struct Ended {
    calls: Calls,
    counted: [(u32, [u32; TOTALS]); SUSPECTS],
    n: usize,
}

impl Ended {
    fn none() -> Self {
        Ended {
            calls: Calls::none(),
            counted: [(0, [0; TOTALS]); SUSPECTS],
            n: 0,
        }
    }

    fn add(&mut self, suspect: &Suspect) {
        if suspect.counted != [0; TOTALS]
            && let Some(place) = self.counted.get_mut(self.n)
        {
            *place = (suspect.xid, suspect.counted);
            self.n += 1;
        }
    }

    pub(super) fn tell(self, key: Key) {
        self.calls.make();
        for (xid, counted) in self.counted.iter().take(self.n) {
            if board::has_committed(*xid) {
                totals::committed(key.storage, counted);
            }
        }
    }
}

/// Reports what ended prepared transactions touched.
pub(super) fn settle(h: &mut Held, now: Micros, ended: &mut Option<Ended>) {
    if !h.state.has_suspects() {
        return;
    }
    while let Some(s) = h.state.take_ended(|xid| !board::is_open(xid)) {
        // What it did to figures, nobody knows.
        h.state.counting.forget();
        for rank in (0..RANKS).filter(|r| s.rank == ANY_RANK || s.rank as usize == *r) {
            h.report(rank, s.ids);
        }
        groups::forget(h);
        let ended = ended.get_or_insert_with(Ended::none);
        ended.add(&s);
        let n = usize::try_from(s.ids.hi.saturating_sub(s.ids.lo)).unwrap_or(0);
        h.wake(n.min(Calls::MOST), now, &mut ended.calls);
    }
}

/// A prepared transaction of this database has ended: queues that suspect one are told. Where it is
/// not known which, all who wait there are worth waking.
pub(super) fn ended() {
    let now = time::now();
    for key in board::own(|state| state.has_suspects() || !state.is_reliable()) {
        let mut ended = None;
        board::with(key, false, |h| {
            settle(h, now, &mut ended);
            if !h.state.is_reliable() {
                let ended = ended.get_or_insert_with(Ended::none);
                h.wake(Calls::MOST, now, &mut ended.calls);
            }
        });
        if let Some(ended) = ended {
            ended.tell(key);
        }
    }
}
