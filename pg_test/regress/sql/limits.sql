-- Limits to handing out: how fast, and how many at a time.
\ir include/helpers.sql

-- A rate: no more than the burst at once.
SELECT mq.create_queue('slow', rate_limit => 4, rate_interval => '1 hour', rate_burst => 3);
SELECT count(mq.send('slow', to_jsonb(n))) FROM generate_series(1, 9) n;
SELECT body FROM mq.read('slow');
SELECT body FROM mq.pop('slow', 9);
SELECT count(*) FROM mq.read('slow', 9);
SELECT count(*) FROM mq.pop('slow');
CALL mq.wait('slow', '10 ms', NULL);
-- What is given back has used its token, and so has what is rolled back.
SELECT mq.release('slow', id) FROM mq.slow WHERE state = 'leased';
SELECT count(*) FROM mq.read('slow');
-- Settling, sending and browsing are as ever.
SELECT mq.send('slow', '10') > 0 AS sent;
SELECT count(*) FROM mq.slow WHERE state = 'ready';
SELECT mq.alter_queue('slow', reset => '{rate_limit}');
SELECT count(*) FROM mq.read('slow', 9);
SELECT rate_limit, rate_interval, rate_burst FROM mq.queues WHERE queue = 'slow';

-- For each key apart: of the others none is lost, and none is out of order.
SELECT mq.create_queue('keyed', rate_limit => 1, rate_interval => '1 hour', rate_burst => 2, rate_key => 'customer');
SELECT count(mq.send('keyed', to_jsonb(c || n), jsonb_build_object('customer', c)))
FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) c;
SELECT count(mq.send('keyed', to_jsonb('none ' || n))) FROM generate_series(1, 3) n;
SELECT mq.send('keyed', '"number"', '{"customer": 7}') > 0 AS sent;
SELECT body FROM mq.read('keyed', 20);
SELECT count(*) FROM mq.read('keyed', 20);
SELECT mq.send('keyed', '"c1"', '{"customer": "c"}') > 0 AS sent;
SELECT body FROM mq.read('keyed', 20);
-- Once without limits, all of them.
SELECT mq.alter_queue('keyed', reset => '{rate_limit,rate_interval,rate_burst,rate_key}');
SELECT body FROM mq.read('keyed', 20);

-- By the group.
SELECT mq.create_queue('grouped', ordering => 'group', rate_limit => 1, rate_interval => '1 hour', rate_key => 'group_key', group_max_in_flight => 2);
SELECT queue, ordering, rate_limit, rate_interval, rate_burst, rate_key, max_in_flight, group_max_in_flight
FROM mq.queues WHERE queue = 'grouped';
SELECT count(mq.send('grouped', to_jsonb(g || n), group_key => g))
FROM generate_series(1, 3) n, unnest('{a,b}'::text[]) g;
SELECT body FROM mq.read('grouped', 9) ORDER BY 1;
SELECT count(*) FROM mq.read('grouped', 9);
SELECT mq.ack('grouped', id) FROM mq.grouped WHERE state = 'leased' ORDER BY id;
SELECT count(*) FROM mq.read('grouped', 9);
-- A read takes no more of a group than this, in a row; others of it wait for these.
SELECT mq.alter_queue('grouped', reset => '{rate_limit,rate_key}');
SELECT count(mq.send('grouped', to_jsonb('c' || n), group_key => 'c')) FROM generate_series(1, 3) n;
SELECT body FROM mq.read('grouped', 9) ORDER BY 1;
SELECT count(*) FROM mq.read('grouped', 9);
SELECT mq.ack('grouped', id) FROM mq.grouped WHERE body = '"c1"';
SELECT count(*) FROM mq.read('grouped', 9);
SELECT mq.ack('grouped', id) FROM mq.grouped WHERE body = '"c2"';
SELECT body FROM mq.read('grouped', 9);

-- In flight.
SELECT mq.create_queue('few', max_in_flight => 3);
SELECT count(mq.send('few', to_jsonb(n))) FROM generate_series(1, 9) n;
SELECT body FROM mq.read('few', 2);
SELECT body FROM mq.read('few', 9);
SELECT count(*) FROM mq.read('few', 9);
SELECT count(*) FROM mq.pop('few', 9);
CALL mq.wait('few', '10 ms', NULL);
SELECT mq.ack('few', id) FROM mq.few WHERE body = '2';
SELECT body FROM mq.pop('few', 9);
SELECT body FROM mq.pop('few', 9);
SELECT body, mq.nack('few', id, receipt, delay => '1 hour') FROM mq.read('few', 9);
SELECT body FROM mq.read('few', 9);
-- Also in one transaction.
SELECT mq.release('few', id) FROM mq.few WHERE state = 'leased' ORDER BY id;
BEGIN;
SELECT body FROM mq.read('few', 9);
SELECT mq.ack('few', id) FROM mq.few WHERE state = 'leased' ORDER BY id;
SELECT count(*) FROM mq.read('few', 9);
ROLLBACK;
SELECT body FROM mq.read('few', 9);
SELECT mq.alter_queue('few', max_in_flight => 4);
SELECT body FROM mq.read('few', 9);
SELECT max_in_flight FROM mq.queues WHERE queue = 'few';

-- Refused, and nothing changed.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 1, rate_interval => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 1, rate_interval => '400 days') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 1, rate_burst => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 1, rate_key => '') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_burst => 5) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_key => 'k') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', max_in_flight => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', group_max_in_flight => 5) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', ordering => 'group', group_max_in_flight => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('no', rate_limit => 1, rate_key => 'group_key') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('few', rate_limit => 1, rate_key => 'group_key') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('few', rate_interval => '1 s') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('few', max_in_flight => 1, reset => '{max_in_flight}') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('few', group_max_in_flight => 1) $$);
