//! Where readers of a queue have to look: what shared memory says, or, without it, everywhere.
//!
//! A look goes in this order, which `pg_broker_core::frontier` needs: tickets are taken, then the
//! snapshot, then rows are walked, and at last what was seen is published. What this transaction
//! has itself made ready is in no lane yet, and is looked at beside.

use super::fair;
use super::groups;
use super::positions::{self, Positions};
use super::{counts, suspects, touch};
use crate::catalog::{Outline, Queue};
use crate::pg::board::{self, Held};
use crate::pg::prepared;
use crate::pg::rel;
use crate::pg::time::Micros;
use crate::pg::waiters::Calls;
use crate::settings;
use pg_broker_core::board::{DEFAULT_RANK, Key, RANKS, RankTicket, names_rank};
use pg_broker_core::frontier::{Dated, OwnTicket, Span, Ticket};
use pg_broker_core::groups::{Note, Ticket as GroupsTicket};
use std::cell::RefCell;
use std::rc::Rc;

const ALL: Span = Span::new(0, i64::MAX);

/// What is known of one rank.
#[allow(clippy::large_enum_variant)] // made under a lock, where nothing is allocated
enum Place {
    /// There is nothing.
    Empty,
    /// Everything is to be looked at, and nothing can be published.
    Unknown,
    /// There is no lane, because there was never anything.
    Unused,
    Lane(Ticket),
}

struct Rank {
    place: Place,
    /// Still to be looked at, last first.
    todo: Vec<Span>,
    /// Looked at.
    seen: Vec<Span>,
    /// Rows passed that wait.
    waiting: Dated,
    any: bool,
    to_the_end: bool,
    /// What a reader who wants only some messages has seen beyond that.
    by_filter: Option<Box<SeenByFilter>>,
}

/// Looked at by a reader who left what he does not want.
struct SeenByFilter {
    ticket: OwnTicket,
    seen: Vec<Span>,
    waiting: Dated,
}

impl Rank {
    fn new(place: Place, mine: Option<OwnTicket>, own: &[Span]) -> Self {
        let mut todo: Vec<Span> = match (&place, &mine) {
            (Place::Empty, _) => Vec::new(),
            (Place::Unknown | Place::Unused, _) => vec![ALL],
            (Place::Lane(ticket), Some(mine)) => mine.both(ticket).collect(),
            (Place::Lane(ticket), None) => ticket.spans().filter(|s| !s.is_empty()).collect(),
        };
        if !own.is_empty() && todo.first() != Some(&ALL) {
            todo.extend_from_slice(own);
            todo = merged(todo);
        }
        todo.reverse();
        Rank {
            place,
            todo,
            seen: Vec::new(),
            waiting: Dated::default(),
            any: false,
            to_the_end: false,
            by_filter: mine.map(|ticket| {
                Box::new(SeenByFilter {
                    ticket,
                    seen: Vec::new(),
                    waiting: Dated::default(),
                })
            }),
        }
    }
}

fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable_by_key(|s| s.lo);
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last) if span.lo <= last.hi => *last = last.hull(span),
            _ => out.push(span),
        }
    }
    out
}

/// What one reader has to look at, and what it has seen.
pub struct Looks {
    pub(super) key: Key,
    /// None: all is looked at, and nobody is told of it.
    pub ticket: Option<RankTicket>,
    ranks: Vec<(usize, Rank)>,
    /// In a queue with groups.
    pub(super) groups: Option<GroupsTicket>,
    /// In a queue whose tenants take turns: whether any has messages waiting.
    pub any_tenant: Option<bool>,
    positions: Option<Rc<RefCell<Positions>>>,
}

/// So often prepared transactions are listed anew after there were too many.
const RELIST_INTERVAL: Micros = 1_000_000;

/// What the board says to a reader that begins.
#[allow(clippy::large_enum_variant)] // made under a lock, where nothing is allocated
enum Answer {
    Look(Looks),
    /// It is not known yet which prepared transactions there are.
    NotListed,
    Unreliable,
}

