//! Several readers of one queue: no message is in two hands at a time, in order, without waiting.

use crate::conn::{BOUND, Conn};
use crate::harness::{Cx, spawn};
use crate::rng::Rng;
use crate::tests;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

tests![
    many_producers_and_consumers,
    two_readers_share_nothing,
    rolled_back_read_returns_at_once,
    order_is_priority_then_id,
    a_lease_ends,
    late_ack_of_an_ended_lease,
    nobody_waits_for_an_open_transaction,
    uncommitted_send_is_nobodys,
    browsing_locks_nothing,
];

#[derive(Default)]
struct Floor {
    committed: Mutex<HashSet<i64>>,
    rolled_back: Mutex<HashSet<i64>>,
    handed: Mutex<HashMap<i64, Vec<i64>>>,
    acked: Mutex<HashSet<i64>>,
    producing: AtomicBool,
}

async fn produce(cx: Cx, floor: Arc<Floor>, seed: u64, sends: usize) {
    let conn = cx.connect().await;
    let mut rng = Rng::new(seed);
    let mut left = sends;
    while left > 0 {
        let some = left.min(1 + rng.below(6) as usize);
        left -= some;
        conn.run("BEGIN").await;
        let mut ids = Vec::new();
        for _ in 0..some {
            ids.push(conn.send("work", "{\"n\": 1}").await);
        }
        if rng.one_in(5) {
            conn.run("ROLLBACK").await;
            floor.rolled_back.lock().unwrap().extend(ids);
        } else {
            conn.run("COMMIT").await;
            floor.committed.lock().unwrap().extend(ids);
        }
    }
}

async fn consume(cx: Cx, floor: Arc<Floor>, seed: u64) {
    let conn = cx.connect().await;
    let mut rng = Rng::new(seed);
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < BOUND, "consumers are not done");
        let producing = floor.producing.load(Ordering::SeqCst);
        let hands = conn
            .hands(&format!("'work', {}, '10 min'", 1 + rng.below(5)))
            .await;
        for hand in &hands {
            let mut handed = floor.handed.lock().unwrap();
            handed.entry(hand.id).or_default().push(hand.receipt);
        }
        for hand in &hands {
            assert!(conn.settle("ack", "work", hand).await, "ack of {hand:?}");
            floor.acked.lock().unwrap().insert(hand.id);
        }
        if hands.is_empty() && !producing {
            return;
        }
    }
}

async fn many_producers_and_consumers(cx: Cx) {
    cx.connect()
        .await
        .run("SELECT mq.create_queue('work')")
        .await;
    let floor = Arc::new(Floor::default());
    floor.producing.store(true, Ordering::SeqCst);
    let producers: Vec<_> = (0..4)
        .map(|n| spawn(produce(cx.clone(), floor.clone(), n, 200)))
        .collect();
    let consumers: Vec<_> = (0..5)
        .map(|n| spawn(consume(cx.clone(), floor.clone(), 100 + n)))
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    floor.producing.store(false, Ordering::SeqCst);
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let handed = floor.handed.lock().unwrap();
    for (id, receipts) in handed.iter() {
        assert_eq!(
            receipts.len(),
            1,
            "message {id} was handed out {} times",
            receipts.len()
        );
    }
    assert_eq!(
        *floor.acked.lock().unwrap(),
        *floor.committed.lock().unwrap()
    );
    let lost: Vec<_> = floor.rolled_back.lock().unwrap().iter().copied().collect();
    assert!(
        lost.iter().all(|id| !handed.contains_key(id)),
        "a rolled-back send was handed out"
    );
}

pub async fn ten(cx: &Cx) -> (Conn, Conn, Vec<i64>) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q')").await;
    let ids = a
        .ints("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 10) n")
        .await;
    a.never_wait().await;
    b.never_wait().await;
    (a, b, ids)
}

pub fn ids(hands: &[crate::conn::Hand]) -> Vec<i64> {
    hands.iter().map(|hand| hand.id).collect()
}

async fn two_readers_share_nothing(cx: Cx) {
    let (a, b, sent) = ten(&cx).await;
    a.run("BEGIN").await;
    let first = a.hands("'q', 3").await;
    let second = b.hands("'q', 10").await;
    assert_eq!(ids(&first), sent[..3]);
    assert_eq!(ids(&second), sent[3..]);
    a.run("COMMIT").await;
    assert_eq!(b.hands("'q', 10").await, []);
    assert_eq!(
        b.text("SELECT string_agg(DISTINCT state, ',') FROM mq.q")
            .await,
        "leased"
    );
}

async fn rolled_back_read_returns_at_once(cx: Cx) {
    let (a, b, sent) = ten(&cx).await;
    a.run("BEGIN").await;
    a.hands("'q', 10, '1 hour'").await;
    assert_eq!(b.hands("'q', 10").await, []);
    a.run("ROLLBACK").await;
    assert_eq!(ids(&b.hands("'q', 10").await), sent);
}

