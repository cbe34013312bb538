//! One queue, two interfaces: what is made, renamed, given away, granted or dropped on one side shows on
//! the other; and what is dumped comes back.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    used_from_both_sides,
    made_before_and_after,
    follows_the_queue,
    dropped_from_either_side,
    reserved_and_taken_names,
    rights,
    rights_are_the_owners_to_give,
    only_one_reads_a_group,
    polls_wake_up,
    notifies,
    extension_goes,
    unread_messages_wait_for_nobody,
    fifo_survives_plain_readers,
    options_of_the_queue,
];

async fn dropped_in(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("CREATE EXTENSION pgmq").await;
    c
}

async fn used_from_both_sides(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('q')").await;
    assert_eq!(c.send("q", 1).await, 1);
    assert_eq!(c.int("SELECT pgmq.send('q', '2')").await, 2);
    // Leased on one side, held on the other.
    let hand = c.hand("'q', 1").await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('q', 30, 5)").await,
        [2]
    );
    assert_eq!(
        c.text("SELECT state FROM mq.q WHERE id = 2").await,
        "leased"
    );
    assert_eq!(
        c.int("SELECT read_ct FROM pgmq.q_q WHERE msg_id = 1").await,
        1
    );
    // Who knows the id alone ends it for who has the receipt.
    assert!(c.yes("SELECT pgmq.delete('q', 1)").await);
    assert!(!c.settle("ack", "q", &hand).await);
    assert!(c.yes("SELECT mq.archive('q', 2)").await);
    assert_eq!(c.ints("SELECT msg_id FROM pgmq.a_q").await, [2]);
    // A lease given up at once is nobody's fault.
    c.run("SELECT mq.alter_queue('q', max_failures => 1)").await;
    c.send("q", 3).await;
    for _ in 0..3 {
        c.run("SELECT pgmq.read('q', 60, 1); SELECT pgmq.set_vt('q', 3, 0)")
            .await;
    }
    assert_eq!(c.text("SELECT failures FROM mq.q WHERE id = 3").await, "0");
    assert_eq!(
        c.int("SELECT acked FROM mq.metrics WHERE queue = 'q'")
            .await,
        2
    );
    // Payloads that are bytes have no JSON.
    c.run("SELECT mq.send_bytes('q', '\\x00')").await;
    assert_eq!(
        c.text("SELECT message FROM pgmq.q_q WHERE msg_id = 4")
            .await,
        "NULL"
    );
    // A paused queue hands out nothing.
    c.run("SELECT mq.pause('q')").await;
    assert!(c.rows("SELECT pgmq.read('q', 1, 10)").await.is_empty());
    assert!(
        c.rows("SELECT pgmq.read_grouped('q', 1, 10)")
            .await
            .is_empty()
    );
    assert!(c.rows("SELECT pgmq.pop('q')").await.is_empty());
}

async fn made_before_and_after(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('before', max_failures => 3)")
        .await;
    c.run("CREATE EXTENSION pgmq").await;
    c.run("SELECT mq.create_queue('After')").await;
    let listed = "SELECT string_agg(queue_name, ' ' ORDER BY queue_name) FROM pgmq.list_queues()";
    assert_eq!(c.text(listed).await, "After before before_dead");
    for q in ["before", "before_dead", "After"] {
        assert_eq!(c.int(&format!("SELECT pgmq.send('{q}', '1')")).await, 1);
        assert_eq!(
            c.int(&format!("SELECT count(*) FROM pgmq.\"q_{q}\"")).await,
            1
        );
    }
    // None of it is the extension's.
    c.run("DROP VIEW pgmq.q_before").await;
    c.run("SELECT pgmq.create('before')").await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_before").await, 1);
    // Private reply queues are nobody's business.
    c.run("SELECT mq.reply_queue()").await;
    assert_eq!(c.text(listed).await, "After before before_dead");
}

