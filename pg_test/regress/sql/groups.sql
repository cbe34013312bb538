-- ordering: messages of one group are handed out one after the other.
\ir include/helpers.sql
-- What a queue holds: body, group, state.
CREATE FUNCTION pg_temp.there(queue text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
    EXECUTE format('SELECT string_agg(concat_ws('' '', body #>> ''{}'', state), '', '' ORDER BY id) FROM mq.%I', queue) INTO said;
    RETURN said;
END $$;
-- What a read gives, and settles in no way.
CREATE FUNCTION pg_temp.reads(queue text, qty int DEFAULT 1) RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(body #>> '{}', ' ') FROM mq.read(queue, qty, '1 hour') $$;
-- The hand-out of the message with this body.
CREATE FUNCTION pg_temp.id_of(queue text, body text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE said bigint;
BEGIN
    EXECUTE format('SELECT id FROM mq.%I WHERE body #>> ''{}'' = $1', queue) INTO said USING body;
    RETURN said;
END $$;

SELECT mq.create_queue('plain');
SELECT mq.create_queue('named', ordering => 'none');
SELECT mq.create_queue('orders', ordering => 'group');
SELECT mq.create_queue('line', ordering => 'strict');
SELECT queue, ordering FROM mq.queues ORDER BY queue;

-- It is said when the queue is made, and for good.
SELECT mq.create_queue('wrong', ordering => 'groups');
SELECT mq.create_queue('wrong', ordering => '');
SELECT mq.alter_queue('orders', ordering => 'none');
SELECT mq.alter_queue('orders', reset => '{ordering}');
SELECT mq.alter_queue('orders', visibility => '1 min');
SELECT ordering FROM mq.queues WHERE queue = 'orders';
-- A group is only where groups are.
SELECT mq.send('plain', '1', group_key => 'g');
SELECT mq.send('line', '1', group_key => 'g');
SELECT mq.send_batch('plain', '{1, 2}', group_keys => '{NULL, g}');
SELECT mq.send_batch('orders', '{1, 2}', group_keys => '{g}');
INSERT INTO mq.plain (body, group_key) VALUES ('1', 'g');
SELECT count(*) FROM mq.plain;

-- One after the other; the others go on beside them.
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 3) n, unnest('{a,b,c}'::text[]) g;
SELECT body, group_key FROM mq.read('orders', visibility => '1 hour');
SELECT body, group_key FROM mq.read('orders', visibility => '1 hour');
SELECT body, group_key FROM mq.read('orders', visibility => '1 hour');
SELECT pg_temp.reads('orders', 9) AS blocked;
SELECT (mq.get('orders', pg_temp.id_of('orders', 'b2'))).group_key;
SELECT mq.ack('orders', pg_temp.id_of('orders', 'b1'));
SELECT pg_temp.reads('orders', 9) AS the_next;
SELECT pg_temp.there('orders');
-- One read takes several in a row; it serves a group before it goes on to the next.
SELECT count(mq.release('orders', id)) FROM mq.orders WHERE state = 'leased';
SELECT pg_temp.reads('orders', 4);
SELECT pg_temp.reads('orders', 1) AS the_rest_of_b_waits;
-- The rest waits until all of them are settled.
SELECT mq.ack('orders', pg_temp.id_of('orders', 'a1')), mq.ack('orders', pg_temp.id_of('orders', 'a2'));
SELECT count(mq.send_text('orders', g || 4, group_key => g)) FROM unnest('{a,b,c,d}'::text[]) g;
SELECT pg_temp.reads('orders', 9);
SELECT mq.ack('orders', pg_temp.id_of('orders', 'a3'));
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');

-- No more than so many of a group in one read, and never two reads.
SELECT mq.alter_queue('orders', group_max_in_flight => 2);
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) g;
SELECT pg_temp.reads('orders', 9);
SELECT pg_temp.reads('orders', 9) AS nobody_else;
SELECT mq.ack('orders', pg_temp.id_of('orders', 'a1')), mq.ack('orders', pg_temp.id_of('orders', 'a2'));
SELECT pg_temp.reads('orders', 9);
SELECT mq.alter_queue('orders', reset => '{group_max_in_flight}');
SELECT mq.purge_queue('orders');

-- Messages without a group are in nobody's way.
SELECT array_length(array_agg(id), 1) FROM mq.send_batch('orders', '{1, 2, 3, 4, 5, 6}', group_keys => '{g, NULL, g, h, NULL, h}') id;
SELECT pg_temp.reads('orders') AS g;
SELECT pg_temp.reads('orders', 9);
SELECT pg_temp.reads('orders', 9);
SELECT count(mq.ack('orders', id)) FROM mq.orders WHERE group_key IS NULL;
SELECT pg_temp.there('orders');
SELECT mq.purge_queue('orders');

-- pop: the next may be taken in the same transaction, others wait for its end.
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) g;
SELECT body FROM mq.pop('orders');
SELECT body FROM mq.pop('orders', 3);
BEGIN;
SELECT body FROM mq.pop('orders');
SELECT body FROM mq.pop('orders');
SELECT body FROM mq.pop('orders');
ROLLBACK;
SELECT body FROM mq.pop('orders', 9);
SELECT body FROM mq.pop('orders', 9);

