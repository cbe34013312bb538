-- A database full of queues: every option, messages in every state, archives, dead letters,
-- grants, hostile names. The tests of dump, restore and pg_upgrade fill a database with it and
-- expect the same content afterwards. Needs the roles kept_owner, kept_worker and kept_web.

CREATE TABLE orders (id bigint PRIMARY KEY, note text);
INSERT INTO orders SELECT n, 'order ' || n FROM generate_series(1, 20) n;

GRANT EXECUTE ON FUNCTION mq.create_queue TO kept_owner;

-- One queue with every option but those that contradict each other.
SELECT mq.create_queue('parked');
SELECT mq.create_queue('full', visibility => '45 s', max_failures => 3, dead_letter => 'parked',
  backoff => ARRAY['1 s', '1 month', '3 h']::interval[], ttl => '30 days', dedup_window => '2 h',
  max_length => 1000, overflow => 'drop_oldest', max_bytes => 12345, archive_retention => '1 year',
  notify => true);
SELECT mq.create_queue('unlogged', durable => false, dedup_window => '1000 years');
SELECT mq.create_queue('paused', max_length => 5);
SELECT mq.send('paused', '"waits"');
SELECT mq.pause('paused');
SELECT mq.create_queue('paused until', max_failures => 1);
SELECT mq.pause('paused until', until => '2999-01-01 00:00:00+00');
SELECT mq.create_queue('empty');

-- Messages in every state.
SELECT mq.send('full', jsonb_build_object('n', n), '{"trace": "a\"b"}', priority => (n % 10)::int,
  dedup_key => 'key ' || n) FROM generate_series(1, 20) n;
SELECT mq.send_text('full', E'text with \\ and '' and "\n" ünïcödé 漢字');
SELECT mq.send_text('full', '');
SELECT mq.send_bytes('full', '\x00010203ff5c');
SELECT mq.send_bytes('full', '');
SELECT mq.send('full', 'null');
SELECT mq.send('full', '12345678901234567890.12345678901234567890');
SELECT mq.send('full', '"later"', deliver_at => '2999-12-31 23:59:59.123456+00');
SELECT mq.send('full', '"short lived"', ttl => '100 years');
SELECT count(*) FROM mq.read('full', 3, '10 years');
SELECT mq.nack('full', id, receipt, '5 years', 'it''s broken: "\n"') FROM mq.read('full', 2);
SELECT mq.release('full', id, receipt, '7 years') FROM mq.read('full', 1);
SELECT mq.archive('full', id, receipt) FROM mq.read('full', 4);
SELECT mq.reject('full', id, receipt, 'no good') FROM mq.read('full', 2);
SELECT mq.ack('full', id, receipt) FROM mq.read('full', 1);
SELECT mq.send('unlogged', '"light"', dedup_key => 'only once');

-- Names that need care, other owners, grants of every kind.
SET ROLE kept_owner;
SELECT mq.create_queue('Ünï "quoted" it''s.dotted; --', max_failures => 2);
SELECT mq.send('Ünï "quoted" it''s.dotted; --', '{"a": [1, {"b": null}]}');
SELECT mq.reject('Ünï "quoted" it''s.dotted; --', id, receipt)
  FROM mq.read('Ünï "quoted" it''s.dotted; --');
SELECT mq.send('Ünï "quoted" it''s.dotted; --', '2');
SELECT mq.create_queue('漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢');
SELECT mq.send('漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢', '"48 bytes"');
SELECT mq.create_queue('granted');
GRANT INSERT, SELECT (id) ON mq.granted TO kept_web;
GRANT UPDATE ON mq.granted TO kept_worker WITH GRANT OPTION;
GRANT SELECT ON mq.granted_archive TO kept_web;
GRANT SELECT ON mq.granted TO PUBLIC;
SELECT mq.send('granted', to_jsonb(n)) FROM generate_series(1, 3) n;
SELECT mq.archive('granted', id, receipt) FROM mq.read('granted');
-- A private reply queue, which nobody has once this script is over.
SELECT mq.send(mq.reply_queue(), '"reply"', '{"correlation_id": "1"}');
RESET ROLE;

-- A queue whose highest ids are gone, and a renamed one.
SELECT mq.create_queue('gone');
SELECT mq.send('gone', to_jsonb(n)) FROM generate_series(1, 50) n;
SELECT count(*) FROM mq.pop('gone', 50);
SELECT mq.create_queue('before', max_failures => 1);
SELECT mq.send('before', '1');
SELECT mq.rename_queue('before', 'after');
CREATE VIEW watched AS SELECT id, body FROM mq.full;

