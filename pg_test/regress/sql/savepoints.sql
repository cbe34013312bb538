-- savepoints: what is rolled back did not happen; what is not, did.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');

-- Sends.
BEGIN;
SELECT mq.send('orders', '"a"') > 0 AS sent;
SAVEPOINT one;
SELECT mq.send('orders', '"b"') > 0 AS sent;
SAVEPOINT two;
SELECT mq.send('orders', '"c"') > 0 AS sent;
ROLLBACK TO one;
SELECT mq.send('orders', '"d"') > 0 AS sent;
RELEASE one;
COMMIT;
SELECT body FROM mq.orders ORDER BY id;

-- A read that is rolled back to a savepoint gives its message back at once, to the same transaction, too.
BEGIN;
SELECT body FROM mq.read('orders');
SAVEPOINT one;
SELECT body, attempts FROM mq.read('orders');
SELECT count(*) FROM mq.read('orders');
ROLLBACK TO one;
SELECT body, attempts FROM mq.read('orders');
COMMIT;
SELECT body, state, attempts FROM mq.orders ORDER BY id;

-- Settling.
BEGIN;
SELECT mq.ack('orders', id) FROM mq.orders WHERE body = '"a"';
SAVEPOINT one;
SELECT mq.ack('orders', id) FROM mq.orders WHERE body = '"d"';
SELECT count(*) FROM mq.orders;
ROLLBACK TO one;
SELECT mq.nack('orders', id, reason => 'instead') FROM mq.orders WHERE body = '"d"';
COMMIT;
SELECT body, state, failures, last_error FROM mq.orders ORDER BY id;

-- A worker that handles each message in a block of its own, and nacks the one that fails.
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(-1, 1) n;
CREATE TABLE done (result numeric);
DO $$
DECLARE
    m mq.message;
BEGIN
    FOR m IN SELECT * FROM mq.read('orders', 10) LOOP
        BEGIN
            INSERT INTO done VALUES (1 / (m.body #>> '{}')::int);
            PERFORM mq.ack('orders', m.id, m.receipt);
        EXCEPTION WHEN OTHERS THEN
            PERFORM mq.nack('orders', m.id, m.receipt, delay => '1 hour', reason => SQLERRM);
        END;
    END LOOP;
END $$;
SELECT result FROM done ORDER BY 1;
SELECT body, state, failures, last_error FROM mq.orders ORDER BY id;

-- A queue made, altered, renamed, dropped under a savepoint.
BEGIN;
SAVEPOINT one;
SELECT mq.create_queue('new', max_failures => 1);
SELECT mq.send('new', '1') > 0 AS sent;
SELECT mq.rename_queue('new', 'newer');
ROLLBACK TO one;
SELECT mq.create_queue('new');
SELECT mq.send('new', '2') > 0 AS sent;
SAVEPOINT two;
SELECT mq.alter_queue('new', max_length => 1);
SELECT mq.drop_queue('new');
ROLLBACK TO two;
SELECT mq.send('new', '3') > 0 AS sent;
COMMIT;
SELECT body FROM mq.new ORDER BY id;
SELECT queue, max_length FROM mq.queues ORDER BY queue;

-- Many of them.
DO $$
BEGIN
    FOR i IN 1 .. 200 LOOP
        BEGIN
            PERFORM mq.send('new', to_jsonb(i));
            PERFORM mq.read('new');
            IF i % 2 = 0 THEN
                RAISE 'odd ones only';
            END IF;
        EXCEPTION WHEN raise_exception THEN
        END;
    END LOOP;
END $$;
-- 100 blocks were not rolled back: each sent one and read one. (Two were there before.)
SELECT count(*), count(*) FILTER (WHERE state = 'leased') AS leased FROM mq.new;
