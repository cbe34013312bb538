-- settling: arguments that are refused. Only a queue and an id refuse NULL.
\ir include/helpers.sql
SELECT mq.create_queue('orders');
SELECT mq.send('orders', '1') > 0 AS sent;
SELECT id, receipt FROM mq.read('orders', 1, '1 hour') \gset
\pset format unaligned
\pset tuples_only on

SELECT call, pg_temp.failing(format('SELECT mq.%s(NULL, 1)', call))
FROM unnest('{ack,archive,nack,release,reject,extend,get,delete}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', NULL)', call))
FROM unnest('{ack,archive,nack,release,reject,extend,get,delete}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(''nowhere'', 1)', call))
FROM unnest('{ack,archive,nack,release,reject,extend,get,delete}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(NULL, ''{1}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch,delete_batch}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', NULL)', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch,delete_batch}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(''nowhere'', ''{1}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch,delete_batch}'::text[]) call;

-- An id that is null in an array.
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', ''{1,NULL}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch,delete_batch}'::text[]) call;
-- Arrays of more than one dimension.
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', ''{{1},{2}}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch,delete_batch}'::text[]) call;
-- As many receipts as ids.
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', ''{1,2}'', ''{1}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch}'::text[]) call;
SELECT call, pg_temp.failing(format('SELECT mq.%s(''orders'', ''{1}'', ''{}'')', call))
FROM unnest('{ack_batch,archive_batch,nack_batch,release_batch,reject_batch,extend_batch}'::text[]) call;

-- Intervals.
SELECT pg_temp.failing($$ SELECT mq.nack('orders', 1, delay => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.nack('orders', 1, delay => '-1 month') $$);
SELECT pg_temp.failing($$ SELECT mq.nack('orders', 1, delay => '300000 years') $$);
SELECT pg_temp.failing($$ SELECT mq.release('orders', 1, delay => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.extend('orders', 1, visibility => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.extend('orders', 1, visibility => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.extend('orders', 1, visibility => '300000 years') $$);
SELECT pg_temp.failing($$ SELECT mq.nack_batch('orders', '{1}', delay => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.release_batch('orders', '{1}', delay => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.extend_batch('orders', '{1}', visibility => '0') $$);

-- An id is a number.
SELECT pg_temp.failing($$ SELECT mq.ack('orders', 'x') $$);

-- It is still held, and only its receipt settles it.
SELECT mq.ack('orders', :id, :receipt + 1), mq.ack('orders', :id, -1), mq.ack('orders', :id, 0);
SELECT state, attempts, failures FROM mq.orders;
-- No ids: nothing to do.
SELECT count(*) FROM mq.ack_batch('orders', '{}');
SELECT count(*) FROM mq.ack_batch('orders', '{}', '{}');
SELECT count(*) FROM mq.delete_batch('orders', '{}');
SELECT mq.ack('orders', :id, :receipt);
