//! pg_upgrade from PostgreSQL 15 to 18 keeps everything. Runs with the tests of 18.

use crate::conn::Conn;
use crate::content::{alive, assert_same, content};
use crate::dump::{ROLES, fill_script};
use crate::harness::Cx;
use crate::server::Server;
use crate::tests;
use crate::world::{as_server, output, programs, world};

tests![pg_upgrade_from_15];

/// Debian's 15.20 marks the columns of every table with an attribute option of its own, which
/// pg_upgrade of 18.6 carries over and its server refuses, whatever the table. Not ours: taken out.
async fn unmark(c: &Conn) {
    c.run(
        "UPDATE pg_attribute SET attoptions = (SELECT array_agg(o) FROM unnest(attoptions) o \
         WHERE o NOT LIKE 'pg_attver=%') WHERE attoptions::text LIKE '%pg_attver=%'",
    )
    .await;
}

async fn pg_upgrade_from_15(_: Cx) {
    let old = Server::initialized("upgrade-15", 15, &[]);
    let new = Server::initialized("upgrade-18", 18, &["--no-data-checksums"]);
    old.up();
    let admin = old.connect("postgres").await;
    for role in ROLES {
        admin.run(&format!("CREATE ROLE {role} LOGIN")).await;
    }
    admin.run("CREATE DATABASE kept").await;
    let c = old.connect("kept").await;
    c.run("CREATE EXTENSION pg_broker").await;
    old.psql("kept", "postgres", &fill_script());
    let before = content(&c, true).await;
    for db in ["kept", "postgres", "template1"] {
        unmark(&old.connect(db).await).await;
    }
    drop((admin, c));
    old.down();
    let mut upgrade = as_server(programs(18).join("pg_upgrade"));
    upgrade
        .arg("-b")
        .arg(programs(15))
        .arg("-B")
        .arg(programs(18));
    upgrade
        .arg("-d")
        .arg(&old.dir)
        .arg("-D")
        .arg(&new.dir)
        .args(["-U", "postgres", "-j", "2"]);
    upgrade.args(["-p", &old.port.to_string(), "-P", &new.port.to_string()]);
    output(upgrade.current_dir(&world().work));
    new.up();
    let c: Conn = new.connect("kept").await;
    // PostgreSQL 17 added MAINTAIN to what an owner holds; nothing else may differ.
    let without = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .map(|line| line.replace("rxtm/", "rxt/").replace("Dxtm/", "Dxt/"))
            .collect()
    };
    assert_same(&without(before), &without(content(&c, true).await));
    alive(&c).await;
}
