//! mq.import_pgmq: a pgmq in place becomes queues here, and goes on under the drop-in.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;
use pgmq::PGMQueueExt;

tests![
    everything_moves,
    one_by_one,
    old_layout,
    nothing_there,
    the_way_back,
    #[solo]
    old_million,
    #[solo]
    a_million
];

/// Puts pgmq's own SQL into the test's database.
async fn installed(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    install(cx).await;
    c
}

async fn install(cx: &Cx) {
    let url = format!(
        "postgresql://postgres:x@127.0.0.1:{}/{}",
        cx.server.port, cx.db
    );
    let pgmq = PGMQueueExt::new(url, 1).await.expect("a connection");
    pgmq.install_sql_from_embedded().await.expect("pgmq's SQL");
    pgmq.connection.close().await;
}

/// What was SQL alone leaves with its schema; an extension would be dropped.
async fn replaced(c: &Conn) {
    c.run("DROP SCHEMA pgmq CASCADE").await;
    c.run("CREATE EXTENSION pgmq").await;
}

async fn everything_moves(cx: Cx) {
    let c = installed(&cx).await;
    let role = cx.role("app").await;
    c.run("SELECT pgmq.create('Orders'); SELECT pgmq.create_unlogged('quick'); SELECT pgmq.create('events')").await;
    c.run(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.q_orders TO {role}"
    ))
    .await;
    c.run("SELECT pgmq.send_batch('orders', '{1,2,3,4,5}'::jsonb[], array[null, '{\"h\": 2}', null, null, null]::jsonb[])").await;
    c.run("SELECT pgmq.send('orders', '6', 3600)").await;
    c.run("SELECT pgmq.read('orders', 3600, 1); SELECT pgmq.read('orders', 0, 1)")
        .await;
    c.run("SELECT pgmq.archive('orders', 3); SELECT pgmq.delete('orders', 4)")
        .await;
    c.run("SELECT pgmq.send('orders', '7'); SELECT pgmq.delete('orders', 7)")
        .await;
    c.run("SELECT pgmq.send('quick', '1'); SELECT pgmq.send('events', '1')")
        .await;
    c.run(
        "SELECT pgmq.bind_topic('a.*', 'Orders'); SELECT pgmq.enable_notify_insert('Orders', 77)",
    )
    .await;
    let shown = "SELECT msg_id, read_ct, enqueued_at, last_read_at, message, headers, \
                 CASE WHEN vt > clock_timestamp() THEN vt END FROM pgmq.q_orders ORDER BY 1";
    let archive = "SELECT * FROM pgmq.a_orders ORDER BY 1";
    let meta =
        "SELECT queue_name, is_partitioned, is_unlogged, created_at FROM pgmq.meta ORDER BY 1";
    let before = [
        c.rows(shown).await,
        c.rows(archive).await,
        c.rows(meta).await,
    ];
    let moved = c.rows("SELECT * FROM mq.import_pgmq() ORDER BY 1").await;
    let text: Vec<String> = moved
        .iter()
        .map(|r| {
            r.iter()
                .map(|c| c.clone().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(text, ["$events 1 0", "orders 4 1", "quick 1 0"]);
    let delayed = "SELECT ready || ' ' || delayed FROM mq.metrics WHERE queue = 'orders'";
    assert_eq!(c.text(delayed).await, "2 2");
    replaced(&c).await;
    assert_eq!(
        [
            c.rows(shown).await,
            c.rows(archive).await,
            c.rows(meta).await
        ],
        before
    );
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_events").await, 1);
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('orders', 60, 9)")
            .await,
        [2, 5]
    );
    assert!(c.yes("SELECT pgmq.delete('orders', 1)").await);
    assert!(c.int("SELECT pgmq.send('orders', '8')").await > 7);
    assert_eq!(
        c.text("SELECT pattern FROM pgmq.list_topic_bindings('Orders')")
            .await,
        "a.*"
    );
    assert_eq!(
        c.int("SELECT throttle_interval_ms FROM pgmq.list_notify_insert_throttles()")
            .await,
        77
    );
    c.run(&format!("GRANT USAGE ON SCHEMA pgmq TO {role}"))
        .await;
    let app = cx.connect_as(&role).await;
    app.run("SELECT pgmq.send('orders', '9'); SELECT pgmq.read('orders', 1, 1)")
        .await;
    c.run("DROP SCHEMA pgmq_before CASCADE").await;
}

async fn one_by_one(cx: Cx) {
    let c = installed(&cx).await;
    c.run("SELECT pgmq.create('a'); SELECT pgmq.create('b'); SELECT pgmq.send('a', '1'); SELECT pgmq.send('b', '1')").await;
    let import = |names: &str| format!("SELECT queue FROM mq.import_pgmq({names})");
    assert_eq!(c.text(&import("'{a}'")).await, "a");
    // What is not moved yet goes on where it is.
    c.run("SELECT pgmq.send('b', '2')").await;
    c.run(&format!("BEGIN; {}; ROLLBACK", import(""))).await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_b").await, 2);
    assert_eq!(c.rows(&import("")).await.len(), 1);
    assert!(c.rows(&import("")).await.is_empty());
    replaced(&c).await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('b', 60, 9)").await,
        [1, 2]
    );
    // A queue that is there already is not mixed with another.
    let d = cx.connect().await;
    d.run("DROP EXTENSION pgmq CASCADE").await;
}

