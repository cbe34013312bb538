//! Nothing another role plants is ever called by ours: functions, operators, types, tables, in a
//! schema first in the search path or in `pg_temp`; and names are names, whatever is in them.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![planted_in_a_schema, planted_in_pg_temp];

/// Operators and functions that careless SQL would call unqualified.
const OPERATORS: &[(&str, &str, &str)] = &[
    ("=", "bigint", "bigint"),
    ("=", "int", "int"),
    ("=", "text", "text"),
    ("=", "smallint", "smallint"),
    ("=", "oid", "oid"),
    ("=", "name", "name"),
    ("<>", "text", "text"),
    ("<=", "timestamptz", "timestamptz"),
    (">=", "timestamptz", "timestamptz"),
    ("<", "timestamptz", "timestamptz"),
    (">", "timestamptz", "timestamptz"),
    ("<", "bigint", "bigint"),
    (">=", "int", "int"),
    ("+", "timestamptz", "interval"),
    ("-", "timestamptz", "interval"),
    ("-", "timestamptz", "timestamptz"),
    ("+", "int", "int"),
    ("+", "bigint", "bigint"),
    ("||", "text", "text"),
    ("||", "jsonb", "jsonb"),
    ("->", "jsonb", "text"),
    ("->>", "jsonb", "text"),
    ("*", "interval", "double precision"),
];

const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("clock_timestamp", "", "timestamptz"),
    ("now", "", "timestamptz"),
    ("nextval", "regclass", "bigint"),
    ("nextval", "text", "bigint"),
    ("random", "", "double precision"),
    ("jsonb_typeof", "jsonb", "text"),
    ("to_jsonb", "text", "jsonb"),
    ("jsonb_build_object", "VARIADIC \"any\"", "jsonb"),
    ("octet_length", "text", "int"),
    ("octet_length", "bytea", "int"),
    ("pg_column_size", "\"any\"", "int"),
    ("count", "bigint", "bigint"),
    ("current_setting", "text", "text"),
    ("set_config", "text, text, boolean", "text"),
    ("has_table_privilege", "name, oid, text", "boolean"),
    ("has_table_privilege", "oid, text", "boolean"),
    ("format", "text, VARIADIC text[]", "text"),
    ("quote_ident", "text", "text"),
    ("pg_notify", "text, text", "void"),
    ("unnest", "bigint[]", "bigint"),
    ("array_length", "bigint[], int", "int"),
    ("lower", "text", "text"),
    ("length", "text", "int"),
];

/// Plants everything in a schema as that session's role; each raises when called.
async fn plant(c: &Conn, schema: &str) {
    let body = "LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'planted code was called'; END$$";
    for (n, (operator, left, right)) in OPERATORS.iter().enumerate() {
        let result = match *operator {
            "||" | "->" | "->>" => "text",
            "+" | "-" | "*" => "interval",
            _ => "boolean",
        };
        c.run(&format!(
            "CREATE FUNCTION {schema}.op{n}({left}, {right}) RETURNS {result} {body}; \
             CREATE OPERATOR {schema}.{operator} (FUNCTION = {schema}.op{n}, LEFTARG = {left}, RIGHTARG = {right})"
        ))
        .await;
    }
    for (name, arguments, result) in FUNCTIONS {
        // What PL/pgSQL cannot declare is left out of its reach by the server itself.
        if arguments.contains("any") {
            continue;
        }
        c.run(&format!(
            "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {result} {body}"
        ))
        .await;
    }
    for relation in [
        "message", "orders", "q", "queues", "metrics", "queue", "pg_class", "pg_proc",
    ] {
        c.run(&format!(
            "CREATE TABLE IF NOT EXISTS {schema}.{relation} (nonsense int)"
        ))
        .await;
    }
    for domain in [
        "text",
        "int4",
        "int8",
        "jsonb",
        "interval",
        "timestamptz",
        "bool",
    ] {
        c.run(&format!(
            "CREATE DOMAIN {schema}.{domain} AS pg_catalog.int2 CHECK (false)"
        ))
        .await;
    }
}

