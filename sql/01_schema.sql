-- Schemas, and the catalog of queues.
--
-- `mq` is everything that people touch; `mq_internal` is machinery. Both belong to the
-- extension. Nobody may create objects in either but the role that created the extension,
-- so that it can restore a dump.

CREATE SCHEMA mq;
CREATE SCHEMA mq_internal;
REVOKE ALL ON SCHEMA mq, mq_internal FROM PUBLIC;
GRANT USAGE ON SCHEMA mq TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA mq, mq_internal TO @extowner@;

-- Numbers the storage of queues: queue n lives in mq_internal.q_<n> and its companions.
CREATE SEQUENCE mq_internal.queue_n AS int;

-- One row a queue. The queue is its view: name, owner and privileges are the view's own, and
-- `view` follows it through renames. A dump carries these rows; `regclass` columns are restored
-- by name.
CREATE TABLE mq_internal.queue (
    n                 int PRIMARY KEY,
    view              regclass NOT NULL UNIQUE,
    archive           regclass NOT NULL UNIQUE,
    created_at        timestamptz NOT NULL,
    visibility        interval NOT NULL,
    max_failures      int,
    dead_letter       regclass,
    backoff           interval[],
    ttl               interval,
    dedup_window      interval NOT NULL,
    max_length        bigint,
    overflow          text NOT NULL,
    max_bytes         int NOT NULL,
    archive_retention interval,
    notify            boolean NOT NULL,
    paused            boolean NOT NULL,
    paused_until      timestamptz,
    segment_size      int,
    ordering          text NOT NULL DEFAULT 'none',
    single_active     boolean NOT NULL DEFAULT false,
    fair_by           text,
    rate_limit        int,
    rate_interval     interval,
    rate_burst        int,
    rate_key          text,
    max_in_flight     int,
    group_max_in_flight int
);
CREATE INDEX queue_dead_letter ON mq_internal.queue (dead_letter);

-- Where the messages of queue n lie beside mq_internal.q_<n>: one row a table that has been made
-- for it (q_<n>_s<k> for k > 0, q_<n>_p for -1), and one for q_<n> itself (0) once it is not all.
-- `state`: 0 open, 1 closed, 6 drained, 2 free; of tables for parked messages 3 target, 4 source,
-- 5 dormant.
CREATE TABLE mq_internal.segment (
    n          int NOT NULL,
    k          int NOT NULL,
    state      smallint NOT NULL,
    first_id   bigint,
    past_id    bigint,
    since      timestamptz NOT NULL,
    changed_by bigint NOT NULL,
    moved_at   timestamptz,
    moved_by   bigint,
    PRIMARY KEY (n, k)
);

-- The private reply queues, and which session has each: process and when it began; none: it is free.
-- `since`: when it was taken or became free. A dump carries these rows too: where it is restored,
-- and in a copy of the database, those sessions are not, and all are free.
CREATE TABLE mq_internal.reply_queue (
    view          regclass PRIMARY KEY,
    pid           int,
    backend_start timestamptz,
    since         timestamptz NOT NULL
);

-- When mq.maintain() last ran. At most one row.
CREATE TABLE mq_internal.upkeep (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    last_run timestamptz NOT NULL
);

SELECT pg_catalog.pg_extension_config_dump('mq_internal.queue', '');
SELECT pg_catalog.pg_extension_config_dump('mq_internal.queue_n', '');
SELECT pg_catalog.pg_extension_config_dump('mq_internal.segment', '');
SELECT pg_catalog.pg_extension_config_dump('mq_internal.reply_queue', '');
GRANT SELECT, INSERT ON mq_internal.queue, mq_internal.segment, mq_internal.reply_queue
    TO @extowner@;
GRANT SELECT, UPDATE ON SEQUENCE mq_internal.queue_n TO @extowner@;
GRANT SELECT ON mq_internal.upkeep TO @extowner@;
