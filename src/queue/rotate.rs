//! Space that comes back without vacuum: which tables a queue's messages lie in, and when that
//! changes.
//!
//! A segment takes the messages of one range of ids. When its ids are used up it is closed; when
//! none of its messages is left it is truncated and takes another range. What would keep it alive
//! for long is parked. One step looks at everything once, and does to each table at most one thing;
//! what comes next is done in a later transaction, when everybody has been told of this one.
//!
//! That nobody enters rows into a closed table any more is known when everyone who had it locked at
//! some moment after it was closed has ended: who came later was told. From then on a snapshot
//! without a row in it is final (`Seen::is_settled`), unless it is that of a transaction whose own work
//! is undone: then all is forgotten that it has learnt.

use crate::catalog::Queue;
use crate::catalog::map::{Map, PARENT, Part, State};
use crate::error::Result;
use crate::pg::holders::{self, Holder};
use crate::pg::rel::Lock;
use crate::pg::time::{self, Micros};
use crate::pg::{report, xact};
use crate::queue::note::note_locked;
use crate::queue::pace::{Pace, Step};
use crate::queue::spare;
use crate::settings;
use crate::storage::rotate::{self, End, Kept};
use crate::wake::touch;
use pg_broker_core::ids::BLOCK;
use pg_broker_core::space::{self, Last};
use std::cell::RefCell;
use std::collections::HashMap;

/// What this session has learnt of a closed table. Losing it costs another look.
struct Seen {
    /// Who had it locked when it was first seen closed.
    holders: Vec<Holder>,
    is_settled: bool,
    /// No message below.
    low: i64,
    /// Since when there is none at all.
    empty_since: Option<Micros>,
    /// Not before this are its messages counted again.
    count_at: Micros,
}

impl Seen {
    fn new(holders: Vec<Holder>) -> Self {
        Seen {
            holders,
            is_settled: false,
            low: 0,
            empty_since: None,
            count_at: 0,
        }
    }

    fn have_all_ended(&mut self) -> bool {
        self.holders.retain(|h| !h.has_ended());
        self.holders.is_empty()
    }

    /// Whether it is time for another count; the next is then that much later.
    fn may_count(&mut self, now: Micros, pause: Micros) -> bool {
        let may = self.count_at <= now;
        if may {
            self.count_at = now + pause;
        }
        may
    }
}

/// A table in one use: storage of the queue, number, since when.
type UseOf = (u32, i32, Micros);

thread_local! {
    static SEEN: RefCell<HashMap<UseOf, Seen>> = RefCell::default();
}

/// So many messages are moved by one step from one table.
const MOVED: usize = 256;
/// Messages are counted at most this often.
const COUNTED_EVERY: Micros = 2_000_000;
/// A parked table with fewer pages is not worth being emptied.
const WORTH: i64 = 64;