async fn order_is_priority_then_id(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    let mut sent = Vec::new();
    for priority in [4, 0, 9, 4, 9, 1, 0, 5] {
        let id = c
            .int(&format!("SELECT mq.send('q', '1', priority => {priority})"))
            .await;
        sent.push((9 - priority, id));
    }
    sent.sort();
    let read = ids(&c.hands("'q', 3").await);
    assert_eq!(read, sent[..3].iter().map(|s| s.1).collect::<Vec<_>>());
    let rest = ids(&c.hands("'q', 100").await);
    assert_eq!(rest, sent[3..].iter().map(|s| s.1).collect::<Vec<_>>());
}

async fn a_lease_ends(cx: Cx) {
    let (a, b, sent) = ten(&cx).await;
    let first = a.hand("'q', 1, '300 ms'").await;
    assert!(
        a.yes(&format!(
            "SELECT state = 'leased' FROM mq.q WHERE id = {}",
            first.id
        ))
        .await
    );
    b.until(&format!(
        "SELECT state = 'ready' FROM mq.q WHERE id = {}",
        first.id
    ))
    .await;
    let again = b.hand("'q', 1").await;
    assert_eq!((again.id, again.attempts, again.failures), (sent[0], 2, 1));
    assert_ne!(again.receipt, first.receipt);
    assert!(!a.settle("ack", "q", &first).await);
    assert!(b.settle("ack", "q", &again).await);
}

async fn late_ack_of_an_ended_lease(cx: Cx) {
    let (a, b, _) = ten(&cx).await;
    for verb in ["ack", "nack", "release", "reject", "archive", "extend"] {
        a.run("SELECT mq.purge_queue('q')").await;
        a.send("q", 1).await;
        let hand = a.hand("'q', 1, '50 ms'").await;
        b.until("SELECT state = 'ready' FROM mq.q").await;
        assert!(
            a.settle(verb, "q", &hand).await,
            "late {verb}, and nobody else has it"
        );
    }
}

async fn nobody_waits_for_an_open_transaction(cx: Cx) {
    let (a, b, sent) = ten(&cx).await;
    a.run("SELECT mq.alter_queue('q', max_length => 20)").await;
    let mine = a.hands("'q', 6, '1 hour'").await;
    a.run("BEGIN").await;
    a.send("q", 11).await;
    a.settle("ack", "q", &mine[0]).await;
    a.settle("nack", "q", &mine[1]).await;
    a.settle("archive", "q", &mine[2]).await;
    a.settle("release", "q", &mine[3]).await;
    a.settle("extend", "q", &mine[4]).await;
    a.settle("reject", "q", &mine[5]).await;
    a.try_hands("pop", "'q'").await.unwrap();
    a.run("SELECT mq.delete('q', 1)").await;
    b.run("BEGIN").await;
    b.send("q", 12).await;
    let seen = b.hands("'q', 2").await;
    assert!(
        seen.iter().all(|hand| sent[6..].contains(&hand.id)),
        "{seen:?}"
    );
    assert!(b.settle("ack", "q", &seen[0]).await);
    assert!(b.settle("nack", "q", &seen[1]).await);
    b.run("SELECT * FROM mq.q; SELECT * FROM mq.metrics; SELECT * FROM mq.queues; COMMIT")
        .await;
    b.run("SELECT mq.maintain(); SELECT mq.purge_queue('q')")
        .await;
    a.run("COMMIT").await;
}

async fn uncommitted_send_is_nobodys(cx: Cx) {
    let (a, b, _) = ten(&cx).await;
    b.run("SELECT mq.purge_queue('q'); BEGIN").await;
    let early = b.send("q", 1).await;
    assert_eq!(a.hands("'q', 5").await, []);
    let late = a.send("q", 2).await;
    assert!(late > early);
    assert_eq!(ids(&a.hands("'q', 5").await), [late]);
    b.run("COMMIT").await;
    assert_eq!(ids(&a.hands("'q', 5").await), [early]);
}

/// Who browses `FOR UPDATE` keeps no message from its readers, neither while the transaction is open
/// nor after it has ended, of which readers would hear nothing.
async fn browsing_locks_nothing(cx: Cx) {
    let (browser, c) = (cx.connect().await, cx.connect().await);
    c.run("SELECT mq.create_queue('q')").await;
    for lock in ["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE OF q NOWAIT"] {
        let id = c.send("q", 1).await;
        browser.run("BEGIN").await;
        let seen = browser
            .int(&format!("SELECT id FROM mq.q FOR {lock}"))
            .await;
        assert_eq!(seen, id, "{lock}");
        let hand = c.hand("'q'").await;
        assert_eq!(hand.id, id, "{lock}");
        assert!(c.settle("nack", "q", &hand).await, "{lock}");
        browser.run("ROLLBACK").await;
        let again = c.hand("'q'").await;
        assert_eq!(again.id, id, "{lock}");
        assert!(c.settle("ack", "q", &again).await, "{lock}");
    }
}
