//! A client that sends, reads and acks batch by batch, keeps account of it, and notices how often
//! the queue has begun a new range meanwhile.

use crate::conn::{Conn, Patience};
use crate::space::{self, Upkeep};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a queue under traffic may take to begin one new range.
const TURN: Duration = Duration::from_secs(20);

pub struct Traffic {
    pub c: Conn,
    queue: String,
    upkeep: Upkeep,
    /// Messages a batch.
    pub batch: u64,
    /// Bytes that each message carries for nothing.
    pub weight: usize,
    pub sent: HashSet<i64>,
    pub acked: HashSet<i64>,
    /// The largest size of the queue that was seen, and the largest of one segment.
    pub most: i64,
    pub largest: i64,
    /// Names of the segment tables that were seen in use.
    pub used: HashSet<String>,
}

impl Traffic {
    /// Nobody makes this client wait: a statement that takes two seconds fails the test.
    pub async fn new(c: Conn, queue: &str, upkeep: Upkeep) -> Traffic {
        c.run("SET statement_timeout = '2s'").await;
        Traffic {
            c,
            queue: queue.into(),
            upkeep,
            batch: 32,
            weight: 0,
            sent: HashSet::new(),
            acked: HashSet::new(),
            most: 0,
            largest: 0,
            used: HashSet::new(),
        }
    }

    /// Sends a batch and takes as many as it sent.
    pub async fn step(&mut self) {
        let sent = self.send(self.batch).await;
        self.sent.extend(sent);
        self.take().await;
        self.upkeep.step(&self.c, &self.queue).await;
    }

    pub async fn send(&self, many: u64) -> Vec<i64> {
        let (queue, weight) = (&self.queue, self.weight);
        self.c
            .ints(&format!(
                "SELECT mq.send_batch('{queue}', (SELECT array_agg(jsonb_build_object('n', n, \
                 'weight', repeat('x', {weight}))) FROM generate_series(1, {many}) n))"
            ))
            .await
    }

    /// Reads and acks one batch; returns how many that were.
    pub async fn take(&mut self) -> usize {
        let (queue, batch) = (&self.queue, self.batch);
        let hands = self.c.hands(&format!("'{queue}', {batch}, '10 min'")).await;
        if hands.is_empty() {
            return 0;
        }
        let list = |values: Vec<i64>| {
            let texts: Vec<String> = values.iter().map(i64::to_string).collect();
            texts.join(", ")
        };
        let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
        let receipts = list(hands.iter().map(|hand| hand.receipt).collect());
        let ack = format!(
            "SELECT mq.ack_batch('{queue}', ARRAY[{}], ARRAY[{receipts}])",
            list(ids.clone())
        );
        assert_eq!(self.c.ints(&ack).await, ids, "not all acked");
        for id in ids {
            assert!(self.acked.insert(id), "{id} was handed out again");
        }
        hands.len()
    }

    /// Goes on until the queue has begun so many new ranges.
    pub async fn turns(&mut self, many: usize) {
        for turn in 0..many {
            let (began, before) = (Instant::now(), self.look().await);
            while self.look().await <= before {
                if began.elapsed() > TURN {
                    let parts = space::parts(&self.c, &self.queue).await;
                    panic!(
                        "no new range after {turn} turns, {} sent: {parts:#?}",
                        self.sent.len()
                    );
                }
                self.step().await;
            }
        }
    }

    /// Where the newest range begins.
    async fn look(&mut self) -> i64 {
        let segments = space::segments(&self.c, &self.queue).await;
        self.most = self.most.max(space::bytes(&self.c, &self.queue).await);
        let largest = segments.iter().map(|part| part.bytes).max().unwrap_or(0);
        self.largest = self.largest.max(largest);
        let busy = segments.into_iter().filter(|part| part.state != "free");
        let mut newest = 0;
        for part in busy {
            newest = newest.max(part.first.unwrap_or(0));
            self.used.insert(part.storage);
        }
        newest
    }

    /// Takes what is ready until nothing is left, and expects that everything was had once.
    pub async fn finish(&mut self) {
        self.drain().await;
        let left = format!("SELECT count(*) FROM mq.{}", self.queue);
        assert_eq!(self.c.int(&left).await, 0, "cannot be had");
    }

    /// The same with messages that others sent.
    pub async fn finish_with(&mut self, ids: &[i64]) {
        self.sent.extend(ids);
        self.finish().await;
    }

    /// Takes these, while others of the queue are in somebody's hands.
    pub async fn finish_of(&mut self, ids: &[i64]) {
        self.sent.extend(ids);
        self.drain().await;
    }

    /// Takes everything that this client sent.
    pub async fn drain(&mut self) {
        let patience = Patience::new("all that was sent");
        while self.take().await > 0 || !self.sent.is_subset(&self.acked) {
            if patience.is_over() {
                let mut lost: Vec<&i64> = self.sent.difference(&self.acked).collect();
                lost.sort();
                let places = space::places(&self.c, &self.queue).await;
                panic!("never handed out: {lost:?}; there are {places:?}");
            }
            patience.wait().await;
        }
        let mut foreign: Vec<&i64> = self.acked.difference(&self.sent).collect();
        foreign.sort();
        assert!(foreign.is_empty(), "never sent: {foreign:?}");
    }
}
