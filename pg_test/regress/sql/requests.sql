-- Requests and replies: mq.request, mq.reply, mq.reply_queue, mq.read_reply.
\ir include/helpers.sql
SELECT mq.create_queue('quotes'), mq.create_queue('other');

-- A session has one private queue, its own.
SELECT mq.reply_queue() = mq.reply_queue() AS same, mq.reply_queue() ~ '^mq_reply_\d+$' AS named;
SELECT mq.reply_queue() AS mine \gset
SELECT queue = :'mine' AS mine, owner = current_user AS owned, durable, notify, ready FROM mq.queues JOIN mq.metrics USING (queue) WHERE queue LIKE 'mq\_%';
SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = :'mine' AND grantee = 'PUBLIC';

-- By hand: send, read, reply, read the reply.
SELECT mq.send('quotes', '{"of": "A"}', headers => jsonb_build_object('reply_to', mq.reply_queue(), 'correlation_id', 'a-1')) > 0 AS sent;
SELECT mq.read_reply('a-1');
SELECT mq.reply(m, '{"price": 7}') > 0 AS replied, mq.ack('quotes', m.id, m.receipt) FROM mq.read('quotes') m;
SELECT body, data, headers, attempts, state FROM mq.read_reply('a-1');
SELECT mq.read_reply('a-1');

