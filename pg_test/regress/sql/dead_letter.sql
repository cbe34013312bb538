-- dead letters: messages that failed too often, were rejected, or expired, with the story in x-death.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 2, visibility => '1 hour');
SELECT dead_letter FROM mq.queues WHERE queue = 'orders';

-- By nack: dead-lettered on the failure that max_failures says, not after it.
SELECT mq.send('orders', '{"n": 1}', headers => '{"trace": "abc"}', priority => 7, dedup_key => 'one', ttl => '1 day') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'first');
SELECT count(*) FROM mq.orders_dead;
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.nack('orders', :id, :receipt, reason => 'second');
SELECT count(*) FROM mq.orders;
-- A new message: payload, priority and headers kept, counters zero, no ttl, no key.
SELECT queue, body, data, headers - 'x-death' AS headers, attempts, failures, last_error, priority, group_key, dedup_key,
       read_at, expires_at, state FROM mq.orders_dead \gx
SELECT jsonb_array_length(headers -> 'x-death') AS entries,
       headers #>> '{x-death,0,reason}' AS reason, headers #>> '{x-death,0,queue}' AS queue,
       (headers #>> '{x-death,0,id}')::bigint = :id AS id, headers #> '{x-death,0,failures}' AS failures,
       headers #> '{x-death,0,count}' AS count, headers #>> '{x-death,0,error}' AS error,
       (headers #>> '{x-death,0,first_at}')::timestamptz <= clock_timestamp() AS first,
       (headers #>> '{x-death,0,last_at}')::timestamptz <= clock_timestamp() AS last
FROM mq.orders_dead \gx
SELECT jsonb_object_keys(headers #> '{x-death,0}') AS key FROM mq.orders_dead ORDER BY 1;
SELECT body FROM mq.pop('orders_dead');

-- By a lease that ended for the last allowed time: never handed out again, dead-lettered by a reader in passing.
SELECT mq.send('orders', '{"n": 2}') AS id \gset
SELECT attempts, failures FROM mq.read('orders', 1, '1 microsecond');
SELECT attempts, failures FROM mq.read('orders', 1, '1 microsecond');
SELECT count(*) FROM mq.read('orders');
SELECT count(*) FROM mq.orders;
SELECT body, headers #>> '{x-death,0,reason}' AS reason, headers #> '{x-death,0,failures}' AS failures FROM mq.pop('orders_dead');
-- Or by mq.maintain, which tells how many rows it moved or removed.
SELECT mq.send('orders', '{"n": 3}') > 0 AS sent;
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT mq.maintain('orders') AS moved, mq.maintain('orders') AS nothing_left;
SELECT body, headers #>> '{x-death,0,reason}' AS reason FROM mq.pop('orders_dead');
-- Nor does pop hand it out.
SELECT mq.send('orders', '{"n": 4}') > 0 AS sent;
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT count(*) FROM mq.pop('orders');
SELECT body, headers #>> '{x-death,0,reason}' AS reason FROM mq.pop('orders_dead');

-- The consumer of the last hand-out may still settle it late, if nobody has moved it yet.
SELECT mq.send('orders', '{"n": 5}') AS id \gset
SELECT count(*) FROM mq.read('orders', 1, '1 microsecond');
SELECT receipt FROM mq.read('orders', 1, '1 microsecond') \gset
SELECT mq.ack('orders', :id, :receipt);
SELECT count(*) FROM mq.orders_dead;

-- By reject: at once, failures or not.
SELECT mq.send('orders', '{"n": 6}') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
SELECT mq.reject('orders', :id, :receipt, reason => 'no such customer');
SELECT body, headers #>> '{x-death,0,reason}' AS reason, headers #>> '{x-death,0,error}' AS error,
       headers #> '{x-death,0,failures}' AS failures FROM mq.pop('orders_dead');
-- Bytes stay bytes.
SELECT mq.send_bytes('orders', '\xcafe') AS id \gset
SELECT count(mq.reject('orders', id)) FROM mq.read('orders');
SELECT body, data FROM mq.pop('orders_dead');

-- By expiry.
SELECT mq.send('orders', '{"n": 7}', ttl => '1 microsecond') > 0 AS sent;
SELECT count(*) FROM mq.read('orders');
SELECT body, expires_at, headers #>> '{x-death,0,reason}' AS reason FROM mq.pop('orders_dead');

-- Never without max_failures: it counts on.
SELECT mq.create_queue('patient');
SELECT mq.send('patient', '1') AS id \gset
DO $$ BEGIN FOR i IN 1 .. 50 LOOP PERFORM mq.read('patient', 1, '1 microsecond'); END LOOP; END $$;
SELECT attempts, failures, state FROM mq.patient;

-- A dead letter is part of the transaction that made it.
SELECT mq.send('orders', '{"n": 8}') AS id \gset
SELECT receipt FROM mq.read('orders') \gset
BEGIN;
SELECT mq.reject('orders', :id, :receipt);
SELECT count(*) FROM mq.orders_dead;
ROLLBACK;
SELECT (SELECT count(*) FROM mq.orders_dead) AS dead, mq.ack('orders', :id, :receipt);

-- max_failures lowered: counts from now on.
SELECT mq.alter_queue('patient', max_failures => 3, dead_letter => 'orders_dead');
SELECT count(*) FROM mq.read('patient');
SELECT headers #>> '{x-death,0,queue}' AS queue, headers #> '{x-death,0,failures}' AS failures FROM mq.pop('orders_dead');

-- What a sender writes into x-death does no harm.
SELECT count(mq.send('orders', to_jsonb(h), headers => jsonb_build_object('x-death', h)))
FROM unnest(ARRAY['null', '"text"', '7', '{"queue": "orders"}', '[]', '[7]', '[null]', '["queue"]', '[[]]',
    '[{"queue": 7, "id": "x", "count": "many", "reason": {}, "first_at": "yesterday", "last_at": []}]',
    '[{"queue": "orders", "reason": "rejected", "count": 9223372036854775807}]']::jsonb[]) h;
SELECT count(mq.reject('orders', id, receipt, 'forged')) FROM mq.read('orders', 100);
SELECT body AS forged, headers #>> '{x-death,0,reason}' AS reason, headers #>> '{x-death,0,error}' AS error,
       jsonb_typeof(headers -> 'x-death') AS type FROM mq.orders_dead ORDER BY id;
