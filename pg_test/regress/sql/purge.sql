-- purge_queue: empties a queue, and tells how many messages went.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 3);
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 10) n;
SELECT id, receipt FROM mq.read('orders', 1, '1 hour') \gset
SELECT mq.send('orders', '"delayed"', delay => '1 hour') > 0, mq.send('orders', '"expired"', ttl => '1 microsecond') > 0;

-- Ready, delayed, leased, expired: all of them.
SELECT mq.purge_queue('orders');
SELECT count(*) FROM mq.orders;
SELECT mq.ack('orders', :id, :receipt);
SELECT mq.purge_queue('orders');
-- Neither archived, nor dead-lettered, nor counted as either.
SELECT (SELECT count(*) FROM mq.orders_archive) AS archived, (SELECT count(*) FROM mq.orders_dead) AS dead;
SELECT ready, delayed, leased, acked, dead, expired FROM mq.metrics WHERE queue = 'orders';
-- Ids go on.
SELECT mq.send('orders', '1') > :id AS increasing;

-- Part of its transaction.
BEGIN;
SELECT mq.purge_queue('orders');
ROLLBACK;
SELECT count(*) FROM mq.orders;
BEGIN;
SELECT mq.send('orders', '"own"') > 0 AS sent;
SELECT mq.purge_queue('orders');
COMMIT;
SELECT count(*) FROM mq.orders;

-- The archive and the dead-letter queue are not touched.
SELECT mq.send('orders', '1') > 0 AS sent, mq.send('orders_dead', '2') > 0 AS sent;
SELECT mq.archive('orders', id) FROM mq.read('orders');
SELECT mq.purge_queue('orders');
SELECT (SELECT count(*) FROM mq.orders_archive) AS archived, (SELECT count(*) FROM mq.orders_dead) AS dead;

SELECT mq.purge_queue(NULL);
SELECT mq.purge_queue('nowhere');
SELECT mq.purge_queue('orders_archive');
