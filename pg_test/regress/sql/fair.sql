-- Tenants that take turns.
\ir include/helpers.sql

-- Says of a read who got what, in order.
CREATE FUNCTION pg_temp.got(queue text, n int, visibility interval DEFAULT '1 hour') RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(m.body #>> '{}', ' ' ORDER BY m.ordinality)
    FROM mq.read(queue, n, visibility) WITH ORDINALITY m $$;
CREATE FUNCTION pg_temp.give(queue text, tenant text, first int, last int) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT count(mq.send(queue, to_jsonb(tenant || n), jsonb_build_object('tenant', tenant)))
    FROM generate_series(first, last) n $$;

SELECT mq.create_queue('exports', fair_by => 'tenant');
SELECT queue, fair_by, ordering FROM mq.queues WHERE queue = 'exports';

-- In one read, and over reads: each tenant's turn, then the others', in the order in which they came.
SELECT pg_temp.give('exports', 'a', 1, 6), pg_temp.give('exports', 'b', 1, 2), pg_temp.give('exports', 'c', 1, 3);
SELECT pg_temp.got('exports', 4);
SELECT pg_temp.got('exports', 1) AS one, pg_temp.got('exports', 1) AS two, pg_temp.got('exports', 1) AS three;
-- Who joins comes last, and does not get all that others had before.
SELECT pg_temp.give('exports', 'd', 1, 3);
SELECT pg_temp.got('exports', 20);
SELECT pg_temp.got('exports', 20);
SELECT mq.purge_queue('exports');

-- Each has as many turns as the others, also where there are fewer messages wanted than tenants.
SELECT pg_temp.give('exports', t, 1, 6) FROM unnest('{a,b,c,d,e}'::text[]) t;
SELECT pg_temp.got('exports', 3) FROM generate_series(1, 4);
SELECT mq.delete('exports', id) FROM mq.exports WHERE headers ->> 'tenant' = 'd' AND state = 'ready' ORDER BY id;
-- Who has nothing left does not give another his turn twice.
SELECT pg_temp.got('exports', 4) FROM generate_series(1, 2);
SELECT mq.purge_queue('exports');

-- Within a tenant by priority; what it is to one says nothing to another.
SELECT count(mq.send('exports', to_jsonb(t || p || n), jsonb_build_object('tenant', t), priority => p))
FROM unnest('{a,b}'::text[]) t, unnest('{2,4,9}'::int[]) p, generate_series(1, 2) n WHERE t = 'a' OR p = 4;
SELECT pg_temp.got('exports', 5);
SELECT pg_temp.got('exports', 1) FROM generate_series(1, 3);
SELECT pg_temp.got('exports', 9);
SELECT mq.purge_queue('exports');

-- What waits for its turn is ready, and the first of it the oldest.
SELECT pg_temp.give('exports', 'a', 1, 3);
SELECT pg_temp.got('exports', 1);
SELECT ready, leased, oldest_ready_age IS NOT NULL AS has_age FROM mq.metrics WHERE queue = 'exports';
SELECT mq.purge_queue('exports');

-- Values of any kind; none, and null, and what is no object, are one tenant.
SELECT count(mq.send('exports', to_jsonb(k || n), h))
FROM (VALUES ('none', NULL), ('null', '{"tenant": null}'), ('empty', '{}'), ('number', '{"tenant": 7}'), ('text', '{"tenant": "7"}'),
             ('object', '{"tenant": {"id": 7}}'), ('list', '{"tenant": [7]}'), ('yes', '{"tenant": true}')) v (k, h0),
     LATERAL (SELECT h0::jsonb) w (h), generate_series(1, 2) n;
SELECT pg_temp.got('exports', 20);
SELECT mq.purge_queue('exports');

-- A header of any name, and values of any kind.
CREATE FUNCTION pg_temp.turns_by(header text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    got text;
BEGIN
    PERFORM mq.create_queue('hostile', fair_by => header);
    IF (SELECT fair_by FROM mq.queues WHERE queue = 'hostile') IS DISTINCT FROM header THEN
        RAISE EXCEPTION 'not the same';
    END IF;
    PERFORM mq.send('hostile', to_jsonb(t || n), jsonb_build_object(header, repeat(t, 10000)))
    FROM unnest(ARRAY['''', '"', '%s', '\', 'ü']) t, generate_series(1, 2) n ORDER BY t COLLATE "C", n;
    got = pg_temp.got('hostile', 20);
    PERFORM mq.drop_queue('hostile');
    RETURN got;
END $$;
SELECT pg_temp.turns_by(h) FROM unnest(ARRAY['it''s', '"quoted"', '$1', '%s %I', 'a.b', '$.a[*]', 'Grüße 🐘', E'two\nlines', ' ', E'\\', 'group_key', '; DROP TABLE x']) h;
SELECT pg_temp.turns_by(repeat('long ', 12000)) = pg_temp.turns_by('short') AS same;

-- What waits comes when it is due, in its tenant's turn: a delay, a nack, a lease that ends.
SELECT pg_temp.give('exports', 'a', 1, 6), pg_temp.give('exports', 'b', 1, 1);
SELECT mq.send('exports', '"b delayed"', '{"tenant": "b"}', delay => '50 ms') AS delayed \gset
SELECT pg_temp.got('exports', 3);
SELECT pg_temp.pass(visible_at) FROM mq.exports WHERE id = :delayed;
SELECT pg_temp.got('exports', 2);
SELECT mq.nack('exports', id, delay => '0') FROM mq.exports WHERE body = '"a1"';
SELECT mq.release('exports', id) FROM mq.exports WHERE body = '"b1"';
SELECT pg_temp.got('exports', 3);
SELECT mq.nack('exports', id, delay => '50 ms') FROM mq.exports WHERE body = '"b1"';
SELECT pg_temp.pass(visible_at) FROM mq.exports WHERE body = '"b1"';
SELECT pg_temp.got('exports', 2);
SELECT pg_temp.got('exports', 20);
SELECT count(mq.extend('exports', id, visibility => '1 us')) FROM mq.exports WHERE body IN ('"a2"', '"a6"', '"b1"');
SELECT pg_temp.got('exports', 20);
SELECT body, attempts FROM mq.exports WHERE attempts > 1 ORDER BY id;
SELECT mq.purge_queue('exports');

-- What a transaction has sent, it reads; what is undone is there again.
BEGIN;
SELECT pg_temp.give('exports', 'a', 1, 3), pg_temp.give('exports', 'b', 1, 1);
SELECT pg_temp.got('exports', 2);
SAVEPOINT s;
SELECT pg_temp.give('exports', 'c', 1, 1), pg_temp.got('exports', 9);
ROLLBACK TO s;
SELECT pg_temp.got('exports', 9);
COMMIT;
BEGIN;
SELECT mq.release('exports', id) FROM mq.exports ORDER BY id;
SELECT pg_temp.got('exports', 9);
ROLLBACK;
SELECT pg_temp.got('exports', 9);
SELECT mq.release('exports', id) FROM mq.exports ORDER BY id;
SELECT string_agg(body #>> '{}', ' ') FROM mq.pop('exports', 3);
SELECT string_agg(body #>> '{}', ' ') FROM mq.pop('exports', 3);
SELECT count(*) FROM mq.exports;

-- Expiry, and dead letters: into such a queue, and out of it.
SELECT mq.create_queue('graves', fair_by => 'tenant');
SELECT mq.alter_queue('exports', dead_letter => 'graves', max_failures => 2);
SELECT pg_temp.give('exports', 'a', 1, 4), pg_temp.give('exports', 'b', 1, 1);
SELECT mq.send('exports', '"b expires"', '{"tenant": "b"}', ttl => '1 us') > 0 AS sent;
SELECT pg_temp.got('exports', 20, '1 us');
SELECT pg_temp.got('exports', 20, '1 us');
SELECT pg_temp.got('exports', 20);
SELECT mq.maintain('exports');
SELECT count(*) FROM mq.exports;
SELECT pg_temp.got('graves', 3);
SELECT pg_temp.got('graves', 9);
SELECT mq.release('graves', id) FROM mq.graves ORDER BY id;
SELECT mq.redrive('graves', max => 2), mq.redrive('graves');
SELECT pg_temp.got('exports', 20);
SELECT mq.reject('exports', id) FROM mq.exports WHERE body = '"b1"';
SELECT pg_temp.got('graves', 20);
SELECT mq.purge_queue('graves'), mq.purge_queue('exports');

-- A filter leaves what it does not pass, for others, in its turn.
SELECT pg_temp.give('exports', 'a', 1, 4), pg_temp.give('exports', 'b', 1, 3);
SELECT string_agg(body #>> '{}', ' ') FROM mq.read('exports', 2, '1 hour', filter => '$.body ? (@ like_regex "[2-3]")');
SELECT string_agg(body #>> '{}', ' ') FROM mq.read('exports', 9, '1 hour', filter => '$.body ? (@ == "b2")');
SELECT string_agg(body #>> '{}', ' ') FROM mq.read('exports', 9, '1 hour', filter => '$.body ? (@ == "b1")');
SELECT string_agg(body #>> '{}', ' ') FROM mq.read('exports', 9, '1 hour', filter => '$.body ? (@ == "b1")');
SELECT pg_temp.got('exports', 20);
SELECT mq.release('exports', id) FROM mq.exports ORDER BY id;
SELECT string_agg(body #>> '{}', ' ') FROM mq.read('exports', 9, '1 hour', filter => '$.body ? (@ like_regex "[1-2]")');
SELECT mq.purge_queue('exports');

-- Under another name, and back after a pause, it goes on where it was.
SELECT pg_temp.give('exports', 'a', 1, 6), pg_temp.give('exports', 'b', 1, 3);
SELECT pg_temp.got('exports', 3);
SELECT mq.rename_queue('exports', 'renamed');
SELECT mq.pause('renamed');
SELECT pg_temp.got('renamed', 1);
SELECT mq.resume('renamed');
SELECT pg_temp.got('renamed', 2);
-- Emptied, it forgets.
SELECT mq.purge_queue('renamed');
SELECT pg_temp.got('renamed', 2);
SELECT pg_temp.give('renamed', 'b', 1, 2), pg_temp.give('renamed', 'a', 1, 2);
SELECT pg_temp.got('renamed', 9);
SELECT mq.purge_queue('renamed');

-- Through the view: an entry, a correction, which may make a message another tenant's, and a removal.
INSERT INTO mq.renamed (body, headers)
SELECT to_jsonb(t || n), jsonb_build_object('tenant', t) FROM unnest('{a,b}'::text[]) t, generate_series(1, 3) n;
DELETE FROM mq.renamed WHERE body = '"a1"';
UPDATE mq.renamed SET headers = '{"tenant": "c"}' WHERE body IN ('"a3"', '"b2"') RETURNING body, headers;
UPDATE mq.renamed SET priority = 9 WHERE body = '"b3"' RETURNING body, priority;
SELECT pg_temp.got('renamed', 9);
SELECT mq.purge_queue('renamed');

-- From an exchange, and from there back.
SELECT mq.create_exchange('all', 'fanout');
SELECT mq.create_queue('plain');
SELECT mq.bind('all', 'renamed'), mq.bind('all', 'plain');
SELECT count(mq.publish('all', NULL, to_jsonb(t || n), headers => jsonb_build_object('tenant', t)))
FROM unnest('{a,b}'::text[]) t, generate_series(1, 2) n;
SELECT pg_temp.got('renamed', 9), pg_temp.got('plain', 9);
SELECT mq.purge_queue('renamed');

-- Batches, deduplication, archive, text and bytes.
SELECT mq.alter_queue('renamed', dedup_window => '1 hour');
SELECT count(*) FROM mq.send_batch('renamed', '{1,2,3,4}'::jsonb[],
    headers => ARRAY['{"tenant": "a"}', '{"tenant": "a"}', '{"tenant": "b"}', NULL]::jsonb[]);
SELECT mq.send('renamed', '5', '{"tenant": "c"}', dedup_key => 'k') = mq.send('renamed', '6', '{"tenant": "d"}', dedup_key => 'k') AS same;
SELECT mq.send_text('renamed', 'seven', '{"tenant": "a"}') > 0 AS text, mq.send_bytes('renamed', '\x08', '{"tenant": "b"}') > 0 AS bytes;
SELECT body, data FROM mq.read('renamed', 20, '1 hour');
SELECT mq.archive('renamed', id) FROM mq.renamed ORDER BY id LIMIT 2;

-- It is for good.
SELECT mq.create_queue('renamed', fair_by => 'other', if_not_exists => true);
SELECT fair_by FROM mq.queues WHERE queue = 'renamed';
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', fair_by => '') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', fair_by => 'tenant', ordering => 'group') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', fair_by => 'tenant', ordering => 'strict') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', fair_by => 'tenant', group_max_in_flight => 2) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('renamed', fair_by => 'tenant') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('renamed', fair_by => 'tenant') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('renamed', reset => '{fair_by}') $$);
SELECT pg_temp.failing($$ SELECT mq.send('renamed', '1', '{"tenant": "a"}', group_key => 'g') $$);
SELECT count(*) FROM mq.queues WHERE queue = 'no';