async fn follows_the_queue(cx: Cx) {
    let c = dropped_in(&cx).await;
    let role = cx.role("heir").await;
    c.run("SELECT pgmq.create('Old')").await;
    c.run("SELECT pgmq.bind_topic('x.*', 'Old'); SELECT pgmq.send('old', '1')")
        .await;
    c.run("SELECT mq.rename_queue('old', 'new')").await;
    assert_eq!(c.text("SELECT queue_name FROM pgmq.meta").await, "new");
    assert_eq!(
        c.text("SELECT queue_name FROM pgmq.topic_bindings").await,
        "new"
    );
    assert_eq!(c.ints("SELECT msg_id FROM pgmq.q_new").await, [1]);
    assert_eq!(c.int("SELECT count(*) FROM pgmq.a_new").await, 0);
    c.refused("SELECT pgmq.send('old', '1')", "42P01").await;
    c.run("ALTER VIEW mq.new RENAME TO newer").await;
    assert_eq!(c.ints("SELECT msg_id FROM pgmq.q_newer").await, [1]);
    c.run(&format!("ALTER VIEW mq.newer OWNER TO {role}")).await;
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class \
                  WHERE relnamespace = 'pgmq'::regnamespace AND relname ~ '^[qa]_'";
    assert_eq!(c.text(owners).await, role);
    // Made once, known by two names.
    c.run("SELECT pgmq.create('Newer')").await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.meta").await, 2);
    c.run("SELECT pgmq.drop_queue('newer')").await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.meta").await, 0);
}

async fn dropped_from_either_side(cx: Cx) {
    let c = dropped_in(&cx).await;
    for how in [
        "SELECT pgmq.drop_queue('Q')",
        "SELECT mq.drop_queue('q')",
        "SELECT mq.drop_queue('q', cascade => true)",
        "DROP VIEW mq.q CASCADE",
    ] {
        c.run("SELECT pgmq.create('Q'); SELECT pgmq.bind_topic('a', 'Q')")
            .await;
        c.run(how).await;
        let left = "SELECT (SELECT count(*) FROM pgmq.meta) + (SELECT count(*) FROM pgmq.topic_bindings) \
                    + count(*) FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relname ~ '^[qa]_'";
        assert_eq!(c.int(left).await, 0, "{how}");
    }
    // What somebody has built on it stands in the way.
    c.run("SELECT pgmq.create('q'); CREATE VIEW mine AS SELECT * FROM pgmq.q_q")
        .await;
    c.refused("SELECT pgmq.drop_queue('q')", "2BP01").await;
    assert_eq!(c.int("SELECT pgmq.send('q', '1')").await, 1);
    assert_eq!(c.int("SELECT count(*) FROM mine").await, 1);
}

async fn reserved_and_taken_names(cx: Cx) {
    let c = dropped_in(&cx).await;
    for name in ["events", "metrics", "mq_x", "pg_y"] {
        c.run(&format!("SELECT pgmq.create('{name}')")).await;
        assert_eq!(c.int(&format!("SELECT pgmq.send('{name}', '1')")).await, 1);
        assert_eq!(
            c.int(&format!("SELECT count(*) FROM pgmq.q_{name}")).await,
            1
        );
        assert_eq!(
            c.int(&format!("SELECT count(*) FROM mq.\"${name}\"")).await,
            1
        );
        c.run(&format!(
            "INSERT INTO pgmq.q_{name} (vt, message) VALUES (now(), '2')"
        ))
        .await;
        assert_eq!(
            c.int(&format!("SELECT count(*) FROM mq.\"${name}\"")).await,
            2
        );
    }
    // The same with an underscore in front is another queue.
    c.run("SELECT pgmq.create('_events'); SELECT pgmq.send('_events', '3')")
        .await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q__events").await, 1);
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_events").await, 2);
    c.run("SELECT pgmq.drop_queue('_events')").await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_events").await, 2);
    // An archive's name.
    c.run("SELECT pgmq.create('a'); SELECT pgmq.create('a_archive')")
        .await;
    c.run("SELECT pgmq.send('a_archive', '1')").await;
    assert_eq!(c.int("SELECT count(*) FROM pgmq.q_a_archive").await, 1);
    c.run("SELECT pgmq.drop_queue('events')").await;
    assert_eq!(c.text("SELECT to_regclass('pgmq.q_events')").await, "NULL");
}

