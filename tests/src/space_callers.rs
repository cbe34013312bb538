//! Whoever calls, and from wherever: roles that own nothing make room by reading, transactions of
//! every level reach what was moved since their snapshot, and no transaction that goes on, or is
//! prepared, keeps the locks of a rotation.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep, is_segment};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;

tests![
    readers_who_own_nothing,
    with_a_new_owner,
    later_than_the_snapshot,
    prepared_by_readers,
    upkeep_in_a_transaction,
    dropped_while_it_rotates,
];

const OWNERS: &str = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class \
                      WHERE relnamespace = 'mq_internal'::regnamespace AND relname ~ '^q_1(_s[0-9]+|_p)?$'";

/// The roles of an application: one owns the queue, one sends, one consumes; none of them may make a
/// table anywhere, and no worker helps.
async fn readers_who_own_nothing(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    let (owner, consumer) = (cx.role("owner").await, cx.role("consumer").await);
    c.run(&format!(
        "GRANT EXECUTE ON FUNCTION mq.create_queue TO {owner}; SET ROLE {owner}"
    ))
    .await;
    space::create(&c, "q", LEAST, "").await;
    c.run(&format!(
        "GRANT INSERT, SELECT, UPDATE ON mq.q TO {consumer}; RESET ROLE"
    ))
    .await;
    // `Traffic` looks at sizes as a superuser would; its sends and reads are the consumer's.
    let admin = cx.connect().await;
    admin
        .run(&format!("GRANT USAGE ON SCHEMA mq_internal TO {consumer}"))
        .await;
    let mut traffic = Traffic::new(cx.connect_as(&consumer).await, "q", Upkeep::Readers).await;
    traffic.turns(5).await;
    traffic.finish().await;
    assert_eq!(c.text(OWNERS).await, owner);
    assert!(space::segments(&c, "q").await.len() > 1);
    c.run(&format!("DROP OWNED BY {owner} CASCADE")).await;
    let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace AND relname ~ '^q_[0-9]'";
    assert_eq!(c.int(left).await, 0);
}

/// The tables go with the view, those that are there and those that are made later.
async fn with_a_new_owner(cx: Cx) {
    for (mode, upkeep) in [(0, Upkeep::Calls), (1, Upkeep::Worker)] {
        let cx = match upkeep {
            Upkeep::Worker => space::working(&cx).await,
            _ => space::quiet(&cx).await,
        };
        let c = cx.connect().await;
        let (old, new) = (cx.role("old").await, cx.role("new").await);
        c.run(&format!(
            "GRANT EXECUTE ON FUNCTION mq.create_queue TO {old}; SET ROLE {old}"
        ))
        .await;
        space::create(&c, "q", LEAST, "").await;
        c.run("RESET ROLE").await;
        let mut traffic = Traffic::new(cx.connect().await, "q", upkeep).await;
        traffic.turns(4).await;
        assert_eq!(c.text(OWNERS).await, old, "{mode}");
        let give = if mode == 0 {
            format!("ALTER VIEW mq.q OWNER TO {new}")
        } else {
            format!("REASSIGN OWNED BY {old} TO {new}")
        };
        c.run(&give).await;
        if mode == 0 {
            assert_eq!(c.text(OWNERS).await, new, "{give}");
            // As if it had just been made.
            c.run(&format!("ALTER TABLE mq_internal.q_1_s1 OWNER TO {old}"))
                .await;
        }
        // A table that was just being made is given away by the next step.
        c.run("SELECT mq.maintain('q')").await;
        c.until(&format!("SELECT ({OWNERS}) = '{new}'")).await;
        c.run(&format!("DROP OWNED BY {old}; DROP ROLE {old}"))
            .await;
        let browser = cx.connect().await;
        browser.run("BEGIN; SELECT count(*) FROM mq.q").await;
        traffic.turns(6).await;
        browser.run("COMMIT").await;
        traffic.finish().await;
        assert_eq!(c.text(OWNERS).await, new, "{give}, and later");
        c.run("SELECT mq.drop_queue('q')").await;
        c.run(&format!("DROP OWNED BY {new}; DROP ROLE {new}"))
            .await;
    }
}

