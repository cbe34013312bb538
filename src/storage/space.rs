//! The tables of a queue as one: rows are walked and looked up by id wherever they lie, in segments
//! and in parked tables, and written where they were found.
//!
//! A snapshot must be active as long as a space lives, and everything is seen in that one: a row
//! that is on the move is in exactly one place.

use super::row::{self, Facts, Place};
use crate::catalog::Queue;
use crate::catalog::map::{Map, PARENT, Part, State};
use crate::pg::holders;
use crate::pg::rel;
use crate::pg::table::{Lost, Table};
use crate::pg::time::{self, Micros};
use crate::pg::value::Value;
use crate::pg::walk::Walk;
use std::rc::Rc;

/// A table in use, with what walks along it, which ends first.
struct Opened {
    k: i32,
    by_id: Option<Walk>,
    by_rank: Option<Walk>,
    by_group: Option<Walk>,
    part: Part,
    table: Table,
}

impl Opened {
    fn new(part: Part, is_for_writing: bool) -> Self {
        Opened {
            k: part.k,
            by_id: None,
            by_rank: None,
            by_group: None,
            part,
            table: match is_for_writing {
                true => row::table(&part),
                false => Table::open_to_read(part.table),
            },
        }
    }

    fn walk(&mut self, order: Order) -> &mut Walk {
        let (table, part) = (&self.table, &self.part);
        match order {
            Order::Ids => self
                .by_id
                .get_or_insert_with(|| Walk::by_id(table, part.index)),
            Order::Rank(_) => self
                .by_rank
                .get_or_insert_with(|| Walk::by_rank(table, part.ranks_index)),
            Order::Group(_) => self
                .by_group
                .get_or_insert_with(|| Walk::by_group(table, part.groups_index)),
        }
    }

    fn seek(&mut self, order: Order, first: i64, last: i64) {
        match order {
            Order::Ids => self.walk(order).seek_ids(first, last),
            Order::Rank(rank) => self.walk(order).seek_in_rank(rank, first, last),
            Order::Group(group) => self.walk(order).seek_in_group(group, first, last),
        }
    }
}

/// Along which index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ids,
    Rank(i16),
    Group(i64),
}

impl Order {
    fn of(rank: i16) -> Self {
        match rank {
            row::DEFAULT_RANK => Order::Ids,
            _ => Order::Rank(rank),
        }
    }
}

/// Tables gone through one after the other, those of `[next, end)` of the map still to come.
struct Stream {
    next: usize,
    end: usize,
    /// The one in use.
    at: Option<usize>,
    /// The row that its walk has come to.
    head: Option<Facts>,
}

pub struct Space<'a> {
    q: &'a Queue,
    is_for_writing: bool,
    // Before the map that they are in.
    opened: Vec<Opened>,
    map: Rc<Map>,
    /// Tables without a page.
    empty: Vec<i32>,
    order: Order,
    first: i64,
    last: i64,
    streams: Vec<Stream>,
    is_begun: bool,
    /// The table of the row found last.
    at: usize,
    /// A table was no longer what it had been.
    has_changed: bool,
}

impl<'a> Space<'a> {
    pub fn to_write(q: &'a Queue) -> Self {
        Self::new(q, true)
    }

    /// For use on a standby, too.
    pub fn to_read(q: &'a Queue) -> Self {
        Self::new(q, false)
    }

    fn new(q: &'a Queue, is_for_writing: bool) -> Self {
        let (before, map) = (q.known_map(), q.map_now());
        // Between the snapshot and this, rows may have moved to where they are not seen.
        let has_changed = before.is_some_and(|b| !b.is_same(&map));
        Space {
            q,
            is_for_writing,
            opened: Vec::with_capacity(1),
            map,
            empty: Vec::new(),
            order: Order::Ids,
            first: 0,
            last: 0,
            streams: Vec::with_capacity(2),
            is_begun: false,
            at: 0,
            has_changed,
        }
    }

