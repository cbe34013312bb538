//! Rows that are reached without SQL are as right as with it: payloads of every size, and what a
//! statement has itself just done.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::{storage, tests};

tests![
    payloads_of_every_size,
    payloads_of_other_tables,
    popped_outlives_its_row,
    one_statement_sees_itself,
    functions_see_themselves,
    cursors_and_commits,
    old_snapshots_with_large_payloads,
    rows_that_nobody_reported,
    leases_do_not_wait_for_the_log,
    errors_after_the_wait_was_spared,
];

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', max_failures => 99)")
        .await;
    c.run(
        "CREATE FUNCTION noise(n int) RETURNS text LANGUAGE sql AS \
         $$SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, n / 32) i$$",
    )
    .await;
    c
}

/// Payloads that are stored plain, compressed in the row, compressed outside of it, and outside.
const SIZES: [&str; 6] = [
    "to_jsonb(7)",
    "to_jsonb(repeat('a', 3000))",
    "jsonb_build_object('k', repeat('abc', 90000))",
    "to_jsonb(noise(1900))",
    "to_jsonb(noise(50000))",
    "jsonb_build_object('big', noise(200000), 'small', repeat('x', 200000))",
];

const SUMS: &str = "md5(body::text), md5((headers->'h')::text)";

/// Expects one row of sums, all of them this.
async fn same(c: &Conn, what: &str, sql: &str, made: &str) {
    let sums = c.rows(sql).await;
    assert_eq!(sums.len(), 1, "{what}: {sql}");
    let right = sums[0].iter().all(|sum| sum.as_deref() == Some(made));
    assert!(right, "{what}: {sql}\n{sums:?}, not {made}");
}

async fn payloads_of_every_size(cx: Cx) {
    let c = queue(&cx).await;
    let read = format!("SELECT {SUMS} FROM mq.read('q', 1, '1 hour')");
    let archive = storage::of(&c, "q_archive").await;
    for size in SIZES {
        let made = &c.text(&format!("SELECT md5(({size})::text)")).await;
        c.run(&format!(
            "SELECT mq.send('q', {size}, jsonb_build_object('h', {size}))"
        ))
        .await;
        same(&c, size, &read, made).await;
        c.run("SELECT mq.nack('q', id, reason => noise(4000)) FROM mq.q")
            .await;
        same(&c, "after a nack", &read, made).await;
        c.run("SELECT mq.release('q', id) FROM mq.q").await;
        c.run("UPDATE mq.q SET priority = 8").await;
        same(&c, "after a repair", &read, made).await;
        c.run("SELECT mq.extend('q', id) FROM mq.q; SELECT mq.archive('q', id) FROM mq.q")
            .await;
        let archived = format!("SELECT {SUMS} FROM mq.q_archive");
        same(&c, "in the archive", &archived, made).await;
        c.run(&format!("TRUNCATE {archive}")).await;

        c.run(&format!(
            "SELECT mq.send_batch('q', ARRAY[{size}], ARRAY[jsonb_build_object('h', {size})])"
        ))
        .await;
        c.run("SELECT mq.reject('q', id) FROM mq.read('q')").await;
        let dead = format!("SELECT {SUMS} FROM mq.q_dead");
        same(&c, "dead", &dead, made).await;
        assert_eq!(c.int("SELECT mq.redrive('q_dead')").await, 1);
        let popped = format!("SELECT {SUMS} FROM mq.pop('q')");
        same(&c, "redriven and popped", &popped, made).await;
    }
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
}

