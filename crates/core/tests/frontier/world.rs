//! A small world around one lane: rows with versions, transactions that end before their
//! callbacks run, readers with snapshots, a clock. `steps` lists every state that can come
//! next; `lost` names a row that breaks the invariant.
//!
//! The lane is the real code with tiny sizes, so that overruns and joins happen at once.

use pg_broker_core::frontier::{LaneOf, TicketOf, Touched};

/// Ids 1 to ROWS; row i is at i - 1.
pub const ROWS: usize = 3;
pub const END: i64 = 4;

/// A moment of the clock has that many finer ones, so that no row gets one due time twice:
/// each cast member sets its own. (In the database that is a matter of microseconds.)
const MOMENT: u8 = 8;

/// Two moments a bucket, three buckets, and one for all beyond.
pub type SmallLane = LaneOf<2, 0, 2, 2, 1, 3, 16>;
pub type SmallTicket = TicketOf<2, 0>;

/// A committed row, as a snapshot sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    Absent,
    Ready,
    Due(u8),
    Gone,
}

impl Row {
    fn due(self) -> Option<i64> {
        match self {
            Row::Ready => Some(i64::MIN),
            Row::Due(at) => Some(i64::from(at)),
            Row::Absent | Row::Gone => None,
        }
    }

    /// The due time that somebody entered for it.
    fn entered(self) -> Option<i64> {
        match self {
            Row::Due(at) => Some(i64::from(at)),
            _ => None,
        }
    }
}

/// What a cast member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes the row of this number when it begins, so that rows may commit out of order.
    Send(u8),
    SendFor(u8, u8),
    /// Claims at most so many, for a lease that ends after so long.
    Read(u8, u8),
    /// Claims at most so many, and settles them before it commits.
    Pop(u8),
    /// Removes a row, whichever is free.
    Ack,
    Nack,
    NackFor(u8),
    /// Locks a row and leaves it as it is.
    Lock,
    /// Several short transactions that send nothing new but report, to overrun the rings.
    Noise(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Waiting,
    /// A reader before its snapshot, and (when broken) one with it but without its ticket.
    Ticket(SmallTicket),
    Early([Row; ROWS]),
    Scan(Scan),
    /// Holds rows until it ends.
    Open,
    /// Ended, and others can see it; its callback has not run.
    Committed,
    Aborted,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    ticket: SmallTicket,
    seen: [Row; ROWS],
    versions: [u8; ROWS],
    at: i64,
    taken: u8,
    notes: [Option<u8>; ROWS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub role: Role,
    pub stage: Stage,
    /// For each row that it holds: what it was and what it becomes.
    held: [Option<(Row, Row)>; ROWS],
}

/// A way to break the protocol, to see that the checker would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    IgnoresReports,
    ForgetsOverrun,
    SnapshotFirst,
    SilentAbort,
    DueAtGrant,
    DropsNotes,
    QuietActivation,
    SilentCommit,
    LeavesUnentered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub lane: SmallLane,
    pub rows: [Row; ROWS],
    versions: [u8; ROWS],
    pub cast: Vec<Actor>,
    pub clock: u8,
}

const fn place(id: i64) -> usize {
    (id - 1) as usize
}

const fn id_at(place: usize) -> i64 {
    place as i64 + 1
}

impl World {
    /// Rows that are due at a moment of the clock; the lane is fresh, or has looked at all rows
    /// to the end and knows their due times.
    pub fn new(rows: [Row; ROWS], knows: bool, roles: &[Role]) -> Self {
        let rows = rows.map(|row| match row {
            Row::Due(at) => Row::Due(at * MOMENT),
            other => other,
        });
        let mut lane = SmallLane::fresh();
        if knows {
            let ticket = lane.begin(0);
            lane.publish(&ticket, 0, END);
            for (row, id) in rows.iter().zip(1..) {
                match row.entered() {
                    Some(due) => lane.enter_due(0, id, due),
                    None if *row == Row::Ready => lane.report(id, id + 1),
                    None => (),
                }
            }
        }
        let cast = roles.iter().map(|role| Actor {
            role: *role,
            stage: Stage::Waiting,
            held: [None; ROWS],
        });
        Self {
            lane,
            rows,
            versions: [0; ROWS],
            cast: cast.collect(),
            clock: 0,
        }
    }

    /// The end of the present moment: all that is due in it is due.
    fn instant(&self) -> u8 {
        self.clock * MOMENT + MOMENT - 1
    }

    fn now(&self) -> i64 {
        i64::from(self.instant())
    }

    /// What this member sets as due time for so many moments from now.
    fn due_in(&self, who: usize, wait: u8) -> Row {
        Row::Due((self.clock + wait) * MOMENT + who as u8 + 1)
    }

    fn is_held(&self, row: usize) -> bool {
        self.cast
            .iter()
            .any(|a| !matches!(a.stage, Stage::Committed | Stage::Aborted) && a.held[row].is_some())
    }

