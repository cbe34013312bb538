//! Where calls stand: cursors, subqueries, functions, parallel plans, statements that fail.

use crate::harness::Cx;
use crate::isolation::pair;
use crate::tests;

tests![
    cursors,
    in_functions_and_subqueries,
    errors_undo_everything,
    parallel_query
];

async fn cursors(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 6) n")
        .await;
    a.run("BEGIN; DECLARE c CURSOR FOR SELECT id FROM mq.read('q', 3, '1 hour')")
        .await;
    let mut fetched = a.ints("FETCH 1 FROM c").await;
    a.run("SAVEPOINT s; SELECT mq.send('q', '7'); ROLLBACK TO s")
        .await;
    fetched.extend(a.ints("FETCH ALL FROM c").await);
    a.run("COMMIT").await;
    assert_eq!(
        fetched,
        a.ints("SELECT id FROM mq.q ORDER BY id LIMIT 3").await
    );
    assert_eq!(
        b.int("SELECT count(*) FROM mq.q WHERE state = 'leased'")
            .await,
        3
    );
    // Held past the commit, and while messages under it are settled.
    a.run("BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id, receipt FROM mq.read('q', 3, '1 hour'); COMMIT").await;
    assert_eq!(b.hands("'q', 5").await, []);
    assert_eq!(a.rows("FETCH ALL FROM h").await.len(), 3);
    a.run("CLOSE h; BEGIN; DECLARE browse CURSOR FOR SELECT id FROM mq.q ORDER BY id")
        .await;
    let mut seen = 0;
    while let Some(id) = a.ints("FETCH 1 FROM browse").await.first() {
        assert!(a.yes(&format!("SELECT mq.ack('q', {id})")).await);
        seen += 1;
    }
    a.run("COMMIT").await;
    assert_eq!((seen, b.int("SELECT count(*) FROM mq.q").await), (6, 0));
}

async fn in_functions_and_subqueries(cx: Cx) {
    let (a, _) = pair(&cx).await;
    a.run("CREATE TABLE source (n int); INSERT INTO source SELECT generate_series(1, 50)")
        .await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM source").await;
    a.run("WITH got AS (SELECT * FROM mq.read('q', 10)) SELECT mq.ack('q', id, receipt) FROM got")
        .await;
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 40);
    a.run("SELECT mq.archive('q', m.id, m.receipt) FROM source s, LATERAL mq.read('q', 1 + 0 * s.n) m WHERE s.n <= 5").await;
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 35);
    a.run(
        "CREATE FUNCTION work() RETURNS int LANGUAGE plpgsql AS $$DECLARE m mq.message; n int := 0; \
         BEGIN FOR m IN SELECT * FROM mq.read('q', 5) LOOP \
         IF mq.ack(m.queue, m.id, m.receipt) THEN n := n + 1; END IF; END LOOP; RETURN n; END$$",
    )
    .await;
    for _ in 0..7 {
        assert_eq!(a.int("SELECT work()").await, 5);
    }
    assert_eq!(a.int("SELECT work()").await, 0);
    a.run("CREATE TABLE inbox AS SELECT * FROM mq.read('q')")
        .await;
    a.run("INSERT INTO mq.q (body) SELECT to_jsonb(n) FROM source; INSERT INTO inbox SELECT * FROM mq.pop('q', 50)").await;
    assert_eq!(a.int("SELECT count(*) FROM inbox").await, 50);
    a.run("COPY (SELECT mq.send('q', to_jsonb(n)) FROM source) TO '/dev/null'")
        .await;
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 50);
}

async fn errors_undo_everything(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.refused(
        "SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], priority => 10)",
        "22023",
    )
    .await;
    a.refused(
        "SELECT mq.send('q', to_jsonb(n)), 1 / (3 - n) FROM generate_series(1, 5) n",
        "22012",
    )
    .await;
    a.refused(
        "INSERT INTO mq.q (body, attempts) VALUES ('1', NULL), ('2', 2)",
        "428C9",
    )
    .await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0);
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 4) n")
        .await;
    a.refused("SELECT 1 / (id - id) FROM mq.read('q', 2)", "22012")
        .await;
    a.refused("SELECT 1 / (id - id) FROM mq.pop('q', 4)", "22012")
        .await;
    assert!(
        b.yes("SELECT bool_and(state = 'ready' AND attempts = 0) AND count(*) = 4 FROM mq.q")
            .await
    );
    a.run("BEGIN; SELECT mq.send('q', '5')").await;
    a.refused("SELECT mq.send('q', '6', priority => -1)", "22023")
        .await;
    a.refused("SELECT mq.send('q', '6')", "25P02").await;
    a.run("COMMIT").await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 4);
    // A connection that breaks takes its transaction with it.
    let c = cx.connect().await;
    c.run("BEGIN; SELECT mq.send('q', '7'); SELECT mq.read('q', 10, '1 hour')")
        .await;
    drop(c);
    a.until("SELECT count(*) FILTER (WHERE state = 'ready') = 4 AND count(*) = 4 FROM mq.q")
        .await;
    a.until("SELECT 4 = (SELECT count(*) FROM mq.read('q', 10))")
        .await;
}

async fn parallel_query(cx: Cx) {
    let (a, _) = pair(&cx).await;
    a.run("SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, 20000) n")
        .await;
    let force = if crate::world::world().version >= 16 {
        "debug_parallel_query"
    } else {
        "force_parallel_mode"
    };
    a.run(&format!(
        "SET {force} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"
    ))
    .await;
    assert_eq!(
        a.int("SELECT count(*) FROM mq.q WHERE state = 'ready'")
            .await,
        20000
    );
    assert_eq!(
        a.int("SELECT ready FROM mq.metrics").await.min(10_000),
        10_000
    );
    a.run("SELECT * FROM mq.queues; SELECT * FROM mq.status(); SELECT mq.version()")
        .await;
    assert_eq!(a.int("SELECT count(*) FROM mq.read('q', 10)").await, 10);
    assert_eq!(a.int("SELECT count(*) FROM mq.q q, LATERAL mq.ack('q', q.id) a WHERE q.state = 'leased' AND a").await, 10);
    assert_eq!(
        a.int("SELECT count((mq.get('q', id)).id) FROM mq.q").await,
        19990
    );
    a.run("SELECT mq.send('q', '1') FROM mq.q LIMIT 3").await;
}