/// The argument is a reference into another table's storage, which is gone when it is read.
async fn payloads_of_other_tables(cx: Cx) {
    let c = queue(&cx).await;
    let list = SIZES.join("), (");
    c.run(&format!(
        "CREATE TABLE t (body jsonb); INSERT INTO t VALUES ({list})"
    ))
    .await;
    let sums = c
        .text("SELECT string_agg(md5(body::text), ' ' ORDER BY md5(body::text)) FROM t")
        .await;
    c.run("SELECT mq.send('q', body, jsonb_build_object('h', body)) FROM t")
        .await;
    c.run("SELECT mq.send_batch('q', array_agg(body), array_agg(jsonb_build_object('h', body))) FROM t")
        .await;
    c.run("INSERT INTO mq.q (body, headers) SELECT body, jsonb_build_object('h', body) FROM t")
        .await;
    c.run("SELECT mq.send_bytes('q', convert_to(body::text, 'UTF8')) FROM t")
        .await;
    c.run("DROP TABLE t").await;
    for verb in ["read", "read", "pop"] {
        let got = format!(
            "SELECT string_agg(md5(body::text), ' ' ORDER BY md5(body::text)) || \
             string_agg(md5((headers->'h')::text), ' ' ORDER BY md5(body::text)) FROM mq.{verb}('q', 6)"
        );
        assert_eq!(c.text(&got).await, format!("{sums}{sums}"));
    }
    let bytes = "SELECT string_agg(md5(data), ' ' ORDER BY md5(data)) FROM mq.pop('q', 6)";
    assert_eq!(c.text(bytes).await, sums);
}

/// A popped payload stays readable when vacuum has taken the row that it came from.
async fn popped_outlives_its_row(cx: Cx) {
    let (c, other) = (queue(&cx).await, cx.connect().await);
    c.run("CREATE TABLE sums (of_body text)").await;
    c.run("SELECT mq.send('q', to_jsonb(noise(300000)))").await;
    let sum = other.text("SELECT md5(body::text) FROM mq.q").await;
    let table = storage::of(&other, "q").await;
    other.run("SELECT pg_advisory_lock(4)").await;
    let pid = c.pid;
    let task = spawn(async move {
        c.run(
            "DO $$DECLARE m mq.message; BEGIN SELECT * INTO m FROM mq.pop('q'); COMMIT; \
             PERFORM pg_advisory_lock(4); INSERT INTO sums VALUES (md5(m.body::text)); END$$",
        )
        .await;
        c
    });
    other.until_blocked(pid).await;
    other.run(&format!("VACUUM (TRUNCATE false) {table}")).await;
    other.run(&format!("VACUUM FULL {table}")).await;
    other.run("SELECT pg_advisory_unlock(4)").await;
    let c = task.await.unwrap();
    assert_eq!(c.text("SELECT of_body FROM sums").await, sum);
}

async fn one_statement_sees_itself(cx: Cx) {
    let c = queue(&cx).await;
    for begin in [
        "",
        "BEGIN;",
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;",
    ] {
        c.run(&format!("{begin} SELECT 1")).await;
        let sent_and_read = "SELECT mq.send('q', '\"a\"') = (SELECT id FROM mq.read('q'))";
        assert!(c.yes(sent_and_read).await, "{begin}");
        let acked =
            "SELECT string_agg(mq.ack('q', id)::text || mq.ack('q', id)::text, '') FROM mq.q";
        assert_eq!(c.text(acked).await, "truefalse", "{begin}");
        let again = "SELECT mq.nack('q', id, receipt) AND \
                     (SELECT attempts = 2 AND failures = 1 FROM mq.read('q')) \
                     FROM mq.read('q') WHERE mq.send('q', '1') IS NOT NULL OR true";
        c.send("q", 1).await;
        assert!(c.yes(again).await, "{begin}");
        c.run("DELETE FROM mq.q").await;
        let chain = "WITH sent AS MATERIALIZED (SELECT mq.send('q', to_jsonb(n)) AS id FROM generate_series(1, 50) n), \
             got AS MATERIALIZED (SELECT r.id, r.receipt FROM (SELECT count(*) AS n FROM sent) s, \
               LATERAL mq.read('q', s.n::int) r), \
             acked AS MATERIALIZED (SELECT mq.ack('q', id, receipt) AS done FROM got) \
             SELECT count(*) FILTER (WHERE done) FROM acked";
        assert_eq!(c.int(chain).await, 50, "{begin}");
        let lateral = "SELECT count(DISTINCT r.id) FROM generate_series(1, 50) n, \
             LATERAL (SELECT mq.send('q', to_jsonb(n)) + 0 * n AS id) s, \
             LATERAL mq.pop('q', (1 + 0 * s.id)::int) r WHERE r.id = s.id";
        assert_eq!(c.int(lateral).await, 50, "{begin}");
        if !begin.is_empty() {
            c.run("COMMIT").await;
        }
        assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0, "{begin}");
    }
}