/// One step, for whoever may write. Nothing is waited for, but as the pace says.
pub fn step(q: &Queue, pace: &Pace) -> Result<Step> {
    let Some(map) = rotate::begin(q) else {
        return Ok(Step::Waits);
    };
    xact::if_undone(forget);
    let now = time::now();
    let given = rotate::ids_given(q)?;
    let mut done = false;
    let mut waits = false;
    for part in map.all().filter(|p| rotate::is_stray(q, p)) {
        match rotate::adopt(q, part)? {
            true => done = true,
            false => waits = true,
        }
    }
    if let Some(range) = wanted(q, &map, given, now) {
        match rotate::open(q, &map, range)? {
            true => done = true,
            false => waits = true,
        }
    }
    for part in map.ranges() {
        if part.state == State::Open && part.past <= given - BLOCK {
            rotate::turn(q, part, State::Closed)?;
            done = true;
        }
    }
    let mut empty = Vec::new();
    let closed = map.ranges().iter().filter(|p| p.state == State::Closed);
    let sources = map.parked().iter().filter(|p| p.state == State::Source);
    let mut moved = 0;
    for part in closed.chain(sources) {
        match treat(q, &map, part, (given, now), MOVED - moved, pace)? {
            Found::Empty(since) => empty.push((part, since)),
            Found::Left => {
                rotate::turn(q, part, left(part))?;
                done = true;
            }
            Found::Moved(n) => {
                moved += n;
                done = true;
            }
            Found::Kept => waits = true,
        }
    }
    if let Some(target) = map.parked().first() {
        let (turned, big) = relieve(q, &map, target, now)?;
        (done, waits) = (done | turned, waits | big);
    }
    for part in &map.idle {
        match part.state {
            State::Drained => empty.push((part, part.since)),
            State::Dormant if rotate::pages(part) > 0 => match rotate::first_live(part, 0) {
                Some(None) => empty.push((part, part.since)),
                // Plain SQL or replication has written there.
                Some(Some(_)) => {
                    rotate::turn(q, part, State::Source)?;
                    done = true;
                }
                None => waits = true,
            },
            _ => {}
        }
    }
    // At the end: from here on others are kept out; and of one table only where there are standbys, because
    // they wait for each lock in turn.
    let is_one = pace.tables == 1 || empty.len() > 1 && rotate::has_standby()?;
    let tables = if is_one { 1 } else { pace.tables };
    let mut truncated = 0;
    for (part, since) in empty {
        match truncate(q, part, since, truncated < tables)? {
            Truncated::Yes => (done, truncated) = (true, truncated + 1),
            Truncated::Turned => done = true,
            Truncated::No => waits = true,
        }
    }
    let spares = match truncated {
        0 => spare::step(q, &map, now)?,
        _ => Step::Done,
    };
    forget_others(q, &map);
    Ok(match (done, waits) {
        (true, _) => Step::Done,
        (_, true) if spares != Step::Done => Step::Waits,
        _ => spares,
    })
}

/// How many messages a segment is to take, if somebody has said.
pub fn fixed_size(q: &Queue) -> Option<i32> {
    let own = q.options.segment_size;
    Some(own.unwrap_or(settings::SEGMENT_SIZE.get())).filter(|size| *size > 0)
}

/// The ids that the next segment is to have, if there is to be one.
fn wanted(q: &Queue, map: &Map, given: i64, now: Micros) -> Option<(i64, i64)> {
    let interval = Micros::from(settings::ROTATION_INTERVAL.get()) * 1000;
    let fixed = fixed_size(q).map(|size| space::whole(i64::from(size)));
    let (first, last) = match map.ranges() {
        [] if given <= fixed.unwrap_or(space::FIRST) => return None,
        [] => (given, None),
        [.., last] if given - BLOCK < last.first => return None,
        [.., before, last] => (last.past, Some((before, last.since))),
        [last] => (last.past, Some((last, last.since))),
    };
    let backlog = map
        .ranges()
        .first()
        .map_or(0, |oldest| given - oldest.first);
    let size = match fixed {
        Some(size) => space::fixed(size, backlog),
        None => {
            let last = last.map(|(part, since)| Last {
                ids: part.past - part.first,
                took: now - since,
                bytes: rotate::weight(part),
                backlog,
            });
            space::next(last, interval)
        }
    };
    Some((first, first.max(given) + size))
}

enum Found {
    /// No message, and none to come, since then.
    Empty(Micros),
    /// The same, and nobody will remember since when.
    Left,
    /// So many were moved away.
    Moved(usize),
    Kept,
}

/// A table that nothing is entered into any more.
fn treat(
    q: &Queue,
    map: &Map,
    part: &Part,
    (given, now): (i64, Micros),
    may_move: usize,
    pace: &Pace,
) -> Result<Found> {
    let low = loop {
        match settled(q, part) {
            Some(low) => break low,
            None if pace.wait() => {}
            None => return Ok(Found::Kept),
        }
    };
    let Some(found) = rotate::first_live(part, low) else {
        return Ok(Found::Kept);
    };
    let Some(first) = found else {
        if !pace.comes_back {
            return Ok(Found::Left);
        }
        // Who began before this is over by the next step, or has begun long ago.
        let before = remember(q, part, |seen| {
            let before = seen.empty_since;
            seen.empty_since.get_or_insert(now);
            before
        });
        return Ok(before.flatten().map_or(Found::Kept, Found::Empty));
    };
    remember(q, part, |seen| seen.low = first);
    let is_parked = match part.state {
        State::Source => true,
        _ => is_behind(map, part, given) && is_sparse(q, part, first, now),
    };
    if !is_parked || may_move == 0 {
        return Ok(Found::Kept);
    }
    let begun = touch::begin(q, first);
    let moved = rotate::park(q, map, part, first, may_move)?;
    note_locked(q, &moved);
    begun.told();
    Ok(match moved.is_empty() {
        true => Found::Kept,
        false => Found::Moved(moved.len()),
    })
}