    /// Opens a table, unless it has no page; or is no longer what the map says: then its rows have
    /// left.
    fn open(&mut self, part: Part) -> Option<usize> {
        if let Some(at) = self.opened.iter().position(|o| o.k == part.k) {
            return Some(at);
        }
        if self.empty.contains(&part.k) {
            return None;
        }
        if self.is_bare(&part) {
            self.empty.push(part.k);
            return None;
        }
        let mut opened = Opened::new(part, self.is_for_writing);
        // Now that it is locked it stays what it is.
        let map = self.q.map();
        if !Rc::ptr_eq(&map, &self.map) {
            let is_it = |p: &&Part| (p.k, p.first, p.past) == (part.k, part.first, part.past);
            match map.all().find(is_it) {
                // Its state may be another: who moves rows out of it did not wait for us.
                Some(now) if now.is_same(&part) => opened.part = *now,
                Some(now) => opened = Opened::new(*now, self.is_for_writing),
                None => {
                    self.has_changed = true;
                    opened.table.let_go();
                    return None;
                }
            }
        }
        // The first segment is most often the only one, and has rows.
        let may_be_empty = part.k <= PARENT || !self.opened.is_empty();
        if may_be_empty && opened.table.is_empty() {
            self.empty.push(part.k);
            opened.table.let_go();
            return None;
        }
        self.opened.push(opened);
        Some(self.opened.len() - 1)
    }

    /// Whether a parked table, which most often is empty, is so. Nobody locks it to find out, nor need
    /// it be locked: rows that come later are not in the snapshot, and those that left it before are
    /// where a newer map says.
    fn is_bare(&self, part: &Part) -> bool {
        part.k <= PARENT
            && self.is_for_writing
            && rel::is_bare(part.table)
            && Rc::ptr_eq(&self.q.map_now(), &self.map)
    }

    /// To the ids of a rank from one to before another, in its order. Along the index of the default
    /// rank, rows of all ranks are met.
    pub fn seek(&mut self, rank: i16, from: i64, to: i64) {
        let last = if to == i64::MAX { to } else { to - 1 };
        self.seek_all_along(Order::of(rank), from, last);
    }

    /// To the ids of a group from one to another, of all ranks.
    pub fn seek_group(&mut self, group: i64, first: i64, last: i64) {
        self.seek_all_along(Order::Group(group), first, last);
    }

    fn seek_all_along(&mut self, order: Order, first: i64, last: i64) {
        self.seek_along(order, first, last);
        let parked = self.map.segments..self.map.live.len();
        self.streams.extend(parked.map(|i| Stream {
            next: i,
            end: i + 1,
            at: None,
            head: None,
        }));
    }

    /// To all rows, by id.
    pub fn seek_all(&mut self) {
        self.seek(row::DEFAULT_RANK, 0, i64::MAX);
    }

    /// To those in segments.
    fn seek_along(&mut self, order: Order, first: i64, last: i64) {
        (self.order, self.first, self.last) = (order, first, last);
        self.is_begun = false;
        self.streams.clear();
        let ranges = self.map.ranges();
        let next = ranges.partition_point(|p| p.past <= first);
        let end = ranges.partition_point(|p| p.first <= last);
        if next < end {
            self.streams.push(Stream {
                next,
                end,
                at: None,
                head: None,
            });
        }
    }

