-- The outbox and its worker in plain psql:
--
--   psql "$PGB_DSN" -X -q -f examples/psql/outbox.sql
--
-- psql keeps what a query returns in variables: `\gset` after a query turns its columns into
-- :column. Exits with 3 when something goes wrong. (Not with psql's -1: see worker.sql.)

\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
\o /dev/null

-- Two tables of a shop, and a queue for its events. A failed message waits 0.3 s, then 1 s; the
-- fifth failure moves it to example_psql_dead, which is made along with the queue.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS example_psql CASCADE;
SELECT mq.drop_queue('example_psql', if_exists => true);
SELECT mq.drop_queue('example_psql_dead', if_exists => true);

CREATE SCHEMA example_psql;
CREATE TABLE example_psql.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
CREATE TABLE example_psql.shipments (order_id bigint PRIMARY KEY, worker text);
SELECT mq.create_queue('example_psql', visibility => '30 s',
                       max_failures => 5, backoff => '{0.3 s, 1 s}');

-- The outbox: the order and its event are one transaction. Both are there, or neither.
BEGIN;
INSERT INTO example_psql.orders (item) VALUES ('tea') RETURNING id AS order_id \gset
SELECT mq.send('example_psql', jsonb_build_object('order', :order_id)) AS message_id \gset
COMMIT;
\echo order :order_id is committed, its event is message :message_id

BEGIN;
INSERT INTO example_psql.orders (item) VALUES ('a yacht') RETURNING id AS order_id \gset
SELECT mq.send('example_psql', jsonb_build_object('order', :order_id)) AS message_id \gset
ROLLBACK;
\echo order :order_id is rolled back, and message :message_id with it

-- A queue is a relation: INSERT sends, too, and so would COPY. This one will fail at first.
BEGIN;
INSERT INTO example_psql.orders (item) VALUES ('honey') RETURNING id AS order_id \gset
INSERT INTO mq.example_psql (body, headers)
    VALUES (jsonb_build_object('order', :order_id), '{"fails": 1}') RETURNING id AS message_id \gset
COMMIT;
\echo order :order_id is committed, its event is message :message_id

-- Work until nothing comes any more.
\ir worker.sql

-- Every order shipped, nothing else shipped, nothing left.
SELECT (SELECT array_agg(id ORDER BY id) FROM example_psql.orders) =
       (SELECT array_agg(order_id ORDER BY order_id) FROM example_psql.shipments)
   AND NOT EXISTS (SELECT FROM mq.example_psql)
   AND NOT EXISTS (SELECT FROM mq.example_psql_dead) AS right \gset
\if :right
    \echo every order is shipped, the queue is empty
\else
    DO 'BEGIN RAISE EXCEPTION $$orders, shipments and queue do not agree$$; END';
\endif

SELECT mq.drop_queue('example_psql');
SELECT mq.drop_queue('example_psql_dead');
DROP SCHEMA example_psql CASCADE;