/// What is known of a table; if nothing is, something is that begins with these holders.
fn seen<R>(
    q: &Queue,
    part: &Part,
    holders: impl FnOnce() -> Vec<Holder>,
    what: impl FnOnce(&mut Seen) -> R,
) -> R {
    SEEN.with(|s| {
        let mut all = s.borrow_mut();
        let new = || Seen::new(holders());
        what(all.entry(use_of(q, part)).or_insert_with(new))
    })
}

fn use_of(q: &Queue, part: &Part) -> UseOf {
    (u32::from(q.storage), part.k, part.since)
}

/// The lowest id that may have a message in a table, once nobody can enter one any more.
fn settled(q: &Queue, part: &Part) -> Option<i64> {
    let holders = || holders::of(part.table, Lock::Freeze);
    seen(q, part, holders, |seen| {
        seen.is_settled |= seen.have_all_ended();
        seen.is_settled.then_some(seen.low)
    })
}

fn remember<R>(q: &Queue, part: &Part, what: impl FnOnce(&mut Seen) -> R) -> Option<R> {
    SEEN.with(|s| s.borrow_mut().get_mut(&use_of(q, part)).map(what))
}

fn forget() {
    SEEN.with(|s| s.borrow_mut().clear());
}

fn forget_others(q: &Queue, map: &Map) {
    let storage = u32::from(q.storage);
    let is_present = |k: i32, since: Micros| map.all().any(|p| p.k == k && p.since == since);
    SEEN.with(|s| {
        s.borrow_mut()
            .retain(|&(of, k, since), _| of != storage || is_present(k, since));
    });
}

/// Whether the ids of the segment after this one are used up, too: what is short beside the life of a
/// segment has left by then. Ranges follow one another; one that is not there any more is used up.
fn is_behind(map: &Map, part: &Part, given: i64) -> bool {
    let next = map.ranges().iter().find(|p| p.first >= part.past);
    next.is_some_and(|next| next.first > part.past || next.past <= given - BLOCK)
}

/// Whether so few messages are left in a segment that it is worth moving them.
fn is_sparse(q: &Queue, part: &Part, first: i64, now: Micros) -> bool {
    let is_time = remember(q, part, |seen| seen.count_at <= now);
    if is_time != Some(true) {
        return false;
    }
    let most = (part.past - part.first) / 4;
    let is_sparse = rotate::has_few(part, first, most);
    if !is_sparse {
        remember(q, part, |seen| seen.may_count(now, COUNTED_EVERY));
    }
    is_sparse
}

/// Has what is parked go elsewhere, when the table for it is mostly dead. Gives whether that was
/// done, and whether it may come to that.
fn relieve(q: &Queue, map: &Map, target: &Part, now: Micros) -> Result<(bool, bool)> {
    let pages = rotate::pages(target);
    // A queue without segments has nothing but this one, and vacuum.
    if pages < WORTH || map.ranges().is_empty() {
        return Ok((false, false));
    }
    let other = map.all().find(|p| p.k <= PARENT && p.k != target.k);
    if other.is_some_and(|p| p.state != State::Dormant || rotate::pages(p) > 0) {
        return Ok((false, true));
    }
    let pause = COUNTED_EVERY * (1 + pages / 1000);
    if !seen(q, target, Vec::new, |seen| seen.may_count(now, pause))
        || !rotate::is_on_few_pages(target, pages / 4)
    {
        return Ok((false, true));
    }
    let done = match other {
        None => rotate::make_second(q)?,
        Some(other) if is_known(q, other) => {
            rotate::turn_over(q, target, other)?;
            true
        }
        Some(_) => false,
    };
    Ok((done, true))
}

