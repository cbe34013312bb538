//! Tenants that take turns: whatever ends in whatever way, messages come again, and none is lost
//! between where readers look and whose turn it is.

use crate::conn::Conn;
use crate::fair::{reads, send, send_with, sessions};
use crate::groups_turns::{ENDS, Waiter, settle};
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    nobody_is_forgotten,
    leased_before,
    the_session_ends,
    leases_that_end,
    late_commits,
    what_is_not_committed_yet,
    undone_savepoints,
    due_while_another_looks,
    passed_while_another_takes_all,
    passed_by_one_who_gives_up,
    in_a_hurry,
];

/// What a consumer does to the first message in a transaction of its own, and whether it is there
/// again when that has committed.
const DEEDS: [(&str, bool); 7] = [
    ("mq.pop('q')", false),
    ("mq.read('q') m, mq.ack('q', m.id, m.receipt)", false),
    ("mq.read('q') m, mq.archive('q', m.id, m.receipt)", false),
    ("mq.read('q') m, mq.reject('q', m.id, m.receipt)", false),
    ("mq.read('q', 1, '1 hour')", false),
    ("mq.read('q') m, mq.release('q', m.id, m.receipt)", true),
    (
        "mq.read('q') m, mq.nack('q', m.id, m.receipt, delay => '0')",
        true,
    ),
];

async fn unhinted(c: &Conn, is: bool) {
    let hints = if is { "off" } else { "on" };
    c.run(&format!("SET pg_broker.hints = {hints}")).await;
}

/// Each deed, ended in each way, while others read what else there is and go past what is held; those
/// who do so with hints and without.
async fn nobody_is_forgotten(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    for (who_is_blind, what) in [(0, "all see"), (1, "the consumer"), (2, "the reader")] {
        unhinted(&c, who_is_blind == 1).await;
        unhinted(&x, who_is_blind == 2).await;
        for (deed, is_again) in DEEDS {
            for end in &ENDS {
                let told = format!("{what}: {deed}: {} {}", end.here, end.commits);
                send(&b, "a1 a2 b1 b2").await;
                c.run("BEGIN").await;
                c.run("SAVEPOINT s").await;
                c.run(&format!("SELECT * FROM {deed}")).await;
                // Whose turn it is first depends on who was here before.
                let mut others: Vec<String> =
                    reads(&x, 3).await.split(' ').map(str::to_string).collect();
                assert_eq!(others.len(), 3, "{told}: {others:?}");
                others.sort();
                let first = ["a1", "a2", "b1", "b2"]
                    .into_iter()
                    .find(|m| !others.iter().any(|o| o == m))
                    .unwrap();
                assert_eq!(reads(&x, 9).await, "", "{told}: {first} is held");
                let is_there = is_again || !end.commits;
                let waiter = match is_there {
                    true => Some(Waiter::start(&cx).await),
                    false => None,
                };
                end.begin(&cx, &c).await;
                assert_eq!(reads(&x, 9).await, "", "{told}: still held");
                end.finish(&cx, &c, &b).await;
                match waiter {
                    Some(waiter) => assert_eq!(waiter.gets().await, first, "{told}"),
                    None => assert_eq!(reads(&x, 9).await, "", "{told}"),
                }
                assert_eq!(reads(&x, 9).await, "", "{told}: once");
                x.run("SELECT mq.purge_queue('q')").await;
            }
        }
    }
}

/// The message was leased before, and is settled in a transaction.
async fn leased_before(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    for verb in ["ack", "archive", "reject", "delete", "release", "nack"] {
        for end in &ENDS {
            let told = format!("{verb}: {}", end.here);
            send(&b, "a1 a2 b1").await;
            assert_eq!(reads(&c, 1).await, "a1");
            c.run("BEGIN").await;
            c.run("SAVEPOINT s").await;
            settle(&c, verb, "a1").await;
            assert_eq!(reads(&x, 9).await, "b1 a2", "{told}");
            assert_eq!(reads(&x, 9).await, "", "{told}: passed");
            end.begin(&cx, &c).await;
            assert_eq!(reads(&x, 9).await, "", "{told}: passed again");
            end.finish(&cx, &c, &b).await;
            let again = matches!(verb, "release" | "nack") && end.commits;
            assert_eq!(reads(&x, 9).await, if again { "a1" } else { "" }, "{told}");
            if !end.commits {
                settle(&b, "release", "a1").await;
                assert_eq!(reads(&x, 9).await, "a1", "{told}");
            }
            x.run("SELECT mq.purge_queue('q')").await;
        }
    }
}

