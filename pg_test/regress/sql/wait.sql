-- mq.wait: returns as soon as a message may be ready, or the time is over.
\ir include/helpers.sql
SELECT mq.create_queue('orders'), mq.create_queue('mails');

-- The time is over: not ready.
CALL mq.wait('orders', '20 ms');
-- Something is ready: at once.
SELECT mq.send('orders', '1') > 0 AS sent;
SELECT clock_timestamp() AS before \gset
CALL mq.wait('orders', '20 s');
CALL mq.wait('orders', '20 s', NULL);
CALL mq.wait(queue => 'orders', timeout => '20 s', ready => NULL);
SELECT clock_timestamp() - :'before' < interval '10 s' AS at_once;
-- Ready, not handed out: the reader does that.
SELECT body FROM mq.read('orders', visibility => '50 ms');
-- A lease that ends meanwhile, a delay, a pause that ends.
CALL mq.wait('orders', '20 s');
SELECT body FROM mq.pop('orders');
SELECT mq.send('orders', '2', delay => '50 ms') > 0 AS sent;
CALL mq.wait('orders', '20 s');
SELECT mq.pause('orders', until => clock_timestamp() + interval '50 ms');
CALL mq.wait('orders', '1 ms');
CALL mq.wait('orders', '20 s');
SELECT body FROM mq.pop('orders');
-- A paused queue has nothing ready.
SELECT mq.send('orders', '3') > 0 AS sent, mq.pause('orders');
CALL mq.wait('orders', '10 ms');
SELECT mq.resume('orders');
CALL mq.wait('orders', '20 s');

-- Several queues: any of them.
CALL mq.wait_any('{mails}', '10 ms');
CALL mq.wait_any('{mails,orders}', '20 s');
CALL mq.wait_any(queues => ARRAY['orders', 'mails'], timeout => '20 s', ready => NULL);
SELECT mq.pop('orders') IS NOT NULL AS popped;
CALL mq.wait_any('{mails,orders}', '10 ms', NULL);

-- In a transaction block it is refused: it would hold the block's snapshot.
BEGIN;
CALL mq.wait('orders', '1 s', NULL);
ROLLBACK;
BEGIN;
CALL mq.wait_any('{orders}', '1 s', NULL);
ROLLBACK;
DO $$ BEGIN CALL mq.wait('orders', '1 ms', NULL); END $$;
CREATE FUNCTION waits() RETURNS void LANGUAGE plpgsql AS $$ DECLARE r boolean; BEGIN CALL mq.wait('orders', '1 ms', r); END $$;
SELECT waits();
-- read(… wait => …) may be used there.
BEGIN;
SELECT count(*) FROM mq.read('orders', wait => '10 ms');
COMMIT;

-- Refused.
SET statement_timeout = '5 s';
CALL mq.wait(NULL, '1 s', NULL);
CALL mq.wait('nowhere', '1 s', NULL);
CALL mq.wait('orders', '-1 s', NULL);
CALL mq.wait('orders', NULL, NULL);
CALL mq.wait_any(NULL, '1 s', NULL);
CALL mq.wait_any('{}', '1 s', NULL);
CALL mq.wait_any('{orders,NULL}', '1 s', NULL);
CALL mq.wait_any('{orders,nowhere}', '1 s', NULL);
CALL mq.wait_any('{{orders},{mails}}', '1 s', NULL);
CALL mq.wait_any('{orders}', '-1 s', NULL);
RESET statement_timeout;
-- One that is cancelled is over.
SET statement_timeout = '50 ms';
CALL mq.wait('orders', '20 s', NULL);
SELECT count(*) FROM mq.read('orders', wait => '20 s');
RESET statement_timeout;
-- The session is as good as before.
SELECT mq.send('orders', '4') > 0 AS sent;
CALL mq.wait('orders', '20 s', NULL);