async fn functions_see_themselves(cx: Cx) {
    let c = queue(&cx).await;
    c.run(
        "CREATE FUNCTION cycle() RETURNS boolean LANGUAGE plpgsql AS $$DECLARE m mq.message; s bigint; BEGIN \
           s := mq.send('q', '1'); SELECT * INTO m FROM mq.read('q'); \
           BEGIN PERFORM mq.ack('q', m.id); PERFORM mq.send('q', '2'); RAISE 'undo'; EXCEPTION WHEN others THEN END; \
           RETURN m.id = s AND mq.nack('q', m.id, m.receipt) AND (SELECT id = s FROM mq.pop('q')) \
             AND NOT EXISTS (SELECT FROM mq.read('q')); END$$; \
         CREATE FUNCTION simple() RETURNS bigint LANGUAGE sql AS \
           $$SELECT mq.send('q', '1'); SELECT id FROM mq.pop('q')$$",
    )
    .await;
    for begin in ["", "BEGIN; ", "BEGIN ISOLATION LEVEL SERIALIZABLE; "] {
        c.run(&format!("{begin}SELECT 1")).await;
        let all = "SELECT count(*) FROM generate_series(1, 100) n WHERE cycle() AND simple() > 0";
        assert_eq!(c.int(all).await, 100, "{begin}");
        if !begin.is_empty() {
            c.run("COMMIT").await;
        }
    }
    c.run("DO $$BEGIN FOR i IN 1..100 LOOP ASSERT cycle(); IF i % 7 = 0 THEN COMMIT; ELSIF i % 11 = 0 THEN ROLLBACK; END IF; END LOOP; END$$")
        .await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn cursors_and_commits(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, 100) n")
        .await;
    c.run(
        "BEGIN; DECLARE a CURSOR FOR SELECT id, receipt FROM mq.read('q', 30); \
           DECLARE b CURSOR WITH HOLD FOR SELECT id, receipt FROM mq.read('q', 30)",
    )
    .await;
    let first = c.rows("FETCH 10 FROM a").await;
    for row in &first {
        let (id, receipt) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
        assert!(c.yes(&format!("SELECT mq.ack('q', {id}, {receipt})")).await);
    }
    assert_eq!(c.rows("FETCH ALL FROM a").await.len(), 20);
    c.run("COMMIT").await;
    let held = c.rows("FETCH ALL FROM b").await;
    assert_eq!(held.len(), 30);
    for row in &held {
        let (id, receipt) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
        assert!(c.yes(&format!("SELECT mq.ack('q', {id}, {receipt})")).await);
    }
    let states = "SELECT count(*) FILTER (WHERE state = 'ready') || ' ' || count(*) FILTER (WHERE state = 'leased') FROM mq.q";
    assert_eq!(c.text(states).await, "40 20");
}

/// A transaction that began before keeps seeing rows as they were, payloads outside included.
async fn old_snapshots_with_large_payloads(cx: Cx) {
    let (c, old) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.send('q', to_jsonb(noise(100000)))").await;
    let look = "SELECT md5(body::text) || ' ' || attempts FROM mq.q";
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        old.run(&format!("BEGIN ISOLATION LEVEL {level}")).await;
        let before = old.text(look).await;
        c.run("SELECT mq.nack('q', id, receipt) FROM mq.read('q'); SELECT mq.pop('q')")
            .await;
        c.run("SELECT mq.send('q', to_jsonb(noise(100000)))").await;
        assert_eq!(old.text(look).await, before, "{level}");
        let hand = old.hand("'q', 1, '1 hour'").await;
        assert_eq!(hand.attempts, 1, "{level}: the present one");
        assert!(old.settle("release", "q", &hand).await);
        old.run("COMMIT").await;
    }
}

