//! Who is calling: roles set, inherited and predefined, functions with their owner's rights, row
//! security; and whose rows everybody may see.

use crate::grants::{CALLS, Need::*, owner_and_other, verdict};
use crate::harness::Cx;
use crate::tests;

tests![
    set_role,
    security_definer,
    row_security,
    predefined_roles,
    visible_rows,
    who_may_create,
    grants_through_membership
];

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
