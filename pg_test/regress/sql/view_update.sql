-- UPDATE on the view: the owner repairs messages in place, while nobody holds them.
\ir include/helpers.sql
SELECT mq.create_queue('orders');
SELECT count(*) FROM mq.send_batch('orders', ARRAY['{"to": "Berlim"}', '{"to": "Paris"}', '{"to": "Rome"}', '{"to": "Oslo"}']::jsonb[]);

-- The body, of what matches.
UPDATE mq.orders SET body = jsonb_set(body, '{to}', '"Berlin"') WHERE body ->> 'to' = 'Berlim' RETURNING body;
-- Nothing matches: nothing happens.
UPDATE mq.orders SET body = '1' WHERE body ->> 'to' = 'Madrid';
-- Headers, priority, expiry; and back to none.
UPDATE mq.orders SET headers = '{"repaired": true}', priority = 9, expires_at = '2100-01-01' WHERE body ->> 'to' = 'Rome'
RETURNING body, headers, priority, expires_at, state;
UPDATE mq.orders SET headers = NULL, expires_at = NULL WHERE body ->> 'to' = 'Rome' RETURNING headers, priority, expires_at;
-- From one kind of payload to the other.
UPDATE mq.orders SET body = NULL, data = '\x01' WHERE body ->> 'to' = 'Oslo' RETURNING body, data;
UPDATE mq.orders SET body = '{"to": "Oslo"}', data = NULL WHERE data = '\x01' RETURNING body, data;
-- Setting a column to what it is, is no change.
UPDATE mq.orders SET attempts = attempts, state = state, body = body WHERE body ->> 'to' = 'Oslo' RETURNING body, attempts;

-- It is what readers get, in the new order.
SELECT body, priority, attempts FROM mq.read('orders', 2);

-- What somebody holds cannot be changed,
UPDATE mq.orders SET body = '1' WHERE body ->> 'to' = 'Rome';
-- not even together with others: nothing of it happens.
UPDATE mq.orders SET priority = 0;
SELECT body, priority FROM mq.orders ORDER BY id;
-- Once it is given back, it can. Delayed messages can at any time.
SELECT mq.release('orders', id) FROM mq.orders WHERE body ->> 'to' = 'Rome';
UPDATE mq.orders SET body = '{"to": "Roma"}' WHERE body ->> 'to' = 'Rome' RETURNING body, attempts, failures, state;
SELECT mq.send('orders', '"delayed"', delay => '1 hour') > 0 AS sent;
UPDATE mq.orders SET body = '"still delayed"' WHERE body = '"delayed"' RETURNING body, state;
-- A lease that has ended is none.
SELECT body FROM mq.read('orders', 1, '1 microsecond');
UPDATE mq.orders SET headers = '{"repaired": true}' WHERE body ->> 'to' = 'Roma' RETURNING body, headers, attempts, failures;
-- Expired ones can be given more time.
SELECT mq.send('orders', '"expired"', ttl => '1 microsecond') AS expired \gset
UPDATE mq.orders SET expires_at = '2100-01-01' WHERE id = :expired RETURNING body, state;

\pset format unaligned
\pset tuples_only on
-- Everything else is refused, with a hint that says what does it.
SELECT pg_temp.failing(format('UPDATE mq.orders SET %I = %s WHERE id = %s', attname, value, :expired))
FROM pg_attribute JOIN (VALUES ('id', '7'), ('receipt', '7'), ('queue', '''x'''), ('attempts', '7'), ('failures', '7'),
    ('last_error', '''x'''), ('group_key', '''x'''), ('dedup_key', '''x'''), ('enqueued_at', 'now()'), ('visible_at', 'now()'),
    ('read_at', 'now()'), ('state', '''leased''')) AS given(attname, value) USING (attname)
WHERE attrelid = 'mq.orders'::regclass ORDER BY attnum;
-- The rules for messages hold.
SELECT pg_temp.failing(format('UPDATE mq.orders SET body = NULL WHERE id = %s', :expired));
SELECT pg_temp.failing(format('UPDATE mq.orders SET data = ''\x01'' WHERE id = %s', :expired));
SELECT pg_temp.failing(format('UPDATE mq.orders SET headers = ''[]'' WHERE id = %s', :expired));
SELECT pg_temp.failing(format('UPDATE mq.orders SET priority = 10 WHERE id = %s', :expired));
SELECT pg_temp.failing(format('UPDATE mq.orders SET body = to_jsonb(repeat(''x'', 1048577)) WHERE id = %s', :expired));

-- NULL means the default, and an expiry at infinity none.
UPDATE mq.orders SET priority = NULL, expires_at = 'infinity' WHERE id = :expired;
SELECT priority, expires_at, state FROM mq.orders WHERE id = :expired;

-- Only the owner repairs: a worker, who has UPDATE to consume, does not rewrite messages.
CREATE ROLE view_update_worker;
GRANT SELECT, UPDATE ON mq.orders TO view_update_worker;
SET ROLE view_update_worker;
SELECT pg_temp.failing($$ UPDATE mq.orders SET body = '1' $$);
SELECT pg_temp.failing($$ UPDATE mq.orders SET attempts = 0 $$);
SELECT body FROM mq.orders WHERE body = '1';
RESET ROLE;
-- An owner who is not a superuser may.
GRANT EXECUTE ON FUNCTION mq.create_queue TO view_update_worker;
SET ROLE view_update_worker;
SELECT mq.create_queue('own'), mq.send('own', '1') > 0;
UPDATE mq.own SET body = '2' RETURNING body;
RESET ROLE;
DROP OWNED BY view_update_worker CASCADE;
DROP ROLE view_update_worker;
