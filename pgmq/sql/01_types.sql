-- The types and tables of pgmq, with its columns in its order: its clients read them by place.
--
-- The extension pgmq offers the interface of pgmq 1.13 on the queues of pg_broker. A queue is one queue,
-- whichever side made it.

CREATE TYPE pgmq.message_record AS (
    msg_id       bigint,
    read_ct      integer,
    enqueued_at  timestamptz,
    last_read_at timestamptz,
    vt           timestamptz,
    message      jsonb,
    headers      jsonb
);

CREATE TYPE pgmq.queue_record AS (
    queue_name     varchar,
    is_partitioned boolean,
    is_unlogged    boolean,
    created_at     timestamptz
);

CREATE TYPE pgmq.metrics_result AS (
    queue_name               text,
    queue_length             bigint,
    newest_msg_age_sec       int,
    oldest_msg_age_sec       int,
    total_messages           bigint,
    scrape_time              timestamptz,
    queue_visible_length     bigint,
    default_partition_length bigint
);

-- Every queue, under the names that pgmq's callers gave it.
CREATE TABLE pgmq.meta (
    queue_name     varchar NOT NULL UNIQUE,
    is_partitioned boolean NOT NULL,
    is_unlogged    boolean NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

-- Queues whose senders notify, and how often at most. `sets_notify`: pg_broker's own notifications were
-- off before, and go with these.
CREATE TABLE pgmq.notify_insert_throttle (
    queue_name           varchar NOT NULL UNIQUE REFERENCES pgmq.meta (queue_name)
                         ON UPDATE CASCADE ON DELETE CASCADE,
    throttle_interval_ms integer NOT NULL DEFAULT 0,
    last_notified_at     timestamptz NOT NULL DEFAULT to_timestamp(0),
    sets_notify          boolean NOT NULL DEFAULT true
);

-- Which messages go to which queue: those whose routing key matches the pattern, in which * stands for
-- one word and # for any text.
CREATE TABLE pgmq.topic_bindings (
    pattern        text NOT NULL,
    queue_name     text NOT NULL REFERENCES pgmq.meta (queue_name)
                   ON UPDATE CASCADE ON DELETE CASCADE,
    bound_at       timestamptz NOT NULL DEFAULT now(),
    compiled_regex text GENERATED ALWAYS AS (
        '^' || replace(replace(
            regexp_replace(pattern, '([\\.+?{}()|^$\[\]])', '\\\1', 'g'),
            '*', '[^.]+'), '#', '.*') || '$') STORED,
    CONSTRAINT topic_bindings_unique_pattern_queue UNIQUE (pattern, queue_name)
);

SELECT pg_catalog.pg_extension_config_dump('pgmq.meta', '');
SELECT pg_catalog.pg_extension_config_dump('pgmq.notify_insert_throttle', '');
SELECT pg_catalog.pg_extension_config_dump('pgmq.topic_bindings', '');

GRANT USAGE ON SCHEMA pgmq TO pg_monitor;
GRANT SELECT ON pgmq.meta, pgmq.notify_insert_throttle, pgmq.topic_bindings TO pg_monitor;
