//! Everything that queues hold, as lines to compare, and whether they are alive after a restore.

use crate::conn::Conn;
use crate::space::{self, Part, Upkeep, nothing_waits};

/// Everything a queue is, as lines to compare: options, rows, archives, grants.
pub async fn content(c: &Conn, grants: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for row in c.rows("SELECT queue, (to_jsonb(q) - 'owner')::text FROM mq.queues q ORDER BY queue COLLATE \"C\"").await {
        let (queue, options) = (row[0].clone().unwrap(), row[1].clone().unwrap());
        lines.push(format!("{queue}: {options}"));
        let view = queue.replace('"', "\"\"");
        for name in [view.clone(), format!("{view}_archive")] {
            let of = format!("SELECT (to_jsonb(v) - 'receipt')::text FROM mq.\"{name}\" v ORDER BY id");
            for cells in c.rows(&of).await {
                lines.push(format!("{name}: {}", cells[0].clone().unwrap()));
            }
            if grants {
                let literal = name.replace("\"\"", "\"").replace('\'', "''");
                let acl = format!(
                    "SELECT c.relowner::regrole::text, coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(relacl) a), ''), \
                     (SELECT string_agg(attname || attacl::text, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) \
                     FROM pg_class c WHERE relnamespace = 'mq'::regnamespace AND relname = '{literal}'"
                );
                lines.push(format!("{name} grants: {:?}", c.rows(&acl).await));
            }
        }
    }
    for (view, order) in [
        ("exchanges", "exchange"),
        ("bindings", "exchange, target, pattern"),
    ] {
        let of = format!(
            "SELECT '{view}: ' || (to_jsonb(v) - 'owner')::text FROM mq.{view} v ORDER BY {order}"
        );
        for cells in c.rows(&of).await {
            lines.push(cells[0].clone().unwrap());
        }
    }
    lines.extend(routes(c).await);
    lines.extend(turns(c).await);
    assert!(lines.len() > 10, "nothing to compare: {lines:#?}");
    lines
}

/// What a reader of the queue with groups gets, as lines, and by which indexes; nothing stays taken.
async fn turns(c: &Conn) -> Vec<String> {
    let there = "SELECT count(*) FROM mq.queues WHERE queue IN ('in groups', 'in line')";
    if c.int(there).await == 0 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    c.run("BEGIN").await;
    for queue in ["in groups", "in line"] {
        // Which group comes first is nobody's to say.
        let read = format!(
            "SELECT group_key, string_agg(concat_ws('/', body, attempts), ' ') \
             FROM mq.read('{queue}', 100) GROUP BY group_key ORDER BY group_key"
        );
        for row in c.rows(&read).await {
            lines.push(format!("{queue} gives {row:?}"));
        }
    }
    c.run("ROLLBACK").await;
    let indexes = "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON attrelid = indrelid AND attnum = indkey[0] \
                   WHERE attname = 'grp' AND indpred IS NOT NULL";
    lines.push(format!("indexes of groups: {}", c.text(indexes).await));
    lines
}

/// Which queues a few keys lead to, as lines; nothing stays published.
async fn routes(c: &Conn) -> Vec<String> {
    let exchanges = "SELECT count(*) FROM mq.exchanges WHERE exchange = 'kept hash'";
    if c.int(exchanges).await == 0 {
        return Vec::new();
    }
    c.run("BEGIN").await;
    let publish = "SELECT k, mq.publish('kept hash', k, '1') FROM (SELECT 'key ' || n AS k FROM generate_series(1, 50) n) n \
                   UNION ALL SELECT 'topic', mq.publish('kept \"topic\"', 'a.b.c', '{\"n\": 2}', headers => '{\"x y\": \"z\"}')";
    let reached = c.rows(publish).await;
    let keys = "SELECT 'granted has ' || (headers->>'x-key') FROM mq.granted WHERE headers ? 'x-key' ORDER BY 1";
    let mut lines: Vec<String> = reached.iter().map(|row| format!("route {row:?}")).collect();
    lines.extend(c.rows(keys).await.iter().map(|row| row[0].clone().unwrap()));
    c.run("ROLLBACK").await;
    lines
}

pub fn assert_same(before: &[String], after: &[String]) {
    for line in before {
        assert!(
            after.contains(line),
            "lost or changed:\n{line}\nnow:\n{}",
            near(line, after)
        );
    }
    for line in after {
        assert!(before.contains(line), "appeared:\n{line}");
    }
}

