//! Random histories of several sessions, each statement done twice in one transaction: by a queue,
//! and by the reference of plain SQL. Both must hand out, refuse and show the same.
//!
//! Leases and delays are over at once or not at all, so that the clock decides nothing. `SEED`
//! repeats a failure.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::rng::{Rng, seed};
use crate::{reference, tests};
use std::collections::{BTreeMap, BTreeSet};

tests![same_as_plain_sql];

const SESSIONS: usize = 4;
const STEPS: u32 = 500;
const HISTORIES: u64 = 3;

/// What a rollback gives the session to remember.
enum Owed {
    /// A message that was handed out: one failure, unless a savepoint has counted that already.
    HandOut(i64),
    /// Failures of a message that were written.
    Written(i64, i64),
}

struct Session {
    c: Conn,
    open: bool,
    owed: Vec<Owed>,
    /// Counted as failed by a savepoint, and not handed out again since.
    blamed: BTreeSet<i64>,
    savepoints: Vec<usize>,
}

/// Failures to be written by a read.
type Blame = BTreeMap<i64, i64>;

struct Both {
    sessions: Vec<Session>,
    /// By session; all in the first one where sessions share them, because there is memory to share.
    blame: [Blame; SESSIONS],
    shares: bool,
    rng: Rng,
    /// Hand-outs, current or not: id, receipt of the queue, receipt of the reference.
    given: Vec<(i64, i64, i64)>,
    prepared: Vec<String>,
    db: String,
    log: Vec<String>,
    seed: u64,
}

impl Drop for Both {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("SEED={}\n  {}", self.seed, self.log.join("\n  "));
        }
    }
}

async fn same_as_plain_sql(cx: Cx) {
    let c = cx.connect().await;
    c.run(reference::SQL).await;
    let seed = seed();
    let shares = !c.text("SHOW shared_preload_libraries").await.is_empty();
    for n in 0..HISTORIES {
        c.run("SELECT mq.create_queue('q'); TRUNCATE ref.m").await;
        let mut both = Both {
            sessions: Vec::new(),
            blame: Default::default(),
            shares,
            rng: Rng::new(seed.wrapping_add(n)),
            given: Vec::new(),
            prepared: Vec::new(),
            db: cx.db.clone(),
            log: Vec::new(),
            seed,
        };
        for s in 0..SESSIONS {
            let session = Session {
                c: cx.connect().await,
                open: false,
                owed: Vec::new(),
                blamed: BTreeSet::new(),
                savepoints: Vec::new(),
            };
            session.c.never_wait().await;
            if s == 0 {
                session.c.run("SET pg_broker.hints = off").await;
            }
            both.sessions.push(session);
        }
        for step in 0..STEPS {
            let s = both.rng.below(SESSIONS as u64) as usize;
            both.step(s, step).await;
            both.compare(&c).await;
        }
        for s in 0..SESSIONS {
            if both.sessions[s].open {
                both.end(s, "COMMIT").await;
            }
        }
        while both.end_prepared(0).await {}
        both.compare(&c).await;
        both.hand_out(1, "read", 1000, "1 hour").await;
        drop(both);
        c.run("SELECT mq.drop_queue('q')").await;
    }
}

impl Both {
    async fn step(&mut self, s: usize, step: u32) {
        let open = self.sessions[s].open;
        let many = *self.rng.pick(&[1, 1, 2, 5, 50]);
        let soon = *self.rng.pick(&["1 microsecond", "1 hour", "1 hour"]);
        match self.rng.below(32) {
            0..=6 => self.send(s, step).await,
            7..=13 => self.hand_out(s, "read", many, soon).await,
            14 => self.hand_out(s, "pop", many.min(2), soon).await,
            15..=22 => self.settle(s).await,
            23 if !open => self.begin(s).await,
            24 if open => self.savepoint(s).await,
            25 if open => self.back_to_savepoint(s).await,
            26 | 27 if open => self.end(s, "COMMIT").await,
            28 if open => self.end(s, "ROLLBACK").await,
            29 if open => self.prepare(s).await,
            30 if !open => {
                self.end_prepared(s).await;
            }
            31 if self.rng.one_in(20) => {
                let one = self.text(s, "SELECT mq.purge_queue('q')".into()).await;
                let other = self.text(s, "SELECT ref.purge()".into()).await;
                assert_eq!(one, other, "purged");
            }
            _ => {}
        }
    }

