-- names: whatever they are made of, they are data, never SQL.
\ir include/helpers.sql

-- The life of a queue with that name, from creation to drop.
CREATE FUNCTION pg_temp.life(name text, other text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m mq.message; n bigint; taken bigint;
BEGIN
    ASSERT mq.create_queue(name, max_failures => 1);
    ASSERT (SELECT dead_letter FROM mq.queues WHERE queue = name) = name || '_dead';

    -- send, browse, read, ack
    n := mq.send(name, '{"a": 1}', dedup_key => name);
    ASSERT n = mq.send(name, '{"a": 2}', dedup_key => name), 'dedup';
    EXECUTE format('SELECT id FROM mq.%I WHERE queue = %L', name, name) INTO STRICT taken;
    ASSERT taken = n, 'browse';
    EXECUTE format('INSERT INTO mq.%I (body, headers) VALUES (%L, %L) RETURNING id', name,
        to_jsonb(name), jsonb_build_object(name, name)) INTO STRICT taken;
    SELECT * INTO STRICT m FROM mq.read(name);
    ASSERT m.id = n AND m.queue = name AND m.body = '{"a": 1}', 'read';
    ASSERT mq.extend(name, m.id, m.receipt, '1 hour') > clock_timestamp(), 'extend';
    ASSERT mq.archive(name, m.id, m.receipt), 'archive';
    EXECUTE format('SELECT id FROM mq.%I', name || '_archive') INTO STRICT n;
    ASSERT n = m.id, 'archived';

    -- fail, dead letter, redrive
    SELECT * INTO STRICT m FROM mq.read(name);
    ASSERT m.id = taken AND m.headers ->> name = name, 'headers';
    ASSERT mq.nack(name, m.id, m.receipt, reason => name), 'nack';
    SELECT * INTO STRICT m FROM mq.get(name || '_dead', (SELECT id FROM mq.read(name || '_dead')));
    ASSERT m.headers #>> '{x-death,0,queue}' = name AND m.headers #>> '{x-death,0,error}' = name, 'x-death';
    ASSERT mq.release(name || '_dead', m.id), 'release';
    ASSERT mq.redrive(name || '_dead') = 1, 'redrive';

    -- pause, alter, rename, purge, drop
    PERFORM mq.pause(name);
    ASSERT NOT EXISTS (SELECT FROM mq.read(name)), 'paused';
    PERFORM mq.resume(name);
    PERFORM mq.alter_queue(name, notify => true);
    PERFORM mq.rename_queue(name, other);
    PERFORM mq.rename_queue(other, name);
    PERFORM mq.send(name, '1');
    ASSERT mq.purge_queue(name) = 2, 'purge';
    ASSERT (SELECT ready FROM mq.metrics WHERE queue = name) = 0, 'metrics';
    ASSERT mq.drop_queue(name), 'drop';
    ASSERT mq.drop_queue(name || '_dead'), 'drop dead';
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

CREATE TABLE precious (n int);
SELECT name, pg_temp.life(name, name || '2') FROM unnest(ARRAY[
    'Mixed Case', ' spaces ', 'select', 'table', 'null', 'NULL', 'user', '1', '-1', '0x',
    'it''s', '''', '''''', '"', '""', 'he said "no"', '''"''',
    'a.b', 'public.orders', '.', '..', 'a;b', '; DROP TABLE precious; --', '''); DROP TABLE precious; --',
    '"; DROP TABLE precious; --', '--', '/*', '*/', '$1', '$$', '$a$', '%', '%s', '%I %L', '%%',
    '\', '\\', '\''', 'E''\n''', '{', '{}', '{a,b}', '[', '(', ')', '(a,b)', ',', '?', ':a', '@', '#', '~', '`', '&', '|', '*', '=',
    E'line\nbreak', E'tab\tbed', E'\r', E'\x01\x7f',
    'größer', 'заказы', '订单', 'طلبات', '📦📦', E'e\u0301', U&'\200B', U&'\202Etxt.exe',
    'archive', 'dead', '_archive', '_dead', 'x_archive', 'x_dead', 'a_dead_archive'
]) name;
SELECT count(*) FROM precious;
SELECT count(*) FROM mq.queues;
-- Nothing is left behind.
SELECT relname FROM pg_class WHERE relnamespace = 'mq'::regnamespace AND relkind <> 'c' ORDER BY 1;

-- Names that differ only a little are different queues.
SELECT count(mq.create_queue(n)) FROM unnest(ARRAY['a', 'A', 'a ', ' a', 'á', E'a\u0301', '"a"', 'а']) n;
SELECT count(mq.send(queue, to_jsonb(queue))) FROM mq.queues;
SELECT count(*) AS queues, count(*) FILTER (WHERE m.body = to_jsonb(q.queue)) AS own
FROM mq.queues q, mq.read(q.queue, 10) m;

-- Role names are data, too.
CREATE ROLE "names ""hostile""; DROP TABLE precious; --'";
GRANT EXECUTE ON FUNCTION mq.create_queue TO "names ""hostile""; DROP TABLE precious; --'";
SET ROLE "names ""hostile""; DROP TABLE precious; --'";
SELECT pg_temp.life('theirs', 'theirs2');
SELECT mq.create_queue('theirs');
SELECT owner FROM mq.queues WHERE queue = 'theirs';
RESET ROLE;
-- Headers and keys likewise.
SELECT mq.send('theirs', '{"''; DROP TABLE precious; --": "\"}"}', headers => '{"x-death": "''", "\"": ["$1", "%s"]}',
    dedup_key => '''; DROP TABLE precious; --') > 0 AS sent;
SELECT body, headers, dedup_key FROM mq.read('theirs');
DROP OWNED BY "names ""hostile""; DROP TABLE precious; --'" CASCADE;
DROP ROLE "names ""hostile""; DROP TABLE precious; --'";
SELECT count(*) FROM precious;
