//! The receipt is the fence: no hand-out that is over settles anything, whatever ended it.

use crate::conn::{Conn, Hand, NONE};
use crate::harness::Cx;
use crate::tests;

tests![
    rollback,
    rollback_to_savepoint,
    after_each_settling,
    without_a_receipt,
    redelivery,
    wrong_receipts,
    batch,
    receipts_are_random
];

const VERBS: [&str; 6] = ["ack", "nack", "release", "reject", "extend", "archive"];

const BATCH_VERBS: [&str; 6] = [
    "ack_batch",
    "nack_batch",
    "release_batch",
    "reject_batch",
    "extend_batch",
    "archive_batch",
];

/// Asserts that this hand-out settles nothing, by any verb.
pub async fn settles_nothing(conn: &Conn, queue: &str, hand: &Hand) {
    // Time may pass meanwhile: a lease that ends changes what is computed from the clock.
    let stored = "to_jsonb(q) - 'state' - 'failures' - 'last_error'";
    let look = format!(
        "SELECT ({stored})::text FROM mq.{queue} q WHERE id = {}",
        hand.id
    );
    let before = conn.text(&look).await;
    for verb in VERBS {
        assert!(
            !conn.settle(verb, queue, hand).await,
            "stale {verb} of {hand:?}"
        );
    }
    for verb in BATCH_VERBS {
        let call = format!(
            "SELECT mq.{verb}('{queue}', ARRAY[{}], ARRAY[{}])",
            hand.id, hand.receipt
        );
        assert_eq!(conn.ints(&call).await, NONE, "stale {verb} of {hand:?}");
    }
    let after = conn.text(&look).await;
    assert_eq!(before, after, "a stale receipt changed the message");
}

async fn pair(cx: &Cx, sends: u32) -> (Conn, Conn) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q')").await;
    a.run(&format!(
        "SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, {sends}) n"
    ))
    .await;
    a.never_wait().await;
    b.never_wait().await;
    (a, b)
}

async fn rollback(cx: Cx) {
    let (a, b) = pair(&cx, 1).await;
    a.run("BEGIN").await;
    let lost = a.hand("'q'").await;
    a.run("ROLLBACK").await;
    settles_nothing(&a, "q", &lost).await;
    let now = b.hand("'q'").await;
    assert_ne!(now.receipt, lost.receipt);
    settles_nothing(&a, "q", &lost).await;
    assert!(b.settle("ack", "q", &now).await);
}

async fn rollback_to_savepoint(cx: Cx) {
    let (a, _) = pair(&cx, 1).await;
    a.run("BEGIN; SAVEPOINT s").await;
    let lost = a.hand("'q'").await;
    a.run("ROLLBACK TO s").await;
    let now = a.hand("'q'").await;
    assert_eq!(now.id, lost.id);
    settles_nothing(&a, "q", &lost).await;
    assert!(a.settle("ack", "q", &now).await);
    a.run("COMMIT").await;
}

async fn after_each_settling(cx: Cx) {
    let (a, b) = pair(&cx, 0).await;
    for verb in VERBS {
        a.run("SELECT mq.purge_queue('q')").await;
        a.send("q", 1).await;
        let hand = a.hand("'q', 1, '1 hour'").await;
        assert!(a.settle(verb, "q", &hand).await, "{verb}");
        if verb == "extend" {
            assert!(
                a.settle("ack", "q", &hand).await,
                "extend keeps the receipt"
            );
            continue;
        }
        settles_nothing(&a, "q", &hand).await;
        if let Some(again) = b.hands("'q', 1").await.first() {
            settles_nothing(&a, "q", &hand).await;
            assert!(b.settle("ack", "q", again).await);
        }
    }
}

