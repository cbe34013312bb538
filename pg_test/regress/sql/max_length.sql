-- max_length: how many messages a queue takes, and what happens to the next.
\ir include/helpers.sql

-- overflow 'reject': the sender is told. Ready, delayed and leased ones count.
SELECT mq.create_queue('orders', max_length => 3, visibility => '1 hour');
SELECT mq.send('orders', '1') > 0, mq.send('orders', '2', delay => '1 hour') > 0, mq.send('orders', '3') > 0;
SELECT body FROM mq.read('orders');
SELECT mq.send('orders', '4');
SELECT mq.send_text('orders', '4');
SELECT mq.send_bytes('orders', '4');
SELECT mq.send_batch('orders', '{4}');
INSERT INTO mq.orders (body) VALUES ('4');
COPY mq.orders (body) FROM stdin;
4
\.
SELECT body, state FROM mq.orders ORDER BY id;
-- What leaves makes room.
SELECT mq.ack('orders', id) FROM mq.orders WHERE state = 'leased';
SELECT mq.send('orders', '4') > 0 AS sent;
SELECT count(*) FROM mq.pop('orders');
SELECT mq.send('orders', '5') > 0 AS sent;
-- A batch fits whole, or nothing of it is sent.
SELECT mq.delete('orders', id) FROM mq.orders WHERE body = '5';
SELECT count(*) FROM mq.send_batch('orders', '{6,7}');
SELECT count(*) FROM mq.send_batch('orders', '{6}');
SELECT body FROM mq.orders ORDER BY id;
-- The transaction's own sends count, also after a savepoint was rolled back.
SELECT mq.delete('orders', id) FROM mq.orders WHERE body = '6';
BEGIN;
SAVEPOINT a;
SELECT mq.send('orders', '"a"') > 0 AS sent;
SAVEPOINT b;
SELECT mq.send('orders', '"b"');
ROLLBACK TO b;
ROLLBACK TO a;
SELECT mq.send('orders', '"c"') > 0 AS sent;
COMMIT;
SELECT count(*) FROM mq.orders;
-- Nothing else is refused.
SELECT mq.nack('orders', id) FROM mq.read('orders');
SELECT count(*) FROM mq.orders;
-- A limit lowered below what is there removes nothing.
SELECT mq.alter_queue('orders', max_length => 1);
SELECT count(*) FROM mq.orders;
SELECT mq.send('orders', '8');
-- A limit raised, or taken away.
SELECT mq.alter_queue('orders', max_length => 4);
SELECT mq.send('orders', '8') > 0 AS sent;
SELECT mq.alter_queue('orders', reset => '{max_length}');
SELECT count(mq.send('orders', '9')) FROM generate_series(1, 10);

-- overflow 'drop_oldest': the oldest that nobody holds makes room.
SELECT mq.create_queue('latest', max_length => 3, overflow => 'drop_oldest', visibility => '1 hour');
SELECT count(mq.send('latest', to_jsonb(n))) FROM generate_series(1, 5) n;
SELECT body FROM mq.latest ORDER BY id;
SELECT body FROM mq.read('latest');
SELECT mq.send('latest', '6') > 0 AS sent;
SELECT body, state FROM mq.latest ORDER BY id;
-- Oldest by id: neither priority nor a delay protects.
SELECT mq.send('latest', '7', priority => 9, delay => '1 hour') > 0 AS sent;
SELECT mq.send('latest', '8') > 0 AS sent, mq.send('latest', '9') > 0 AS sent;
SELECT body, state FROM mq.latest ORDER BY id;
-- A batch larger than the queue is refused.
SELECT count(*) FROM mq.send_batch('latest', '{10,11,12,13,14}');
SELECT body, state FROM mq.latest ORDER BY id;
-- Everything is held: there is no room to make.
SELECT count(*) FROM mq.read('latest', 10);
SELECT mq.send('latest', '15');
SELECT body, state FROM mq.latest ORDER BY id;
-- It rolls back with its transaction.
SELECT mq.release('latest', id) FROM mq.latest ORDER BY id;
BEGIN;
SELECT mq.send('latest', '16') > 0 AS sent;
ROLLBACK;
SELECT body FROM mq.latest ORDER BY id;

-- With a dead-letter queue, what is dropped goes there.
SELECT mq.create_queue('dropped');
SELECT mq.alter_queue('latest', dead_letter => 'dropped');
SELECT mq.send('latest', '17') > 0 AS sent;
SELECT body, headers #>> '{x-death,0,reason}' AS reason, headers #>> '{x-death,0,queue}' AS queue FROM mq.dropped;
SELECT dead, sent FROM mq.metrics WHERE queue = 'latest';
-- A duplicate drops nothing.
SELECT mq.send('latest', '18', dedup_key => 'k') = mq.send('latest', '18', dedup_key => 'k') AS same;
SELECT count(*) FROM mq.dropped;

-- One is the smallest limit.
SELECT mq.create_queue('one', max_length => 1, overflow => 'drop_oldest');
SELECT count(mq.send('one', to_jsonb(n))) FROM generate_series(1, 100) n;
SELECT body FROM mq.one;
