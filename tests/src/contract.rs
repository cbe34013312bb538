//! The shape of the schema `mq`: one name one function, argument names, comments, safety marks.

use crate::harness::Cx;
use crate::tests;

tests![
    no_overloads,
    arguments,
    everything_has_a_comment,
    marks,
    columns,
    closed_schemas,
    version_of_the_extension,
];

const FUNCTIONS: &[(&str, &str)] = &[
    (
        "create_queue",
        "queue durable visibility max_failures dead_letter backoff ttl dedup_window max_length overflow \
         max_bytes archive_retention notify segment_size single_active ordering rate_limit rate_interval rate_burst rate_key max_in_flight group_max_in_flight \
         fair_by if_not_exists",
    ),
    (
        "alter_queue",
        "queue visibility max_failures dead_letter backoff ttl dedup_window max_length overflow max_bytes \
         archive_retention notify segment_size single_active rate_limit rate_interval rate_burst rate_key max_in_flight group_max_in_flight reset",
    ),
    ("drop_queue", "queue if_exists cascade"),
    ("purge_queue", "queue"),
    ("rename_queue", "queue new_name"),
    ("pause", "queue until"),
    ("resume", "queue"),
    ("status", ""),
    ("version", ""),
    ("maintain", "queue"),
    (
        "send",
        "queue body headers delay deliver_at priority group_key dedup_key ttl",
    ),
    (
        "send_text",
        "queue body headers delay deliver_at priority group_key dedup_key ttl",
    ),
    (
        "send_bytes",
        "queue data headers delay deliver_at priority group_key dedup_key ttl",
    ),
    (
        "send_batch",
        "queue bodies headers group_keys dedup_keys delay deliver_at priority ttl",
    ),
    ("read", "queue qty visibility wait filter"),
    ("wait", "queue timeout ready"),
    ("wait_any", "queues timeout ready"),
    ("pop", "queue qty filter"),
    ("step_down", "queue"),
    ("ack", "queue id receipt"),
    ("archive", "queue id receipt"),
    ("nack", "queue id receipt delay reason"),
    ("release", "queue id receipt delay"),
    ("reject", "queue id receipt reason"),
    ("extend", "queue id receipt visibility"),
    ("ack_batch", "queue ids receipts"),
    ("archive_batch", "queue ids receipts"),
    ("nack_batch", "queue ids receipts delay reason"),
    ("release_batch", "queue ids receipts delay"),
    ("reject_batch", "queue ids receipts reason"),
    ("extend_batch", "queue ids receipts visibility"),
    ("get", "queue id"),
    ("delete", "queue id"),
    ("delete_batch", "queue ids"),
    ("redrive", "queue to ids max"),
    ("create_exchange", "exchange kind alternate if_not_exists"),
    ("alter_exchange", "exchange alternate reset"),
    ("rename_exchange", "exchange new_name"),
    ("drop_exchange", "exchange if_exists cascade"),
    (
        "bind",
        "exchange target pattern headers match filter weight",
    ),
    ("unbind", "exchange target pattern headers filter"),
    (
        "publish",
        "exchange key body headers delay deliver_at priority group_key dedup_key ttl mandatory",
    ),
    (
        "publish_text",
        "exchange key body headers delay deliver_at priority group_key dedup_key ttl mandatory",
    ),
    (
        "publish_bytes",
        "exchange key data headers delay deliver_at priority group_key dedup_key ttl mandatory",
    ),
    (
        "publish_batch",
        "exchange keys bodies headers group_keys dedup_keys delay deliver_at priority ttl mandatory",
    ),
    ("request", "queue body timeout headers expect_reader reply"),
    ("reply", "message body headers"),
    ("reply_queue", ""),
    ("read_reply", "correlation_id wait"),
    ("import_pgmq", "queues"),
];

const MESSAGE: &str = "id receipt queue body data headers attempts failures last_error priority group_key \
                       dedup_key enqueued_at visible_at read_at expires_at state";
const TYPES: &str = "bigint bigint text jsonb bytea jsonb integer integer text smallint text text timestamptz \
                     timestamptz timestamptz timestamptz text";

