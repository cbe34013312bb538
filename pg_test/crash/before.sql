-- What a server holds when it is killed: everything up to here is committed, except the last part.

SELECT mq.create_queue('kept', max_failures => 3, visibility => '1 hour');
SELECT mq.create_queue('light', durable => false);
SELECT mq.send('kept', to_jsonb(n), dedup_key => 'key ' || n) FROM generate_series(1, 10) n;
SELECT mq.send('light', to_jsonb(n), dedup_key => 'key ' || n) FROM generate_series(1, 10) n;
CHECKPOINT;
SELECT mq.ack('kept', id, receipt) FROM mq.read('kept');
SELECT mq.archive('kept', id, receipt) FROM mq.read('kept');
SELECT mq.reject('kept', id, receipt, 'bad') FROM mq.read('kept');
SELECT mq.nack('kept', id, receipt, '1 hour', 'later') FROM mq.read('kept');
CREATE TABLE hand_outs AS SELECT id, receipt FROM mq.read('kept', 2, '2 hours');
SELECT mq.archive('light', id, receipt) FROM mq.read('light');
CREATE TABLE last_ids AS
  SELECT (SELECT max(id) FROM mq.kept) AS kept, (SELECT max(id) FROM mq.light) AS light;
SELECT mq.pause('light', until => '2999-01-01');
SELECT mq.alter_queue('kept', max_bytes => 4321);

-- Prepared transactions outlive the crash: one sends, one has taken a message.
BEGIN;
SELECT mq.send('kept', '"prepared"');
PREPARE TRANSACTION 'sends';
BEGIN;
SELECT mq.pop('kept');
PREPARE TRANSACTION 'takes';

-- Rolled back, and never to be seen.
BEGIN;
SELECT mq.send('kept', '"rolled back"');
SELECT mq.read('kept', 3);
ROLLBACK;
