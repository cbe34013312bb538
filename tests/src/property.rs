//! Random histories against the model. `SEED=n` repeats a failure; the statements are printed.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::message::Place;
use crate::model::Model;
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
pub struct History {
    pub queue: String,
    pub sessions: Vec<Conn>,
    pub onlooker: Conn,
    pub model: Model,
    pub rng: Rng,
    /// Sessions in a transaction with an old snapshot, whose browsing is not compared.
    pub old_snapshot: Vec<bool>,
    pub has_read: Vec<bool>,
    pub log: Vec<String>,
    pub seed: u64,
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
    pub async fn say(&mut self, s: usize, sql: String) -> Vec<Vec<Option<String>>> {
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
    pub async fn count_rolled_back(&mut self, s: usize) -> bool {
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
            let sure = !self.model.unsure.contains(id);
            let ended = i64::from(m.place == Place::Ended);
            if let Some(failures) = m.failures.filter(|_| sure) {
                assert_eq!(
                    row[7],
                    Some((failures + ended).to_string()),
                    "failures of {id}, seen by {by:?}"
                );
            }
            if sure && m.error_known && m.failures.is_some() && ended == 0 {
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
