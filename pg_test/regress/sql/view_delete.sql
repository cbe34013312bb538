-- DELETE on the view: mq.delete of the messages that match.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 5);
SELECT count(*) FROM mq.send_batch('orders', ARRAY['{"customer": 7}', '{"customer": 8}', '{"customer": 7}', '{"customer": 9}']::jsonb[]);
SELECT mq.send('orders', '{"customer": 7}', delay => '1 hour') > 0 AS delayed, mq.send('orders', '{"customer": 6}', ttl => '1 microsecond') > 0 AS expired;

-- What matches goes, also what is delayed …
DELETE FROM mq.orders WHERE body ->> 'customer' = '7' RETURNING body, state;
-- … or expired …
DELETE FROM mq.orders WHERE state = 'expired' RETURNING body;
-- … or leased: its holder finds that it has it no more.
SELECT id, receipt, body FROM mq.read('orders') \gset
DELETE FROM mq.orders WHERE id = :id RETURNING body, state, receipt;
SELECT mq.ack('orders', :id, :receipt);
SELECT body FROM mq.orders;
-- Nothing goes to the archive, nor to the dead-letter queue.
SELECT (SELECT count(*) FROM mq.orders_archive) AS archived, (SELECT count(*) FROM mq.orders_dead) AS dead;

-- Part of its transaction.
BEGIN;
DELETE FROM mq.orders;
SELECT count(*) FROM mq.orders;
SELECT count(*) FROM mq.read('orders');
ROLLBACK;
SELECT count(*) FROM mq.orders;
-- Joined with other tables.
CREATE TABLE gone (customer int);
INSERT INTO gone VALUES (9);
DELETE FROM mq.orders USING gone WHERE (body ->> 'customer')::int = customer RETURNING body;
SELECT count(*) FROM mq.orders;
-- TRUNCATE is for tables; mq.purge_queue is what is meant.
TRUNCATE mq.orders;

-- It needs DELETE, and SELECT for what the condition names.
CREATE ROLE view_delete_ops;
SELECT mq.send('orders', '{"customer": 1}') > 0 AS sent;
GRANT DELETE ON mq.orders TO view_delete_ops;
SET ROLE view_delete_ops;
DELETE FROM mq.orders WHERE body ->> 'customer' = '1';
DELETE FROM mq.orders;
RESET ROLE;
SELECT count(*) FROM mq.orders;
REVOKE DELETE ON mq.orders FROM view_delete_ops;
GRANT SELECT, UPDATE, INSERT ON mq.orders TO view_delete_ops;
SET ROLE view_delete_ops;
DELETE FROM mq.orders;
RESET ROLE;
DROP OWNED BY view_delete_ops;
DROP ROLE view_delete_ops;