    /// A row that nobody would look at in time.
    pub fn lost(&self) -> Option<i64> {
        (0..ROWS).find_map(|row| {
            let due = self.rows[row].due()?;
            let bound = self.cast.iter().any(|a| a.held[row].is_some());
            let id = id_at(row);
            (!bound && !self.lane.covers(id, due)).then_some(id)
        })
    }

    /// Whether everybody is through.
    pub fn is_over(&self) -> bool {
        self.cast.iter().all(|a| a.stage == Stage::Over)
    }

    /// With nobody else around and all times past: the rows that a reader misses.
    pub fn missed(&self) -> Option<i64> {
        let mut lane = self.lane.clone();
        let ticket = lane.begin(1000);
        (0..ROWS).find_map(|row| {
            let alive = self.rows[row].due().is_some();
            let looked = ticket.spans().any(|s| s.holds(id_at(row)));
            (alive && !looked).then_some(id_at(row))
        })
    }

    pub fn steps(&self, fault: Fault, last: u8) -> Vec<World> {
        let mut next = Vec::new();
        for who in 0..self.cast.len() {
            self.step(who, fault, &mut next);
        }
        if self.clock < last {
            let mut later = self.clone();
            later.clock += 1;
            next.push(later);
        }
        next
    }

    fn with(&self, who: usize, what: impl FnOnce(&mut World, &mut Actor)) -> World {
        let mut world = self.clone();
        let mut actor = world.cast[who].clone();
        what(&mut world, &mut actor);
        world.cast[who] = actor;
        world
    }

    fn step(&self, who: usize, fault: Fault, next: &mut Vec<World>) {
        let actor = &self.cast[who];
        match &actor.stage {
            Stage::Waiting => self.begin(who, fault, next),
            Stage::Ticket(ticket) => {
                let scan = self.scan(*ticket, self.rows);
                next.push(self.with(who, |_, a| a.stage = Stage::Scan(scan)));
            }
            Stage::Early(seen) => {
                next.push(self.with(who, |w, a| {
                    let ticket = w.begin_read(who, fault);
                    let scan = w.scan(ticket, *seen);
                    a.stage = Stage::Scan(scan);
                }));
            }
            Stage::Scan(scan) => self.scanning(who, scan, fault, next),
            Stage::Open => {
                next.push(self.with(who, World::commit));
                next.push(self.with(who, |_, a| a.stage = Stage::Aborted));
            }
            Stage::Committed => next.push(self.with(who, |w, a| w.committed(a, fault))),
            Stage::Aborted => next.push(self.with(who, |w, a| {
                if fault != Fault::SilentAbort {
                    a.touched(fault)
                        .abort(|span| w.lane.report(span.lo, span.hi));
                }
                a.end();
            })),
            Stage::Over => (),
        }
    }

    fn begin(&self, who: usize, fault: Fault, next: &mut Vec<World>) {
        let role = self.cast[who].role;
        let hold = |row: usize, becomes: Row| {
            self.with(who, |w, a| {
                a.held[row] = Some((w.rows[row], becomes));
                a.stage = Stage::Open;
            })
        };
        let free = |row: &usize| !self.is_held(*row) && self.rows[*row].due().is_some();
        match role {
            Role::Send(id) => next.push(hold(place(i64::from(id)), Row::Ready)),
            Role::SendFor(id, wait) => {
                next.push(hold(place(i64::from(id)), self.due_in(who, wait)));
            }
            Role::Ack => next.extend((0..ROWS).filter(free).map(|r| hold(r, Row::Gone))),
            Role::Nack => next.extend((0..ROWS).filter(free).map(|r| hold(r, Row::Ready))),
            Role::NackFor(wait) => {
                let due = self.due_in(who, wait);
                next.extend((0..ROWS).filter(free).map(|r| hold(r, due)));
            }
            Role::Lock => {
                next.extend((0..ROWS).filter(free).map(|r| hold(r, self.rows[r])));
            }
            Role::Noise(left) => next.push(self.with(who, |w, a| {
                w.lane.report(id_at(ROWS - 1), id_at(ROWS));
                if left > 1 {
                    a.role = Role::Noise(left - 1);
                } else {
                    a.stage = Stage::Over;
                }
            })),
            Role::Read(..) | Role::Pop(_) if fault == Fault::SnapshotFirst => {
                next.push(self.with(who, |w, a| a.stage = Stage::Early(w.rows)));
            }
            Role::Read(..) | Role::Pop(_) => next.push(self.with(who, |w, a| {
                a.stage = Stage::Ticket(w.begin_read(who, fault));
            })),
        }
        // Whoever finds no row to settle has nothing to do.
        if matches!(role, Role::Ack | Role::Nack | Role::NackFor(_) | Role::Lock) {
            next.push(self.with(who, |_, a| a.stage = Stage::Over));
        }
    }

