-- INSERT and COPY on the view: sending, from anything that speaks SQL.
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- One, several, from a query; with the id, or all of the row.
INSERT INTO mq.orders (body) VALUES ('{"n": 1}');
INSERT INTO mq.orders (body) VALUES ('{"n": 2}'), ('{"n": 3}') RETURNING id > 0 AS id, body, state;
INSERT INTO mq.orders (body, priority) SELECT jsonb_build_object('n', n), n FROM generate_series(4, 6) n
RETURNING queue, receipt, body, data, headers, attempts, failures, last_error, priority, state;

-- Every column that can be given.
INSERT INTO mq.orders (body, headers, priority, dedup_key, visible_at, expires_at)
VALUES ('"full"', '{"h": 1}', 9, 'key', '2100-01-01', '2101-01-01')
RETURNING body, headers, priority, dedup_key, visible_at, expires_at, state, enqueued_at <= clock_timestamp() AS now;
INSERT INTO mq.orders (data) VALUES ('\xcafe') RETURNING body, data;

-- NULL and DEFAULT are as if omitted, also for the columns that cannot be given.
INSERT INTO mq.orders (id, receipt, queue, body, data, headers, attempts, failures, last_error, priority,
    group_key, dedup_key, enqueued_at, visible_at, read_at, expires_at, state)
VALUES (NULL, NULL, NULL, '"nulls"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
RETURNING body, attempts, failures, priority, state, queue;
INSERT INTO mq.orders (id, body, priority, visible_at) VALUES (DEFAULT, '"defaults"', DEFAULT, DEFAULT)
RETURNING body, priority, state;

-- JSON null is a body; SQL NULL is none.
INSERT INTO mq.orders (body) VALUES ('null') RETURNING body, jsonb_typeof(body);

-- The messages come out like others.
SELECT body, data, headers FROM mq.read('orders', 100);

-- COPY.
SELECT mq.create_queue('bulk');
COPY mq.bulk (body) FROM stdin;
{"n": 1}
"text with\\ttab"
[1, 2]
\.
COPY mq.bulk (data, priority) FROM stdin (FORMAT csv);
\xff00,9
\.
SELECT body, data, priority FROM mq.read('bulk', 10);
-- All or nothing.
COPY mq.bulk (body) FROM stdin;
{"n": 1}
no json
\.
COPY mq.bulk (body, priority) FROM stdin;
{"n": 1}	3
{"n": 2}	10
\.
SELECT count(*) FROM mq.bulk WHERE state = 'ready';

-- A duplicate is not sent again; what comes back is the winner's id.
SELECT id AS winner FROM mq.orders WHERE dedup_key = 'key' \gset
INSERT INTO mq.orders (body, dedup_key) VALUES ('"again"', 'key') RETURNING id = :winner AS winner;
SELECT count(*) FROM mq.orders WHERE dedup_key = 'key';

-- Same rules as mq.send.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ INSERT INTO mq.orders DEFAULT VALUES $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body) VALUES (NULL) $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (priority) VALUES (1) $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, data) VALUES ('1', '\x01') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, headers) VALUES ('1', '[]') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, headers) VALUES ('1', 'null') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, priority) VALUES ('1', 10) $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, priority) VALUES ('1', -1) $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, group_key) VALUES ('1', 'g') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, visible_at) VALUES ('1', 'infinity') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, visible_at) VALUES ('1', '-infinity') $$);
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, expires_at) VALUES ('1', '-infinity') $$);
-- an expiry at infinity is none
SELECT pg_temp.failing($$ INSERT INTO mq.orders (body, expires_at) VALUES ('1', 'infinity') $$);

-- What the queue itself sets cannot be given.
SELECT pg_temp.failing(format('INSERT INTO mq.orders (body, %I) VALUES (''1'', %L)', attname, value))
FROM pg_attribute JOIN (VALUES ('id', '1'), ('receipt', '1'), ('queue', 'orders'), ('attempts', '0'), ('failures', '0'),
    ('last_error', ''), ('enqueued_at', '2020-01-01'), ('read_at', '2020-01-01'), ('state', 'ready')) AS given(attname, value) USING (attname)
WHERE attrelid = 'mq.orders'::regclass ORDER BY attnum;
SELECT count(*) FROM mq.orders WHERE body = '1';
-- The archive is for looking, and for its owner to delete from.
SELECT count(mq.archive('orders', id)) > 0 AS archived FROM mq.orders;
SELECT pg_temp.failing($$ INSERT INTO mq.orders_archive (body) VALUES ('1') $$);
SELECT pg_temp.failing($$ UPDATE mq.orders_archive SET body = '1' $$);
SELECT pg_temp.failing($$ DELETE FROM mq.orders_archive $$);
