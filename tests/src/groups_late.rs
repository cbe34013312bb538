//! Messages of a group that are committed after one behind them was handed out, and groups that are
//! given up by a savepoint.

use crate::groups_turns::{ENDS, Waiter, reads, send, sessions, settle};
use crate::harness::Cx;
use crate::tests;

tests![
    late_commits,
    late_and_popped,
    late_behind_a_savepoint,
    taken_in_a_savepoint,
    asked_for_more,
    own_messages,
];

/// A message with a lower id is committed while one behind it is held: it waits for that.
async fn late_commits(cx: Cx) {
    let [a, b, r, x] = sessions(&cx).await;
    for end in &ENDS {
        for is_open in [false, true] {
            a.run("BEGIN").await;
            a.run("SAVEPOINT s").await;
            send(&a, "late").await;
            end.begin(&cx, &a).await;
            for body in ["b1", "b2"] {
                send(&b, body).await;
            }
            if is_open {
                r.run("BEGIN").await;
            }
            assert_eq!(reads(&r, 1).await, "b1");
            end.finish(&cx, &a, &b).await;
            assert_eq!(reads(&x, 9).await, "", "{}", end.here);
            assert_eq!(reads(&x, 9).await, "", "{}: again", end.here);
            if is_open {
                // The one who holds the group may go on with what came.
                r.run("COMMIT").await;
                assert_eq!(reads(&x, 9).await, "", "{}: b1 is leased", end.here);
            }
            let waiter = Waiter::start(&cx).await;
            settle(&r, "ack", "b1").await;
            let (next, rest) = match end.commits {
                true => ("late", "b2"),
                false => ("b2", ""),
            };
            assert_eq!(waiter.gets().await, next, "{}", end.here);
            settle(&x, "ack", next).await;
            assert_eq!(reads(&x, 9).await, rest, "{}", end.here);
            x.run("SELECT mq.purge_queue('q')").await;
        }
    }
}

