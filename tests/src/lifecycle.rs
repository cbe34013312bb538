//! Queues over time: in one transaction, renamed, under DROP EXTENSION; ids are never used again.

use crate::follow::{fill, works};
use crate::harness::Cx;
use crate::tests;

tests![
    rename_queue,
    drop_extension,
    in_one_transaction,
    ids_survive
];

async fn rename_queue(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    fill(&c, "a").await;
    fill(&c, "taken").await;
    let id = c.int("SELECT max(id) FROM mq.a").await;
    let user = cx.role("user").await;
    c.run(&format!(
        "GRANT INSERT ON mq.a TO {user}; SELECT mq.rename_queue('a', 'b')"
    ))
    .await;
    works(&other, "b").await;
    assert!(c.send("b", 1).await > id, "ids go on");
    cx.connect_as(&user).await.send("b", 1).await;
    c.refused("SELECT mq.rename_queue('b', 'taken')", "42P07")
        .await;
    c.refused("SELECT mq.rename_queue('b', 'taken_archive')", "42P07")
        .await;
    c.refused("SELECT mq.rename_queue('none', 'x')", "42P01")
        .await;
    c.run("CREATE TABLE public.x ()").await;
    c.run("SELECT mq.rename_queue('b', 'x')").await;
    works(&c, "x").await;
}

async fn drop_extension(cx: Cx) {
    let c = cx.connect().await;
    let outside = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v', 'S', 'c') AND relnamespace NOT IN \
                   (SELECT oid FROM pg_namespace WHERE nspname IN ('mq', 'mq_internal'))";
    let before = c.int(outside).await;
    fill(&c, "q").await;
    fill(&c, "a b").await;
    let no = c.refused("DROP EXTENSION pg_broker", "2BP01").await;
    assert!(no.message.contains("pg_broker"), "{no:?}");
    works(&c, "q").await;
    c.run("DROP EXTENSION pg_broker CASCADE").await;
    assert_eq!(c.int(outside).await, before);
    for left in [
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'mq%'",
        "SELECT evtname FROM pg_event_trigger",
        "SELECT proname FROM pg_proc WHERE probin LIKE '%pg_broker%'",
        "SELECT relname FROM pg_class WHERE relname LIKE '%q_archive%' OR relname LIKE '%q_dead%'",
        "SELECT d.objid::text FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid \
         WHERE datname = current_database() AND d.classid = 'pg_class'::regclass \
         AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = d.objid)",
    ] {
        assert_eq!(c.text(left).await, "-", "{left}");
    }
    c.run("CREATE EXTENSION pg_broker").await;
    fill(&c, "q").await;
    works(&c, "q").await;
    c.run("SELECT mq.drop_queue('q', cascade => true), mq.drop_queue('q_dead')")
        .await;
    c.run("DROP EXTENSION pg_broker").await;
}

async fn in_one_transaction(cx: Cx) {
    let c = cx.connect().await;
    c.run("BEGIN; SELECT mq.create_queue('q'); SELECT mq.send('q', '1')")
        .await;
    let hand = c.hand("'q'").await;
    assert!(c.settle("archive", "q", &hand).await);
    c.run("SELECT mq.alter_queue('q', ttl => '1 day'); SELECT mq.rename_queue('q', 'p')")
        .await;
    c.run(
        "SELECT mq.send('p', '2'); SAVEPOINT s; SELECT mq.drop_queue('p'); ROLLBACK TO s; COMMIT",
    )
    .await;
    works(&c, "p").await;
    c.run("BEGIN; SELECT mq.create_queue('r'); SELECT mq.send('r', '1'); SELECT mq.drop_queue('r'); COMMIT").await;
    c.refused("SELECT mq.read('r')", "42P01").await;
    c.run("BEGIN; SELECT mq.create_queue('r'); SELECT mq.send('r', '1'); ROLLBACK")
        .await;
    c.refused("SELECT mq.read('r')", "42P01").await;
    c.run("SELECT mq.create_queue('r')").await;
    works(&c, "r").await;
}

async fn ids_survive(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    let mut last = 0;
    for round in 0..5 {
        c.run("BEGIN; SELECT mq.send('q', '1'); ROLLBACK").await;
        let id = c.send("q", round).await;
        assert!(id > last);
        last = id;
        c.run("SELECT mq.ack('q', id) FROM mq.read('q', 10); SELECT mq.purge_queue('q')")
            .await;
        c.run("SELECT mq.pop('q', 10); SELECT mq.maintain('q')")
            .await;
    }
}
