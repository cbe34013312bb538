//! The tally against a plain table of rows, over random histories (of a fixed seed each): sessions
//! commit, and tell of it later, in another order; somebody counts anew meanwhile; time passes.

use pg_broker_core::tally::{
    Cell, Counting, IN_PROGRESS, Kind, Moment, Part, Standing, Tally, Wait, changes,
};
use std::collections::BTreeMap;

/// xorshift64*, good enough to be unforeseen.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20;
        (drawn as i64).rem_euclid(end)
    }

    /// As often small as large.
    fn wide(&mut self, bits: i64) -> i64 {
        let bits = self.below(bits);
        self.below(1 << bits) + 1
    }
}

type Rows = BTreeMap<i64, Standing>;

const SECOND: i64 = 1_000_000;
const LIMIT: i32 = 5;

fn parts(id: i64, was: Option<&Standing>, now: Option<&Standing>) -> Vec<Part> {
    changes(id, was.copied(), now.copied()).collect()
}

struct Anew {
    generation: u32,
    rows: Rows,
}

struct World {
    dice: Dice,
    now: i64,
    rows: Rows,
    next_id: i64,
    next_xid: u64,
    open: Vec<u64>,
    /// Committed, and not told of.
    untold: Vec<(u64, Vec<Part>)>,
    counting: Counting,
    anew: Option<Anew>,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            dice: Dice::new(seed),
            now: 820_000_000 * SECOND,
            rows: Rows::new(),
            next_id: 1,
            // Where the lower half of a number is about to begin anew.
            next_xid: (7 << 32) - 20,
            open: Vec::new(),
            untold: Vec::new(),
            counting: Counting::default(),
            anew: None,
        }
    }

    fn standing(&mut self) -> Standing {
        let dice = &mut self.dice;
        let kind = [Kind::Leased, Kind::Delayed][dice.below(2) as usize];
        let wait = (dice.below(3) > 0).then(|| {
            let since = self.now - dice.wide(22);
            Wait {
                kind,
                due: since + dice.wide(46),
                since,
            }
        });
        Standing {
            wait,
            is_last: dice.below(4) == 0,
        }
    }

    /// One of the transactions in progress changes some rows and commits.
    fn commit(&mut self) {
        let n = self.dice.below(self.open.len() as i64) as usize;
        let xid = self.open.swap_remove(n);
        let mut told = Vec::new();
        for _ in 0..self.dice.below(6) {
            let known = self.rows.len() as i64;
            let at = if known > 0 { self.dice.below(known) } else { 0 };
            let id = match self.rows.keys().nth(at as usize) {
                Some(id) if self.dice.below(5) > 1 => *id,
                _ => self.next_id,
            };
            self.next_id = self.next_id.max(id + 1);
            let was = self.rows.remove(&id);
            let now = (was.is_none() || self.dice.below(3) > 0).then(|| self.standing());
            told.extend(parts(id, was.as_ref(), now.as_ref()));
            if let Some(now) = now {
                self.rows.insert(id, now);
            }
        }
        self.untold.push((xid, told));
    }

    fn tell(&mut self) {
        let n = self.dice.below(self.untold.len() as i64) as usize;
        let (xid, parts) = self.untold.swap_remove(n);
        let parts = parts.iter().map(|p| (LIMIT, p));
        self.counting.add(xid, parts, self.now);
    }

    fn begin(&mut self) {
        let in_progress: Vec<u32> = self.open.iter().map(|x| *x as u32).collect();
        let moment = Moment {
            next: self.next_xid,
            in_progress: &in_progress,
        };
        if let Some(generation) = self.counting.begin(&moment, LIMIT) {
            let rows = self.rows.clone();
            self.anew = Some(Anew { generation, rows });
        }
    }

    fn finish(&mut self) {
        let Some(anew) = self.anew.take() else { return };
        if self.dice.below(5) == 0 {
            self.counting.abandon(anew.generation);
            return;
        }
        let mut tally = Tally::default();
        for (id, row) in &anew.rows {
            for part in changes(*id, None, Some(*row)) {
                assert_eq!(tally.add(&part, self.now), Ok(()));
            }
        }
        let passed = self.dice.wide(22);
        self.now += passed;
        self.counting.finish(anew.generation, &tally, self.now);
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..5 if self.open.len() < 8 => {
                self.open.push(self.next_xid);
                self.next_xid += 1;
            }
            5..10 if !self.open.is_empty() => self.commit(),
            10..15 if !self.untold.is_empty() => self.tell(),
            15 if self.anew.is_none() => self.begin(),
            16 => self.finish(),
            17 if self.dice.below(40) == 0 => self.counting.forget(),
            18 => self.now += self.dice.wide(24),
            19 if self.dice.below(10) == 0 => self.now += self.dice.wide(44),
            _ => {}
        }
    }

    /// When all has been told, what is known is the truth. Gives whether anything was known.
    fn check(&mut self) -> bool {
        while !self.untold.is_empty() {
            self.tell();
        }
        let now = self.now;
        let Some(mut reading) = self.counting.read(LIMIT, now) else {
            return false;
        };
        while let Some(open) = reading.take_open() {
            let spans: Vec<_> = open.ids.spans().collect();
            let within = spans.iter().flat_map(|s| self.rows.range(s.lo..s.hi));
            let mut found = 0;
            for row in within.map(|(_, row)| row) {
                let Some(wait) = row.wait.filter(|w| Cell::of(w) == Some(open.cell)) else {
                    continue;
                };
                found += 1;
                if wait.due > now {
                    reading.waits(open.cell.kind, 1, i64::from(row.is_last));
                }
            }
            assert_eq!(found, open.n, "all rows of a bucket are in its span");
        }
        let waits = |row: &Standing, kind| row.wait.is_some_and(|w| w.kind == kind && w.due > now);
        let of = |kind| self.rows.values().filter(|r| waits(r, kind)).count() as i64;
        assert_eq!(reading.leased.n, of(Kind::Leased));
        assert_eq!(reading.delayed.n, of(Kind::Delayed));
        let is_ready = |r: &&Standing| r.wait.is_none_or(|w| w.due <= now) && !r.is_last;
        let ready = self.rows.values().filter(is_ready).count() as i64;
        assert_eq!(reading.ready(), ready);
        true
    }
}

