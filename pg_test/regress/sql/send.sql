-- send: one message, in the caller's transaction.
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- The least: a queue and a JSON body. It returns the message's id.
SELECT mq.send('orders', '{"order": 1}') AS first \gset
SELECT queue, body, data, headers, attempts, failures, last_error, priority, group_key, dedup_key, state
FROM mq.orders \gx
SELECT id = :first AS same_id, receipt, enqueued_at <= clock_timestamp() AS sent,
       visible_at <= clock_timestamp() AS visible, read_at, expires_at
FROM mq.orders;

-- Ids increase.
SELECT mq.send('orders', '{"order": 2}') AS second \gset
SELECT :first < :second AS increasing;

-- All arguments by name …
SELECT mq.send(queue => 'orders', body => '{"order": 3}', headers => '{"trace": "abc"}',
    delay => '1 hour', priority => 7, dedup_key => 'order-3', ttl => '2 hours') AS third \gset
SELECT body, headers, priority, dedup_key, state,
       visible_at BETWEEN enqueued_at + interval '59 min' AND enqueued_at + interval '61 min' AS in_an_hour,
       expires_at BETWEEN enqueued_at + interval '119 min' AND enqueued_at + interval '121 min' AS for_two_hours
FROM mq.orders WHERE id = :third \gx
-- … and by position.
SELECT mq.send('orders', '{"order": 4}', '{"trace": "def"}', NULL, '2100-01-01', 0, NULL, 'order-4', '100 years') AS fourth \gset
SELECT body, headers, visible_at, priority, dedup_key, state FROM mq.orders WHERE id = :fourth;

-- NULL for an optional argument means its default.
SELECT mq.send('orders', '{"order": 5}', NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS fifth \gset
SELECT headers, priority, dedup_key, expires_at, state FROM mq.orders WHERE id = :fifth;

-- A body is any JSON value, kept exactly, JSON null and large numbers as well.
SELECT mq.create_queue('values');
SELECT count(mq.send('values', body)) FROM unnest(ARRAY['null', 'true', '0', '-0.10', '1e30',
    '123456789012345678901234567890.123456789', '""', '"a\u00e9\ud83d\udce6\\ \"\n"', '[]', '{}',
    '[1, [2, {"three": null}]]', '{"a": 1, "a": 2}']::jsonb[]) body;
SELECT body, jsonb_typeof(body), data FROM mq.read('values', 100);

-- NULL is no body.
SELECT mq.send('orders', NULL);
-- Nor is what is no JSON: use send_text, or send_bytes.
SELECT mq.send('orders', 'hello');

-- headers: an object or nothing. JSON null is neither.
SELECT mq.send('orders', '1', headers => '{}') > 0 AS sent;
SELECT mq.send('orders', '1', headers => '[]');
SELECT mq.send('orders', '1', headers => '"text"');
SELECT mq.send('orders', '1', headers => 'null');

-- From a query, one message a row.
SELECT mq.create_queue('numbers');
SELECT count(mq.send('numbers', to_jsonb(n))) AS sent FROM generate_series(1, 1000) n;
SELECT count(*), count(DISTINCT id), min((body)::int), max((body)::int),
       array_agg(body::int ORDER BY id) = array_agg(body::int ORDER BY body::int) AS in_order
FROM mq.numbers;

-- The outbox: from a trigger, committed with the row that it tells about, or not at all.
CREATE TABLE shop (id int PRIMARY KEY, item text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mq.send('outbox', to_jsonb(new));
    RETURN new;
END $$;
CREATE TRIGGER tell AFTER INSERT ON shop FOR EACH ROW EXECUTE FUNCTION tell();
SELECT mq.create_queue('outbox');
INSERT INTO shop VALUES (1, 'book');
BEGIN;
INSERT INTO shop VALUES (2, 'lamp');
ROLLBACK;
INSERT INTO shop VALUES (1, 'again');
SELECT body FROM mq.read('outbox', 10);

-- A queue that does not exist.
SELECT mq.send('nowhere', '1');
SELECT mq.send(NULL, '1');
-- A group is only where groups are.
SELECT mq.send('orders', '1', group_key => 'customer-7');
-- An id is never given twice, even if the send rolls back.
BEGIN;
SELECT mq.send('orders', '1') AS rolled_back \gset
ROLLBACK;
SELECT mq.send('orders', '1') > :fifth AS increasing;
SELECT count(*) FROM mq.orders WHERE id = :rolled_back;