    /// Moves a stream on to its next row.
    fn advance(&mut self, n: usize) {
        loop {
            let Some(stream) = self.streams.get(n) else {
                return;
            };
            if let Some(at) = stream.at
                && let Some(opened) = self.opened.get_mut(at)
            {
                let k = opened.k;
                let walk = opened.walk(self.order);
                let head = walk.next().then(|| Facts::of(k, walk));
                let is_over = head.is_none();
                if let Some(stream) = self.streams.get_mut(n) {
                    stream.head = head;
                    if !is_over {
                        return;
                    }
                    stream.at = None;
                }
            }
            let Some(stream) = self.streams.get_mut(n).filter(|s| s.next < s.end) else {
                return;
            };
            let next = stream.next;
            stream.next += 1;
            let Some(part) = self.map.live.get(next).copied() else {
                return;
            };
            if let Some(at) = self.open(part) {
                // A parked table has no bounds.
                let (first, last) = match part.state {
                    State::Open | State::Closed => (
                        self.first.max(part.first),
                        self.last.min(part.past.saturating_sub(1)),
                    ),
                    _ => (self.first, self.last),
                };
                if let Some(opened) = self.opened.get_mut(at) {
                    opened.seek(self.order, first, last);
                }
                if let Some(stream) = self.streams.get_mut(n) {
                    stream.at = Some(at);
                }
            }
        }
    }

    /// The next row, in the order of ids.
    pub fn next(&mut self) -> Option<Facts> {
        if self.is_begun {
            let last = self.streams.iter().position(|s| s.at == Some(self.at));
            if let Some(n) = last {
                self.advance(n);
            }
        } else {
            self.is_begun = true;
            (0..self.streams.len()).for_each(|n| self.advance(n));
        }
        let first = self
            .streams
            .iter()
            .filter_map(|s| s.head.zip(s.at))
            .min_by_key(|(facts, _)| facts.place.id);
        let (facts, at) = first?;
        self.at = at;
        Some(facts)
    }

    /// Ids from one to another will be asked for, in rising order.
    pub fn begin(&mut self, first: i64, last: i64) {
        self.seek_along(Order::Ids, first, last);
        if self.streams.is_empty() && self.map.live.len() > self.map.segments {
            self.streams.push(Stream {
                next: self.map.segments,
                end: self.map.segments + 1,
                at: None,
                head: None,
            });
        }
    }

    /// The row of the next id of those, if the snapshot has it.
    pub fn find_next(&mut self, id: i64) -> Option<Facts> {
        while self
            .streams
            .first()
            .is_some_and(|s| !self.is_begun || s.head.is_some_and(|f| f.place.id < id))
        {
            self.is_begun = true;
            self.advance(0);
        }
        if let Some(stream) = self.streams.first()
            && let Some((facts, at)) = stream.head.zip(stream.at)
            && facts.place.id == id
        {
            self.at = at;
            return Some(facts);
        }
        (self.map.segments..self.map.live.len()).find_map(|i| self.find_in(i, id))
    }

    /// The row of that id in a parked table.
    fn find_in(&mut self, i: usize, id: i64) -> Option<Facts> {
        let walked = self.streams.first().and_then(|s| s.at);
        let part = *self.map.live.get(i)?;
        let at = self.open(part).filter(|at| Some(*at) != walked)?;
        let opened = self.opened.get_mut(at)?;
        opened.seek(Order::Ids, id, id);
        let k = opened.k;
        let walk = opened.walk(Order::Ids);
        let facts = walk.next().then(|| Facts::of(k, walk))?;
        self.at = at;
        Some(facts)
    }

    /// The row of that id, if the snapshot has it.
    pub fn find(&mut self, id: i64) -> Option<Facts> {
        self.begin(id, id);
        self.find_next(id)
    }

    fn found(&self) -> Option<&Walk> {
        let opened = self.opened.get(self.at)?;
        match self.order {
            Order::Ids => opened.by_id.as_ref(),
            Order::Rank(_) => opened.by_rank.as_ref(),
            Order::Group(_) => opened.by_group.as_ref(),
        }
    }

    /// A column of the row found last, valid until the next is looked for.
    pub fn value(&self, column: usize) -> Value {
        self.found().map_or(Value::NULL, |walk| walk.get(column))
    }

