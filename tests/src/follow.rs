//! The catalog follows what standard DDL does to a queue's view, and keeps all parts together.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    alter_view_rename,
    alter_view_owner,
    reassign_and_drop_owned,
    drop_view,
    drop_view_rolls_back,
    set_schema_is_refused,
    dependants
];

/// How many relations of the machinery there are, and how many of `mq`.
async fn relations(c: &Conn) -> i64 {
    c.int(
        "SELECT count(*) FROM pg_class WHERE relnamespace IN ('mq'::regnamespace, 'mq_internal'::regnamespace)",
    )
    .await
}

pub async fn fill(c: &Conn, queue: &str) {
    c.run(&format!(
        "SELECT mq.create_queue('{queue}', max_failures => 2)"
    ))
    .await;
    c.run(&format!(
        "SELECT mq.send('{queue}', to_jsonb(n)) FROM generate_series(1, 5) n"
    ))
    .await;
    c.run(&format!(
        "SELECT mq.archive('{queue}', id, receipt) FROM mq.read('{queue}')"
    ))
    .await;
    c.run(&format!(
        "SELECT mq.reject('{queue}', id, receipt) FROM mq.read('{queue}')"
    ))
    .await;
}

/// The queue works under this name, and so do its archive and dead letters.
pub async fn works(c: &Conn, queue: &str) {
    let id = c.send(queue, 1).await;
    let hands = c.hands(&format!("'{queue}', 100, '1 hour'")).await;
    assert!(hands.iter().any(|hand| hand.id == id));
    let sum = format!("SELECT count(*) FROM mq.\"{queue}_archive\"");
    let before = c.int(&sum).await;
    for hand in &hands {
        assert!(c.settle("archive", queue, hand).await);
    }
    assert_eq!(c.int(&sum).await, before + hands.len() as i64);
    let named = format!("SELECT count(*) FROM mq.queues WHERE queue = '{queue}'");
    assert_eq!(c.int(&named).await, 1);
    c.send(queue, 2).await;
    assert_eq!(
        c.text(&format!("SELECT DISTINCT queue FROM mq.\"{queue}\""))
            .await,
        queue
    );
    assert_eq!(
        c.text(&format!("SELECT queue FROM mq.pop('{queue}')"))
            .await,
        queue
    );
}

async fn alter_view_rename(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    fill(&c, "a").await;
    other.hand("'a', 1, '1 ms'").await;
    c.run("ALTER VIEW mq.a RENAME TO b").await;
    other.refused("SELECT mq.send('a', '1')", "42P01").await;
    works(&other, "b").await;
    works(&c, "b").await;
    c.run("ALTER VIEW mq.a_dead RENAME TO graveyard").await;
    assert_eq!(
        c.text("SELECT dead_letter FROM mq.queues WHERE queue = 'b'")
            .await,
        "graveyard"
    );
    c.send("b", 9).await;
    c.run("SELECT mq.reject('b', id, receipt) FROM mq.read('b', 10)")
        .await;
    assert!(c.int("SELECT count(*) FROM mq.graveyard").await >= 2);
    assert!(c.int("SELECT mq.redrive('graveyard', \"to\" => 'b')").await >= 2);
    assert!(c.int("SELECT count(*) FROM mq.b").await >= 2, "redriven");
    for bad in ["pg_b", "mq_b", "queues2queues", "x"] {
        let code = if bad.starts_with("pg_") || bad.starts_with("mq_") {
            "42602"
        } else {
            ""
        };
        let said = c
            .cells(&format!("ALTER VIEW mq.b RENAME TO \"{bad}\""))
            .await;
        assert_eq!(
            said.err().map_or(String::new(), |no| no.code),
            code,
            "{bad}"
        );
        if code.is_empty() {
            c.run(&format!("ALTER VIEW mq.\"{bad}\" RENAME TO b")).await;
        }
    }
    let long = "x".repeat(49);
    c.refused(&format!("ALTER VIEW mq.b RENAME TO {long}"), "42602")
        .await;
}

async fn alter_view_owner(cx: Cx) {
    let c = cx.connect().await;
    let (from, to) = (cx.role("from").await, cx.role("to").await);
    c.run(&format!(
        "GRANT EXECUTE ON FUNCTION mq.create_queue TO {from}; SET ROLE {from}"
    ))
    .await;
    fill(&c, "q").await;
    c.run("RESET ROLE").await;
    c.run(&format!("ALTER VIEW mq.q OWNER TO {to}")).await;
    let (f, t) = (cx.connect_as(&from).await, cx.connect_as(&to).await);
    f.refused("SELECT mq.send('q', '1')", "42501").await;
    works(&t, "q").await;
    t.run("SELECT mq.pause('q'); SELECT mq.resume('q'); SELECT mq.alter_queue('q', visibility => '9 s')").await;
    assert_eq!(
        t.text("SELECT owner FROM mq.queues WHERE queue = 'q'")
            .await,
        to
    );
    t.run("SELECT mq.drop_queue('q')").await;
    f.run("SELECT mq.drop_queue('q_dead')").await;
    c.run(&format!(
        "DROP OWNED BY {from}; DROP ROLE {from}; DROP ROLE {to}"
    ))
    .await;
}

