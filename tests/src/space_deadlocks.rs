//! Sessions that go over two queues in opposite orders, in one transaction each, while both queues
//! rotate: none deadlocks, none waits for long, nothing is lost or had twice.
//!
//! Each settles only what it has in hand, and readers pass over what others are at: so no message's
//! row is a reason to wait for one another, and whoever does waits for the rotation.

use crate::conn::{Conn, Hand};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::space::{self, LEAST, Moves, Upkeep, list, nothing_waits};
use crate::tests;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

tests![with_a_worker, with_calls, with_readers_alone];

const QUEUES: [&str; 2] = ["a", "b"];
const WORK: Duration = Duration::from_secs(6);
/// A session has at most about so many messages of a queue in hand, the oldest of them for long.
const HANDS: usize = 24;

/// What transactions that committed have sent to a queue, and what they have done away with.
#[derive(Default)]
struct Book {
    sent: HashSet<i64>,
    done: HashSet<i64>,
}

/// What a session knows of a queue.
#[derive(Clone, Default)]
struct Side {
    hands: Vec<Hand>,
    sent: Vec<i64>,
    done: Vec<i64>,
}

struct Session {
    c: Conn,
    rng: Rng,
    books: Arc<[Mutex<Book>; 2]>,
    sides: [Side; 2],
    /// The queue that it begins with.
    first: usize,
}

impl Session {
    async fn transaction(&mut self) {
        let before = self.sides.clone();
        self.c.run("BEGIN").await;
        for n in [self.first, 1 - self.first] {
            for _ in 0..3 {
                self.deed(n).await;
            }
        }
        if self.rng.one_in(6) {
            self.c.run("ROLLBACK").await;
            self.sides = before;
            return;
        }
        self.c.run("COMMIT").await;
        for (book, side) in self.books.iter().zip(&mut self.sides) {
            let mut book = book.lock().unwrap();
            book.sent.extend(side.sent.drain(..));
            for id in side.done.drain(..) {
                assert!(book.done.insert(id), "{id} was had twice");
            }
        }
    }

    async fn deed(&mut self, n: usize) {
        let (c, queue, side) = (&self.c, QUEUES[n], &mut self.sides[n]);
        let many = 1 + self.rng.below(16);
        match self.rng.below(6) {
            _ if side.hands.len() > HANDS => ack(c, queue, side, HANDS / 2).await,
            0 | 1 => {
                let delay = *self.rng.pick(&["", "", ", delay => '300 ms'"]);
                let call = format!(
                    "SELECT mq.send_batch('{queue}', (SELECT array_agg('1'::jsonb) FROM generate_series(1, {many})){delay})"
                );
                side.sent.extend(c.ints(&call).await);
            }
            2 => {
                let hands = c.hands(&format!("'{queue}', 24, '1 hour'")).await;
                side.hands.extend(hands);
            }
            3 => {
                let popped = c.try_hands("pop", &format!("'{queue}', 24")).await;
                let popped = popped.unwrap_or_else(|no| panic!("pop: {no:?}"));
                side.done.extend(popped.iter().map(|hand| hand.id));
            }
            4 => {
                let from = self.rng.below(side.hands.len() as u64 + 1) as usize;
                batch(c, "extend", queue, &side.hands[from..]).await;
                ack(c, queue, side, from).await;
            }
            _ => {
                // The oldest, which may be parked, or on its way there.
                if !side.hands.is_empty() {
                    let hand = side.hands.remove(0);
                    let verb = *self.rng.pick(&["nack", "release"]);
                    assert!(c.settle(verb, queue, &hand).await, "{verb}: {hand:?}");
                }
            }
        }
    }
}

/// Acks what a session has in hand, but for the oldest.
async fn ack(c: &Conn, queue: &str, side: &mut Side, keep: usize) {
    let hands = side.hands.split_off(keep);
    batch(c, "ack", queue, &hands).await;
    side.done.extend(hands.iter().map(|hand| hand.id));
}

