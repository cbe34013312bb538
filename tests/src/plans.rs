//! What a call costs does not depend on luck: an empty read leaves no trace, and no statistics,
//! however wrong, make a read look at the whole queue.

use crate::conn::{Conn, Patience};
use crate::harness::Cx;
use crate::{storage, tests};

tests![
    empty_read_spends_no_xid,
    #[solo]
    empty_read_writes_no_wal,
    analyzed_while_empty,
    analyzed_while_delayed,
    never_analyzed,
    grows_under_kept_plans,
    one_ready_behind_many,
    browse_by_id,
];

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c
}

async fn empty_read_spends_no_xid(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('delayed'), mq.create_queue('leased'), mq.create_queue('paused', max_failures => 3)").await;
    c.run("SELECT mq.send('delayed', '1', delay => '1 hour'); SELECT mq.send('leased', '1'); SELECT mq.read('leased', 1, '1 hour')").await;
    c.run("SELECT mq.send('paused', '1'); SELECT mq.pause('paused')")
        .await;
    for queue in ["q", "delayed", "leased", "paused"] {
        for call in [
            "mq.read('{}')",
            "mq.read('{}', 100, '1 min')",
            "mq.read('{}', wait => '1 ms')",
            "mq.pop('{}')",
        ] {
            let call = call.replace("{}", queue);
            c.run(&format!("BEGIN; SELECT * FROM {call}")).await;
            assert!(
                c.yes("SELECT pg_current_xact_id_if_assigned() IS NULL")
                    .await,
                "{call}"
            );
            c.run("COMMIT").await;
        }
        for call in [
            "mq.ack('{}', 999, 5)",
            "mq.nack('{}', 999)",
            "mq.ack_batch('{}', ARRAY[998, 999])",
            "mq.get('{}', 1)",
        ] {
            let call = call.replace("{}", queue);
            c.run(&format!("BEGIN; SELECT {call}")).await;
            assert!(
                c.yes("SELECT pg_current_xact_id_if_assigned() IS NULL")
                    .await,
                "{call} that settles nothing"
            );
            c.run("COMMIT").await;
        }
    }
    c.run("BEGIN; SELECT mq.maintain('q')").await;
    assert!(
        c.yes("SELECT pg_current_xact_id_if_assigned() IS NULL")
            .await,
        "an idle maintain"
    );
    c.run("COMMIT").await;
}

async fn empty_read_writes_no_wal(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.send('q', '1', delay => '1 hour'); CHECKPOINT")
        .await;
    // The server itself writes now and then: one quiet stretch of many is the proof.
    for _ in 0..20 {
        let before = c.text("SELECT pg_current_wal_insert_lsn()").await;
        for _ in 0..100 {
            c.run("SELECT * FROM mq.read('q', 10)").await;
        }
        if c.text("SELECT pg_current_wal_insert_lsn()").await == before {
            return;
        }
    }
    panic!("reads of an empty queue write WAL");
}

/// Pages of the storage touched and sequential scans made by some statements.
async fn cost(c: &Conn, statements: &[&str]) -> (i64, i64) {
    let tables = storage::tables(c, "q").await;
    let list = tables
        .iter()
        .map(|t| format!("'{t}'::regclass"))
        .collect::<Vec<_>>()
        .join(",");
    let sums = format!(
        "SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)), \
         (SELECT sum(seq_scan) FROM pg_stat_all_tables WHERE relid IN ({list})) \
         FROM pg_statio_all_tables WHERE relid IN ({list})"
    );
    let now = async || {
        c.run("SELECT pg_stat_force_next_flush()").await;
        c.run("SELECT pg_stat_clear_snapshot()").await;
        let row = c.rows(&sums).await.remove(0);
        let number = |n: usize| row[n].as_deref().unwrap_or("0").parse::<i64>().unwrap();
        (number(0), number(1))
    };
    let before = now().await;
    for statement in statements {
        c.run(statement).await;
    }
    let after = now().await;
    (after.0 - before.0, after.1 - before.1)
}

const CYCLE: [&str; 5] = [
    "SELECT mq.ack('q', id, receipt) FROM mq.read('q')",
    "SELECT mq.nack('q', id, receipt, '1 hour') FROM mq.read('q')",
    "SELECT mq.pop('q')",
    "SELECT mq.send('q', '1', dedup_key => 'k')",
    "SELECT mq.ack_batch('q', array_agg(id)) FROM mq.read('q', 10)",
];

/// A whole cycle touches a few pages a message, never the queue.
async fn cheap(c: &Conn, when: &str) {
    let (pages, scans) = cost(c, &CYCLE).await;
    assert_eq!(scans, 0, "{when}: sequential scans of the storage");
    assert!(pages < 1500, "{when}: {pages} pages for five statements");
}

