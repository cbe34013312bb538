-- the archive: messages that are done, kept for as long as the queue's archive_retention says.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT count(mq.send('orders', jsonb_build_object('n', n), headers => '{"h": 1}', priority => n, dedup_key => n::text, ttl => '1 day')) FROM generate_series(1, 4) n;
SELECT mq.send_bytes('orders', '\xcafe', priority => 0) > 0 AS sent;

-- A message, with all it had, and when it was archived. Its receipt is nobody's business.
SELECT mq.nack('orders', id, receipt, reason => 'first') FROM mq.read('orders');
SELECT mq.archive('orders', id, receipt) FROM mq.read('orders');
SELECT queue, receipt, body, data, headers, attempts, failures, last_error, priority, group_key, dedup_key,
       enqueued_at < read_at AS sent_read, read_at <= archived_at AS read_archived, expires_at - enqueued_at AS ttl, state
FROM mq.orders_archive \gx
-- Many at once.
SELECT count(*) FROM (SELECT mq.archive_batch('orders', array_agg(id), array_agg(receipt)) FROM mq.read('orders', 3)) a;
SELECT body, data, priority FROM mq.orders_archive ORDER BY id;
-- Conditions, joins, as in the queue.
SELECT body FROM mq.orders_archive WHERE body @> '{"n": 2}' AND archived_at > now() - interval '1 day';

-- What is acknowledged, popped, deleted, purged, rejected is not archived.
SELECT mq.ack('orders', id) FROM mq.read('orders');
SELECT count(*) FROM mq.orders_archive;

-- Without retention it is kept for ever; with one, mq.maintain removes what is older.
SELECT mq.maintain('orders') AS removed;
SELECT mq.alter_queue('orders', archive_retention => '1 hour');
SELECT mq.maintain('orders') AS removed;
SELECT max(archived_at) AS newest FROM mq.orders_archive \gset
SELECT mq.alter_queue('orders', archive_retention => '1 ms');
SELECT pg_temp.pass(:'newest'::timestamptz + interval '1 ms');
SELECT mq.maintain('orders') AS removed, mq.maintain('orders') AS nothing_left;
SELECT count(*) FROM mq.orders_archive;

-- It is for looking only: see its messages with SELECT on it, which is granted by itself.
CREATE ROLE archive_reader;
GRANT SELECT ON mq.orders TO archive_reader;
SET ROLE archive_reader;
SELECT count(*) FROM mq.orders_archive;
RESET ROLE;
GRANT SELECT ON mq.orders_archive TO archive_reader;
SET ROLE archive_reader;
SELECT count(*) FROM mq.orders_archive;
RESET ROLE;
REVOKE ALL ON mq.orders, mq.orders_archive FROM archive_reader;
DROP ROLE archive_reader;

-- Archiving in the transaction that does the work.
SELECT mq.send('orders', '"work"') AS id \gset
BEGIN;
SELECT mq.archive('orders', id, receipt) FROM mq.read('orders');
SELECT body FROM mq.orders_archive;
ROLLBACK;
SELECT (SELECT count(*) FROM mq.orders) AS back, (SELECT count(*) FROM mq.orders_archive) AS archived;

-- mq.maintain: the queues one owns; all, for a superuser.
SELECT mq.maintain();
SELECT mq.maintain(NULL);
SELECT mq.maintain('nowhere');
SELECT mq.maintain('orders_archive');
