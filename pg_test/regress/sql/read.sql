-- read: hands out ready messages, each leased to the reader for a while.
\ir include/helpers.sql
SELECT mq.create_queue('orders');
SELECT count(*) FROM mq.send_batch('orders', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4}', '{"n": 5}']::jsonb[]);

-- One, for as long as the queue's visibility says: 30 s.
SELECT queue, body, data, headers, attempts, failures, last_error, priority, group_key, dedup_key, state,
       receipt IS NOT NULL AS receipt, read_at <= clock_timestamp() AS read,
       visible_at - read_at = interval '30 s' AS for_30_s, enqueued_at <= read_at AS sent_before
FROM mq.read('orders') \gx
-- Several, for an hour. In order, by priority and id; none twice.
SELECT body, visible_at - read_at AS leased FROM mq.read('orders', 2, '1 hour');
SELECT body FROM mq.read(queue => 'orders', qty => 100, visibility => '1 hour');
-- Nothing is left: no rows. They are all still there.
SELECT * FROM mq.read('orders');
SELECT body, state, attempts FROM mq.orders ORDER BY id;

-- Every hand-out has a receipt of its own, of 53 bits, so that every driver can carry it.
SELECT count(mq.release('orders', id)) FROM mq.orders;
SELECT count(DISTINCT receipt), min(receipt) >= 0 AND max(receipt) < 2 ^ 53 AS fits, max(receipt) > 2 ^ 40 AS random
FROM mq.read('orders', 5);
SELECT state, count(*), max(attempts) AS attempts, max(failures) AS failures FROM mq.orders GROUP BY state;

-- NULL for an optional argument means its default.
SELECT count(mq.release('orders', id)) FROM mq.orders;
SELECT body, visible_at - read_at AS leased FROM mq.read('orders', NULL, NULL, NULL);

-- A lease that ends makes the message ready again. It counts as a failure.
SELECT mq.create_queue('one');
SELECT mq.send('one', '1') > 0 AS sent;
SELECT attempts, failures FROM mq.read('one', 1, '1 microsecond');
SELECT attempts, failures, state FROM mq.one;
SELECT attempts, failures, last_error FROM mq.read('one');

-- A read that rolls back returns its messages at once: no lease, no attempt.
SELECT mq.create_queue('two');
SELECT mq.send('two', '1') > 0 AS sent;
BEGIN;
SELECT body, attempts FROM mq.read('two');
ROLLBACK;
SELECT attempts, state FROM mq.two;
-- The messages that the transaction has just sent itself can be read.
BEGIN;
SELECT mq.send('two', '"own"', priority => 9) > 0 AS sent;
SELECT body FROM mq.read('two');
ROLLBACK;

-- Reading nothing takes no transaction id, and no lock on a row.
SELECT mq.create_queue('empty');
BEGIN;
SELECT count(*) FROM mq.read('empty', 10);
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
SELECT count(*) FROM mq.pop('empty', 10);
SELECT count(*) FROM mq.read('empty', 10, wait => '1 ms');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;

-- wait: up to that long for a message; what is there comes at once.
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM mq.read('empty', wait => '50 ms');
SELECT clock_timestamp() - :'before' >= interval '50 ms' AS waited;
SELECT mq.send('empty', '1') > 0 AS sent;
SELECT clock_timestamp() AS before \gset
SELECT body FROM mq.read('empty', wait => '20 s');
SELECT clock_timestamp() - :'before' < interval '10 s' AS at_once;
-- A message that becomes ready meanwhile is taken: a delayed one, or one whose lease ends.
SELECT mq.send('empty', '"delayed"', delay => '50 ms') > 0 AS sent;
SELECT body FROM mq.read('empty', visibility => '50 ms', wait => '20 s');
SELECT body, attempts FROM mq.read('empty', wait => '20 s');

-- It may stand in a query like any function. What it returns is taken, also if the query throws it away.
SELECT mq.create_queue('three');
SELECT count(*) FROM mq.send_batch('three', '{1,2,3}');
SELECT count(*) FROM mq.read('three', 3) WHERE body = '2';
SELECT state, count(*) FROM mq.three GROUP BY state;

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT * FROM mq.read(NULL) $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('nowhere') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', 0) $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', -1) $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', visibility => '0') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', visibility => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', visibility => '-1 month') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', visibility => '300000 years') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', wait => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', wait => '21 s') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('three', 1, 30) $$);
-- As many as there are, however many are asked for.
SELECT count(*) FROM mq.read('three', 2147483647);
