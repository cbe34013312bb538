-- SELECT on the view: looking at messages, consuming nothing.
\ir include/helpers.sql
SELECT mq.create_queue('orders');
SELECT count(*) FROM mq.send_batch('orders', (SELECT array_agg(jsonb_build_object('customer', n % 10, 'n', n)) FROM generate_series(1, 1000) n));

-- Conditions, aggregates, order.
SELECT body FROM mq.orders WHERE body ->> 'customer' = '7' ORDER BY id LIMIT 3;
SELECT count(*), sum((body ->> 'n')::int) FROM mq.orders WHERE body @> '{"customer": 7}';
-- Joins.
CREATE TABLE customers (id int, name text);
INSERT INTO customers VALUES (3, 'Ada'), (4, 'Kurt');
SELECT name, count(*) FROM mq.orders JOIN customers c ON c.id = (body ->> 'customer')::int GROUP BY name ORDER BY name;
-- Looking changes nothing.
SELECT count(*) FILTER (WHERE attempts = 0 AND state = 'ready') AS untouched FROM mq.orders;

-- state: what each message is now.
SELECT count(*) FROM mq.read('orders', 5, '1 hour');
SELECT count(*) FROM mq.read('orders', 3, '1 microsecond');
SELECT count(mq.send('orders', '{}', delay => '1 hour')) FROM generate_series(1, 2);
SELECT count(mq.send('orders', '{}', ttl => '1 microsecond')) FROM generate_series(1, 4);
SELECT state, count(*), bool_and(receipt IS NULL) AS no_receipts, max(attempts) AS attempts, max(failures) AS failures,
       bool_and(read_at IS NOT NULL) AS read, bool_and(visible_at <= clock_timestamp()) AS visible
FROM mq.orders GROUP BY state ORDER BY state;
-- The three whose lease ended are ready again, with one failure each.
SELECT attempts, failures, state, last_error FROM mq.orders WHERE attempts = 1 AND state = 'ready';

-- The conditions reach the storage: no row is fetched only to be thrown away above it.
CREATE FUNCTION pg_temp.pushed_down(sql text, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    plan jsonb;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || sql INTO plan;
    RETURN EXISTS (
        SELECT FROM jsonb_path_query(plan, 'strict $.**') AS node
        WHERE jsonb_typeof(node) = 'object' AND node ? 'Relation Name'
          AND concat(node ->> 'Filter', node ->> 'Index Cond', node ->> 'Recheck Cond') LIKE '%' || condition || '%');
END $$;
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders WHERE body ->> 'customer' = '7' $$, 'customer');
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders WHERE headers @> '{"trace": "abc"}' $$, 'trace');
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders WHERE enqueued_at < now() - interval '1 day' $$, '1 day');
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders WHERE id = 4711 $$, '4711');
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders WHERE priority = 9 AND id > 4711 $$, '4711');
SELECT pg_temp.pushed_down($$ SELECT * FROM mq.orders_archive WHERE id = 4711 $$, '4711');
-- EXPLAIN works, and names the plan.
SELECT pg_temp.pushed_down($$ SELECT count(*) FROM mq.orders $$, '') AS explained;

-- A browser sees what its snapshot sees.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM mq.orders WHERE state <> 'expired';
SELECT mq.send('orders', '{"own": true}') > 0 AS sent;
SELECT count(*) FROM mq.orders WHERE state <> 'expired';
ROLLBACK;
-- Read-only transactions may browse, but nothing else.
BEGIN READ ONLY;
SELECT count(*) > 0 AS some FROM mq.orders;
SELECT body FROM mq.read('orders');
ROLLBACK;
BEGIN READ ONLY;
SELECT mq.send('orders', '1');
ROLLBACK;
-- Views and materialized views on the queue, and COPY from it.
CREATE VIEW big_orders AS SELECT id, body FROM mq.orders WHERE (body ->> 'n')::int > 998;
SELECT body FROM big_orders ORDER BY id;
COPY (SELECT body FROM mq.orders WHERE body ->> 'n' = '1') TO stdout;
-- mq.get looks at one, by id.
SELECT id FROM mq.orders WHERE body ->> 'n' = '100' \gset
SELECT queue, body, receipt, attempts, state FROM mq.get('orders', :id);
-- None: a row of nulls.
SELECT mq.get('orders', -1) IS NULL AS none;
SELECT mq.get('orders', NULL);
SELECT mq.get('nowhere', 1);
SELECT mq.get(NULL, 1);
