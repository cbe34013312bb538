-- Sending, receiving and settling messages. A call is said to cost what PL/pgSQL costs: then those
-- conditions of a WHERE that call nothing are looked at first, and rows that they exclude are spared.

CREATE FUNCTION mq.send(
    queue text, body jsonb, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_send';

CREATE FUNCTION mq.send_text(
    queue text, body text, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_send_text';

CREATE FUNCTION mq.send_bytes(
    queue text, data bytea, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_send_bytes';

CREATE FUNCTION mq.send_batch(
    queue text, bodies jsonb[], headers jsonb[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL, dedup_keys text[] DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, ttl interval DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_send_batch';

CREATE FUNCTION mq.read(
    queue text, qty int DEFAULT 1, visibility interval DEFAULT NULL, wait interval DEFAULT NULL,
    filter jsonpath DEFAULT NULL
) RETURNS SETOF mq.message LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_read';

CREATE FUNCTION mq.pop(
    queue text, qty int DEFAULT 1, filter jsonpath DEFAULT NULL
) RETURNS SETOF mq.message LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_pop';

CREATE FUNCTION mq.step_down(queue text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'mq_step_down';

CREATE FUNCTION mq.get(
    queue text, id bigint
) RETURNS mq.message LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_get';

CREATE FUNCTION mq.ack(
    queue text, id bigint, receipt bigint DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_ack';

CREATE FUNCTION mq.ack_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_ack_batch';

CREATE FUNCTION mq.archive(
    queue text, id bigint, receipt bigint DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_archive';

CREATE FUNCTION mq.archive_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_archive_batch';

CREATE FUNCTION mq.nack(
    queue text, id bigint, receipt bigint DEFAULT NULL, delay interval DEFAULT NULL,
    reason text DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_nack';

CREATE FUNCTION mq.nack_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL, delay interval DEFAULT NULL,
    reason text DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_nack_batch';

CREATE FUNCTION mq.release(
    queue text, id bigint, receipt bigint DEFAULT NULL, delay interval DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_release';

CREATE FUNCTION mq.release_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL, delay interval DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_release_batch';

CREATE FUNCTION mq.reject(
    queue text, id bigint, receipt bigint DEFAULT NULL, reason text DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_reject';

CREATE FUNCTION mq.reject_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL, reason text DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_reject_batch';

CREATE FUNCTION mq.extend(
    queue text, id bigint, receipt bigint DEFAULT NULL, visibility interval DEFAULT NULL
) RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_extend';

CREATE FUNCTION mq.extend_batch(
    queue text, ids bigint[], receipts bigint[] DEFAULT NULL,
    visibility interval DEFAULT NULL
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_extend_batch';

CREATE FUNCTION mq.delete(
    queue text, id bigint
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_delete';

CREATE FUNCTION mq.delete_batch(
    queue text, ids bigint[]
) RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_delete_batch';

CREATE FUNCTION mq.redrive(
    queue text, "to" text DEFAULT NULL, ids bigint[] DEFAULT NULL,
    max bigint DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_redrive';

CREATE PROCEDURE mq.wait(queue text, timeout interval, INOUT ready boolean DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_wait';

CREATE PROCEDURE mq.wait_any(queues text[], timeout interval, INOUT ready boolean DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_wait_any';