fn squeeze(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn no_overloads(cx: Cx) {
    let c = cx.connect().await;
    let twice = "SELECT string_agg(proname, ' ') FROM (SELECT proname FROM pg_proc \
                 WHERE pronamespace = 'mq'::regnamespace GROUP BY 1 HAVING count(*) > 1) t";
    assert_eq!(c.text(twice).await, "NULL");
}

async fn arguments(cx: Cx) {
    let c = cx.connect().await;
    let listed = c
        .rows(
            "SELECT proname, coalesce((SELECT string_agg(a, ' ' ORDER BY n) \
               FROM unnest(proargnames) WITH ORDINALITY u(a, n) \
               WHERE proargmodes IS NULL OR proargmodes[n] IN ('i', 'b', 'v') \
                  OR (prokind = 'p' AND proargmodes[n] = 'o')), '') \
             FROM pg_proc WHERE pronamespace = 'mq'::regnamespace",
        )
        .await;
    for (name, arguments) in FUNCTIONS {
        let found = listed.iter().find(|row| row[0].as_deref() == Some(name));
        let found = found.unwrap_or_else(|| panic!("mq.{name} is missing"));
        assert_eq!(
            found[1].as_deref(),
            Some(squeeze(arguments).as_str()),
            "mq.{name}"
        );
    }
    for row in &listed {
        let name = row[0].as_deref().unwrap();
        assert!(
            FUNCTIONS.iter().any(|(known, _)| *known == name),
            "mq.{name} is not in the contract"
        );
    }
    let kinds = "SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'mq'::regnamespace AND prokind = 'p'";
    assert_eq!(c.text(kinds).await, "request wait wait_any");
}

async fn everything_has_a_comment(cx: Cx) {
    let c = cx.connect().await;
    for (what, bare) in [
        (
            "functions",
            "SELECT proname FROM pg_proc WHERE pronamespace = 'mq'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL",
        ),
        (
            "relations",
            "SELECT relname FROM pg_class WHERE relnamespace = 'mq'::regnamespace AND relkind NOT IN ('i', 'c') \
             AND obj_description(oid, 'pg_class') IS NULL",
        ),
        (
            "types",
            "SELECT t.typname FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid \
             WHERE t.typnamespace = 'mq'::regnamespace AND t.typelem = 0 AND coalesce(c.relkind, 'c') = 'c' \
             AND obj_description(t.oid, 'pg_type') IS NULL",
        ),
        (
            "columns",
            "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE c.relnamespace = 'mq'::regnamespace AND c.relkind IN ('v', 'c', 'r') AND a.attnum > 0 \
             AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL",
        ),
        (
            "schemas",
            "SELECT nspname FROM pg_namespace WHERE nspname IN ('mq', 'mq_internal') AND obj_description(oid, 'pg_namespace') IS NULL",
        ),
    ] {
        let list: Vec<_> = c
            .rows(bare)
            .await
            .into_iter()
            .filter_map(|row| row[0].clone())
            .collect();
        assert!(list.is_empty(), "{what} without a comment: {list:?}");
    }
}

async fn marks(cx: Cx) {
    let c = cx.connect().await;
    let marks = "SELECT proname, provolatile::text, proparallel::text, prosecdef::text, proleakproof::text, proisstrict::text \
                 FROM pg_proc WHERE pronamespace = 'mq'::regnamespace";
    for row in c.rows(marks).await {
        let cell = |n: usize| row[n].as_deref().unwrap();
        let name = cell(0);
        if ["version", "status", "get"].contains(&name) {
            continue;
        }
        assert_eq!(
            (cell(1), cell(2)),
            ("v", "u"),
            "mq.{name} writes: volatile and parallel unsafe"
        );
        assert_eq!(cell(4), "false", "mq.{name} is not leakproof");
        assert_eq!(
            cell(5),
            "false",
            "mq.{name} must say what is wrong with NULL instead of answering NULL"
        );
    }
    // A function with its owner's rights must not resolve names by its caller's path.
    let open = "SELECT string_agg(oid::regprocedure::text, ' ') FROM pg_proc WHERE prosecdef \
                AND pronamespace IN ('mq'::regnamespace, 'mq_internal'::regnamespace) \
                AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') \
                AND NOT coalesce(proconfig::text LIKE '%search_path%', false)";
    assert_eq!(c.text(open).await, "NULL");
}

async fn columns(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    for (relation, extra) in [("q", ""), ("q_archive", " archived_at"), ("message", "")] {
        let names = format!(
            "SELECT string_agg(attname, ' ' ORDER BY attnum), string_agg(CASE atttypid::regtype::text \
             WHEN 'timestamp with time zone' THEN 'timestamptz' ELSE atttypid::regtype::text END, ' ' ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = 'mq.{relation}'::regclass AND attnum > 0 AND NOT attisdropped"
        );
        let row = c.rows(&names).await.remove(0);
        let types = if extra.is_empty() {
            String::new()
        } else {
            " timestamptz".into()
        };
        assert_eq!(
            row[0].as_deref(),
            Some(format!("{}{extra}", squeeze(MESSAGE)).as_str()),
            "{relation}"
        );
        assert_eq!(
            row[1].as_deref(),
            Some(format!("{}{types}", squeeze(TYPES)).as_str()),
            "{relation}"
        );
    }
    for (view, wanted) in [
        (
            "queues",
            "queue owner durable visibility max_failures dead_letter backoff ttl dedup_window max_length overflow \
             max_bytes archive_retention notify paused paused_until created_at segment_size ordering \
             single_active active_pid rate_limit rate_interval rate_burst rate_key max_in_flight group_max_in_flight fair_by",
        ),
        (
            "metrics",
            "queue ready delayed leased oldest_ready_age estimated sent delivered acked failed dead expired since waiters",
        ),
    ] {
        let names = format!(
            "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'mq.{view}'::regclass AND attnum > 0 AND NOT attisdropped"
        );
        assert_eq!(c.text(&names).await, squeeze(wanted), "mq.{view}");
    }
}

async fn closed_schemas(cx: Cx) {
    let c = cx.connect().await;
    let public = |schema: &str, what: &str| {
        format!(
            "SELECT count(*) > 0 FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) \
             WHERE nspname = '{schema}' AND grantee = 0 AND privilege_type = '{what}'"
        )
    };
    assert!(c.yes(&public("mq", "USAGE")).await);
    for (schema, what) in [
        ("mq", "CREATE"),
        ("mq_internal", "USAGE"),
        ("mq_internal", "CREATE"),
    ] {
        assert!(
            !c.yes(&public(schema, what)).await,
            "{schema}: PUBLIC has {what}"
        );
    }
    let open = "SELECT has_function_privilege('pg_monitor', p.oid, 'EXECUTE') FROM pg_proc p \
                WHERE pronamespace = 'mq'::regnamespace AND proname = 'create_queue'";
    assert!(!c.yes(open).await, "create_queue is revoked from PUBLIC");
}

async fn version_of_the_extension(cx: Cx) {
    let c = cx.connect().await;
    let installed = c
        .text("SELECT extversion FROM pg_extension WHERE extname = 'pg_broker'")
        .await;
    assert_eq!(c.text("SELECT mq.version()").await, installed);
    assert_eq!(installed, env!("CARGO_PKG_VERSION"));
}
