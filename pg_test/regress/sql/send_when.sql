-- send: when a message is handed out, and until when: delay, deliver_at, ttl; and its priority.
\ir include/helpers.sql
SELECT mq.create_queue('orders');

-- delay: from now.
SELECT mq.send('orders', '"in an hour"', delay => '1 hour') > 0 AS sent;
SELECT body, state, visible_at - enqueued_at BETWEEN '59 min' AND '61 min' AS in_an_hour FROM mq.orders;
SELECT count(*) FROM mq.read('orders');

-- Delays in months are counted by the calendar, in days and hours as they are.
SELECT mq.send('orders', '"in a month"', delay => '1 month') AS id \gset
SELECT abs(extract(epoch FROM visible_at - (enqueued_at + interval '1 month'))) < 60 AS in_a_month FROM mq.orders WHERE id = :id;

-- A delay that passes. It is ready the moment it has passed, without anything that moves it.
SELECT mq.send('orders', '"soon"', delay => '20 ms') AS soon \gset
SELECT visible_at AS due FROM mq.orders WHERE id = :soon \gset
SELECT pg_temp.pass(:'due');
SELECT state FROM mq.orders WHERE id = :soon;
SELECT body, visible_at > clock_timestamp() AS leased FROM mq.read('orders');

-- deliver_at: then. In the past means now.
SELECT mq.send('orders', '"in the next century"', deliver_at => '2101-01-01') > 0 AS sent;
SELECT mq.send('orders', '"long ago"', deliver_at => '2001-01-01') > 0 AS sent;
SELECT body, visible_at FROM mq.orders WHERE body = '"in the next century"';
SELECT body FROM mq.read('orders', 10);

-- A delay counts from the wall clock, not from the start of the transaction.
BEGIN;
SELECT pg_sleep(0.05) IS NOT NULL AS slept;
SELECT mq.send('orders', '"late"', delay => '40 ms') AS late \gset
SELECT visible_at > now() + interval '85 ms' AS from_the_clock FROM mq.orders WHERE id = :late;
ROLLBACK;

-- ttl: after it the message is never handed out. A delay longer than that contradicts it.
SELECT mq.send('orders', '"short"', ttl => '1 microsecond') AS short \gset
SELECT mq.send('orders', '"long"', ttl => '1 hour') AS long \gset
SELECT mq.send('orders', '"never"', delay => '1 hour', ttl => '1 min');
SELECT id = :short AS short, state, expires_at > clock_timestamp() AS still_good FROM mq.orders WHERE id IN (:short, :long) ORDER BY id;
SELECT body FROM mq.read('orders', 10);

-- A queue's own ttl is for the messages that name none.
SELECT mq.create_queue('news', ttl => '1 day');
SELECT mq.send('news', '"default"') > 0 AS sent, mq.send('news', '"own"', ttl => '1 hour') > 0 AS sent,
       (SELECT count(*) FROM mq.send_batch('news', '{"\"batch\""}')) AS batch;
INSERT INTO mq.news (body) VALUES ('"view"');
SELECT body, expires_at - enqueued_at BETWEEN '23 hours 59 min' AND '24 hours 1 min' AS a_day,
       expires_at - enqueued_at BETWEEN '59 min' AND '61 min' AS an_hour FROM mq.news ORDER BY id;

-- priority: 0 to 9, higher first; 4 if not given; within one, in order of ids.
SELECT mq.create_queue('urgent');
SELECT mq.send('urgent', '"a4"') > 0, mq.send('urgent', '"b0"', priority => 0) > 0, mq.send('urgent', '"c9"', priority => 9) > 0,
       mq.send('urgent', '"d4"', priority => 4) > 0, mq.send('urgent', '"e5"', priority => 5) > 0, mq.send('urgent', '"f9"', priority => 9) > 0;
SELECT body, priority FROM mq.read('urgent', 4);
SELECT body, priority FROM mq.read('urgent', 4);

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', delay => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', delay => '-1 month') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', delay => '1 month -32 days') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', delay => '300000 years') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', deliver_at => 'infinity') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', deliver_at => '-infinity') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', delay => '1s', deliver_at => '2101-01-01') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', ttl => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', ttl => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', ttl => '300000 years') $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', priority => -1) $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', priority => 10) $$);
SELECT pg_temp.failing($$ SELECT mq.send('orders', '1', priority => 2147483647) $$);