/// The lines about the same queue, for the message.
fn near(line: &str, lines: &[String]) -> String {
    let name = line.split(':').next().unwrap_or_default();
    lines
        .iter()
        .filter(|other| other.starts_with(name))
        .cloned()
        .collect::<Vec<_>>()
        .join("\n")
}

/// Restored queues are alive: old ids are never used again, old receipts settle nothing.
pub async fn alive(c: &Conn) {
    let queues = c.rows("SELECT queue FROM mq.queues ORDER BY 1").await;
    for row in queues {
        let queue = row[0].clone().unwrap();
        let (literal, view) = (queue.replace('\'', "''"), queue.replace('"', "\"\""));
        c.run(&format!("SELECT mq.resume('{literal}'); SELECT mq.alter_queue('{literal}', reset => ARRAY['max_length', 'max_bytes', 'rate_limit', 'rate_interval', 'rate_burst', 'rate_key', 'max_in_flight'])")).await;
        let top = format!(
            "SELECT greatest((SELECT max(id) FROM mq.\"{view}\"), (SELECT max(id) FROM mq.\"{view}_archive\"), 0)"
        );
        let top = c.int(&top).await;
        // In one line nothing overtakes.
        c.run(&format!(
            "SELECT mq.pop(queue, 1000) FROM mq.queues WHERE queue = '{literal}' AND ordering = 'strict'"
        ))
        .await;
        let id = c
            .int(&format!(
                "SELECT mq.send('{literal}', '\"after\"', priority => 9)"
            ))
            .await;
        assert!(id > top, "{queue}: id {id} was used before ({top})");
        let hand = c.hand(&format!("'{literal}'")).await;
        assert_eq!(hand.id, id, "{queue}");
        let receipt = hand.receipt + 1;
        assert!(
            !c.yes(&format!("SELECT mq.ack('{literal}', {id}, {receipt})"))
                .await
        );
        assert!(
            c.yes(&format!(
                "SELECT mq.archive('{literal}', {id}, {})",
                hand.receipt
            ))
            .await
        );
        c.run(&format!(
            "INSERT INTO mq.\"{view}\" (body) VALUES ('1'); SELECT mq.maintain('{literal}')"
        ))
        .await;
    }
    for queue in ["in segments", "in groups", "in both"] {
        rotates(c, queue).await;
    }
    c.refused("DROP EXTENSION pg_broker", "2BP01").await;
    c.run("DROP EXTENSION pg_broker CASCADE").await;
    let left = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mq%') + (SELECT count(*) FROM pg_event_trigger)";
    assert_eq!(
        c.int(left).await,
        0,
        "CASCADE leaves something after a restore"
    );
}

/// Its used ranges are truncated when their messages have gone, and it begins new ones.
async fn rotates(c: &Conn, queue: &str) {
    let is_closed = |part: &&Part| part.is_segment && part.is_old();
    let before = space::parts(c, queue).await;
    let closed: Vec<&Part> = before.iter().filter(is_closed).collect();
    assert!(!closed.is_empty(), "{before:#?}");
    c.run(&format!(
        "SELECT mq.delete('{queue}', id) FROM mq.\"{queue}\""
    ))
    .await;
    let is_back = |parts: &[Part]| {
        let is_free = |old: &&Part| {
            let now = parts.iter().find(|part| part.storage == old.storage);
            now.is_none_or(|now| now.state == "free" || now.first > old.first)
        };
        nothing_waits(parts) && closed.iter().all(is_free)
    };
    let what = "the ranges from before truncated";
    space::until(c, queue, Upkeep::Calls, what, is_back).await;
    let newest = async || {
        let parts = space::segments(c, queue).await;
        parts.into_iter().filter_map(|part| part.first).max()
    };
    let first = newest().await;
    for _ in 0..8 {
        c.run(&format!(
            "SELECT mq.send_batch('{queue}', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 32) n))"
        ))
        .await;
        c.run(&format!("SELECT mq.pop('{queue}', 32)")).await;
        c.run(&format!("SELECT mq.maintain('{queue}')")).await;
    }
    assert!(newest().await > first, "{queue} begins no new range");
    let what = "the ranges of afterwards truncated";
    space::until(c, queue, Upkeep::Calls, what, nothing_waits).await;
}
