-- create_queue: makes a queue, and the view that is its handle.
\ir include/helpers.sql

-- A queue with every option at its default. True: it was created.
SELECT mq.create_queue('orders');
SELECT queue, owner, durable, visibility, max_failures, dead_letter, backoff, ttl,
       dedup_window, max_length, overflow, max_bytes, archive_retention, notify,
       paused, paused_until, created_at <= clock_timestamp() AS created
FROM mq.queues WHERE queue = 'orders' \gx

-- Its handle is a view, its archive another, both owned by the caller.
SELECT relname, relkind, relowner::regrole AS owner FROM pg_class
WHERE relnamespace = 'mq'::regnamespace AND relname LIKE 'orders%' ORDER BY relname;

-- The view's columns are those of mq.message, in the same order.
SELECT attnum, attname, atttypid::regtype AS type FROM pg_attribute
WHERE attrelid = 'mq.orders'::regclass AND attnum > 0 ORDER BY attnum;
SELECT array_agg(attname ORDER BY attnum) = (
        SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'mq.message'::regclass AND attnum > 0) AS same_as_message
FROM pg_attribute WHERE attrelid = 'mq.orders'::regclass AND attnum > 0;

-- The archive has one more, at the end.
SELECT attname, atttypid::regtype AS type FROM pg_attribute
WHERE attrelid = 'mq.orders_archive'::regclass AND attnum > 17 ORDER BY attnum;

-- A second queue of that name is an error,
SELECT mq.create_queue('orders');
-- or, if asked, false: nothing was created, and no option changed.
SELECT mq.create_queue('orders', visibility => '7s', if_not_exists => true);
SELECT visibility FROM mq.queues WHERE queue = 'orders';

-- Every option given.
SELECT mq.create_queue('parcels_failed');
SELECT mq.create_queue('parcels', durable => false, visibility => '5min', max_failures => 3,
    dead_letter => 'parcels_failed', backoff => '{1s,10s,1min}', ttl => '1 day',
    dedup_window => '1 hour', max_length => 1000, overflow => 'drop_oldest', max_bytes => 2048,
    archive_retention => '30 days', notify => true, if_not_exists => false);
SELECT queue, owner, durable, visibility, max_failures, dead_letter, backoff, ttl,
       dedup_window, max_length, overflow, max_bytes, archive_retention, notify,
       paused, paused_until
FROM mq.queues WHERE queue = 'parcels' \gx

-- Not durable: unlogged storage. (The other queues' are logged.)
SELECT relpersistence, count(*) > 0 AS some FROM pg_class
WHERE relnamespace = 'mq_internal'::regnamespace AND relkind = 'r' AND relpersistence = 'u'
GROUP BY 1;

-- NULL for an option means its default.
SELECT mq.create_queue('plain', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT count(*) AS same FROM mq.queues a JOIN mq.queues b ON
    (a.durable, a.visibility, a.dedup_window, a.overflow, a.max_bytes, a.notify)
    = (b.durable, b.visibility, b.dedup_window, b.overflow, b.max_bytes, b.notify)
WHERE a.queue = 'orders' AND b.queue = 'plain';

-- With max_failures and no dead_letter, one is made: <queue>_dead.
SELECT mq.create_queue('mail', max_failures => 5);
SELECT queue, max_failures, dead_letter FROM mq.queues WHERE queue LIKE 'mail%' ORDER BY 1;

-- A dead-letter queue without max_failures is fine: it takes the rejected and the expired.
SELECT mq.create_queue('letters', dead_letter => 'mail_dead');
SELECT max_failures, dead_letter FROM mq.queues WHERE queue = 'letters';

-- A dead-letter queue that is named must exist, and must not be the queue itself.
SELECT mq.create_queue('lost', dead_letter => 'nowhere');
SELECT mq.create_queue('snake', dead_letter => 'snake');

-- The names of the archive and of the default dead-letter queue must be free.
SELECT mq.create_queue('jobs_archive');
SELECT mq.create_queue('jobs');
SELECT mq.create_queue('tasks_dead');
SELECT mq.create_queue('tasks', max_failures => 1);
-- The archive of one queue is no name for another.
SELECT mq.create_queue('orders_archive');
-- Nothing is left of a creation that failed.
SELECT queue FROM mq.queues WHERE queue IN ('lost', 'snake', 'jobs', 'tasks');
SELECT relname FROM pg_class WHERE relnamespace = 'mq'::regnamespace AND relname IN ('lost', 'snake', 'jobs', 'tasks');

-- A creation is part of its transaction.
BEGIN;
SELECT mq.create_queue('passing');
SELECT mq.send('passing', '{"n": 1}') > 0 AS sent;
SELECT body FROM mq.read('passing');
ROLLBACK;
SELECT to_regclass('mq.passing');
SELECT count(*) FROM mq.queues WHERE queue = 'passing';
SELECT mq.create_queue('passing');

-- A longest window, for as long as the message is in the queue: 1000 years and more on every version.
SELECT mq.create_queue('forever', dedup_window => '1000 years');
SELECT dedup_window >= '1000 years' AS forever FROM mq.queues WHERE queue = 'forever';
