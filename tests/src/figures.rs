//! Whether `mq.metrics` says what the queue's table has.

use crate::conn::Conn;
use crate::storage;

/// What the table says of the states: ready, delayed, leased, exactly, and when it was the last.
async fn counted(c: &Conn, table: &str, max_failures: &str) -> String {
    c.text(&format!(
        "WITH t AS MATERIALIZED (SELECT clock_timestamp() AS now), m AS (
           SELECT due > t.now AS waits, receipt IS NOT NULL AS held, expires_at <= t.now AS over,
                  failures + (receipt IS NOT NULL)::int >= {max_failures} AS last
           FROM {table}, t)
         SELECT concat_ws(' ',
           count(*) FILTER (WHERE waits IS NOT TRUE AND over IS NOT TRUE AND last IS NOT TRUE),
           count(*) FILTER (WHERE waits AND NOT held AND over IS NOT TRUE),
           count(*) FILTER (WHERE waits AND held), 'f') FROM m"
    ))
    .await
}

/// Expects exact figures of a queue in which nothing happens but the passing of time.
pub async fn agree(c: &Conn, queue: &str, when: &str) {
    let table = storage::of(c, queue).await;
    let limit = format!("SELECT max_failures FROM mq.queues WHERE queue = '{queue}'");
    let limit = c.text(&limit).await;
    let told = format!(
        "SELECT concat_ws(' ', ready, delayed, leased, estimated) FROM mq.metrics \
         WHERE queue = '{queue}'"
    );
    // Looked at before and after, because something may come due in between.
    let mut before = counted(c, &table, &limit).await;
    for _ in 0..200 {
        let said = c.text(&told).await;
        let after = counted(c, &table, &limit).await;
        if said == before || said == after {
            return;
        }
        assert_ne!(
            before, after,
            "{when}: mq.metrics says {said} of {queue}: ready, delayed, leased, estimated"
        );
        before = after;
    }
    panic!("{when}: {queue} is not quiet");
}

/// Waits until the figures of a long queue are exact again.
pub async fn until_exact(c: &Conn, queue: &str) {
    c.until(&format!(
        "SELECT NOT estimated FROM mq.metrics WHERE queue = '{queue}'"
    ))
    .await;
}
