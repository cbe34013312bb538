-- settling many: the batch forms return the ids that were settled, in the order given, each once.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour', max_failures => 5);
SELECT count(*) FROM mq.send_batch('orders', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 60) n));

-- Hand out n messages; their ids and receipts into variables.
CREATE FUNCTION pg_temp.take(n int, OUT ids text, OUT receipts text) LANGUAGE sql AS $$
    SELECT array_agg(id ORDER BY id)::text, array_agg(receipt ORDER BY id)::text FROM mq.read('orders', n) $$;

SELECT * FROM pg_temp.take(5) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.ack_batch('orders', :'ids', :'receipts') id;
SELECT count(*) FROM mq.ack_batch('orders', :'ids', :'receipts');

-- In the order given, each once, without what is not there.
SELECT * FROM pg_temp.take(3) \gset
SELECT ((:'ids'::bigint[])[1]) AS a, ((:'ids'::bigint[])[2]) AS b, ((:'ids'::bigint[])[3]) AS c \gset
SELECT array_agg(id) = ARRAY[:c, :a, :b]::bigint[] AS as_given
FROM mq.ack_batch('orders', ARRAY[:c, -1, :a, :c, :b, :a, 9223372036854775807]) id;

-- Receipts count one by one: a wrong one leaves its message alone, a null one means no fence.
SELECT * FROM pg_temp.take(3) \gset
SELECT ((:'ids'::bigint[])[1]) AS a, ((:'ids'::bigint[])[2]) AS b, ((:'ids'::bigint[])[3]) AS c, (:'receipts'::bigint[])[1] AS ra \gset
SELECT array_agg(id) = ARRAY[:a, :c]::bigint[] AS a_and_c FROM mq.ack_batch('orders', ARRAY[:a, :b, :c], ARRAY[:ra, :ra, NULL]) id;
SELECT id = :b AS b, state FROM mq.orders WHERE id IN (:a, :b, :c);

-- archive_batch
SELECT * FROM pg_temp.take(3) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.archive_batch('orders', :'ids', :'receipts') id;
SELECT count(*), count(*) FILTER (WHERE id = ANY (:'ids')) AS these FROM mq.orders_archive;

-- nack_batch, with delay and reason for all
SELECT * FROM pg_temp.take(3) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.nack_batch('orders', :'ids', :'receipts', delay => '1 hour', reason => 'down') id;
SELECT attempts, failures, last_error, state FROM mq.orders WHERE id = ANY (:'ids');
SELECT count(*) FROM mq.nack_batch('orders', :'ids', :'receipts');

-- release_batch
SELECT * FROM pg_temp.take(3) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.release_batch('orders', :'ids', :'receipts', delay => '1 hour') id;
SELECT attempts, failures, state FROM mq.orders WHERE id = ANY (:'ids');

-- reject_batch
SELECT * FROM pg_temp.take(2) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.reject_batch('orders', :'ids', :'receipts', reason => 'nonsense') id;
SELECT count(*), min(headers #>> '{x-death,0,error}') AS error FROM mq.orders_dead;

-- extend_batch: the ids that are still the caller's
SELECT * FROM pg_temp.take(2) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.extend_batch('orders', :'ids', :'receipts', '5 hours') id;
SELECT bool_and(visible_at > clock_timestamp() + interval '4 hours') AS longer FROM mq.orders WHERE id = ANY (:'ids');
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.extend_batch('orders', :'ids') id;
SELECT bool_and(visible_at < clock_timestamp() + interval '2 hours') AS the_queues FROM mq.orders WHERE id = ANY (:'ids');

-- delete_batch: whoever holds them
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.delete_batch('orders', :'ids') id;
SELECT count(*) FROM mq.orders WHERE id = ANY (:'ids');

-- Without receipts, what is not handed out is left alone.
SELECT count(*) FROM mq.orders WHERE state = 'ready';
SELECT array_agg(id)::text AS ids FROM mq.orders WHERE state = 'ready' \gset
SELECT count(*) FROM mq.ack_batch('orders', :'ids');
SELECT count(*) FROM mq.nack_batch('orders', :'ids');
SELECT count(*) FROM mq.extend_batch('orders', :'ids');

-- As one statement: read a batch, work, ack it.
WITH work AS (SELECT id, receipt FROM mq.read('orders', 10))
SELECT count(*) FROM (SELECT mq.ack_batch('orders', array_agg(id), array_agg(receipt)) FROM work) acked;
-- Over a large batch.
SELECT count(*) FROM mq.send_batch('orders', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 3000) n));
SELECT * FROM pg_temp.take(3000) \gset
SELECT array_agg(id) = :'ids' AS all_of_them FROM mq.ack_batch('orders', :'ids', :'receipts') id;
-- Part of the transaction.
SELECT * FROM pg_temp.take(5) \gset
BEGIN;
SELECT count(*) FROM mq.ack_batch('orders', :'ids', :'receipts');
ROLLBACK;
SELECT count(*) FROM mq.ack_batch('orders', :'ids', :'receipts');
