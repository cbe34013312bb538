-- mq.queues, mq.metrics, mq.status(), mq.version(): what there is, and how it goes.
\ir include/helpers.sql

-- Nothing yet.
SELECT * FROM mq.queues;
SELECT * FROM mq.metrics;
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'mq' AND table_name = 'queues' ORDER BY ordinal_position;
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'mq' AND table_name = 'metrics' ORDER BY ordinal_position;

SELECT mq.create_queue('orders', max_failures => 2, visibility => '1 hour');
SELECT queue, ready, delayed, leased, oldest_ready_age, estimated, sent, delivered, acked, failed, dead, expired,
       since <= clock_timestamp() AS since
FROM mq.metrics WHERE queue = 'orders' \gx

-- Ready, delayed, leased: as the view's state says. Expired ones are none of these.
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 10) n;
SELECT count(mq.send('orders', to_jsonb(n), delay => '1 hour')) FROM generate_series(1, 3) n;
SELECT count(*) FROM mq.read('orders', 2);
SELECT mq.send('orders', '"expired"', ttl => '1 microsecond') > 0 AS sent;
SELECT ready, delayed, leased, oldest_ready_age > '0' AS age, estimated FROM mq.metrics WHERE queue = 'orders';
SELECT state, count(*) FROM mq.orders GROUP BY state ORDER BY state;
-- A lease that ended counts as ready.
SELECT count(*) FROM mq.read('orders', 3, '1 microsecond');
SELECT ready, delayed, leased FROM mq.metrics WHERE queue = 'orders';
-- The age is that of the oldest ready one, from when it was sent.
SELECT m.oldest_ready_age BETWEEN clock_timestamp() - o.oldest - interval '5 s' AND clock_timestamp() - o.oldest AS right
FROM mq.metrics m, (SELECT min(enqueued_at) AS oldest FROM mq.orders WHERE state = 'ready') o WHERE queue = 'orders';

-- Totals: what was committed since the server keeps count.
SELECT mq.purge_queue('orders') > 0 AS emptied;
SELECT mq.create_queue('mails', max_failures => 2, visibility => '1 hour');
SELECT count(mq.send('mails', to_jsonb(n))) FROM generate_series(1, 7) n;
BEGIN;
SELECT mq.send('mails', '1') > 0 AS sent;
ROLLBACK;
SELECT mq.ack('mails', id) FROM mq.read('mails');
SELECT mq.archive('mails', id) FROM mq.read('mails');
SELECT body FROM mq.pop('mails');
SELECT mq.nack('mails', id) FROM mq.read('mails');
SELECT mq.nack('mails', id) FROM mq.read('mails');
SELECT mq.reject('mails', id) FROM mq.read('mails');
SELECT mq.release('mails', id) FROM mq.read('mails');
SELECT mq.send('mails', '"expired"', ttl => '1 microsecond') > 0 AS sent;
SELECT mq.maintain('mails') AS expired;
BEGIN;
SELECT count(*) FROM mq.read('mails');
ROLLBACK;
SELECT queue, ready, leased, sent, delivered, acked, failed, dead, expired FROM mq.metrics WHERE queue LIKE 'mails%' ORDER BY queue;

-- Counts of a large queue are exact; without hints they are estimated, rather than counted at every look.
SELECT mq.create_queue('large');
SELECT count(*) FROM mq.send_batch('large', (SELECT array_agg('1'::jsonb) FROM generate_series(1, 20000)));
SELECT count(*) FROM mq.read('large', 50);
SELECT ready, leased, estimated, waiters FROM mq.metrics WHERE queue = 'large';
SET pg_broker.hints = off;
SELECT estimated, ready > 9000 AS many FROM mq.metrics WHERE queue = 'large';
RESET pg_broker.hints;

-- A pause shows; a paused queue's messages are ready all the same.
SELECT mq.pause('large', until => '2100-01-01');
SELECT paused, paused_until FROM mq.queues WHERE queue = 'large';

-- mq.status(): one row. mq.version(): the extension's.
SELECT version = mq.version() AS same_version, preloaded, worker_pid, last_maintenance FROM mq.status();
SELECT mq.version() = extversion AS installed FROM pg_extension WHERE extname = 'pg_broker';
SELECT mq.version();
SELECT warnings FROM mq.status();
SELECT mq.maintain() >= 0 AS maintained;
SELECT last_maintenance <= clock_timestamp() AS maintained FROM mq.status();

-- They are to be looked at.
INSERT INTO mq.queues (queue) VALUES ('mine');
UPDATE mq.queues SET visibility = '1 s';
DELETE FROM mq.queues;
