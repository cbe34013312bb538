-- size: the uncompressed payload and headers, up to the queue's max_bytes (1 MiB if not given).
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- Bytes are counted exactly: at the limit, and one over it.
SELECT mq.send_bytes('orders', convert_to(repeat('x', 1048576), 'UTF8')) > 0 AS sent;
SELECT mq.send_bytes('orders', convert_to(repeat('x', 1048577), 'UTF8'));
-- However well it compresses, and however it is sent.
SELECT mq.send('orders', to_jsonb(repeat('x', 1048577)));
SELECT mq.send_text('orders', repeat('x', 1048577));
SELECT mq.send_batch('orders', ARRAY['1', to_jsonb(repeat('x', 1048577))]);
INSERT INTO mq.orders (body) VALUES (to_jsonb(repeat('x', 1048577)));
INSERT INTO mq.orders (data) VALUES (convert_to(repeat('x', 1048577), 'UTF8'));
SELECT count(*) FROM mq.orders;
-- A body of a megabyte goes through whole.
SELECT md5(repeat('0123456789', 104800)) AS sum \gset
SELECT mq.send_text('orders', repeat('0123456789', 104800), priority => 9) > 0 AS sent;
SELECT md5(body #>> '{}') = :'sum' AS whole FROM mq.pop('orders');
SELECT length(data) FROM mq.pop('orders');
-- Stored compressed or not, also one that does not compress, and one of a million small parts.
SELECT mq.send('orders', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 20000) n)) > 0 AS sent;
SELECT body = (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 20000) n) AS whole FROM mq.pop('orders');

-- Headers count.
SELECT mq.create_queue('small', max_bytes => 1000);
SELECT mq.send_bytes('small', convert_to(repeat('x', 1000), 'UTF8')) > 0 AS sent;
SELECT mq.send_bytes('small', convert_to(repeat('x', 1000), 'UTF8'), headers => '{"h": 1}');
SELECT mq.send('small', '1', headers => jsonb_build_object('h', repeat('x', 1000)));
SELECT mq.send('small', '1', headers => jsonb_build_object('h', repeat('x', 900))) > 0 AS sent;
-- In bytes, not characters.
SELECT mq.send_bytes('small', convert_to(repeat('ü', 501), 'UTF8'));
SELECT mq.send_text('small', repeat('ü', 501));
SELECT mq.send_text('small', repeat('ü', 450)) > 0 AS sent;
-- A limit altered is for sends to come.
SELECT mq.alter_queue('small', max_bytes => 10);
SELECT count(*) FROM mq.read('small', 10);
SELECT mq.send_bytes('small', '12345678901');
SELECT mq.send_bytes('small', '1234567890') > 0 AS sent;
SELECT mq.alter_queue('small', max_bytes => 10000000);
SELECT mq.send_bytes('small', convert_to(repeat('x', 10000000), 'UTF8')) > 0 AS sent;
-- Nothing at all is small enough for any queue.
SELECT mq.alter_queue('small', max_bytes => 1);
SELECT mq.send_bytes('small', '') > 0 AS sent;

-- Deeply nested bodies come back as they were.
SELECT mq.send('orders', (repeat('[', 1000) || repeat(']', 1000))::jsonb) > 0 AS sent;
SELECT body = (repeat('[', 1000) || repeat(']', 1000))::jsonb AS same FROM mq.pop('orders');
SELECT mq.send('orders', (repeat('{"a":', 1000) || '1' || repeat('}', 1000))::jsonb, headers => (repeat('{"a":', 500) || '1' || repeat('}', 500))::jsonb) > 0 AS sent;
SELECT body #>> array_fill('a'::text, '{1000}') AS deep FROM mq.pop('orders');
-- Too deep is PostgreSQL's to refuse.
SELECT split_part(pg_temp.failing($$ SELECT mq.send('orders', (repeat('[', 200000) || repeat(']', 200000))::jsonb) $$), ':', 1) AS sqlstate;
SELECT count(*) FROM mq.orders;
