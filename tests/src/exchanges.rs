//! Exchanges while others change them: what is published reaches all that was bound at some moment of
//! the call, or is not there at all.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    with_the_transaction,
    prepared,
    while_bindings_change,
    while_queues_are_dropped,
    dropped_while_it_waits,
    one_connection_binds_another_publishes,
    restored,
];

async fn bound(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('a'), mq.create_queue('b'); SELECT mq.create_exchange('x', 'topic')")
        .await;
    c.run("SELECT mq.bind('x', 'a', '#'), mq.bind('x', 'b', 'b.*')")
        .await;
    c
}

async fn lengths(c: &Conn) -> (i64, i64) {
    let of = |queue| format!("SELECT count(*) FROM mq.{queue}");
    (c.int(&of("a")).await, c.int(&of("b")).await)
}

async fn with_the_transaction(cx: Cx) {
    let c = bound(&cx).await;
    let other = cx.connect().await;
    c.run("BEGIN; SELECT mq.publish('x', 'b.1', '1'); SAVEPOINT s; SELECT mq.publish('x', 'b.2', '2')")
        .await;
    assert_eq!(lengths(&other).await, (0, 0));
    c.run("ROLLBACK TO s; COMMIT").await;
    assert_eq!(lengths(&other).await, (1, 1));
    // What was bound in a transaction that is undone is not bound, for whoever has it compiled.
    c.run("BEGIN; SELECT mq.bind('x', 'b', 'c'); SELECT mq.publish('x', 'c', '3')")
        .await;
    c.run("ROLLBACK").await;
    assert_eq!(c.int("SELECT mq.publish('x', 'c', '4')").await, 1);
    c.run("BEGIN; SAVEPOINT s; SELECT mq.unbind('x', 'a'); SELECT mq.publish('x', 'c', '5'); ROLLBACK TO s")
        .await;
    assert_eq!(c.int("SELECT mq.publish('x', 'c', '6')").await, 1);
    c.run("COMMIT").await;
    assert_eq!(lengths(&other).await, (3, 1));
}

async fn prepared(cx: Cx) {
    let c = bound(&cx).await;
    let gid = &cx.db;
    c.run(&format!(
        "BEGIN; SELECT mq.publish('x', 'b.1', '1'); PREPARE TRANSACTION '{gid}'"
    ))
    .await;
    assert_eq!(lengths(&c).await, (0, 0));
    c.run(&format!("COMMIT PREPARED '{gid}'")).await;
    assert_eq!(lengths(&c).await, (1, 1));
    assert_eq!(c.hands("'b'").await.len(), 1);
}

/// Publishers count what they are told that they reached; in the end the queues hold that many.
async fn publish_until(cx: &Cx, over: &Arc<AtomicBool>, batch: bool) -> i64 {
    let c = cx.connect().await;
    let mut reached = 0;
    while !over.load(Ordering::Relaxed) {
        reached += match batch {
            true => {
                c.int("SELECT sum(n) FROM mq.publish_batch('x', '{b.1,c,b.2}', ARRAY['1', '2', '3']::jsonb[]) n")
                    .await
            }
            false => c.int("SELECT mq.publish('x', 'b.1', '1')").await,
        };
    }
    reached
}