    async fn rows(&mut self, s: usize, sql: String) -> Vec<Vec<Option<String>>> {
        self.log.push(format!("{s}: {sql}"));
        self.sessions[s].c.rows(&sql).await
    }

    async fn text(&mut self, s: usize, sql: String) -> String {
        self.log.push(format!("{s}: {sql}"));
        self.sessions[s].c.text(&sql).await
    }

    async fn send(&mut self, s: usize, step: u32) {
        let priority = *self.rng.pick(&["NULL", "NULL", "9", "5", "0"]);
        let delay = *self
            .rng
            .pick(&["NULL", "NULL", "'1 hour'", "'1 microsecond'"]);
        if self.rng.one_in(4) {
            let sql = format!(
                "SELECT ref.send(id, {priority}, {delay}, NULL, {step}) FROM mq.send_batch('q', \
                 array_fill('{step}'::jsonb, ARRAY[{}]), priority => {priority}, delay => {delay}) id",
                1 + step % 40
            );
            self.rows(s, sql).await;
            return;
        }
        let sql = format!(
            "SELECT ref.send(id, {priority}, {delay}, NULL, {step}) FROM mq.send('q', '{step}', \
             priority => {priority}, delay => {delay}) id"
        );
        self.rows(s, sql).await;
    }

    async fn hand_out(&mut self, s: usize, verb: &str, many: u32, lease: &str) {
        let mut blame = std::mem::take(self.blame(s));
        let lease = match verb {
            "read" => format!(", '{lease}'"),
            _ => String::new(),
        };
        // Half of the reads want a third of the messages.
        let (filter, rest) = match self.rng.below(6) {
            n @ 0..3 => (
                format!(", filter => '$.body % 3 == {n}'"),
                format!(", filter => {n}"),
            ),
            _ => (String::new(), String::new()),
        };
        let columns = "SELECT id, coalesce(receipt, 0), attempts, failures FROM";
        let one = self
            .rows(
                s,
                format!("{columns} mq.{verb}('q', {many}{lease}{filter})"),
            )
            .await;
        let mut held = Vec::new();
        for (&id, &n) in &blame {
            let later = self.rows(s, format!("SELECT ref.blame({id}, {n})")).await;
            if later[0][0].as_deref() == Some("t") {
                held.push((id, n));
            }
        }
        for (id, n) in held {
            blame.remove(&id);
            *self.blame(s).entry(id).or_default() += n;
        }
        let other = self
            .rows(s, format!("{columns} ref.{verb}({many}{lease}{rest})"))
            .await;
        let number = |cell: &Option<String>| cell.as_deref().unwrap().parse::<i64>().unwrap();
        let all = |rows: &[Vec<Option<String>>]| -> Vec<Vec<i64>> {
            let part = |row: &Vec<Option<String>>| [0, 2, 3].map(|n| number(&row[n])).to_vec();
            rows.iter().map(part).collect()
        };
        assert_eq!(all(&one), all(&other), "{verb}: id, attempts, failures");
        for (a, b) in one.iter().zip(&other) {
            if verb == "read" {
                self.given
                    .push((number(&a[0]), number(&a[1]), number(&b[1])));
            }
        }
        let session = &mut self.sessions[s];
        if session.open {
            let written = blame.into_iter().map(|(id, n)| Owed::Written(id, n));
            session.owed.extend(written);
            for id in one.iter().map(|row| number(&row[0])) {
                session.blamed.remove(&id);
                session.owed.push(Owed::HandOut(id));
            }
        }
    }

