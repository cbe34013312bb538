//! The tables of a queue are ordinary ones: indexes that a superuser adds stay right, they can be
//! rewritten and given new indexes under everybody's hands, and published.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::{storage, tests};

tests![
    #[solo]
    claims_are_hot,
    own_indexes_stay_right,
    added_indexes_stay_right,
    summaries_add_no_entries,
    rewritten_between_calls,
    new_indexes_under_load,
    published,
];

async fn queue(cx: &Cx) -> (Conn, String) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', max_failures => 9, archive_retention => '1 ms')")
        .await;
    let table = storage::of(&c, "q").await;
    (c, table)
}

/// Single cycles rewrite a row on its own page, without a new entry in any index. Alone, because
/// transactions anywhere on the server delay the cleaning of pages.
async fn claims_are_hot(cx: Cx) {
    let (c, table) = queue(&cx).await;
    let body = "'{\"customer\": 7, \"lines\": [1, 2, 3], \"note\": \"left at the door\"}'";
    c.run(&format!(
        "SELECT mq.send_batch('q', array_agg({body}::jsonb)) FROM generate_series(1, 2000)"
    ))
    .await;
    for n in 0..500 {
        c.run(&format!("SELECT mq.send('q', '{n}')")).await;
    }
    for _ in 0..2500 {
        c.run("SELECT mq.ack('q', id, receipt) FROM mq.read('q')")
            .await;
    }
    c.run("SELECT pg_stat_force_next_flush()").await;
    let shares = format!(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_all_tables WHERE relid = '{table}'::regclass"
    );
    c.until(&format!(
        "SELECT n_tup_upd = 2500 FROM ({shares}) s WHERE pg_stat_clear_snapshot() IS NOT NULL OR true"
    ))
    .await;
    let hot = format!("SELECT n_tup_hot_upd FROM ({shares}) s");
    let hot = c.int(&hot).await;
    assert!(hot >= 2450, "{hot} of 2500 claims were HOT");
}

