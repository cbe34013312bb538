//! What rotation costs besides: the catalogs do not grow with it, sessions in any order never
//! deadlock on it, and those who keep plans and caches of tables follow.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::space::{self, FEW, LEAST, Upkeep};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    catalogs_do_not_grow,
    dropped_with_all_its_tables,
    no_deadlocks,
    no_deadlocks_with_a_worker,
    kept_plans_follow,
    vacuum_has_nothing_to_do,
];

const CATALOGS: &str =
    "pg_class pg_attribute pg_index pg_depend pg_inherits pg_statistic pg_type pg_constraint";

async fn sizes(c: &Conn) -> Vec<(String, i64)> {
    let mut sizes = Vec::new();
    for name in CATALOGS
        .split(' ')
        .chain(["mq_internal.segment", "mq_internal.queue"])
    {
        c.run(&format!("VACUUM {name}")).await;
        let size = c
            .int(&format!("SELECT pg_total_relation_size('{name}')"))
            .await;
        sizes.push((name.to_string(), size));
    }
    sizes
}

async fn catalogs_do_not_grow(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    traffic.turns(15).await;
    let relations = "SELECT count(*) FROM pg_class";
    let (before, had) = (sizes(&c).await, c.int(relations).await);
    let tables = space::segments(&c, "q").await.len() as i64;
    for _ in 0..10 {
        traffic.turns(10).await;
        sizes(&c).await;
    }
    let more = space::segments(&c, "q").await.len() as i64 - tables;
    assert!(
        tables + more <= FEW as i64,
        "{tables} segments, and {more} more"
    );
    // A table is one with its indexes, its overflow and that one's index.
    let grown = c.int(relations).await - had;
    assert!(grown <= more * 8, "{grown} relations for {more} segments");
    for ((name, now), (_, before)) in sizes(&c).await.iter().zip(&before) {
        let pages = (now - before) / 8192;
        assert!(pages <= 6, "{name} grew by {pages} pages in 100 turns");
    }
    traffic.finish().await;
}

async fn dropped_with_all_its_tables(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    let relations = "SELECT count(*) FROM pg_class";
    let had = c.int(relations).await;
    for how in [
        "SELECT mq.drop_queue('q')",
        "DROP VIEW mq.q",
        "DROP VIEW mq.q CASCADE",
    ] {
        space::create(&c, "q", LEAST, "").await;
        let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
        traffic.turns(6).await;
        traffic.send(3 * LEAST).await;
        c.run(how).await;
        assert_eq!(c.int(relations).await, had, "{how}");
        assert_eq!(
            c.int("SELECT count(*) FROM mq_internal.segment").await,
            0,
            "{how}"
        );
    }
}

/// Two sessions go through messages of different segments in opposite orders, and others look at
/// everything, while a third rotates as fast as it can.
async fn deadlocks(cx: Cx, upkeep: Upkeep) {
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", upkeep).await;
    traffic.turns(2).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..3_u64 {
        let (c, over) = (cx.connect().await, over.clone());
        tasks.push(spawn(async move {
            c.run("SET statement_timeout = '5s'").await;
            let mut rng = Rng::new(seed() + n);
            let mut mine: Vec<i64> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                if n == 2 {
                    look(&c, &mut rng).await;
                } else {
                    touch(&c, &mut rng, &mut mine, n == 0).await;
                }
            }
        }));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) && !tasks.iter().any(|task| task.is_finished()) {
        traffic.turns(1).await;
    }
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        // A deadlock, or a wait of five seconds, is an error there.
        task.await.expect("a session");
    }
    c.run("SELECT mq.delete('q', id) FROM mq.q").await;
    space::all_truncated(&c, "q", upkeep).await;
}

/// A message more to hold; then, in one transaction, something with each of all, up or down.
async fn touch(c: &Conn, rng: &mut Rng, mine: &mut Vec<i64>, upwards: bool) {
    let new = "SELECT mq.send('q', '\"held\"', delay => '1 hour')";
    mine.push(c.int(new).await);
    let old = if mine.len() > 12 {
        Some(mine.remove(0))
    } else {
        None
    };
    let mut order = mine.clone();
    order.extend(old);
    order.sort();
    if !upwards {
        order.reverse();
    }
    c.run("BEGIN").await;
    for id in order {
        let deed = match rng.below(4) {
            _ if Some(id) == old => format!("SELECT mq.delete('q', {id})"),
            0 => format!("SELECT mq.get('q', {id})"),
            1 => format!("UPDATE mq.q SET body = '\"new\"' WHERE id = {id}"),
            2 => format!("SELECT mq.ack('q', {id}, 5)"),
            _ => format!("SELECT count(*) FROM mq.q WHERE id = {id}"),
        };
        c.run(&deed).await;
    }
    c.run("COMMIT").await;
}

