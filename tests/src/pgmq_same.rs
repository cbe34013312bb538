//! The drop-in for pgmq says what pgmq says: the same statements, to both.
//!
//! A script is statements that end a line with `;`. Rows, the SQLSTATE and the words of a refusal, and
//! notices must be equal, unless `-- differs: why` stands before the statement: then they must not.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;
use crate::world::world;
use pgmq::PGMQueueExt;

tests![messages, queues, tables, grouped, topics, signatures];

/// A session where pgmq's own SQL is, and one where the drop-in is.
pub async fn both(cx: &Cx) -> (Conn, Conn) {
    let ours = cx.connect().await;
    ours.run("CREATE EXTENSION pgmq").await;
    let real = format!("{}_real", cx.db);
    ours.run(&format!("CREATE DATABASE \"{real}\"")).await;
    let url = format!(
        "postgresql://postgres:x@127.0.0.1:{}/{real}",
        cx.server.port
    );
    let pgmq = PGMQueueExt::new(url, 1).await.expect("a connection");
    pgmq.install_sql_from_embedded().await.expect("pgmq's SQL");
    pgmq.connection.close().await;
    (Conn::open(cx.server.port, &real, "postgres").await, ours)
}

/// All that a server says to a statement.
async fn answer(c: &Conn, sql: &str) -> String {
    let said = match c.cells(sql).await {
        Ok(rows) => rows
            .iter()
            .map(|row| {
                let cells = row.iter().map(|c| c.as_deref().unwrap_or("NULL"));
                cells.collect::<Vec<_>>().join(" | ")
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Err(no) => format!("{} {}", no.code, no.message),
    };
    let heard = [c.notices(), c.warnings()].concat();
    [vec![said], heard].concat().join("\n")
}

/// Statements, each with whether it differs.
fn statements(script: &str) -> Vec<(String, bool)> {
    let mut list = Vec::new();
    let (mut sql, mut differs) = (String::new(), false);
    for line in script.lines() {
        if line.starts_with("--") {
            differs |= line.starts_with("-- differs:");
            continue;
        }
        sql.push_str(line);
        sql.push('\n');
        if line.ends_with(';') {
            list.push((std::mem::take(&mut sql), differs));
            differs = false;
        }
    }
    list
}

async fn compare(cx: Cx, script: &str) {
    let (real, ours) = both(&cx).await;
    let mut wrong = Vec::new();
    for (sql, differs) in statements(script) {
        let (theirs, here) = (answer(&real, &sql).await, answer(&ours, &sql).await);
        if (theirs == here) == differs {
            wrong.push(format!("{sql}pgmq:\n{theirs}\nhere:\n{here}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(real);
    ours.run(&format!("DROP DATABASE \"{}_real\" WITH (FORCE)", cx.db))
        .await;
}

async fn compare_script(cx: Cx, name: &str) {
    let path = world().root.join(format!("tests/pgmq/{name}.sql"));
    compare(cx, &std::fs::read_to_string(path).expect("a script")).await;
}

async fn messages(cx: Cx) {
    compare_script(cx, "messages").await;
}

async fn queues(cx: Cx) {
    compare_script(cx, "queues").await;
}

async fn tables(cx: Cx) {
    compare_script(cx, "tables").await;
}

async fn grouped(cx: Cx) {
    compare_script(cx, "grouped").await;
}

async fn topics(cx: Cx) {
    compare_script(cx, "topics").await;
}

/// Names, types, defaults and order of all arguments and results.
async fn signatures(cx: Cx) {
    compare(
        cx,
        "select proname, pg_get_function_arguments(oid), pg_get_function_result(oid) from pg_proc \
         where pronamespace = 'pgmq'::regnamespace and proname !~ '^_' \
         and proname <> 'notify_queue_listeners' order by 1, 2;\n\
         select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnum \
         from pg_class c join pg_attribute a on a.attrelid = c.oid \
         where c.relnamespace = 'pgmq'::regnamespace and c.relkind = 'c' and a.attnum > 0 \
         order by 1, 4;\n",
    )
    .await;
}
