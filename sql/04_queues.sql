-- Making, changing and removing queues.

CREATE FUNCTION mq.create_queue(
    queue text,
    durable boolean DEFAULT true,
    visibility interval DEFAULT NULL,
    max_failures int DEFAULT NULL,
    dead_letter text DEFAULT NULL,
    backoff interval[] DEFAULT NULL,
    ttl interval DEFAULT NULL,
    dedup_window interval DEFAULT NULL,
    max_length bigint DEFAULT NULL,
    overflow text DEFAULT NULL,
    max_bytes int DEFAULT NULL,
    archive_retention interval DEFAULT NULL,
    notify boolean DEFAULT NULL,
    segment_size int DEFAULT NULL,
    single_active boolean DEFAULT NULL,
    ordering text DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_interval interval DEFAULT NULL,
    rate_burst int DEFAULT NULL,
    rate_key text DEFAULT NULL,
    max_in_flight int DEFAULT NULL,
    group_max_in_flight int DEFAULT NULL,
    fair_by text DEFAULT NULL,
    if_not_exists boolean DEFAULT false
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_create_queue';
REVOKE ALL ON FUNCTION mq.create_queue FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mq.create_queue TO @extowner@;

CREATE FUNCTION mq.alter_queue(
    queue text,
    visibility interval DEFAULT NULL,
    max_failures int DEFAULT NULL,
    dead_letter text DEFAULT NULL,
    backoff interval[] DEFAULT NULL,
    ttl interval DEFAULT NULL,
    dedup_window interval DEFAULT NULL,
    max_length bigint DEFAULT NULL,
    overflow text DEFAULT NULL,
    max_bytes int DEFAULT NULL,
    archive_retention interval DEFAULT NULL,
    notify boolean DEFAULT NULL,
    segment_size int DEFAULT NULL,
    single_active boolean DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_interval interval DEFAULT NULL,
    rate_burst int DEFAULT NULL,
    rate_key text DEFAULT NULL,
    max_in_flight int DEFAULT NULL,
    group_max_in_flight int DEFAULT NULL,
    reset text[] DEFAULT NULL
) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_alter_queue';

CREATE FUNCTION mq.drop_queue(
    queue text, if_exists boolean DEFAULT false, cascade boolean DEFAULT false
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_drop_queue';

CREATE FUNCTION mq.rename_queue(queue text, new_name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_rename_queue';

CREATE FUNCTION mq.purge_queue(queue text) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_purge_queue';

CREATE FUNCTION mq.pause(queue text, until timestamptz DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_pause';

CREATE FUNCTION mq.resume(queue text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_resume';
