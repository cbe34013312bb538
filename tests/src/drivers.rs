//! What drivers do: untyped parameters in prepared statements, values as text, the simple protocol.

use crate::harness::Cx;
use crate::tests;
use bytes::BytesMut;
use postgres_types::{Format, IsNull, ToSql, Type, to_sql_checked};
use std::error::Error;

tests![
    every_function_prepares_untyped,
    every_function_runs_untyped,
    every_function_in_the_simple_protocol
];

/// A value as drivers with dynamic types send it: text, whatever the server inferred.
#[derive(Debug)]
pub struct Untyped(pub Option<&'static str>);

impl ToSql for Untyped {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }
    to_sql_checked!();
}

/// Calls with `$n`, and the values as text.
const CALLS: &[(&str, &[&str])] = &[
    (
        "SELECT mq.create_queue($1, visibility => $2, max_failures => $3, backoff => $4, max_length => $5, overflow => $6)",
        &[
            "q",
            "00:00:10",
            "5",
            "{\"1 s\",\"1 day\"}",
            "1000",
            "reject",
        ],
    ),
    (
        "SELECT mq.create_queue($1, if_not_exists => $2, durable => $3, ttl => $4, dedup_window => $5, max_bytes => $6, archive_retention => $7, notify => $8)",
        &["q", "true", "t", "1 day", "1 min", "999", "1 year", "false"],
    ),
    (
        "SELECT mq.alter_queue($1, dedup_window => $2, reset => $3)",
        &["q", "PT5M", "{ttl}"],
    ),
    ("SELECT mq.send($1, $2)", &["q", "{\"a\": 1}"]),
    (
        "SELECT mq.send($1, $2, $3, $4, NULL, $5, NULL, $6, $7)",
        &["q", "2", "{\"h\": 1}", "0", "5", "key", "1 hour"],
    ),
    (
        "SELECT mq.send(queue => $1, body => $2, deliver_at => $3)",
        &["q", "3", "2020-01-01T00:00:00Z"],
    ),
    (
        "SELECT mq.send($1, $2, delay => make_interval(secs => $3))",
        &["q", "4", "0.001"],
    ),
    (
        "SELECT mq.send_text($1, $2, dedup_key => $3)",
        &["q", "{not json", "text key"],
    ),
    (
        "SELECT mq.send_bytes($1, $2, $3)",
        &["q", "\\x0001ff", "{}"],
    ),
    (
        "SELECT * FROM mq.send_batch($1, $2, $3, $4, $5)",
        &[
            "q",
            "{1,2,\"{\\\"a\\\": 1}\"}",
            "{\"{}\",NULL,NULL}",
            "{NULL,NULL,NULL}",
            "{a,b,c}",
        ],
    ),
    (
        "SELECT * FROM mq.read($1, $2, $3, $4)",
        &["q", "2", "1 hour", "1 ms"],
    ),
    (
        "SELECT * FROM mq.read($1, qty => $2, visibility => make_interval(secs => $3))",
        &["q", "6", "3600"],
    ),
    (
        "SELECT mq.nack($1, $2, $3, $4, $5)",
        &["q", "1", "77", "1 s", "because"],
    ),
    ("SELECT mq.release($1, $2, delay => $3)", &["q", "1", "0"]),
    (
        "SELECT mq.extend($1, $2, visibility => $3)",
        &["q", "2", "1 hour"],
    ),
    ("SELECT mq.reject($1, $2, reason => $3)", &["q", "2", "bad"]),
    ("SELECT mq.ack($1, $2)", &["q", "3"]),
    ("SELECT mq.archive($1, $2)", &["q", "4"]),
    (
        "SELECT * FROM mq.ack_batch($1, $2, $3)",
        &["q", "{1,2}", "{3,NULL}"],
    ),
    (
        "SELECT * FROM mq.nack_batch($1, $2, $3, $4, $5)",
        &["q", "{1,2}", "{3,4}", "1 s", "why"],
    ),
    (
        "SELECT * FROM mq.release_batch($1, $2, delay => $3)",
        &["q", "{5}", "1 s"],
    ),
    (
        "SELECT * FROM mq.reject_batch($1, $2, reason => $3)",
        &["q", "{6}", "why"],
    ),
    (
        "SELECT * FROM mq.extend_batch($1, $2, visibility => $3)",
        &["q", "{7}", "1 s"],
    ),
    ("SELECT * FROM mq.archive_batch($1, $2)", &["q", "{7,8}"]),
    ("SELECT * FROM mq.pop($1, $2)", &["q", "1"]),
    ("SELECT (mq.get($1, $2)).*", &["q", "9"]),
    ("SELECT mq.delete($1, $2)", &["q", "9"]),
    ("SELECT * FROM mq.delete_batch($1, $2)", &["q", "{9,10}"]),
    (
        "SELECT mq.redrive($1, $2, $3, $4)",
        &["q_dead", "q", "{1}", "5"],
    ),
    ("SELECT mq.pause($1, $2)", &["q", "2999-01-01"]),
    ("SELECT mq.resume($1)", &["q"]),
    ("SELECT mq.maintain($1)", &["q"]),
    ("SELECT mq.purge_queue($1)", &["q"]),
    ("SELECT mq.rename_queue($1, $2)", &["q", "p"]),
    ("SELECT mq.drop_queue($1, $2, $3)", &["p", "false", "false"]),
    ("SELECT * FROM mq.status()", &[]),
    ("SELECT mq.version()", &[]),
];

