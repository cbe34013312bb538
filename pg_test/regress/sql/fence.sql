-- the fence: a receipt settles the hand-out that it names, never another's.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT mq.send('orders', '{"n": 1}') AS id \gset

-- A consumer is slow; its lease ends; another is handed the message.
SELECT receipt AS slow FROM mq.read('orders', 1, '1 microsecond') \gset
SELECT receipt AS other FROM mq.read('orders') \gset
SELECT :slow <> :other AS differ;
-- Nothing that the slow one does reaches the other's message.
SELECT mq.ack('orders', :id, :slow), mq.nack('orders', :id, :slow, reason => 'mine'), mq.release('orders', :id, :slow),
       mq.reject('orders', :id, :slow), mq.archive('orders', :id, :slow), mq.extend('orders', :id, :slow);
SELECT count(*) FROM mq.ack_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT count(*) FROM mq.nack_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT count(*) FROM mq.release_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT count(*) FROM mq.reject_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT count(*) FROM mq.archive_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT count(*) FROM mq.extend_batch('orders', ARRAY[:id], ARRAY[:slow]);
SELECT attempts, failures, state, visible_at > clock_timestamp() + interval '59 min' AS lease_untouched FROM mq.orders;
-- The other settles it.
SELECT mq.nack('orders', :id, :other);
SELECT mq.ack('orders', :id, :other) AS settled_already;

-- A hand-out is current until settled or handed out again: a late ack of an ended lease succeeds.
SELECT receipt FROM mq.read('orders', 1, '1 microsecond') \gset
SELECT state FROM mq.orders;
SELECT mq.ack('orders', :id, :receipt);
-- So does a late nack, which counts the one failure, once; and a late release, without blame.
SELECT mq.send('orders', '{"n": 2}') AS id \gset
SELECT receipt, failures FROM mq.read('orders', 1, '1 microsecond') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'late');
SELECT attempts, failures, last_error FROM mq.orders;
SELECT receipt FROM mq.read('orders', 1, '1 microsecond') \gset
SELECT mq.release('orders', :id, :receipt);
SELECT attempts, failures FROM mq.orders;
-- Without a receipt: the current hand-out, also an ended one.
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT mq.ack('orders', :id);

-- A receipt that was rolled back is worth nothing, whatever the ids do.
SELECT mq.send('orders', '{"n": 3}') AS id \gset
BEGIN;
SELECT receipt AS rolled_back FROM mq.read('orders') \gset
ROLLBACK;
SELECT mq.ack('orders', :id, :rolled_back), mq.nack('orders', :id, :rolled_back), mq.extend('orders', :id, :rolled_back);
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.ack('orders', :id, :rolled_back), mq.reject('orders', :id, :rolled_back);
SELECT :receipt <> :rolled_back AS differ;
SELECT mq.release('orders', :id, :receipt);
BEGIN;
SAVEPOINT a;
SELECT receipt AS rolled_back FROM mq.read('orders') \gset
ROLLBACK TO a;
SELECT mq.ack('orders', :id, :rolled_back);
COMMIT;

-- A settlement that was rolled back did not happen: the receipt is current again.
SELECT receipt FROM mq.read('orders') \gset
BEGIN;
SELECT mq.ack('orders', :id, :receipt);
SELECT mq.ack('orders', :id, :receipt) AS twice;
ROLLBACK;
SELECT mq.ack('orders', :id, :receipt);

-- The receipt of one queue is nothing in another.
SELECT mq.create_queue('others');
SELECT mq.send('orders', '1') > 0 AS sent, mq.send('others', '1') > 0 AS sent;
SELECT receipt AS ours FROM mq.read('orders') \gset
SELECT id AS theirs FROM mq.read('others') \gset
SELECT mq.ack('others', :theirs, :ours);

-- After a pause, an alteration or a new name, receipts are still good.
SELECT id AS ours_id FROM mq.orders WHERE state = 'leased' \gset
SELECT mq.pause('orders'), mq.alter_queue('orders', visibility => '1 min'), mq.rename_queue('orders', 'renamed');
SELECT mq.ack('renamed', :ours_id, :ours);

-- A queue dropped and made again hands out nothing that an old receipt could name.
SELECT mq.send('renamed', '1') AS id \gset
SELECT mq.resume('renamed');
SELECT receipt AS old FROM mq.read('renamed') \gset
SELECT mq.drop_queue('renamed'), mq.create_queue('renamed');
SELECT count(mq.send('renamed', to_jsonb(n))) FROM generate_series(1, 20) n;
SELECT count(*) FROM mq.read('renamed', 20);
SELECT count(*) FROM mq.ack_batch('renamed', (SELECT array_agg(id) FROM mq.renamed), array_fill(:old::bigint, '{20}'));

-- Nobody learns a receipt by looking.
SELECT count(receipt) FROM mq.renamed;
SELECT (mq.get('renamed', id)).receipt FROM mq.renamed LIMIT 1;
