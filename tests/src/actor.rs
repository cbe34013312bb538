//! One session of the stress: random calls in and out of transactions, which may fail, be
//! cancelled, or end with the connection at any moment.
//!
//! What happens to a message for good is written beside it in the same transaction: `sent` and
//! `done` have its number. That it has one holder at a time is watched from outside: see `Holders`.

use crate::conn::{Cells, Conn};
use crate::rng::Rng;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Who holds which message by a lease that does not end.
#[derive(Default)]
pub struct Holders(Mutex<HashMap<i64, (u64, bool)>>);

impl Holders {
    /// `sure`: the hand-out is committed. One that is not may have been rolled back already, when
    /// somebody else gets the message.
    pub fn take(&self, id: i64, token: u64, sure: bool) {
        let mut all = self.0.lock().unwrap();
        let is_held = matches!(all.get(&id), Some((_, true)));
        if sure || !is_held {
            all.insert(id, (token, sure));
        }
        drop(all);
        assert!(
            !(sure && is_held),
            "message {id} was handed out while it was held"
        );
    }

    /// A hand-out of an open transaction is now committed: nobody may have got it meanwhile.
    fn confirm(&self, id: i64, token: u64) {
        let now = self.0.lock().unwrap().insert(id, (token, true));
        assert_eq!(
            now.map(|(t, _)| t),
            Some(token),
            "message {id} was handed out while a transaction had it"
        );
    }

    /// To be called before the message can be anybody else's.
    fn leave(&self, id: i64, token: u64) {
        let mut all = self.0.lock().unwrap();
        if all.get(&id).is_some_and(|(t, _)| *t == token) {
            all.remove(&id);
        }
    }
}

/// What the sessions of one stress share.
#[derive(Default)]
pub struct Common {
    pub port: u16,
    pub db: String,
    pub holders: Holders,
    pub prepared: Mutex<Vec<String>>,
    pub highest: AtomicI64,
    pub calls: AtomicU64,
    pub tokens: AtomicU64,
    pub kind: Kind,
    /// Nothing is done that has readers look at everything again.
    pub calm: bool,
}

/// What a queue makes of messages that belong together.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Plain,
    /// Most messages belong to one of a few groups.
    Grouped,
    /// They belong to a few tenants, which take turns.
    Fair,
}

#[derive(Clone)]
struct Held {
    id: i64,
    receipt: i64,
    number: String,
    token: u64,
    /// Anybody may have it: its lease ends soon, or has ended with a connection that was lost.
    brief: bool,
}

#[derive(Default)]
struct Open {
    taken: Vec<Held>,
    settled: Vec<Held>,
    /// How many were taken and settled when each savepoint was set.
    savepoints: Vec<(usize, usize)>,
}

pub struct Actor<'a> {
    pub conn: Conn,
    common: &'a Common,
    rng: Rng,
    hints: bool,
    held: Vec<Held>,
    open: Option<Open>,
}

/// So many prepared transactions may be waiting for their end.
const PREPARED: usize = 5;

