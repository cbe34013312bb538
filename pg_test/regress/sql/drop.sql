-- drop_queue: the queue, its messages and its archive; its dead-letter queue stays.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 2);
SELECT mq.send('orders', '1') > 0, mq.send('orders', '2') > 0;
SELECT mq.archive('orders', id) FROM mq.read('orders');
SELECT count(*) AS before FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace \gset

SELECT mq.drop_queue('orders');
SELECT queue FROM mq.queues;
SELECT to_regclass('mq.orders') AS view, to_regclass('mq.orders_archive') AS archive, to_regclass('mq.orders_dead') AS dead;
SELECT count(*) < :before AS storage_went FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace;
-- It is not there any more: an error, or, if asked, false.
SELECT mq.drop_queue('orders');
SELECT mq.drop_queue('orders', if_exists => true);
-- The name is free. Its dead-letter queue's is not.
SELECT mq.create_queue('orders', dead_letter => 'orders_dead');

-- Refused while it is another's dead-letter queue,
SELECT mq.drop_queue('orders_dead');
-- unless cascaded: the other keeps its dead messages, until it is given another.
SELECT mq.drop_queue('orders_dead', cascade => true);
SELECT queue, dead_letter FROM mq.queues;
-- Dropping the other first is as good.
SELECT mq.create_queue('x', max_failures => 1);
SELECT mq.drop_queue('x'), mq.drop_queue('x_dead');

-- Refused while the user's views, functions or policies depend on it.
SELECT mq.send('orders', '1') > 0 AS sent;
CREATE VIEW waiting AS SELECT count(*) FROM mq.orders;
CREATE VIEW archived AS SELECT count(*) FROM mq.orders_archive;
SELECT mq.drop_queue('orders');
SELECT mq.drop_queue('orders', cascade => false);
SELECT count(*) FROM mq.orders;
SELECT mq.drop_queue('orders', cascade => true);
SELECT to_regclass('waiting') AS view, to_regclass('archived') AS archive_view;

-- Part of its transaction.
SELECT mq.create_queue('orders');
SELECT mq.send('orders', '1') > 0 AS sent;
BEGIN;
SELECT mq.drop_queue('orders');
SELECT mq.send('orders', '2');
ROLLBACK;
SELECT body FROM mq.orders;
BEGIN;
SELECT mq.drop_queue('orders');
SELECT mq.create_queue('orders');
SELECT mq.send('orders', '"new"') > 0 AS sent;
COMMIT;
SELECT body FROM mq.read('orders');

-- Created, dropped and created again, many times; in a loop, and with kept plans.
DO $$
BEGIN
    FOR i IN 1 .. 20 LOOP
        PERFORM mq.create_queue('again');
        PERFORM mq.send('again', to_jsonb(i));
        ASSERT (SELECT body::int FROM mq.pop('again')) = i;
        PERFORM mq.drop_queue('again');
    END LOOP;
END $$;

SELECT mq.drop_queue(NULL);
SELECT mq.drop_queue('');
SELECT mq.drop_queue('queues');
SELECT mq.drop_queue('orders_archive');
SELECT mq.drop_queue('nowhere', if_exists => NULL, cascade => NULL);
-- The archive alone cannot be dropped, nor can the storage.
DROP VIEW mq.orders_archive;
SELECT count(*) FROM mq.orders_archive;
SELECT mq.drop_queue('orders');
