//! A queue as it should be, small enough to be obviously right: what several sessions with open
//! transactions do to it, statement by statement.
//!
//! Each message has the state that everybody sees and, while a transaction that touched it is
//! open, the state that its session sees. Nobody else may take or settle it meanwhile.

use crate::message::{Message, Place};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
struct Slot {
    committed: Option<Message>,
    current: Option<Message>,
    owner: Option<usize>,
}

enum Undo {
    Slot(i64, Option<Message>, Option<usize>),
    Key(String, Option<(i64, Option<usize>)>),
}

#[derive(Default)]
struct Session {
    open: bool,
    undo: Vec<Undo>,
    savepoints: Vec<usize>,
    /// Messages whose rolled-back hand-outs this session has yet to count.
    pending: Vec<i64>,
}

pub struct Model {
    slots: BTreeMap<i64, Slot>,
    keys: HashMap<String, (i64, Option<usize>)>,
    sessions: Vec<Session>,
    pub max_failures: Option<i64>,
    /// Messages whose failures cannot be followed, because a hand-out was rolled back.
    pub unsure: HashSet<i64>,
    /// Receipts that were given once, current or not.
    pub receipts: Vec<(i64, i64)>,
}

impl Model {
    pub fn new(sessions: usize, max_failures: Option<i64>) -> Model {
        Model {
            slots: BTreeMap::new(),
            keys: HashMap::new(),
            sessions: (0..sessions).map(|_| Session::default()).collect(),
            max_failures,
            unsure: HashSet::new(),
            receipts: Vec::new(),
        }
    }

    /// The message as this session sees it; `None` as the session of an onlooker.
    fn seen(&self, id: i64, by: Option<usize>) -> Option<&Message> {
        let slot = self.slots.get(&id)?;
        let own = slot.owner.is_some() && slot.owner == by;
        if own {
            slot.current.as_ref()
        } else {
            slot.committed.as_ref()
        }
    }

    pub fn taken_by_another(&self, id: i64, s: usize) -> bool {
        self.slots
            .get(&id)
            .is_some_and(|slot| slot.owner.is_some_and(|owner| owner != s))
    }

    pub fn ids(&self) -> Vec<i64> {
        self.slots.keys().copied().collect()
    }

    pub fn visible(&self, by: Option<usize>) -> Vec<(i64, &Message)> {
        self.slots
            .keys()
            .filter_map(|id| Some((*id, self.seen(*id, by)?)))
            .collect()
    }

    pub fn open(&self, s: usize) -> bool {
        self.sessions[s].open
    }

    pub fn savepoint_count(&self, s: usize) -> usize {
        self.sessions[s].savepoints.len()
    }

    pub fn begin(&mut self, s: usize) {
        self.sessions[s].open = true;
    }

    pub fn savepoint(&mut self, s: usize) {
        let mark = self.sessions[s].undo.len();
        self.sessions[s].savepoints.push(mark);
    }

    /// Rolls back to the nth savepoint; tells whether hand-outs were undone.
    pub fn rollback_to(&mut self, s: usize, nth: usize) -> bool {
        let mark = self.sessions[s].savepoints[nth];
        self.sessions[s].savepoints.truncate(nth + 1);
        self.undo_to(s, mark)
    }

    pub fn rollback(&mut self, s: usize) {
        self.undo_to(s, 0);
        self.sessions[s].savepoints.clear();
        self.sessions[s].open = false;
    }

    pub fn commit(&mut self, s: usize) {
        for undo in std::mem::take(&mut self.sessions[s].undo) {
            match undo {
                Undo::Slot(id, ..) => {
                    let slot = self.slots.get_mut(&id).expect("a slot");
                    slot.committed = slot.current.clone();
                    slot.owner = None;
                }
                Undo::Key(key, _) => self.keys.get_mut(&key).expect("a key").1 = None,
            }
        }
        self.sessions[s].savepoints.clear();
        self.sessions[s].open = false;
    }

    fn undo_to(&mut self, s: usize, mark: usize) -> bool {
        let mut hands = false;
        while self.sessions[s].undo.len() > mark {
            match self.sessions[s].undo.pop().expect("an entry") {
                Undo::Slot(id, before, owner) => {
                    let slot = self.slots.get_mut(&id).expect("a slot");
                    let (now, then) = (
                        slot.current.as_ref(),
                        before.as_ref().or(slot.committed.as_ref()),
                    );
                    let attempts = |m: Option<&Message>| m.map_or(0, |m| m.attempts);
                    let handed = attempts(now) > attempts(then);
                    slot.current = before;
                    slot.owner = owner;
                    if handed {
                        hands = true;
                        // How it is counted is the session's affair: no longer known here.
                        self.unsure.insert(id);
                        self.sessions[s].pending.push(id);
                    }
                }
                Undo::Key(key, Some(before)) => {
                    self.keys.insert(key, before);
                }
                Undo::Key(key, None) => {
                    self.keys.remove(&key);
                }
            }
        }
        hands
    }

    /// Changes a message as this session; the change is undone with the transaction.
    fn change(&mut self, s: usize, id: i64, change: impl FnOnce(&mut Message)) {
        let slot = self.slots.get_mut(&id).expect("a slot");
        assert!(
            slot.owner.is_none_or(|owner| owner == s),
            "the model lets two change a message"
        );
        let before = if slot.owner.is_some() {
            slot.current.clone()
        } else {
            None
        };
        self.sessions[s]
            .undo
            .push(Undo::Slot(id, before, slot.owner));
        if slot.owner.is_none() {
            slot.current = slot.committed.clone();
            slot.owner = Some(s);
        }
        change(slot.current.as_mut().expect("a message"));
        self.settle_alone(s);
    }

