//! What is known of tenants that take turns: whose turn it is, as sequences; and that no message is
//! lost, in a small world of senders and readers whose steps come in any order.

use pg_broker_core::fair::{OTHERS, PLACES, Passed, Place, Round};
use pg_broker_core::frontier::{Lane, Span, Ticket};

fn round() -> Box<Round> {
    Box::default()
}

fn pass(r: &mut Round, tenant: i64, id: i64) -> Passed {
    r.pass(tenant, 0, Span::one(id))
}

fn pick(r: &mut Round, most: usize) -> Vec<Place> {
    let mut picked = Vec::new();
    r.pick(most, |_| false, |p| picked.push(*p));
    picked
}

fn tenants(places: &[Place]) -> Vec<i64> {
    places.iter().map(|p| p.tenant).collect()
}

#[test]
fn each_in_turn() {
    let mut r = round();
    for (tenant, id) in [(7, 1), (7, 2), (8, 3), (9, 4), (7, 5)] {
        assert_eq!(pass(&mut r, tenant, id), Passed::To);
    }
    assert_eq!(tenants(&pick(&mut r, 1)), [7]);
    assert_eq!(tenants(&pick(&mut r, 1)), [8]);
    assert_eq!(pass(&mut r, 6, 6), Passed::To);
    assert_eq!(tenants(&pick(&mut r, 3)), [9, 7, 8]);
    assert_eq!(tenants(&pick(&mut r, 9)), [6, 9, 7, 8]);
    assert!(pick(&mut r, 0).is_empty());
}

/// Who has had what there was of a tenant goes on to the next; the tenant's turn does not pass by.
#[test]
fn those_that_a_reader_knows_are_left_out() {
    let mut r = round();
    for (tenant, id) in [(7, 1), (8, 2), (9, 3)] {
        pass(&mut r, tenant, id);
    }
    let mut picked = Vec::new();
    r.pick(1, |p| p.tenant == 7, |p| picked.push(p.tenant));
    assert_eq!(picked, [8]);
    r.pick(5, |p| p.tenant == 9, |p| picked.push(p.tenant));
    assert_eq!(picked, [8, 7, 8], "9 was before them");
    assert_eq!(tenants(&pick(&mut r, 9)).len(), 3);
}

#[test]
fn ranks_of_a_tenant_are_one_turn() {
    let mut r = round();
    for (tenant, rank, id) in [(7, 5, 1), (8, 5, 2), (7, 2, 3), (7, 9, 4)] {
        r.pass(tenant, rank, Span::one(id));
    }
    let ranks = |places: Vec<Place>| -> Vec<(i64, u32)> {
        places.iter().map(|p| (p.tenant, p.rank)).collect()
    };
    assert_eq!(ranks(pick(&mut r, 1)), [(7, 2), (7, 5), (7, 9)]);
    assert_eq!(ranks(pick(&mut r, 1)), [(8, 5)]);
    assert_eq!(ranks(pick(&mut r, 2)), [(7, 2), (7, 5), (7, 9), (8, 5)]);
}

#[test]
fn bounds() {
    let mut r = round();
    pass(&mut r, 7, 10);
    r.pass(7, 0, Span::new(5, 21));
    assert!(r.covers(7, 0, 5) && r.covers(7, 0, 20));
    assert!(!r.covers(7, 0, 21) && !r.covers(8, 0, 10) && !r.covers(7, 1, 10));
    let picked = pick(&mut r, 1)[0];
    r.served(&picked, 11);
    assert_eq!(r.places()[0].ids, Span::new(11, 21));
    // Something came back meanwhile: what was found before that says nothing.
    pass(&mut r, 7, 6);
    r.served(&picked, i64::MAX);
    assert!(r.covers(7, 0, 6) && r.covers(7, 0, 20));
    let picked = pick(&mut r, 1)[0];
    r.served(&picked, 21);
    assert!(r.places().is_empty());
    // Nor what was found in a place that was given up, and is there anew.
    pass(&mut r, 7, 6);
    r.served(&picked, i64::MAX);
    assert!(r.covers(7, 0, 6));
}

#[test]
fn others_have_a_turn_when_the_round_is_full() {
    let mut r = round();
    for tenant in 0..PLACES as i64 {
        assert_eq!(pass(&mut r, tenant, tenant), Passed::To);
    }
    let no_place = |is_due| Passed::NoPlace { is_due };
    assert_eq!(pass(&mut r, -1, 9000), no_place(true));
    for _ in 0..3 {
        for _ in 1..OTHERS {
            assert_eq!(pass(&mut r, -1, 9000), no_place(false));
            pick(&mut r, 1);
        }
        assert_eq!(pass(&mut r, -1, 9000), no_place(true));
    }
    assert_eq!(pass(&mut r, 3, 9001), Passed::To, "who has a place");
    let picked = pick(&mut r, 1)[0];
    r.served(&picked, i64::MAX);
    assert_eq!(pass(&mut r, -1, 9000), Passed::To);
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// Sent by somebody who has not committed.
    Coming,
    Ready,
    /// In the hands of a reader who has not committed.
    Held(usize),
    Gone,
}