/// Runs a change again and again beside publishers; gives how many messages they say they reached.
async fn beside(cx: &Cx, changes: &[&str]) -> i64 {
    let over = Arc::new(AtomicBool::new(false));
    let mut publishers = Vec::new();
    for n in 0..4 {
        let (cx, over) = (cx.clone(), over.clone());
        publishers.push(spawn(
            async move { publish_until(&cx, &over, n % 2 == 0).await },
        ));
    }
    let c = cx.connect().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        for change in changes {
            c.run(change).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut reached = 0;
    for publisher in publishers {
        reached += publisher.await.expect("a publisher");
    }
    assert!(reached > 100, "{reached}");
    reached
}

async fn while_bindings_change(cx: Cx) {
    let c = bound(&cx).await;
    let changes = [
        "SELECT mq.unbind('x', 'b')",
        "SELECT mq.bind('x', 'b', '*.1')",
        "SELECT mq.bind('x', 'b', 'b.#', filter => '$.body > 0')",
    ];
    let reached = beside(&cx, &changes).await;
    let (a, b) = lengths(&c).await;
    assert_eq!(a + b, reached);
    assert!(a > b && b > 0, "{a} {b}");
}

/// A queue that goes takes its bindings along; publishers go on without it, and without an error.
async fn while_queues_are_dropped(cx: Cx) {
    let c = bound(&cx).await;
    c.run("CREATE TABLE gone (n bigint)").await;
    let changes = [
        "BEGIN; LOCK TABLE mq.b IN ACCESS EXCLUSIVE MODE; INSERT INTO gone SELECT count(*) FROM mq.b; \
         SELECT mq.drop_queue('b'); COMMIT",
        "SELECT mq.create_queue('b')",
        "SELECT mq.bind('x', 'b', 'b.*')",
    ];
    let reached = beside(&cx, &changes).await;
    let (a, b) = lengths(&c).await;
    let gone = c.int("SELECT sum(n) FROM gone").await;
    assert_eq!(
        a + b + gone,
        reached,
        "{a} in a, {b} in b, {gone} dropped with b"
    );
    assert!(gone > 0);
}

/// Who waits for the end of a drop goes where what is bound then says: to the alternate, to the queue
/// that took the place, through the exchange that did.
async fn dropped_while_it_waits(cx: Cx) {
    let (c, dropper, publisher) = (cx.connect().await, cx.connect().await, cx.connect().await);
    c.run("SELECT mq.create_queue('first'), mq.create_queue('second'); SELECT mq.create_exchange('y', 'fanout')")
        .await;
    c.run("SELECT mq.create_exchange('x', 'direct', alternate => 'y'), mq.bind('y', 'second')")
        .await;
    c.run("SELECT mq.bind('x', 'first', 'k')").await;
    let changes = [
        ("SELECT mq.drop_queue('first')", "second"),
        (
            "SELECT mq.drop_queue('first'), mq.create_queue('first'); SELECT mq.bind('x', 'first', 'k')",
            "first",
        ),
        (
            "DROP VIEW mq.first; SELECT mq.bind('x', 'y', 'k')",
            "second",
        ),
    ];
    for (n, (change, goal)) in changes.into_iter().enumerate() {
        // Once what is known of the exchange is known.
        assert_eq!(publisher.int("SELECT mq.publish('x', 'k', '0')").await, 1);
        c.run("SELECT mq.purge_queue(queue) FROM mq.queues").await;
        dropper.run(&format!("BEGIN; {change}")).await;
        let publish = format!("SELECT mq.publish('x', 'k', '{n}', mandatory => true)");
        let (reached, ()) = tokio::join!(publisher.int(&publish), async {
            c.until_blocked(publisher.pid).await;
            dropper.run("COMMIT").await;
        });
        assert_eq!(reached, 1, "{change}");
        let there = c.int(&format!("SELECT count(*) FROM mq.{goal}")).await;
        assert_eq!(there, 1, "{change}: not in {goal}");
        c.run("SELECT mq.unbind('x', 'y', 'k'), mq.create_queue('first', if_not_exists => true)")
            .await;
        c.run("SELECT mq.bind('x', 'first', 'k')").await;
    }
}

async fn one_connection_binds_another_publishes(cx: Cx) {
    let (binder, publisher) = (bound(&cx).await, cx.connect().await);
    for n in 0..20 {
        let key = format!("k{n}");
        assert_eq!(
            publisher
                .int(&format!("SELECT mq.publish('x', '{key}', '1')"))
                .await,
            1
        );
        binder
            .run(&format!("SELECT mq.bind('x', 'b', '{key}')"))
            .await;
        assert_eq!(
            publisher
                .int(&format!("SELECT mq.publish('x', '{key}', '1')"))
                .await,
            2
        );
    }
    binder
        .run("SELECT mq.create_exchange('y', 'fanout', alternate => 'x')")
        .await;
    assert_eq!(publisher.int("SELECT mq.publish('y', 'k1', '1')").await, 2);
    binder
        .run("SELECT mq.alter_exchange('y', reset => '{alternate}')")
        .await;
    assert_eq!(publisher.int("SELECT mq.publish('y', 'k1', '1')").await, 0);
    binder.run("SELECT mq.drop_exchange('x')").await;
    publisher
        .refused("SELECT mq.publish('x', 'k1', '1')", "42P01")
        .await;
}

/// A database made from one with exchanges has them, and they lead to its own queues.
async fn restored(cx: Cx) {
    let c = bound(&cx).await;
    drop(c);
    let admin = Conn::open(cx.server.port, "postgres", "postgres").await;
    let copy = format!("{}_copy", cx.db);
    let from = &cx.db;
    admin
        .until(&format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{from}' AND backend_type = 'client backend'"))
        .await;
    admin
        .run(&format!("CREATE DATABASE {copy} TEMPLATE {from}"))
        .await;
    let there = Conn::open(cx.server.port, &copy, "postgres").await;
    assert_eq!(there.int("SELECT mq.publish('x', 'b.1', '1')").await, 2);
    assert_eq!(lengths(&there).await, (1, 1));
    assert_eq!(lengths(&cx.connect().await).await, (0, 0));
    there.run("DROP EXTENSION pg_broker CASCADE").await;
    drop(there);
    admin
        .run(&format!("DROP DATABASE {copy} WITH (FORCE)"))
        .await;
}