/// As it was in 1.5: no last_read_at, no topics, no notifications.
async fn old_layout(cx: Cx) {
    old(cx, 2500).await;
}

async fn old_million(cx: Cx) {
    old(cx, 1_000_000).await;
}

/// The tables as pgmq 1.5 made them.
async fn old(cx: Cx, n: i64) {
    let c = cx.connect().await;
    c.run(&format!(
        "CREATE SCHEMA pgmq; CREATE TABLE pgmq.meta (queue_name varchar UNIQUE NOT NULL, \
         is_partitioned boolean NOT NULL, is_unlogged boolean NOT NULL, \
         created_at timestamptz DEFAULT now() NOT NULL); \
         CREATE TABLE pgmq.q_old (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, \
         read_ct int DEFAULT 0 NOT NULL, enqueued_at timestamptz DEFAULT now() NOT NULL, \
         vt timestamptz NOT NULL, message jsonb); \
         CREATE TABLE pgmq.a_old (msg_id bigint PRIMARY KEY, read_ct int DEFAULT 0 NOT NULL, \
         enqueued_at timestamptz DEFAULT now() NOT NULL, archived_at timestamptz DEFAULT now() NOT NULL, \
         vt timestamptz NOT NULL, message jsonb); \
         INSERT INTO pgmq.meta VALUES ('old', false, false); \
         INSERT INTO pgmq.q_old (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, {n}) i; \
         INSERT INTO pgmq.a_old VALUES (2000000, 3, now(), now(), now(), '1')"
    ))
    .await;
    assert_eq!(
        c.text("SELECT messages || ' ' || archived FROM mq.import_pgmq()")
            .await,
        format!("{n} 1")
    );
    replaced(&c).await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('old', 60, 3000)")
            .await,
        (1..=n.min(3000)).collect::<Vec<i64>>()
    );
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_old").await, n);
    assert_eq!(c.int("SELECT pgmq.send('old', '1')").await, 2_000_001);
}

