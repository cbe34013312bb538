-- the extension: what DROP EXTENSION refuses, and what CASCADE leaves behind: nothing.
\ir include/helpers.sql
SELECT extname, extversion = mq.version() AS version, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_broker';
SELECT name, trusted, relocatable, schema FROM pg_available_extension_versions WHERE name = 'pg_broker' AND version = mq.version();

-- While there are queues, it is not dropped.
SELECT mq.create_queue('orders', max_failures => 1);
SELECT mq.send('orders', '1') > 0 AS sent;
\set VERBOSITY terse
DROP EXTENSION pg_broker;
\set VERBOSITY default
SELECT count(*) FROM mq.orders;

-- With CASCADE all goes.
BEGIN;
SET client_min_messages = warning;
DROP EXTENSION pg_broker CASCADE;
SELECT nspname FROM pg_namespace WHERE nspname IN ('mq', 'mq_internal');
SELECT count(*) FROM pg_class WHERE relname LIKE '%orders%';
ROLLBACK;
SELECT count(*) FROM mq.orders;
SET client_min_messages = warning;
DROP EXTENSION pg_broker CASCADE;
RESET client_min_messages;
SELECT nspname FROM pg_namespace WHERE nspname IN ('mq', 'mq_internal');
SELECT count(*) FROM pg_class WHERE relname LIKE '%orders%';
SELECT count(*) FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE probin LIKE '%pg_broker%';
SELECT evtname FROM pg_event_trigger;
SELECT extname FROM pg_extension WHERE extname = 'pg_broker';

-- Made again in the same session, it works as before, and knows nothing of the old queues.
CREATE EXTENSION pg_broker;
SELECT * FROM mq.queues;
SELECT mq.create_queue('orders');
SELECT mq.send('orders', '2') > 0 AS sent;
SELECT body FROM mq.read('orders');
SELECT mq.drop_queue('orders');
-- Without queues, a plain DROP will do.
DROP EXTENSION pg_broker;

-- Other tables, roles and names in the database are no obstacle, nor does it touch them.
CREATE SCHEMA mq;
CREATE EXTENSION pg_broker;
DROP SCHEMA mq;
-- It is trusted: who may create in the database may install it.
CREATE ROLE extension_owner;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO extension_owner', current_database()); END $$;
SET ROLE extension_owner;
CREATE EXTENSION pg_broker;
SELECT mq.create_queue('orders', max_failures => 2);
SELECT mq.send('orders', '1') > 0 AS sent;
SELECT mq.ack('orders', id, receipt), body FROM mq.read('orders');
SELECT queue, owner FROM mq.queues ORDER BY queue;
SELECT mq.maintain() >= 0 AS maintained;
SET client_min_messages = warning;
DROP EXTENSION pg_broker CASCADE;
RESET client_min_messages;
RESET ROLE;
DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM extension_owner', current_database()); END $$;
DROP OWNED BY extension_owner;
DROP ROLE extension_owner;