/// The same where the one behind is popped, and that is undone.
async fn late_and_popped(cx: Cx) {
    let [a, b, r, x] = sessions(&cx).await;
    for end in &ENDS {
        a.run("BEGIN").await;
        send(&a, "late").await;
        send(&b, "b1").await;
        r.run("BEGIN").await;
        r.run("SAVEPOINT s").await;
        assert_eq!(r.text("SELECT body FROM mq.pop('q')").await, "\"b1\"");
        a.run("COMMIT").await;
        end.begin(&cx, &r).await;
        assert_eq!(reads(&x, 9).await, "", "{}", end.here);
        let waiter = Waiter::start(&cx).await;
        end.finish(&cx, &r, &b).await;
        assert_eq!(waiter.gets().await, "late", "{}", end.here);
        assert_eq!(reads(&x, 9).await, "", "{}", end.here);
        settle(&x, "ack", "late").await;
        let rest = if end.commits { "" } else { "b1" };
        assert_eq!(reads(&x, 9).await, rest, "{}", end.here);
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// Sent in savepoints that stay and go; the reader of what is behind has several.
async fn late_behind_a_savepoint(cx: Cx) {
    let [a, b, r, x] = sessions(&cx).await;
    a.run("BEGIN").await;
    send(&a, "l1").await;
    a.run("SAVEPOINT s").await;
    send(&a, "never").await;
    a.run("ROLLBACK TO s").await;
    send(&a, "l2").await;
    a.run("RELEASE s").await;
    for body in ["b1", "b2", "b3"] {
        send(&b, body).await;
    }
    assert_eq!(reads(&r, 2).await, "b1 b2");
    a.run("COMMIT").await;
    assert_eq!(reads(&x, 9).await, "");
    settle(&r, "ack", "b1").await;
    assert_eq!(reads(&x, 9).await, "", "b2 is held");
    settle(&r, "release", "b2").await;
    assert_eq!(reads(&x, 9).await, "l1 l2 b2 b3");
}

/// A savepoint that is rolled back gives up the groups that were taken since; taken again, they are the
/// transaction's again.
async fn taken_in_a_savepoint(cx: Cx) {
    let [c, a, b, x] = sessions(&cx).await;
    a.run("BEGIN").await;
    send(&a, "late").await;
    send(&b, "m1").await;
    c.run("BEGIN").await;
    c.run("SAVEPOINT s").await;
    assert_eq!(reads(&c, 1).await, "m1");
    c.run("ROLLBACK TO s").await;
    assert_eq!(reads(&c, 1).await, "m1");
    a.run("COMMIT").await;
    assert_eq!(reads(&x, 1).await, "", "the transaction has m1");
    c.run("ROLLBACK TO s").await;
    assert_eq!(reads(&x, 1).await, "late");
    assert_eq!(reads(&c, 1).await, "");
    c.run("COMMIT").await;
    assert_eq!(reads(&c, 1).await, "");
    settle(&x, "ack", "late").await;
    c.run("BEGIN").await;
    c.run("SAVEPOINT s").await;
    c.run("SAVEPOINT t").await;
    assert_eq!(reads(&c, 1).await, "m1");
    c.run("RELEASE t").await;
    c.run("ROLLBACK TO s").await;
    assert_eq!(reads(&x, 1).await, "m1");
}

/// Who holds messages of a group and asks for more in the same transaction keeps the group, though it
/// gets none.
async fn asked_for_more(cx: Cx) {
    let [a, b, r, x] = sessions(&cx).await;
    a.run("BEGIN").await;
    send(&a, "late").await;
    send(&b, "b1").await;
    r.run("BEGIN").await;
    assert_eq!(reads(&r, 1).await, "b1");
    a.run("COMMIT").await;
    r.warnings();
    assert_eq!(reads(&r, 9).await, "", "behind b1, which is r's own");
    assert!(r.warnings().is_empty());
    assert_eq!(reads(&x, 9).await, "", "r holds b1");
    r.run("ROLLBACK").await;
    x.run("SELECT mq.purge_queue('q')").await;
    // The same within one statement.
    a.run("BEGIN; SELECT pg_advisory_lock(7)").await;
    send(&a, "late").await;
    send(&b, "b1").await;
    r.run("BEGIN").await;
    r.run(
        "CREATE FUNCTION pg_temp.reads_twice() RETURNS SETOF jsonb LANGUAGE plpgsql AS $$ BEGIN \
         RETURN QUERY SELECT body FROM mq.read('q', 1, '1 hour'); \
         PERFORM pg_advisory_xact_lock(7); \
         RETURN QUERY SELECT body FROM mq.read('q', 9, '1 hour'); END $$",
    )
    .await;
    let twice = r.text("SELECT string_agg(t #>> '{}', ' ') FROM pg_temp.reads_twice() t");
    let committed = async {
        b.until_blocked(r.pid).await;
        a.run("COMMIT; SELECT pg_advisory_unlock(7)").await;
    };
    let (twice, ()) = tokio::join!(twice, committed);
    assert_eq!(twice, "b1");
    assert_eq!(reads(&x, 9).await, "", "r holds b1");
    r.run("COMMIT").await;
    assert_eq!(reads(&x, 9).await, "", "b1 is leased");
    settle(&r, "ack", "b1").await;
    assert_eq!(reads(&x, 9).await, "late");
}

/// Who reads what he has sent himself, and not committed, waits for those behind it that others hold; and
/// has it before those behind it, whatever was learnt of the group meanwhile.
async fn own_messages(cx: Cx) {
    let [a, b, r, x] = sessions(&cx).await;
    for level in ["READ COMMITTED", "REPEATABLE READ"] {
        a.run(&format!("BEGIN ISOLATION LEVEL {level}")).await;
        send(&a, "own").await;
        send(&b, "b1").await;
        // A transaction that has changed something learns nothing for others.
        r.run("BEGIN").await;
        r.run("SELECT mq.send('q', '1', group_key => 'another', delay => '1 hour')")
            .await;
        assert_eq!(reads(&r, 1).await, "b1");
        r.run("COMMIT").await;
        assert_eq!(reads(&a, 9).await, "", "{level}: b1 is held");
        settle(&r, "ack", "b1").await;
        assert_eq!(reads(&a, 9).await, "own", "{level}");
        send(&b, "b2").await;
        a.run("COMMIT").await;
        assert_eq!(reads(&x, 9).await, "", "{level}: own is held");
        settle(&a, "ack", "own").await;
        assert_eq!(reads(&x, 9).await, "b2", "{level}");
        settle(&x, "ack", "b2").await;

        a.run(&format!("BEGIN ISOLATION LEVEL {level}")).await;
        send(&a, "own").await;
        for body in ["b1", "b2", "b3"] {
            send(&b, body).await;
        }
        for body in ["b1", "b2"] {
            assert_eq!(reads(&r, 1).await, body);
            settle(&r, "ack", body).await;
        }
        assert_eq!(reads(&a, 1).await, "own", "{level}: before b3");
        a.run("ROLLBACK").await;
        assert_eq!(reads(&x, 9).await, "b3", "{level}");
        settle(&x, "ack", "b3").await;
    }
}