async fn fill(c: &Conn, messages: u32, options: &str) {
    let sql = format!(
        "SELECT count(*) FROM generate_series(1, {messages} / 10000) part, LATERAL (SELECT mq.send_batch('q', \
         (SELECT array_agg(to_jsonb(n + part)) FROM generate_series(1, 10000) n){options})) s"
    );
    assert_eq!(c.int(&sql).await, i64::from(messages));
}

async fn analyze(c: &Conn) {
    for table in storage::tables(c, "q").await {
        c.run(&format!(
            "ALTER TABLE {table} SET (autovacuum_enabled = off)"
        ))
        .await;
        c.run(&format!("ANALYZE {table}")).await;
    }
}

async fn analyzed_while_empty(cx: Cx) {
    let c = queue(&cx).await;
    analyze(&c).await;
    c.run("SELECT mq.read('q'), mq.ack('q', 1)").await;
    fill(&c, 200_000, "").await;
    cheap(&c, "this session").await;
    cheap(&cx.connect().await, "a new session").await;
}

async fn analyzed_while_delayed(cx: Cx) {
    let c = queue(&cx).await;
    fill(&c, 100_000, ", delay => '1 hour'").await;
    analyze(&c).await;
    fill(&c, 20_000, "").await;
    cheap(&cx.connect().await, "most are delayed").await;
    c.run("SELECT count(*) FROM mq.read('q', 100000, '1 hour')")
        .await;
    cleared(&c).await;
    let empty = [
        "SELECT * FROM mq.read('q', 10)",
        "SELECT * FROM mq.pop('q')",
    ];
    let (pages, scans) = cost(&c, &empty).await;
    assert_eq!(scans, 0);
    assert!(
        pages < 1000,
        "an empty read over 120,000 unready: {pages} pages"
    );
}

/// Looks until the index no longer leads to what big statements left behind: the first look that
/// finds those rows dead to everybody clears them away. A passing autovacuum can delay that. What
/// stays until vacuum are the emptied pages of the hand-out index, some 400 of them.
async fn cleared(c: &Conn) {
    let patience = Patience::new("the index is cleared");
    while cost(c, &["SELECT mq.ack('q', id, receipt) FROM mq.read('q')"])
        .await
        .0
        > 800
    {
        patience.wait().await;
    }
}

async fn never_analyzed(cx: Cx) {
    let c = queue(&cx).await;
    for table in storage::tables(&c, "q").await {
        c.run(&format!(
            "ALTER TABLE {table} SET (autovacuum_enabled = off)"
        ))
        .await;
    }
    fill(&c, 100_000, ", priority => 7").await;
    cheap(&cx.connect().await, "no statistics").await;
    for setting in [
        "enable_indexscan",
        "enable_bitmapscan",
        "enable_sort",
        "enable_nestloop",
    ] {
        let other = cx.connect().await;
        other.run(&format!("SET {setting} = off")).await;
        cheap(&other, setting).await;
    }
    let other = cx.connect().await;
    other
        .run("SET random_page_cost = 1000; SET plan_cache_mode = force_custom_plan")
        .await;
    cheap(&other, "costs that favour sequential scans").await;
}

async fn grows_under_kept_plans(cx: Cx) {
    let c = queue(&cx).await;
    for n in 0..12 {
        c.send("q", n).await;
        c.run("SELECT mq.ack('q', id, receipt) FROM mq.read('q')")
            .await;
    }
    analyze(&c).await;
    fill(&c, 100_000, "").await;
    cheap(&c, "plans made when it was empty").await;
    analyze(&c).await;
    cheap(&c, "analyzed when full").await;
    c.run("SELECT mq.purge_queue('q')").await;
    analyze(&c).await;
    fill(&c, 50_000, "").await;
    cleared(&c).await;
    cheap(&c, "analyzed after a purge").await;
}

async fn one_ready_behind_many(cx: Cx) {
    let c = queue(&cx).await;
    fill(&c, 100_000, ", delay => '1 hour', priority => 9").await;
    let id = c.send("q", "\"now\"").await;
    let (pages, scans) = cost(&c, &["SELECT * FROM mq.read('q', 10, '1 hour')"]).await;
    assert!(scans == 0 && pages < 300, "{pages} pages, {scans} scans");
    assert!(
        c.yes(&format!(
            "SELECT state = 'leased' FROM mq.q WHERE id = {id}"
        ))
        .await
    );
}

async fn browse_by_id(cx: Cx) {
    let c = queue(&cx).await;
    fill(&c, 50_000, "").await;
    for table in storage::tables(&c, "q").await {
        c.run(&format!("ANALYZE {table}")).await;
    }
    let (pages, scans) = cost(
        &c,
        &[
            "SELECT * FROM mq.q WHERE id = 25000",
            "SELECT mq.get('q', 25000)",
            "DELETE FROM mq.q WHERE id = 25000",
        ],
    )
    .await;
    assert!(
        scans == 0 && pages < 200,
        "conditions are not pushed down: {pages} pages, {scans} scans"
    );
}
