-- names: 1 to 48 bytes of any characters, kept exactly as given.
\ir include/helpers.sql

-- One byte; 48 bytes; 48 bytes in 24 characters.
SELECT mq.create_queue('q');
SELECT mq.create_queue(repeat('x', 48));
SELECT mq.create_queue(repeat('ü', 24));
SELECT queue, octet_length(queue) AS bytes FROM mq.queues ORDER BY octet_length(queue), queue;

-- Nothing, 49 bytes, 49 bytes in fewer characters.
SELECT mq.create_queue('');
SELECT mq.create_queue(repeat('x', 49));
SELECT mq.create_queue(repeat('ü', 24) || 'x');
SELECT mq.create_queue(NULL);

-- The longest names have archives and dead-letter queues of their own.
SELECT mq.create_queue(repeat('y', 48), max_failures => 1);
SELECT queue = repeat('y', 48) AS longest, octet_length(dead_letter) AS dead_letter FROM mq.queues WHERE queue LIKE 'yyy%' ORDER BY 1;
SELECT relname, octet_length(relname) FROM pg_class
WHERE relnamespace = 'mq'::regnamespace AND relname LIKE 'yyy%' ORDER BY 2;

-- Exactly as given: no folding, no trimming.
SELECT mq.create_queue('Orders'), mq.create_queue('orders'), mq.create_queue('ORDERS '), mq.create_queue(' ');
SELECT '[' || queue || ']' AS queue FROM mq.queues WHERE lower(trim(queue)) IN ('orders', '') ORDER BY queue COLLATE "C";
SELECT mq.send('Orders', '1') > 0 AS sent;
SELECT (SELECT count(*) FROM mq."Orders") AS upper, (SELECT count(*) FROM mq.orders) AS lower;

-- The names of mq's own relations, now and to come.
SELECT name, split_part(pg_temp.failing(format('SELECT mq.create_queue(%L)', name)), ':', 1) AS sqlstate
FROM unnest('{queues,metrics,status,message,exchanges,bindings,schedules,streams,subscriptions,
    consumers,captures,handlers,traces,settings,topics,events}'::text[]) name;
SELECT mq.create_queue('queues');
SELECT mq.create_queue('events');

-- Names starting mq_ or pg_.
SELECT mq.create_queue('mq_orders');
SELECT mq.create_queue('pg_orders');
-- Only that, and only so.
SELECT mq.create_queue('mq'), mq.create_queue('pg'), mq.create_queue('my_pg_'), mq.create_queue('MQ_x');

-- A queue cannot get such a name later.
SELECT mq.rename_queue('orders', 'metrics');
SELECT mq.rename_queue('orders', 'pg_x');
SELECT mq.rename_queue('orders', '');
SELECT mq.rename_queue('orders', repeat('x', 49));
SELECT mq.rename_queue('orders', NULL);
ALTER VIEW mq.orders RENAME TO mq_x;
ALTER VIEW mq.orders RENAME TO "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
SELECT count(*) FROM mq.queues WHERE queue = 'orders';

-- A bad name is never found, rather than refused, by the other functions.
SELECT mq.send('', '1');
SELECT mq.send(repeat('x', 64), '1');
SELECT mq.send('queues', '1');
SELECT mq.send('orders_archive', '1');
-- Nor is a name with its schema or in quotes: it is a name, not SQL.
SELECT mq.send('mq.orders', '1');
SELECT mq.send('"orders"', '1');
-- A name that is a view somebody made in mq by hand is no queue.
CREATE VIEW mq.mine AS SELECT 1 AS id;
SELECT mq.send('mine', '1');
SELECT mq.create_queue('mine');