/// Calls see the present, whatever the snapshot of their transaction, also of what was moved since.
async fn later_than_the_snapshot(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(2).await;
    let late = cx.connect().await;
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for verb in ["ack", "nack", "release", "extend", "reject", "archive"] {
            let id = traffic.c.send("q", 5).await;
            let hand = traffic.c.hand("'q', 1, '1 hour'").await;
            assert_eq!(hand.id, id);
            late.run(&format!(
                "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class"
            ))
            .await;
            let mut turns = 0;
            while is_segment(&space::places(&traffic.c, "q").await[&id]) {
                assert!(turns < 20, "{:#?}", space::parts(&traffic.c, "q").await);
                traffic.turns(1).await;
                turns += 1;
            }
            assert!(late.settle(verb, "q", &hand).await, "{level}: {verb}");
            late.run("COMMIT").await;
            traffic.c.run(&format!("SELECT mq.delete('q', {id})")).await;
        }
        // And reading takes what came, and what was moved, since.
        let id = traffic
            .c
            .int("SELECT mq.send('q', '6', delay => '1 hour')")
            .await;
        late.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class"
        ))
        .await;
        while is_segment(&space::places(&traffic.c, "q").await[&id]) {
            traffic.turns(1).await;
        }
        traffic.drain().await;
        let hand = traffic
            .c
            .text(&format!("SELECT (mq.get('q', {id})).id"))
            .await;
        assert_eq!(hand, id.to_string());
        let new = traffic.c.send("q", 7).await;
        let ids: Vec<i64> = late
            .hands("'q', 5, '1 hour'")
            .await
            .iter()
            .map(|h| h.id)
            .collect();
        assert_eq!(ids, [new], "{level}");
        late.run("ROLLBACK").await;
        assert!(late.yes(&format!("SELECT mq.delete('q', {id})")).await);
        traffic.finish_with(&[new]).await;
    }
}

/// The locks of a rotation that a transaction has.
async fn strong_locks(c: &Conn, of: &str) -> String {
    let sql = format!(
        "SELECT string_agg(relation::regclass || ' ' || mode, ', ') FROM pg_locks \
         WHERE locktype = 'relation' AND mode IN ('AccessExclusiveLock', 'ShareUpdateExclusiveLock', \
         'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock') \
         AND relation::regclass::text ~ 'mq_internal.q_' AND {of}"
    );
    c.text(&sql).await
}

/// A reader whose transaction is prepared leaves rotation to others.
async fn prepared_by_readers(cx: Cx) {
    let server = Server::start("space-prepared-by-readers", &Upkeep::Readers.settings()).await;
    let cx = cx.on(Arc::new(server));
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Readers).await;
    traffic.turns(3).await;
    for round in 0..40 {
        let ids = traffic.send(32).await;
        c.run("BEGIN; SELECT mq.pop('q', 16)").await;
        if round % 3 == 0 {
            c.run("SELECT mq.maintain('q')").await;
        }
        c.run("PREPARE TRANSACTION 'p'").await;
        let locks = strong_locks(&traffic.c, "pid IS NULL").await;
        assert_eq!(locks, "NULL", "round {round}");
        let (taken, left) = ids.split_at(16);
        traffic.finish_of(left).await;
        if round % 2 == 0 {
            c.run("COMMIT PREPARED 'p'").await;
        } else {
            c.run("ROLLBACK PREPARED 'p'").await;
            traffic.finish_with(taken).await;
        }
    }
    traffic.turns(3).await;
    traffic.finish().await;
}

/// `mq.maintain` in the middle of a transaction keeps nobody out until its end, also when that ends
/// in an error, or in more work.
async fn upkeep_in_a_transaction(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    for round in 0..20 {
        traffic.turns(1).await;
        c.run("BEGIN; SELECT mq.maintain('q'); SAVEPOINT s; SELECT mq.maintain()")
            .await;
        if round % 2 == 0 {
            c.run("ROLLBACK TO s").await;
        }
        let mine = format!("pid = {}", c.pid);
        let locks = strong_locks(&traffic.c, &mine).await;
        assert_eq!(locks, "NULL", "round {round}");
        traffic.step().await;
        if round % 3 == 0 {
            c.refused("SELECT 1/0", "22012").await;
            c.run("ROLLBACK").await;
        } else {
            c.run("SELECT count(*) FROM mq.q; COMMIT").await;
        }
    }
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
}

/// Queues come and go, and change their name and owner, under the hands of a worker that rotates.
async fn dropped_while_it_rotates(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    c.run("SET lock_timeout = '5s'").await;
    let relations = "SELECT count(*) FROM pg_class";
    let had = c.int(relations).await;
    for round in 0..15 {
        space::create(&c, "q", LEAST, "").await;
        for _ in 0..(3 + round % 5) {
            c.run("SELECT mq.send('q', '1', delay => CASE WHEN n % 9 = 0 THEN interval '1 hour' END) FROM generate_series(1, 100) n")
                .await;
            c.run("SELECT mq.pop('q', 100)").await;
        }
        if round % 3 == 0 {
            c.run("SELECT mq.rename_queue('q', 'r'); SELECT mq.rename_queue('r', 'q')")
                .await;
        }
        c.run(["SELECT mq.drop_queue('q')", "DROP VIEW mq.q"][round % 2])
            .await;
        assert_eq!(c.int(relations).await, had, "round {round}");
    }
    assert_eq!(c.int("SELECT count(*) FROM mq_internal.segment").await, 0);
    let log = std::fs::read_to_string(cx.server.dir.with_extension("log")).unwrap();
    let troubled = |line: &&str| {
        line.contains(&cx.db)
            && !line.contains("FATAL")
            && (line.contains("ERROR") || line.contains("making room"))
    };
    let trouble: Vec<&str> = log.lines().filter(troubled).collect();
    assert!(trouble.is_empty(), "{trouble:#?}");
}