    async fn settle(&mut self, s: usize) {
        let recent = self.given.len().min(40);
        if recent == 0 {
            return;
        }
        let at = self.given.len() - 1 - self.rng.below(recent as u64) as usize;
        let (id, mut one, mut other) = {
            let (id, a, b) = self.given[at];
            (id, a.to_string(), b.to_string())
        };
        if self.rng.one_in(5) {
            (one, other) = ("NULL".into(), "NULL".into());
        }
        let verb = *self.rng.pick(&[
            "ack", "ack", "archive", "reject", "nack", "nack", "release", "extend",
        ]);
        let delay = *self.rng.pick(&["NULL", "'1 microsecond'", "'1 hour'"]);
        let more = match verb {
            "nack" | "release" => format!(", delay => {delay}"),
            "extend" => format!(", visibility => {delay}::interval"),
            _ => String::new(),
        };
        let is = if verb == "extend" { " IS NOT NULL" } else { "" };
        let mine = self
            .text(s, format!("SELECT mq.{verb}('q', {id}, {one}{more}){is}"))
            .await;
        let theirs = self
            .text(
                s,
                format!("SELECT ref.settle('{verb}', {id}, {other}, {delay})"),
            )
            .await;
        assert_eq!(mine, theirs, "{verb} of {id}");
    }

    async fn begin(&mut self, s: usize) {
        self.rows(s, "BEGIN".into()).await;
        self.sessions[s].open = true;
    }

    async fn savepoint(&mut self, s: usize) {
        self.rows(s, "SAVEPOINT a".into()).await;
        let session = &mut self.sessions[s];
        session.savepoints.push(session.owed.len());
    }

    async fn back_to_savepoint(&mut self, s: usize) {
        if let Some(&mark) = self.sessions[s].savepoints.last() {
            self.rows(s, "ROLLBACK TO a".into()).await;
            self.undo(s, mark);
        }
    }

    async fn end(&mut self, s: usize, how: &str) {
        self.rows(s, how.into()).await;
        if how == "ROLLBACK" {
            self.undo(s, 0);
        }
        self.sessions[s].close();
    }

    async fn prepare(&mut self, s: usize) {
        if self.prepared.len() < 4 {
            let gid = format!("'{}_{}'", self.db, self.log.len());
            self.rows(s, format!("PREPARE TRANSACTION {gid}")).await;
            self.prepared.push(gid);
            self.sessions[s].close();
        }
    }

    async fn end_prepared(&mut self, s: usize) -> bool {
        let Some(gid) = self.prepared.pop() else {
            return false;
        };
        let how = *self.rng.pick(&["COMMIT", "ROLLBACK"]);
        self.rows(s, format!("{how} PREPARED {gid}")).await;
        true
    }

    /// The failures that this session's next read writes.
    fn blame(&mut self, s: usize) -> &mut Blame {
        &mut self.blame[if self.shares { 0 } else { s }]
    }

    fn undo(&mut self, s: usize, mark: usize) {
        for owed in self.sessions[s].owed.split_off(mark) {
            let (id, n) = match owed {
                Owed::Written(id, n) => (id, n),
                Owed::HandOut(id) => (id, i64::from(self.sessions[s].blamed.insert(id))),
            };
            if n > 0 {
                *self.blame(s).entry(id).or_default() += n;
            }
        }
    }

    async fn compare(&self, c: &Conn) {
        let list = "SELECT string_agg(concat_ws(' ', id, priority, attempts, failures, state), ', ' ORDER BY id) FROM";
        let one = c.text(&format!("{list} mq.q")).await;
        let other = c.text(&format!("{list} ref.q")).await;
        assert_eq!(one, other, "what an onlooker sees");
    }
}

impl Session {
    fn close(&mut self) {
        self.open = false;
        self.owed.clear();
        self.blamed.clear();
        self.savepoints.clear();
    }
}