pub fn key(q: &Queue) -> Key {
    board::key(q.storage, q.created_at)
}

impl Looks {
    /// Only after this may the reader take its snapshot.
    pub fn begin(q: &Queue, now: Micros) -> Self {
        Self::begin_as(q, None, now)
    }

    /// The same for a reader who wants only the messages that a filter lets pass, and who was there
    /// before: without those that he knows are not.
    pub fn begin_filtered(q: &Queue, filter: &[u8], now: Micros) -> Self {
        let positions = board::is_there().then(|| positions::of(key(q), filter, now));
        Self::begin_as(q, positions, now)
    }

    fn begin_as(q: &Queue, positions: Option<Rc<RefCell<Positions>>>, now: Micros) -> Self {
        let key = key(q);
        let own = touch::pending(key, now);
        // What is prepared on a standby is not known before it is promoted.
        if settings::HINTS.get()
            && board::is_there()
            && !rel::in_recovery()
            && let Some(looks) = Self::learn(q, now, &own, positions.as_ref())
        {
            return looks;
        }
        let ranks = (0..RANKS).map(|r| (r, Rank::new(Place::Unknown, None, &[])));
        Looks {
            key,
            ticket: None,
            ranks: ranks.collect(),
            groups: None,
            any_tenant: None,
            positions: None,
        }
    }

    fn learn(
        q: &Queue,
        now: Micros,
        own: &[(usize, Span)],
        positions: Option<&Rc<RefCell<Positions>>>,
    ) -> Option<Self> {
        let mut answer = Self::ask(q, now, own, positions);
        if let Some(Answer::NotListed) = answer {
            let prepared = prepared::list();
            board::with(key(q), true, |h| suspects::list(h, &prepared));
            answer = Self::ask(q, now, own, positions);
        }
        match answer {
            Some(Answer::Look(looks)) => return Some(looks),
            Some(_) => {}
            None => make_room(),
        }
        None
    }

    fn ask(
        q: &Queue,
        now: Micros,
        own: &[(usize, Span)],
        positions: Option<&Rc<RefCell<Positions>>>,
    ) -> Option<Answer> {
        let key = key(q);
        let mut ended = None;
        let answer = board::with(key, true, |h| {
            suspects::settle(h, now, &mut ended);
            if h.state.begin_anew(now, RELIST_INTERVAL) {
                (0..RANKS).for_each(|rank| h.report(rank, ALL));
                groups::forget(h);
            }
            if !h.state.is_listed() {
                return Answer::NotListed;
            }
            let (has_groups, is_fair) = (q.options.has_groups(), q.options.is_fair());
            let groups = has_groups.then(|| h.groups(true).map(|g| g.ticket()));
            // Where there is no room for it, in the order of ids.
            let round = if is_fair { h.round(true) } else { None };
            let any_tenant = round.map(|r| !r.places().is_empty());
            let has_room = !matches!(groups, Some(None));
            if h.state.is_reliable() && has_room {
                let mut looks = hinted(key, h, now, own, positions);
                (looks.groups, looks.any_tenant) = (groups.flatten(), any_tenant);
                Answer::Look(looks)
            } else {
                Answer::Unreliable
            }
        });
        if let Some(ended) = ended {
            ended.tell(key);
        }
        answer
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.any_tenant != Some(true) && self.ranks.iter().all(|(_, r)| r.todo.is_empty())
    }

    /// The lowest id to look at.
    pub fn lowest(&self) -> i64 {
        let spans = self.ranks.iter().flat_map(|(_, r)| &r.todo);
        spans.map(|s| s.lo).min().unwrap_or(i64::MAX)
    }

