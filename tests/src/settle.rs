//! Settling never waits, and says truthfully what it did.

use crate::conn::{Conn, Hand, NONE};
use crate::harness::Cx;
use crate::tests;

tests![
    taken_by_an_open_reader,
    settled_in_an_open_transaction,
    batches_skip_what_is_taken,
    batch_order_and_repeats,
    ack_against_ended_lease_race
];

const VERBS: [&str; 6] = ["ack", "nack", "release", "reject", "extend", "archive"];

pub async fn pair(cx: &Cx) -> (Conn, Conn) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q')").await;
    a.never_wait().await;
    b.never_wait().await;
    (a, b)
}

fn call(verb: &str, id: i64, receipt: &str) -> String {
    let is = if verb == "extend" { " IS NOT NULL" } else { "" };
    format!("SELECT mq.{verb}('q', {id}, {receipt}){is}")
}

async fn taken_by_an_open_reader(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.send("q", 1).await;
    let old = a.hand("'q', 1, '30 ms'").await;
    b.until("SELECT state = 'ready' FROM mq.q").await;
    b.run("BEGIN").await;
    let open = b.hand("'q', 1, '1 hour'").await;
    assert_eq!(open.id, old.id);
    for verb in VERBS {
        for receipt in [old.receipt.to_string(), "NULL".into()] {
            assert!(
                !a.yes(&call(verb, old.id, &receipt)).await,
                "{verb} of what another took"
            );
        }
        let batch = format!(
            "SELECT mq.{verb}_batch('q', ARRAY[{}], ARRAY[{}])",
            old.id, old.receipt
        );
        assert_eq!(
            a.ints(&batch).await,
            NONE,
            "{verb}_batch of what another took"
        );
    }
    // The rollback makes the earlier hand-out the current one again.
    b.run("ROLLBACK").await;
    assert!(!b.settle("ack", "q", &open).await);
    assert!(a.settle("ack", "q", &old).await);
}

async fn settled_in_an_open_transaction(cx: Cx) {
    let (a, b) = pair(&cx).await;
    for first in VERBS {
        a.send("q", 1).await;
        let hand = a.hand("'q', 1, '1 hour'").await;
        a.run("BEGIN").await;
        assert!(a.settle(first, "q", &hand).await);
        for second in VERBS {
            let said = b
                .yes(&call(second, hand.id, &hand.receipt.to_string()))
                .await;
            assert!(!said, "{second} while another transaction has done {first}");
        }
        a.run("ROLLBACK").await;
        assert!(
            b.settle("ack", "q", &hand).await,
            "ack after a rolled-back {first}"
        );
    }
}

async fn batches_skip_what_is_taken(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n")
        .await;
    let hands = a.hands("'q', 5, '1 hour'").await;
    let list = |f: fn(&Hand) -> i64| {
        hands
            .iter()
            .map(|h| f(h).to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let (ids, receipts) = (list(|h| h.id), list(|h| h.receipt));
    b.run("BEGIN").await;
    assert!(b.settle("ack", "q", &hands[1]).await && b.settle("extend", "q", &hands[3]).await);
    let all = format!("SELECT mq.ack_batch('q', ARRAY[{ids}], ARRAY[{receipts}])");
    assert_eq!(a.ints(&all).await, [hands[0].id, hands[2].id, hands[4].id]);
    b.run("ROLLBACK").await;
    assert_eq!(a.ints(&all).await, [hands[1].id, hands[3].id]);
}

async fn batch_order_and_repeats(cx: Cx) {
    let (a, _) = pair(&cx).await;
    for verb in VERBS {
        a.run("SELECT mq.purge_queue('q')").await;
        a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 4) n")
            .await;
        let h = a.hands("'q', 3, '1 hour'").await;
        let unread = a.int("SELECT id FROM mq.q WHERE state = 'ready'").await;
        let given = format!(
            "{},{},{},{unread},{},999999",
            h[2].id, h[0].id, h[2].id, h[1].id
        );
        let settled = a
            .ints(&format!("SELECT mq.{verb}_batch('q', ARRAY[{given}])"))
            .await;
        assert_eq!(settled, [h[2].id, h[0].id, h[1].id], "{verb}_batch");
        assert_eq!(
            a.ints(&format!("SELECT mq.{verb}_batch('q', '{{}}')"))
                .await,
            NONE
        );
    }
    let (one, two) = (a.send("q", 1).await, a.send("q", 2).await);
    let deleted = a
        .ints(&format!(
            "SELECT mq.delete_batch('q', ARRAY[{two}, 5, {one}, {two}])"
        ))
        .await;
    assert!(
        deleted.starts_with(&[two]) && deleted.ends_with(&[one]),
        "{deleted:?}"
    );
}

/// An ack and a reader race for a message whose lease has just ended: exactly one wins.
async fn ack_against_ended_lease_race(cx: Cx) {
    let (a, b) = pair(&cx).await;
    for round in 0..60 {
        a.send("q", round).await;
        let hand = a.hand("'q', 1, '5 ms'").await;
        b.until("SELECT state = 'ready' FROM mq.q").await;
        let (acked, taken) = tokio::join!(a.settle("ack", "q", &hand), b.hands("'q', 1, '1 hour'"));
        assert_eq!(
            taken.len(),
            usize::from(!acked),
            "round {round}: acked {acked}, {taken:?}"
        );
        if let Some(other) = taken.first() {
            assert!(b.settle("ack", "q", other).await);
        }
        assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 0);
    }
}