async fn rights(cx: Cx) {
    let c = dropped_in(&cx).await;
    let role = cx.role("app").await;
    c.run("SELECT pgmq.create('q'); SELECT pgmq.send('q', '1')")
        .await;
    let app = cx.connect_as(&role).await;
    app.refused("SELECT pgmq.send('q', '1')", "42501").await;
    c.run(&format!("GRANT USAGE ON SCHEMA pgmq TO {role}"))
        .await;
    let calls = [
        ("INSERT", "SELECT pgmq.send('q', '1')"),
        ("INSERT", "SELECT pgmq.send_batch('q', '{1,2}'::jsonb[])"),
        ("UPDATE", "SELECT pgmq.read('q', 1, 1)"),
        ("UPDATE", "SELECT pgmq.pop('q')"),
        ("UPDATE", "SELECT pgmq.set_vt('q', 1, 1)"),
        ("UPDATE", "SELECT pgmq.read_with_poll('q', 1, 1, 0)"),
        ("UPDATE", "SELECT pgmq.read_grouped('q', 1, 1)"),
        ("DELETE", "SELECT pgmq.delete('q', 1)"),
        ("DELETE", "SELECT pgmq.archive('q', 1)"),
        ("DELETE", "SELECT pgmq.purge_queue('q')"),
        ("SELECT", "SELECT count(*) FROM pgmq.q_q"),
        ("SELECT", "SELECT pgmq.metrics('q')"),
    ];
    for (privilege, call) in calls {
        app.refused(call, "42501").await;
        c.run(&format!("GRANT {privilege} ON pgmq.q_q TO {role}"))
            .await;
        app.rows(call).await;
        c.run(&format!("REVOKE ALL ON pgmq.q_q FROM {role}")).await;
        app.refused(call, "42501").await;
    }
    // Those on the queue itself do as well.
    c.run(&format!("GRANT INSERT, UPDATE ON mq.q TO {role}"))
        .await;
    for call in ["SELECT pgmq.send('q', '1')", "SELECT pgmq.delete('q', 1)"] {
        app.rows(call).await;
    }
    app.refused("SELECT pgmq.create('mine')", "42501").await;
    c.run(&format!("GRANT CREATE ON SCHEMA pgmq TO {role}"))
        .await;
    app.run("SELECT pgmq.create('mine'); SELECT pgmq.send('mine', '1')")
        .await;
    app.refused("SELECT pgmq.drop_queue('q')", "42501").await;
    app.run("SELECT pgmq.drop_queue('mine')").await;
    app.refused("SELECT pgmq._queue_made('q')", "42501").await;
    // Whoever watches needs nothing more.
    c.run(&format!(
        "GRANT pg_monitor TO {role}; REVOKE ALL ON mq.q FROM {role}"
    ))
    .await;
    app.rows("SELECT * FROM pgmq.metrics_all()").await;
}

/// Who may make relations in schema pgmq gains nothing by one that looks like a queue's.
async fn rights_are_the_owners_to_give(cx: Cx) {
    let c = dropped_in(&cx).await;
    let role = cx.role("thief").await;
    c.run(&format!("GRANT USAGE, CREATE ON SCHEMA pgmq TO {role}"))
        .await;
    c.run("SELECT pgmq.create('secret'); SELECT pgmq.send('secret', '1'); DROP VIEW pgmq.q_secret")
        .await;
    let thief = cx.connect_as(&role).await;
    thief
        .run("CREATE VIEW pgmq.q_secret AS SELECT 1 AS msg_id")
        .await;
    thief
        .refused("SELECT pgmq.read('secret', 1, 1)", "42501")
        .await;
    thief
        .refused("SELECT pgmq.purge_queue('secret')", "42501")
        .await;
    // Nor by a function that the queue's makers would call.
    c.run("DROP EXTENSION pgmq CASCADE").await;
    c.run(&format!(
        "CREATE SCHEMA IF NOT EXISTS pgmq; GRANT CREATE, USAGE ON SCHEMA pgmq TO {role}"
    ))
    .await;
    thief
        .run(
            "CREATE FUNCTION pgmq._queue_made(text) RETURNS void LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'called'; END $$",
        )
        .await;
    c.run("SELECT mq.create_queue('other')").await;
}

