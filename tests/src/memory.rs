//! A backend that works for days does not grow. `MEMORY_TIMES` (20000) says how many messages one
//! session reads and acknowledges, and how often one transaction reads an empty queue.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    reads_and_acks,
    reads_and_acks_of_clients,
    empty_reads_in_one_transaction,
    many_queues_come_and_go,
    rollbacks_are_forgotten
];

/// Bytes in use in the backend's memory contexts: what is set aside comes in blocks of up to a megabyte.
async fn contexts(c: &Conn) -> i64 {
    c.int("SELECT sum(used_bytes) FROM pg_backend_memory_contexts")
        .await
}

/// Resident memory of the backend in bytes, as the kernel counts it.
fn resident(c: &Conn) -> i64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", c.pid)).unwrap();
    let mut fields = statm.split(' ').map(|n| n.parse::<i64>().unwrap_or(0));
    let _size = fields.next();
    let resident = fields.next().unwrap();
    // Shared buffers that it has touched are not its own.
    (resident - fields.next().unwrap()) * 4096
}

fn times() -> u32 {
    let given = std::env::var("MEMORY_TIMES").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Runs the work once to warm up, then for real, and compares.
async fn does_not_grow(c: &Conn, warm: &str, work: &str) {
    c.run(warm).await;
    c.run(warm).await;
    let before = (contexts(c).await, resident(c));
    c.run(work).await;
    let after = (contexts(c).await, resident(c));
    let grown = (after.0 - before.0, after.1 - before.1);
    assert!(grown.0 < 512 << 10, "contexts grew by {} kB", grown.0 >> 10);
    assert!(
        grown.1 < 4 << 20,
        "the process grew by {} kB",
        grown.1 >> 10
    );
}

async fn reads_and_acks(cx: Cx) {
    let c = cx.connect().await;
    // What a session that rotates has to know is known after the first rotations.
    c.run("SELECT mq.create_queue('q', dedup_window => '1 ms', segment_size => 128)")
        .await;
    let work = |times: u32| {
        format!(
            "DO $$DECLARE m mq.message; BEGIN FOR i IN 1..{times} LOOP \
             PERFORM mq.send('q', '{{\"a\": 1}}', '{{\"h\": 1}}'); \
             SELECT * INTO m FROM mq.read('q'); \
             IF NOT mq.ack('q', m.id, m.receipt) THEN RAISE 'not acked'; END IF; COMMIT; END LOOP; END$$"
        )
    };
    does_not_grow(&c, &work(4000), &work(times())).await;
}

/// As `reads_and_acks`, each statement sent by the client, with rollbacks, savepoints and errors.
async fn reads_and_acks_of_clients(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', dedup_window => '1 ms')")
        .await;
    let rounds = async |n: u32| {
        for _ in 0..n {
            c.run("SELECT mq.send('q', '1', priority => 7), mq.send('q', '2', delay => '1 us')")
                .await;
            c.run("SELECT mq.ack('q', id, receipt) FROM mq.read('q', 2)")
                .await;
            c.run("BEGIN; SAVEPOINT a; SELECT mq.pop('q'); ROLLBACK TO a; SELECT mq.pop('q', 2)")
                .await;
            assert!(c.cells("SELECT 1/0").await.is_err());
            c.run("ROLLBACK").await;
            c.run("SELECT mq.purge_queue('q')").await;
        }
    };
    rounds(200).await;
    let before = (contexts(&c).await, resident(&c));
    rounds(times() / 20).await;
    let grown = (contexts(&c).await - before.0, resident(&c) - before.1);
    assert!(grown.0 < 512 << 10, "contexts grew by {} kB", grown.0 >> 10);
    assert!(
        grown.1 < 4 << 20,
        "the process grew by {} kB",
        grown.1 >> 10
    );
}

async fn empty_reads_in_one_transaction(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q'); SELECT mq.send('q', '1', delay => '1 hour'); BEGIN")
        .await;
    let work = |times: u32| {
        format!(
            "DO $$BEGIN FOR i IN 1..{times} LOOP PERFORM * FROM mq.read('q', 10); \
             PERFORM mq.ack('q', 5, 5); END LOOP; END$$"
        )
    };
    does_not_grow(&c, &work(500), &work(times())).await;
    c.run("COMMIT").await;
}

async fn many_queues_come_and_go(cx: Cx) {
    let c = cx.connect().await;
    let work = |times: u32| {
        format!(
            "DO $$BEGIN FOR i IN 1..{times} LOOP PERFORM mq.create_queue('q'), mq.send('q', '1'); \
             PERFORM mq.read('q'); PERFORM mq.drop_queue('q'); COMMIT; END LOOP; END$$"
        )
    };
    c.run(&work(30)).await;
    let before = contexts(&c).await;
    c.run(&work(120)).await;
    let grown = contexts(&c).await - before;
    assert!(grown < 4 << 20, "contexts grew by {} kB", grown >> 10);
}

async fn rollbacks_are_forgotten(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q'); SELECT mq.create_queue('other')")
        .await;
    c.run("SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, 100) n")
        .await;
    let work = |times: u32| {
        format!(
            "DO $$BEGIN FOR i IN 1..{times} LOOP PERFORM mq.read('q', 100); ROLLBACK; END LOOP; END$$"
        )
    };
    does_not_grow(&c, &work(50), &work(400)).await;
}
