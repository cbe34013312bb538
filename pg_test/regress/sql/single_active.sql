-- single_active: one session at a time is handed messages.
\ir include/helpers.sql
SELECT mq.create_queue('orders', single_active => true);
SELECT mq.create_queue('all');
SELECT queue, single_active, active_pid FROM mq.queues ORDER BY queue;
SELECT mq.send('orders', '1') > 0, mq.send('orders', '2') > 0 AS sent;
SELECT mq.step_down('orders');
SELECT body FROM mq.pop('orders');
SELECT queue, active_pid = pg_backend_pid() AS mine FROM mq.queues ORDER BY queue;
SELECT locktype, classid::regclass, mode, granted FROM pg_locks
WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT body FROM mq.pop('orders');
SELECT mq.step_down('orders');
SELECT active_pid FROM mq.queues WHERE queue = 'orders';
SELECT mq.step_down('orders');
SELECT mq.step_down('all');

-- Held across a rollback, and given up with all advisory locks.
BEGIN;
SELECT count(*) FROM mq.read('orders');
ROLLBACK;
SELECT count(active_pid) FROM mq.queues;
SELECT pg_advisory_unlock_all();
SELECT count(active_pid) FROM mq.queues;
SELECT count(*) FROM mq.read('orders');
SELECT mq.alter_queue('orders', single_active => false);
SELECT count(active_pid) FROM mq.queues;
SELECT mq.alter_queue('orders', single_active => true);
SELECT count(active_pid) FROM mq.queues;
SELECT mq.alter_queue('orders', reset => '{single_active}');
SELECT single_active FROM mq.queues WHERE queue = 'orders';

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.step_down(NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.step_down('nowhere') $$);
SELECT pg_temp.failing($$ SELECT mq.alter_queue('orders', single_active => true, reset => '{single_active}') $$);
