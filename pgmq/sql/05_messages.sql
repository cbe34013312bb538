-- Sending, reading and settling messages: native entry points of pg_broker. They cost what PL/pgSQL
-- costs, so that those conditions of a WHERE that call nothing are looked at first.

CREATE FUNCTION pgmq.send(queue_name text, msg jsonb) RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send';
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send_headers';
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer) RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send_delay';
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send_at';
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay integer)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send_headers_delay';
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_send_headers_at';

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch';
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[])
    RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers';
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay integer)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch_delay';
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay timestamptz)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch_at';
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay integer)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_delay';
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz)
    RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_at';

CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read';

-- Wakes up when a message comes, so how often to look says nothing.
CREATE FUNCTION pgmq.read_with_poll(
    queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}'
) RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_read_with_poll';

CREATE FUNCTION pgmq.pop(queue_name text, qty integer DEFAULT 1)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_pop';

CREATE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_delete';
CREATE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_delete_batch';

CREATE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_archive';
CREATE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_archive_batch';

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_set_vt';
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt timestamptz)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 ROWS 1 AS 'MODULE_PATHNAME', 'pgmq_set_vt_at';
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt integer)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch';
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt timestamptz)
    RETURNS SETOF pgmq.message_record
    LANGUAGE c COST 100 AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch_at';