async fn only_one_reads_a_group(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('q')").await;
    c.run(
        "SELECT pgmq.send_batch('q', array['1', '2', '3', '4']::jsonb[], \
         array['{\"x-pgmq-group\": \"a\"}', '{\"x-pgmq-group\": \"a\"}', '{\"x-pgmq-group\": \"b\"}', \
         '{\"x-pgmq-group\": \"a\"}']::jsonb[])",
    )
    .await;
    for verb in ["read_grouped", "read_grouped_rr", "read_grouped_head"] {
        let (one, two) = (cx.connect().await, cx.connect().await);
        for level in ["READ COMMITTED", "REPEATABLE READ"] {
            let take = format!("SELECT msg_id FROM pgmq.{verb}('q', 60, 1)");
            one.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"))
                .await;
            two.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"))
                .await;
            assert_eq!(one.ints(&take).await, [1], "{verb}");
            // The group is with somebody: the next one's.
            assert_eq!(two.ints(&take).await, [3], "{verb}");
            assert!(two.ints(&take).await.is_empty(), "{verb}");
            one.run("COMMIT").await;
            // Gone with what an old snapshot does not show.
            assert!(two.ints(&take).await.is_empty(), "{verb} {level}");
            two.run("ROLLBACK").await;
            c.run("SELECT pgmq.set_vt('q', array[1, 2, 3, 4]::bigint[], 0)")
                .await;
        }
    }
}

async fn polls_wake_up(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('q')").await;
    for verb in ["read_with_poll", "read_grouped_with_poll"] {
        let reader = cx.connect().await;
        let pid = reader.pid;
        let polls = tokio::spawn(async move {
            let started = std::time::Instant::now();
            let got = reader
                .ints(&format!(
                    "SELECT msg_id FROM pgmq.{verb}('q', 60, 1, 30, 20)"
                ))
                .await;
            (got.len(), started.elapsed())
        });
        c.until(&format!(
            "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {pid}"
        ))
        .await;
        c.run("SELECT pgmq.send('q', '1')").await;
        let (n, took) = polls.await.unwrap();
        assert_eq!(n, 1, "{verb}");
        assert!(took.as_secs() < 20, "{verb}: {took:?}");
        c.run("SELECT pgmq.purge_queue('q')").await;
    }
}

/// Where no worker runs the sender tells itself, as often as was asked for.
async fn notifies(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('Q'); SELECT pgmq.enable_notify_insert('Q', 0)")
        .await;
    let ear = cx.connect().await;
    ear.run("LISTEN \"pgmq.q_q.INSERT\"").await;
    for send in ["SELECT pgmq.send('q', '1')", "SELECT mq.send('q', '1')"] {
        c.run(send).await;
        ear.run("SELECT 1").await;
        assert_eq!(ear.notifications(), ["pgmq.q_q.INSERT"], "{send}");
    }
    c.run("SELECT pgmq.update_notify_insert('Q', 3600000)")
        .await;
    for expected in [1, 0, 0] {
        c.run("SELECT pgmq.send('q', '1')").await;
        ear.run("SELECT 1").await;
        assert_eq!(ear.notifications().len(), expected);
    }
    c.run("SELECT pgmq.disable_notify_insert('Q')").await;
    assert_eq!(c.text("SELECT notify FROM mq.queues").await, "f");
    // Notifications of pg_broker's own stay on.
    c.run("SELECT mq.alter_queue('q', notify => true)").await;
    c.run("SELECT pgmq.enable_notify_insert('Q'); SELECT pgmq.disable_notify_insert('Q')")
        .await;
    assert_eq!(c.text("SELECT notify FROM mq.queues").await, "t");
}

async fn extension_goes(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('Q'); SELECT pgmq.send('q', '1')")
        .await;
    c.refused("DROP EXTENSION pgmq", "2BP01").await;
    c.run("DROP EXTENSION pgmq CASCADE").await;
    assert_eq!(c.hand("'q', 1").await.id, 1);
    c.run(
        "SELECT mq.create_queue('r'); SELECT mq.rename_queue('r', 's'); SELECT mq.drop_queue('s')",
    )
    .await;
    c.run("CREATE EXTENSION pgmq").await;
    assert_eq!(c.ints("SELECT msg_id FROM pgmq.q_q").await, [1]);
}

