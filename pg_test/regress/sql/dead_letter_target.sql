-- dead letters: what happens when their queue is full, gone, or too small.
\ir include/helpers.sql
SELECT mq.create_queue('dead', max_length => 1);
SELECT mq.create_queue('orders', max_failures => 1, dead_letter => 'dead', visibility => '1 hour');

-- Full: readers in passing and mq.maintain warn, and go on; the message waits where it is, never handed out.
SELECT mq.send('dead', '"fills it"') > 0 AS full;
SELECT mq.send('orders', '"failed"') > 0 AS sent;
SELECT body FROM mq.read('orders', 1, '1 microsecond');
SELECT mq.send('orders', '"good"') > 0 AS sent;
SELECT body FROM mq.read('orders', 10);
SELECT body, attempts, failures FROM mq.orders ORDER BY id;
SELECT mq.maintain('orders') AS moved;
SELECT body FROM mq.pop('orders', 10);
-- With an expired one it is the same.
SELECT mq.send('orders', '"expired"', ttl => '1 microsecond') > 0 AS sent;
SELECT body FROM mq.read('orders', 10);
SELECT body, state FROM mq.orders WHERE state = 'expired';
-- Once there is room, they follow.
SELECT mq.alter_queue('dead', max_length => 10);
SELECT mq.maintain('orders') > 0 AS moved;
SELECT body, headers #>> '{x-death,0,reason}' AS reason FROM mq.dead ORDER BY id;

-- By the consumer's own nack or reject: the message is not lost, whatever the answer.
SELECT mq.alter_queue('dead', max_length => 1);
SELECT mq.send('orders', '"mine"') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'failed again');
SELECT body, state, failures, last_error FROM mq.orders WHERE id = :id;
SELECT mq.purge_queue('orders') > 0 AS emptied;
SELECT mq.send('orders', '"mine"') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.reject('orders', :id, :receipt, reason => 'no good');
SELECT body, state, failures FROM mq.orders WHERE id = :id;

-- A dead-letter queue that is paused takes dead letters: a pause is for readers.
SELECT mq.purge_queue('orders') >= 0, mq.purge_queue('dead') > 0, mq.alter_queue('dead', reset => '{max_length}'), mq.pause('dead');
SELECT mq.send('orders', '"while paused"') > 0 AS sent;
SELECT mq.reject('orders', id, receipt) FROM mq.read('orders');
SELECT mq.resume('dead');
SELECT body FROM mq.pop('dead');

-- Its max_bytes is for senders: a dead letter is not lost for its size.
SELECT mq.alter_queue('dead', max_bytes => 100);
SELECT mq.send('orders', to_jsonb(repeat('x', 200))) > 0 AS sent;
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT count(*) FROM mq.read('orders', 10);
SELECT length(body #>> '{}') AS length FROM mq.pop('dead');
SELECT mq.alter_queue('dead', reset => '{max_bytes}');

-- With overflow drop_oldest, its oldest dead letters make room.
SELECT mq.purge_queue('orders') > 0 AS emptied;
SELECT mq.alter_queue('dead', max_length => 2, overflow => 'drop_oldest');
SELECT count(mq.send('orders', to_jsonb(n))) FROM generate_series(1, 4) n;
SELECT count(mq.reject('orders', id, receipt)) FROM mq.read('orders', 10);
SELECT body FROM mq.dead ORDER BY id;

-- While it is somebody's dead-letter queue, it cannot be dropped; unless cascaded.
SELECT mq.drop_queue('dead');
SELECT mq.drop_queue('dead', cascade => true);
SELECT queue, max_failures, dead_letter FROM mq.queues;
-- Gone: dead messages are kept, until the queue is given another, or the option is reset. Reading goes on.
SELECT mq.send('orders', '"failing"') > 0 AS sent;
SELECT body FROM mq.read('orders', 1, '1 microsecond');
SELECT mq.send('orders', '"good"') > 0 AS sent;
SELECT body FROM mq.read('orders', 10);
SELECT mq.maintain('orders') >= 0 AS went_on;
SELECT body FROM mq.orders ORDER BY id;
SELECT mq.create_queue('dead'), mq.alter_queue('orders', dead_letter => 'dead');
SELECT mq.maintain('orders') > 0 AS moved;
SELECT body FROM mq.dead;

-- The right to send there was checked when it was named. Dead letters are written as the owner.
CREATE ROLE dead_letter_worker;
CREATE ROLE dead_letter_owner;
SELECT mq.create_queue('grave');
SELECT mq.create_queue('jobs');
GRANT UPDATE ON mq.jobs TO dead_letter_worker;
ALTER VIEW mq.jobs OWNER TO dead_letter_owner;
SET ROLE dead_letter_owner;
SELECT mq.alter_queue('jobs', dead_letter => 'grave');
RESET ROLE;
GRANT INSERT ON mq.grave TO dead_letter_owner;
SET ROLE dead_letter_owner;
SELECT mq.alter_queue('jobs', dead_letter => 'grave');
RESET ROLE;
SELECT mq.send('jobs', '"bad"') > 0 AS sent;
SET ROLE dead_letter_worker;
SELECT mq.reject('jobs', id, receipt) FROM mq.read('jobs');
RESET ROLE;
SELECT body FROM mq.grave;
-- The owner's right was taken away since: a warning in passing.
REVOKE INSERT ON mq.grave FROM dead_letter_owner;
SET ROLE dead_letter_owner;
SELECT mq.send('jobs', '"expired"', ttl => '1 microsecond') > 0 AS sent, mq.send('jobs', '"good"') > 0 AS sent;
SELECT body FROM mq.read('jobs', 10);
SELECT body FROM mq.read('jobs', 10);
RESET ROLE;
SELECT mq.drop_queue('jobs', cascade => true);
DROP OWNED BY dead_letter_worker, dead_letter_owner CASCADE;
DROP ROLE dead_letter_worker, dead_letter_owner;
