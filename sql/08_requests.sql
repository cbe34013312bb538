-- Requests and replies: a message that says where its answer goes, and waiting for that.

CREATE PROCEDURE mq.request(
    queue text, body jsonb, timeout interval DEFAULT '5 seconds', headers jsonb DEFAULT NULL,
    expect_reader boolean DEFAULT false, INOUT reply jsonb DEFAULT NULL
) LANGUAGE c AS 'MODULE_PATHNAME', 'mq_request';

CREATE FUNCTION mq.reply(
    message mq.message, body jsonb, headers jsonb DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_reply';

CREATE FUNCTION mq.reply_queue() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_reply_queue';

CREATE FUNCTION mq.read_reply(
    correlation_id text, wait interval DEFAULT NULL
) RETURNS SETOF mq.message LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_read_reply';
