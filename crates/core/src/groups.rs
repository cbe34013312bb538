//! What is kept in shared memory of a queue whose messages belong to groups: messages of one group are
//! handed out one after the other, so most of those that are ready may have to wait for another.
//!
//! The truth is the rows, and a lock on the group while somebody looks for its next message: whether
//! a message may be handed out is decided by these. What lies here answers three questions for
//! cheap, per bucket of groups, and may always say too much:
//!
//! **Who tells of a message that a reader passed because its group is busy?** Whoever changes a
//! message of the group, or takes the group, enters it before it looks for the next one, and leaves it
//! after its end. A reader passes a message only if nobody left the bucket since its ticket, which is
//! older than its snapshot. Then whoever enters later finds the passed message (`passed` says how
//! far to look); and for those who are in the bucket at the time, the message is noted, and is theirs
//! to report when they leave.
//!
//! **May messages behind the first of a group be in somebody's hands?** Only if the first was sent by
//! a transaction that committed after they were handed out. So a sender says, just before its
//! commit, which ids are coming, and compares them with the highest that was handed out; who hands
//! out compares with those that are coming, and looks anew when one has come since its ticket. Ids
//! below `late` may have come late. Who hands out what it has sent itself, and is not coming yet, takes all
//! of that for late.
//!
//! **Where does a group begin?** Finished messages leave entries in the index behind. For groups with
//! many of them a slot says below which id there is no message of the group.
//!
//! All-zero bytes are a queue that was just made. Nothing here allocates or panics; the caller holds
//! the queue's lock.

use crate::frontier::Span;

/// How many buckets groups are spread over.
pub const BUCKETS: usize = 128;
const SLOTS: usize = 128;
/// How many notes there are at most.
pub const NOTES: usize = 64;

/// The bucket of a group.
pub fn bucket(group: i64) -> usize {
    (group.cast_unsigned() % BUCKETS as u64) as usize
}

fn slot(group: i64) -> usize {
    ((group.cast_unsigned() >> 32) % SLOTS as u64) as usize
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// How many transactions, and groups of theirs, are in.
    busy: u32,
    /// How often somebody left.
    left: u32,
    /// How often a message was sent, that is, its sender has ended.
    sent: u32,
    /// How often messages came late.
    lates: u32,
    /// Senders between their decision to commit and its end, and the lowest id of theirs.
    coming: u32,
    coming_from: i64,
    /// The highest id handed out.
    handed: i64,
    /// Ids below this may have come after a higher one of their group was handed out.
    late: i64,
    /// The highest id that a reader has passed because its group was busy.
    passed: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    group: i64,
    /// There is no message of the group below this id.
    low: i64,
    /// No message of the group below this id was in anybody's hands but the first ones that were handed
    /// out before, if nothing came late since (`lates`).
    clean: i64,
    lates: u32,
}

/// Messages of a group and rank that a reader passed while others were in its bucket: those from one
/// id to another. Which of them are still there when the others leave, nobody knows then.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    pub group: i64,
    pub from: i64,
    pub to: i64,
    pub rank: u32,
}

impl Note {
    /// Of one message.
    pub fn one(group: i64, rank: i16, id: i64) -> Self {
        Note {
            group,
            from: id,
            to: id,
            rank: rank.unsigned_abs().into(),
        }
    }

    /// What lies between the two is in it, too.
    pub fn join(&mut self, other: &Note) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }

    pub fn ids(&self) -> Span {
        Span::new(self.from, self.to.saturating_add(1))
    }
}

#[repr(C)]
#[derive(Clone, Debug)]
pub struct Groups {
    buckets: [Bucket; BUCKETS],
    slots: [Slot; SLOTS],
    notes: [Note; NOTES],
    noted: u32,
    /// There was no room for a note: who leaves wakes somebody to look.
    overrun: u32,
}

/// What a reader knew of all buckets before its snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    left: [u32; BUCKETS],
}

/// What was known of one group before a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    sent: u32,
    /// There is no message of the group below this id.
    pub low: i64,
    /// Ids below this may have come late.
    pub late: i64,
    /// No message below this id needs to be looked at for being in somebody's hands.
    pub clean: i64,
    /// Readers have passed messages up to this id.
    pub passed: i64,
}

