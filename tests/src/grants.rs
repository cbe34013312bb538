//! GRANTs on the view are the access control of every function, for whoever is calling.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    every_function_by_every_grant,
    statements_on_the_view,
    set_role,
    security_definer,
    row_security,
    predefined_roles,
    visible_rows,
    who_may_create,
    nobody_but_the_owner_at_the_storage,
    targets_need_insert,
    archive_and_dead_letters_are_the_owners,
    grants_through_membership,
];

/// What a call needs.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Need {
    Insert,
    Select,
    Update,
    Delete,
    Owner,
}
use Need::*;

const CALLS: &[(Need, &str)] = &[
    (Insert, "SELECT mq.send('q', '1')"),
    (Insert, "SELECT mq.send_text('q', 'x')"),
    (Insert, "SELECT mq.send_bytes('q', '\\x00')"),
    (
        Insert,
        "SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[])",
    ),
    (Insert, "INSERT INTO mq.q (body) VALUES ('1')"),
    (Select, "SELECT mq.get('q', 1)"),
    (Select, "SELECT * FROM mq.q"),
    (Update, "SELECT * FROM mq.read('q')"),
    (Update, "SELECT * FROM mq.read('q', 1, '1 s', '1 ms')"),
    (Update, "SELECT * FROM mq.pop('q')"),
    (Update, "SELECT mq.ack('q', 1)"),
    (Update, "SELECT mq.nack('q', 1)"),
    (Update, "SELECT mq.release('q', 1)"),
    (Update, "SELECT mq.reject('q', 1)"),
    (Update, "SELECT mq.extend('q', 1)"),
    (Update, "SELECT mq.archive('q', 1)"),
    (Update, "SELECT mq.ack_batch('q', ARRAY[1])"),
    (Update, "SELECT mq.nack_batch('q', ARRAY[1])"),
    (Update, "SELECT mq.release_batch('q', ARRAY[1])"),
    (Update, "SELECT mq.reject_batch('q', ARRAY[1])"),
    (Update, "SELECT mq.extend_batch('q', ARRAY[1])"),
    (Update, "SELECT mq.archive_batch('q', ARRAY[1])"),
    (Delete, "SELECT mq.delete('q', 1)"),
    (Delete, "SELECT mq.delete_batch('q', ARRAY[1])"),
    (Delete, "SELECT mq.purge_queue('q')"),
    (Owner, "SELECT mq.alter_queue('q', visibility => '1 min')"),
    (Owner, "SELECT mq.pause('q')"),
    (Owner, "SELECT mq.resume('q')"),
    (Owner, "SELECT mq.redrive('q')"),
    (Owner, "SELECT mq.rename_queue('q', 'r')"),
    (Owner, "SELECT mq.drop_queue('q')"),
];

/// An owner with a queue `q`, and a stranger: sessions of both.
async fn owner_and_other(cx: &Cx) -> (Conn, Conn, String, String) {
    let (owner, other) = (cx.role("owner").await, cx.role("other").await);
    let admin = cx.connect().await;
    admin
        .run(&format!(
            "GRANT EXECUTE ON FUNCTION mq.create_queue TO {owner}"
        ))
        .await;
    let (o, x) = (cx.connect_as(&owner).await, cx.connect_as(&other).await);
    o.run("SELECT mq.create_queue('q'); SELECT mq.send('q', '1')")
        .await;
    (o, x, owner, other)
}

/// Runs the call and takes it back; returns the SQLSTATE, empty for success.
async fn verdict(conn: &Conn, call: &str) -> String {
    conn.run("BEGIN").await;
    let code = conn
        .cells(call)
        .await
        .err()
        .map_or(String::new(), |no| no.code);
    conn.run("ROLLBACK").await;
    code
}