    /// Outside a transaction block each statement commits by itself.
    fn settle_alone(&mut self, s: usize) {
        if !self.sessions[s].open {
            self.commit(s);
        }
    }

    /// The id that a send of this key must return, if the key is known to this session.
    pub fn winner(&self, key: &str) -> Option<i64> {
        self.keys.get(key).map(|(id, _)| *id)
    }

    /// A send of this key would wait for another's transaction.
    pub fn key_is_open(&self, key: &str, s: usize) -> bool {
        self.keys
            .get(key)
            .is_some_and(|(_, owner)| owner.is_some_and(|owner| owner != s))
    }

    pub fn sent(&mut self, s: usize, id: i64, message: Message) {
        let last = self.slots.keys().next_back().copied().unwrap_or(0);
        assert!(id > last, "id {id} is not above {last}");
        if let Some(key) = message.key.clone() {
            let before = self.keys.insert(key.clone(), (id, Some(s)));
            self.sessions[s].undo.push(Undo::Key(key, before));
        }
        self.slots.insert(
            id,
            Slot {
                committed: None,
                current: Some(message),
                owner: Some(s),
            },
        );
        self.sessions[s].undo.push(Undo::Slot(id, None, Some(s)));
        self.settle_alone(s);
    }

    /// What a read by this session must return, in order.
    pub fn readable(&self, s: usize, qty: usize) -> Vec<i64> {
        let free = self
            .slots
            .keys()
            .filter(|id| !self.taken_by_another(**id, s));
        let mut ready: Vec<(i64, i64)> = free
            .filter_map(|id| Some((*id, self.seen(*id, Some(s))?)))
            .filter(|(_, m)| matches!(m.place, Place::Ready | Place::Ended))
            .map(|(id, m)| (-m.priority, id))
            .collect();
        ready.sort();
        ready.into_iter().take(qty).map(|(_, id)| id).collect()
    }

    /// A hand-out; returns attempts and failures as they must now be.
    pub fn handed(&mut self, s: usize, id: i64, receipt: i64, popped: bool) -> (i64, Option<i64>) {
        if !popped {
            self.receipts.push((id, receipt));
        }
        let mut now = (0, None);
        self.change(s, id, |m| {
            if m.place == Place::Ended {
                m.blame();
                m.error_known = false;
            }
            m.attempts += 1;
            m.receipt = (!popped).then_some(receipt);
            m.place = if popped { Place::Gone } else { Place::Leased };
            now = (m.attempts, m.failures);
        });
        if self.unsure.contains(&id) {
            (now.0, None)
        } else {
            now
        }
    }

    /// The lease of a message runs out while the session waits.
    pub fn lease_ends(&mut self, s: usize, id: i64) {
        let limit = self.max_failures;
        self.change(s, id, |m| {
            m.place = Place::Ended;
            if limit.is_some_and(|limit| m.failures.is_some_and(|n| n + 1 >= limit)) {
                m.place = Place::Dead;
            }
        });
    }

    /// Whether this call must succeed; if so, does it. `delayed`: a long delay was asked for.
    pub fn settle(
        &mut self,
        s: usize,
        verb: &str,
        id: i64,
        receipt: Option<i64>,
        delayed: bool,
    ) -> bool {
        if self.taken_by_another(id, s) {
            return false;
        }
        let Some(m) = self.seen(id, Some(s)).filter(|m| m.listed()) else {
            return false;
        };
        if verb == "delete" {
            self.change(s, id, |m| m.place = Place::Gone);
            return true;
        }
        if m.receipt.is_none() || receipt.is_some_and(|given| Some(given) != m.receipt) {
            return false;
        }
        let limit = self.max_failures;
        self.change(s, id, |m| {
            if m.place == Place::Ended && matches!(verb, "nack" | "release" | "extend") {
                // Whether the ended lease was counted before is left open.
                m.failures = None;
            }
            let back = if delayed {
                Place::Delayed
            } else {
                Place::Ready
            };
            match verb {
                "ack" => m.place = Place::Gone,
                "archive" => m.place = Place::Archived,
                "reject" => m.place = Place::Dead,
                "extend" => m.place = Place::Leased,
                "release" => m.place = back,
                "nack" => {
                    m.blame();
                    m.error = Some("broken".into());
                    m.error_known = true;
                    let last = limit.is_some_and(|limit| m.failures.is_some_and(|n| n >= limit));
                    m.place = if last { Place::Dead } else { back };
                }
                other => panic!("no verb {other}"),
            }
            if m.place != Place::Leased {
                m.receipt = None;
            }
        });
        true
    }

    /// Whether the session still has rolled-back hand-outs to count, and whether it can do so now.
    pub fn pending(&self, s: usize) -> (bool, bool) {
        let pending = &self.sessions[s].pending;
        (
            !pending.is_empty(),
            pending.iter().all(|id| !self.taken_by_another(*id, s)),
        )
    }

    pub fn counted(&mut self, s: usize) {
        self.sessions[s].pending.clear();
    }

    /// A failure count cannot be followed with a limit once it is open: tells if one is.
    pub fn uncertain(&self, id: i64, s: usize) -> bool {
        self.seen(id, Some(s))
            .is_some_and(|m| m.place == Place::Ended)
    }
}