#[test]
fn figures_are_those_of_the_rows() {
    let mut known = 0;
    for seed in 1..300 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            for _ in 0..40 {
                world.step();
            }
            known += u32::from(world.check());
        }
    }
    assert!(known > 4_000, "known {known} times of 17940");
}

/// The maker of a queue need not count it.
#[test]
fn a_new_queue_is_known() {
    for seed in 1..50 {
        let mut world = World::new(seed);
        world.counting.start(LIMIT);
        for _ in 0..300 {
            world.step();
            if world.dice.below(50) == 0 {
                world.check();
            }
        }
    }
    let mut world = World::new(1);
    world.counting.start(LIMIT);
    assert!(world.check());
}

#[test]
fn what_was_begun_counts_for_nothing_after_it_was_forgotten() -> Result<(), &'static str> {
    let mut counting = Counting::default();
    let moment = Moment {
        next: 10,
        in_progress: &[],
    };
    let first = counting.begin(&moment, LIMIT).ok_or("none")?;
    assert_eq!(counting.begin(&moment, LIMIT), None, "one at a time");
    counting.forget();
    let second = counting.begin(&moment, LIMIT).ok_or("none")?;
    assert!(!counting.finish(first, &Tally::default(), 0));
    counting.abandon(first);
    assert!(counting.finish(second, &Tally::default(), 0));
    assert!(counting.is_known());
    let crowd = [1; IN_PROGRESS + 1];
    let crowded = Moment {
        next: 10,
        in_progress: &crowd,
    };
    assert_eq!(counting.begin(&crowded, LIMIT), None);
    assert!(counting.is_known(), "what is known stays known");
    Ok(())
}

#[test]
fn another_limit_makes_it_unknown() {
    let mut counting = Counting::default();
    counting.start(LIMIT);
    assert!(counting.read(LIMIT, SECOND).is_some());
    assert!(counting.read(LIMIT + 1, SECOND).is_none());
    assert!(!counting.is_known());
    counting.start(LIMIT);
    let standing = Standing {
        wait: None,
        is_last: false,
    };
    let parts: Vec<Part> = changes(1, None, Some(standing)).collect();
    counting.add(1, parts.iter().map(|p| (LIMIT - 1, p)), SECOND);
    assert!(!counting.is_known());
}

#[test]
fn a_clock_set_back_makes_it_unknown() {
    let noon = 820_000_000 * SECOND;
    let wait = |since: i64| Standing {
        wait: Some(Wait {
            kind: Kind::Leased,
            due: since + 10 * SECOND,
            since,
        }),
        is_last: false,
    };
    let mut counting = Counting::default();
    counting.start(LIMIT);
    for (id, since) in [(1, noon), (2, noon - 16 * (1 << 20))] {
        let parts: Vec<Part> = changes(id, None, Some(wait(since))).collect();
        counting.add(1, parts.iter().map(|p| (LIMIT, p)), since);
    }
    assert!(!counting.is_known());
}

/// So a wait can always be placed, and never has to be looked at for long.
#[test]
fn a_wait_lasts_some_stretches_of_its_level() -> Result<(), &'static str> {
    let mut dice = Dice::new(1);
    for _ in 0..100_000 {
        let since = 800_000_000 * SECOND + dice.wide(40);
        let due = since + dice.wide(46);
        let wait = Wait {
            kind: Kind::Delayed,
            due,
            since,
        };
        let cell = Cell::of(&wait).ok_or("none")?;
        assert!(!cell.is_over(due - 1) && cell.rest(due) <= 1000);
        if cell.level == pg_broker_core::tally::FAR {
            assert!(due - since > 40 * 86_400 * SECOND);
            continue;
        }
        assert!(cell.is_open(due) && cell.is_over(due + (1 << (20 + 2 * cell.level))));
        if cell.level > 0 {
            assert!(due - since >= 3 << (20 + 2 * cell.level));
        }
    }
    Ok(())
}
