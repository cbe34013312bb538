//! Looks behind the contract, as a superuser: which relations of the machinery a queue lies in.

use crate::conn::Conn;

/// The tables of the machinery that the queue's view reads, largest first.
pub async fn tables(conn: &Conn, queue: &str) -> Vec<String> {
    let sql = format!(
        "SELECT DISTINCT c.oid::regclass::text, pg_relation_size(c.oid) \
         FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
         JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid \
         WHERE r.ev_class = 'mq.\"{queue}\"'::regclass AND c.relkind IN ('r', 'p') \
           AND c.relnamespace = 'mq_internal'::regnamespace ORDER BY 2 DESC, 1"
    );
    conn.rows(&sql)
        .await
        .into_iter()
        .filter_map(|row| row[0].clone())
        .collect()
}

/// The table that holds the queue's messages.
pub async fn of(conn: &Conn, queue: &str) -> String {
    let tables = tables(conn, queue).await;
    assert!(
        !tables.is_empty(),
        "the view mq.{queue} reads no table of mq_internal"
    );
    tables[0].clone()
}
