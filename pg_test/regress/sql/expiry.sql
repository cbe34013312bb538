-- expiry: after expires_at a message is never handed out.
\ir include/helpers.sql
SELECT mq.create_queue('news');

-- Without a dead-letter queue it is dropped, and counted.
SELECT mq.send('news', '"old"', ttl => '1 microsecond') > 0 AS sent, mq.send('news', '"new"', ttl => '1 hour') > 0 AS sent;
SELECT body, state FROM mq.news ORDER BY id;
SELECT body FROM mq.read('news', 10);
SELECT body, state FROM mq.news ORDER BY id;
-- By mq.maintain, too.
SELECT count(mq.send('news', to_jsonb(n), ttl => '1 microsecond')) FROM generate_series(1, 100) n;
SELECT mq.maintain('news') AS dropped;
SELECT count(*) FROM mq.news WHERE state = 'expired';
SELECT expired, dead FROM mq.metrics WHERE queue = 'news';

-- Neither pop nor any number of reads hands it out.
SELECT mq.send('news', '"old"', ttl => '1 microsecond') > 0 AS sent;
SELECT count(*) FROM mq.pop('news', 10);
-- A delayed message that expires before it is due, likewise. (The ttl of mq.send could not be that short.)
INSERT INTO mq.news (body, visible_at, expires_at) VALUES ('"never"', '2100-01-01', clock_timestamp());
SELECT state FROM mq.news WHERE body = '"never"';
SELECT mq.maintain('news') AS dropped;

-- While it is held, its holder may finish; a lease outlives the expiry.
SELECT mq.create_queue('tasks', visibility => '1 hour');
SELECT mq.send('tasks', '"short"', ttl => '30 ms') AS id \gset
SELECT receipt FROM mq.read('tasks') \gset
SELECT pg_temp.pass(expires_at) FROM mq.tasks;
SELECT state FROM mq.tasks;
SELECT mq.maintain('tasks') AS left_alone;
SELECT mq.ack('tasks', :id, :receipt);
-- Once given back, it is over.
SELECT mq.send('tasks', '"short"', ttl => '30 ms') AS id \gset
SELECT receipt FROM mq.read('tasks') \gset
SELECT pg_temp.pass(expires_at) FROM mq.tasks;
SELECT mq.release('tasks', :id, :receipt);
SELECT count(*) FROM mq.read('tasks');
SELECT count(*) FROM mq.tasks;

-- With a dead-letter queue it goes there, with what it was.
SELECT mq.create_queue('dead');
SELECT mq.alter_queue('tasks', dead_letter => 'dead');
SELECT mq.send('tasks', '"late"', headers => '{"h": 1}', ttl => '1 microsecond') AS id \gset
SELECT count(*) FROM mq.read('tasks');
SELECT body, headers - 'x-death' AS headers, expires_at, headers #>> '{x-death,0,reason}' AS reason,
       headers #>> '{x-death,0,queue}' AS queue, (headers #>> '{x-death,0,id}')::bigint = :id AS id,
       headers #> '{x-death,0,failures}' AS failures FROM mq.dead;
-- The dead-letter queue's own ttl does not take it away.
SELECT mq.purge_queue('dead') AS purged, mq.alter_queue('dead', ttl => '1 microsecond');
SELECT mq.send('tasks', '"late"', ttl => '1 microsecond') > 0 AS sent;
SELECT mq.maintain('tasks') AS moved;
SELECT body, expires_at, state FROM mq.dead;

-- Many expired ones do not keep a reader from the good ones behind them.
SELECT count(mq.send('news', to_jsonb(n), ttl => '1 microsecond', priority => 9)) FROM generate_series(1, 3000) n;
SELECT mq.send('news', '"good"') > 0 AS sent;
SELECT body FROM mq.read('news');
SELECT mq.maintain('news') >= 0 AS maintained;
