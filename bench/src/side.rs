//! The sides that are compared, each as the SQL that it takes for the same work.
//!
//! Every statement is prepared once per connection, with the queue's name written into it. A send
//! takes the body, a read gives `id, body` (and the receipt where there is one), an ack takes what
//! the read gave.

use pg_broker_bench_common::Result;
use pg_broker_bench_common::report::Party;
use tokio_postgres::Client;

/// How a single ack says that it did something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// One row with a boolean.
    Flag,
    /// The number of rows of the command tag.
    Tag,
}

/// How a session sleeps until there is something to read, ten seconds at most.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A call that returns when a message may be ready; then it is read.
    Call(&'static str),
    /// `LISTEN` on the channel named like the queue; then it is read.
    Listen,
    /// A read that returns, as `id, body`, once there is a message.
    Read(&'static str),
}

#[derive(Clone, Copy)]
pub struct Side {
    pub name: &'static str,
    /// What a person calls it, in tables and the chart.
    pub title: &'static str,
    /// Run on every connection of a worker.
    pub session: &'static str,
    /// `$1` body → one row.
    pub send: &'static str,
    /// The same where somebody may wait for it.
    pub send_waking: &'static str,
    pub wait: Wait,
    /// `$1` bodies; the command tag counts.
    pub send_batch: &'static str,
    /// `$1` bodies, to be handed out in five seconds; the command tag counts.
    pub send_batch_later: &'static str,
    /// → `id, body[, receipt]`; QTY is replaced by a number.
    pub read: &'static str,
    /// `$1` id, and `$2` receipt where `fenced`.
    pub ack: &'static str,
    pub reply: Reply,
    /// `$1` ids, and `$2` receipts where `fenced`; the command tag counts.
    pub ack_batch: &'static str,
    pub fenced: bool,
    pub create: &'static str,
    pub drop: &'static str,
    /// Gives a queue that has not been used segments of SIZE messages; nothing where there are none.
    pub resize: &'static str,
    /// → `oid, segment`: the tables that hold the queue's messages, and whether each is a segment.
    pub tables: &'static str,
    /// → how many messages the largest segment has room for; nothing where there are none.
    pub room: &'static str,
    /// `$1` body, `$2` how many: puts them in as the side's own batch.
    pub fill: &'static str,
    /// The same, not to be handed out for ten hours.
    pub fill_delayed: &'static str,
    /// `$1` how many: hands them out for ten hours.
    pub lease: &'static str,
    pub count: &'static str,
}

/// In every statement of a side this stands for the queue's name.
const QUEUE: &str = "QUEUE";

const OURS: Side = Side {
    name: "ours",
    title: "pg_broker",
    session: "",
    send: "SELECT mq.send('QUEUE', $1::jsonb)",
    send_waking: "SELECT mq.send('QUEUE', $1::jsonb)",
    wait: Wait::Call("CALL mq.wait('QUEUE', '10 s')"),
    send_batch: "SELECT mq.send_batch('QUEUE', $1::jsonb[])",
    send_batch_later: "SELECT mq.send_batch('QUEUE', $1::jsonb[], delay => interval '5 s')",
    read: "SELECT id, body, receipt FROM mq.read('QUEUE', QTY)",
    ack: "SELECT mq.ack('QUEUE', $1::bigint, $2::bigint)",
    reply: Reply::Flag,
    ack_batch: "SELECT mq.ack_batch('QUEUE', $1::bigint[], $2::bigint[])",
    fenced: true,
    create: "SELECT mq.create_queue('QUEUE')",
    drop: "SELECT mq.drop_queue('QUEUE', if_exists => true)",
    resize: "SELECT mq.alter_queue('QUEUE', segment_size => SIZE)",
    tables: "SELECT c.oid, c.relname ~ '_s[0-9]+$' AS segment \
             FROM pg_class c JOIN mq_internal.queue q \
                 ON c.relname ~ ('^q_' || q.n || '(_s[0-9]+|_p)?$') \
             WHERE q.view = 'mq.\"QUEUE\"'::regclass AND c.relkind = 'r' \
                 AND c.relnamespace = 'mq_internal'::regnamespace",
    room: "SELECT max(last_id - first_id + 1) FROM mq.segments WHERE queue = 'QUEUE' AND first_id IS NOT NULL",
    fill: "SELECT count(*) FROM mq.send_batch('QUEUE', array_fill($1::jsonb, ARRAY[$2::int]))",
    fill_delayed: "SELECT count(*) FROM mq.send_batch('QUEUE', \
                   array_fill($1::jsonb, ARRAY[$2::int]), delay => interval '10 hours')",
    lease: "SELECT count(*) FROM mq.read('QUEUE', $1::int, interval '10 hours')",
    count: "SELECT count(*) FROM mq.\"QUEUE\"",
};

const PGMQ: Side = Side {
    name: "pgmq",
    title: "pgmq",
    session: "",
    send: "SELECT pgmq.send('QUEUE', $1::jsonb)",
    send_waking: "SELECT pgmq.send('QUEUE', $1::jsonb)",
    wait: Wait::Read("SELECT msg_id, message FROM pgmq.read_with_poll('QUEUE', 30, 1, 10)"),
    send_batch: "SELECT pgmq.send_batch('QUEUE', $1::jsonb[])",
    send_batch_later: "SELECT pgmq.send_batch('QUEUE', $1::jsonb[], 5)",
    read: "SELECT msg_id, message FROM pgmq.read('QUEUE', 30, QTY)",
    ack: "SELECT pgmq.delete('QUEUE', $1::bigint)",
    reply: Reply::Flag,
    ack_batch: "SELECT pgmq.delete('QUEUE', $1::bigint[])",
    fenced: false,
    create: "SELECT pgmq.create('QUEUE')",
    drop: "SELECT pgmq.drop_queue('QUEUE')",
    resize: "",
    tables: "SELECT 'pgmq.\"q_QUEUE\"'::regclass::oid AS oid, false AS segment",
    room: "",
    fill: "SELECT count(*) FROM pgmq.send_batch('QUEUE', array_fill($1::jsonb, ARRAY[$2::int]))",
    fill_delayed: "SELECT count(*) FROM pgmq.send_batch('QUEUE', \
                   array_fill($1::jsonb, ARRAY[$2::int]), 36000)",
    lease: "SELECT count(*) FROM pgmq.read('QUEUE', 36000, $1::int)",
    count: "SELECT count(*) FROM pgmq.\"q_QUEUE\"",
};

/// The drop-in: the statements of pgmq, unchanged, on the engine of ours.
const DROP_IN: Side = Side {
    name: "dropin",
    title: "pgmq on pg_broker",
    resize: OURS.resize,
    tables: OURS.tables,
    room: OURS.room,
    ..PGMQ
};

/// What a careful engineer would write by hand: one table, handed out by due time and id through
/// one index, so that delayed messages are never in the way; and plans that cannot flip.
const SQL: Side = Side {
    name: "sql",
    title: "hand-written SQL",
    session: "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off",
    send: "INSERT INTO \"QUEUE\" (body) VALUES ($1) RETURNING id",
    send_waking: "WITH new AS (INSERT INTO \"QUEUE\" (body) VALUES ($1) RETURNING id), \
                      told AS (SELECT pg_notify('QUEUE', '')) \
                  SELECT id FROM new, told",
    wait: Wait::Listen,
    send_batch: "INSERT INTO \"QUEUE\" (body) SELECT unnest($1::jsonb[]) RETURNING id",
    send_batch_later: "INSERT INTO \"QUEUE\" (body, due) \
                       SELECT unnest($1::jsonb[]), now() + interval '5 s' RETURNING id",
    read: "UPDATE \"QUEUE\" \
           SET due = clock_timestamp() + interval '30 s', attempts = attempts + 1 \
           WHERE id = ANY (ARRAY( \
               SELECT id FROM \"QUEUE\" WHERE due <= now() \
               ORDER BY due, id LIMIT QTY FOR UPDATE SKIP LOCKED)) \
           RETURNING id, body",
    ack: "DELETE FROM \"QUEUE\" WHERE id = $1",
    reply: Reply::Tag,
    ack_batch: "DELETE FROM \"QUEUE\" WHERE id = ANY ($1::bigint[])",
    fenced: false,
    create: "CREATE TABLE \"QUEUE\" ( \
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 due timestamptz NOT NULL DEFAULT now(), \
                 sent timestamptz NOT NULL DEFAULT now(), \
                 attempts int NOT NULL DEFAULT 0, \
                 body jsonb NOT NULL); \
             CREATE INDEX ON \"QUEUE\" (due, id)",
    drop: "DROP TABLE IF EXISTS \"QUEUE\"",
    resize: "",
    tables: "SELECT '\"QUEUE\"'::regclass::oid AS oid, false AS segment",
    room: "",
    fill: "WITH new AS (INSERT INTO \"QUEUE\" (body) \
               SELECT $1::jsonb FROM generate_series(1, $2::int) RETURNING 1) \
           SELECT count(*) FROM new",
    fill_delayed: "WITH new AS (INSERT INTO \"QUEUE\" (body, due) \
                       SELECT $1::jsonb, now() + interval '10 hours' \
                       FROM generate_series(1, $2::int) RETURNING 1) \
                   SELECT count(*) FROM new",
    lease: "WITH taken AS (UPDATE \"QUEUE\" \
                SET due = clock_timestamp() + interval '10 hours', attempts = attempts + 1 \
                WHERE id = ANY (ARRAY( \
                    SELECT id FROM \"QUEUE\" WHERE due <= now() \
                    ORDER BY due, id LIMIT $1::int FOR UPDATE SKIP LOCKED)) \
                RETURNING 1) \
            SELECT count(*) FROM taken",
    count: "SELECT count(*) FROM \"QUEUE\"",
};

/// What no queue can do without: a row stored, a call made. A table with nothing but its primary
/// key, and for a read a function written in C that is built in and returns no rows. It takes
/// part in the workloads that send or find nothing, and in the cycles, where it removes the row
/// that it has just stored: three statements, of which one does nothing, are the least that a cycle
/// can cost on the machine.
const PLAIN: Side = Side {
    name: "plain",
    title: "plain SQL",
    session: "",
    send_batch: "INSERT INTO \"QUEUE\" (body) SELECT unnest($1::jsonb[])",
    read: "SELECT nothing FROM generate_series(1, 0) AS nothing",
    create: "CREATE TABLE \"QUEUE\" ( \
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 sent timestamptz NOT NULL DEFAULT now(), \
                 body jsonb NOT NULL)",
    ..SQL
};

/// In the order of the tables: ours, the same as pgmq's clients see it, the one to beat, what is written
/// by hand, the bare minimum.
pub const SIDES: [Side; 5] = [OURS, DROP_IN, PGMQ, SQL, PLAIN];

impl Side {
    pub fn party(&self) -> Party {
        Party {
            name: self.name,
            title: self.title,
        }
    }

    /// Whether it is a queue, and not just the cost of a statement.
    pub fn is_queue(&self) -> bool {
        self.name != PLAIN.name
    }

    pub fn database(&self) -> String {
        format!("bench_{}", self.name)
    }

    pub fn sql(&self, text: &str, queue: &str) -> String {
        text.replace(QUEUE, queue)
    }

    pub fn read(&self, queue: &str, qty: usize) -> String {
        self.sql(self.read, queue).replace("QTY", &qty.to_string())
    }

    /// Puts the side into its database; tells its version.
    pub async fn install(&self, client: &Client, url: &str) -> Result<String> {
        match self.name {
            "ours" => {
                client.batch_execute("CREATE EXTENSION pg_broker").await?;
                let row = client.query_one("SELECT mq.version()::text", &[]).await?;
                Ok(format!("pg_broker {}", row.try_get::<_, String>(0)?))
            }
            "dropin" => {
                client
                    .batch_execute("CREATE EXTENSION pgmq CASCADE")
                    .await?;
                let row = client.query_one("SELECT mq.version()::text", &[]).await?;
                Ok(format!(
                    "the drop-in of pg_broker {}",
                    row.try_get::<_, String>(0)?
                ))
            }
            "pgmq" => {
                let pgmq = pgmq::PGMQueueExt::new(url.to_string(), 1).await?;
                pgmq.install_sql_from_embedded().await?;
                let version = pgmq::install::installed_version(&pgmq).await?;
                pgmq.connection.close().await;
                Ok(format!(
                    "pgmq {}",
                    version
                        .map(|v| v.to_string())
                        .unwrap_or_else(|| "of unknown version".into())
                ))
            }
            _ => Ok(self.title.into()),
        }
    }
}
