-- pop: reads and removes in one step.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 3);
SELECT count(*) FROM mq.send_batch('orders', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4}']::jsonb[]);
SELECT mq.send('orders', '"urgent"', priority => 9) > 0 AS sent;

-- One; several; in order; as many as there are.
SELECT queue, body, data, headers, attempts, failures, last_error, priority, dedup_key,
       receipt, read_at <= clock_timestamp() AS read
FROM mq.pop('orders') \gx
SELECT body FROM mq.pop('orders', 2);
SELECT count(*) FROM mq.orders;
SELECT body FROM mq.pop(queue => 'orders', qty => 100);
SELECT count(*) FROM mq.pop('orders');
SELECT (SELECT count(*) FROM mq.orders), (SELECT count(*) FROM mq.orders_archive) AS archived;

-- Only what is ready.
SELECT mq.send('orders', '"delayed"', delay => '1 hour') > 0, mq.send('orders', '"expired"', ttl => '1 microsecond') > 0,
       mq.send('orders', '"leased"') > 0;
SELECT body FROM mq.read('orders');
SELECT count(*) FROM mq.pop('orders', 10);
SELECT mq.purge_queue('orders') > 0 AS emptied;

-- Inside the transaction that does the work: exactly once, for everything in this database.
CREATE TABLE done (n int PRIMARY KEY);
SELECT mq.send('orders', '{"n": 7}') > 0 AS sent;
BEGIN;
INSERT INTO done SELECT (body ->> 'n')::int FROM mq.pop('orders');
ROLLBACK;
SELECT count(*) FROM done;
SELECT body, state FROM mq.orders;
BEGIN;
INSERT INTO done SELECT (body ->> 'n')::int FROM mq.pop('orders');
COMMIT;
SELECT (SELECT count(*) FROM done) AS done, (SELECT count(*) FROM mq.orders) AS left_over;

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT * FROM mq.pop(NULL) $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.pop('nowhere') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.pop('orders', 0) $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.pop('orders', -1) $$);
SELECT count(*) FROM mq.pop('orders', NULL);
