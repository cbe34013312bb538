//! Random histories against the model. `SEED=n` repeats a failure; the statements are printed.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::model::{Message, Model, Place};
use crate::rng::{Rng, seed};
use crate::tests;

tests![one_session, one_session_with_a_limit, several_sessions];

struct Shape {
    sessions: usize,
    max_failures: Option<i64>,
    /// Roll back transactions that have read; their failures are then not compared.
    rolls_back_reads: bool,
    histories: u64,
    steps: u64,
}

async fn one_session(cx: Cx) {
    let shape = Shape {
        sessions: 1,
        max_failures: None,
        rolls_back_reads: true,
        histories: 16,
        steps: 80,
    };
    histories(cx, shape).await;
}

async fn one_session_with_a_limit(cx: Cx) {
    let shape = Shape {
        sessions: 1,
        max_failures: Some(3),
        rolls_back_reads: false,
        histories: 12,
        steps: 80,
    };
    histories(cx, shape).await;
}

async fn several_sessions(cx: Cx) {
    let shape = Shape {
        sessions: 4,
        max_failures: None,
        rolls_back_reads: true,
        histories: 20,
        steps: 120,
    };
    histories(cx, shape).await;
}

/// One random history: the sessions, the model, and all statements so far.
struct History {
    queue: String,
    sessions: Vec<Conn>,
    onlooker: Conn,
    model: Model,
    rng: Rng,
    /// Sessions in a transaction with an old snapshot, whose browsing is not compared.
    old_snapshot: Vec<bool>,
    has_read: Vec<bool>,
    log: Vec<String>,
    seed: u64,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "SEED={} {}\n  {}",
                self.seed,
                self.queue,
                self.log.join("\n  ")
            );
        }
    }
}

async fn histories(cx: Cx, shape: Shape) {
    let base = seed();
    for n in 0..shape.histories {
        let queue = format!("q{n}");
        let mut sessions = Vec::new();
        for _ in 0..shape.sessions {
            let c = cx.connect().await;
            c.never_wait().await;
            sessions.push(c);
        }
        let onlooker = cx.connect().await;
        let limit = shape
            .max_failures
            .map_or("NULL".to_string(), |n| n.to_string());
        onlooker
            .run(&format!(
                "SELECT mq.create_queue('{queue}', max_failures => {limit}, visibility => '1 hour')"
            ))
            .await;
        let mut history = History {
            queue,
            sessions,
            onlooker,
            model: Model::new(shape.sessions, shape.max_failures),
            rng: Rng::new(base.wrapping_add(n)),
            old_snapshot: vec![false; shape.sessions],
            has_read: vec![false; shape.sessions],
            log: Vec::new(),
            seed: base,
        };
        for _ in 0..shape.steps {
            history.step(&shape).await;
        }
        for s in 0..shape.sessions {
            if history.model.open(s) {
                history.end(s, "COMMIT").await;
            }
        }
        history.compare(None).await;
    }
}

impl History {
    async fn say(&mut self, s: usize, sql: String) -> Vec<Vec<Option<String>>> {
        self.log.push(format!("{s}: {sql}"));
        self.sessions[s].rows(&sql).await
    }

    async fn step(&mut self, shape: &Shape) {
        let s = self.rng.below(shape.sessions as u64) as usize;
        let open = self.model.open(s);
        let may_undo = shape.rolls_back_reads || !self.has_read[s];
        match self.rng.below(20) {
            0..=4 => self.send(s).await,
            5..=8 => self.read(s).await,
            9..=13 => self.settle(s).await,
            14 => self.settle_batch(s).await,
            15 if !open => self.begin(s).await,
            16 if open => {
                let n = self.model.savepoint_count(s);
                self.say(s, format!("SAVEPOINT s{n}")).await;
                self.model.savepoint(s);
            }
            17 if open && may_undo && self.model.savepoint_count(s) > 0 => {
                let n = self.rng.below(self.model.savepoint_count(s) as u64) as usize;
                self.say(s, format!("ROLLBACK TO s{n}")).await;
                let undone = self.model.rollback_to(s, n);
                if undone && shape.sessions > 1 {
                    self.end(s, "COMMIT").await;
                }
            }
            18 if open => self.end(s, "COMMIT").await,
            19 if open && may_undo => self.end(s, "ROLLBACK").await,
            _ => return,
        }
        if !self.old_snapshot[s] {
            self.compare(Some(s)).await;
        }
        self.compare(None).await;
    }