    fn begin_read(&mut self, who: usize, fault: Fault) -> SmallTicket {
        let before = self.lane.seq();
        let ticket = self.lane.begin(self.now());
        if fault == Fault::QuietActivation {
            // As if what fell due had not been reported to those who are under way.
            let quiet = self.lane.seq() - before;
            for (i, other) in self.cast.iter_mut().enumerate() {
                match &mut other.stage {
                    Stage::Ticket(ticket) if i != who => ticket.seq += quiet,
                    Stage::Scan(scan) if i != who => scan.ticket.seq += quiet,
                    _ => (),
                }
            }
        }
        ticket
    }

    fn scan(&self, ticket: SmallTicket, seen: [Row; ROWS]) -> Scan {
        Scan {
            ticket,
            seen,
            versions: self.versions,
            at: ticket.seek(1),
            taken: 0,
            notes: [None; ROWS],
        }
    }

    fn scanning(&self, who: usize, scan: &Scan, fault: Fault, next: &mut Vec<World>) {
        let (most, becomes) = match self.cast[who].role {
            Role::Read(most, lease) => (most, self.due_in(who, lease)),
            Role::Pop(most) => (most, Row::Gone),
            _ => return,
        };
        // It may stop anywhere and publish that much, or fail and publish nothing.
        next.push(self.with(who, |w, a| w.publish(a, scan, fault)));
        next.push(self.with(who, |_, a| a.stage = Stage::Aborted));
        if scan.at >= END || scan.taken >= most {
            return;
        }
        next.push(self.with(who, |w, a| {
            let mut scan = scan.clone();
            let row = place(scan.at);
            match scan.seen[row] {
                Row::Absent | Row::Gone => (),
                Row::Due(due) if due > w.instant() => scan.notes[row] = Some(due),
                Row::Ready | Row::Due(_) => {
                    let untouched = scan.versions[row] == w.versions[row];
                    if untouched && !w.is_held(row) {
                        a.held[row] = Some((w.rows[row], becomes));
                        scan.taken += 1;
                        if let Some(due) = becomes.entered()
                            && fault == Fault::DueAtGrant
                        {
                            w.lane.enter_due(w.now(), scan.at, due);
                        }
                    }
                }
            }
            scan.at = scan.ticket.seek(scan.at + 1);
            a.stage = Stage::Scan(scan);
        }));
    }

    fn publish(&mut self, actor: &mut Actor, scan: &Scan, fault: Fault) {
        let mut ticket = scan.ticket;
        let now = self.lane.seq();
        match fault {
            Fault::IgnoresReports => ticket.seq = now,
            Fault::ForgetsOverrun => ticket.seq = ticket.seq.max(now.saturating_sub(2)),
            _ => (),
        }
        self.lane.publish(&ticket, 0, scan.at);
        if fault != Fault::DropsNotes {
            for (row, note) in scan.notes.iter().enumerate() {
                if let Some(due) = note {
                    self.lane.enter_due(self.now(), id_at(row), i64::from(*due));
                }
            }
        }
        actor.stage = Stage::Open;
    }

    fn commit(&mut self, actor: &mut Actor) {
        for row in 0..ROWS {
            if let Some((was, becomes)) = actor.held[row]
                && was != becomes
            {
                self.rows[row] = becomes;
                self.versions[row] += 1;
            }
        }
        actor.stage = Stage::Committed;
    }

    fn committed(&mut self, actor: &mut Actor, fault: Fault) {
        let now = self.now();
        if fault != Fault::SilentCommit {
            actor
                .touched(fault)
                .commit(|effect| self.lane.apply(now, effect));
        }
        if fault == Fault::LeavesUnentered {
            // As if entries were only counted: whoever leaves is taken for another.
            for (row, id) in self.rows.iter().zip(1..) {
                if let Some(due) = row.entered() {
                    self.lane.leave_due(id, due);
                }
            }
        }
        actor.end();
    }
}

impl Actor {
    /// What it did, as its backend keeps it.
    fn touched(&self, fault: Fault) -> Touched {
        let mut touched = Touched::default();
        let reads = matches!(self.role, Role::Read(..));
        for (held, id) in self.held.iter().zip(1..) {
            let Some((was, becomes)) = *held else {
                continue;
            };
            let old = was.entered();
            match becomes {
                _ if was == becomes => touched.locked(1, id),
                Row::Ready if was == Row::Absent => touched.sent(1, id),
                Row::Ready => touched.ready(1, id, old),
                Row::Due(_) if reads && fault == Fault::DueAtGrant => touched.gone(1, id, old),
                Row::Due(due) if was == Row::Absent => touched.sent_for(1, id, due.into()),
                Row::Due(due) => touched.waits(1, id, due.into(), old),
                Row::Gone if matches!(self.role, Role::Pop(_)) => {
                    // It was leased for a while, before and within a savepoint.
                    touched.waits(1, id, 200, old);
                    touched.gone(2, id, Some(200));
                    touched.release(2);
                }
                Row::Absent | Row::Gone => touched.gone(1, id, old),
            }
        }
        touched
    }

    fn end(&mut self) {
        self.held = [None; ROWS];
        self.stage = Stage::Over;
    }
}