-- Exchanges of every kind, with what is bound to them.
GRANT EXECUTE ON FUNCTION mq.create_exchange TO kept_owner;
SET ROLE kept_owner;
SELECT mq.create_exchange('kept alternate', 'fanout');
SELECT mq.create_exchange('kept "topic"', 'topic', alternate => 'kept alternate');
SELECT mq.bind('kept "topic"', 'granted', 'a.*.#', filter => '$.body.n > 1 && $.headers."x y" == "z"');
SELECT mq.bind('kept "topic"', 'Ünï "quoted" it''s.dotted; --', 'b');
SELECT mq.create_exchange('kept headers', 'headers');
SELECT mq.bind('kept headers', 'granted', headers => '{"a": 1.50, "b": null}', match => 'any');
SELECT mq.bind('kept headers', 'kept "topic"', headers => '{"c": [1]}');
SELECT mq.create_exchange('kept hash', 'hash');
SELECT mq.bind('kept hash', 'granted', weight => 3), mq.bind('kept hash', '漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢');
SELECT mq.rename_queue('granted', 'granted since');
SELECT mq.rename_queue('granted since', 'granted');
GRANT INSERT ON mq."kept hash" TO kept_web;
RESET ROLE;

-- A queue whose messages lie in several segments, and beside them.
SELECT mq.create_queue('one reader', single_active => true);
SELECT mq.create_queue('in segments', segment_size => 64);
SELECT format('SELECT count(*) FROM mq.send_batch(''in segments'', (SELECT array_agg(to_jsonb(n + %s)) '
              'FROM generate_series(1, 32) n)) ; SELECT mq.maintain(''in segments'')', i * 32)
FROM generate_series(0, 9) i \gexec
SELECT count(*) FROM mq.read('in segments', 40, '9 years');
SELECT count(*) FROM mq.pop('in segments', 90);
SELECT mq.maintain('in segments');
DO $$ BEGIN
    ASSERT (SELECT count(*) FROM mq.segments WHERE queue = 'in segments' AND first_id IS NOT NULL) > 2;
END $$;

-- Queues with ordering: groups whose first message is held, waits, is given back, or is gone.
SELECT mq.create_queue('in groups', ordering => 'group', segment_size => 64);
SELECT count(mq.send('in groups', to_jsonb(n), group_key => 'g' || n % 4)) FROM generate_series(1, 40) n;
SELECT mq.maintain('in groups');
SELECT count(mq.send('in groups', to_jsonb(n), group_key => 'g' || n % 4, priority => n % 10)) FROM generate_series(41, 80) n;
SELECT mq.maintain('in groups');
SELECT mq.send('in groups', '"free"');
SELECT count(*) FROM mq.read('in groups', 3, '9 years');
SELECT mq.release('in groups', id) FROM mq."in groups" WHERE state = 'leased' ORDER BY id LIMIT 1;
SELECT mq.nack('in groups', id, receipt, '5 years') FROM mq.read('in groups');
SELECT mq.ack('in groups', id, receipt) FROM mq.read('in groups');
SELECT mq.create_queue('in line', ordering => 'strict');
SELECT mq.send('in line', to_jsonb(n), priority => n) FROM generate_series(1, 5) n;
SELECT mq.release('in line', id, receipt) FROM mq.read('in line', 2);
-- A queue whose tenants take turns.
SELECT mq.create_queue('in turns', fair_by => 'the "tenant"');
SELECT mq.send('in turns', to_jsonb(n), priority => 3 + n % 2, headers => jsonb_build_object('the "tenant"', n % 3)) FROM generate_series(1, 7) n;
SELECT mq.nack('in turns', id, receipt, '5 years') FROM mq.read('in turns');
-- Queues that hold their readers back.
SELECT mq.create_queue('held back', rate_limit => 7, rate_interval => '1 minute', rate_burst => 3,
    rate_key => 'k "x"', max_in_flight => 5);
SELECT mq.create_queue('held back in groups', ordering => 'group', group_max_in_flight => 2, rate_limit => 9);
-- A queue with both of its parked tables: what is left of much that was parked has moved on to the
-- second. A new session looks at once whether that is worth while.
SELECT mq.create_queue('in both', segment_size => 64);
SELECT count(mq.send('in both', to_jsonb(n || repeat('x', 1800)))) FROM generate_series(1, 300) n;
SELECT count(*) FROM mq.pop('in both', 290);
SELECT mq.maintain('in both');
SELECT mq.maintain('in both');
\connect
SELECT format('SELECT count(mq.send(''in both'', to_jsonb(n))) FROM generate_series(%s, %s) n; '
              'SELECT mq.maintain(''in both'')', i * 32 + 1, i * 32 + 32)
FROM generate_series(10, 16) i \gexec
-- Whoever looks at the queue meanwhile, a vacuum as well, postpones it.
CREATE FUNCTION pg_temp.is_in_both() RETURNS bool LANGUAGE plpgsql AS $$ DECLARE lies text; n int; BEGIN
    SELECT storage INTO lies FROM mq.segments WHERE queue = 'in both' AND state = 'parked';
    EXECUTE format('SELECT count(*) FROM mq_internal.%s', lies) INTO n;
    RETURN lies LIKE '%\_p' AND n >= 10;
END $$;
SELECT 'SELECT CASE WHEN NOT pg_temp.is_in_both() THEN pg_sleep(0.1)::text || mq.maintain(''in both'') END'
FROM generate_series(1, 200) \gexec
DO $$ BEGIN
    ASSERT pg_temp.is_in_both();
    ASSERT (SELECT count(*) FROM mq.segments WHERE queue = 'in both' AND state = 'closed') > 1;
END $$;