async fn without_a_receipt(cx: Cx) {
    let (a, b) = pair(&cx, 1).await;
    let id = a.int("SELECT id FROM mq.q").await;
    for verb in VERBS {
        let is = if verb == "extend" { "IS NOT NULL" } else { "" };
        let call = format!("SELECT mq.{verb}('q', {id}) {is}");
        assert!(!a.yes(&call).await, "{verb} of a message in nobody's hands");
    }
    let hand = b.hand("'q', 1, '1 hour'").await;
    assert!(
        a.yes(&format!("SELECT mq.extend('q', {id}) > clock_timestamp()"))
            .await
    );
    assert!(a.yes(&format!("SELECT mq.nack('q', {id})")).await);
    settles_nothing(&b, "q", &hand).await;
    assert!(!a.yes(&format!("SELECT mq.ack('q', {id})")).await);
    b.hand("'q'").await;
    assert!(a.yes(&format!("SELECT mq.ack('q', {id}, NULL)")).await);
}

async fn redelivery(cx: Cx) {
    let (a, b) = pair(&cx, 1).await;
    let mut stale: Vec<Hand> = Vec::new();
    for attempt in 1..=4 {
        let reader = if attempt % 2 == 0 { &b } else { &a };
        let hand = reader.hand("'q', 1, '60 ms'").await;
        assert_eq!(hand.attempts, attempt);
        assert!(stale.iter().all(|old| old.receipt != hand.receipt));
        for old in &stale {
            settles_nothing(&a, "q", old).await;
        }
        b.until("SELECT state = 'ready' FROM mq.q").await;
        stale.push(hand);
    }
    let last = stale.pop().unwrap();
    assert!(a.settle("ack", "q", &last).await);
}

async fn wrong_receipts(cx: Cx) {
    let (a, _) = pair(&cx, 2).await;
    let hands = a.hands("'q', 2, '1 hour'").await;
    for receipt in [
        hands[1].receipt,
        0,
        -1,
        i64::MAX,
        i64::MIN,
        hands[0].receipt + 1,
    ] {
        settles_nothing(
            &a,
            "q",
            &Hand {
                receipt,
                ..hands[0].clone()
            },
        )
        .await;
    }
    settles_nothing(
        &a,
        "q",
        &Hand {
            id: hands[1].id + 1000,
            ..hands[0].clone()
        },
    )
    .await;
    assert!(a.settle("ack", "q", &hands[0]).await && a.settle("ack", "q", &hands[1]).await);
}

async fn batch(cx: Cx) {
    let (a, b) = pair(&cx, 6).await;
    let old = a.hands("'q', 6, '60 ms'").await;
    b.until("SELECT bool_and(state = 'ready') FROM mq.q").await;
    let taken = b.hands("'q', 3, '1 hour'").await;
    let list = |f: fn(&Hand) -> i64| {
        old.iter()
            .rev()
            .map(|h| f(h).to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let (ids, receipts) = (list(|h| h.id), list(|h| h.receipt));
    let call = format!("SELECT mq.ack_batch('q', ARRAY[{ids}], ARRAY[{receipts}])");
    let free: Vec<i64> = old.iter().rev().take(3).map(|h| h.id).collect();
    assert_eq!(
        a.ints(&call).await,
        free,
        "only what nobody has taken since, in the order given"
    );
    assert_eq!(a.ints(&call).await, NONE);
    for hand in taken {
        assert!(b.settle("ack", "q", &hand).await);
    }
    a.refused("SELECT mq.ack_batch('q', ARRAY[1, 2], ARRAY[1])", "22023")
        .await;
}

async fn receipts_are_random(cx: Cx) {
    let (a, _) = pair(&cx, 500).await;
    let hands = a.hands("'q', 500").await;
    let mut receipts: Vec<i64> = hands.iter().map(|h| h.receipt).collect();
    assert!(receipts.iter().all(|r| *r > 0 && *r < 1 << 53), "53 bits");
    assert!(receipts.iter().any(|r| *r > 1 << 50) && receipts.iter().any(|r| *r < 1 << 52));
    receipts.sort();
    receipts.dedup();
    assert_eq!(receipts.len(), 500, "receipts repeat");
    assert_eq!(
        a.int("SELECT count(receipt) FROM mq.q").await,
        0,
        "null in the view"
    );
}