    /// The next ids to look at: rank, from, and to before which.
    pub fn next(&mut self) -> Option<(i16, i64, i64)> {
        self.ranks
            .iter_mut()
            .find_map(|(rank, r)| r.todo.pop().map(|s| (*rank as i16, s.lo, s.hi)))
    }

    /// Notes that all rows of `[from, upto)` were seen; `any`: that there were some.
    pub fn seen(&mut self, rank: i16, from: i64, upto: i64, any: bool, waiting: &[(i64, Micros)]) {
        let Some((_, r)) = self.ranks.iter_mut().find(|(n, _)| *n as i16 == rank) else {
            return;
        };
        r.any |= any;
        r.to_the_end |= upto == i64::MAX;
        if let Place::Lane(_) = r.place {
            r.seen.push(Span::new(from, upto));
            for &(id, due) in waiting {
                r.waiting.add_one(id, due);
            }
        }
    }

    /// Notes that a reader who wants only some messages leaves those of `[from, upto)` that are ready
    /// because he does not want them; beyond what was noted as seen there were these rows that wait.
    pub fn seen_by_filter(&mut self, rank: i16, from: i64, upto: i64, waiting: &[(i64, Micros)]) {
        let found = self.ranks.iter_mut().find(|(n, _)| *n as i16 == rank);
        if let Some(by_filter) = found.and_then(|(_, r)| r.by_filter.as_mut()) {
            by_filter.seen.push(Span::new(from, upto));
            for &(id, due) in waiting {
                by_filter.waiting.add_one(id, due);
            }
        }
    }

    /// Publishes what was seen, and has these looked at again.
    pub fn finish(self, now: Micros, again: &[Note]) {
        let Some(ticket) = &self.ticket else { return };
        board::with(self.key, false, |h| {
            for (rank, r) in &self.ranks {
                match &r.place {
                    Place::Empty | Place::Unknown => {}
                    Place::Unused if r.to_the_end && !r.any => {
                        h.state.publish_empty_rank(ticket, *rank);
                    }
                    Place::Unused if r.any => {
                        h.lane(*rank, true);
                    }
                    Place::Unused => {}
                    Place::Lane(ticket) => {
                        if let Some(lane) = h.lane(*rank, false) {
                            for span in &r.seen {
                                lane.publish(ticket, span.lo, span.hi);
                            }
                            for batch in r.waiting.iter() {
                                lane.enter(now, batch);
                            }
                        }
                    }
                }
            }
            for p in again {
                h.report(p.rank as usize, p.ids());
            }
        });
        self.move_positions(now);
    }

    /// What was seen through a filter, this session need not look at again.
    fn move_positions(&self, now: Micros) {
        let Some(mut positions) = self.positions.as_ref().map(|p| p.borrow_mut()) else {
            return;
        };
        for (rank, r) in &self.ranks {
            let Some(by_filter) = &r.by_filter else {
                continue;
            };
            let position = positions.of_rank(*rank);
            for span in &by_filter.seen {
                position.publish(&by_filter.ticket, span.lo, span.hi);
            }
            for batch in by_filter.waiting.iter() {
                position.enter(now, batch);
            }
        }
    }
}

/// Has the board learn of prepared transactions what it can.
pub(super) fn learn(q: &Queue, now: Micros) {
    let _ = Looks::learn(q, now, &[], None);
}

/// How many of these queues have to do without a place on the board.
pub fn without_place(queues: &[Outline]) -> usize {
    if !board::is_there() || rel::in_recovery() {
        return 0;
    }
    let without = || {
        let keys = queues.iter().map(|q| board::key(q.storage, q.created_at));
        keys.filter(|key| !board::has_room(*key)).count()
    };
    match without() {
        0 => 0,
        _ => {
            make_room();
            without()
        }
    }
}

thread_local! {
    static MADE_ROOM: std::cell::Cell<Micros> = const { std::cell::Cell::new(0) };
}
/// The board is searched for what can be given up at most this often in a session.
const ROOM_INTERVAL: Micros = 60_000_000;

