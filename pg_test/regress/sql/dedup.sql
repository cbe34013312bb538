-- dedup: a key sent twice within the queue's window is one message.
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- The second send returns the first's id, and changes nothing.
SELECT mq.send('orders', '"first"', dedup_key => 'k') AS winner \gset
SELECT mq.send('orders', '"second"', headers => '{"h": 1}', priority => 9, dedup_key => 'k') = :winner AS same;
SELECT body, headers, priority, dedup_key FROM mq.orders;
-- Other keys are other messages, however alike; no key is none.
SELECT count(DISTINCT mq.send('orders', '1', dedup_key => k)) FROM unnest('{K,"k ",kk,""}'::text[]) k;
SELECT mq.send('orders', '1') <> mq.send('orders', '1') AS two;
SELECT mq.send('orders', '1', dedup_key => NULL) <> mq.send('orders', '1', dedup_key => NULL) AS two;
-- Another queue has its own keys.
SELECT mq.create_queue('others');
SELECT mq.send('others', '1', dedup_key => 'k') > 0 AS sent;
SELECT count(*) FROM mq.others;

-- The window counts from the send, also after the message was handed out, acknowledged, deleted.
SELECT count(*) FROM mq.read('orders', 1, '1 hour');
SELECT mq.send('orders', '1', dedup_key => 'k') = :winner AS same;
SELECT mq.ack('orders', :winner);
SELECT mq.send('orders', '1', dedup_key => 'k') = :winner AS same;
SELECT count(*) FROM mq.orders WHERE dedup_key = 'k';
SELECT mq.send('orders', '1', dedup_key => 'deleted') AS id \gset
SELECT mq.delete('orders', :id), mq.send('orders', '1', dedup_key => 'deleted') = :id AS same;
SELECT body FROM mq.pop('orders', 100) WHERE false;
SELECT mq.send('orders', '1', dedup_key => 'K') > 0 AS sent;
SELECT count(*) FROM mq.orders;

-- Once the window is over, the key is free.
SELECT mq.create_queue('short', dedup_window => '10 ms');
SELECT mq.send('short', '1', dedup_key => 'k') AS first \gset
SELECT pg_temp.pass(enqueued_at + interval '11 ms') FROM mq.short;
SELECT mq.send('short', '2', dedup_key => 'k') > :first AS sent_again;
SELECT count(*) FROM mq.short;
-- A window altered counts for the keys sent from then on.
SELECT mq.alter_queue('short', dedup_window => '1 hour');
SELECT mq.send('short', '3', dedup_key => 'long') = mq.send('short', '4', dedup_key => 'long') AS same;

-- For as long as the message is in the queue.
SELECT mq.create_queue('unique', dedup_window => '1000 years');
SELECT mq.send('unique', '1', dedup_key => 'k') AS first \gset
SELECT count(*) FROM mq.read('unique', 1, '1 hour');
SELECT mq.send('unique', '2', dedup_key => 'k') = :first AS same;
SELECT mq.ack('unique', :first);
SELECT mq.send('unique', '3', dedup_key => 'k') AS next \gset
SELECT :next > :first AS sent;
-- However it leaves: popped, archived, deleted, rejected, expired, purged.
SELECT body FROM mq.pop('unique');
SELECT mq.send('unique', '4', dedup_key => 'k') > :next AS after_pop;
SELECT mq.archive('unique', id) FROM mq.read('unique');
SELECT mq.send('unique', '5', dedup_key => 'k') > :next AS after_archive;
SELECT mq.delete('unique', id) FROM mq.unique;
SELECT mq.send('unique', '6', dedup_key => 'k') > :next AS after_delete;
SELECT mq.reject('unique', id) FROM mq.read('unique');
SELECT mq.send('unique', '7', dedup_key => 'k', ttl => '1 microsecond') > :next AS after_reject;
SELECT mq.maintain('unique') > 0 AS expired;
SELECT mq.send('unique', '8', dedup_key => 'k') > :next AS after_expiry;
SELECT mq.purge_queue('unique');
SELECT mq.send('unique', '9', dedup_key => 'k') > :next AS after_purge;
SELECT body, dedup_key FROM mq.unique;
-- Delayed and failed messages are in the queue.
SELECT mq.nack('unique', id, delay => '1 hour') FROM mq.read('unique');
SELECT mq.send('unique', '10', dedup_key => 'k') = (SELECT id FROM mq.unique) AS same;

-- In one transaction; and if the winner rolls back, the key is free.
BEGIN;
SELECT mq.send('orders', '1', dedup_key => 'tx') AS first \gset
SELECT mq.send('orders', '2', dedup_key => 'tx') = :first AS same;
SAVEPOINT a;
SELECT mq.send('orders', '3', dedup_key => 'sp') AS second \gset
ROLLBACK TO a;
SELECT mq.send('orders', '4', dedup_key => 'sp') > 0 AS sent;
COMMIT;
SELECT body, dedup_key FROM mq.orders WHERE dedup_key IN ('tx', 'sp') ORDER BY id;
BEGIN;
SELECT mq.send('orders', '5', dedup_key => 'rolled back') AS gone \gset
ROLLBACK;
SELECT mq.send('orders', '6', dedup_key => 'rolled back') AS sent \gset
SELECT body FROM mq.orders WHERE id = :sent;

-- Keys are text of any kind, up to a length.
SELECT mq.send('orders', '1', dedup_key => E'größer\n''"; -- 📦') = mq.send('orders', '1', dedup_key => E'größer\n''"; -- 📦') AS same;
SELECT mq.send('orders', '1', dedup_key => repeat('x', 255)) = mq.send('orders', '1', dedup_key => repeat('x', 255)) AS same;

-- A duplicate counts for nothing: not for max_length, nor in the metrics.
SELECT mq.create_queue('full', max_length => 1);
SELECT mq.send('full', '1', dedup_key => 'k') = mq.send('full', '1', dedup_key => 'k') AS same;
SELECT sent, ready FROM mq.metrics WHERE queue = 'full';

-- What maintenance finds past its window goes.
SELECT mq.maintain() >= 0 AS maintained;
