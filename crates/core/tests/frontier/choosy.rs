//! Readers who want only some of the rows, each with a position of his own, beside one who wants all,
//! over random histories: whoever begins is told of every row that he would take.

use crate::dice::Dice;
use pg_broker_core::frontier::{Batch, Lane, OwnTicket, Position, Span, Ticket};
use std::collections::BTreeMap;

/// So many kinds of rows.
const KINDS: i64 = 3;

#[derive(Clone, Copy)]
struct Row {
    kind: i64,
    /// Until when it waits; 0: it is ready.
    due: i64,
    version: u64,
}

#[derive(Default)]
struct Reader {
    /// None: he takes all.
    kind: Option<i64>,
    position: Position,
    look: Option<Look>,
}

struct Look {
    /// Of which lane.
    number: u32,
    ticket: Ticket,
    own: Option<OwnTicket>,
    /// What the snapshot shows, once it is taken.
    rows: Option<(i64, BTreeMap<i64, Row>)>,
}

struct World {
    rows: BTreeMap<i64, Row>,
    lane: Lane,
    number: u32,
    now: i64,
    changes: u64,
    dice: Dice,
}

impl World {
    /// A moment that no other row waits for.
    fn later(&mut self) -> i64 {
        let reach = [300, 300_000, 30_000_000][self.dice.below(3) as usize];
        self.changes += 1;
        (self.now + 1 + self.dice.below(reach)) * 1_000_000 + self.changes as i64
    }

    fn now(&self) -> i64 {
        self.now * 1_000_000
    }

    fn put(&mut self, id: i64, kind: i64, due: i64) {
        self.changes += 1;
        let version = self.changes;
        let was = self.rows.insert(id, Row { kind, due, version });
        if let Some(was) = was.filter(|w| w.due != 0) {
            self.lane.leave_due(id, was.due);
        }
        match due {
            0 => self.lane.report(id, id + 1),
            due => self.lane.enter_due(self.now(), id, due),
        }
    }

    fn some(&mut self, is_such: impl Fn(&Row) -> bool) -> Option<i64> {
        let such: Vec<i64> = self
            .rows
            .iter()
            .filter(|(_, r)| is_such(r))
            .map(|(id, _)| *id)
            .collect();
        let n = self.dice.below(such.len().max(1) as i64);
        such.get(n as usize).copied()
    }