/// The board is full: takes what belongs to queues and databases that are gone.
fn make_room() {
    let now = crate::pg::time::now();
    let last = MADE_ROOM.with(|m| m.get());
    if last == 0 || now - last > ROOM_INTERVAL {
        MADE_ROOM.with(|m| m.set(now));
        board::forget(board::is_orphan);
    }
}

/// A queue was made by the transaction in progress: it is known to hold nothing, so that its first
/// reader need not look at everything that was sent before.
pub fn created(q: &Queue) {
    let now = crate::pg::time::now();
    touch::created(q.storage);
    board::with(key(q), true, |h| {
        h.state.list();
        h.state.counting.start(counts::limit(q));
        if q.options.has_groups()
            && let Some(groups) = h.groups(true)
        {
            groups.begin_empty();
        }
        let ticket = h.state.ranks.begin(now);
        for rank in (0..RANKS).filter(|r| *r != DEFAULT_RANK) {
            h.state.publish_empty_rank(&ticket, rank);
        }
        if let Some(lane) = h.lane(DEFAULT_RANK, true) {
            let ticket = lane.begin(now);
            lane.publish(&ticket, ALL.lo, ALL.hi);
        }
    });
}

fn hinted(
    key: Key,
    h: &mut Held,
    now: Micros,
    own: &[(usize, Span)],
    positions: Option<&Rc<RefCell<Positions>>>,
) -> Looks {
    let ticket = h.state.ranks.begin(now);
    let mut ranks = Vec::with_capacity(1);
    for rank in 0..RANKS {
        let own: Vec<Span> = own
            .iter()
            .filter(|(r, _)| *r == rank)
            .map(|(_, s)| *s)
            .collect();
        let is_default = rank == DEFAULT_RANK;
        let place = if !is_default && !names_rank(&ticket, rank) {
            if own.is_empty() {
                continue;
            }
            Place::Empty
        } else {
            match h.lane(rank, is_default) {
                Some(lane) => Place::Lane(lane.begin(now)),
                None if is_default => Place::Unknown,
                None => Place::Unused,
            }
        };
        let mine = match (&place, positions) {
            (Place::Lane(ticket), Some(positions)) => {
                let number = h.state.lanes.get(rank).copied().unwrap_or_default();
                h.lane(rank, false).map(|lane| {
                    let mut positions = positions.borrow_mut();
                    positions.of_rank(rank).begin(number, lane, ticket, now)
                })
            }
            _ => None,
        };
        let rank_ = Rank::new(place, mine, &own);
        if !rank_.todo.is_empty() {
            ranks.push((rank, rank_));
        }
    }
    Looks {
        key,
        ticket: Some(ticket),
        ranks,
        groups: None,
        any_tenant: None,
        positions: positions.cloned(),
    }
}

/// A row that may be handed out.
pub struct Found {
    pub rank: i16,
    pub id: i64,
    pub belongs_to: Option<i64>,
}

/// Such rows, met by who went through all of them: those that readers would not look at are reported.
pub fn found(q: &Queue, ready: &[Found], now: Micros) {
    // Those of a key that has no token are put off, though they are ready.
    let by = match q.options.limits.rate_key {
        Some(_) => Micros::MAX,
        None => now,
    };
    // A few at a time: readers want the lock.
    for part in ready.chunks(256) {
        let mut calls = Calls::none();
        board::with(key(q), false, |h| {
            let mut n = 0;
            for found in part {
                let (rank, id) = (usize::try_from(found.rank).unwrap_or_default(), found.id);
                let is_missed = h.lane(rank, false).is_some_and(|lane| !lane.covers(id, by));
                let is_missed = is_missed || h.state.knows_empty(rank);
                if is_missed && !fair::covers(h, found) {
                    h.report(rank, Span::one(id));
                    n += 1;
                }
            }
            h.wake(n, now, &mut calls);
        });
        calls.make();
    }
}