/// What came of asking for a group.
pub enum Taken {
    Ours(Known),
    /// Somebody else has it.
    Busy,
    /// This transaction has too many.
    Full,
}

/// Nothing is known: all has to be looked at.
pub const UNKNOWN: Known = Known {
    sent: 0,
    low: 0,
    late: i64::MAX,
    clean: 0,
    passed: i64::MAX,
};

impl Known {
    /// The same, but for who takes nothing for granted.
    #[must_use]
    pub fn doubted(self) -> Self {
        Known {
            low: 0,
            late: i64::MAX,
            clean: 0,
            ..self
        }
    }

    /// The same, for a transaction that has itself sent messages of the group, none below this id. Nobody
    /// compares these with what is handed out before they are coming, which is at its end.
    #[must_use]
    pub fn doubted_from(self, id: i64) -> Self {
        Known {
            low: self.low.min(id),
            late: i64::MAX,
            clean: self.clean.min(id),
            ..self
        }
    }
}

impl Default for Groups {
    fn default() -> Self {
        Groups {
            buckets: [Bucket::default(); BUCKETS],
            slots: [Slot::default(); SLOTS],
            notes: [Note::default(); NOTES],
            noted: 0,
            overrun: 0,
        }
    }
}

impl Groups {
    /// Of a queue that has a past.
    pub fn begin(&mut self) {
        *self = Groups::default();
        self.all_may_be_late();
    }

    /// Of a queue that was just made.
    pub fn begin_empty(&mut self) {
        self.begin();
        self.buckets.iter_mut().for_each(|b| b.late = 0);
    }

    fn all_may_be_late(&mut self) {
        for b in &mut self.buckets {
            b.late = i64::MAX;
            b.lates = b.lates.wrapping_add(1);
        }
    }

    fn at(&mut self, group: i64) -> Option<&mut Bucket> {
        self.buckets.get_mut(bucket(group))
    }

    /// A reader begins. Only after this may it take its snapshot.
    pub fn ticket(&self) -> Ticket {
        let mut left = [0; BUCKETS];
        for (l, b) in left.iter_mut().zip(&self.buckets) {
            *l = b.left;
        }
        Ticket { left }
    }

    /// A transaction takes, or has changed, a group: once for each.
    pub fn enter(&mut self, group: i64) {
        if let Some(b) = self.at(group) {
            b.busy = b.busy.saturating_add(1);
        }
    }

    /// The transaction has ended. Gives the messages that are its to report.
    pub fn leave(&mut self, group: i64, mut report: impl FnMut(Note)) {
        let mut is_quiet = true;
        if let Some(b) = self.at(group) {
            b.busy = b.busy.saturating_sub(1);
            b.left = b.left.wrapping_add(1);
            is_quiet = b.busy == 0;
        }
        self.take_notes(
            |n| n.group == group || (is_quiet && bucket(n.group) == bucket(group)),
            &mut report,
        );
    }

    /// The transaction is prepared. It will not be heard of here; `forget` comes when it has ended, and
    /// until then everybody is told that there are `suspects`.
    pub fn leave_prepared(&mut self, group: i64) {
        if let Some(b) = self.at(group) {
            b.busy = b.busy.saturating_sub(1);
        }
    }

    fn take_notes(&mut self, is_his: impl Fn(&Note) -> bool, report: &mut impl FnMut(Note)) {
        let mut at = 0;
        while at < self.noted as usize {
            match self.notes.get(at).copied() {
                Some(note) if is_his(&note) => {
                    report(note);
                    self.noted = self.noted.saturating_sub(1);
                    let last = self.notes.get(self.noted as usize).copied();
                    if let (Some(place), Some(last)) = (self.notes.get_mut(at), last) {
                        *place = last;
                    }
                }
                Some(_) => at = at.saturating_add(1),
                None => break,
            }
        }
    }