async fn look(c: &Conn, rng: &mut Rng) {
    let level = *rng.pick(&["READ COMMITTED", "REPEATABLE READ"]);
    c.run(&format!(
        "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
    ))
    .await;
    c.run("SELECT mq.send('q', '\"more\"', delay => '1 hour')")
        .await;
    c.run("SELECT * FROM mq.segments; SELECT * FROM mq.metrics; SELECT count(*) FROM mq.q")
        .await;
    c.run(if rng.one_in(2) { "COMMIT" } else { "ROLLBACK" })
        .await;
    c.run("SELECT mq.delete('q', id) FROM mq.q WHERE body = '\"more\"'")
        .await;
}

async fn no_deadlocks(cx: Cx) {
    deadlocks(space::quiet(&cx).await, Upkeep::Calls).await;
}

async fn no_deadlocks_with_a_worker(cx: Cx) {
    deadlocks(space::working(&cx).await, Upkeep::Worker).await;
}

/// Prepared statements, functions and cursors of sessions that live long meet tables that are new,
/// truncated and used again.
async fn kept_plans_follow(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let session = cx.connect().await;
    session
        .run(
            "PREPARE by_id(bigint) AS SELECT count(*) FROM mq.q WHERE id = $1; \
             PREPARE everything AS SELECT count(*) FROM mq.q; \
             SET plan_cache_mode = force_generic_plan; \
             PREPARE generic(bigint) AS SELECT count(*) FROM mq.q WHERE id = $1",
        )
        .await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    let mut kept = Vec::new();
    for round in 0..12 {
        kept.push(
            session
                .int("SELECT mq.send('q', '1', delay => '1 hour')")
                .await,
        );
        traffic.turns(1).await;
        traffic.drain().await;
        assert_eq!(
            session.int("EXECUTE everything").await,
            kept.len() as i64,
            "round {round}"
        );
        for id in &kept {
            for name in ["by_id", "generic"] {
                let found = session.int(&format!("EXECUTE {name}({id})")).await;
                assert_eq!(found, 1, "round {round}: {name}({id}) of {kept:?}");
            }
            let got = session
                .text(&format!("SELECT (mq.get('q', {id})).id"))
                .await;
            assert_eq!(got, id.to_string(), "round {round}");
        }
        let hands = session.hands("'q', 5").await;
        assert_eq!(hands, [], "round {round}");
        if round > 6 {
            let id = kept.remove(0);
            assert!(session.yes(&format!("SELECT mq.delete('q', {id})")).await);
            assert_eq!(session.int(&format!("EXECUTE by_id({id})")).await, 0);
        }
    }
}

/// Autovacuum leaves segments alone, and a VACUUM by hand, ANALYZE, REINDEX and CLUSTER beside
/// rotation harm nobody.
async fn vacuum_has_nothing_to_do(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    let off = "SELECT bool_and(c.reloptions @> '{autovacuum_enabled=false}' OR c.reloptions @> '{autovacuum_enabled=off}') \
               FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relname ~ '_s[0-9]+$'";
    assert!(c.yes(off).await);
    let over = Arc::new(AtomicBool::new(false));
    let cares = {
        let (c, over) = (cx.connect().await, over.clone());
        spawn(async move {
            let mut rounds = 0;
            while !over.load(Ordering::SeqCst) || rounds == 0 {
                let tables = space::segments(&c, "q").await;
                for part in tables {
                    let table = format!("mq_internal.{}", part.storage);
                    for verb in ["VACUUM", "ANALYZE", "REINDEX TABLE", "VACUUM FULL"] {
                        c.run(&format!("{verb} {table}")).await;
                    }
                }
                rounds += 1;
            }
        })
    };
    // These hold the strongest of locks for a moment: others wait for them, as for any table.
    traffic.turns(25).await;
    over.store(true, Ordering::SeqCst);
    cares.await.expect("VACUUM and the like");
    traffic.finish().await;
    space::all_truncated(&c, "q", Upkeep::Calls).await;
}