async fn every_function_by_every_grant(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    for held in [None, Some(Insert), Some(Select), Some(Update), Some(Delete)] {
        if let Some(held) = held {
            let word = format!("{held:?}").to_uppercase();
            o.run(&format!(
                "REVOKE ALL ON mq.q FROM {other}; GRANT {word} ON mq.q TO {other}"
            ))
            .await;
        }
        for (need, call) in CALLS {
            let code = verdict(&x, call).await;
            if Some(*need) == held {
                assert_eq!(code, "", "{call} with {held:?}");
            } else {
                assert_eq!(code, "42501", "{call} with {held:?}");
            }
        }
        let wait = x.cells("CALL mq.wait('q', '1 ms', NULL)").await;
        match held {
            None => assert_eq!(wait.unwrap_err().code, "42501", "wait with nothing"),
            Some(Update) => assert!(wait.is_ok(), "a consumer may wait: {wait:?}"),
            _ => {}
        }
    }
    for (_, call) in CALLS {
        assert_eq!(verdict(&o, call).await, "", "{call} as the owner");
    }
    o.run(&format!("GRANT ALL ON mq.q TO {other}")).await;
    for (need, call) in CALLS {
        let expected = if *need == Owner { "42501" } else { "" };
        assert_eq!(verdict(&x, call).await, expected, "{call} with ALL");
    }
    let no = x.refused("SELECT mq.pause('q')", "42501").await;
    assert!(no.message.contains("must be owner of"), "{no:?}");
    o.run(&format!("REVOKE ALL ON mq.q FROM {other}")).await;
    let no = x.refused("SELECT mq.send('q', '1')", "42501").await;
    assert!(
        no.message.starts_with("permission denied for view"),
        "{no:?}"
    );
}

async fn statements_on_the_view(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    o.run(&format!("GRANT INSERT, SELECT (id) ON mq.q TO {other}"))
        .await;
    x.run("INSERT INTO mq.q (body) VALUES ('2') RETURNING id")
        .await;
    x.refused(
        "INSERT INTO mq.q (body) VALUES ('2') RETURNING body",
        "42501",
    )
    .await;
    x.refused("DELETE FROM mq.q WHERE id = 1", "42501").await;
    o.run(&format!("GRANT UPDATE, SELECT, DELETE ON mq.q TO {other}"))
        .await;
    x.refused("UPDATE mq.q SET body = '7'", "42501").await;
    x.run("DELETE FROM mq.q WHERE body = '2'").await;
    o.run("UPDATE mq.q SET body = '7'").await;
    assert_eq!(o.text("SELECT body FROM mq.q").await, "7");
    for column in [
        "attempts = 7",
        "state = 'leased'",
        "id = 3000",
        "visible_at = '2999-01-01'",
    ] {
        let no = o
            .refused(&format!("UPDATE mq.q SET {column}"), "428C9")
            .await;
        assert!(!no.hint.is_empty(), "{no:?}");
    }
    o.hand("'q'").await;
    let no = o.refused("UPDATE mq.q SET body = '8'", "55006").await;
    assert!(!no.hint.is_empty(), "{no:?}");
    for column in [
        "id",
        "receipt",
        "attempts",
        "failures",
        "enqueued_at",
        "read_at",
        "queue",
        "last_error",
    ] {
        let null = format!("INSERT INTO mq.q (body, {column}) VALUES ('1', NULL)");
        o.run(&null).await;
        let value = if column.ends_with("_at") {
            "now()"
        } else {
            "'1'"
        };
        o.refused(
            &format!("INSERT INTO mq.q (body, {column}) VALUES ('1', {value})"),
            "428C9",
        )
        .await;
    }
}

async fn set_role(cx: Cx) {
    let (o, _, owner, other) = owner_and_other(&cx).await;
    let admin = cx.connect().await;
    admin.run(&format!("SET ROLE {other}")).await;
    admin.refused("SELECT mq.send('q', '1')", "42501").await;
    admin.refused("SELECT * FROM mq.read('q')", "42501").await;
    admin.refused("SELECT mq.pause('q')", "42501").await;
    admin.run(&format!("RESET ROLE; SET ROLE {owner}")).await;
    admin
        .run("SELECT mq.send('q', '1'); SELECT mq.pause('q'); SELECT mq.resume('q')")
        .await;
    admin
        .run(&format!("RESET ROLE; GRANT {owner} TO {other}"))
        .await;
    let member = cx.connect_as(&other).await;
    member
        .run(&format!(
            "SET ROLE {owner}; SELECT mq.pause('q'); RESET ROLE"
        ))
        .await;
    assert!(
        o.yes("SELECT paused FROM mq.queues WHERE queue = 'q'")
            .await
    );
    // A cached verdict must not survive a change of role or of privileges.
    let third = cx.role("third").await;
    let t = cx.connect_as(&third).await;
    t.refused("SELECT mq.send('q', '1')", "42501").await;
    o.run(&format!("GRANT INSERT ON mq.q TO {third}")).await;
    t.run("SELECT mq.send('q', '1')").await;
    o.run(&format!("REVOKE INSERT ON mq.q FROM {third}")).await;
    t.refused("SELECT mq.send('q', '1')", "42501").await;
}

