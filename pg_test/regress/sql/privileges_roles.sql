-- privileges: checked for the calling role, whichever way it came to be that.
\ir include/helpers.sql
CREATE ROLE roles_app;
CREATE ROLE roles_worker;
CREATE ROLE roles_other;
GRANT EXECUTE ON FUNCTION mq.create_queue TO roles_app;

-- SET ROLE: the role that is set counts, not the session's.
SET ROLE roles_app;
SELECT mq.create_queue('orders');
SELECT mq.send('orders', '1') > 0 AS sent;
SET ROLE roles_worker;
SELECT mq.send('orders', '2');
RESET ROLE;
SET SESSION AUTHORIZATION roles_worker;
SELECT mq.send('orders', '2');
RESET SESSION AUTHORIZATION;

-- SECURITY DEFINER: the function's owner counts. A worker who may not send may be given a way to.
CREATE SCHEMA app AUTHORIZATION roles_app;
GRANT USAGE ON SCHEMA app TO roles_worker, roles_other;
SET ROLE roles_app;
CREATE FUNCTION app.order_placed(n int) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT mq.send('orders', jsonb_build_object('n', n)) > 0 $$;
SET ROLE roles_worker;
SELECT app.order_placed(7);
-- The other way round: a definer who may not, may not, whoever calls.
CREATE FUNCTION pg_temp.read_it() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM mq.read('orders') $$;
RESET ROLE;
SELECT pg_temp.read_it();
-- In a view the caller counts for the functions in it,
SET ROLE roles_app;
CREATE VIEW app.next AS SELECT body FROM mq.read('orders');
GRANT SELECT ON app.next TO roles_worker;
-- and for a queue's view in a view, the view's owner does.
CREATE VIEW app.waiting AS SELECT count(*) FROM mq.orders;
GRANT SELECT ON app.waiting TO roles_worker;
SET ROLE roles_worker;
SELECT * FROM app.next;
SELECT * FROM app.waiting;
RESET ROLE;

-- Membership: what is granted to a group is its members'.
CREATE ROLE roles_group;
GRANT roles_group TO roles_worker;
GRANT UPDATE ON mq.orders TO roles_group;
SET ROLE roles_worker;
SELECT count(*) FROM mq.read('orders');
RESET ROLE;
REVOKE UPDATE ON mq.orders FROM roles_group;
SET ROLE roles_worker;
SELECT count(*) FROM mq.read('orders');
RESET ROLE;
-- PUBLIC is everybody.
GRANT INSERT ON mq.orders TO PUBLIC;
SET ROLE roles_other;
SELECT mq.send('orders', '3') > 0 AS sent;
RESET ROLE;
REVOKE INSERT ON mq.orders FROM PUBLIC;
-- Members of the owner may do what owners may.
GRANT roles_app TO roles_other;
SET ROLE roles_other;
SELECT mq.pause('orders'), mq.resume('orders'), mq.alter_queue('orders', visibility => '1 hour');
RESET ROLE;
REVOKE roles_app FROM roles_other;

-- Default privileges are the caller's.
ALTER DEFAULT PRIVILEGES FOR ROLE roles_app GRANT INSERT ON TABLES TO roles_other;
ALTER DEFAULT PRIVILEGES FOR ROLE roles_app GRANT SELECT ON SEQUENCES TO roles_other;
SET ROLE roles_app;
SELECT mq.create_queue('events_in', max_failures => 3);
SET ROLE roles_other;
SELECT mq.send('events_in', '1') > 0 AS sent, mq.send('events_in_dead', '1') > 0 AS sent;
SELECT mq.read('events_in');
-- They reach the view; never the storage.
RESET ROLE;
SELECT has_schema_privilege('roles_other', 'mq_internal', 'USAGE') AS may_enter;
SELECT count(*) FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
AND has_any_column_privilege('roles_other', oid, 'SELECT, INSERT, UPDATE, REFERENCES');

-- PostgreSQL's own roles.
CREATE ROLE roles_reader;
CREATE ROLE roles_writer;
CREATE ROLE roles_monitor;
GRANT pg_read_all_data TO roles_reader;
GRANT pg_write_all_data TO roles_writer;
GRANT pg_monitor TO roles_monitor;
-- pg_read_all_data browses,
SET ROLE roles_reader;
SELECT count(*) > 0 AS some FROM mq.orders;
SELECT (mq.get('orders', id)).body FROM mq.orders ORDER BY id LIMIT 1;
SELECT mq.send('orders', '4');
SELECT mq.read('orders');
SELECT mq.delete('orders', 1);
-- pg_write_all_data sends and consumes, but does not browse,
SET ROLE roles_writer;
SELECT mq.send('orders', '4') > 0 AS sent;
SELECT count(mq.release('orders', id, receipt)) FROM mq.read('orders', 10);
SELECT count(*) FROM mq.orders;
SELECT mq.pause('orders');
-- pg_monitor sees all queues and metrics, and no messages.
SET ROLE roles_monitor;
SELECT queue, owner FROM mq.queues ORDER BY queue;
SELECT queue, ready + leased + delayed > 0 AS some FROM mq.metrics ORDER BY queue;
SELECT count(*) FROM mq.orders;
SELECT mq.read('orders');
RESET ROLE;

-- Row security on business tables goes with the role, also in what a sender or consumer does with them.
CREATE TABLE app.orders (id int, tenant text);
INSERT INTO app.orders VALUES (1, 'roles_worker'), (2, 'roles_other');
ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.orders USING (tenant = current_user);
GRANT SELECT ON app.orders TO roles_worker;
GRANT INSERT, UPDATE ON mq.orders TO roles_worker;
SELECT mq.purge_queue('orders') > 0 AS emptied;
SET ROLE roles_worker;
SELECT count(mq.send('orders', to_jsonb(o))) FROM app.orders o;
SELECT body, tenant FROM mq.read('orders', 10) m LEFT JOIN app.orders o ON o.id = (m.body ->> 'id')::int;
RESET ROLE;
-- and row_security = off is no obstacle to sending.
SET ROLE roles_worker;
SET row_security = off;
SELECT mq.send('orders', '5') > 0 AS sent;
RESET row_security;
RESET ROLE;

-- A role that is dropped is named in the error; its queues must be given away first.
\set VERBOSITY terse
DROP ROLE roles_app;
\set VERBOSITY default
ALTER DEFAULT PRIVILEGES FOR ROLE roles_app REVOKE INSERT ON TABLES FROM roles_other;
ALTER DEFAULT PRIVILEGES FOR ROLE roles_app REVOKE SELECT ON SEQUENCES FROM roles_other;
DROP OWNED BY roles_app, roles_worker, roles_other, roles_group, roles_reader, roles_writer, roles_monitor CASCADE;
DROP ROLE roles_app, roles_worker, roles_other, roles_group, roles_reader, roles_writer, roles_monitor;