-- nack: a head that waits for its retry holds back its group only.
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) g;
SELECT pg_temp.reads('orders');
SELECT mq.nack('orders', pg_temp.id_of('orders', 'a1'), delay => '1 hour');
SELECT pg_temp.reads('orders', 9);
SELECT mq.release('orders', pg_temp.id_of('orders', 'b1')), mq.nack('orders', pg_temp.id_of('orders', 'b2'));
SELECT pg_temp.there('orders');
-- b3 is still held: b1, which was given back, waits for it.
SELECT pg_temp.reads('orders', 9);
SELECT mq.ack('orders', pg_temp.id_of('orders', 'b3'));
SELECT body, attempts, failures FROM mq.read('orders', 9);
SELECT mq.delete('orders', pg_temp.id_of('orders', 'a1'));
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');
-- With a short delay it comes back, and the others after it.
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 2) n, unnest('{a}'::text[]) g;
SELECT mq.nack('orders', id, receipt, delay => '20 ms') FROM mq.read('orders');
SELECT body, failures FROM mq.read('orders', 9, wait => '20 s');
SELECT mq.purge_queue('orders');

-- Each of the verbs makes way for the next.
SELECT count(mq.send_text('orders', 'm' || n, group_key => 'g')) FROM generate_series(1, 9) n;
SELECT mq.ack('orders', id, receipt) FROM mq.read('orders');
SELECT mq.archive('orders', id, receipt) FROM mq.read('orders');
SELECT mq.reject('orders', id, receipt) FROM mq.read('orders');
SELECT mq.delete('orders', id) FROM mq.read('orders');
SELECT mq.extend('orders', id, receipt, '1 hour') > clock_timestamp() AS extended FROM mq.read('orders');
SELECT pg_temp.reads('orders', 9) AS nothing;
DELETE FROM mq.orders WHERE body = '"m5"';
SELECT id FROM mq.read('orders') \gset
SELECT mq.release('orders', :id, delay => '30 ms');
SELECT pg_temp.reads('orders', 9) AS nothing;
SELECT body FROM mq.read('orders', wait => '20 s');
SELECT mq.ack('orders', :id);
SELECT pg_temp.reads('orders', 9);
SELECT body, group_key FROM mq.orders_archive;
SELECT mq.purge_queue('orders');
SELECT pg_temp.reads('orders', 9) AS nothing;
SELECT mq.send_text('orders', 'after', group_key => 'g') > 0 AS sent;
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');
-- The batches.
SELECT count(mq.send_text('orders', g || n, group_key => g)) FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) g;
SELECT array_agg(id) AS ids, array_agg(receipt) AS receipts FROM mq.read('orders', 4) \gset
SELECT count(*) FROM mq.release_batch('orders', :'ids', :'receipts');
SELECT array_agg(id) AS ids, array_agg(receipt) AS receipts FROM mq.read('orders', 4) \gset
SELECT count(*) FROM mq.nack_batch('orders', :'ids', :'receipts', delay => '0');
SELECT array_agg(id) AS ids, array_agg(receipt) AS receipts, string_agg(body #>> '{}', ' ') AS bodies FROM mq.read('orders', 4) \gset
SELECT :'bodies' AS bodies, count(*) FROM mq.ack_batch('orders', :'ids', :'receipts');
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');

-- A delayed head, and one that is delayed behind the head.
SELECT mq.send_text('orders', 'a1', group_key => 'a', delay => '1 hour') > 0 AS sent;
SELECT mq.send_text('orders', 'a2', group_key => 'a') > 0 AS sent;
SELECT mq.send_text('orders', 'b1', group_key => 'b') > 0 AS sent;
SELECT mq.send_text('orders', 'b2', group_key => 'b', delay => '1 hour') > 0 AS sent;
SELECT mq.send_text('orders', 'b3', group_key => 'b') > 0 AS sent;
SELECT pg_temp.reads('orders', 9);
SELECT mq.ack('orders', pg_temp.id_of('orders', 'b1'));
SELECT pg_temp.reads('orders', 9) AS nothing;
SELECT mq.delete('orders', pg_temp.id_of('orders', 'b2')), mq.delete('orders', pg_temp.id_of('orders', 'a1'));
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');

-- Within a group the id goes before the priority; among groups the priority counts.
SELECT mq.send_text('orders', 'a low', group_key => 'a', priority => 1) > 0 AS sent;
SELECT mq.send_text('orders', 'a high', group_key => 'a', priority => 9) > 0 AS sent;
SELECT mq.send_text('orders', 'b middle', group_key => 'b', priority => 5) > 0 AS sent;
SELECT mq.send_text('orders', 'c low', group_key => 'c', priority => 0) > 0 AS sent;
SELECT mq.send_text('orders', 'c default', group_key => 'c') > 0 AS sent;
SELECT body FROM mq.read('orders', visibility => '1 hour');
SELECT body FROM mq.read('orders', visibility => '1 hour');
SELECT body FROM mq.read('orders', visibility => '1 hour');
SELECT pg_temp.reads('orders', 9) AS nothing;
SELECT count(mq.release('orders', id)) FROM mq.orders WHERE state = 'leased';
UPDATE mq.orders SET priority = 2 WHERE body = '"a high"';
SELECT string_agg(body #>> '{}', ', ') FROM mq.read('orders', 9) GROUP BY group_key ORDER BY group_key;
SELECT mq.purge_queue('orders');

-- A head that expires or has failed too often is buried, and the next follows in the same read.
SELECT mq.create_queue('mortal', ordering => 'group', max_failures => 2);
SELECT mq.send_text('mortal', 'g1', group_key => 'g', ttl => '1 microsecond') > 0 AS sent;
SELECT mq.send_text('mortal', 'g2', group_key => 'g') > 0 AS sent;
SELECT mq.send_text('mortal', 'g3', group_key => 'g') > 0 AS sent;
SELECT mq.send_text('mortal', 'g4', group_key => 'g', ttl => '1 microsecond') > 0 AS sent;
SELECT mq.send_text('mortal', 'g5', group_key => 'g') > 0 AS sent;
SELECT pg_temp.reads('mortal');
SELECT mq.nack('mortal', pg_temp.id_of('mortal', 'g2'), reason => 'first');
SELECT body, failures FROM mq.read('mortal', visibility => '1 microsecond');
SELECT body, failures FROM mq.read('mortal', 9, visibility => '1 hour');
SELECT mq.nack('mortal', pg_temp.id_of('mortal', 'g3'), reason => 'first');
SELECT pg_temp.reads('mortal') AS g5_is_held;
SELECT mq.reject('mortal', pg_temp.id_of('mortal', 'g5'), reason => 'no good');
SELECT body, failures FROM mq.read('mortal', 9, visibility => '1 hour');
SELECT pg_temp.there('mortal');
-- The dead letters keep the group, also where their queue has none.
SELECT body, group_key, headers->'x-death'->0->>'reason' AS reason FROM mq.mortal_dead ORDER BY id;
SELECT ordering FROM mq.queues WHERE queue = 'mortal_dead';
-- Back into the group, at its end.
SELECT mq.send_text('mortal', 'g6', group_key => 'g') > 0 AS sent;
SELECT mq.redrive('mortal_dead', ids => ARRAY(SELECT id FROM mq.mortal_dead WHERE body IN ('"g2"', '"g5"')));
SELECT pg_temp.reads('mortal', 9) AS nothing;
SELECT mq.ack('mortal', pg_temp.id_of('mortal', 'g3'));
SELECT body, group_key, failures FROM mq.read('mortal', 9, '1 hour');
SELECT mq.redrive('mortal_dead', 'plain', max => 1);
SELECT mq.redrive('mortal_dead', 'orders');
SELECT body, group_key FROM mq.pop('orders', 9);
SELECT body, group_key FROM mq.pop('plain', 9);
-- By maintenance, too.
SELECT mq.purge_queue('mortal') > 0 AS purged;
SELECT mq.send_text('mortal', 'g1', group_key => 'g', ttl => '1 microsecond') > 0 AS sent;
SELECT mq.send_text('mortal', 'g2', group_key => 'g') > 0 AS sent;
SELECT pg_temp.pass(clock_timestamp() + '1 ms');
SELECT mq.maintain('mortal');
SELECT pg_temp.there('mortal');
SELECT pg_temp.reads('mortal');

-- drop_oldest takes what nobody holds.
SELECT mq.create_queue('short', ordering => 'group', max_length => 3, overflow => 'drop_oldest');
SELECT count(mq.send_text('short', 'g' || n, group_key => 'g')) FROM generate_series(1, 3) n;
SELECT pg_temp.reads('short');
SELECT mq.send_text('short', 'g4', group_key => 'g') > 0 AS sent;
SELECT pg_temp.there('short');
SELECT mq.ack('short', pg_temp.id_of('short', 'g1'));
SELECT pg_temp.reads('short', 9);

-- Deduplication does not ask for the group.
SELECT mq.send_text('orders', 'once', group_key => 'a', dedup_key => 'k') = mq.send_text('orders', 'twice', group_key => 'b', dedup_key => 'k') AS same;
SELECT body, group_key FROM mq.pop('orders', 9);

-- The view and an exchange take a group, too.
INSERT INTO mq.orders (body, group_key) VALUES ('"v1"', 'v'), ('"v2"', 'v'), ('"w"', NULL);
SELECT pg_temp.reads('orders');
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');
SELECT mq.create_exchange('news', 'fanout'), mq.bind('news', 'orders');
SELECT mq.publish('news', NULL, to_jsonb('n' || n), group_key => 'n') FROM generate_series(1, 3) n;
INSERT INTO mq.news (body, group_key) VALUES ('"n4"', 'n');
SELECT body, group_key FROM mq.read('orders', 2, '1 hour');
SELECT pg_temp.reads('orders', 9) AS nothing;
SELECT count(mq.ack('orders', id)) FROM mq.orders WHERE state = 'leased';
SELECT pg_temp.reads('orders', 9);
SELECT mq.purge_queue('orders');
-- A queue without groups refuses it for all.
SELECT mq.bind('news', 'plain');
SELECT mq.publish('news', NULL, '1', group_key => 'n');
SELECT count(*) FROM mq.orders;
SELECT mq.publish('news', NULL, '1');
SELECT mq.purge_queue('orders'), mq.purge_queue('plain');

-- Any text is a key: empty, long, of any letters; what differs at all is another group.
SELECT count(mq.send('orders', to_jsonb(n), group_key => k)) FROM generate_series(1, 2) n,
    unnest(ARRAY['', ' ', 'g', 'G', 'grün', '漢', repeat('x', 10000), repeat('x', 9999) || 'y']) k;
SELECT count(*), count(DISTINCT group_key), max(body::int) FROM mq.read('orders', 8);
SELECT count(*) FROM mq.read('orders', 8) AS others;
SELECT mq.purge_queue('orders');

-- Across savepoints.
BEGIN;
SELECT mq.send_text('orders', 's1', group_key => 's') > 0 AS sent;
SAVEPOINT a;
SELECT mq.send_text('orders', 's2', group_key => 's') > 0 AS sent;
SELECT pg_temp.reads('orders');
ROLLBACK TO a;
SELECT mq.send_text('orders', 's3', group_key => 's') > 0 AS sent;
SELECT pg_temp.reads('orders', 2);
COMMIT;
SELECT pg_temp.reads('orders', 2) AS nothing;
SELECT mq.purge_queue('orders');

-- In several segments, and beside them.
SELECT mq.create_queue('long', ordering => 'group', segment_size => 64);
CREATE PROCEDURE public.fill() LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 0 .. 9 LOOP
        PERFORM mq.send('long', to_jsonb(i * 32 + n), group_key => 'g' || n % 4) FROM generate_series(0, 31) n;
        COMMIT;
        PERFORM mq.maintain('long');
        COMMIT;
    END LOOP;
END $$;
CALL public.fill();
SELECT count(*) > 2 AS several FROM mq.segments WHERE queue = 'long' AND first_id IS NOT NULL;
SELECT count(*), min(group_key), max(group_key), max(body::int) FROM mq.read('long', 70, '1 hour');
SELECT pg_temp.reads('long', 1);
SELECT mq.nack('long', id, delay => '1 hour') FROM mq.long WHERE state = 'leased' AND group_key = 'g1';
SELECT count(mq.ack('long', id)) FROM mq.long WHERE state = 'leased' AND body::int < 240;
-- g0 is held in its last segments, the head of g1 waits in the first
SELECT count(*), min(group_key), max(group_key) FROM mq.pop('long', 1000);
SELECT mq.maintain('long') IS NOT NULL AS maintained FROM generate_series(1, 4);
SELECT count(*) FROM mq.pop('long', 1000);
SELECT count(*) FILTER (WHERE state = 'leased') AS leased, count(*) FILTER (WHERE state = 'delayed') AS delayed, count(*) FROM mq.long;
SELECT mq.extend('long', id, visibility => '1 microsecond') IS NOT NULL AS extended FROM mq.long WHERE state = 'leased' AND body = '240';
-- others of g0 are held
SELECT count(*) FROM mq.pop('long', 1000);
SELECT count(mq.release('long', id)) FROM mq.long WHERE read_at IS NOT NULL AND group_key = 'g0';
SELECT mq.delete('long', id) FROM mq.long WHERE state = 'delayed';
CALL public.fill();
CREATE PROCEDURE public.drain() LANGUAGE plpgsql AS $$
DECLARE
    last jsonb := '{}'; m mq.message; n int := 0;
BEGIN
    LOOP
        SELECT * INTO m FROM mq.pop('long', 1);
        EXIT WHEN m.id IS NULL;
        ASSERT coalesce((last->>m.group_key)::bigint, 0) < m.id, m::text;
        last := last || jsonb_build_object(m.group_key, m.id);
        n := n + 1;
        COMMIT;
        IF n % 20 = 0 THEN PERFORM mq.maintain('long'); COMMIT; END IF;
    END LOOP;
    RAISE INFO '% messages', n;
END $$;
CALL public.drain();
SELECT count(*) FROM mq.long;
DROP PROCEDURE public.drain, public.fill;

-- strict: all messages are one group, in the order of their ids.
SELECT count(mq.send_text('line', 'm' || n, priority => n)) FROM generate_series(1, 5) n;
SELECT group_key, body FROM mq.read('line', visibility => '1 hour');
SELECT pg_temp.reads('line', 9) AS nothing;
SELECT mq.nack('line', pg_temp.id_of('line', 'm1'), delay => '1 hour');
SELECT pg_temp.reads('line', 9) AS nothing;
SELECT mq.ack('line', pg_temp.id_of('line', 'm1')) AS not_held, mq.delete('line', pg_temp.id_of('line', 'm1'));
SELECT pg_temp.reads('line', 2);
SELECT pg_temp.reads('line', 9) AS nothing;
SELECT mq.ack('line', pg_temp.id_of('line', 'm2'));
SELECT pg_temp.reads('line', 9) AS nothing;
SELECT mq.ack('line', pg_temp.id_of('line', 'm3'));
BEGIN;
SELECT body FROM mq.pop('line');
SELECT body FROM mq.pop('line');
ROLLBACK;
SELECT body FROM mq.pop('line', 9);
SELECT mq.publish('news', NULL, '1') FROM mq.bind('news', 'line');
SELECT pg_temp.reads('line');

-- A queue that is renamed, paused, or of another owner keeps its groups.
SELECT mq.purge_queue('orders');
SELECT count(mq.send_text('orders', 'a' || n, group_key => 'a')) FROM generate_series(1, 3) n;
SELECT pg_temp.reads('orders');
SELECT mq.rename_queue('orders', 'orders2');
SELECT pg_temp.reads('orders2', 9) AS nothing;
SELECT mq.pause('orders2');
SELECT mq.ack('orders2', pg_temp.id_of('orders2', 'a1'));
SELECT pg_temp.reads('orders2', 9) AS nothing;
SELECT mq.resume('orders2');
SELECT pg_temp.reads('orders2', 1);
SELECT mq.drop_queue('orders2');

-- Many groups at a time.
SELECT mq.create_queue('many', ordering => 'group');
SELECT count(mq.send('many', to_jsonb(n), group_key => n::text)) FROM generate_series(0, 299) n;
SELECT count(mq.send('many', to_jsonb(n), group_key => (n % 300)::text)) FROM generate_series(300, 599) n;
BEGIN;
SELECT count(*), count(DISTINCT group_key), max(body::int) FILTER (WHERE body::int < 300) FROM mq.read('many', 600, '1 hour');
-- those that have none, too
SELECT count(*) FROM mq.read('many', 600, '1 hour');
SELECT mq.send('many', '"any"') > 0 AS sent;
SELECT pg_temp.reads('many', 600);
COMMIT;
SELECT count(*), count(DISTINCT group_key), min(body::int), max(body::int) FROM mq.read('many', 600, '1 hour');
SELECT count(*) FROM mq.read('many', 600, '1 hour');
SELECT count(mq.ack('many', id)) FROM mq.many WHERE state = 'leased';
SELECT count(*) FROM mq.many;