enum Truncated {
    Yes,
    /// It is something else now.
    Turned,
    No,
}

/// Whether everybody who browses the queue knows of a table: a statement reads the tables that there
/// were when it was planned, with a snapshot that may be newer than what is moved meanwhile.
fn is_known(q: &Queue, part: &Part) -> bool {
    if !part.is_new() {
        return true;
    }
    // Every browser has the parent locked.
    let holders = || holders::of(q.storage, Lock::Exclusive);
    seen(q, part, holders, Seen::have_all_ended)
}

/// What a table becomes that all messages have left, until it is truncated.
fn left(part: &Part) -> State {
    match part.k <= PARENT {
        true => State::Dormant,
        false => State::Drained,
    }
}

/// Truncates a table without a message, since then, if it `may` be now; or, if somebody uses it, has
/// nobody look there any more, so that he is the last.
fn truncate(q: &Queue, part: &Part, empty_since: Micros, may: bool) -> Result<Truncated> {
    let (full, empty) = match part.k <= PARENT {
        true => (State::Source, State::Dormant),
        false => (State::Closed, State::Free),
    };
    let drained = left(part);
    let to = match rotate::keeper(part, empty_since, grace())? {
        None if !may => return Ok(Truncated::No),
        None => match rotate::truncate(q, part, low(q, part))? {
            End::Truncated => {
                rotate::turn(q, part, empty)?;
                return Ok(Truncated::Yes);
            }
            End::Used => drained,
            End::Live(id) => {
                report::warn(
                    &format!(
                        "message {id} of queue \"{}\" is in a table that was taken to be empty",
                        q.name
                    ),
                    "The table is read again. Only a superuser's own SQL can have put the message there.",
                );
                full
            }
        },
        Some(Kept::Held(_)) => drained,
        Some(_) => return Ok(Truncated::No),
    };
    // As it is, but looked at from the beginning.
    if to == part.state && to == drained {
        return Ok(Truncated::No);
    }
    rotate::turn(q, part, to)?;
    Ok(Truncated::Turned)
}

/// Below which id there is no message, as far as is known.
fn low(q: &Queue, part: &Part) -> i64 {
    remember(q, part, |seen| seen.low).unwrap_or(0)
}

/// How long the newest segments of a queue last, if one began within a minute.
pub fn lasts(q: &Queue, now: Micros) -> Option<Micros> {
    const MINUTE: Micros = 60_000_000;
    let map = q.map_now();
    let [.., b, c] = map.ranges() else {
        return None;
    };
    // Those that are chosen begin small, and grow.
    let is_known = fixed_size(q).is_some() && b.state == State::Open && now - c.since < MINUTE;
    // Each began when the one before it came into use.
    is_known.then_some((c.since - b.since).max(now - c.since))
}

/// What keeps one of a queue's tables that is used up from being truncated, for people.
pub fn kept_by(q: &Queue, k: i32) -> Option<String> {
    let map = q.map_now();
    let part = map.all().find(|p| p.k == k)?;
    // When it was found to be empty only its worker knows: not before this.
    match part.state {
        State::Closed | State::Source => {
            if let Some(Some(id)) = rotate::first_live(part, 0) {
                return Some(format!("message {id}"));
            }
        }
        State::Drained => {}
        State::Dormant if rotate::pages(part) > 0 => {}
        _ => return None,
    }
    Some(match rotate::keeper(part, part.since, grace()).ok()?? {
        Kept::Held(Some(pid)) => format!("process {pid}"),
        Kept::Held(None) => "a prepared transaction".into(),
        Kept::Young(pid) => format!("process {pid}, which may still look there"),
        Kept::Moved => "a move that older snapshots may not see".into(),
        Kept::Standby => "a standby, where somebody may still look there".into(),
    })
}

/// How long a table out of which messages were moved is kept for those who have an older snapshot.
pub fn grace() -> Micros {
    Micros::from(settings::MOVE_GRACE.get()) * 1000
}
