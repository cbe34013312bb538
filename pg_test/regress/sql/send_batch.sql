-- send_batch: many messages in one call, ids in the order given.
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- Bodies alone.
SELECT count(*), count(DISTINCT id), array_agg(id) = array_agg(id ORDER BY id) AS increasing
FROM mq.send_batch('orders', ARRAY['1', '{"n": 2}', 'null']::jsonb[]) id;
SELECT body, priority, state FROM mq.read('orders', 10);

-- Headers and keys one for one, the scalars for all. NULL in headers or keys: none.
SELECT count(*) FROM mq.send_batch('orders', bodies => ARRAY['1', '2', '3']::jsonb[],
    headers => ARRAY['{"h": 1}', NULL, '{"h": 3}']::jsonb[], group_keys => NULL,
    dedup_keys => ARRAY['a', NULL, 'c'], delay => '1 hour', priority => 8, ttl => '1 day');
SELECT body, headers, dedup_key, priority, state, expires_at > visible_at AS expires
FROM mq.orders WHERE state = 'delayed' ORDER BY id;
-- By position.
SELECT count(*) FROM mq.send_batch('orders', ARRAY['4']::jsonb[], NULL, NULL, NULL, NULL, '2100-01-01', 0, NULL);
SELECT body, visible_at, priority FROM mq.orders WHERE body = '4';

-- A duplicate returns the winner's id in its place, of an earlier call or of this one.
SELECT mq.send('orders', '"winner"', dedup_key => 'k') AS winner \gset
SELECT nr, id = :winner AS winner, id = first_value(id) OVER (PARTITION BY key ORDER BY nr) AS first_of_its_key
FROM mq.send_batch('orders', ARRAY['"x"', '"y"', '"z"', '"x again"']::jsonb[], dedup_keys => ARRAY['x', 'k', NULL, 'x'])
     WITH ORDINALITY AS sent(id, nr)
JOIN unnest(ARRAY['x', 'k', 'z', 'x']) WITH ORDINALITY AS keys(key, nr) USING (nr) ORDER BY nr;
SELECT body, dedup_key FROM mq.orders WHERE body IN ('"winner"', '"x"', '"y"', '"z"', '"x again"') ORDER BY id;

-- Nothing to send: no rows. An id for each otherwise, however many.
SELECT mq.send_batch('orders', '{}');
SELECT mq.create_queue('many');
SELECT count(*) FROM mq.send_batch('many', (SELECT array_agg(to_jsonb(n) ORDER BY n) FROM generate_series(1, 5000) n));
SELECT count(*), array_agg(body::int ORDER BY id) = array_agg(body::int ORDER BY body::int) AS in_order FROM mq.many;
-- Arrays need not begin at 1.
SELECT count(*) FROM mq.send_batch('many', '[5:6]={1,2}'::jsonb[], headers => '[0:1]={"{}","{}"}'::jsonb[]);

-- Refused, and nothing of it is sent.
SELECT mq.purge_queue('orders') > 0 AS emptied;
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch(NULL, '{1}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('nowhere', '{1}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('nowhere', '{}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,NULL}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{{1,2},{3,4}}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', headers => ARRAY['{}']::jsonb[]) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', headers => '{}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', headers => ARRAY['{}', '[]']::jsonb[]) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', headers => ARRAY['{}', 'null']::jsonb[]) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', headers => ARRAY[['{}', '{}']]::jsonb[]) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', dedup_keys => '{a}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', dedup_keys => '{{a,b}}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', group_keys => '{g}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', group_keys => '{g,h}') $$);
-- group keys that are all null are none
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1,2}', group_keys => '{NULL,NULL}') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1}', delay => '-1s') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1}', delay => '1s', deliver_at => '2100-01-01') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1}', priority => 10) $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('orders', '{1}', ttl => '0') $$);
SELECT count(*) FROM mq.orders;
