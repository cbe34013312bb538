-- Reading only some messages: a jsonpath over headers and body.
\ir include/helpers.sql
SELECT mq.create_queue('orders', visibility => '1 hour');
SELECT mq.send('orders', '{"type": "car", "color": "blue", "weight": 3000}', headers => '{"a": 1}') > 0 AS sent;
SELECT mq.send('orders', '{"type": "car", "color": "red", "weight": 2000}', headers => '{"a": null}') > 0 AS sent;
SELECT mq.send('orders', '{"type": "truck", "color": "blue"}', headers => '{"a": 3}', priority => 9) > 0 AS sent;
SELECT mq.send('orders', '7') > 0, mq.send('orders', 'null') > 0, mq.send('orders', '[1, 2, 3]') > 0 AS sent;
SELECT mq.send_text('orders', 'text') > 0, mq.send_bytes('orders', '\x00ff', headers => '{"a": false}') > 0 AS sent;

-- Looking on without leasing: each in a transaction that is rolled back.
CREATE FUNCTION pg_temp.by(path jsonpath, qty int DEFAULT 10) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
    found jsonb[];
BEGIN
    BEGIN
        found := ARRAY(SELECT coalesce(body, to_jsonb(data)) FROM mq.read('orders', qty, filter => by.path));
        RAISE EXCEPTION 'back';
    EXCEPTION WHEN raise_exception THEN
    END;
    RETURN QUERY SELECT * FROM unnest(found);
END $$;
SELECT pg_temp.by('$.body.type == "car"');
SELECT pg_temp.by('$.body.type == "car" && $.body.weight > 2500');
SELECT pg_temp.by('$.headers.a >= 0 && $.headers.a <= 3');
SELECT pg_temp.by('$.body.color ? (@ == "blue")');
SELECT pg_temp.by('exists($.body.color)', 1);
SELECT pg_temp.by('exists($.body.color)', 2);
SELECT pg_temp.by(NULL);
-- What it finds first must be neither false nor null.
SELECT pg_temp.by('$.headers.a');
SELECT pg_temp.by('$.body');
SELECT pg_temp.by('false');
SELECT pg_temp.by('$.body[*] ? (@ == 2)');
-- Lax and silent: what cannot be compared does not pass.
SELECT pg_temp.by('$.body.weight > 1');
SELECT pg_temp.by('strict $.body.weight > 1');
SELECT pg_temp.by('$.body.type.double() > 1');
SELECT pg_temp.by('$.body == "text"');
SELECT pg_temp.by('$ == null');

-- The rest is there for others, in order; as is what was passed over, when it is another.
SELECT body FROM mq.pop('orders', 2, '$.body.color == "blue"');
SELECT count(*) FROM mq.pop('orders', filter => '$.body.color == "blue"');
UPDATE mq.orders SET body = '{"color": "blue"}' WHERE body = '7';
SELECT body, attempts, headers, priority FROM mq.read('orders', filter => '$.body.color == "blue"');
SELECT count(*) FROM mq.read('orders', filter => '$.body.color == "blue"', wait => '10 ms');
SELECT coalesce(body, to_jsonb(data)) FROM mq.pop('orders', 10);

-- What is over goes as with any read.
SELECT mq.alter_queue('orders', max_failures => 1);
SELECT mq.send('orders', '1', ttl => '1 microsecond') > 0, mq.send('orders', '2') > 0 AS sent;
SELECT count(*) FROM mq.read('orders', filter => '$.body == 3');
SELECT body, failures FROM mq.read('orders', visibility => '1 microsecond', filter => '$.body == 2');
SELECT count(*) FROM mq.read('orders', filter => '$.body == 2');
SELECT count(*) FROM mq.orders WHERE state <> 'leased';
-- Nothing of a paused queue.
SELECT mq.send('orders', '2') > 0 AS sent;
SELECT mq.pause('orders');
SELECT count(*) FROM mq.pop('orders', filter => '$.body == 2');
SELECT mq.resume('orders');
SELECT count(*) FROM mq.pop('orders', filter => '$.body == 2');

-- In a queue with ordering, what does not pass holds up its group, for who does not want it.
SELECT mq.create_queue('ordered', ordering => 'group');
SELECT mq.send('ordered', '1', group_key => 'a') > 0, mq.send('ordered', '2', group_key => 'a') > 0,
       mq.send('ordered', '2', group_key => 'b') > 0, mq.send('ordered', '1', group_key => 'b') > 0 AS sent;
SELECT body, group_key FROM mq.read('ordered', 10, filter => '$.body == 2');
SELECT body, group_key FROM mq.pop('ordered', 10, '$.body == 1');
SELECT body, group_key FROM mq.pop('ordered', 10, '$.body == 2');
SELECT count(*) FROM mq.pop('ordered', 10);

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT * FROM mq.read('orders', filter => '$.body.n > $least') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.pop('orders', filter => '$"least" > 1') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('orders', filter => '$.body.') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.read('nowhere', filter => '$.body') $$);
SELECT pg_temp.failing($$ SELECT * FROM mq.pop('orders', 0, '$.body') $$);
SELECT count(*) FROM mq.read('orders', filter => '$.body == "$least"');
