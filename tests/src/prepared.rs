//! Prepared transactions outlive the session that made them and the server: whatever they sent,
//! took or settled is found when they end, by readers that have long been past it.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::server::Server;
use crate::tests;

tests![
    over_a_restart,
    over_a_crash,
    more_than_are_remembered,
    totals,
];

/// What a prepared transaction may have done to the messages 1 to 5 and what is read after it has
/// been committed, and after it has been rolled back.
const DEEDS: [(&str, &str, &str); 7] = [
    ("SELECT mq.send('q', '9')", "1 2 3 4 5 9", "1 2 3 4 5"),
    (
        "SELECT mq.send('q', '9', delay => '1 us', priority => 7)",
        "9 1 2 3 4 5",
        "1 2 3 4 5",
    ),
    ("SELECT mq.read('q', 3, '1 hour')", "4 5", "1 2 3 4 5"),
    ("SELECT mq.read('q', 3, '1 us')", "1 2 3 4 5", "1 2 3 4 5"),
    ("SELECT mq.pop('q', 4)", "5", "1 2 3 4 5"),
    (
        "SELECT mq.nack('q', id, receipt, delay => '1 us') FROM mq.read('q', 2)",
        "1 2 3 4 5",
        "1 2 3 4 5",
    ),
    (
        "SELECT mq.nack('q', id, receipt, delay => '1 hour') FROM mq.read('q', 2)",
        "3 4 5",
        "1 2 3 4 5",
    ),
];

async fn connect(server: &Server) -> Conn {
    server.connect("mq_template").await
}

/// Reads everything and gives it back; the bodies in the order that they came.
async fn readable(c: &Conn) -> String {
    let all = "SELECT coalesce(string_agg(body::text, ' '), '') || CASE WHEN \
               bool_or(mq.release('q', id, receipt)) THEN '' ELSE '' END FROM mq.read('q', 100, '1 hour')";
    c.text(all).await
}

/// Each deed, prepared; the server down and up; readers before, between and after.
async fn each(server: &Server, stop: fn(&Server)) {
    for (deed, committed, rolled_back) in DEEDS {
        for (end, wanted) in [("COMMIT", committed), ("ROLLBACK", rolled_back)] {
            let (c, other) = (connect(server).await, connect(server).await);
            c.run("SELECT mq.create_queue('q')").await;
            c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n")
                .await;
            c.run(&format!("BEGIN; {deed}; PREPARE TRANSACTION 'p'"))
                .await;
            let before = readable(&other).await;
            drop((c, other));
            stop(server);
            server.up();
            let c = connect(server).await;
            assert_eq!(readable(&c).await, before, "{deed}: after the restart");
            c.run(&format!("{end} PREPARED 'p'")).await;
            assert_eq!(readable(&c).await, wanted, "{deed}: {end}");
            assert_eq!(
                readable(&connect(server).await).await,
                wanted,
                "{deed}: again"
            );
            c.run("SELECT mq.drop_queue('q')").await;
        }
    }
}

async fn over_a_restart(_: Cx) {
    let server = Server::start("prepared", "").await;
    each(&server, Server::down).await;
    server.down();
}

async fn over_a_crash(_: Cx) {
    let server = Server::start("prepared-crash", "").await;
    each(&server, Server::crash).await;
    server.down();
}

/// More prepared transactions, and more of each, than a queue has room to remember.
async fn more_than_are_remembered(cx: Cx) {
    let (c, reader) = (cx.connect().await, cx.connect().await);
    c.run("SELECT mq.create_queue('q')").await;
    c.run("SELECT mq.send_batch('q', array_agg('0'::jsonb), delay => '1 hour') FROM generate_series(1, 5000)")
        .await;
    assert_eq!(reader.hands("'q'").await, []);
    let near = blocks_of_a_read(&reader).await;
    const MANY: usize = 12;
    for n in 0..MANY {
        c.run("BEGIN").await;
        // Far apart, so that what each sent are several spans.
        for part in 0..3 {
            c.run(&format!(
                "SELECT mq.send('q', '{part}', priority => {part})"
            ))
            .await;
            reader
                .run("SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, 200) n")
                .await;
            reader.run("SELECT count(*) FROM mq.pop('q', 200)").await;
        }
        c.run(&format!("PREPARE TRANSACTION '{}_{n}'", cx.db)).await;
    }
    assert_eq!(reader.hands("'q', 9").await, []);
    for n in 0..MANY {
        c.run(&format!("COMMIT PREPARED '{}_{n}'", cx.db)).await;
        assert_eq!(reader.hands("'q', 9").await.len(), 3, "the {n}th");
    }
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'ready'")
            .await,
        0
    );
    // While they are too many, readers look at everything. Afterwards they know where to look again.
    let far = blocks_of_a_read(&reader).await;
    assert!(far > near + 40, "{near} blocks before, {far} with too many");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    // A rank that nobody knew gets its lane by the first look.
    for _ in 0..2 {
        assert_eq!(reader.hands("'q'").await, []);
    }
    let again = blocks_of_a_read(&reader).await;
    assert!(
        again <= near + 4,
        "{near} blocks before, {again} afterwards"
    );
}

/// How many blocks a read that finds nothing looks at.
async fn blocks_of_a_read(c: &Conn) -> u64 {
    let plan = c
        .text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM mq.read('q')")
        .await;
    let (_, hits) = plan.split_once("\"Shared Hit Blocks\": ").unwrap();
    hits.split(',').next().unwrap().trim().parse().unwrap()
}

/// They count what committed, when it is committed, whoever does that.
async fn totals(cx: Cx) {
    let (c, holder) = (cx.connect().await, cx.connect().await);
    let counted =
        "SELECT concat_ws(' ', sent, delivered, acked, failed) FROM mq.metrics WHERE queue = 'q'";
    let deeds = [
        "SELECT mq.send('q', to_jsonb(n), priority => n) FROM generate_series(1, 3) n",
        "SELECT mq.pop('q', 2)",
        "SAVEPOINT s; SELECT mq.send('q', '4'); ROLLBACK TO s",
        "SELECT mq.nack('q', id, receipt) FROM mq.read('q')",
    ];
    let deeds = deeds.join("; ");
    for (end, then) in [("COMMIT", "8 3 2 1"), ("ROLLBACK", "5 0 0 0")] {
        c.run("SELECT mq.create_queue('q')").await;
        c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n")
            .await;
        let gid = &cx.db;
        holder
            .run(&format!("BEGIN; {deeds}; PREPARE TRANSACTION '{gid}'"))
            .await;
        c.run("CALL mq.wait('q', '0')").await;
        assert_eq!(c.text(counted).await, "5 0 0 0", "prepared");
        c.run(&format!("{end} PREPARED '{gid}'")).await;
        assert_eq!(c.text(counted).await, then, "{end}");
        c.run("CALL mq.wait('q', '0')").await;
        assert_eq!(c.text(counted).await, then, "{end}: once");
        c.run("SELECT mq.drop_queue('q')").await;
    }
}
