-- pause: readers get nothing; everything else goes on.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour', max_failures => 2);
SELECT mq.send('orders', '1') > 0, mq.send('orders', '2') > 0, mq.send('orders', '3') > 0;
SELECT id, receipt FROM mq.read('orders') \gset

SELECT mq.pause('orders');
SELECT queue, paused, paused_until FROM mq.queues ORDER BY queue;
SELECT count(*) FROM mq.read('orders');
SELECT count(*) FROM mq.pop('orders');
SELECT count(*) FROM mq.read('orders', wait => '10 ms');
-- Sending, browsing, settling, extending, repairing, deleting work.
SELECT mq.send('orders', '4') > 0 AS sent;
SELECT body, state FROM mq.orders ORDER BY id;
SELECT mq.extend('orders', :id, :receipt, '2 hours') > clock_timestamp() AS extended;
SELECT mq.ack('orders', :id, :receipt);
UPDATE mq.orders SET body = '"four"' WHERE body = '4';
SELECT mq.delete('orders', id) FROM mq.orders WHERE body = '3';
-- Pausing again is no error; resuming gives out what is there.
SELECT mq.pause('orders');
SELECT mq.resume('orders');
SELECT paused, paused_until FROM mq.queues WHERE queue = 'orders';
SELECT body FROM mq.read('orders', 10);
SELECT mq.resume('orders');

-- Until a moment: it ends by itself.
SELECT mq.send('orders', '5') > 0 AS sent;
SELECT mq.pause('orders', until => '2100-01-01');
SELECT paused, paused_until FROM mq.queues WHERE queue = 'orders';
SELECT count(*) FROM mq.read('orders');
SELECT mq.pause('orders', until => clock_timestamp() + interval '30 ms');
SELECT paused_until AS over FROM mq.queues WHERE queue = 'orders' \gset
SELECT count(*) FROM mq.read('orders');
SELECT pg_temp.pass(:'over');
SELECT paused FROM mq.queues WHERE queue = 'orders';
SELECT body FROM mq.read('orders', 10);
-- A waiting reader gets it then.
SELECT mq.send('orders', '6') > 0 AS sent;
SELECT mq.pause('orders', until => clock_timestamp() + interval '30 ms');
SELECT body FROM mq.read('orders', wait => '20 s');
-- Without a moment again: until resumed.
SELECT mq.pause('orders', until => '2100-01-01'), mq.pause('orders');
SELECT paused, paused_until FROM mq.queues WHERE queue = 'orders';

-- Part of its transaction.
BEGIN;
SELECT mq.resume('orders');
ROLLBACK;
SELECT paused FROM mq.queues WHERE queue = 'orders';
SELECT mq.resume('orders');

-- A moment that is past is refused; infinity is until resumed.
SELECT mq.pause('orders', until => '2001-01-01');
SELECT mq.pause('orders', until => 'infinity');
SELECT paused, paused_until FROM mq.queues WHERE queue = 'orders';
SELECT mq.pause('orders', until => '-infinity');
SELECT mq.pause(NULL);
SELECT mq.pause('nowhere');
SELECT mq.resume(NULL);
SELECT mq.resume('nowhere');
SELECT paused FROM mq.queues WHERE queue = 'orders';