/// As the documents say: the tables that were set aside, or what is there by now.
async fn the_way_back(cx: Cx) {
    let c = installed(&cx).await;
    let fill = "SELECT pgmq.create('orders'); SELECT pgmq.send_batch('orders', '{1,2,3,4}'::jsonb[]); \
                SELECT pgmq.read('orders', 3600, 1); SELECT pgmq.archive('orders', 2)";
    let shown = "SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message FROM pgmq.q_orders ORDER BY 1";
    let archived =
        "SELECT msg_id, read_ct, enqueued_at, archived_at, message FROM pgmq.a_orders ORDER BY 1";
    c.run(fill).await;
    let before = [c.rows(shown).await, c.rows(archived).await];
    c.run("SELECT mq.import_pgmq()").await;
    replaced(&c).await;
    // At once.
    c.run("DROP EXTENSION pgmq CASCADE").await;
    install(&cx).await;
    c.run(
        "SELECT mq.drop_queue('orders'); \
         ALTER TABLE pgmq_before.q_orders SET SCHEMA pgmq; \
         ALTER TABLE pgmq_before.a_orders SET SCHEMA pgmq; \
         INSERT INTO pgmq.meta SELECT * FROM pgmq_before.meta WHERE queue_name = 'orders'; \
         DROP SCHEMA pgmq_before CASCADE",
    )
    .await;
    assert_eq!([c.rows(shown).await, c.rows(archived).await], before);
    assert_eq!(c.int("SELECT pgmq.send('orders', '5')").await, 5);
    // Later.
    c.run("SELECT mq.import_pgmq()").await;
    replaced(&c).await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('orders', 3600, 1)")
            .await,
        [3]
    );
    c.run("SELECT pgmq.archive('orders', 4)").await;
    let before = [c.rows(shown).await, c.rows(archived).await];
    c.run("DROP EXTENSION pgmq CASCADE").await;
    install(&cx).await;
    c.run(
        "BEGIN; \
         SELECT pgmq.create('orders'); \
         INSERT INTO pgmq.q_orders (msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers) \
             OVERRIDING SYSTEM VALUE \
             SELECT id, attempts, enqueued_at, read_at, visible_at, body, headers FROM mq.orders; \
         INSERT INTO pgmq.a_orders (msg_id, read_ct, enqueued_at, last_read_at, archived_at, vt, message, headers) \
             SELECT id, attempts, enqueued_at, read_at, archived_at, visible_at, body, headers FROM mq.orders_archive; \
         SELECT setval(pg_get_serial_sequence('pgmq.q_orders', 'msg_id'), \
                       greatest((SELECT max(msg_id) FROM pgmq.q_orders), (SELECT max(msg_id) FROM pgmq.a_orders), 1)); \
         SELECT mq.drop_queue('orders'); \
         COMMIT",
    )
    .await;
    assert_eq!([c.rows(shown).await, c.rows(archived).await], before);
    assert_eq!(c.int("SELECT pgmq.send('orders', '6')").await, 6);
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('orders', 60, 9)")
            .await,
        [5, 6]
    );
}

async fn nothing_there(cx: Cx) {
    let c = cx.connect().await;
    c.refused("SELECT mq.import_pgmq()", "42P01").await;
    let role = cx.role("app").await;
    cx.connect_as(&role)
        .await
        .refused("SELECT mq.import_pgmq()", "42501")
        .await;
    // Of the drop-in itself there is nothing to move.
    c.run("CREATE EXTENSION pgmq; SELECT pgmq.create('q')")
        .await;
    assert!(c.rows("SELECT mq.import_pgmq()").await.is_empty());
    c.run("SELECT pgmq.send('q', '1')").await;
}

async fn a_million(cx: Cx) {
    let c = installed(&cx).await;
    c.run("SELECT pgmq.create('big')").await;
    c.run("INSERT INTO pgmq.q_big (vt, message) SELECT now(), jsonb_build_object('n', i) FROM generate_series(1, 1000000) i").await;
    assert_eq!(
        c.int("SELECT messages FROM mq.import_pgmq()").await,
        1_000_000
    );
    replaced(&c).await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_big").await, 1_000_000);
    let firsts = c
        .ints("SELECT msg_id FROM pgmq.read('big', 60, 1000)")
        .await;
    assert_eq!(firsts, (1..=1000).collect::<Vec<i64>>());
    assert_eq!(c.int("SELECT pgmq.send('big', '1')").await, 1_000_001);
    assert!(c.yes("SELECT pgmq.delete('big', 1000000)").await);
}