/// What a snapshot shows: what is held is still there for others.
fn is_seen(row: Row) -> bool {
    matches!(row, Row::Ready | Row::Held(_))
}

/// Where a reader is.
enum At {
    Out,
    Begun(Ticket),
    /// Walks along the ids; so far seen, and passed and not yet told.
    Walks(Ticket, Vec<Row>, usize),
    /// What he walked over is published; he has picked.
    Picked(Vec<Place>),
    Looks(Vec<Place>, Vec<Row>),
    /// Holds rows, and is about to commit or to roll back.
    Holds,
    /// It is visible that he let go of these; he has not reported them.
    Ends(Vec<i64>),
}

struct World {
    rows: Vec<Row>,
    lane: Box<Lane>,
    round: Box<Round>,
    readers: Vec<At>,
    dice: Dice,
    /// Sent and visible, not yet reported.
    sent: Vec<i64>,
}

const TENANTS: usize = 3;

fn tenant_of(id: usize) -> i64 {
    (id * 7 % 5 % TENANTS) as i64
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            rows: vec![Row::Gone],
            lane: Box::new(Lane::fresh()),
            round: round(),
            readers: (0..3).map(|_| At::Out).collect(),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            sent: Vec::new(),
        }
    }

    fn sends(&mut self) {
        match self.dice.below(4) {
            0 if self.rows.len() < 40 => self.rows.push(Row::Coming),
            1 | 2 => {
                let coming: Vec<usize> = (0..self.rows.len())
                    .filter(|i| self.rows[*i] == Row::Coming)
                    .collect();
                if !coming.is_empty() {
                    let id = coming[self.dice.below(coming.len())];
                    self.rows[id] = Row::Ready;
                    self.sent.push(id as i64);
                }
            }
            _ => {
                if !self.sent.is_empty() {
                    let n = self.dice.below(self.sent.len());
                    let id = self.sent.swap_remove(n);
                    self.lane.report(id, id + 1);
                }
            }
        }
    }

    fn ready(rows: &[Row], span: Span) -> impl Iterator<Item = usize> + '_ {
        (0..rows.len()).filter(move |i| span.holds(*i as i64) && is_seen(rows[*i]))
    }

    /// One step of a reader.
    fn reads(&mut self, n: usize) {
        let at = std::mem::replace(&mut self.readers[n], At::Out);
        self.readers[n] = match at {
            At::Out => At::Begun(self.lane.begin(0)),
            At::Begun(ticket) => At::Walks(ticket, self.rows.clone(), 0),
            At::Walks(ticket, seen, from) if from < seen.len() => {
                let ids = Span::one(from as i64);
                let is_his = ticket.spans().any(|s| s.holds(from as i64));
                if is_his && is_seen(seen[from]) {
                    self.round.pass(tenant_of(from), 0, ids);
                }
                At::Walks(ticket, seen, from + 1)
            }
            At::Walks(ticket, ..) => {
                for span in ticket.spans() {
                    self.lane.publish(&ticket, span.lo, span.hi);
                }
                let mut picked = Vec::new();
                let most = 1 + self.dice.below(2);
                self.round.pick(most, |_| false, |p| picked.push(*p));
                At::Picked(picked)
            }
            At::Picked(picked) => At::Looks(picked, self.rows.clone()),
            At::Looks(picked, seen) => {
                let mut holds = false;
                for place in picked {
                    let mut upto = i64::MAX;
                    for id in Self::ready(&seen, place.ids) {
                        if tenant_of(id) != place.tenant {
                            continue;
                        }
                        if self.rows[id] == Row::Ready {
                            self.rows[id] = Row::Held(n);
                            holds = true;
                            upto = id as i64 + 1;
                            break;
                        }
                    }
                    self.round.served(&place, upto);
                }
                if holds { At::Holds } else { At::Out }
            }
            At::Holds => {
                let commits = self.dice.below(3) > 0;
                let mut back = Vec::new();
                for (id, row) in self.rows.iter_mut().enumerate() {
                    if *row == Row::Held(n) {
                        *row = if commits { Row::Gone } else { Row::Ready };
                        back.push(id as i64);
                    }
                }
                At::Ends(if commits { Vec::new() } else { back })
            }
            At::Ends(back) => {
                for id in back {
                    self.lane.report(id, id + 1);
                }
                At::Out
            }
        };
    }

    fn finish(&mut self) {
        for n in 0..self.readers.len() {
            while !matches!(self.readers[n], At::Out) {
                self.reads(n);
            }
        }
        for id in std::mem::take(&mut self.sent) {
            self.lane.report(id, id + 1);
        }
    }
}

#[test]
fn nothing_is_lost() {
    for seed in 1..3000 {
        let mut w = World::new(seed);
        for _ in 0..600 {
            match w.dice.below(5) {
                0 | 1 => w.sends(),
                n => w.reads(n - 2),
            }
        }
        w.finish();
        // What is there is where somebody looks, or within the bounds of its place.
        for (id, row) in w.rows.iter().enumerate() {
            let is_known =
                w.lane.covers(id as i64, 0) || w.round.covers(tenant_of(id), 0, id as i64);
            assert!(*row != Row::Ready || is_known, "seed {seed}: {id} is lost");
        }
    }
}
