-- alter_queue: changes options of a queue; the messages in it stay.
\ir include/helpers.sql

SELECT mq.create_queue('orders');
SELECT mq.create_queue('trouble');
SELECT mq.send('orders', '{"n": 1}') > 0 AS sent;

-- What is not given stays as it is.
SELECT mq.alter_queue('orders', visibility => '2min');
SELECT mq.alter_queue('orders', max_failures => 3, dead_letter => 'trouble', backoff => '{1s,5s}');
SELECT mq.alter_queue('orders', ttl => '1 day', dedup_window => '10min', max_length => 100,
    overflow => 'drop_oldest', max_bytes => 4096, archive_retention => '7 days', notify => true);
SELECT visibility, max_failures, dead_letter, backoff, ttl, dedup_window, max_length,
       overflow, max_bytes, archive_retention, notify
FROM mq.queues WHERE queue = 'orders' \gx

-- NULL leaves as is, too.
SELECT mq.alter_queue('orders', visibility => NULL, max_failures => NULL, ttl => NULL);
SELECT visibility, max_failures, ttl FROM mq.queues WHERE queue = 'orders';

-- reset restores defaults.
SELECT mq.alter_queue('orders', reset => '{visibility,max_failures,dead_letter,backoff,ttl}');
SELECT visibility, max_failures, dead_letter, backoff, ttl, max_length
FROM mq.queues WHERE queue = 'orders' \gx
-- Setting one and resetting another go together.
SELECT mq.alter_queue('orders', visibility => '1min',
    reset => '{dedup_window,max_length,overflow,max_bytes,archive_retention,notify}');
SELECT visibility, dedup_window, max_length, overflow, max_bytes, archive_retention, notify
FROM mq.queues WHERE queue = 'orders' \gx

-- A new visibility counts for reads from now on, in this session at once.
SELECT mq.alter_queue('orders', visibility => '1 hour');
SELECT body, visible_at > clock_timestamp() + interval '50 min' AS for_an_hour FROM mq.read('orders');

-- Unlike creation, this makes no dead-letter queue: name one with it.
SELECT mq.create_queue('mail');
SELECT mq.alter_queue('mail', max_failures => 2, dead_letter => 'trouble');
SELECT queue, max_failures, dead_letter FROM mq.queues WHERE queue LIKE 'mail%' ORDER BY 1;

-- A change is part of its transaction.
BEGIN;
SELECT mq.alter_queue('mail', visibility => '9s');
SELECT visibility FROM mq.queues WHERE queue = 'mail';
ROLLBACK;
SELECT visibility FROM mq.queues WHERE queue = 'mail';

-- Dead-letter queues make no cycle, whether short or long.
SELECT mq.create_queue('c');
SELECT mq.create_queue('b', dead_letter => 'c');
SELECT mq.create_queue('a', dead_letter => 'b');
SELECT mq.alter_queue('c', dead_letter => 'a');
SELECT mq.alter_queue('c', dead_letter => 'c');
SELECT queue, dead_letter FROM mq.queues WHERE queue IN ('a', 'b', 'c') ORDER BY 1;

-- Refused, and nothing changed.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.alter_queue('nowhere', visibility => '1s') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue(NULL, visibility => '1s') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', visibility => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', max_failures => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', dead_letter => 'nowhere') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', dead_letter => 'orders') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', backoff => '{}') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', ttl => '-1s') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', dedup_window => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', max_length => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', overflow => 'other') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', max_bytes => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', archive_retention => '0') $$);
-- reset names options that exist, that can be altered, and that are not also set
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', reset => '{colour}') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', reset => '{durable}') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', reset => '{NULL}') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', visibility => '1s', reset => '{visibility}') $$);
-- durable cannot be altered: there is no such argument
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', durable => false) $$);
SELECT visibility FROM mq.queues WHERE queue = 'orders';