/// Every verb, many times, from several sessions.
async fn churn(cx: &Cx, rounds: u32) {
    let sessions = (0..4).map(|n| {
        let cx = cx.clone();
        spawn(async move {
            let c = cx.connect().await;
            for i in 0..rounds {
                let (fate, size) = ((i + n) % 7, (i * 37) % 3000);
                c.run(&format!(
                    "BEGIN; SELECT mq.send('q', jsonb_build_object('a', {i}, 'b', repeat('x', {size})), \
                     priority => {}); SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], delay => '1 ms'); {}",
                    i % 10,
                    if fate == 6 { "ROLLBACK" } else { "COMMIT" }
                ))
                .await;
                let verb = ["ack", "nack", "archive", "release", "reject", "extend", "ack"];
                c.run(&format!(
                    "BEGIN; SELECT mq.{}('q', id, receipt) FROM mq.read('q', 3, '2 ms'); {}",
                    verb[fate as usize],
                    if i % 5 == 0 { "ROLLBACK" } else { "COMMIT" }
                ))
                .await;
                c.run("SELECT mq.pop('q', 2)").await;
            }
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        session.await.unwrap();
    }
}

/// All indexes of a queue's tables lead to all rows and to nothing else.
async fn indexes_are_right(c: &Conn, table: &str) {
    c.run("CREATE EXTENSION IF NOT EXISTS amcheck").await;
    let list = format!(
        "SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree' \
         WHERE i.indrelid::regclass::text LIKE '{table}%' \
            OR i.indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = '{table}'::regclass)"
    );
    let indexes = c.rows(&list).await;
    assert!(indexes.len() >= 4, "{indexes:?}");
    for row in &indexes {
        let index = row[0].as_deref().unwrap();
        c.run(&format!("SELECT bt_index_check('{index}', true)"))
            .await;
    }
    let broken = format!("SELECT count(*) FROM verify_heapam('{table}', check_toast => true)");
    assert_eq!(c.int(&broken).await, 0, "verify_heapam");
}

/// Those that a queue has itself are kept without the executor: for rows of any priority, rows that
/// expire, rows that are mended, one by one and in batches.
async fn own_indexes_stay_right(cx: Cx) {
    let (c, table) = queue(&cx).await;
    for round in 0..2 {
        churn(&cx, 40).await;
        c.run(
            "SELECT mq.send_batch('q', array_agg('1'::jsonb), ttl => '1 hour', priority => 3) \
             FROM generate_series(1, 1200)",
        )
        .await;
        c.run("SELECT mq.send('q', '2', ttl => '1 hour')").await;
        c.run(
            "UPDATE mq.q SET priority = 6, expires_at = NULL WHERE id % 3 = 0 AND state = 'ready'",
        )
        .await;
        c.run("UPDATE mq.q SET priority = 4 WHERE id % 3 = 1 AND state = 'ready'")
            .await;
        indexes_are_right(&c, &table).await;
        let expiring = c
            .int("SELECT count(*) FROM mq.q WHERE expires_at IS NOT NULL")
            .await;
        assert!(expiring > 700, "{expiring}");
        if round == 0 {
            c.run(&format!("VACUUM {table}")).await;
        }
    }
}

async fn added_indexes_stay_right(cx: Cx) {
    let (c, table) = queue(&cx).await;
    for index in [
        "(due)",
        "(receipt) WHERE receipt IS NOT NULL",
        "((body->>'a'))",
        "(attempts, failures) INCLUDE (read_at)",
        "USING brin (due, read_at)",
        "USING gin (body jsonb_path_ops)",
        "USING hash (receipt)",
    ] {
        c.run(&format!("CREATE INDEX ON {table} {index}")).await;
    }
    churn(&cx, 60).await;
    c.run(&format!("VACUUM {table}")).await;
    churn(&cx, 20).await;
    indexes_are_right(&c, &table).await;
    // What the indexes say is what the table says.
    for condition in [
        "due <= now() + '1 day'",
        "receipt IS NOT NULL",
        "body->>'a' = '1'",
        "attempts >= 0",
        "body @> '{\"a\": 1}'",
    ] {
        let count = format!("SELECT count(*) FROM {table} WHERE {condition}");
        c.run("SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off")
            .await;
        let wanted = c.int(&count).await;
        c.run("RESET ALL; SET enable_seqscan = off").await;
        assert_eq!(c.int(&count).await, wanted, "{condition}");
        c.run("RESET ALL").await;
    }
}

/// An index that only describes pages hears of a HOT update; the others get no entry for it, which
/// would outlive the row version that it leads to.
async fn summaries_add_no_entries(cx: Cx) {
    let (c, table) = queue(&cx).await;
    c.run(&format!(
        "CREATE INDEX ON {table} USING brin (due); CREATE EXTENSION pageinspect"
    ))
    .await;
    c.send("q", 1).await;
    for _ in 0..5 {
        c.run("SELECT mq.nack('q', id, receipt) FROM mq.read('q')")
            .await;
    }
    let to_heap_only = format!(
        "SELECT count(*) FROM bt_page_items('{table}_pkey', 1) i \
         JOIN heap_page_items(get_raw_page('{table}', 0)) h \
           ON h.lp = (i.htid::text::point)[1] AND h.t_infomask2 & 32768 <> 0"
    );
    assert_eq!(c.int(&to_heap_only).await, 0);
}

/// What rewrites a table or its indexes does not disturb sessions that know the queue.
async fn rewritten_between_calls(cx: Cx) {
    let (c, table) = queue(&cx).await;
    let admin = cx.connect().await;
    let index = format!("{}_pkey", table.trim_start_matches("mq_internal."));
    for rewrite in [
        format!("REINDEX TABLE {table}"),
        format!("REINDEX TABLE CONCURRENTLY {table}"),
        format!("REINDEX INDEX CONCURRENTLY {table}_ranks"),
        format!("VACUUM FULL {table}"),
        format!("CLUSTER {table} USING {index}"),
        format!("VACUUM FREEZE {table}"),
        format!("ALTER TABLE {table} SET (fillfactor = 70)"),
        format!("CREATE INDEX CONCURRENTLY ON {table} (read_at)"),
        format!("ALTER TABLE {table} SET UNLOGGED"),
        format!("ALTER TABLE {table} SET LOGGED"),
    ] {
        let body = "to_jsonb(repeat(md5(random()::text), 300))";
        c.run(&format!("SELECT mq.send('q', {body}), mq.send('q', '2', priority => 7), mq.send('q', '3', delay => '30 ms')"))
            .await;
        let held = c.hand("'q', 1, '1 hour'").await;
        assert_eq!(held.body, "2", "{rewrite}");
        admin.run(&rewrite).await;
        assert!(c.settle("extend", "q", &held).await, "{rewrite}");
        assert!(c.settle("nack", "q", &held).await, "{rewrite}");
        assert_eq!(c.hand("'q', 1, '1 hour'").await.id, held.id, "{rewrite}");
        c.until("SELECT count(*) = 2 FROM mq.q WHERE state = 'ready'")
            .await;
        let rest = c.try_hands("pop", "'q', 9").await.unwrap();
        assert_eq!(rest.len(), 2, "{rewrite}");
        admin.run(&rewrite).await;
        assert!(c.yes(&format!("SELECT mq.ack('q', {})", held.id)).await);
        assert_eq!(c.hands("'q'").await.len(), 0, "{rewrite}");
    }
}

/// Indexes are made anew while workers are at it: nothing fails, nothing is missed. (Each worker sent
/// one before it takes one. Others may be faster, but then theirs is there at the next look.)
async fn new_indexes_under_load(cx: Cx) {
    let (c, table) = queue(&cx).await;
    let workers = (0..3).map(|_| {
        let cx = cx.clone();
        spawn(async move {
            let c = cx.connect().await;
            c.run(
                "DO $$DECLARE n int; BEGIN FOR i IN 1..1200 LOOP \
                 PERFORM mq.send('q', '1', priority => 4 + (i % 3)); COMMIT; \
                 FOR look IN 1..1000 LOOP SELECT count(*) INTO n FROM mq.pop('q'); COMMIT; EXIT WHEN n = 1; END LOOP; \
                 ASSERT n = 1, 'a message is missing'; END LOOP; END$$",
            )
            .await;
        })
    });
    let workers: Vec<_> = workers.collect();
    while workers.iter().any(|w| !w.is_finished()) {
        c.run(&format!("REINDEX TABLE CONCURRENTLY {table}")).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    indexes_are_right(&c, &table).await;
}

/// With a publication of all tables and logical decoding, every verb works, and what was done can
/// be decoded.
async fn published(_: Cx) {
    let server = Server::start("published", "wal_level = logical\n").await;
    let c = server.connect("mq_template").await;
    c.run("CREATE PUBLICATION everything FOR ALL TABLES").await;
    c.run("SELECT pg_create_logical_replication_slot('s', 'test_decoding')")
        .await;
    c.run(
        "SELECT mq.create_queue('q', max_failures => 2, max_length => 1000, overflow => 'drop_oldest', \
         archive_retention => '1 us', dedup_window => '1 us')",
    )
    .await;
    let table = storage::of(&c, "q").await;
    let long = "to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i))";
    for verb in [
        "ack", "nack", "archive", "release", "extend", "reject", "delete",
    ] {
        let (receipt, ok) = match verb {
            "delete" => ("", " IS NOT NULL"),
            "extend" => (", receipt", " IS NOT NULL"),
            _ => (", receipt", ""),
        };
        c.run(&format!(
            "SELECT mq.send('q', {long}, dedup_key => '{verb}', priority => 5)"
        ))
        .await;
        let call = format!("SELECT mq.{verb}('q', id{receipt}){ok} FROM mq.read('q', 1, '1 hour')");
        assert!(c.yes(&call).await, "{verb}");
        c.run("SELECT mq.pop('q'); DELETE FROM mq.q").await;
    }
    c.run("SELECT mq.send('q', '1', ttl => '1 us'); SELECT mq.maintain('q'), mq.redrive('q_dead')")
        .await;
    c.run("UPDATE mq.q SET priority = 1; SELECT mq.purge_queue('q'); SELECT mq.maintain()")
        .await;
    let done = |what: &str| {
        format!(
            "SELECT count(*) FROM pg_logical_slot_peek_changes('s', NULL, NULL) \
             WHERE data LIKE 'table {table}: {what}%'"
        )
    };
    assert!(c.int(&done("INSERT")).await >= 8);
    assert!(c.int(&done("UPDATE")).await >= 9);
    assert_eq!(
        c.int(&done("INSERT")).await,
        c.int(&done("DELETE")).await,
        "what came is gone"
    );
    drop(c);
    server.down();
}
