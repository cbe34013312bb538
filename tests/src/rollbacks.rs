//! Transactions that read and roll back again and again do not loop for ever unseen: they count as
//! failures, and `max_failures` ends it. That other sessions know of them needs a server with the
//! library preloaded: see `worker`.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    counted_at_the_next_read,
    ends_in_the_dead_letters,
    pop_counts_as_well,
    not_for_serialization_or_cancel,
    errors_count,
    once_for_each_rollback,
];

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', max_failures => 3)")
        .await;
    c
}

async fn counted_at_the_next_read(cx: Cx) {
    let c = queue(&cx).await;
    let id = c.send("q", 1).await;
    c.run("BEGIN").await;
    assert_eq!(c.hand("'q'").await.id, id);
    c.run("ROLLBACK").await;
    let hand = c.hand("'q', 1, '1 hour'").await;
    assert_eq!((hand.id, hand.failures), (id, 1));
    assert_eq!(c.int("SELECT failures FROM mq.q").await, 1);
    assert!(c.settle("release", "q", &hand).await);
    c.run("BEGIN; SELECT mq.read('q'); COMMIT").await;
    assert_eq!(
        c.int("SELECT failures FROM mq.q").await,
        1,
        "a commit counts nothing"
    );
}

async fn ends_in_the_dead_letters(cx: Cx) {
    let c = queue(&cx).await;
    let poison = c.send("q", "\"poison\"").await;
    let mut rounds = 0;
    loop {
        c.run("BEGIN").await;
        let hands = c.hands("'q'").await;
        if hands.is_empty() {
            break c.run("COMMIT").await;
        }
        c.run("ROLLBACK").await;
        rounds += 1;
        assert!(rounds <= 5, "it loops for ever");
    }
    assert_eq!(rounds, 3);
    c.until("SELECT mq.maintain('q') = 0").await;
    let dead = "SELECT concat_ws(' ', headers->'x-death'->0->>'reason', headers->'x-death'->0->>'id') FROM mq.q_dead";
    assert_eq!(c.text(dead).await, format!("failures {poison}"));
}

async fn pop_counts_as_well(cx: Cx) {
    let c = queue(&cx).await;
    c.send("q", 1).await;
    let mut rounds = 0;
    loop {
        c.run("BEGIN").await;
        let hands = c.try_hands("pop", "'q', 5").await.unwrap();
        c.run(if hands.is_empty() {
            "COMMIT"
        } else {
            "ROLLBACK"
        })
        .await;
        if hands.is_empty() {
            break;
        }
        assert_eq!(hands[0].failures, rounds);
        rounds += 1;
        assert!(rounds <= 5, "it loops for ever");
    }
    assert_eq!(rounds, 3);
}

async fn not_for_serialization_or_cancel(cx: Cx) {
    let c = queue(&cx).await;
    c.send("q", 1).await;
    for code in ["40001", "40P01", "57014"] {
        let fail = format!(
            "DO $$BEGIN PERFORM mq.read('q'); RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END$$"
        );
        for _ in 0..2 {
            c.refused(&fail, code).await;
        }
        let hand = c.hand("'q'").await;
        assert_eq!(hand.failures, 0, "{code} is nobody's fault");
        assert!(c.settle("release", "q", &hand).await);
    }
}

async fn errors_count(cx: Cx) {
    let c = queue(&cx).await;
    c.send("q", 1).await;
    for n in 1..=2 {
        c.refused("SELECT 1 / (id - id) FROM mq.read('q')", "22012")
            .await;
        let hand = c.hand("'q'").await;
        assert_eq!(hand.failures, n);
        assert!(c.settle("release", "q", &hand).await);
    }
    c.refused("SELECT 1 / (id - id) FROM mq.read('q')", "22012")
        .await;
    assert_eq!(c.hands("'q'").await, [], "the third time was the last");
}

/// However often a message was handed out before it.
async fn once_for_each_rollback(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    let again = "SELECT mq.release('q', id, receipt) FROM mq.read('q')";
    let many = [again; 5].join("; ");
    let fails = "PERFORM mq.read('q'); RAISE EXCEPTION 'x'; EXCEPTION WHEN raise_exception THEN";
    for (deeds, counted) in [
        (format!("BEGIN; {many}; ROLLBACK"), 1),
        (
            format!("BEGIN; SAVEPOINT s; {many}; ROLLBACK TO s; COMMIT"),
            1,
        ),
        (
            format!("BEGIN; {again}; SAVEPOINT s; {again}; SAVEPOINT t; {again}; ROLLBACK"),
            1,
        ),
        (
            format!("BEGIN; {again}; SAVEPOINT s; {again}; ROLLBACK TO s; ROLLBACK"),
            1,
        ),
        // A consumer that goes on in its transaction fails anew with each delivery.
        (
            format!("DO $$BEGIN FOR i IN 1..3 LOOP BEGIN {fails} END; END LOOP; END$$"),
            3,
        ),
        (format!("BEGIN; {many}; COMMIT"), 0),
    ] {
        let id = c.send("q", 1).await;
        c.run(&deeds).await;
        let hand = c.hand("'q'").await;
        assert_eq!((hand.id, hand.failures), (id, counted), "{deeds}");
        assert!(c.settle("ack", "q", &hand).await);
    }
}