/// The consumer's session is terminated in the middle.
async fn the_session_ends(cx: Cx) {
    let [b, x] = sessions(&cx, "").await;
    for (deed, _) in DEEDS {
        let c = cx.connect().await;
        send(&b, "a1 a2 b1").await;
        c.run("BEGIN").await;
        c.run(&format!("SELECT * FROM {deed}")).await;
        assert_eq!(reads(&x, 9).await, "b1 a2", "{deed}");
        assert_eq!(reads(&x, 9).await, "", "{deed}");
        let waiter = Waiter::start(&cx).await;
        x.run(&format!("SELECT pg_terminate_backend({})", c.pid))
            .await;
        assert_eq!(waiter.gets().await, "a1", "{deed}");
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// Leases and delays that end by themselves, of messages that others went past meanwhile.
async fn leases_that_end(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    send(&b, "a1 a2 b1 b2").await;
    let read = "SELECT string_agg(body #>> '{}', ' ') FROM mq.read('q', 2, '400 ms')";
    assert_eq!(c.text(read).await, "a1 b1");
    assert_eq!(reads(&x, 9).await, "a2 b2");
    let waiters = [Waiter::start(&cx).await, Waiter::start(&cx).await];
    let mut got = Vec::new();
    for waiter in waiters {
        got.push(waiter.gets().await);
    }
    got.sort();
    assert_eq!(got, ["a1", "b1"]);
    for how in [
        "SELECT mq.release('q', id, delay => '200 ms') FROM mq.q ORDER BY id",
        "SELECT mq.nack('q', id, delay => '200 ms') FROM mq.q ORDER BY id",
        "SELECT mq.extend('q', id, visibility => '200 ms') FROM mq.q ORDER BY id",
    ] {
        c.run(how).await;
        for _ in 0..3 {
            let first = Waiter::start(&cx).await.gets().await;
            assert_ne!(first, "", "{how}");
        }
        assert_ne!(reads(&x, 1).await, "", "{how}");
        assert_eq!(reads(&x, 9).await, "", "{how}");
    }
    send_with(&b, "c1", ", delay => '200 ms'").await;
    send_with(&b, "c2", ", delay => '1 hour'").await;
    assert_eq!(reads(&x, 9).await, "");
    assert_eq!(Waiter::start(&cx).await.gets().await, "c1");
    assert_eq!(reads(&x, 9).await, "");
}

/// A message with a lower id is committed when those behind it have all been handed out, and so has its
/// tenant's place been given up.
async fn late_commits(cx: Cx) {
    let [a, b, x] = sessions(&cx, "").await;
    for end in &ENDS {
        for others in ["a2 a3 b1", "b1 b2", "a2"] {
            a.run("BEGIN").await;
            a.run("SAVEPOINT s").await;
            send(&a, "a1").await;
            end.begin(&cx, &a).await;
            send(&b, others).await;
            let n = others.split(' ').count();
            assert_eq!(reads(&x, 9).await.split(' ').count(), n);
            assert_eq!(reads(&x, 9).await, "", "{}", end.here);
            // Some are there still, some are not.
            send(&b, "a4 b4").await;
            assert_ne!(reads(&x, 1).await, "");
            end.finish(&cx, &a, &b).await;
            let rest = reads(&x, 9).await;
            assert_eq!(rest.contains("a1"), end.commits, "{}: {rest}", end.here);
            assert_eq!(rest.split(' ').count(), 1 + usize::from(end.commits));
            assert_eq!(reads(&x, 9).await, "");
            x.run("SELECT mq.purge_queue('q')").await;
        }
    }
}

/// A transaction reads what it has sent, and released, before anybody else sees it; others who go past
/// meanwhile take nothing from it, nor does it hide anything from them.
async fn what_is_not_committed_yet(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    for commits in [true, false] {
        send(&b, "b1 b2").await;
        c.run("BEGIN").await;
        send(&c, "a1 a2 a3 b3").await;
        assert_eq!(reads(&c, 2).await, "b1 a1");
        assert_eq!(reads(&x, 1).await, "b2");
        assert_eq!(reads(&x, 9).await, "");
        assert_eq!(reads(&c, 1).await, "a2", "others have been there");
        settle(&c, "release", "a1").await;
        assert_eq!(reads(&x, 9).await, "");
        assert_eq!(reads(&c, 1).await, "a1", "and again");
        send(&c, "a4").await;
        assert_eq!(reads(&c, 1).await, "b3");
        settle(&c, "release", "a2").await;
        assert_eq!(reads(&x, 9).await, "");
        c.run(if commits { "COMMIT" } else { "ROLLBACK" }).await;
        let rest = if commits { "a2 a3 a4" } else { "b1" };
        assert_eq!(reads(&x, 9).await, rest);
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// What was taken in savepoints that are undone is there at once: for the same transaction, and for
/// others.
async fn undone_savepoints(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    send(&b, "a1 a2 a3 b1").await;
    c.run("BEGIN").await;
    assert_eq!(reads(&c, 1).await, "a1");
    for own in [true, false, true] {
        c.run("SAVEPOINT s").await;
        assert_eq!(reads(&c, 9).await.split(' ').count(), 3);
        assert_eq!(reads(&x, 9).await, "");
        c.run("ROLLBACK TO s").await;
        if own {
            assert_eq!(reads(&c, 9).await.split(' ').count(), 3);
            c.run("ROLLBACK TO s").await;
        } else {
            x.run("BEGIN").await;
            assert_eq!(reads(&x, 9).await.split(' ').count(), 3);
            x.run("ROLLBACK").await;
        }
    }
    c.run("ROLLBACK").await;
    let mut rest: Vec<String> = reads(&x, 9).await.split(' ').map(str::to_string).collect();
    rest.sort();
    assert_eq!(rest.join(" "), "a1 a2 a3 b1");
}

/// A slow filter, as a message of a tenant that it is to be tried on.
const SLOW: &str =
    "SELECT mq.send('q', to_jsonb(ARRAY(SELECT generate_series(1, 40000))), '{\"tenant\": \"a\"}')";

/// Who began to read before a message came due serves its tenant after others have met it: it is not
/// due for him, and nobody else is going to tell of it again.
async fn due_while_another_looks(cx: Cx) {
    let [mut c, b, x] = sessions(&cx, "").await;
    for is_leased in [false, true] {
        send(&b, "b1").await;
        assert_eq!(reads(&b, 1).await, "b1");
        for _ in 0..40 {
            b.run(SLOW).await;
        }
        let soon = match is_leased {
            true => "extend('q', id, visibility => '250 ms')",
            false => "release('q', id, delay => '250 ms')",
        };
        b.run(&format!("SELECT mq.{soon} FROM mq.q WHERE body = '\"b1\"'"))
            .await;
        // All are met: those of a have their place, and b's is waited for.
        assert_eq!(
            x.ints("SELECT id FROM mq.read('q', 1, '1 hour')")
                .await
                .len(),
            1
        );
        let slow = spawn(async move {
            let none = "'q', 9, '1 hour', filter => '$.body[*] ? (@ == -1)'";
            let hands = c.hands(none).await;
            (c, hands)
        });
        b.until("SELECT visible_at < clock_timestamp() FROM mq.q WHERE body = '\"b1\"'")
            .await;
        assert!(!slow.is_finished(), "it was not slow enough");
        // Meets what is due, and takes what was there before.
        let first = "SELECT id FROM mq.read('q', 1, '1 hour', filter => '$.body[0] ? (@ == 1)')";
        assert_eq!(x.ints(first).await.len(), 1);
        assert!(!slow.is_finished(), "it was not slow enough");
        let (back, hands) = slow.await.unwrap();
        assert_eq!(hands, []);
        c = back;
        let rest = "SELECT count(*) FROM mq.read('q', 100) WHERE body = '\"b1\"'";
        assert_eq!(x.int(rest).await, 1, "leased: {is_leased}");
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// Who takes all that there is of a tenant does not give up what others have met since he began.
async fn passed_while_another_takes_all(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    for _ in 0..40 {
        b.run(SLOW).await;
    }
    let one = "SELECT count(*) FROM mq.read('q', 1, '1 hour')";
    assert_eq!(x.int(one).await, 1);
    let slow = spawn(async move {
        let all =
            "SELECT count(*) FROM mq.read('q', 99, '1 hour', filter => '$.body[*] ? (@ == 40000)')";
        c.int(all).await
    });
    // He has begun when he has one.
    b.until(&format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() \
         AND state = 'active' AND backend_xid IS NOT NULL",
        cx.db
    ))
    .await;
    send(&b, "a1 a2").await;
    assert_eq!(x.int(one).await, 1);
    assert!(!slow.is_finished(), "it was not slow enough");
    assert_eq!(slow.await.unwrap(), 38);
    assert_eq!(reads(&x, 9).await, "a1 a2");
}

/// A read that fails after it has passed messages, and one that is cancelled, leave nothing undone.
async fn passed_by_one_who_gives_up(cx: Cx) {
    let [c, b, x] = sessions(&cx, "").await;
    for _ in 0..5 {
        send(&b, "a1 b1").await;
        c.refused(
            "SELECT 1 / (SELECT count(*) - 2 FROM mq.read('q', 9, '1 hour'))",
            "22012",
        )
        .await;
        c.run("BEGIN").await;
        c.run("SAVEPOINT s").await;
        c.refused(
            "SELECT 1 / (SELECT count(*) - 1 FROM mq.pop('q', 1))",
            "22012",
        )
        .await;
        c.run("ROLLBACK TO s").await;
        assert_eq!(reads(&c, 9).await.split(' ').count(), 2);
        c.run("ROLLBACK").await;
        assert_eq!(reads(&x, 9).await.split(' ').count(), 2);
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// Sends, one message a transaction, by those who do nothing else.
const SENDS: &str = "DO $$ BEGIN FOR n IN 1..1500 LOOP \
    PERFORM mq.send('q', '1', jsonb_build_object('tenant', n % 3)); COMMIT; END LOOP; END $$";

/// Takes one at a time, until there has been nothing for a while; some are undone.
const TAKES: &str = "DO $$ DECLARE empty int = 0; is_any boolean; BEGIN WHILE empty < 300 LOOP \
    SELECT count(*) > 0 INTO is_any FROM mq.pop('q', 1); \
    empty = CASE WHEN is_any THEN 0 ELSE empty + 1 END; \
    IF is_any AND random() < 0.05 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$";

/// Sessions that send and take as fast as they can, more of them than there are processors, so that each
/// is interrupted anywhere: when all is quiet nothing is left that readers do not find.
async fn in_a_hurry(cx: Cx) {
    let [x] = sessions(&cx, "").await;
    let fast = format!("ALTER DATABASE {} SET synchronous_commit = off", cx.db);
    x.run(&fast).await;
    for round in 0..10 {
        let mut all = Vec::new();
        for sql in [SENDS, SENDS, SENDS, TAKES, TAKES, TAKES, TAKES, TAKES] {
            let c = cx.connect().await;
            all.push(spawn(async move { c.run(sql).await }));
        }
        for one in all {
            one.await.unwrap();
        }
        while x.int("SELECT count(*) FROM mq.pop('q', 500)").await > 0 {}
        let left = x.int("SELECT count(*) FROM mq.q").await;
        assert_eq!(left, 0, "not found in round {round}");
    }
}
