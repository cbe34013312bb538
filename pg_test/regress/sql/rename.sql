-- rename_queue: another name for the same queue.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 2, visibility => '1 hour');
CREATE ROLE rename_worker;
GRANT SELECT, UPDATE ON mq.orders TO rename_worker;
SELECT mq.send('orders', '1', dedup_key => 'k') AS id \gset
SELECT mq.send('orders', '2') > 0 AS sent;
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.archive('orders', id) FROM mq.read('orders');

SELECT mq.rename_queue('orders', 'invoices');
-- Messages, leases, keys, archive, options, grants: all there under the new name.
SELECT body, queue, state FROM mq.invoices;
SELECT body, queue FROM mq.invoices_archive;
SELECT mq.send('invoices', '3', dedup_key => 'k') = :id AS same;
SELECT mq.ack('invoices', :id, :receipt);
SELECT queue, visibility, max_failures, dead_letter FROM mq.queues ORDER BY queue;
SET ROLE rename_worker;
SELECT count(*) FROM mq.read('invoices');
RESET ROLE;
-- The old name is free, for a queue of its own.
SELECT mq.send('orders', '1');
SELECT mq.create_queue('orders', dead_letter => 'invoices');
SELECT mq.send('orders', '"new"') > 0 AS sent;
SELECT (SELECT count(*) FROM mq.orders) AS orders, (SELECT count(*) FROM mq.invoices) AS invoices;

-- Renaming a dead-letter queue: those that use it follow.
SELECT mq.rename_queue('orders_dead', 'trouble');
SELECT queue, dead_letter FROM mq.queues ORDER BY queue;
SELECT mq.send('invoices', '"bad"') > 0 AS sent;
SELECT mq.reject('invoices', id, receipt) FROM mq.read('invoices');
SELECT body, queue FROM mq.trouble;

-- Prepared statements and functions that were used before, still find it; or not, by its old name.
PREPARE look AS SELECT count(*) FROM mq.trouble;
EXECUTE look;
SELECT mq.rename_queue('trouble', 'worry');
EXECUTE look;
SELECT mq.rename_queue('worry', 'trouble');

-- Part of its transaction; and there and back.
BEGIN;
SELECT mq.rename_queue('trouble', 'other');
SELECT mq.send('other', '1') > 0 AS sent;
ROLLBACK;
SELECT mq.send('other', '1');
SELECT mq.send('trouble', '1') > 0 AS sent;

-- To a name that is taken: a queue's, an archive's, or its own archive's.
SELECT mq.rename_queue('trouble', 'orders');
SELECT mq.rename_queue('trouble', 'orders_archive');
SELECT mq.rename_queue('trouble', 'trouble');
SELECT mq.create_queue('late_archive');
SELECT mq.rename_queue('trouble', 'late');
SELECT mq.rename_queue('nowhere', 'somewhere');
SELECT mq.rename_queue(NULL, 'x');
SELECT mq.rename_queue('trouble', NULL);
SELECT queue FROM mq.queues ORDER BY queue;
REVOKE ALL ON mq.invoices FROM rename_worker;
DROP ROLE rename_worker;
