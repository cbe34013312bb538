//! GRANTs on the view are the access control of every function, for whoever is calling.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;
use Need::*;

tests![
    every_function_by_every_grant,
    statements_on_the_view,
    nobody_but_the_owner_at_the_storage,
    targets_need_insert,
    archive_and_dead_letters_are_the_owners
];

/// What a call needs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Need {
    Insert,
    Select,
    Update,
    Delete,
    Owner,
}

pub const CALLS: &[(Need, &str)] = &[
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
pub async fn owner_and_other(cx: &Cx) -> (Conn, Conn, String, String) {
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
pub async fn verdict(conn: &Conn, call: &str) -> String {
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