async fn reassign_and_drop_owned(cx: Cx) {
    let c = cx.connect().await;
    let bare = relations(&c).await;
    let (from, to) = (cx.role("from").await, cx.role("to").await);
    c.run(&format!(
        "GRANT EXECUTE ON FUNCTION mq.create_queue TO {from}; SET ROLE {from}"
    ))
    .await;
    fill(&c, "q").await;
    fill(&c, "other").await;
    c.run(&format!(
        "RESET ROLE; REASSIGN OWNED BY {from} TO {to}; DROP OWNED BY {from}; DROP ROLE {from}"
    ))
    .await;
    let t = cx.connect_as(&to).await;
    works(&t, "q").await;
    assert_eq!(
        t.text("SELECT string_agg(DISTINCT owner, ',') FROM mq.queues")
            .await,
        to
    );
    let user = cx.role("user").await;
    c.run(&format!(
        "GRANT INSERT ON mq.q TO {user}; DROP OWNED BY {user}; DROP ROLE {user}"
    ))
    .await;
    works(&t, "q").await;
    drop(t);
    c.run(&format!("DROP OWNED BY {to}; DROP ROLE {to}")).await;
    assert_eq!(relations(&c).await, bare, "DROP OWNED leaves nothing");
    assert_eq!(c.int("SELECT count(*) FROM mq.queues").await, 0);
}

async fn drop_view(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    let bare = relations(&c).await;
    fill(&c, "q").await;
    other.send("q", 1).await;
    c.run("DROP VIEW mq.q").await;
    other.refused("SELECT mq.send('q', '1')", "42P01").await;
    other.refused("SELECT * FROM mq.q_archive", "42P01").await;
    other.run("SELECT count(*) FROM mq.q_dead").await;
    c.run("DROP VIEW mq.q_dead").await;
    assert_eq!(relations(&c).await, bare, "DROP VIEW leaves nothing");
    fill(&c, "q").await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q").await,
        3,
        "the name starts afresh"
    );
    c.refused("DROP VIEW mq.q_archive", "2BP01").await;
    works(&other, "q").await;
}

async fn drop_view_rolls_back(cx: Cx) {
    let c = cx.connect().await;
    fill(&c, "q").await;
    c.run("BEGIN; DROP VIEW mq.q; ROLLBACK").await;
    works(&c, "q").await;
    c.run("BEGIN; SELECT mq.rename_queue('q', 'p')").await;
    works(&c, "p").await;
    c.run("ROLLBACK").await;
    c.refused("SELECT mq.send('p', '1')", "42P01").await;
    works(&c, "q").await;
    c.run("BEGIN; SAVEPOINT s; SELECT mq.drop_queue('q'); ROLLBACK TO s")
        .await;
    works(&c, "q").await;
    c.run("COMMIT").await;
    works(&c, "q").await;
}

async fn set_schema_is_refused(cx: Cx) {
    let c = cx.connect().await;
    fill(&c, "q").await;
    c.refused("ALTER VIEW mq.q SET SCHEMA public", "0A000")
        .await;
    c.refused("ALTER VIEW mq.q_archive SET SCHEMA public", "0A000")
        .await;
    works(&c, "q").await;
}

async fn dependants(cx: Cx) {
    let c = cx.connect().await;
    fill(&c, "q").await;
    c.refused("SELECT mq.drop_queue('q_dead')", "2BP01").await;
    c.run("CREATE VIEW public.mine AS SELECT id FROM mq.q")
        .await;
    let no = c.refused("SELECT mq.drop_queue('q')", "2BP01").await;
    assert!(!no.hint.is_empty(), "{no:?}");
    works(&c, "q").await;
    assert!(c.yes("SELECT mq.drop_queue('q', cascade => true)").await);
    c.refused("SELECT * FROM public.mine", "42P01").await;
    c.run("SELECT mq.drop_queue('q_dead')").await;
    assert!(!c.yes("SELECT mq.drop_queue('q', if_exists => true)").await);
    c.refused("SELECT mq.drop_queue('q')", "42P01").await;
}
