-- PREPARE TRANSACTION: sends, reads and settlements wait for the second phase.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT mq.send('orders', '"ready"') AS ready \gset

-- A send is there once it is committed.
BEGIN;
SELECT mq.send('orders', '"prepared"', dedup_key => 'k') > 0 AS sent;
PREPARE TRANSACTION 'two_phase_send';
SELECT body FROM mq.orders;
SELECT body FROM mq.read('orders', 10);
SELECT mq.release('orders', :ready);
COMMIT PREPARED 'two_phase_send';
SELECT body FROM mq.read('orders', 10);
-- Or never.
BEGIN;
SELECT mq.send('orders', '"given up"') > 0 AS sent;
PREPARE TRANSACTION 'two_phase_send';
ROLLBACK PREPARED 'two_phase_send';
SELECT count(mq.release('orders', id)) FROM mq.orders;
SELECT body FROM mq.orders ORDER BY id;

-- A read keeps its message to itself, whether the lease is seen or not.
BEGIN;
SELECT body FROM mq.read('orders');
PREPARE TRANSACTION 'two_phase_read';
SELECT body FROM mq.read('orders');
SELECT count(*) FROM mq.read('orders');
SELECT mq.ack('orders', :ready), mq.nack('orders', :ready);
ROLLBACK PREPARED 'two_phase_read';
SELECT body FROM mq.read('orders');

-- A pop or an ack.
BEGIN;
SELECT mq.ack('orders', :ready);
PREPARE TRANSACTION 'two_phase_ack';
SELECT mq.ack('orders', :ready) AS somebody_elses;
COMMIT PREPARED 'two_phase_ack';
SELECT body FROM mq.orders;

-- A dead letter, an archived message, a new queue.
BEGIN;
SELECT mq.create_queue('new', max_failures => 1);
SELECT mq.send('new', '1') > 0 AS sent;
SELECT mq.reject('new', id) FROM mq.read('new');
SELECT mq.archive('orders', id) FROM mq.orders;
PREPARE TRANSACTION 'two_phase_all';
SELECT queue FROM mq.queues;
COMMIT PREPARED 'two_phase_all';
SELECT queue FROM mq.queues ORDER BY queue;
SELECT body FROM mq.new_dead;
SELECT body FROM mq.orders_archive;
-- The session goes on as if nothing had been.
SELECT mq.send('orders', '1') > 0 AS sent;
SELECT body FROM mq.read('orders');
