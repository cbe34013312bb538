//! Messages are moved under the hands of those who read, ack, nack, release and extend them: none
//! is lost, none is had by two, no old receipt settles anything, and their order stays.

use crate::conn::{Conn, Hand};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::space::{self, LEAST, Moves, Upkeep};
use crate::tests;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

tests![
    with_a_worker,
    with_calls,
    without_hints,
    in_order_for_one_reader,
    transactions_that_pop,
    moved_twice,
];

const WORK: Duration = Duration::from_secs(8);

/// What all know of all messages, by id.
#[derive(Default)]
struct Book {
    sent: Mutex<HashSet<i64>>,
    acked: Mutex<HashSet<i64>>,
    /// Who is handed a message enters, who gives it back leaves before they say so.
    held: Mutex<HashMap<i64, u64>>,
    over: AtomicBool,
}

impl Book {
    fn take(&self, hand: &Hand, by: u64) {
        let other = self.held.lock().unwrap().insert(hand.id, by);
        assert!(
            other.is_none(),
            "{by} has {hand:?}, and {other:?} has it, too"
        );
        let acked = self.acked.lock().unwrap().contains(&hand.id);
        assert!(!acked, "{hand:?} was acked before");
    }

    fn leave(&self, hand: &Hand) {
        self.held.lock().unwrap().remove(&hand.id);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Sends one, or some at once, of every priority, now and then for later.
async fn send(c: Conn, book: Arc<Book>, seed: u64) {
    let mut rng = Rng::new(seed);
    while !book.is_over() {
        let priority = rng.below(3) + 3;
        let delay = *rng.pick(&["", "", "", ", delay => '5 ms'", ", delay => '400 ms'"]);
        let many = 1 + rng.below(16);
        let call = format!(
            "SELECT mq.send_batch('q', (SELECT array_agg('1'::jsonb) FROM generate_series(1, {many})), priority => {priority}{delay})"
        );
        let ids = if rng.one_in(6) {
            c.run(&format!("BEGIN; {call}")).await;
            c.run("ROLLBACK").await;
            continue;
        } else {
            c.ints(&call).await
        };
        book.sent.lock().unwrap().extend(ids);
    }
}

/// One reader with some messages in hand and the receipts of what it had before.
struct Reader {
    c: Conn,
    book: Arc<Book>,
    me: u64,
    rng: Rng,
    hands: Vec<Hand>,
    old: Vec<Hand>,
}

impl Reader {
    async fn step(&mut self) {
        if self.hands.len() < 40 {
            let many = 1 + self.rng.below(12);
            for hand in self.c.hands(&format!("'q', {many}, '1 hour'")).await {
                self.book.take(&hand, self.me);
                self.hands.push(hand);
            }
        }
        if self.hands.is_empty() {
            return;
        }
        let at = self.rng.below(self.hands.len() as u64) as usize;
        match self.rng.below(10) {
            0 => self.extend(at).await,
            1..=2 => self.give_back(at).await,
            3 => self.nothing_by_old_receipts().await,
            // Most are done soon after they have come, so that old ones are few.
            _ => {
                let most = self
                    .hands
                    .len()
                    .saturating_sub(self.rng.below(6) as usize + 1);
                self.ack(most).await;
                self.ack_some().await;
            }
        }
    }

    async fn ack(&mut self, at: usize) {
        let hand = self.hands.remove(at);
        self.book.leave(&hand);
        self.book.acked.lock().unwrap().insert(hand.id);
        assert!(self.c.settle("ack", "q", &hand).await, "{hand:?} is mine");
        self.old.push(hand);
    }

    /// A batch, of which some are not this reader's any more.
    async fn ack_some(&mut self) {
        let from = self.hands.len().saturating_sub(5);
        let mine = self.hands.split_off(from);
        let gone = self.old.iter().rev().take(2);
        let all: Vec<&Hand> = mine.iter().chain(gone).collect();
        if all.is_empty() {
            return;
        }
        for hand in &mine {
            self.book.leave(hand);
            self.book.acked.lock().unwrap().insert(hand.id);
        }
        let list = |of: fn(&Hand) -> i64| {
            let texts: Vec<String> = all.iter().map(|hand| of(hand).to_string()).collect();
            texts.join(", ")
        };
        let (ids, receipts) = (list(|hand| hand.id), list(|hand| hand.receipt));
        let call = format!(
            "SELECT mq.ack_batch('q', ARRAY[{ids}]::bigint[], ARRAY[{receipts}]::bigint[])"
        );
        let wanted: Vec<i64> = mine.iter().map(|hand| hand.id).collect();
        assert_eq!(self.c.ints(&call).await, wanted, "of {all:?}");
        self.old.extend(mine);
    }

    async fn extend(&mut self, at: usize) {
        let hand = &self.hands[at];
        let call = format!(
            "SELECT mq.extend('q', {}, {}, '2 hours') IS NOT NULL",
            hand.id, hand.receipt
        );
        assert!(self.c.yes(&call).await, "{hand:?} is mine");
    }

    async fn give_back(&mut self, at: usize) {
        let hand = self.hands.remove(at);
        let delay = *self.rng.pick(&["0", "3 ms", "300 ms", "1500 ms"]);
        let verb = *self.rng.pick(&["nack", "release"]);
        self.book.leave(&hand);
        let (id, receipt) = (hand.id, hand.receipt);
        let call = format!("SELECT mq.{verb}('q', {id}, {receipt}, delay => '{delay}')");
        assert!(self.c.yes(&call).await, "{verb}: {hand:?} is mine");
        self.old.push(hand);
    }

    async fn nothing_by_old_receipts(&mut self) {
        for hand in self.old.iter().rev().take(3) {
            let verb = *self
                .rng
                .pick(&["ack", "nack", "release", "archive", "extend", "reject"]);
            let settled = self.c.settle(verb, "q", hand).await;
            assert!(!settled, "{verb} by the old receipt of {hand:?}");
        }
    }

    async fn rest(&mut self) {
        while !self.hands.is_empty() {
            self.ack(0).await;
        }
    }
}

/// Looks where messages lie, again and again; returns how many were seen in a segment first and in
/// a parked table then.
async fn watch(c: Conn, book: Arc<Book>, upkeep: Upkeep) -> usize {
    let mut moves = Moves::default();
    while !book.is_over() {
        moves.look(&c, "q").await;
        for _ in 0..5 {
            upkeep.step(&c, "q").await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    moves.moved.len()
}

async fn under_load(cx: Cx, upkeep: Upkeep, hints: &str) {
    let seed = seed();
    println!("      parking: SEED={seed}");
    let c = cx.connect().await;
    let settings = format!("ALTER DATABASE {} SET pg_broker.hints = {hints}", cx.db);
    c.run(&settings).await;
    space::create(&c, "q", LEAST, "").await;
    let book = Arc::new(Book::default());
    let mut tasks = Vec::new();
    for n in 0..2 {
        tasks.push(spawn(send(cx.connect().await, book.clone(), seed + n)));
    }
    for n in 0..4 {
        let c = cx.connect().await;
        let (book, rng) = (book.clone(), Rng::new(seed + 10 + n));
        tasks.push(spawn(async move {
            let (hands, old) = (Vec::new(), Vec::new());
            let mut reader = Reader {
                c,
                book,
                me: n,
                rng,
                hands,
                old,
            };
            while !reader.book.is_over() {
                reader.step().await;
            }
            reader.rest().await;
        }));
    }
    let watcher = spawn(watch(cx.connect().await, book.clone(), upkeep));
    let began = Instant::now();
    while began.elapsed() < WORK && !tasks.iter().any(|task| task.is_finished()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    book.over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("a client");
    }
    let moved = watcher.await.expect("the watcher");
    drained(&c, &book).await;
    let sent = book.sent.lock().unwrap().len();
    println!("      parking: {sent} messages, {moved} seen moved");
    assert!(sent > 20 * LEAST as usize, "only {sent} were sent");
    assert!(moved > 10, "only {moved} were moved");
    space::all_truncated(&c, "q", upkeep).await;
}

/// Takes what is left, and compares what was sent with what was acked.
async fn drained(c: &Conn, book: &Book) {
    let patience = crate::conn::Patience::new("an empty queue");
    while c.int("SELECT count(*) FROM mq.q").await > 0 {
        for hand in c.hands("'q', 100, '1 hour'").await {
            book.take(&hand, 99);
            assert!(c.settle("ack", "q", &hand).await);
            book.acked.lock().unwrap().insert(hand.id);
        }
        patience.wait().await;
    }
    let (sent, acked) = (book.sent.lock().unwrap(), book.acked.lock().unwrap());
    let lost: Vec<_> = sent.difference(&acked).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let foreign: Vec<_> = acked.difference(&sent).collect();
    assert!(foreign.is_empty(), "never sent: {foreign:?}");
}

async fn with_a_worker(cx: Cx) {
    under_load(space::working(&cx).await, Upkeep::Worker, "on").await;
}

async fn with_calls(cx: Cx) {
    under_load(space::quiet(&cx).await, Upkeep::Calls, "on").await;
}

async fn without_hints(cx: Cx) {
    under_load(space::working(&cx).await, Upkeep::Worker, "off").await;
}

/// One sender, one reader, one priority: the first hand-outs rise, whatever is given back, kept and
/// moved in between.
async fn in_order_for_one_reader(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let (book, sender) = (Arc::new(Book::default()), cx.connect().await);
    let sending = {
        let book = book.clone();
        spawn(async move {
            for _ in 0..400 {
                let call = "SELECT mq.send_batch('q', (SELECT array_agg('1'::jsonb) FROM generate_series(1, 8)))";
                let ids = sender.ints(call).await;
                book.sent.lock().unwrap().extend(ids);
            }
            book.over.store(true, Ordering::SeqCst);
        })
    };
    let (mut rng, mut last, mut kept) = (Rng::new(seed()), 0, Vec::new());
    while !(book.is_over() && c.int("SELECT count(*) FROM mq.q WHERE attempts = 0").await == 0) {
        let hands = c
            .hands(&format!("'q', {}, '1 hour'", 1 + rng.below(20)))
            .await;
        for hand in hands {
            if hand.attempts == 1 {
                assert!(hand.id > last, "{} after {last}", hand.id);
                last = hand.id;
            }
            match rng.below(30) {
                0 => kept.push(hand),
                1 => assert!(c.settle("release", "q", &hand).await),
                2 => {
                    let call = format!(
                        "SELECT mq.nack('q', {}, {}, '20 ms')",
                        hand.id, hand.receipt
                    );
                    assert!(c.yes(&call).await);
                }
                _ => {
                    assert!(c.settle("ack", "q", &hand).await);
                    book.acked.lock().unwrap().insert(hand.id);
                }
            }
        }
    }
    sending.await.unwrap();
    for hand in &kept {
        assert!(c.settle("release", "q", hand).await, "{hand:?}");
    }
    drained(&c, &book).await;
}

/// The work and the pop commit together, or neither, though the message is moved before and after.
async fn transactions_that_pop(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    c.run("CREATE TABLE sent (n bigint PRIMARY KEY); CREATE TABLE done (n bigint PRIMARY KEY)")
        .await;
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..2_u64 {
        let (c, over) = (cx.connect().await, over.clone());
        tasks.push(spawn(async move {
            for i in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let key = 2 * i + n;
                let delay = if i % 20 == 0 { ", delay => '700 ms'" } else { "" };
                c.run(&format!("BEGIN; INSERT INTO sent VALUES ({key}); SELECT mq.send('q', '{key}'{delay}); COMMIT")).await;
            }
        }));
    }
    for n in 0..3_u64 {
        let (c, over) = (cx.connect().await, over.clone());
        tasks.push(spawn(async move {
            let mut rng = Rng::new(n);
            while !over.load(Ordering::SeqCst) {
                c.run("BEGIN").await;
                c.run("INSERT INTO done SELECT (body #>> '{}')::bigint FROM mq.pop('q', 5)")
                    .await;
                c.run(if rng.one_in(5) { "ROLLBACK" } else { "COMMIT" })
                    .await;
            }
        }));
    }
    c.until(&format!("SELECT count(*) > {} FROM sent", 30 * LEAST))
        .await;
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("a client");
    }
    c.until(
        "WITH got AS (INSERT INTO done SELECT (body #>> '{}')::bigint FROM mq.pop('q', 500) RETURNING 1) \
         SELECT (SELECT count(*) FROM got) = 0 AND (SELECT count(*) FROM mq.q) = 0",
    )
    .await;
    let differ =
        "SELECT count(*) FROM sent FULL JOIN done USING (n) WHERE sent.n IS NULL OR done.n IS NULL";
    assert_eq!(c.int(differ).await, 0);
    space::all_truncated(&c, "q", Upkeep::Worker).await;
}

/// The parked tables are emptied into each other: a message that stays long enough is moved again
/// and again, and a hand-out of before is still the current one.
async fn moved_twice(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = crate::traffic::Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    traffic.turns(2).await;
    let id = c.send("q", "\"stays\"").await;
    let hand = c.hand("'q', 1, '1 hour'").await;
    assert_eq!(hand.id, id);
    let mut been = HashSet::new();
    let patience = crate::conn::Patience::new("a message moved twice");
    while been.len() < 3 {
        // Others that are parked for a while make the parked table worth emptying, and go again.
        c.run("SELECT mq.send('q', to_jsonb(repeat('x', 1800)), delay => '1 hour') FROM generate_series(1, 10)")
            .await;
        traffic.turns(1).await;
        c.run(
            "SELECT mq.delete('q', id) FROM mq.q WHERE state = 'delayed' AND id < \
               (SELECT max(id) - 300 FROM mq.q)",
        )
        .await;
        been.insert(space::places(&c, "q").await[&id].clone());
        if patience.is_over() {
            panic!("{been:?}: {:#?}", space::parts(&c, "q").await);
        }
        let extend = format!(
            "SELECT mq.extend('q', {id}, {}, '1 hour') IS NOT NULL",
            hand.receipt
        );
        assert!(c.yes(&extend).await, "{been:?}");
        patience.wait().await;
    }
    assert!(
        !c.yes(&format!("SELECT mq.ack('q', {id}, {})", hand.receipt + 1))
            .await
    );
    assert!(c.settle("release", "q", &hand).await);
    assert!(!c.settle("ack", "q", &hand).await, "{been:?}");
    let again = c.hand("'q', 1, '1 hour'").await;
    assert_eq!((again.id, again.attempts), (id, 2));
    assert!(c.settle("ack", "q", &again).await);
    c.run("SELECT mq.delete('q', id) FROM mq.q").await;
    traffic.finish().await;
    space::all_truncated(&c, "q", Upkeep::Calls).await;
}