    async fn begin(&mut self, s: usize) {
        if !self.count_rolled_back(s).await {
            return;
        }
        let level = *self
            .rng
            .pick(&["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ"]);
        self.say(
            s,
            format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.{}",
                self.queue
            ),
        )
        .await;
        self.old_snapshot[s] = level != "READ COMMITTED";
        self.has_read[s] = false;
        self.model.begin(s);
    }

    async fn end(&mut self, s: usize, how: &str) {
        self.say(s, how.to_string()).await;
        if how == "COMMIT" {
            self.model.commit(s)
        } else {
            self.model.rollback(s)
        }
        self.old_snapshot[s] = false;
        self.count_rolled_back(s).await;
    }

    /// A session counts its rolled-back hand-outs at its next read. With others about, that read
    /// happens alone and at once, because it touches messages that it may not hand out.
    async fn count_rolled_back(&mut self, s: usize) -> bool {
        match self.model.pending(s) {
            (false, _) => true,
            (true, false) => false,
            (true, true) => {
                self.hand_out(s, "read", 1, None).await;
                self.model.counted(s);
                true
            }
        }
    }

    async fn send(&mut self, s: usize) {
        let n = self.log.len();
        let priority = self.rng.below(3) as i64 + 3;
        let key = if self.rng.one_in(3) {
            Some(format!("k{}", self.rng.below(8)))
        } else {
            None
        };
        if key
            .as_ref()
            .is_some_and(|key| self.model.key_is_open(key, s))
        {
            return;
        }
        let headers = self.rng.one_in(4).then(|| format!("{{\"h\": {n}}}"));
        let (mut place, delay) = match self.rng.below(6) {
            0 => (Place::Delayed, "'1 hour'"),
            1 => (Place::Delayed, "'20 ms'"),
            _ => (Place::Ready, "NULL"),
        };
        let quoted =
            |text: &Option<String>| text.as_ref().map_or("NULL".into(), |t| format!("'{t}'"));
        let rest = format!(
            "{}, {delay}, NULL, {priority}, NULL, {}",
            quoted(&headers),
            quoted(&key)
        );
        let q = self.queue.clone();
        let (sql, payload) = match self.rng.below(5) {
            0 => (
                format!("SELECT mq.send_text('{q}', 'text {n}', {rest})"),
                format!("\"text {n}\""),
            ),
            1 => (
                format!("SELECT mq.send_bytes('{q}', '\\x{n:08x}', {rest})"),
                format!("{n:08x}"),
            ),
            2 if place == Place::Ready => (
                format!(
                    "SELECT mq.send_batch('{q}', ARRAY['{n}']::jsonb[], {}, dedup_keys => {}, priority => {priority})",
                    headers
                        .as_ref()
                        .map_or("NULL".into(), |h| format!("ARRAY['{h}']::jsonb[]")),
                    key.as_ref()
                        .map_or("NULL".into(), |k| format!("ARRAY['{k}']")),
                ),
                n.to_string(),
            ),
            3 if place == Place::Ready => (
                format!(
                    "INSERT INTO mq.{q} (body, headers, priority, dedup_key) VALUES ('{n}', {}, {priority}, {}) RETURNING id",
                    quoted(&headers),
                    quoted(&key)
                ),
                n.to_string(),
            ),
            _ => (
                format!("SELECT mq.send('{q}', '{n}', {rest})"),
                n.to_string(),
            ),
        };
        let winner = key.as_ref().and_then(|key| self.model.winner(key));
        let is_insert = sql.starts_with("INSERT");
        let rows = self.say(s, sql).await;
        if let Some(winner) = winner {
            // A duplicate inserted through the view returns the winner's id or no row.
            let id = rows.first().and_then(|row| row[0].clone());
            assert!(
                id == Some(winner.to_string()) || (is_insert && id.is_none()),
                "duplicate of {winner}: {id:?}"
            );
            return;
        }
        let id: i64 = rows[0][0].as_deref().unwrap().parse().unwrap();
        let soon = delay == "'20 ms'";
        if soon {
            self.passes(s, "20 ms").await;
            place = Place::Ready;
        }
        let message = Message {
            payload,
            headers,
            priority,
            key,
            attempts: 0,
            failures: Some(0),
            error: None,
            error_known: true,
            receipt: None,
            place,
        };
        self.model.sent(s, id, message);
    }

    /// Waits until that much time has passed on the server's clock.
    async fn passes(&mut self, s: usize, time: &str) {
        let then = self.sessions[s]
            .text(&format!("SELECT clock_timestamp() + interval '{time}'"))
            .await;
        self.sessions[s]
            .until(&format!("SELECT clock_timestamp() > '{then}'"))
            .await;
    }

    async fn read(&mut self, s: usize) {
        if self.model.pending(s).0 && !self.model.open(s) && !self.count_rolled_back(s).await {
            return;
        }
        let qty = 1 + self.rng.below(3) as usize;
        self.has_read[s] = true;
        match self.rng.below(8) {
            0 => drop(self.hand_out(s, "pop", qty, None).await),
            1 => {
                let ids = self.hand_out(s, "read", qty, Some("15 ms")).await;
                self.passes(s, "15 ms").await;
                ids.iter().for_each(|id| self.model.lease_ends(s, *id));
                if self.model.max_failures.is_some() {
                    let q = self.queue.clone();
                    self.say(s, format!("SELECT mq.maintain('{q}')")).await;
                }
            }
            _ => drop(self.hand_out(s, "read", qty, None).await),
        }
    }

    async fn hand_out(
        &mut self,
        s: usize,
        verb: &str,
        qty: usize,
        lease: Option<&str>,
    ) -> Vec<i64> {
        let lease = lease.map_or(String::new(), |lease| format!(", '{lease}'"));
        let arguments = format!("'{}', {qty}{lease}", self.queue);
        self.log.push(format!("{s}: {verb}({arguments})"));
        let expected = self.model.readable(s, qty);
        let hands = self.sessions[s].try_hands(verb, &arguments).await;
        let hands = hands.unwrap_or_else(|no| panic!("{verb}({arguments}): {no:?}"));
        let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
        assert_eq!(ids, expected, "{verb}({arguments}) by session {s}");
        for hand in &hands {
            let known = self.model.receipts.iter().any(|(_, r)| *r == hand.receipt);
            assert!(!known, "a receipt repeats");
            let popped = verb == "pop";
            let (attempts, failures) = self.model.handed(s, hand.id, hand.receipt, popped);
            assert_eq!(hand.attempts, attempts, "attempts of {hand:?}");
            assert!(
                failures.is_none_or(|n| n == hand.failures),
                "failures of {hand:?}, not {failures:?}"
            );
        }
        ids
    }

    /// A message and a receipt for it: the current, an old one, another's, or none.
    fn target(&mut self) -> Option<(i64, Option<i64>)> {
        let recent = self.model.receipts.len().saturating_sub(8);
        match self.rng.below(5) {
            0 => Some((
                *self.rng.pick(&[self.model.ids(), vec![77_777]].concat()),
                None,
            )),
            1 if !self.model.receipts.is_empty() => {
                Some(*self.rng.pick(&self.model.receipts)).map(|(id, r)| (id, Some(r)))
            }
            _ if !self.model.receipts.is_empty() => {
                let (id, receipt) = *self.rng.pick(&self.model.receipts[recent..]);
                Some((id, (!self.rng.one_in(4)).then_some(receipt)))
            }
            _ => None,
        }
    }

    /// With a limit, what an ended lease has counted decides: the model cannot leave it open.
    fn undecided(&self, s: usize, id: i64) -> bool {
        self.model.max_failures.is_some() && self.model.uncertain(id, s)
    }

    async fn settle(&mut self, s: usize) {
        let Some((id, receipt)) = self.target() else {
            return;
        };
        let verb = *self.rng.pick(&[
            "ack", "ack", "nack", "nack", "release", "reject", "extend", "archive", "delete",
        ]);
        if self.undecided(s, id) || (verb == "delete" && self.model.taken_by_another(id, s)) {
            return;
        }
        let q = self.queue.clone();
        let delay = if self.rng.one_in(4) {
            "'1 hour'"
        } else {
            "NULL"
        };
        let given = receipt.map_or("NULL".to_string(), |r| r.to_string());
        let call = match verb {
            "delete" => format!("mq.delete('{q}', {id})"),
            "nack" => format!("mq.nack('{q}', {id}, {given}, {delay}, 'broken')"),
            "release" => format!("mq.release('{q}', {id}, {given}, {delay})"),
            "extend" => format!("mq.extend('{q}', {id}, {given}) IS NOT NULL"),
            _ => format!("mq.{verb}('{q}', {id}, {given})"),
        };
        let expected = self.model.settle(s, verb, id, receipt, delay != "NULL");
        let said = self.say(s, format!("SELECT {call}")).await;
        assert_eq!(
            said[0][0].as_deref() == Some("t"),
            expected,
            "{call} by session {s}"
        );
    }

    async fn settle_batch(&mut self, s: usize) {
        let verb = *self
            .rng
            .pick(&["ack", "nack", "release", "archive", "extend"]);
        let (mut ids, mut receipts, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rng.below(4) {
            let Some((id, receipt)) = self.target() else {
                continue;
            };
            if self.undecided(s, id) || ids.contains(&id.to_string()) {
                continue;
            }
            ids.push(id.to_string());
            receipts.push(receipt.map_or("NULL".to_string(), |r| r.to_string()));
            if self.model.settle(s, verb, id, receipt, false) {
                expected.push(id);
            }
        }
        let reason = if verb == "nack" {
            ", NULL, 'broken'"
        } else {
            ""
        };
        let sql = format!(
            "SELECT mq.{verb}_batch('{}', ARRAY[{}]::bigint[], ARRAY[{}]::bigint[]{reason})",
            self.queue,
            ids.join(","),
            receipts.join(",")
        );
        let rows = self.say(s, sql.clone()).await;
        let settled: Vec<i64> = rows
            .iter()
            .map(|row| row[0].as_deref().unwrap().parse().unwrap())
            .collect();
        assert_eq!(settled, expected, "{sql} by session {s}");
    }

    /// Compares what the session, or an onlooker, sees with the model.
    async fn compare(&self, by: Option<usize>) {
        let c = by.map_or(&self.onlooker, |s| &self.sessions[s]);
        let q = &self.queue;
        let rows = c
            .rows(&format!(
                "SELECT id, coalesce(body::text, encode(data, 'hex')), headers::text, priority, dedup_key, attempts, \
                 state, failures, last_error FROM mq.{q} ORDER BY id"
            ))
            .await;
        let visible = self.model.visible(by);
        let listed: Vec<_> = visible.iter().filter(|(_, m)| m.listed()).collect();
        let ids: Vec<String> = rows.iter().map(|row| row[0].clone().unwrap()).collect();
        let wanted: Vec<String> = listed.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, wanted, "messages in the view, seen by {by:?}");
        for (row, (id, m)) in rows.iter().zip(&listed) {
            let state = match m.place {
                Place::Delayed => "delayed",
                Place::Leased => "leased",
                _ => "ready",
            };
            let wanted = [
                Some(m.payload.clone()),
                m.headers.clone(),
                Some(m.priority.to_string()),
                m.key.clone(),
                Some(m.attempts.to_string()),
                Some(state.to_string()),
            ];
            assert_eq!(row[1..7], wanted, "message {id}, seen by {by:?}");
            let ended = i64::from(m.place == Place::Ended);
            if let Some(failures) = m.failures {
                assert_eq!(
                    row[7],
                    Some((failures + ended).to_string()),
                    "failures of {id}, seen by {by:?}"
                );
            }
            if m.error_known && m.failures.is_some() && ended == 0 {
                assert_eq!(row[8], m.error, "last_error of {id}, seen by {by:?}");
            }
        }
        let place = |place: Place| -> Vec<i64> {
            visible
                .iter()
                .filter(|(_, m)| m.place == place)
                .map(|(id, _)| *id)
                .collect()
        };
        let archived = c
            .ints(&format!("SELECT id FROM mq.{q}_archive ORDER BY id"))
            .await;
        assert_eq!(
            archived,
            place(Place::Archived),
            "the archive, seen by {by:?}"
        );
        if self.model.max_failures.is_some() {
            let dead = format!(
                "SELECT (headers->'x-death'->0->>'id')::bigint FROM mq.{q}_dead ORDER BY 1"
            );
            assert_eq!(
                c.ints(&dead).await,
                place(Place::Dead),
                "the dead letters, seen by {by:?}"
            );
        }
    }
}
