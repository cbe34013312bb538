//! Upkeep under odd circumstances: by sessions that last for one call, with an event trigger that
//! forbids DDL, with a tablespace in the caller's settings; and tables that are dropped when a backlog is
//! gone, beside a dump.

use crate::conn::{Conn, Patience};
use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, FEW, LEAST, Upkeep, nothing_waits};
use crate::tests;
use crate::traffic::Traffic;
use crate::world::{output, world};
use std::sync::Arc;

tests![
    calls_of_short_sessions,
    readers_of_short_sessions,
    ddl_forbidden,
    in_the_tablespace_of_the_queue,
    spare_tables_and_a_dump,
];

/// Sends and pops, each call in a session of its own.
async fn short_sessions(cx: &Cx, batches: usize) {
    for _ in 0..batches {
        for call in [
            "mq.send_batch('q', array_fill('1'::jsonb, ARRAY[16]))",
            "mq.pop('q', 16)",
        ] {
            cx.connect()
                .await
                .run(&format!("SELECT count(*) FROM {call}"))
                .await;
        }
    }
}

async fn quiet_queue(cx: &Cx) -> (Cx, Conn) {
    let cx = space::quiet(cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    (cx, c)
}

/// As a cron job does it. Nobody who calls was there before.
async fn calls_of_short_sessions(cx: Cx) {
    let (cx, c) = quiet_queue(&cx).await;
    // Nobody but the calls makes room.
    let send = "SELECT count(*) FROM mq.send_batch('q', array_fill('1'::jsonb, ARRAY[64]))";
    for _ in 0..10 {
        cx.connect().await.run(send).await;
    }
    c.run("SELECT count(*) FROM mq.pop('q', 1000)").await;
    let old = |parts: &[space::Part]| parts.iter().filter(|p| p.is_old()).count();
    let before = old(&space::segments(&c, "q").await);
    assert!(before >= 6, "{before} segments are used up");
    for _ in 0..4 {
        let call = cx.connect().await;
        call.run("SELECT mq.maintain('q')").await;
    }
    let parts = space::segments(&c, "q").await;
    assert!(nothing_waits(&parts), "after four calls: {parts:#?}");
}

/// Nobody calls for upkeep.
async fn readers_of_short_sessions(cx: Cx) {
    let (cx, c) = quiet_queue(&cx).await;
    short_sessions(&cx, 120).await;
    let parts = space::segments(&c, "q").await;
    assert!(
        (2..=FEW).contains(&parts.len()),
        "after 30 segments' worth: {parts:#?}"
    );
}

/// A trigger of the database's owner lets no DDL through: that stops the upkeep, and no message.
async fn ddl_forbidden(cx: Cx) {
    let (cx, c) = quiet_queue(&cx).await;
    c.run(
        "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'no DDL: %', tg_tag; END $$; \
         CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()",
    )
    .await;
    let a = cx.connect().await;
    for _ in 0..20 {
        a.run("SELECT mq.send_batch('q', array_fill('1'::jsonb, ARRAY[16]))")
            .await;
    }
    assert!(
        a.warnings().iter().any(|w| w.contains("no DDL")),
        "somebody should know"
    );
    a.run("SELECT mq.maintain('q')").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 320);
    assert!(space::segments(&c, "q").await.is_empty());
    // The transaction around it is what it was, rights and all.
    a.run("BEGIN; SELECT mq.send('q', '1'); SAVEPOINT s; SELECT mq.send('q', '2'); COMMIT")
        .await;
    assert_eq!(c.int("SELECT count(*) FROM mq.pop('q', 1000)").await, 322);
    c.run("DROP EVENT TRIGGER no_ddl").await;
    let mut traffic = Traffic::new(a, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    traffic.finish().await;
}

/// New tables lie where the first one does, whatever the settings of the session that makes them.
async fn in_the_tablespace_of_the_queue(cx: Cx) {
    let (cx, c) = quiet_queue(&cx).await;
    let place = format!("{}_place", cx.db);
    c.run("SET allow_in_place_tablespaces = on").await;
    c.run(&format!("CREATE TABLESPACE {place} LOCATION ''"))
        .await;
    c.run(&format!("SET default_tablespace = '{place}'")).await;
    space::create(&c, "there", LEAST, "").await;
    let there = cx.connect().await;
    for (queue, c, wanted) in [("q", c, "-"), ("there", there, &place[..])] {
        let mut traffic = Traffic::new(c, queue, Upkeep::Calls).await;
        traffic.turns(3).await;
        let parent = crate::storage::of(&traffic.c, queue).await;
        let name = parent.split('.').next_back().unwrap();
        let places = format!(
            "SELECT string_agg(DISTINCT coalesce(t.spcname, '-'), ' ') FROM pg_class c \
             LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace \
             WHERE c.relnamespace = 'mq_internal'::regnamespace AND c.relkind IN ('r', 'i') \
             AND c.relname ~ '^{name}(_s[0-9]+|_p)(_|$)'"
        );
        assert_eq!(traffic.c.text(&places).await, wanted, "{queue}");
        traffic
            .c
            .run(&format!("SELECT mq.drop_queue('{queue}')"))
            .await;
        if queue == "there" {
            traffic.c.run(&format!("DROP TABLESPACE {place}")).await;
        }
    }
}

/// The tables of a backlog go when it is gone, though the queue is at rest; but not while a dump that has
/// read of them is yet to lock them.
async fn spare_tables_and_a_dump(cx: Cx) {
    let settings = format!(
        "{}pg_broker.rotation_interval = '200ms'\n",
        Upkeep::Worker.settings()
    );
    let cx = cx.on(Arc::new(Server::start("space-spare", &settings).await));
    let c = cx.connect().await;
    c.run("CREATE TABLE older ()").await;
    space::create(&c, "q", LEAST, "").await;
    let patience = Patience::new("a segment for each batch");
    while space::segments(&c, "q").await.len() < 40 {
        c.run("SELECT mq.send_batch('q', array_fill('1'::jsonb, ARRAY[64]))")
            .await;
        patience.wait().await;
    }
    let x = cx.connect().await;
    x.run("BEGIN; LOCK TABLE older IN ACCESS EXCLUSIVE MODE")
        .await;
    let file = world().work.join(format!("{}-spare.dump", cx.db));
    let mut command = cx.server.client("pg_dump");
    command.args(["-d", &cx.db, "-f"]).arg(&file);
    let dumping = tokio::task::spawn_blocking(move || output(&mut command));
    c.until(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pg_dump' \
         AND datname = current_database() AND wait_event_type = 'Lock'",
    )
    .await;
    c.run("SELECT count(*) FROM mq.pop('q', 10000)").await;
    let free = |parts: &[space::Part]| parts.iter().filter(|p| p.state == "free").count();
    let all_free = "all of them truncated";
    space::until(&c, "q", Upkeep::Worker, all_free, |parts| free(parts) > 35).await;
    let patience = Patience::new("more than the interval");
    for _ in 0..80 {
        c.run("SELECT mq.maintain('q')").await;
        patience.wait().await;
    }
    let parts = space::segments(&c, "q").await;
    assert!(free(&parts) > 35, "the dump knows of them: {parts:#?}");
    x.run("COMMIT").await;
    dumping.await.expect("the dump");
    let few = "most of them dropped, at rest";
    space::until(&c, "q", Upkeep::Worker, few, |parts| free(parts) <= FEW).await;
}
