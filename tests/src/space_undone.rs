//! What a session sees of its own work may be undone yet: it is no reason to truncate anything.

use crate::harness::Cx;
use crate::space::{self, LEAST, Upkeep};
use crate::tests;
use crate::traffic::Traffic;

tests![settled_and_undone];

/// A commit fails after everybody's last work before it: the reference is refused when the rows that
/// it refers to are to be removed.
const FAILS: &str = "CREATE TEMP TABLE gone (x int PRIMARY KEY) ON COMMIT DELETE ROWS; \
                     CREATE TEMP TABLE refers (x int REFERENCES gone)";

/// The lowest messages of each segment are acked in a transaction that looks after the queue just
/// before it fails. The session remembers where it saw messages; these come back below that.
async fn settled_and_undone(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(2).await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.extend(traffic.send(LEAST / 2).await);
        Upkeep::Calls.step(&traffic.c, "q").await;
    }
    let c = &traffic.c;
    let low = |id: &i64| (id - 1).rem_euclid(LEAST as i64) < 10;
    c.run("SELECT mq.read('q', 10000, '1 hour')").await;
    let list: Vec<String> = ids
        .iter()
        .filter(|id| low(id))
        .map(i64::to_string)
        .collect();
    let list = format!("'q', ARRAY[{}]", list.join(", "));
    for _ in 0..4 {
        c.run(&format!(
            "BEGIN; SELECT mq.ack_batch({list}); SELECT mq.maintain('q'); {FAILS}"
        ))
        .await;
        c.refused("COMMIT", "0A000").await;
    }
    let rest: Vec<String> = ids
        .iter()
        .filter(|id| !low(id))
        .map(i64::to_string)
        .collect();
    c.run(&format!(
        "SELECT mq.ack_batch('q', ARRAY[{}])",
        rest.join(", ")
    ))
    .await;
    for _ in 0..20 {
        c.run("SELECT mq.maintain('q')").await;
    }
    let back = c.ints(&format!("SELECT mq.release_batch({list})")).await;
    let expected: Vec<i64> = ids.into_iter().filter(low).collect();
    assert_eq!(back, expected, "{:#?}", space::parts(c, "q").await);
    traffic.sent.extend(expected);
    traffic.finish().await;
}