/// Does something to all of these messages, which are the session's.
async fn batch(c: &Conn, verb: &str, queue: &str, hands: &[Hand]) {
    let of = |part: fn(&Hand) -> i64| list(&hands.iter().map(part).collect::<Vec<_>>());
    let (ids, receipts) = (of(|hand| hand.id), of(|hand| hand.receipt));
    let call = format!("SELECT mq.{verb}_batch('{queue}', {ids}, {receipts})");
    let settled: HashSet<i64> = c.ints(&call).await.into_iter().collect();
    let mine: HashSet<i64> = hands.iter().map(|hand| hand.id).collect();
    assert_eq!(settled, mine, "{verb} of {hands:?}");
}

async fn with_a_worker(cx: Cx) {
    opposite(space::working(&cx).await, Upkeep::Worker).await;
}

async fn with_calls(cx: Cx) {
    opposite(space::quiet(&cx).await, Upkeep::Calls).await;
}

async fn with_readers_alone(cx: Cx) {
    opposite(space::quiet(&cx).await, Upkeep::Readers).await;
}

async fn opposite(cx: Cx, upkeep: Upkeep) {
    let c = cx.connect().await;
    for queue in QUEUES {
        space::create(&c, queue, LEAST, "").await;
    }
    let (books, over) = (
        Arc::<[Mutex<Book>; 2]>::default(),
        Arc::new(AtomicBool::new(false)),
    );
    let mut tasks = Vec::new();
    for n in 0..4 {
        let (c, rng) = (cx.connect().await, Rng::new(seed() + n as u64));
        // Nobody waits for so long, and whoever waits for one another is told soon.
        c.run("SET statement_timeout = '2s'; SET deadlock_timeout = '50ms'")
            .await;
        let mut session = Session {
            c,
            rng,
            books: books.clone(),
            sides: Default::default(),
            first: n % 2,
        };
        let over = over.clone();
        tasks.push(spawn(async move {
            while !over.load(Ordering::SeqCst) {
                session.transaction().await;
            }
            session
        }));
    }
    let began = Instant::now();
    let mut moves: [Moves; 2] = Default::default();
    while began.elapsed() < WORK && !tasks.iter().any(|task| task.is_finished()) {
        for (queue, moves) in QUEUES.into_iter().zip(&mut moves) {
            moves.look(&c, queue).await;
        }
        if upkeep == Upkeep::Calls {
            c.run("BEGIN; SELECT mq.maintain('b'), mq.maintain('a'); COMMIT")
                .await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        let mut session = task.await.expect("a session");
        for (n, queue) in QUEUES.into_iter().enumerate() {
            let hands = std::mem::take(&mut session.sides[n].hands);
            batch(&session.c, "ack", queue, &hands).await;
            let mut book = books[n].lock().unwrap();
            book.done.extend(hands.iter().map(|hand| hand.id));
        }
    }
    for (queue, book) in QUEUES.into_iter().zip(books.iter()) {
        drained(&c, queue, book).await;
        let parts = space::segments(&c, queue).await;
        let newest = parts.iter().filter_map(|part| part.first).max();
        assert!(newest > Some(10 * LEAST as i64), "{parts:#?}");
        let what = "all used ranges truncated";
        space::until(&c, queue, upkeep, what, nothing_waits).await;
    }
    let parked: usize = moves.iter().map(|moves| moves.moved.len()).sum();
    println!("      two queues: {parked} seen parked");
    assert!(parked > 10, "only {parked} were parked");
}

/// Takes what is left, and compares what was sent with what was done away with.
async fn drained(c: &Conn, queue: &str, book: &Mutex<Book>) {
    let patience = crate::conn::Patience::new("an empty queue");
    let left = format!("SELECT count(*) FROM mq.{queue}");
    while c.int(&left).await > 0 {
        let popped = c.try_hands("pop", &format!("'{queue}', 100")).await;
        for hand in popped.expect("a pop") {
            let is_new = book.lock().unwrap().done.insert(hand.id);
            assert!(is_new, "{hand:?} was had before");
        }
        patience.wait().await;
    }
    let book = book.lock().unwrap();
    let lost: Vec<_> = book.sent.difference(&book.done).collect();
    let foreign: Vec<_> = book.done.difference(&book.sent).collect();
    assert!(
        lost.is_empty() && foreign.is_empty(),
        "lost {lost:?}, never sent {foreign:?}"
    );
}
