-- errors: every case, its SQLSTATE, a message that names the queue and the argument, and a hint that helps.
\ir include/helpers.sql
\pset format unaligned
\pset tuples_only on
SELECT mq.create_queue('orders', max_length => 1), mq.create_queue('mails', dead_letter => 'orders'), mq.send('orders', '1') > 0;
CREATE ROLE errors_nobody;

-- 42P01: no such queue.
SELECT pg_temp.failing($$ SELECT mq.send('order', '1') $$);
SELECT pg_temp.failing($$ SELECT mq.read('Orders') $$);
SELECT pg_temp.failing($$ SELECT mq.drop_queue('order') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('x', dead_letter => 'order') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.order $$);
-- 42P07: the queue exists, or its archive's or dead-letter queue's name is taken.
SELECT pg_temp.failing($$ SELECT mq.create_queue('orders') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('orders_archive') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('x_archive'), mq.create_queue('x') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('x_dead'), mq.create_queue('x', max_failures => 1) $$);
SELECT pg_temp.failing($$ SELECT mq.rename_queue('mails', 'orders') $$);
-- 42602: a bad or reserved name.
SELECT pg_temp.failing($$ SELECT mq.create_queue('') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue(repeat('x', 49)) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('queues') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('mq_x') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('pg_x') $$);
-- 22023: a null, out-of-range or contradictory argument.
SELECT pg_temp.failing($$ SELECT mq.send(NULL, '1') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.ack('orders', NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.read('orders', 0) $$);
SELECT pg_temp.failing($$ SELECT mq.read('orders', visibility => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.read('orders', visibility => '-1 s') $$);
SELECT pg_temp.failing($$ SELECT mq.read('orders', wait => '1 min') $$);
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', headers => '[]') $$);
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', priority => 10) $$);
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', delay => '1 s', deliver_at => now()) $$);
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', deliver_at => 'infinity') $$);
SELECT pg_temp.failing($$ SELECT mq.send_batch('mails', '{1,2}', headers => ARRAY['{}']::jsonb[]) $$);
SELECT pg_temp.failing($$ SELECT mq.ack_batch('mails', '{1,2}', '{1}') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('x', overflow => 'bounce') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', dead_letter => 'mails') $$);
-- 0A000: what is to come.
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', group_key => 'g') $$);
SELECT pg_temp.failing($$ ALTER VIEW mq.mails SET SCHEMA public $$);
-- 428C9: a view column that cannot be written.
SELECT pg_temp.failing($$ INSERT INTO mq.mails (body, state) VALUES ('1', 'ready') $$);
SELECT pg_temp.failing($$ UPDATE mq.orders SET attempts = 7 $$);
-- 54000: body too large.
SELECT pg_temp.failing($$ SELECT mq.send_text('mails', repeat('x', 1100000)) $$);
-- 53400: queue full.
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1') $$);
-- 42501: missing privilege, worded as PostgreSQL words it.
SET ROLE errors_nobody;
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1') $$);
SELECT pg_temp.failing($$ SELECT mq.read('orders') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.orders $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('x') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', visibility => '1 s') $$);
SELECT pg_temp.failing($$ SELECT mq.drop_queue('orders') $$);
SELECT pg_temp.failing($$ TABLE mq_internal.queue $$);
RESET ROLE;
-- 2BP01: others depend on it.
SELECT pg_temp.failing($$ SELECT mq.drop_queue('orders') $$);
CREATE VIEW looking AS SELECT * FROM mq.mails;
SELECT pg_temp.failing($$ SELECT mq.drop_queue('mails') $$);
SELECT split_part(pg_temp.failing($$ DROP EXTENSION pg_broker $$), 'DETAIL', 1);
-- 25001: mq.wait in a transaction block.
BEGIN;
CALL mq.wait('orders', '1 s', NULL);
ROLLBACK;
SELECT pg_temp.failing($$ CALL mq.wait('orders', '1 s', NULL) $$);
SELECT pg_temp.failing($$ CALL mq.wait_any('{orders}', '1 s', NULL) $$);
-- 55006: a message that somebody holds cannot be repaired.
SELECT count(*) FROM mq.read('orders', 1, '1 hour');
SELECT pg_temp.failing($$ UPDATE mq.orders SET priority = 1 $$);
-- 25006: nothing is written in a read-only transaction, as on a standby.
BEGIN READ ONLY;
SAVEPOINT a;
SELECT mq.send('mails', '1');
ROLLBACK TO a;
SELECT count(*) FROM mq.read('orders');
ROLLBACK TO a;
SELECT mq.create_queue('x');
ROLLBACK;
-- 42883: there is one function of each name; what does not fit it is no function.
SELECT pg_temp.failing($$ SELECT mq.send('mails', '1', 7) $$);
SELECT pg_temp.failing($$ SELECT mq.send('mails', body => '1', prio => 7) $$);

-- An error never half-does anything: the good rows of a failing statement are not there either.
SELECT pg_temp.failing($$ SELECT mq.send('mails', b) FROM unnest(ARRAY['1', '2', NULL]::jsonb[]) b $$);
SELECT pg_temp.failing($$ INSERT INTO mq.mails (body, priority) VALUES ('1', 1), ('2', 10) $$);
SELECT count(*) FROM mq.mails;
-- and a caught error leaves the transaction as good as it was.
DO $$
BEGIN
    PERFORM mq.send('mails', '"before"');
    BEGIN
        PERFORM mq.send('mails', '"inside"'), mq.send('nowhere', '1');
    EXCEPTION WHEN undefined_table THEN
        PERFORM mq.send('mails', '"instead"');
    END;
END $$;
SELECT body FROM mq.mails ORDER BY id;
DROP ROLE errors_nobody;
