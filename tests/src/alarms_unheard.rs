//! Waiters woken for what no commit tells of: on the server, and with the patience, of `alarms`.

use crate::alarms::{ANY, READ, Sleeper, WAIT, purge, quiet};
use crate::harness::{Cx, spawn};
use crate::tests;
use crate::wake::{patient, queue};

tests![prepared, cancelled_halfway, when_the_time_is_over];

/// Whoever ends a prepared transaction, it is neither its session nor the waiter's.
async fn prepared(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, holder) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.create_queue('other')").await;
    for (before, deed, end) in [
        ("SELECT 1", "SELECT mq.send('q', '1')", "COMMIT"),
        (
            "SELECT 1",
            "SELECT mq.send('q', '1', priority => 9)",
            "COMMIT",
        ),
        (
            "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 hour')",
            "SELECT mq.nack('q', id) FROM mq.q",
            "COMMIT",
        ),
        (
            "SELECT mq.send('q', '1')",
            "SELECT mq.read('q', 9, '1 hour')",
            "ROLLBACK",
        ),
        (
            "SELECT mq.send('q', '1')",
            "SELECT mq.pop('q', 9)",
            "ROLLBACK",
        ),
    ] {
        for statement in [WAIT, ANY, READ] {
            c.run(before).await;
            holder
                .run(&format!("BEGIN; {deed}; PREPARE TRANSACTION '{}'", cx.db))
                .await;
            let sleeper = Sleeper::new(&cx, statement).await;
            c.run(&format!("{end} PREPARED '{}'", cx.db)).await;
            sleeper.finds(&format!("{statement}: {deed}; {end}")).await;
            purge(&c).await;
        }
    }
    // Nobody but the waiter itself can find out when it comes due.
    for statement in [WAIT, ANY, READ] {
        holder
            .run(&format!(
                "BEGIN; SELECT mq.send('q', '1', delay => '1500 ms'); PREPARE TRANSACTION '{}'",
                cx.db
            ))
            .await;
        let sleeper = Sleeper::new(&cx, statement).await;
        c.run(&format!("COMMIT PREPARED '{}'", cx.db)).await;
        sleeper.finds(&format!("{statement}: a delay")).await;
        purge(&c).await;
    }
    // As many as there are messages.
    holder
        .run(&format!(
            "BEGIN; SELECT mq.send_batch('q', ARRAY['1', '2', '3']::jsonb[]); PREPARE TRANSACTION '{}'",
            cx.db
        ))
        .await;
    let sleepers = [
        Sleeper::new(&cx, READ).await,
        Sleeper::new(&cx, READ).await,
        Sleeper::new(&cx, READ).await,
    ];
    c.run(&format!("COMMIT PREPARED '{}'", cx.db)).await;
    for sleeper in sleepers {
        sleeper.finds("three together").await;
    }
}

/// A batch is cancelled between its messages: nobody has been told what it did to the first.
async fn cancelled_halfway(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, gate) = (queue(&cx).await, cx.connect().await);
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let ids = [c.send("q", 1).await, c.send("q", 2).await];
        for (id, lease) in ids.into_iter().zip(["500 ms", "1 hour"]) {
            assert_eq!(c.hand(&format!("'q', 1, '{lease}'")).await.id, id);
        }
        gate.run(&format!("BEGIN; SELECT mq.ack('q', {})", ids[1]))
            .await;
        let deleter = cx.connect().await;
        let pid = deleter.pid;
        let batch = format!("SELECT mq.delete_batch('q', ARRAY{ids:?})");
        let deleted = spawn(async move { deleter.cells(&batch).await.is_ok() });
        c.until_blocked(pid).await;
        c.until("SELECT count(*) = 1 FROM mq.q WHERE state = 'ready'")
            .await;
        // The batch has the one whose lease has ended.
        let sleeper = Sleeper::new(&cx, READ).await;
        c.run(&format!("SELECT {end}({pid})")).await;
        sleeper.finds(end).await;
        assert!(!deleted.await.unwrap());
        gate.run("COMMIT").await;
        purge(&c).await;
    }
}

/// What nobody tells of, since plain SQL has written it, is found by a last look.
async fn when_the_time_is_over(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('other')").await;
    let table = crate::storage::of(&c, "q").await;
    for statement in [
        "CALL mq.wait('q', '2 s', NULL)",
        "CALL mq.wait_any(ARRAY['other', 'q'], '2 s', NULL)",
        "SELECT 't' FROM mq.read('q', 1, '1 hour', '2 s')",
    ] {
        let waiter = patient(&cx).await;
        waiter.run("SET pg_broker.hints = off").await;
        let sleeper = Sleeper::of(waiter, statement);
        sleeper.until_asleep(&c).await;
        c.run(&format!(
            "INSERT INTO {table} (id, enqueued_at, attempts, failures, rank, body) \
             SELECT nextval('{table}_id'), now(), 0, 0, 5, '1'"
        ))
        .await;
        sleeper.finds(statement).await;
        c.run(&format!("DELETE FROM {table}")).await;
    }
}
