-- isolation levels: reading and settling see the present, whatever the caller's snapshot; browsing sees the snapshot.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 6) n;

-- REPEATABLE READ: send, read, settle, browse. (Two sessions: see the isolation tests.)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM mq.orders;
SELECT mq.send('orders', '"own"', priority => 9) > 0 AS sent;
SELECT body FROM mq.read('orders');
SELECT id, receipt, body FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'again'), :body;
SELECT id, receipt, body, failures FROM mq.read('orders') \gset
SELECT mq.ack('orders', :id, :receipt), :body, :failures;
SELECT count(*) FROM mq.orders;
COMMIT;

-- SERIALIZABLE.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT mq.send('orders', '"serial"', priority => 9) > 0 AS sent;
SELECT body FROM mq.pop('orders');
SELECT mq.archive('orders', id, receipt), body FROM mq.read('orders');
SELECT mq.release('orders', id, receipt), body FROM mq.read('orders');
SELECT count(*) FROM mq.orders;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT mq.ack('orders', id, receipt), body FROM mq.read('orders', 10);
ROLLBACK;
SELECT count(*) FROM mq.orders WHERE state = 'ready';

-- READ COMMITTED, the usual.
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT mq.ack('orders', id, receipt), body FROM mq.read('orders', 10);
COMMIT;

-- READ ONLY, and SERIALIZABLE READ ONLY DEFERRABLE: browsing.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT count(*) FROM mq.orders;
SELECT queue FROM mq.queues;
SELECT queue, ready FROM mq.metrics;
COMMIT;
-- Set as a default, it is the same.
SET default_transaction_isolation = 'serializable';
SELECT mq.send('orders', '"default"') > 0 AS sent;
SELECT mq.ack('orders', id, receipt), body FROM mq.read('orders', wait => '1 s');
CALL mq.wait('orders', '1 ms', NULL);
SELECT mq.create_queue('serial'), mq.drop_queue('serial');
RESET default_transaction_isolation;

-- Changes of the caller's own transaction are seen by what comes next in it, at every level.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM mq.queues;
SELECT mq.create_queue('new', max_length => 2);
SELECT mq.send('new', '1') > 0 AS sent, mq.send('new', '2') > 0 AS sent;
SELECT mq.alter_queue('new', max_length => 3);
SELECT mq.send('new', '3', dedup_key => 'k') AS id \gset
SELECT mq.send('new', '4', dedup_key => 'k') = :id AS same;
SELECT body FROM mq.read('new', 10);
SELECT mq.purge_queue('new');
SELECT mq.drop_queue('new');
COMMIT;
