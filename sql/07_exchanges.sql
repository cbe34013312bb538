-- Exchanges, and which messages they pass on to which queues.

-- One row an exchange: as with queues, name, owner and privileges are its view's own.
CREATE TABLE mq_internal.exchange (
    view       regclass PRIMARY KEY,
    kind       text NOT NULL,
    alternate  regclass,
    created_at timestamptz NOT NULL
);
CREATE INDEX exchange_alternate ON mq_internal.exchange (alternate);

CREATE SEQUENCE mq_internal.binding_n;

-- One row a binding. `label` is the name that the target had when it was bound: what a hash exchange
-- knows it by, so that a queue keeps its share of the keys when it is renamed, dumped and restored.
-- `digest` is that of all that the binding wants: nothing is bound twice in the same way.
CREATE TABLE mq_internal.binding (
    n        bigint PRIMARY KEY DEFAULT nextval('mq_internal.binding_n'),
    exchange regclass NOT NULL,
    target   regclass NOT NULL,
    pattern  text,
    headers  jsonb,
    is_any   boolean NOT NULL,
    filter   jsonpath,
    weight   int NOT NULL,
    label    text NOT NULL,
    digest   text NOT NULL,
    CONSTRAINT binding_once UNIQUE (exchange, target, digest)
);
CREATE INDEX binding_target ON mq_internal.binding (target);

SELECT pg_catalog.pg_extension_config_dump('mq_internal.exchange', '');
SELECT pg_catalog.pg_extension_config_dump('mq_internal.binding', '');
SELECT pg_catalog.pg_extension_config_dump('mq_internal.binding_n', '');
GRANT SELECT, INSERT ON mq_internal.exchange, mq_internal.binding TO @extowner@;
GRANT SELECT, UPDATE ON SEQUENCE mq_internal.binding_n TO @extowner@;

CREATE FUNCTION mq_internal.exchange_insert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_exchange_insert';
REVOKE ALL ON FUNCTION mq_internal.exchange_insert() FROM PUBLIC;
-- Restoring a dump creates the triggers anew.
GRANT EXECUTE ON FUNCTION mq_internal.exchange_insert() TO @extowner@;

CREATE FUNCTION mq.create_exchange(
    exchange text, kind text, alternate text DEFAULT NULL, if_not_exists boolean DEFAULT false
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'mq_create_exchange';
REVOKE ALL ON FUNCTION mq.create_exchange FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mq.create_exchange TO @extowner@;

CREATE FUNCTION mq.alter_exchange(
    exchange text, alternate text DEFAULT NULL, reset text[] DEFAULT NULL
) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'mq_alter_exchange';

CREATE FUNCTION mq.rename_exchange(exchange text, new_name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mq_rename_exchange';

CREATE FUNCTION mq.drop_exchange(
    exchange text, if_exists boolean DEFAULT false, cascade boolean DEFAULT false
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'mq_drop_exchange';

CREATE FUNCTION mq.bind(
    exchange text, target text, pattern text DEFAULT NULL, headers jsonb DEFAULT NULL,
    match text DEFAULT NULL, filter jsonpath DEFAULT NULL, weight int DEFAULT NULL
) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'mq_bind';

CREATE FUNCTION mq.unbind(
    exchange text, target text, pattern text DEFAULT NULL, headers jsonb DEFAULT NULL,
    filter jsonpath DEFAULT NULL
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'mq_unbind';

CREATE FUNCTION mq.publish(
    exchange text, key text, body jsonb, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL, mandatory boolean DEFAULT false
) RETURNS int LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_publish';

CREATE FUNCTION mq.publish_text(
    exchange text, key text, body text, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL, mandatory boolean DEFAULT false
) RETURNS int LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_publish_text';

CREATE FUNCTION mq.publish_bytes(
    exchange text, key text, data bytea, headers jsonb DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, group_key text DEFAULT NULL,
    dedup_key text DEFAULT NULL, ttl interval DEFAULT NULL, mandatory boolean DEFAULT false
) RETURNS int LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_publish_bytes';

CREATE FUNCTION mq.publish_batch(
    exchange text, keys text[], bodies jsonb[], headers jsonb[] DEFAULT NULL,
    group_keys text[] DEFAULT NULL, dedup_keys text[] DEFAULT NULL, delay interval DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, ttl interval DEFAULT NULL,
    mandatory boolean DEFAULT false
) RETURNS SETOF int LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'mq_publish_batch';

CREATE VIEW mq.exchanges WITH (security_barrier) AS
SELECT c.relname::text AS exchange, pg_get_userbyid(c.relowner) AS owner, e.kind,
       a.relname::text AS alternate, e.created_at
FROM mq_internal.exchange e
JOIN pg_class c ON c.oid = e.view
LEFT JOIN pg_class a ON a.oid = e.alternate
WHERE mq_internal.visible(e.view)
ORDER BY 1;

CREATE VIEW mq.bindings WITH (security_barrier) AS
SELECT c.relname::text AS exchange, t.relname::text AS target, b.pattern, b.headers,
       CASE WHEN e.kind <> 'headers' THEN NULL WHEN b.is_any THEN 'any' ELSE 'all' END AS match,
       b.filter, CASE WHEN e.kind = 'hash' THEN b.weight END AS weight
FROM mq_internal.binding b
JOIN mq_internal.exchange e ON e.view = b.exchange
JOIN pg_class c ON c.oid = b.exchange
JOIN pg_class t ON t.oid = b.target
WHERE mq_internal.visible(b.exchange)
ORDER BY 1, 2, b.n;

GRANT SELECT ON mq.exchanges, mq.bindings TO PUBLIC;
