-- failures: nacks with backoff, ended leases, and transactions that roll back.
\ir include/helpers.sql

-- backoff: the wait before retry 1, 2, …; the last repeats; jittered by 10 % at most.
SELECT mq.create_queue('orders', backoff => '{1min,10min,1h}');
SELECT mq.send('orders', '{"n": 1}') AS id \gset
-- Nacks the message, and tells how long it has to wait.
CREATE FUNCTION pg_temp.wait_after_nack(queue text, id bigint) RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
    waits interval;
BEGIN
    PERFORM mq.nack(queue, wait_after_nack.id, reason => 'busy');
    EXECUTE format('SELECT visible_at - clock_timestamp() FROM mq.%I WHERE id = $1', queue) INTO waits USING id;
    RETURN waits;
END $$;
SELECT count(*) FROM mq.read('orders');
SELECT pg_temp.wait_after_nack('orders', :id) BETWEEN '53 s' AND '66 s' AS a_minute;
SELECT attempts, failures, last_error, state FROM mq.orders;
-- While it waits, nobody is handed it, and nobody can settle it.
SELECT count(*) FROM mq.read('orders');
SELECT mq.nack('orders', :id), mq.ack('orders', :id);
-- The retries that follow, on a queue whose waits are short.
SELECT mq.create_queue('quick', backoff => '{1ms,20min,2h}');
SELECT mq.send('quick', '{"n": 1}') AS id \gset
SELECT count(*) FROM mq.read('quick');
SELECT pg_temp.wait_after_nack('quick', :id) < '1 s' AS first;
SELECT count(*) FROM mq.read('quick', wait => '5 s');
SELECT pg_temp.wait_after_nack('quick', :id) BETWEEN '17 min' AND '23 min' AS second;
-- The last one repeats.
SELECT mq.alter_queue('quick', backoff => '{1ms,1ms,1ms,3h}');
SELECT mq.purge_queue('quick') AS purged, mq.send('quick', '{"n": 2}') AS id \gset
SELECT count(*) FROM mq.read('quick', wait => '5 s');
SELECT pg_temp.wait_after_nack('quick', :id) < '1 s' AS first;
SELECT count(*) FROM mq.read('quick', wait => '5 s');
SELECT pg_temp.wait_after_nack('quick', :id) < '1 s' AS second;
SELECT count(*) FROM mq.read('quick', wait => '5 s');
SELECT pg_temp.wait_after_nack('quick', :id) < '1 s' AS third;
SELECT count(*) FROM mq.read('quick', wait => '5 s');
SELECT pg_temp.wait_after_nack('quick', :id) BETWEEN '160 min' AND '200 min' AS fourth;
SELECT mq.alter_queue('quick', backoff => '{2h}');
SELECT mq.purge_queue('quick') AS purged, mq.send('quick', '{"n": 3}') AS id \gset
SELECT count(*) FROM mq.read('quick', 1, '1 microsecond');
SELECT count(*) FROM mq.read('quick', 1, '1 microsecond');
SELECT count(*) FROM mq.read('quick');
-- Two ended leases and this nack: the third failure. The last of one wait is the first.
SELECT pg_temp.wait_after_nack('quick', :id) BETWEEN '106 min' AND '134 min' AS two_hours;
SELECT attempts, failures FROM mq.quick;

-- A delay given takes the place of the backoff, exactly.
SELECT mq.send('orders', '{"n": 2}') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, delay => '5 h');
SELECT visible_at - clock_timestamp() BETWEEN '4 h 59 min' AND '5 h' AS five_hours FROM mq.orders WHERE id = :id;

-- The jitter differs from message to message.
SELECT count(mq.send('orders', '1', priority => 9)) FROM generate_series(1, 20);
SELECT count(*) FROM mq.read('orders', 20);
SELECT count(*) FROM mq.nack_batch('orders', (SELECT array_agg(id) FROM mq.orders WHERE priority = 9));
SELECT count(DISTINCT visible_at) > 10 AS spread,
       bool_and(visible_at - clock_timestamp() BETWEEN '53 s' AND '66 s') AS about_a_minute
FROM mq.orders WHERE priority = 9;

-- An ended lease counts one failure, and retries at once, whatever the backoff.
SELECT mq.purge_queue('orders') > 0 AS emptied;
SELECT mq.send('orders', '{"n": 3}') AS id \gset
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT attempts, failures, state, last_error FROM mq.orders;
-- Only one, however often one looks, and however long it lies.
SELECT attempts, failures, state FROM mq.orders;
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT attempts, failures, state FROM mq.orders;

-- Released, extended, acknowledged in time: no failure.
SELECT receipt FROM mq.read('orders', 1, '1 hour') \gset
SELECT mq.extend('orders', :id, :receipt, '2 hours') > clock_timestamp() AS extended, mq.release('orders', :id, :receipt);
SELECT attempts, failures, state FROM mq.orders;

-- A consumer that does its work in the reading transaction, and rolls back: the message is back at
-- once, as if it had not been read. The session remembers, and counts the failure at its next read.
SELECT mq.create_queue('transactional', max_failures => 2);
SELECT mq.send('transactional', '"poison"') AS id \gset
BEGIN;
SELECT attempts, failures FROM mq.read('transactional');
SELECT 1 / 0;
ROLLBACK;
BEGIN;
SELECT body, attempts, failures FROM mq.pop('transactional');
SELECT 1 / 0;
ROLLBACK;
-- Two failures are one too many: it goes to the dead-letter queue, instead of round and round.
SELECT count(*) FROM mq.read('transactional');
SELECT count(*) FROM mq.transactional;
SELECT body, headers #>> '{x-death,0,reason}' AS reason, headers #> '{x-death,0,failures}' AS failures FROM mq.transactional_dead;
-- The message comes back to other sessions and to this one; each time with its count.
SELECT mq.send('transactional', '"twice"') AS id \gset
BEGIN;
SELECT body FROM mq.pop('transactional');
ROLLBACK;
SELECT body, attempts, failures, last_error FROM mq.read('transactional', 1, '1 hour');
SELECT mq.ack('transactional', :id);
-- A worker that rolls back whatever it does, also when there is nothing, does not lose the count.
SELECT mq.send('transactional', '"loop"') AS id \gset
BEGIN;
SELECT body FROM mq.pop('transactional');
ROLLBACK;
BEGIN;
SELECT body, failures FROM mq.pop('transactional');
ROLLBACK;
BEGIN;
SELECT body, failures FROM mq.pop('transactional');
ROLLBACK;
SELECT count(*) FROM mq.read('transactional');
SELECT body FROM mq.transactional_dead ORDER BY id;
-- What is not the message's fault does not count: a serialization failure (class 40), a cancelled query (57).
SELECT mq.send('transactional', '"unlucky"') AS id \gset
BEGIN;
SELECT attempts, failures FROM mq.read('transactional');
DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$;
ROLLBACK;
BEGIN;
SELECT attempts, failures FROM mq.read('transactional');
DO $$ BEGIN RAISE 'cancelled' USING ERRCODE = '57014'; END $$;
ROLLBACK;
SELECT body, failures FROM mq.read('transactional');
