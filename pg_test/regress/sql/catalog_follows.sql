-- The queue is its view: what PostgreSQL's own commands do to the view, they do to the queue.
\ir include/helpers.sql
CREATE ROLE catalog_ada;
CREATE ROLE catalog_bob;
GRANT EXECUTE ON FUNCTION mq.create_queue TO catalog_ada, catalog_bob;

-- ALTER VIEW … RENAME: the queue has the new name; so has its archive.
SELECT mq.create_queue('orders', max_failures => 1);
SELECT mq.send('orders', '1') > 0 AS sent;
ALTER VIEW mq.orders RENAME TO invoices;
SELECT queue, dead_letter FROM mq.queues ORDER BY queue;
SELECT mq.send('orders', '2');
SELECT body, queue FROM mq.read('invoices');
SELECT to_regclass('mq.orders_archive') AS old, to_regclass('mq.invoices_archive') AS new;
-- Renaming the dead-letter queue: the one that uses it follows.
ALTER VIEW mq.orders_dead RENAME TO trouble;
SELECT queue, dead_letter FROM mq.queues ORDER BY queue;
-- ALTER TABLE is ALTER VIEW by another name.
ALTER TABLE mq.trouble RENAME TO worry;
SELECT queue, dead_letter FROM mq.queues ORDER BY queue;
-- Reserved or bad names are refused here as well.
ALTER VIEW mq.worry RENAME TO metrics;
ALTER VIEW mq.worry RENAME TO mq_worry;
-- The archive has no name of its own.
ALTER VIEW mq.invoices_archive RENAME TO history;

-- OWNER TO: the new owner owns all of it.
ALTER VIEW mq.invoices OWNER TO catalog_ada;
SELECT queue, owner FROM mq.queues ORDER BY queue;
SELECT relname, relowner::regrole AS owner FROM pg_class WHERE relnamespace = 'mq'::regnamespace AND relname LIKE 'invoices%' ORDER BY 1;
SELECT relowner::regrole AS owner, count(*) > 0 AS storage FROM pg_class
WHERE relnamespace = 'mq_internal'::regnamespace AND relkind IN ('r', 'S') AND relowner = 'catalog_ada'::regrole GROUP BY 1;
SET ROLE catalog_ada;
SELECT mq.send('invoices', '"hers"') > 0 AS sent, mq.alter_queue('invoices', visibility => '1 hour');
SELECT body FROM mq.read('invoices', 10);
SELECT body FROM mq.invoices ORDER BY id;
SELECT mq.archive('invoices', id) FROM mq.invoices WHERE body = '"hers"';
SELECT body FROM mq.invoices_archive;
RESET ROLE;

-- REASSIGN OWNED.
SET ROLE catalog_ada;
SELECT mq.create_queue('hers', max_failures => 2);
SELECT mq.send('hers', '"kept"') > 0 AS sent;
RESET ROLE;
REASSIGN OWNED BY catalog_ada TO catalog_bob;
SELECT queue, owner FROM mq.queues ORDER BY queue;
SELECT count(*) AS still_adas FROM pg_class WHERE relowner = 'catalog_ada'::regrole;
SET ROLE catalog_bob;
SELECT body FROM mq.read('hers');
SELECT mq.pause('hers'), mq.resume('hers');
RESET ROLE;
SET ROLE catalog_ada;
SELECT body FROM mq.read('hers');
RESET ROLE;

-- DROP VIEW: the queue, its messages, its archive; as drop_queue does.
SELECT count(*) AS before FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace \gset
DROP VIEW mq.invoices;
SELECT queue FROM mq.queues ORDER BY queue;
SELECT to_regclass('mq.invoices_archive') AS archive;
SELECT count(*) < :before AS storage_went FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace;
SELECT mq.send('invoices', '1');
-- Refused while a view depends on it; CASCADE takes the view, too.
CREATE VIEW public.looking AS SELECT * FROM mq.hers;
DROP VIEW mq.hers;
DROP VIEW mq.hers CASCADE;
SELECT queue FROM mq.queues ORDER BY queue;
DROP VIEW IF EXISTS mq.hers;
-- It can be rolled back.
BEGIN;
DROP VIEW mq.worry;
SELECT count(*) FROM mq.queues WHERE queue = 'worry';
ROLLBACK;
SELECT mq.send('worry', '1') > 0 AS sent;

-- DROP OWNED.
SET ROLE catalog_ada;
SELECT mq.create_queue('a1', max_failures => 1), mq.create_queue('a2');
SELECT mq.send('a1', '1') > 0 AS sent;
RESET ROLE;
SELECT count(*) AS before FROM mq.queues \gset
DROP OWNED BY catalog_ada;
SELECT queue, owner FROM mq.queues ORDER BY queue;
SELECT count(*) AS left_behind FROM pg_class WHERE relowner = 'catalog_ada'::regrole;
DROP ROLE catalog_ada;

-- SET SCHEMA is refused, for the view and for its archive; nothing may be moved into mq instead.
ALTER VIEW mq.worry SET SCHEMA public;
ALTER VIEW mq.worry_archive SET SCHEMA public;
SELECT mq.send('worry', '1') > 0 AS still_there;

-- CREATE OR REPLACE VIEW, new columns, other triggers: the view is not the user's to redefine.
CREATE OR REPLACE VIEW mq.worry AS SELECT 1 AS id;
\set VERBOSITY terse
ALTER VIEW mq.worry RENAME COLUMN body TO payload;
\set VERBOSITY default
SELECT count(*) FROM mq.worry WHERE body = '1';
-- A comment on it is.
COMMENT ON VIEW mq.worry IS 'what went wrong';
SELECT obj_description('mq.worry'::regclass);

-- A queue found by its name at every call: dropped and made again under a prepared statement.
PREPARE give AS SELECT mq.send('again', '1') > 0 AS sent;
SELECT mq.create_queue('again');
EXECUTE give;
DROP VIEW mq.again;
EXECUTE give;
SELECT mq.create_queue('again');
EXECUTE give;
SELECT count(*) FROM mq.again;

DROP OWNED BY catalog_bob CASCADE;
DROP ROLE catalog_bob;
SELECT queue FROM mq.queues ORDER BY queue;