    /// The row found last, changed.
    pub fn edited(&self, edit: impl FnOnce(&mut [Value; row::WIDTH])) -> [Value; row::WIDTH] {
        let walk = self.found();
        let value = |column| walk.map_or(Value::NULL, |w| w.get(column));
        let mut new = std::array::from_fn(value);
        edit(&mut new);
        new
    }

    /// A copy of the row found last.
    pub fn keep(&self) -> Vec<Value> {
        self.found().map(Walk::keep).unwrap_or_default()
    }

    fn opened(&mut self, k: i32) -> Option<&mut Opened> {
        let at = match self.opened.iter().position(|o| o.k == k) {
            Some(at) => at,
            None => {
                let part = *self.map.all().find(|p| p.k == k)?;
                self.open(part)?
            }
        };
        self.opened.get_mut(at)
    }

    /// Does something to the row at a place. Where it is on the move, that is waited for; and where who
    /// was at it has ended meanwhile, it is seen what became of it.
    fn attempt(&mut self, place: &Place, act: impl Fn(&mut Table) -> bool) -> bool {
        let Some(opened) = self.opened(place.k) else {
            return false;
        };
        if act(&mut opened.table) {
            return true;
        }
        match opened.table.lost() {
            // Nobody moves what lies where it belongs.
            Lost::Busy(xid) if opened.part.state != State::Open => {
                let is_over = rel::internal("segment")
                    .is_some_and(|map| holders::await_moves(map, xid))
                    || !holders::is_running(xid);
                is_over && act(&mut opened.table)
            }
            _ => false,
        }
    }

    /// Replaces the row at a place; false when it is somebody else's.
    pub fn update(&mut self, place: &Place, new: &[Value]) -> bool {
        self.attempt(place, |t| t.update(place.tid, new))
    }

    pub fn delete(&mut self, place: &Place) -> bool {
        self.attempt(place, |t| t.delete(place.tid))
    }

    /// Locks the row at a place; false when it is somebody else's.
    pub fn lock(&mut self, place: &Place) -> bool {
        self.attempt(place, |t| t.lock(place.tid))
    }

    /// The same, and waits for whoever is at it; false when it was changed.
    pub fn lock_waiting(&mut self, place: &Place) -> bool {
        self.opened(place.k)
            .is_some_and(|o| o.table.lock_waiting(place.tid))
    }

    /// Whether the row at a place, which was not to be had, was moved: then it is found elsewhere, in a
    /// new snapshot.
    pub fn is_moved(&self, place: &Place) -> bool {
        match self.opened.iter().find(|o| o.k == place.k) {
            Some(opened) => opened.table.lost() == Lost::Moved,
            None => self.has_changed,
        }
    }

    /// Whether a table had another use than the map said: what was not found may be elsewhere, in a
    /// new snapshot.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Rows that expire no later than `now`, as long as `each` wants more.
    pub fn expiring(&mut self, now: Micros, mut each: impl FnMut(&Facts) -> bool) {
        let mut wants_more = true;
        self.by_expiry(now, |facts| {
            wants_more = wants_more && each(facts);
            wants_more
        });
    }

    /// The first row to expire of each table.
    pub fn first_expiring(&mut self, mut each: impl FnMut(&Facts)) {
        self.by_expiry(time::INFINITY, |facts| {
            each(facts);
            false
        });
    }

    /// Walks each table by when its rows expire, as long as `each` wants more of it.
    fn by_expiry(&mut self, upto: Micros, mut each: impl FnMut(&Facts) -> bool) {
        for i in 0..self.map.live.len() {
            let part = self.map.live.get(i).copied();
            let Some(at) = part.and_then(|part| self.open(part)) else {
                continue;
            };
            if let Some(opened) = self.opened.get(at) {
                let mut walk = Walk::by_time(&opened.table, opened.part.expiry_index);
                walk.seek_upto(upto);
                while walk.next() && each(&Facts::of(opened.k, &walk)) {}
            }
        }
    }
}