-- Several at once, read in any order; others stay; headers are kept beside ours.
SELECT count(mq.send('quotes', to_jsonb(n), headers => jsonb_build_object('reply_to', mq.reply_queue(), 'correlation_id', n))) FROM generate_series(1, 3) n;
SELECT count(mq.reply(m, to_jsonb((m.body #>> '{}')::int * 10), '{"by": "me", "correlation_id": "mine"}')) FROM mq.pop('quotes', 10) m;
SELECT body, headers FROM mq.read_reply('2');
SELECT body, headers FROM mq.read_reply('3', wait => '10 ms');
SELECT count(*) FROM mq.read_reply('4');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM mq.read_reply('4', '50 ms');
SELECT clock_timestamp() - :'before' >= interval '50 ms' AS waited;
SELECT ready FROM mq.metrics WHERE queue = :'mine';
-- It is a queue: what is left can be read as any.
SELECT body FROM mq.pop(:'mine');

-- Without an id the reply has none; with nothing to put in, no headers.
SELECT mq.send('quotes', '1', headers => jsonb_build_object('reply_to', mq.reply_queue())) > 0 AS sent;
SELECT mq.reply(m, '2') > 0 AS replied FROM mq.pop('quotes') m;
SELECT body, headers FROM mq.pop(mq.reply_queue());
-- A reply may go to any queue; the message may come from mq.get, or from the view.
SELECT mq.send('quotes', '"x"', headers => '{"reply_to": "other", "correlation_id": {"n": 1}}') AS id \gset
SELECT mq.reply(mq.get('quotes', :id), 'null') > 0 AS replied;
SELECT mq.reply(ROW(q.*)::mq.message, '2', '{"seen": true}') > 0 AS replied FROM mq.quotes q;
SELECT body, headers FROM mq.pop('other', 10);
SELECT mq.purge_queue('quotes');

-- The procedure: what it sends, and what comes of no reply.
CALL mq.request('quotes', '{"of": "B"}', timeout => '20 ms');
CALL mq.request('quotes', '{"of": "C"}', '20 ms', '{"reply_to": "other", "lang": "de"}', false, NULL);
SELECT headers->>'reply_to' = :'mine' AS to_me, (headers->>'correlation_id')::uuid IS NOT NULL AS id, headers->>'lang' AS lang, expires_at - enqueued_at BETWEEN '0 s' AND '20 ms' AS in_time, state FROM mq.quotes;
SELECT count(*) FROM mq.read('quotes', 10);
-- It removes what else has come meanwhile.
SELECT mq.send(:'mine', '"late"', headers => '{"correlation_id": "long ago"}') > 0 AS sent;
CALL mq.request('quotes', '1', '1 ms');
SELECT ready FROM mq.metrics WHERE queue = :'mine';
-- Somebody who reads: nobody does.
CALL mq.request('quotes', '1', '1 ms', expect_reader => true);
-- A lease is a reader, though a slow one.
SELECT mq.send('quotes', '1') > 0 AS sent;
SELECT count(*) FROM mq.read('quotes', 10);
CALL mq.request('quotes', '1', '1 ms', expect_reader => true);

-- In a block it is refused; PL/pgSQL may call it where it may commit.
BEGIN;
CALL mq.request('quotes', '1');
ROLLBACK;
DO $$ DECLARE answer jsonb := '1'; BEGIN CALL mq.request('quotes', '1', '1 ms', reply => answer); RAISE NOTICE '%', answer IS NULL; END $$;
CREATE FUNCTION asks() RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE r jsonb; BEGIN CALL mq.request('quotes', '1', '1 ms', reply => r); RETURN r; END $$;
SELECT asks();

-- Refused.
CALL mq.request(NULL, '1');
CALL mq.request('nowhere', '1');
CALL mq.request('quotes', NULL);
CALL mq.request('quotes', '1', '0');
CALL mq.request('quotes', '1', '-1 s');
CALL mq.request('quotes', '1', headers => '[1]');
SELECT mq.reply(NULL, '1');
SELECT mq.reply(jsonb_populate_record(NULL::mq.message, '{}'), '1');
SELECT mq.send('other', '1') > 0 AS sent;
SELECT mq.reply(m, '1') FROM mq.read('other', visibility => '1 ms') m;
SELECT mq.purge_queue('other'), mq.send('other', '1', headers => '{"reply_to": 7}') > 0 AS sent;
SELECT mq.reply(m, '1') FROM mq.read('other', visibility => '1 ms') m;
SELECT mq.purge_queue('other'), mq.send('other', '1', headers => '{"reply_to": "nowhere"}') > 0 AS sent;
SELECT mq.reply(m, '1') FROM mq.read('other', visibility => '1 ms') m;
SELECT mq.purge_queue('other'), mq.send('other', '1', headers => '{"reply_to": "mq_reply_0"}') > 0 AS sent;
SELECT mq.reply(m, '1') FROM mq.read('other', visibility => '1 ms') m;
SELECT mq.purge_queue('other'), mq.send('other', '1', headers => '{"reply_to": "other"}') > 0 AS sent;
SELECT mq.reply(m, NULL) FROM mq.read('other', visibility => '1 ms') m;
SELECT mq.read_reply(NULL);
SELECT mq.read_reply('x', '-1 s');
SELECT mq.read_reply('x', '21 s');
BEGIN READ ONLY;
SELECT mq.reply_queue();
ROLLBACK;
\c -
\ir include/helpers.sql
-- The session before has ended.
DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()) LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01); END LOOP; END $$;
SELECT mq.read_reply('x');

-- What is rolled back was not.
BEGIN;
SELECT mq.reply_queue() ~ '^mq_reply_' AS made;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT mq.reply_queue() ~ '^mq_reply_' AS made;
ROLLBACK TO s;
SELECT mq.reply_queue() AS mine \gset
COMMIT;
SELECT mq.reply_queue() = :'mine' AS same;
SELECT count(*) > 0 AS known FROM mq_internal.reply_queue WHERE pid = pg_backend_pid();
-- Dropped, there is another.
SELECT mq.drop_queue(:'mine');
SELECT mq.reply_queue() <> :'mine' AS other;
SELECT mq.reply_queue() AS mine \gset
-- It is an ordinary queue but for its name.
SELECT mq.alter_queue(:'mine', max_bytes => 1000000);
SELECT mq.rename_queue(:'mine', 'replies');
SELECT format('ALTER VIEW mq.%I RENAME TO replies', :'mine') \gexec
SELECT mq.rename_queue('other', 'mq_reply_9');
ALTER VIEW mq.other RENAME TO mq_reply_9;
SELECT mq.create_queue('mq_reply_9');

-- Another role of the same session has another; everybody may send, nobody else read.
CREATE ROLE request_asker;
CREATE ROLE request_stranger;
GRANT INSERT ON mq.quotes TO request_asker;
ALTER DEFAULT PRIVILEGES FOR ROLE request_asker GRANT SELECT ON TABLES TO PUBLIC;
SET ROLE request_asker;
SELECT mq.reply_queue() <> :'mine' AS other;
SELECT mq.reply_queue() AS theirs \gset
SELECT mq.reply_queue() = :'theirs' AS same;
CALL mq.request('quotes', '1', '1 ms');
SELECT queue = :'theirs' AS mine FROM mq.queues WHERE queue LIKE 'mq\_%';
SET ROLE request_stranger;
SELECT mq.send(:'theirs', '1', headers => '{"correlation_id": "1"}') > 0 AS sent;
SELECT count(*) FROM mq.queues WHERE queue LIKE 'mq\_%';
SELECT count(*) FROM mq.metrics WHERE queue LIKE 'mq\_%';
SELECT mq.pop(:'theirs');
SELECT format('SELECT * FROM mq.%I', :'theirs') \gexec
SELECT mq.purge_queue(:'theirs');
CALL mq.request('quotes', '1', '1 ms');
SET ROLE request_asker;
SELECT body FROM mq.read_reply('1');
-- The replier's own right to send counts, not the asker's.
SELECT mq.send('quotes', '1', headers => '{"reply_to": "other"}') > 0 AS sent;
RESET ROLE;
GRANT UPDATE ON mq.quotes TO request_stranger;
SET ROLE request_stranger;
SELECT mq.reply(m, '1') FROM mq.read('quotes', 10) m WHERE headers->>'reply_to' = 'other';
RESET ROLE;
-- Given to another role, it is that role's.
SELECT format('ALTER VIEW mq.%I OWNER TO request_stranger', :'theirs') \gexec
SET ROLE request_asker;
SELECT mq.reply_queue() <> :'theirs' AS other;
RESET ROLE;

-- What sessions that have ended leave is emptied and freed, and dropped after an hour.
\c -
\ir include/helpers.sql
-- The session before has ended.
DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()) LOOP PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01); END LOOP; END $$;
SELECT count(*) FROM mq_internal.reply_queue WHERE pid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = reply_queue.pid AND a.backend_start = reply_queue.backend_start) \gset left_
SELECT :left_count > 1 AS several;
SELECT mq.maintain() >= 0 AS maintained;
SELECT count(*) FROM mq_internal.reply_queue WHERE pid IS NOT NULL;
SELECT count(*) AS n FROM mq_internal.reply_queue \gset
SELECT count(*) = :n AS known FROM mq.queues WHERE queue LIKE 'mq\_%';
SELECT mq.reply_queue() IS NOT NULL AS taken, count(*) = :n AS same FROM mq_internal.reply_queue;
UPDATE mq_internal.reply_queue SET since = now() - interval '61 min';
SELECT mq.maintain() >= 0 AS maintained;
SELECT queue = mq.reply_queue() AS mine FROM mq.queues WHERE queue LIKE 'mq\_%';
SELECT count(*) FROM pg_class WHERE relname LIKE 'mq\_reply\_%';
SELECT count(*) FROM mq_internal.reply_queue;

ALTER DEFAULT PRIVILEGES FOR ROLE request_asker REVOKE SELECT ON TABLES FROM PUBLIC;
DROP OWNED BY request_asker, request_stranger;
DROP ROLE request_asker, request_stranger;