impl<'a> Actor<'a> {
    pub async fn new(common: &'a Common, seed: u64, hints: bool) -> Actor<'a> {
        Actor {
            conn: connect(common, hints).await,
            common,
            rng: Rng::new(seed),
            hints,
            held: Vec::new(),
            open: None,
        }
    }

    /// Runs a statement; none when it failed for a reason that belongs to the game. The session
    /// is then outside a transaction.
    async fn try_run(&mut self, sql: &str) -> Option<Cells> {
        self.common.calls.fetch_add(1, Ordering::Relaxed);
        match self.conn.cells(sql).await {
            Ok(rows) => Some(rows),
            Err(no) => {
                let expected = [
                    "57014", "40001", "40P01", "57P01", "08006", "55006", "55P03",
                ];
                assert!(expected.contains(&no.code.as_str()), "{sql}\n{no:?}");
                let lost = no.code.starts_with("08") || no.code == "57P01";
                self.give_up(lost).await;
                None
            }
        }
    }

    async fn give_up(&mut self, mut lost: bool) {
        if let Some(open) = self.open.take() {
            self.undo(open.taken, open.settled, !lost);
            while !lost && let Err(no) = self.conn.cells("ROLLBACK").await {
                lost = no.code != "57014";
            }
        }
        if lost {
            self.conn = connect(self.common, self.hints).await;
        }
    }

    /// What was done since is undone; `sure`: not that it may have been committed all the same.
    fn undo(&mut self, taken: Vec<Held>, settled: Vec<Held>, sure: bool) {
        let open = self.open.as_ref();
        for mut back in settled {
            // Settled after all, perhaps, and then anybody's.
            back.brief |= !sure;
            if !taken.iter().any(|t| t.token == back.token) {
                let is_own = open.is_some_and(|o| o.taken.iter().any(|t| t.token == back.token));
                if !back.brief {
                    self.common.holders.take(back.id, back.token, !is_own);
                }
                self.held.push(back);
            }
        }
        for gone in taken {
            self.common.holders.leave(gone.id, gone.token);
            self.held.retain(|h| h.token != gone.token);
        }
    }

    pub async fn step(&mut self) {
        match self.rng.below(40) {
            0..=6 => self.send().await,
            7..=8 => self.send_batch().await,
            9..=16 | 39 => self.read().await,
            17..=18 => self.pop().await,
            19..=27 => self.settle().await,
            28 => self.meddle().await,
            29..=30 if self.open.is_none() => self.begin().await,
            29 => self.savepoint().await,
            30 => self.back_to_savepoint().await,
            31..=33 if self.open.is_some() => self.commit().await,
            35..=36 if self.open.is_some() => self.roll_back().await,
            37 if self.open.is_some() && !self.common.calm => self.prepare().await,
            38 if self.open.is_none() => self.end_prepared().await,
            _ => {}
        }
    }

    /// Ends what is open, one way or the other.
    pub async fn rest(&mut self) {
        while self.open.is_some() {
            match self.rng.one_in(3) {
                true => self.roll_back().await,
                false => self.commit().await,
            }
        }
    }

    fn delay(&mut self) -> String {
        match self.rng.below(4) {
            0 => format!("'{} milliseconds'", self.rng.below(100)),
            1 => "'1 microsecond'".to_string(),
            _ => "NULL".to_string(),
        }
    }

    /// The group of message n, and its headers.
    fn belongs(&self) -> (&'static str, &'static str) {
        match self.common.kind {
            Kind::Plain => ("NULL::text", "NULL::jsonb"),
            Kind::Grouped => ("nullif('g' || n % 13, 'g0')", "NULL::jsonb"),
            Kind::Fair => ("NULL::text", "jsonb_build_object('tenant', n % 7)"),
        }
    }

    async fn send(&mut self) {
        let delay = self.delay();
        let priority = *self.rng.pick(&["NULL", "NULL", "NULL", "9", "7", "3", "0"]);
        let ttl = match delay.as_str() {
            "NULL" if self.rng.one_in(10) => "'30 milliseconds'",
            _ => "NULL",
        };
        let (group, headers) = self.belongs();
        let sql = format!(
            "WITH s AS (INSERT INTO sent DEFAULT VALUES RETURNING n) \
             SELECT mq.send('q', to_jsonb(n), delay => {delay}, priority => {priority}, ttl => {ttl}, \
             group_key => {group}, headers => {headers}) FROM s"
        );
        if let Some(rows) = self.try_run(&sql).await {
            let id: i64 = rows[0][0].as_deref().unwrap().parse().unwrap();
            self.common.highest.fetch_max(id, Ordering::Relaxed);
        }
    }

    async fn send_batch(&mut self) {
        let (many, delay) = (1 + self.rng.below(30), self.delay());
        let (group, headers) = self.belongs();
        let sql = match self.rng.below(3) {
            0 => format!(
                "WITH s AS (INSERT INTO sent SELECT nextval('sent_n_seq') FROM generate_series(1, {many}) RETURNING n) \
                 INSERT INTO mq.q (body, priority, group_key, headers) \
                 SELECT to_jsonb(n), 4 + n % 3, {group}, {headers} FROM s"
            ),
            _ => format!(
                "WITH s AS (INSERT INTO sent SELECT nextval('sent_n_seq') FROM generate_series(1, {many}) RETURNING n) \
                 SELECT mq.send_batch('q', (SELECT array_agg(to_jsonb(n)) FROM s), delay => {delay}, \
                 group_keys => (SELECT array_agg({group}) FROM s), \
                 headers => (SELECT array_agg({headers}) FROM s))"
            ),
        };
        self.try_run(&sql).await;
    }

    async fn read(&mut self) {
        let many = *self.rng.pick(&[1, 1, 2, 10, 100]);
        let brief = self.rng.one_in(4);
        let lease = match brief {
            true => format!("'{} milliseconds'", 1 + self.rng.below(60)),
            false => "'1 hour'".to_string(),
        };
        let wait = if self.rng.one_in(10) {
            ", '3 milliseconds'"
        } else {
            ""
        };
        let sql = format!("SELECT id, receipt, body FROM mq.read('q', {many}, {lease}{wait})");
        let Some(rows) = self.try_run(&sql).await else {
            return;
        };
        for row in rows {
            let number = |n: usize| row[n].as_deref().unwrap().parse().unwrap();
            let held = Held {
                id: number(0),
                receipt: number(1),
                number: row[2].clone().unwrap(),
                token: self.common.tokens.fetch_add(1, Ordering::Relaxed),
                brief,
            };
            if !brief {
                let sure = self.open.is_none();
                self.common.holders.take(held.id, held.token, sure);
                if let Some(open) = &mut self.open {
                    open.taken.push(held.clone());
                }
            }
            self.held.push(held);
        }
    }

    async fn pop(&mut self) {
        let many = 1 + self.rng.below(5);
        let sql =
            format!("INSERT INTO done SELECT (body#>>'{{}}')::bigint FROM mq.pop('q', {many})");
        self.try_run(&sql).await;
    }

    /// Settles some of what it holds, by one of the verbs, one by one or together.
    async fn settle(&mut self) {
        let many = (*self.rng.pick(&[1, 1, 3, 20])).min(self.held.len());
        if many == 0 {
            return;
        }
        let at = self.rng.below((self.held.len() - many + 1) as u64) as usize;
        let some: Vec<Held> = self.held.drain(at..at + many).collect();
        let list = |part: fn(&Held) -> String| some.iter().map(part).collect::<Vec<_>>().join(",");
        let (ids, receipts) = (list(|h| h.id.to_string()), list(|h| h.receipt.to_string()));
        let rows = some
            .iter()
            .map(|h| format!("({},{})", h.id, h.number))
            .collect::<Vec<_>>()
            .join(",");
        let arrays = format!("'q', ARRAY[{ids}]::bigint[], ARRAY[{receipts}]::bigint[]");
        let for_good = |verb: &str| {
            format!(
                "INSERT INTO done SELECT DISTINCT v.n FROM mq.{verb}_batch({arrays}) AS s(id) \
                 JOIN (VALUES {rows}) v(id, n) USING (id)"
            )
        };
        let delay = self.delay();
        let sql = match self.rng.below(12) {
            0..=4 => for_good("ack"),
            5 => for_good("archive"),
            6..=7 => format!("SELECT mq.nack_batch({arrays}, delay => {delay})"),
            8..=9 => format!("SELECT mq.release_batch({arrays}, delay => {delay})"),
            10 => format!("SELECT mq.reject_batch({arrays})"),
            _ => format!("SELECT mq.extend_batch({arrays}, '20 milliseconds')"),
        };
        some.iter()
            .for_each(|h| self.common.holders.leave(h.id, h.token));
        if let Some(open) = &mut self.open {
            open.settled.extend(some);
        }
        self.try_run(&sql).await;
    }

    /// What owners and operators do, to whoever's message.
    async fn meddle(&mut self) {
        let highest = self.common.highest.load(Ordering::Relaxed).max(1);
        let id = highest - self.rng.below(highest.min(200) as u64) as i64;
        let sql = match self.rng.below(4) {
            0 => format!(
                "WITH m AS MATERIALIZED (SELECT (body#>>'{{}}')::bigint AS n FROM mq.q WHERE id = {id}) \
                 INSERT INTO done SELECT n FROM m WHERE mq.delete('q', {id})"
            ),
            1 => format!(
                "UPDATE mq.q SET priority = {} WHERE id = {id} AND state IN ('ready', 'delayed')",
                self.rng.below(10)
            ),
            2 if !self.common.calm => "SELECT mq.maintain('q')".to_string(),
            _ => format!("SELECT (mq.get('q', {id})).state"),
        };
        self.try_run(&sql).await;
    }

    async fn begin(&mut self) {
        let level = *self.rng.pick(&["READ COMMITTED", "REPEATABLE READ"]);
        let begun = self
            .try_run(&format!("BEGIN ISOLATION LEVEL {level}"))
            .await;
        self.open = begun.map(|_| Open::default());
    }

    async fn savepoint(&mut self) {
        if self.try_run("SAVEPOINT s").await.is_some()
            && let Some(open) = &mut self.open
        {
            let now = (open.taken.len(), open.settled.len());
            open.savepoints.push(now);
        }
    }

    async fn back_to_savepoint(&mut self) {
        let Some(open) = &mut self.open else { return };
        let Some(&(taken, settled)) = open.savepoints.last() else {
            return;
        };
        let (taken, settled) = (open.taken.split_off(taken), open.settled.split_off(settled));
        self.undo(taken, settled, true);
        self.try_run("ROLLBACK TO s").await;
    }

    async fn commit(&mut self) {
        let Some(open) = &self.open else { return };
        let (taken, settled) = (open.taken.clone(), open.settled.clone());
        if self.try_run("COMMIT").await.is_some() {
            self.open = None;
            for h in taken {
                if !settled.iter().any(|s| s.token == h.token) {
                    self.common.holders.confirm(h.id, h.token);
                }
            }
        }
    }

    async fn roll_back(&mut self) {
        if let Some(open) = self.open.take() {
            self.undo(open.taken, open.settled, true);
            if self.rng.one_in(2) {
                // A failure that no message is blamed for: the session will not come back to them.
                let _ = self
                    .conn
                    .cells("DO $$BEGIN RAISE SQLSTATE '40001'; END$$")
                    .await;
            }
            while self
                .conn
                .cells("ROLLBACK")
                .await
                .is_err_and(|no| no.code == "57014")
            {}
        }
    }

    /// What a prepared transaction took and settled is not this session's affair any more.
    async fn prepare(&mut self) {
        let Some(open) = &self.open else { return };
        let n = self.common.tokens.fetch_add(1, Ordering::Relaxed);
        if self.common.prepared.lock().unwrap().len() >= PREPARED {
            return;
        }
        let taken = open.taken.clone();
        for h in &taken {
            self.common.holders.leave(h.id, h.token);
        }
        let gid = format!("{}_{n}", self.common.db);
        let done = self.try_run(&format!("PREPARE TRANSACTION '{gid}'")).await;
        if done.is_some() {
            self.open = None;
            self.held
                .retain(|h| !taken.iter().any(|t| t.token == h.token));
            self.common.prepared.lock().unwrap().push(gid);
        }
    }

    async fn end_prepared(&mut self) {
        let gid = self.common.prepared.lock().unwrap().pop();
        if let Some(gid) = gid {
            let how = *self.rng.pick(&["COMMIT", "COMMIT", "ROLLBACK"]);
            // Failed or not: what is left is ended when the stress is over.
            self.try_run(&format!("{how} PREPARED '{gid}'")).await;
        }
    }
}

/// Deleting and mending wait for whoever has the message, who may be a prepared transaction: the
/// wait is bounded.
async fn connect(common: &Common, hints: bool) -> Conn {
    loop {
        let Ok(conn) = Conn::try_open(common.port, &common.db, "postgres").await else {
            continue;
        };
        let hints = if hints { "on" } else { "off" };
        if conn
            .cells(&format!(
                "SET pg_broker.hints = {hints}; SET lock_timeout = '1s'"
            ))
            .await
            .is_ok()
        {
            return conn;
        }
    }
}