    fn step(&mut self, next_id: &mut i64) {
        let kind = self.dice.below(KINDS);
        match self.dice.below(12) {
            0..=3 => {
                *next_id += 1 + self.dice.below(90);
                let due = if self.dice.below(4) == 0 {
                    self.later()
                } else {
                    0
                };
                self.put(*next_id, kind, due);
            }
            4 => {
                let now = self.now();
                if let Some(id) = self.some(|r| r.due <= now) {
                    let due = self.later();
                    self.put(id, kind, due);
                }
            }
            5 | 6 => {
                if let Some(id) = self.some(|r| r.due != 0) {
                    self.put(id, kind, 0);
                }
            }
            7 => {
                if let Some(id) = self.some(|r| r.due == 0) {
                    self.put(id, kind, 0);
                }
            }
            8 => {
                if let Some(id) = self.some(|_| true)
                    && let Some(gone) = self.rows.remove(&id)
                    && gone.due != 0
                {
                    self.lane.leave_due(id, gone.due);
                }
            }
            9 => self.now += self.dice.below(400),
            10 if self.dice.below(10) == 0 => self.now += self.dice.below(40_000_000),
            11 if self.dice.below(40) == 0 => {
                // Another lane for the queue, or the same after it was another's.
                match self.dice.below(2) {
                    0 => self.lane.reset(),
                    _ => {
                        self.number += 1;
                        self.lane = Lane::fresh();
                    }
                }
                for (id, row) in self.rows.clone() {
                    self.put(id, row.kind, row.due);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, reader: &mut Reader) -> Look {
        let now = self.now();
        let ticket = self.lane.begin(now);
        let own = reader
            .kind
            .map(|_| reader.position.begin(self.number, &self.lane, &ticket, now));
        Look {
            number: self.number,
            ticket,
            own,
            rows: None,
        }
    }

    /// What a look comes to: takes up to `most`, publishes what it has seen.
    fn finish(&mut self, reader: &mut Reader, look: Look) {
        let Some((began, rows)) = look.rows.filter(|_| look.number == self.number) else {
            return;
        };
        let now = self.now();
        let mut most = 1 + self.dice.below(4);
        let (mut seen, mut passed) = (Vec::new(), Vec::new());
        let (mut before, mut beyond) = (Vec::new(), Vec::new());
        for span in todo(&look.ticket, look.own.as_ref()) {
            let (mut unwanted, mut upto) = (i64::MAX, span.hi);
            for (&id, row) in rows.range(span.lo..span.hi) {
                if most == 0 {
                    upto = id;
                    break;
                }
                if row.due > began {
                    match id < unwanted {
                        true => before.push((id, row.due)),
                        false => beyond.push((id, row.due)),
                    }
                } else if reader.kind.is_some_and(|kind| kind != row.kind) {
                    unwanted = unwanted.min(id);
                } else if self.rows.get(&id).is_some_and(|r| r.version == row.version) {
                    most -= 1;
                    let due = self.later();
                    self.put(id, row.kind, due);
                }
            }
            seen.push(Span::new(span.lo, unwanted.min(upto)));
            passed.push(Span::new(span.lo, upto));
        }
        for span in seen {
            self.lane.publish(&look.ticket, span.lo, span.hi);
        }
        for (id, due) in before {
            self.lane.enter(now, &Batch::one(id, due));
        }
        let Some(own) = look.own else { return };
        for span in passed {
            reader.position.publish(&own, span.lo, span.hi);
        }
        for (id, due) in beyond {
            reader.position.enter(now, &Batch::one(id, due));
        }
    }

    fn check(&self, reader: &Reader, seed: u64) {
        let (mut lane, mut position) = (self.lane.clone(), reader.position.clone());
        let ticket = lane.begin(self.now());
        let own = reader
            .kind
            .map(|_| position.begin(self.number, &lane, &ticket, self.now()));
        let todo = todo(&ticket, own.as_ref());
        for (id, row) in &self.rows {
            let is_wanted = reader.kind.is_none_or(|kind| kind == row.kind);
            if is_wanted && row.due <= self.now() {
                let is_told = todo.iter().any(|span| span.holds(*id));
                assert!(
                    is_told,
                    "seed {seed}: {:?} is not told of {id}",
                    reader.kind
                );
            }
        }
    }
}

fn todo(ticket: &Ticket, own: Option<&OwnTicket>) -> Vec<Span> {
    match own {
        Some(own) => own.both(ticket).collect(),
        None => ticket.spans().filter(|s| !s.is_empty()).collect(),
    }
}

#[test]
fn are_told_of_all_that_they_want() {
    let mut spared = 0;
    for seed in 1..80 {
        let mut world = World {
            rows: BTreeMap::new(),
            lane: Lane::fresh(),
            number: 1,
            now: 0,
            changes: 0,
            dice: Dice::new(seed),
        };
        let kinds = [None, Some(0), Some(0), Some(1)];
        let mut readers = kinds.map(|kind| Reader {
            kind,
            ..Reader::default()
        });
        let mut next_id = 0;
        for _ in 0..500 {
            world.step(&mut next_id);
            let n = world.dice.below(8) as usize;
            if let Some(reader) = readers.get_mut(n) {
                match reader.look.take() {
                    None => reader.look = Some(world.begin(reader)),
                    Some(look) if look.rows.is_none() => {
                        let rows = Some((world.now(), world.rows.clone()));
                        reader.look = Some(Look { rows, ..look });
                    }
                    Some(look) => world.finish(reader, look),
                }
            }
            readers.iter().for_each(|r| world.check(r, seed));
        }
        // What is not wanted is not to be looked at again.
        for reader in &mut readers[1..] {
            for _ in 0..400 {
                let mut look = world.begin(reader);
                look.rows = Some((world.now(), world.rows.clone()));
                world.finish(reader, look);
            }
            let look = world.begin(reader);
            let left = todo(&look.ticket, look.own.as_ref());
            assert_eq!(left, [], "seed {seed}");
            spared += world.rows.values().filter(|r| r.due <= world.now()).count();
        }
    }
    assert!(spared > 10_000, "{spared}");
}