async fn security_definer(cx: Cx) {
    let (o, x, owner, other) = owner_and_other(&cx).await;
    let admin = cx.connect().await;
    admin
        .run(&format!(
            "CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO {owner}, {other}, PUBLIC"
        ))
        .await;
    let place = "CREATE FUNCTION s.{} RETURNS bigint LANGUAGE sql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS $$SELECT mq.send('q', '2')$$";
    o.run(&place.replace("{}", "by_owner()")).await;
    x.run(&place.replace("{}", "by_other()")).await;
    x.run("SELECT s.by_owner()").await;
    o.refused("SELECT s.by_other()", "42501").await;
    x.refused("SELECT mq.send('q', '1')", "42501").await;
    let take = "CREATE FUNCTION s.take() RETURNS SETOF mq.message LANGUAGE sql SECURITY DEFINER \
                SET search_path = pg_catalog, pg_temp AS $$SELECT * FROM mq.read('q', 2)$$";
    o.run(take).await;
    assert_eq!(x.rows("SELECT * FROM s.take()").await.len(), 2);
    // A view of the owner's gives its readers what the owner may see.
    o.run(&format!(
        "CREATE VIEW s.seen AS SELECT id, body FROM mq.q; GRANT SELECT ON s.seen TO {other}"
    ))
    .await;
    assert_eq!(x.rows("SELECT * FROM s.seen").await.len(), 2);
    x.refused("SELECT * FROM mq.q", "42501").await;
}

async fn row_security(cx: Cx) {
    let (o, x, owner, other) = owner_and_other(&cx).await;
    let admin = cx.connect().await;
    admin.run(&format!("CREATE SCHEMA shop; GRANT ALL ON SCHEMA shop TO {owner}; GRANT USAGE ON SCHEMA shop TO {other}")).await;
    o.run(
        "CREATE TABLE shop.orders (id int PRIMARY KEY, who text DEFAULT current_user); \
         ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY; \
         CREATE POLICY own ON shop.orders USING (who = current_user); \
         CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN PERFORM mq.send('q', to_jsonb(NEW)); RETURN NEW; END$$; \
         CREATE TRIGGER tell AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.tell()",
    )
    .await;
    o.run(&format!(
        "GRANT ALL ON shop.orders TO {other}; GRANT INSERT, UPDATE ON mq.q TO {other}"
    ))
    .await;
    o.run("INSERT INTO shop.orders VALUES (1)").await;
    x.run("BEGIN; INSERT INTO shop.orders VALUES (2); COMMIT")
        .await;
    x.run("SET row_security = off; SELECT mq.send('q', '5'); SELECT mq.read('q', 10); RESET row_security").await;
    assert_eq!(x.int("SELECT count(*) FROM shop.orders").await, 1);
    let bodies = "SELECT string_agg(body->>'id', ',' ORDER BY id) FROM mq.q";
    assert_eq!(o.text(bodies).await, "1,2");
    x.run("BEGIN; INSERT INTO shop.orders VALUES (3); ROLLBACK")
        .await;
    assert_eq!(o.text(bodies).await, "1,2");
}

async fn predefined_roles(cx: Cx) {
    let (o, _, _, _) = owner_and_other(&cx).await;
    let admin = cx.connect().await;
    for (grant, may) in [
        ("pg_read_all_data", &[Select][..]),
        ("pg_write_all_data", &[Insert, Update, Delete][..]),
        ("pg_monitor", &[][..]),
    ] {
        let role = cx.role(grant).await;
        admin.run(&format!("GRANT {grant} TO {role}")).await;
        let c = cx.connect_as(&role).await;
        for (need, call) in CALLS {
            let code = verdict(&c, call).await;
            let expected = if may.contains(need) { "" } else { "42501" };
            assert_eq!(code, expected, "{call} with {grant}");
        }
        if grant == "pg_monitor" {
            assert_eq!(c.text("SELECT queue FROM mq.queues").await, "q");
            assert_eq!(
                c.int("SELECT ready FROM mq.metrics WHERE queue = 'q'")
                    .await,
                1
            );
        }
        c.run("SELECT * FROM mq.status()").await;
    }
    o.run("SELECT * FROM mq.status()").await;
}

