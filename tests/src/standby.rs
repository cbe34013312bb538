//! A streaming standby serves looking, refuses every write, and works whole once promoted.

use crate::harness::Cx;
use crate::server::Server;
use crate::tests;

tests![looks_refuses_and_takes_over];

const WRITES: &[&str] = &[
    "SELECT mq.send('q', '1')",
    "SELECT mq.send_text('q', '1')",
    "SELECT mq.send_bytes('q', '1')",
    "SELECT mq.send_batch('q', ARRAY['1']::jsonb[])",
    "INSERT INTO mq.q (body) VALUES ('1')",
    "UPDATE mq.q SET body = '1'",
    "DELETE FROM mq.q",
    "SELECT * FROM mq.read('q')",
    "SELECT * FROM mq.read('empty')",
    "SELECT * FROM mq.pop('q')",
    "SELECT mq.ack('q', 1)",
    "SELECT mq.nack('q', 1)",
    "SELECT mq.release('q', 1)",
    "SELECT mq.reject('q', 1)",
    "SELECT mq.extend('q', 1)",
    "SELECT mq.archive('q', 1)",
    "SELECT mq.ack_batch('q', ARRAY[1])",
    "SELECT mq.delete('q', 1)",
    "SELECT mq.delete_batch('q', ARRAY[1])",
    "SELECT mq.purge_queue('q')",
    "SELECT mq.redrive('q')",
    "SELECT mq.create_queue('new')",
    "SELECT mq.alter_queue('q', visibility => '1 s')",
    "SELECT mq.rename_queue('q', 'r')",
    "SELECT mq.pause('q')",
    "SELECT mq.resume('q')",
    "SELECT mq.drop_queue('q')",
    "SELECT mq.maintain()",
];

async fn looks_refuses_and_takes_over(_: Cx) {
    let primary = Server::start("standby-primary", "").await;
    let p = primary.connect("mq_template").await;
    p.run("SELECT mq.create_queue('q', max_failures => 3), mq.create_queue('empty')")
        .await;
    p.run("SELECT mq.create_queue('paused'); SELECT mq.pause('paused')")
        .await;
    p.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 8) n")
        .await;
    p.run("SELECT mq.send('q', '1', delay => '1 hour')").await;
    let old = p.hands("'q', 2, '1 s'").await;
    let standby = primary.standby("standby-standby");
    let s = standby.connect("mq_template").await;
    let here = p.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    for look in [
        "SELECT id, body, attempts, visible_at FROM mq.q ORDER BY id",
        "SELECT * FROM mq.q_archive",
        "SELECT queue, visibility, max_failures, dead_letter, paused FROM mq.queues ORDER BY 1",
        "SELECT queue, delayed FROM mq.metrics ORDER BY 1",
        "SELECT (mq.get('q', 3)).body",
        "SELECT mq.version()",
    ] {
        assert_eq!(s.rows(look).await, p.rows(look).await, "{look}");
    }
    s.run("SELECT * FROM mq.status(); SELECT * FROM mq.metrics")
        .await;
    for write in WRITES {
        s.refused(write, "25006").await;
        let no = p
            .cells(&format!("BEGIN READ ONLY; {write}"))
            .await
            .unwrap_err();
        assert_eq!(no.code, "25006", "{write} in a read-only transaction");
        p.run("ROLLBACK").await;
    }
    // Waiting writes nothing: it may be served, or refused like the reads it is for.
    let wait = s.cells("CALL mq.wait('empty', '1 ms', NULL)").await;
    assert!(wait.is_ok_and(|rows| rows[0][0].as_deref() == Some("f")));
    // What the primary does is seen here, and the catalog's changes too.
    p.run("SELECT mq.rename_queue('empty', 'other'); SELECT mq.send('other', '5')")
        .await;
    let here = p.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    assert_eq!(s.text("SELECT body FROM mq.other").await, "5");
    s.refused("SELECT * FROM mq.empty", "42P01").await;
    primary.crash();
    standby.promote();
    s.until("SELECT NOT pg_is_in_recovery()").await;
    s.until("SELECT count(*) = 8 FROM mq.q WHERE state = 'ready'")
        .await;
    let hands = s.hands("'q', 10, '1 hour'").await;
    assert_eq!(hands.len(), 8);
    for hand in &old {
        assert!(
            !s.settle("ack", "q", hand).await,
            "an old receipt settled after promotion"
        );
    }
    for hand in &hands {
        assert!(s.settle("ack", "q", hand).await);
    }
    assert!(s.send("q", 1).await > hands[7].id + 1);
    s.run("SELECT mq.create_queue('new'); SELECT mq.send('new', '1'); SELECT mq.resume('paused')")
        .await;
    s.run("SELECT mq.maintain(); SELECT mq.drop_queue('other'); SELECT mq.rename_queue('new', 'newer')").await;
    assert_eq!(s.text("SELECT body FROM mq.pop('newer')").await, "1");
}
