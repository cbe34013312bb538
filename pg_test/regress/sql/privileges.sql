-- privileges: GRANTs on the view are the access control of every function.
\ir include/helpers.sql
CREATE ROLE privileges_owner;
CREATE ROLE privileges_none;
CREATE ROLE privileges_insert;
CREATE ROLE privileges_select;
CREATE ROLE privileges_update;
CREATE ROLE privileges_delete;
GRANT EXECUTE ON FUNCTION mq.create_queue TO privileges_owner;

-- Creating queues is granted; from then on the creator owns the view, and grants what is to be granted.
SET ROLE privileges_none;
SELECT mq.create_queue('mine');
SET ROLE privileges_owner;
SELECT mq.create_queue('orders', max_failures => 3, visibility => '1 hour');
GRANT INSERT ON mq.orders TO privileges_insert;
GRANT SELECT ON mq.orders TO privileges_select;
GRANT UPDATE ON mq.orders TO privileges_update;
GRANT DELETE ON mq.orders TO privileges_delete;
SELECT mq.create_queue('back');
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 5) n;
SELECT count(mq.reject('orders', id)) FROM mq.read('orders', 2);
SELECT count(*) FROM mq.read('orders', 2);
RESET ROLE;

-- may(role, sql): what happens when the role runs it. All is rolled back.
CREATE FUNCTION pg_temp.may(who text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    failure text;
BEGIN
    PERFORM set_config('role', 'privileges_' || who, true);
    failure := pg_temp.failing(sql);
    PERFORM set_config('role', 'none', true);
    RETURN CASE WHEN failure = 'no error' THEN 'yes' WHEN failure LIKE '42501%' THEN '-' ELSE failure END;
END $$;

CREATE TEMP TABLE calls (nr serial, sql text);
INSERT INTO calls (sql) VALUES
    ($$ SELECT mq.send('orders', '1') $$),
    ($$ SELECT mq.send_text('orders', '1') $$),
    ($$ SELECT mq.send_bytes('orders', '1') $$),
    ($$ SELECT mq.send_batch('orders', '{1}') $$),
    ($$ INSERT INTO mq.orders (body) VALUES ('1') $$),
    ($$ INSERT INTO mq.orders (body) VALUES ('1') RETURNING id $$),
    ($$ SELECT * FROM mq.orders $$),
    ($$ SELECT id FROM mq.orders $$),
    ($$ SELECT mq.get('orders', 3) $$),
    ($$ SELECT * FROM mq.orders_archive $$),
    ($$ SELECT * FROM mq.read('orders') $$),
    ($$ SELECT * FROM mq.read('orders', wait => '1 ms') $$),
    ($$ SELECT * FROM mq.pop('orders') $$),
    ($$ SELECT mq.ack('orders', 3) $$),
    ($$ SELECT mq.archive('orders', 3) $$),
    ($$ SELECT mq.nack('orders', 3) $$),
    ($$ SELECT mq.release('orders', 3) $$),
    ($$ SELECT mq.reject('orders', 3) $$),
    ($$ SELECT mq.extend('orders', 3) $$),
    ($$ SELECT mq.ack_batch('orders', '{3}') $$),
    ($$ SELECT mq.archive_batch('orders', '{3}') $$),
    ($$ SELECT mq.nack_batch('orders', '{3}') $$),
    ($$ SELECT mq.release_batch('orders', '{3}') $$),
    ($$ SELECT mq.reject_batch('orders', '{3}') $$),
    ($$ SELECT mq.extend_batch('orders', '{3}') $$),
    ($$ SELECT mq.delete('orders', 3) $$),
    ($$ SELECT mq.delete_batch('orders', '{3}') $$),
    ($$ DELETE FROM mq.orders $$),
    ($$ SELECT mq.purge_queue('orders') $$),
    ($$ UPDATE mq.orders SET priority = 1 WHERE state = 'ready' $$),
    ($$ SELECT mq.alter_queue('orders', visibility => '1 min') $$),
    ($$ SELECT mq.rename_queue('orders', 'other') $$),
    ($$ SELECT mq.pause('orders') $$),
    ($$ SELECT mq.resume('orders') $$),
    ($$ SELECT mq.redrive('orders', 'back') $$),
    ($$ SELECT mq.drop_queue('orders') $$),
    ($$ SELECT mq.maintain('orders') $$),
    ($$ SELECT mq.create_queue('another') $$),
    ($$ SELECT * FROM mq.status() $$),
    ($$ SELECT mq.version() $$),
    ($$ SELECT * FROM mq.queues $$),
    ($$ SELECT * FROM mq.metrics $$),
    ($$ TABLE mq_internal.queues $$),
    ($$ CREATE FUNCTION mq.planted() RETURNS int LANGUAGE sql AS 'SELECT 1' $$),
    ($$ CREATE TABLE mq.planted () $$),
    ($$ DROP VIEW mq.orders $$),
    ($$ ALTER VIEW mq.orders OWNER TO CURRENT_USER $$);
SELECT sql, pg_temp.may('none', sql) AS "none", pg_temp.may('insert', sql) AS "INSERT", pg_temp.may('select', sql) AS "SELECT",
       pg_temp.may('update', sql) AS "UPDATE", pg_temp.may('delete', sql) AS "DELETE", pg_temp.may('owner', sql) AS "owner"
FROM calls ORDER BY nr;

-- A wait needs what a read needs.
SET ROLE privileges_select;
CALL mq.wait('orders', '1 ms', NULL);
SET ROLE privileges_update;
CALL mq.wait('back', '1 ms', NULL);
CALL mq.wait_any('{orders,back}', '1 ms', NULL);
RESET ROLE;

-- INSERT with SELECT on the id allows RETURNING id, and no look at anything else.
GRANT SELECT (id) ON mq.orders TO privileges_insert;
SET ROLE privileges_insert;
INSERT INTO mq.orders (body) VALUES ('1') RETURNING id > 0 AS sent;
SELECT count(id) > 0 AS ids FROM mq.orders;
SELECT body FROM mq.orders;
SELECT mq.get('orders', 1);
-- Worded as PostgreSQL words it.
SELECT mq.read('orders');
RESET ROLE;

-- Only who has any privilege on a queue sees it in mq.queues and mq.metrics.
SET ROLE privileges_none;
SELECT queue FROM mq.queues;
SELECT queue FROM mq.metrics;
SET ROLE privileges_delete;
SELECT queue FROM mq.queues ORDER BY 1;
SELECT queue FROM mq.metrics ORDER BY 1;
SET ROLE privileges_owner;
SELECT queue FROM mq.queues ORDER BY 1;
RESET ROLE;

-- An owner who took a privilege from himself has it not; and can give it back.
SET ROLE privileges_owner;
REVOKE INSERT ON mq.orders FROM privileges_owner;
SELECT mq.send('orders', '1');
GRANT INSERT ON mq.orders TO privileges_owner;
SELECT mq.send('orders', '1') > 0 AS sent;
-- Naming another queue as target needs INSERT on it.
RESET ROLE;
SELECT mq.create_queue('private');
SET ROLE privileges_owner;
SELECT mq.create_queue('leak', dead_letter => 'private');
SELECT mq.alter_queue('back', dead_letter => 'private');
SELECT mq.redrive('orders_dead', 'private');
RESET ROLE;
SELECT count(*) FROM mq.private;

DROP OWNED BY privileges_owner, privileges_none, privileges_insert, privileges_select, privileges_update, privileges_delete CASCADE;
DROP ROLE privileges_owner, privileges_none, privileges_insert, privileges_select, privileges_update, privileges_delete;
SELECT queue FROM mq.queues;
