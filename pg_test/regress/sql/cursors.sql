-- cursors, prepared statements, functions: every way a driver or a program calls.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 10) n;

-- A cursor on the view: its snapshot, while messages come and go.
BEGIN;
DECLARE looking CURSOR FOR SELECT body, state FROM mq.orders ORDER BY id;
FETCH 2 FROM looking;
SELECT mq.ack('orders', id) FROM mq.read('orders', 4);
FETCH 4 FROM looking;
COMMIT;
-- A cursor on a read. What it handed out is leased, fetched or not.
BEGIN;
DECLARE taking NO SCROLL CURSOR FOR SELECT body FROM mq.read('orders', 3);
FETCH 1 FROM taking;
FETCH 1 FROM taking;
CLOSE taking;
COMMIT;
SELECT state, count(*) FROM mq.orders GROUP BY state ORDER BY state;
-- WITH HOLD.
DECLARE held CURSOR WITH HOLD FOR SELECT id, body FROM mq.read('orders', 2);
FETCH 1 FROM held \gset
SELECT mq.ack('orders', :id), :body;
FETCH 1 FROM held \gset
SELECT mq.ack('orders', :id), :body;
CLOSE held;
-- mq.purge_queue and settling while a cursor is open on the view.
BEGIN;
DECLARE looking CURSOR FOR SELECT body FROM mq.orders ORDER BY id;
FETCH 1 FROM looking;
SELECT mq.purge_queue('orders') > 0 AS emptied;
FETCH 1 FROM looking;
COMMIT;

-- Prepared statements, of untyped parameters, as drivers make them.
PREPARE give AS SELECT mq.send($1, $2) > 0 AS sent;
PREPARE give_all AS SELECT mq.send($1, $2, $3, $4, $5, $6, $7, $8, $9) > 0 AS sent;
PREPARE take AS SELECT id, receipt, body FROM mq.read($1, $2, $3);
PREPARE done AS SELECT mq.ack($1, $2, $3);
PREPARE failed AS SELECT mq.nack($1, $2, $3, $4, $5);
EXECUTE give('orders', '{"n": 1}');
EXECUTE give_all('orders', '{"n": 2}', '{}', NULL, NULL, 9, NULL, 'key', '1 day');
EXECUTE take('orders', 1, '1 hour') \gset
EXECUTE done('orders', :id, :receipt);
EXECUTE take('orders', 1, '1 hour') \gset
EXECUTE failed('orders', :id, :receipt, NULL, 'no reason');
-- Their parameters have the types that the one function of that name has.
SELECT name, parameter_types FROM pg_prepared_statements WHERE name IN ('give', 'give_all', 'take', 'done', 'failed') ORDER BY name;
-- Used often, they are planned once; the queue may change under them all the same.
SET plan_cache_mode = force_generic_plan;
SELECT mq.purge_queue('orders') > 0 AS emptied;
EXECUTE give('orders', '1');
EXECUTE take('orders', 1, '1 hour') \gset
EXECUTE done('orders', :id, :receipt);
SELECT mq.alter_queue('orders', max_length => 1);
EXECUTE give('orders', '2');
EXECUTE give('orders', '3');
SELECT mq.drop_queue('orders');
EXECUTE give('orders', '4');
SELECT mq.create_queue('orders');
EXECUTE give('orders', '5');
EXECUTE take('orders', 1, '1 hour') \gset
SELECT :body;
DISCARD ALL;
SELECT mq.send('orders', '6') > 0 AS sent;
SET search_path = '';
SELECT mq.send('orders', '7') > 0 AS sent;
RESET search_path;

-- In PL/pgSQL, a worker's loop; in a procedure, with a commit after each message.
CREATE TABLE done (body jsonb);
CREATE PROCEDURE work(queue text) LANGUAGE plpgsql AS $$
DECLARE
    m mq.message;
BEGIN
    LOOP
        SELECT * INTO m FROM mq.read(queue);
        EXIT WHEN NOT FOUND;
        INSERT INTO done VALUES (m.body);
        PERFORM mq.ack(queue, m.id, m.receipt);
        COMMIT;
    END LOOP;
END $$;
SELECT count(mq.release('orders', id)) FROM mq.orders;
CALL work('orders');
SELECT body FROM done ORDER BY 1;
SELECT count(*) FROM mq.orders;

-- Planned in parallel, where the rest of the query is: these run in the leader.
SELECT count(*) FROM mq.send_batch('orders', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 100) n));
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE facts AS SELECT n FROM generate_series(1, 1000) n;
SELECT count(*), count(m.id) FROM facts LEFT JOIN mq.read('orders', 50) m ON m.body = to_jsonb(n);
SELECT count(mq.send('orders', to_jsonb(n))) FROM facts;
SELECT count(*) FROM mq.orders;
