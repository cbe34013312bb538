//! pg_dump, pg_restore and psql carry queues whole into another server.

use crate::conn::Conn;
use crate::content::{alive, assert_same, content};
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::tests;
use crate::world::{output, world};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tests![
    plain_and_custom,
    as_non_superuser,
    under_load,
    data_and_schema_apart
];

/// The roles that `pg_test/upgrade/fill.sql` gives privileges to.
pub const ROLES: [&str; 3] = ["kept_owner", "kept_worker", "kept_web"];

pub fn fill_script() -> PathBuf {
    world().root.join("pg_test/upgrade/fill.sql")
}

async fn filled(cx: &Cx, db: &str) -> Server {
    let server = Server::start(db, "").await;
    let admin = server.connect("postgres").await;
    for role in ROLES {
        admin.run(&format!("CREATE ROLE {role} LOGIN")).await;
    }
    admin.run("CREATE DATABASE kept TEMPLATE mq_template").await;
    server.psql("kept", "postgres", &fill_script());
    let _ = cx;
    server
}

async fn target(server: &Server, db: &str) -> Conn {
    let admin = server.connect("postgres").await;
    for role in ROLES {
        let _ = admin.cells(&format!("CREATE ROLE {role} LOGIN")).await;
    }
    admin
        .run(&format!("CREATE DATABASE {db} TEMPLATE template0"))
        .await;
    server.connect(db).await
}

/// Dumps a database with these flags into a file of the working directory.
fn dump(server: &Server, db: &str, user: &str, flags: &[&str]) -> PathBuf {
    let file = world()
        .work
        .join(format!("{db}-{}{}.dump", server.port, flags.join("")));
    output(
        server
            .client("pg_dump")
            .args(flags)
            .args(["-U", user, "-d", db, "-f"])
            .arg(&file),
    );
    file
}

fn restore(server: &Server, db: &str, user: &str, file: &Path, flags: &[&str]) {
    let mut command = server.client("pg_restore");
    output(
        command
            .args(flags)
            .args(["--exit-on-error", "-U", user, "-d", db])
            .arg(file),
    );
}

async fn plain_and_custom(cx: Cx) {
    let source = filled(&cx, "dump-source").await;
    let before = content(&source.connect("kept").await, true).await;
    let goal = Server::start("dump-target", "").await;
    let plain = target(&goal, "plain").await;
    goal.psql("plain", "postgres", &dump(&source, "kept", "postgres", &[]));
    assert_same(&before, &content(&plain, true).await);
    // A dump of the restored is a dump of the original.
    let again = target(&goal, "again").await;
    goal.psql(
        "again",
        "postgres",
        &dump(&goal, "plain", "postgres", &["--inserts"]),
    );
    assert_same(&before, &content(&again, true).await);
    let custom = target(&goal, "custom").await;
    let file = dump(&source, "kept", "postgres", &["-Fc"]);
    restore(&goal, "custom", "postgres", &file, &[]);
    assert_same(&before, &content(&custom, true).await);
    let parallel = target(&goal, "parallel").await;
    restore(&goal, "parallel", "postgres", &file, &["-j", "3"]);
    assert_same(&before, &content(&parallel, true).await);
    for c in [plain, again, custom, parallel] {
        alive(&c).await;
    }
}

async fn as_non_superuser(cx: Cx) {
    let source = filled(&cx, "dump-plain-source").await;
    let admin = source.connect("kept").await;
    let before = content(&admin, false).await;
    // The owner of everything in a database is not a superuser: dumps and restores as itself.
    let goal = Server::start("dump-plain-target", "").await;
    let there = goal.connect("postgres").await;
    there.run("CREATE ROLE tenant LOGIN").await;
    there
        .run("CREATE DATABASE theirs OWNER tenant TEMPLATE template0")
        .await;
    there
        .run("CREATE DATABASE again OWNER tenant TEMPLATE template0")
        .await;
    let flags = ["--no-owner", "--no-privileges"];
    goal.psql(
        "theirs",
        "tenant",
        &dump(&source, "kept", "postgres", &flags),
    );
    let tenant = Conn::open(goal.port, "theirs", "tenant").await;
    assert_same(&before, &content(&tenant, false).await);
    assert_eq!(
        tenant
            .text("SELECT string_agg(DISTINCT owner, ',') FROM mq.queues")
            .await,
        "tenant"
    );
    let file = dump(
        &goal,
        "theirs",
        "tenant",
        &["-Fc", "--no-owner", "--no-privileges"],
    );
    restore(
        &goal,
        "again",
        "tenant",
        &file,
        &["--no-owner", "--no-privileges"],
    );
    let again = Conn::open(goal.port, "again", "tenant").await;
    assert_same(&before, &content(&again, false).await);
    alive(&again).await;
    alive(&tenant).await;
}

async fn data_and_schema_apart(cx: Cx) {
    let source = filled(&cx, "dump-parts").await;
    let before = content(&source.connect("kept").await, true).await;
    let c = target(&source, "parts").await;
    for section in [
        "--section=pre-data",
        "--section=data",
        "--section=post-data",
    ] {
        source.psql(
            "parts",
            "postgres",
            &dump(&source, "kept", "postgres", &[section]),
        );
    }
    assert_same(&before, &content(&c, true).await);
    alive(&c).await;
}

/// Business rows and messages written in one transaction are together in every dump.
async fn under_load(cx: Cx) {
    let c = cx.connect().await;
    c.run("CREATE TABLE orders (id bigint PRIMARY KEY); CREATE TABLE done (id bigint PRIMARY KEY)")
        .await;
    c.run("SELECT mq.create_queue('q', visibility => '1 hour')")
        .await;
    let over = Arc::new(AtomicBool::new(false));
    let mut hands = Vec::new();
    for n in 0..3 {
        let (cx, over) = (cx.clone(), over.clone());
        hands.push(spawn(async move {
            let c = cx.connect().await;
            for i in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let key = i * 3 + n;
                c.run(&format!("BEGIN; INSERT INTO orders VALUES ({key}); SELECT mq.send('q', '{key}'); COMMIT")).await;
                let work = "WITH got AS (SELECT (body #>> '{}')::bigint AS k FROM mq.pop('q')) INSERT INTO done SELECT k FROM got";
                if i % 2 == 0 {
                    c.run(work).await;
                }
            }
        }));
    }
    let goal = Server::start("dump-load-target", "").await;
    for round in 0..3 {
        c.until(&format!(
            "SELECT count(*) > {} FROM orders",
            (round + 1) * 200
        ))
        .await;
        let db = format!("load{round}");
        let there = target(&goal, &db).await;
        goal.psql(&db, "postgres", &dump(&cx.server, &cx.db, "postgres", &[]));
        let odd = "SELECT count(*) FROM orders o FULL JOIN (SELECT (body #>> '{}')::bigint AS id FROM mq.q \
                   UNION ALL SELECT id FROM done) m USING (id) WHERE o.id IS NULL OR m.id IS NULL";
        assert_eq!(there.int(odd).await, 0, "orders and messages do not agree");
        let counts = "SELECT (SELECT count(*) FROM orders) = (SELECT count(*) FROM mq.q) + (SELECT count(*) FROM done)";
        assert!(there.yes(counts).await);
        assert!(there.int("SELECT count(*) FROM orders").await > 0);
    }
    over.store(true, Ordering::SeqCst);
    for hand in hands {
        hand.await.unwrap();
    }
}
