//! Popping: read and remove in one step; and what a reader sees of its own transaction.

use crate::harness::{Cx, spawn};
use crate::readers::{ids, ten};
use crate::tests;
use std::collections::HashSet;

tests![
    pop_by_many,
    pop_that_rolls_back,
    read_sees_own_sends,
    quantity
];

async fn pop_by_many(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 400) n")
        .await;
    let mut poppers = Vec::new();
    for n in 0..4 {
        let cx = cx.clone();
        poppers.push(spawn(async move {
            let conn = cx.connect().await;
            let mut mine = Vec::new();
            loop {
                let some = conn
                    .try_hands("pop", &format!("'q', {}", n + 1))
                    .await
                    .unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|hand| hand.id));
            }
        }));
    }
    let mut all = Vec::new();
    for popper in poppers {
        all.extend(popper.await.unwrap());
    }
    assert_eq!(all.len(), 400);
    assert_eq!(
        all.iter().collect::<HashSet<_>>().len(),
        400,
        "popped twice"
    );
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn pop_that_rolls_back(cx: Cx) {
    let (a, b, sent) = ten(&cx).await;
    a.run("CREATE TABLE done (id bigint PRIMARY KEY); BEGIN")
        .await;
    let hands = a.try_hands("pop", "'q', 4").await.unwrap();
    assert_eq!(ids(&hands), sent[..4]);
    assert_eq!(
        ids(&b.hands("'q', 1").await),
        [sent[4]],
        "skips what another pops"
    );
    a.run("ROLLBACK; BEGIN").await;
    let again = b.try_hands("pop", "'q', 4").await.unwrap();
    assert_eq!(ids(&again), sent[..4]);
    a.run("COMMIT").await;
    assert!(!a.settle("ack", "q", &hands[0]).await);
}

async fn read_sees_own_sends(cx: Cx) {
    let (a, b, _) = ten(&cx).await;
    a.run("SELECT mq.purge_queue('q'); BEGIN").await;
    let id = a.send("q", 5).await;
    let hand = a.hand("'q', 2").await;
    assert_eq!(hand.id, id);
    assert!(a.settle("ack", "q", &hand).await);
    a.run("COMMIT").await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn quantity(cx: Cx) {
    let (a, _, sent) = ten(&cx).await;
    assert_eq!(a.hands("'q'").await.len(), 1);
    assert_eq!(a.hands("'q', NULL").await.len(), 1);
    assert_eq!(ids(&a.hands("'q', 1000000").await), sent[2..]);
    for bad in ["0", "-1"] {
        a.refused(&format!("SELECT mq.read('q', {bad})"), "22023")
            .await;
        a.refused(&format!("SELECT mq.pop('q', {bad})"), "22023")
            .await;
    }
}