/// Deleting and archiving wait for whoever is at a message, and see what became of it.
async fn unread_messages_wait_for_nobody(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('q'); SELECT pgmq.send_batch('q', '{1,2,3}'::jsonb[])")
        .await;
    for (other, verb, expected) in [
        ("SELECT pgmq.delete('q', 1)", "delete", "{2}"),
        ("SELECT pgmq.read('q', 60, 1)", "archive", "{2,3}"),
    ] {
        let holder = cx.connect().await;
        holder.run(&format!("BEGIN; {other}")).await;
        let waiter = cx.connect().await;
        let pid = waiter.pid;
        let ids = expected.replace('{', "{1,");
        let call = format!("SELECT array_agg(i) FROM pgmq.{verb}('q', '{ids}'::bigint[]) i");
        let waits = tokio::spawn(async move { waiter.text(&call).await });
        c.until_blocked(pid).await;
        holder.run("COMMIT").await;
        assert_eq!(waits.await.unwrap(), expected);
        c.run("SELECT pgmq.send('q', '0')").await;
        if verb == "delete" {
            c.run("UPDATE pgmq.q_q SET vt = now(); SELECT pgmq.purge_queue('q')")
                .await;
            c.run("SELECT mq.drop_queue('q'); SELECT pgmq.create('q')")
                .await;
            c.run("SELECT pgmq.send_batch('q', '{0,0,0}'::jsonb[]); SELECT pgmq.delete('q', 1)")
                .await;
        }
    }
}

async fn fifo_survives_plain_readers(cx: Cx) {
    let c = dropped_in(&cx).await;
    c.run("SELECT pgmq.create('q'); SELECT pgmq.send_batch('q', '{1,2,3}'::jsonb[])")
        .await;
    let plain = cx.connect().await;
    plain.run("BEGIN; SELECT pgmq.read('q', 60, 1)").await;
    // The first is locked by somebody who knows of no groups: nothing after it is handed out.
    assert!(
        c.ints("SELECT msg_id FROM pgmq.read_grouped('q', 60, 3)")
            .await
            .is_empty()
    );
    plain.run("ROLLBACK").await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read_grouped('q', 60, 3)")
            .await,
        [1, 2, 3]
    );
}

/// What the other side limits is limited on this one, however it is read.
async fn options_of_the_queue(cx: Cx) {
    let c = dropped_in(&cx).await;
    let other = cx.connect().await;
    let verbs = [
        "read('q', 60, 9)",
        "read_grouped('q', 60, 9)",
        "read_grouped_rr('q', 60, 9)",
        "pop('q', 9)",
    ];
    for verb in verbs {
        let take = format!("SELECT msg_id FROM pgmq.{verb}");
        for option in [
            "max_in_flight => 2",
            "rate_limit => 2, rate_interval => '1 hour'",
        ] {
            c.run(&format!("SELECT mq.create_queue('q', {option})"))
                .await;
            c.run("SELECT pgmq.send_batch('q', array['1', '2', '3']::jsonb[])")
                .await;
            c.run("BEGIN").await;
            assert_eq!(c.ints(&take).await, [1, 2], "{verb} {option}");
            assert!(other.ints(&take).await.is_empty(), "{verb} {option}");
            c.run("COMMIT; SELECT mq.drop_queue('q')").await;
        }
        c.run("SELECT mq.create_queue('q', single_active => true)")
            .await;
        c.run("SELECT pgmq.send_batch('q', array['1', '2']::jsonb[])")
            .await;
        let (one, two) = (cx.connect().await, cx.connect().await);
        one.run("SELECT pgmq.read('q', 0, 1)").await;
        assert!(two.ints(&take).await.is_empty(), "{verb}: one is active");
        one.run("SELECT mq.step_down('q')").await;
        assert_eq!(two.ints(&take).await, [1, 2], "{verb}: two is active now");
        c.run("SELECT mq.drop_queue('q')").await;
    }
    // Whose turn it is follows headers that are changed here.
    c.run("SELECT mq.create_queue('q', fair_by => 'tenant')")
        .await;
    c.run("SELECT pgmq.send('q', '1', '{\"tenant\": 1}'::jsonb) FROM generate_series(1, 4)")
        .await;
    c.run("UPDATE pgmq.q_q SET headers = '{\"tenant\": 2}' WHERE msg_id = 4")
        .await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('q', 60, 3)").await,
        [1, 4, 2]
    );
    c.run("SELECT mq.drop_queue('q')").await;
    c.run("SELECT mq.create_queue('q', ordering => 'strict')")
        .await;
    c.run("SELECT pgmq.send_batch('q', array['1', '2']::jsonb[])")
        .await;
    assert_eq!(
        c.ints("SELECT msg_id FROM pgmq.read('q', 60, 1)").await,
        [1]
    );
    assert!(
        c.ints("SELECT msg_id FROM pgmq.read('q', 60, 1)")
            .await
            .is_empty()
    );
    c.refused("SELECT pgmq.read_grouped('q', 60, 1)", "0A000")
        .await;
}