/// A superuser writes rows past the queue, where readers have been: upkeep finds them, of every
/// priority, and wakes who waits.
async fn rows_that_nobody_reported(cx: Cx) {
    let c = queue(&cx).await;
    let storage = crate::storage::of(&c, "q").await;
    for _ in 0..3 {
        c.send("q", "\"sent\"").await;
    }
    assert_eq!(c.ints("SELECT id FROM mq.pop('q', 10)").await.len(), 3);
    assert!(c.ints("SELECT id FROM mq.pop('q', 10)").await.is_empty());
    let (_, task) = crate::wake::waiting(&cx, "CALL mq.wait('q', '20 s', NULL)").await;
    c.run(&format!(
        "INSERT INTO {storage} (id, enqueued_at, attempts, failures, rank, body) \
         SELECT n, now(), 0, 0, rank, to_jsonb(n) FROM (VALUES (1, 5), (2, 0), (3, 9)) AS r(n, rank)"
    ))
    .await;
    c.run("SELECT mq.maintain('q')").await;
    assert_eq!(task.await.unwrap().unwrap(), "t");
    let found = c.ints("SELECT id FROM mq.pop('q', 10)").await;
    assert_eq!(found, [2, 1, 3], "found, in the order of their priorities");
}

/// A transaction that only leases is over before its log is on the disk; one that did anything
/// else, or was told to wait, is not.
async fn leases_do_not_wait_for_the_log(cx: Cx) {
    let c = queue(&cx).await;
    c.run("CREATE TABLE t (n int); SET synchronous_commit = on")
        .await;
    for n in 0..40 {
        c.send("q", n).await;
    }
    // Whether the log up to the end of a transaction's own work is on the disk when it is over.
    let flushed = async |work: &str| {
        c.run(&format!(
            "BEGIN; {work}; SELECT set_config('my.lsn', pg_current_wal_insert_lsn()::text, false); COMMIT"
        ))
        .await;
        c.yes("SELECT pg_current_wal_flush_lsn() >= current_setting('my.lsn')::pg_lsn")
            .await
    };
    // The log writer, or another session, may be faster than the question.
    let mut waited = 0;
    for _ in 0..6 {
        waited += i32::from(flushed("SELECT mq.read('q')").await);
    }
    assert!(waited < 6, "every lease waited for the log");
    for work in [
        "SELECT mq.read('q'); INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1); SELECT mq.read('q')",
        "SELECT mq.read('q'); SAVEPOINT s; INSERT INTO t VALUES (1); RELEASE s",
        "SELECT mq.pop('q')",
        "SELECT mq.send('q', '1')",
        "SET LOCAL pg_broker.lease_commit = sync; SELECT mq.read('q')",
    ] {
        for _ in 0..3 {
            assert!(flushed(work).await, "not waited for the log: {work}");
        }
        assert_eq!(c.text("SHOW synchronous_commit").await, "on", "{work}");
    }
    // What fails on the way to its commit leaves the setting as it was.
    c.run("CREATE TABLE u (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await;
    c.refused(
        "BEGIN; SELECT mq.read('q'); INSERT INTO u VALUES (1), (1); COMMIT",
        "23505",
    )
    .await;
    c.run("ROLLBACK").await;
    assert_eq!(c.text("SHOW synchronous_commit").await, "on");
}

/// A transaction that only leased and fails when it was already let off waiting, at the last check
/// of its commit, leaves the session as patient as it was.
async fn errors_after_the_wait_was_spared(cx: Cx) {
    let (c, before, after) = (queue(&cx).await, cx.connect().await, cx.connect().await);
    c.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await;
    c.run("SET synchronous_commit = on").await;
    for n in 0..2 {
        c.send("q", n).await;
        for session in [&before, &c, &after] {
            session.run("BEGIN ISOLATION LEVEL SERIALIZABLE").await;
        }
        // It is between two others: one read what it writes, one writes what it read.
        before.run("SELECT count(*) FROM mq.q").await;
        c.run("SELECT * FROM t").await;
        assert_eq!(c.hands("'q', 1, '1 hour'").await.len(), 1);
        after.run("UPDATE t SET n = n + 1; COMMIT").await;
        c.refused("COMMIT", "40001").await;
        assert_eq!(c.text("SHOW synchronous_commit").await, "on");
        before.run("COMMIT").await;
        let hand = c.hand("'q', 9, '1 hour'").await;
        assert!(c.settle("ack", "q", &hand).await);
    }
}
