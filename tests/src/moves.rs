//! The moves of a random history: each says what the model expects, does it, and compares.

use crate::message::{Message, Place};
use crate::property::History;

impl History {
    pub async fn send(&mut self, s: usize) {
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

    pub async fn read(&mut self, s: usize) {
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

    pub async fn hand_out(
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

    pub async fn settle(&mut self, s: usize) {
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

    pub async fn settle_batch(&mut self, s: usize) {
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
}
