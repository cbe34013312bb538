//! How much room a queue takes, asked on a connection of its own between the queue's work.

use pg_broker_bench_common::Result;
use pg_broker_bench_common::pg::connect;
use tokio_postgres::{Client, Statement};

use crate::side::Side;

/// In bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// All tables of the queue, with their indexes.
    pub queue: i64,
    /// The largest segment among them.
    pub segment: i64,
    /// The system catalogs, and what the extension keeps about its queues.
    pub catalogs: i64,
}

/// Rows that are no longer there for anybody but a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dead {
    pub rows: i64,
    /// All rows, dead or not, of the segment that has most of them.
    pub segment: i64,
    /// How many messages a segment has room for.
    pub room: i64,
}

pub struct Gauge {
    client: Client,
    sizes: Statement,
    dead: Statement,
    room: String,
    autovacuum: String,
}

impl Gauge {
    pub async fn open(url: &str, side: &Side, queue: &str) -> Result<Gauge> {
        let client = connect(url).await?;
        client
            .batch_execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
            .await?;
        let tables = side.sql(side.tables, queue);
        let sizes = format!(
            "WITH tables AS ({tables}), \
                  sizes AS (SELECT pg_total_relation_size(oid) AS bytes, segment FROM tables) \
             SELECT coalesce(sum(bytes), 0)::bigint, \
                    coalesce(max(bytes) FILTER (WHERE segment), 0)::bigint, ({CATALOGS}) \
             FROM sizes"
        );
        let dead = format!(
            "WITH tables AS ({tables}) \
             SELECT coalesce(sum(dead_tuple_count), 0)::bigint, \
                    coalesce(max(tuple_count + dead_tuple_count) FILTER (WHERE segment), 0)::bigint \
             FROM tables, pgstattuple(tables.oid::regclass)"
        );
        let autovacuum = format!(
            "WITH tables AS ({tables}) \
             SELECT sum(s.autovacuum_count + s.autoanalyze_count)::bigint \
             FROM tables JOIN pg_class c ON c.oid = tables.oid \
                 JOIN pg_stat_all_tables s ON s.relid IN (c.oid, c.reltoastrelid) \
             WHERE segment"
        );
        Ok(Gauge {
            sizes: client.prepare(&sizes).await?,
            dead: client.prepare(&dead).await?,
            room: side.sql(side.room, queue),
            autovacuum,
            client,
        })
    }

    pub async fn sizes(&self) -> Result<Sizes> {
        let row = self.client.query_one(&self.sizes, &[]).await?;
        Ok(Sizes {
            queue: row.try_get(0)?,
            segment: row.try_get(1)?,
            catalogs: row.try_get(2)?,
        })
    }

    /// Reads all of the queue's tables: for moments when nobody is timed.
    pub async fn dead(&self) -> Result<Dead> {
        let row = self.client.query_one(&self.dead, &[]).await?;
        let room = match self.room.is_empty() {
            true => None,
            false => Some(self.client.query_one(&self.room, &[]).await?),
        };
        let room: Option<i64> = room.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(Dead {
            rows: row.try_get(0)?,
            segment: row.try_get(1)?,
            room: room.unwrap_or(0),
        })
    }

    /// How often autovacuum vacuumed or analysed a segment; nothing where there is none.
    pub async fn autovacuums(&self) -> Result<Option<i64>> {
        let row = self.client.query_one(&self.autovacuum, &[]).await?;
        Ok(row.try_get(0)?)
    }
}

/// → bytes of all catalogs, and of the tables of the extension that hold no messages.
pub const CATALOGS: &str = "\
    SELECT sum(pg_total_relation_size(c.oid))::bigint \
    FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
    WHERE c.relkind = 'r' \
        AND (s.nspname = 'pg_catalog' OR s.nspname = 'mq_internal' AND c.relname !~ '^q_')";