/// Uses every part of the queue once, in the caller's search path.
pub async fn whole_life(c: &Conn, q: &str) {
    let name = q.replace('\'', "''");
    let view = format!("mq.\"{}\"", q.replace('"', "\"\""));
    let on = |call: &str| format!("SELECT {}", call.replace("{}", &format!("'{name}'")));
    for call in [
        "mq.send({}, '{\"a\": 1}', '{\"h\": \"x\"}', delay => '0', priority => 5, dedup_key => 'k', ttl => '1 hour')",
        "mq.send({}, '{\"a\": 1}', dedup_key => 'k')",
        "mq.send_text({}, 'text')",
        "mq.send_bytes({}, '\\x00ff')",
        "mq.send_batch({}, ARRAY['1', '2', '3']::pg_catalog.jsonb[])",
        "mq.send({}, '3', deliver_at => '2999-01-01')",
        "* FROM mq.read({}, 2, '1 min')",
        "* FROM mq.read({}, 1, '1 min', '1 ms')",
        "* FROM mq.pop({}, 1)",
        "mq.nack({}, 1, delay => '0', reason => 'no')",
        "mq.release({}, 2)",
        "mq.extend({}, 3)",
        "mq.ack_batch({}, ARRAY[3])",
        "mq.archive({}, id, receipt) FROM mq.read({}, 1)",
        "mq.reject({}, id, receipt) FROM mq.read({}, 1)",
        "mq.ack({}, id, receipt) FROM mq.read({}, 1)",
        "mq.get({}, 4)",
        "mq.delete({}, 5)",
        "mq.pause({})",
        "mq.resume({})",
        "mq.alter_queue({}, visibility => '1 min', max_length => 100, reset => ARRAY['ttl']::pg_catalog.text[])",
        "mq.maintain({})",
        "* FROM mq.queues",
        "* FROM mq.metrics",
        "* FROM mq.status()",
        "mq.purge_queue({})",
    ] {
        c.run(&on(call)).await;
    }
    c.run(&format!(
        "INSERT INTO {view} (body, priority) VALUES ('1', 3)"
    ))
    .await;
    c.run(&format!("UPDATE {view} SET body = '2', headers = '{{}}'"))
        .await;
    assert_eq!(c.rows(&format!("SELECT * FROM {view}")).await.len(), 1);
    c.run(&format!("DELETE FROM {view}")).await;
    c.cells(&format!("CALL mq.wait('{name}', '1 ms', NULL)"))
        .await
        .unwrap();
}

async fn planted_in_a_schema(cx: Cx) {
    let mallory = cx.role("mallory").await;
    let admin = cx.connect().await;
    admin
        .run(&format!(
            "CREATE SCHEMA bait AUTHORIZATION {mallory}; GRANT USAGE ON SCHEMA bait TO PUBLIC"
        ))
        .await;
    plant(&cx.connect_as(&mallory).await, "bait").await;
    let victim = cx.connect().await;
    victim
        .run("SET search_path = bait, pg_catalog, public")
        .await;
    victim
        .refused("SELECT 1::pg_catalog.int8 = 1::pg_catalog.int8", "P0001")
        .await;
    victim.run("SELECT mq.create_queue('q', max_failures => 2, backoff => ARRAY['1 s']::pg_catalog.interval[], notify => true)").await;
    whole_life(&victim, "q").await;
    victim.run("SELECT mq.redrive('q_dead')").await;
    victim.run("SELECT mq.rename_queue('q', 'p')").await;
    victim
        .run("ALTER VIEW mq.p RENAME TO r; SELECT mq.drop_queue('r', cascade => true)")
        .await;
    // And with the queue made, used and dropped under the default path by the other role's friends.
    let other = cx.role("other").await;
    admin
        .run(&format!(
            "SELECT mq.create_queue('q2'); GRANT ALL ON mq.q2 TO {other}"
        ))
        .await;
    let o = cx.connect_as(&other).await;
    o.run("SET search_path = bait, pg_catalog").await;
    for call in [
        "mq.send('q2', '1')",
        "mq.read('q2')",
        "mq.ack('q2', 1)",
        "mq.maintain()",
    ] {
        o.run(&format!("SELECT {call}")).await;
    }
    admin.run("DROP SCHEMA bait CASCADE; DROP VIEW mq.q2").await;
}

async fn planted_in_pg_temp(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('warm')").await;
    for (schema, name) in c
        .rows(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE n.nspname IN ('mq', 'mq_internal') AND c.relkind IN ('r', 'v', 'S')",
        )
        .await
        .into_iter()
        .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
    {
        let made = c.cells(&format!("CREATE TEMP TABLE \"{name}\" (nonsense int)")).await;
        assert!(made.is_ok(), "{schema}.{name}: {made:?}");
    }
    plant(&c, "pg_temp").await;
    c.run("SET search_path = pg_temp, pg_catalog, public").await;
    c.run("SELECT mq.create_queue('q', max_failures => 2)")
        .await;
    whole_life(&c, "q").await;
    c.run("SELECT mq.redrive('q_dead'); SELECT mq.rename_queue('q', 'p')")
        .await;
    c.run("SELECT mq.drop_queue('p'), mq.drop_queue('q_dead')")
        .await;
}
