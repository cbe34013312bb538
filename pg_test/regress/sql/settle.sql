-- settling: what a reader says about a message it was handed.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT count(*) FROM mq.send_batch('orders', ARRAY['1', '2', '3', '4', '5', '6', '7', '8']::jsonb[]);

-- ack: done, remove it.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.ack('orders', :id, :receipt);
SELECT count(*) FROM mq.orders WHERE id = :id;
-- Done is done.
SELECT mq.ack('orders', :id, :receipt);
SELECT mq.ack('orders', :id);

-- archive: done, keep it. The columns are those of the message as it was, and when it was archived.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.archive('orders', :id, :receipt);
SELECT count(*) FROM mq.orders WHERE id = :id;
SELECT id = :id AS id, queue, body, attempts, failures, priority, archived_at <= clock_timestamp() AS archived FROM mq.orders_archive;
SELECT mq.archive('orders', :id, :receipt);

-- nack: failed. Without a delay and without backoff, it is ready again at once.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'no answer');
SELECT attempts, failures, last_error, state FROM mq.orders WHERE id = :id;
SELECT mq.nack('orders', :id, :receipt);
-- With a delay.
SELECT id = :id AS same, receipt, attempts, failures, last_error FROM mq.read('orders') \gset
SELECT :'same', :attempts, :failures, :'last_error';
SELECT mq.nack('orders', :id, :receipt, delay => '1 hour', reason => 'still no answer');
SELECT attempts, failures, last_error, state, visible_at > clock_timestamp() + interval '59 min' AS in_an_hour FROM mq.orders WHERE id = :id;

-- release: give it back without blame, at once or later.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.release('orders', :id, :receipt);
SELECT attempts, failures, last_error, state FROM mq.orders WHERE id = :id;
SELECT mq.release('orders', :id, :receipt);
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.release('orders', :id, :receipt, delay => '1 hour');
SELECT attempts, failures, state, visible_at > clock_timestamp() + interval '59 min' AS in_an_hour FROM mq.orders WHERE id = :id;

-- reject: to the dead-letter queue now; here is none, so it is removed, and counted dead.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.reject('orders', :id, :receipt, reason => 'nonsense');
SELECT count(*) FROM mq.orders WHERE id = :id;
SELECT mq.reject('orders', :id, :receipt);

-- extend: the lease ends that long from now; null says it is not yours.
SELECT id, receipt FROM mq.read('orders', 1, '1 min') \gset
SELECT mq.extend('orders', :id, :receipt, '2 hours') > clock_timestamp() + interval '119 min' AS two_hours;
SELECT visible_at > clock_timestamp() + interval '119 min' AS two_hours, state, attempts FROM mq.orders WHERE id = :id;
-- Without visibility: the queue's.
SELECT mq.extend('orders', :id, :receipt) BETWEEN clock_timestamp() + interval '59 min' AND clock_timestamp() + interval '61 min' AS an_hour;
-- It shortens a lease as well.
SELECT mq.extend('orders', :id, :receipt, '1 microsecond') <= clock_timestamp() AS over;
SELECT state, failures FROM mq.orders WHERE id = :id;
-- Ended, but nobody else has it yet: it can still be extended, or settled.
SELECT mq.extend('orders', :id, :receipt, '1 hour') > clock_timestamp() AS mine_again;
SELECT state, attempts, failures FROM mq.orders WHERE id = :id;
SELECT mq.extend('orders', :id, :receipt, '1 microsecond') IS NOT NULL AS over;
SELECT mq.ack('orders', :id, :receipt);
SELECT mq.extend('orders', :id, :receipt) AS gone;

-- Without a receipt: the current hand-out. If there is none, false.
SELECT id FROM mq.orders WHERE state = 'ready' ORDER BY id LIMIT 1 \gset
SELECT mq.ack('orders', :id), mq.nack('orders', :id), mq.release('orders', :id), mq.reject('orders', :id),
       mq.archive('orders', :id), mq.extend('orders', :id);
SELECT count(*) FROM mq.read('orders') WHERE id = :id;
SELECT mq.extend('orders', :id) > clock_timestamp() AS extended;
SELECT mq.nack('orders', :id);
SELECT count(*) FROM mq.read('orders') WHERE id = :id;
SELECT mq.release('orders', :id);
SELECT count(*) FROM mq.read('orders') WHERE id = :id;
SELECT mq.ack('orders', :id);

-- delete: whoever holds it.
SELECT id, receipt FROM mq.read('orders') \gset
SELECT mq.delete('orders', :id), mq.delete('orders', :id);
SELECT mq.ack('orders', :id, :receipt);

-- In a WHERE, conditions that call nothing are looked at first, however the rows are reached.
SELECT max(mq.send('orders', to_jsonb(n))) AS id FROM generate_series(1, 3) n \gset
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT body FROM mq.orders WHERE id = :id AND mq.delete('orders', id);
RESET enable_indexscan;
RESET enable_bitmapscan;
SELECT body FROM mq.orders ORDER BY id;

-- All in one transaction, or none of it.
SELECT mq.purge_queue('orders') > 0 AS emptied;
SELECT mq.send('orders', '1') AS id \gset
BEGIN;
SELECT mq.ack('orders', id, receipt) FROM mq.read('orders');
ROLLBACK;
SELECT id = :id AS back, state, attempts FROM mq.orders;
SELECT receipt, failures FROM mq.read('orders') \gset
-- (The session that rolled back counts it as a failure: see failures.sql.)
SELECT :failures AS failures;
BEGIN;
SELECT mq.nack('orders', :id, :receipt, reason => 'forgotten');
ROLLBACK;
SELECT state, failures, last_error FROM mq.orders;
SELECT mq.ack('orders', :id, :receipt);

-- Nothing there.
SELECT mq.ack('orders', -1), mq.ack('orders', 0), mq.ack('orders', 9223372036854775807), mq.delete('orders', -1);