async fn visible_rows(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    let seen = "SELECT coalesce(string_agg(queue, ',' ORDER BY queue), '') FROM mq.";
    for view in ["queues", "metrics"] {
        assert_eq!(x.text(&format!("{seen}{view}")).await, "");
        assert_eq!(o.text(&format!("{seen}{view}")).await, "q");
    }
    for privilege in ["INSERT", "SELECT", "UPDATE", "DELETE", "SELECT (id)"] {
        o.run(&format!("GRANT {privilege} ON mq.q TO {other}"))
            .await;
        for view in ["queues", "metrics"] {
            assert_eq!(
                x.text(&format!("{seen}{view}")).await,
                "q",
                "{privilege}, mq.{view}"
            );
        }
        o.run(&format!("REVOKE {privilege} ON mq.q FROM {other}"))
            .await;
        assert_eq!(
            x.text(&format!("{seen}queues")).await,
            "",
            "after revoking {privilege}"
        );
    }
}

async fn who_may_create(cx: Cx) {
    let (_, x, _, other) = owner_and_other(&cx).await;
    x.refused("SELECT mq.create_queue('mine')", "42501").await;
    x.refused("CREATE VIEW mq.mine AS SELECT 1", "42501").await;
    x.refused(
        "CREATE FUNCTION mq.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "42501",
    )
    .await;
    x.refused("CREATE TABLE mq.t ()", "42501").await;
    let admin = cx.connect().await;
    admin
        .run(&format!(
            "GRANT EXECUTE ON FUNCTION mq.create_queue TO {other}"
        ))
        .await;
    assert!(
        x.yes("SELECT mq.create_queue('mine', max_failures => 2)")
            .await
    );
    assert!(x.yes(&format!("SELECT bool_and(viewowner = '{other}') FROM pg_views WHERE schemaname = 'mq' AND viewname LIKE 'mine%'")).await);
    x.refused("CREATE VIEW mq.more AS SELECT 1", "42501").await;
    let no = x
        .refused(
            "SELECT mq.create_queue('q', if_not_exists => false)",
            "42P07",
        )
        .await;
    assert!(no.message.contains('q'), "{no:?}");
    x.run(
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; SELECT mq.create_queue('open')",
    )
    .await;
    assert!(
        x.yes("SELECT has_table_privilege('pg_monitor', 'mq.open', 'SELECT')")
            .await,
        "default privileges apply"
    );
    x.run("SELECT mq.drop_queue('mine'), mq.drop_queue('mine_dead')")
        .await;
}

async fn nobody_but_the_owner_at_the_storage(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    o.run(&format!("GRANT ALL ON mq.q TO {other}")).await;
    o.run("SELECT mq.create_queue('loud', notify => true, max_failures => 1, archive_retention => '1 day')").await;
    let reachable = format!(
        "SELECT coalesce(string_agg(c.relname, ', '), '') FROM pg_class c \
         WHERE c.relnamespace = 'mq_internal'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'p', 'm') \
         AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('{other}', c.oid, 'USAGE, SELECT, UPDATE') \
         ELSE has_table_privilege('{other}', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') END"
    );
    assert_eq!(
        o.text(&reachable).await,
        "",
        "relations of the machinery that others can use"
    );
    assert!(
        !o.yes(&format!(
            "SELECT has_schema_privilege('{other}', 'mq_internal', 'USAGE')"
        ))
        .await
    );
    assert!(
        !o.yes(&format!(
            "SELECT has_schema_privilege('{other}', 'mq_internal', 'CREATE')"
        ))
        .await
    );
    assert!(
        !o.yes(&format!(
            "SELECT has_schema_privilege('{other}', 'mq', 'CREATE')"
        ))
        .await
    );
    let storage = crate::storage::of(&cx.connect().await, "q").await;
    for sql in ["SELECT * FROM", "DELETE FROM", "TRUNCATE", "COPY"] {
        let tail = if sql == "COPY" { " TO STDOUT" } else { "" };
        let no = x
            .cells(&format!("{sql} {storage}{tail}"))
            .await
            .unwrap_err();
        assert_eq!(no.code, "42501", "{sql} {storage}");
    }
    // A function that leaks what it sees gets nothing past the view either.
    x.run(
        "CREATE FUNCTION pg_temp.leak(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS \
           $$BEGIN RAISE WARNING 'saw %', $1; RETURN true; END$$",
    )
    .await;
    o.run(&format!("REVOKE SELECT ON mq.q FROM {other}")).await;
    x.refused("SELECT 1 FROM mq.q WHERE pg_temp.leak(body)", "42501")
        .await;
    assert!(x.warnings().is_empty());
}