    /// Whether a message had to be left because there was no room for a note; asked by who has left.
    pub fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun) != 0
    }

    /// A reader has passed messages of a group because the group was busy. `own`: how many groups of the bucket its own transaction is in. False: they have to be
    /// looked at again.
    pub fn pass(&mut self, ticket: &Ticket, note: Note, own: u32, suspects: bool) -> bool {
        let then = ticket.left.get(bucket(note.group)).copied();
        let Some(b) = self.at(note.group) else {
            return false;
        };
        // Too much does no harm.
        b.passed = b.passed.max(note.to);
        if then != Some(b.left) {
            return false;
        }
        let others = b.busy > own;
        if (others || suspects) && !self.note(note) {
            self.overrun = 1;
            return false;
        }
        true
    }

    fn note(&mut self, note: Note) -> bool {
        let noted = (self.noted as usize).min(NOTES);
        if let Some(there) = self.notes.get_mut(..noted).and_then(|list| {
            list.iter_mut()
                .find(|n| n.group == note.group && n.rank == note.rank)
        }) {
            there.join(&note);
            return true;
        }
        match self.notes.get_mut(noted) {
            Some(place) => {
                *place = note;
                self.noted = self.noted.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// What is known of a group. Only after this may who asks take its snapshot.
    pub fn look_up(&self, group: i64, suspects: bool) -> Known {
        let Some(b) = self.buckets.get(bucket(group)) else {
            return UNKNOWN;
        };
        let mut known = Known {
            sent: b.sent,
            low: 0,
            late: if suspects { i64::MAX } else { b.late },
            clean: 0,
            passed: b.passed,
        };
        // What a prepared transaction has sent, nobody announces.
        let slot = self.slots.get(slot(group));
        if let Some(s) = slot.filter(|s| s.group == group && !suspects) {
            known.low = s.low;
            if s.lates == b.lates {
                known.clean = s.clean;
            }
        }
        known
    }

    /// A message is about to be handed out. False: one of a lower id may have come since; the rows
    /// have to be looked at again.
    pub fn hand_out(&mut self, group: i64, id: i64, known: &Known) -> bool {
        let Some(b) = self.at(group) else {
            return true;
        };
        if b.sent != known.sent {
            return false;
        }
        b.handed = b.handed.max(id);
        if b.coming > 0 && b.coming_from < id {
            b.come_late(id);
        }
        true
    }

    /// What a look at a group, with a snapshot younger than what was known, came to: no message is below
    /// `low`, and those below `clean` are in nobody's hands but the first.
    pub fn learn(&mut self, group: i64, known: &Known, low: i64, clean: i64) {
        let Some(b) = self.buckets.get(bucket(group)) else {
            return;
        };
        if b.sent != known.sent || b.coming > 0 {
            return;
        }
        let lates = b.lates;
        if let Some(s) = self.slots.get_mut(slot(group)) {
            *s = Slot {
                group,
                low,
                clean,
                lates,
            };
        }
    }

    /// A transaction that has sent messages of a group, none below `low`, is about to commit.
    pub fn coming(&mut self, group: i64, low: i64) {
        if let Some(s) = self.slots.get_mut(slot(group))
            && s.group == group
        {
            s.low = s.low.min(low);
        }
        if let Some(b) = self.at(group) {
            b.coming_from = match b.coming {
                0 => low,
                _ => b.coming_from.min(low),
            };
            b.coming = b.coming.saturating_add(1);
            if low < b.handed {
                b.come_late(b.handed);
            }
        }
    }

    /// It has ended.
    pub fn come(&mut self, group: i64) {
        if let Some(b) = self.at(group) {
            b.coming = b.coming.saturating_sub(1);
            b.sent = b.sent.wrapping_add(1);
        }
    }

    /// Somebody of whom nothing was heard, a prepared transaction, has ended.
    pub fn forget(&mut self, mut report: impl FnMut(Note)) {
        self.all_may_be_late();
        self.slots = [Slot::default(); SLOTS];
        for b in &mut self.buckets {
            b.left = b.left.wrapping_add(1);
            b.sent = b.sent.wrapping_add(1);
        }
        self.take_notes(|_| true, &mut report);
    }
}

impl Bucket {
    fn come_late(&mut self, below: i64) {
        self.late = self.late.max(below);
        self.lates = self.lates.wrapping_add(1);
    }
}