async fn every_function_prepares_untyped(cx: Cx) {
    let c = cx.connect().await;
    let functions = c
        .query(
            "SELECT proname::text, pronargs::int, prokind = 'p', \
             (SELECT string_agg(t::regtype::text, ' ' ORDER BY n) FROM unnest(proargtypes::oid[]) WITH ORDINALITY u(t, n)), \
             proargnames::text[] FROM pg_proc WHERE pronamespace = 'mq'::regnamespace",
            &[],
        )
        .await
        .unwrap();
    for function in functions {
        let (name, arguments): (&str, i32) = (function.get(0), function.get(1));
        let list = |f: &dyn Fn(usize) -> String| {
            (1..=arguments as usize)
                .map(f)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let names: Vec<String> = function
            .get::<_, Option<Vec<String>>>(4)
            .unwrap_or_default();
        let verb = if function.get::<_, bool>(2) {
            "CALL"
        } else {
            "SELECT"
        };
        for call in [
            list(&|n| format!("${n}")),
            list(&|n| format!("\"{}\" => ${n}", names[n - 1])),
        ] {
            let sql = format!("{verb} mq.{name}({call})");
            let prepared = c
                .prepare(&sql)
                .await
                .unwrap_or_else(|no| panic!("{sql}: {no:?}"));
            let mut types = Vec::new();
            for kind in prepared.params() {
                let sql = format!("SELECT {}::oid::regtype::text", kind.oid());
                types.push(c.text(&sql).await);
            }
            let declared: Option<&str> = function.get(3);
            assert_eq!(types.join(" "), declared.unwrap_or(""), "{sql}");
        }
    }
}

async fn every_function_runs_untyped(cx: Cx) {
    let c = cx.connect().await;
    for (sql, values) in CALLS {
        let values: Vec<Untyped> = values.iter().map(|v| Untyped(Some(v))).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
        if let Err(no) = c.query(*sql, &values).await {
            panic!("{sql}: {no:?}");
        }
    }
    // NULL for an optional argument means its default.
    c.run("SELECT mq.create_queue('q', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)").await;
    for call in [
        "mq.alter_queue('q', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "mq.send('q', '1', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "mq.send_text('q', '1', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "mq.send_bytes('q', '1', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "mq.send_batch('q', ARRAY['1']::jsonb[], NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "mq.read('q', NULL, NULL, NULL)",
        "mq.ack('q', 1, NULL)",
        "mq.nack('q', 1, NULL, NULL, NULL)",
        "mq.release('q', 1, NULL, NULL)",
        "mq.reject('q', 1, NULL, NULL)",
        "mq.extend('q', 1, NULL, NULL)",
        "mq.archive('q', 1, NULL)",
        "mq.ack_batch('q', ARRAY[1], NULL)",
        "mq.nack_batch('q', ARRAY[1], NULL, NULL, NULL)",
        "mq.release_batch('q', ARRAY[1], NULL, NULL)",
        "mq.reject_batch('q', ARRAY[1], NULL, NULL)",
        "mq.extend_batch('q', ARRAY[1], NULL, NULL)",
        "mq.archive_batch('q', ARRAY[1], NULL)",
        "mq.pop('q', NULL)",
        "mq.pause('q', NULL)",
        "mq.resume('q')",
        "mq.redrive('q', NULL, NULL, NULL)",
        "mq.maintain(NULL)",
        "mq.drop_queue('q', NULL, NULL)",
    ] {
        c.run(&format!("SELECT {call}")).await;
    }
    c.run("SELECT mq.create_queue('q')").await;
    for call in [
        "mq.send('q', NULL)",
        "mq.send(NULL, '1')",
        "mq.ack('q', NULL)",
        "mq.read(NULL)",
        "mq.send_batch('q', NULL)",
    ] {
        c.refused(&format!("SELECT {call}"), "22023").await;
    }
}

/// Puts the values into the statement as quoted literals.
fn literal(sql: &str, values: &[&str]) -> String {
    let mut text = sql.to_string();
    for (n, value) in values.iter().enumerate().rev() {
        text = text.replace(
            &format!("${}", n + 1),
            &format!("'{}'", value.replace('\'', "''")),
        );
    }
    text
}

async fn every_function_in_the_simple_protocol(cx: Cx) {
    let c = cx.connect().await;
    for (sql, values) in CALLS {
        c.run(&literal(sql, values)).await;
    }
    c.run("SELECT mq.create_queue('q')").await;
    c.run("CALL mq.wait('q', '1 ms', NULL)").await;
    c.run("CALL mq.wait_any('{q}', '1 ms', NULL)").await;
    let wait = c
        .query(
            "CALL mq.wait($1, $2, NULL)",
            &[&Untyped(Some("q")), &Untyped(Some("1 ms"))],
        )
        .await
        .unwrap();
    assert!(!wait[0].get::<_, bool>("ready"));
    let values = ["q", "1", "1 ms", "{}", "f"].map(|v| Untyped(Some(v)));
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
    let call = "CALL mq.request($1, $2, $3, $4, $5, NULL)";
    let none = c.query(call, &values).await.unwrap();
    assert_eq!(none[0].columns()[0].name(), "reply");
}