async fn targets_need_insert(cx: Cx) {
    let (o, x, owner, other) = owner_and_other(&cx).await;
    let admin = cx.connect().await;
    admin
        .run(&format!(
            "GRANT EXECUTE ON FUNCTION mq.create_queue TO {other}"
        ))
        .await;
    x.run("SELECT mq.create_queue('theirs')").await;
    o.refused(
        "SELECT mq.create_queue('a', max_failures => 1, dead_letter => 'theirs')",
        "42501",
    )
    .await;
    o.refused(
        "SELECT mq.alter_queue('q', dead_letter => 'theirs')",
        "42501",
    )
    .await;
    o.run("SELECT mq.create_queue('b', max_failures => 1)")
        .await;
    o.run("SELECT mq.send('b', '1'); SELECT mq.reject('b', id) FROM mq.read('b')")
        .await;
    o.refused("SELECT mq.redrive('b_dead', \"to\" => 'theirs')", "42501")
        .await;
    x.run(&format!("GRANT INSERT ON mq.theirs TO {owner}"))
        .await;
    assert_eq!(
        o.int("SELECT mq.redrive('b_dead', \"to\" => 'theirs')")
            .await,
        1
    );
    o.run("SELECT mq.alter_queue('q', dead_letter => 'theirs')")
        .await;
    assert_eq!(x.int("SELECT count(*) FROM mq.theirs").await, 1);
}

async fn archive_and_dead_letters_are_the_owners(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    o.run(&format!(
        "SELECT mq.create_queue('w', max_failures => 1); GRANT UPDATE ON mq.w TO {other}"
    ))
    .await;
    o.run("SELECT mq.send('w', to_jsonb(n)) FROM generate_series(1, 3) n")
        .await;
    // A consumer's failures reach the dead-letter queue and the archive without rights on either.
    x.run("SELECT mq.nack('w', id, receipt) FROM mq.read('w')")
        .await;
    x.run("SELECT mq.reject('w', id, receipt) FROM mq.read('w')")
        .await;
    x.run("SELECT mq.archive('w', id, receipt) FROM mq.read('w')")
        .await;
    assert_eq!(o.int("SELECT count(*) FROM mq.w_dead").await, 2);
    assert_eq!(o.int("SELECT count(*) FROM mq.w_archive").await, 1);
    x.refused("SELECT * FROM mq.w_dead", "42501").await;
    x.refused("SELECT * FROM mq.w_archive", "42501").await;
    x.refused("SELECT * FROM mq.read('w_dead')", "42501").await;
}

async fn grants_through_membership(cx: Cx) {
    let (o, x, _, other) = owner_and_other(&cx).await;
    let group = format!("{other}_group");
    let admin = cx.connect().await;
    admin
        .run(&format!("CREATE ROLE {group}; GRANT {group} TO {other}"))
        .await;
    o.run(&format!(
        "GRANT UPDATE ON mq.q TO {group}; GRANT INSERT ON mq.q TO PUBLIC"
    ))
    .await;
    x.hand("'q'").await;
    x.run("SELECT mq.send('q', '1')").await;
    admin.run(&format!("ALTER ROLE {other} NOINHERIT")).await;
    admin.run(&format!("REVOKE {group} FROM {other}")).await;
    x.refused("SELECT * FROM mq.read('q')", "42501").await;
}
