-- redrive: dead letters go back to where each came from.
\ir include/helpers.sql
SELECT mq.create_queue('graveyard');
SELECT mq.create_queue('orders', max_failures => 1, dead_letter => 'graveyard', visibility => '1 hour');
SELECT mq.create_queue('mails', max_failures => 1, dead_letter => 'graveyard', visibility => '1 hour');
CREATE FUNCTION pg_temp.kill(queue text, n int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(mq.reject(queue, m.id, m.receipt, 'bad')) FROM (
        SELECT count(mq.send(queue, jsonb_build_object('queue', queue, 'n', i), headers => '{"trace": 1}', priority => i))
        FROM generate_series(1, n) i) sent, mq.read(queue, n) m $$;
SELECT pg_temp.kill('orders', 3), pg_temp.kill('mails', 2);
SELECT count(*) FROM mq.graveyard;

-- All of them, each to its own queue, with its headers and priority, counters zero.
SELECT mq.redrive('graveyard');
SELECT count(*) FROM mq.graveyard;
SELECT body, headers -> 'trace' AS trace, priority, attempts, failures, last_error, state FROM mq.orders ORDER BY id;
SELECT body, priority FROM mq.mails ORDER BY id;
-- The story stays with them, and does not grow when it repeats itself: count does.
SELECT count(mq.reject('orders', id, receipt, 'bad again')) FROM mq.read('orders', 3);
SELECT jsonb_array_length(headers -> 'x-death') AS entries, headers #>> '{x-death,0,reason}' AS reason,
       headers #> '{x-death,0,count}' AS count, headers #>> '{x-death,0,error}' AS error,
       (headers #>> '{x-death,0,first_at}')::timestamptz < (headers #>> '{x-death,0,last_at}')::timestamptz AS later
FROM mq.graveyard ORDER BY id;
-- Another reason is another entry, before it.
SELECT mq.redrive('graveyard');
SELECT count(mq.nack('orders', id, receipt, reason => 'worse')) FROM mq.read('orders', 3);
SELECT headers #>> '{x-death,0,reason}' AS newest, headers #> '{x-death,0,count}' AS count,
       headers #>> '{x-death,1,reason}' AS older, headers #> '{x-death,1,count}' AS count
FROM mq.graveyard ORDER BY id;

-- Some: by number, oldest first; by id. Unknown ids are ignored.
SELECT mq.redrive('graveyard', max => 1);
SELECT body FROM mq.pop('orders', 10);
SELECT max(id) AS newest FROM mq.graveyard \gset
SELECT mq.redrive('graveyard', ids => ARRAY[:newest, -1]);
SELECT count(*) FILTER (WHERE id = :newest) AS newest, count(*) FROM mq.graveyard;
-- To another queue.
SELECT mq.create_queue('second_chance');
SELECT mq.redrive('graveyard', "to" => 'second_chance', ids => NULL, max => NULL);
SELECT body, state, headers #>> '{x-death,0,queue}' AS died_in FROM mq.second_chance;
-- Nothing there: zero.
SELECT mq.redrive('graveyard');
SELECT mq.redrive('graveyard', ids => '{}');

-- What somebody holds stays.
SELECT mq.purge_queue('orders') >= 0, mq.purge_queue('mails') >= 0;
SELECT pg_temp.kill('orders', 2);
SELECT body FROM mq.read('graveyard', 1, '1 hour');
SELECT mq.redrive('graveyard');
SELECT count(*) FROM mq.graveyard;
SELECT mq.purge_queue('graveyard') >= 0, mq.purge_queue('orders') > 0;

-- Those that have no way back, because they did not come from anywhere, or their queue is gone, stay as well.
SELECT mq.send('graveyard', '"sent here"') > 0 AS sent;
SELECT mq.redrive('graveyard');
SELECT mq.redrive('graveyard', 'orders');
SELECT body FROM mq.pop('orders');
SELECT pg_temp.kill('mails', 1), pg_temp.kill('orders', 1);
SELECT mq.drop_queue('mails');
SELECT mq.redrive('graveyard');
SELECT body FROM mq.graveyard;
SELECT mq.redrive('graveyard', "to" => 'orders');
SELECT body, state FROM mq.orders ORDER BY id;
SELECT mq.purge_queue('orders') > 0 AS emptied;
-- A renamed queue is found under its new name, or not at all; never another that took the old one.
SELECT pg_temp.kill('orders', 1);
SELECT mq.rename_queue('orders', 'renamed');
SELECT mq.redrive('graveyard');
SELECT (SELECT count(*) FROM mq.renamed) AS renamed, (SELECT count(*) FROM mq.graveyard) AS stayed;
SELECT mq.redrive('graveyard', 'renamed') >= 0;
SELECT mq.rename_queue('renamed', 'orders'), mq.purge_queue('orders') >= 0;

-- A redrive is one transaction; a target that is full stops it.
SELECT pg_temp.kill('orders', 3);
SELECT mq.alter_queue('orders', max_length => 2);
SELECT mq.redrive('graveyard');
SELECT (SELECT count(*) FROM mq.orders) AS back, (SELECT count(*) FROM mq.graveyard) AS dead;
SELECT mq.redrive('graveyard', max => 2);

-- Refused.
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.failing($$ SELECT mq.redrive(NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('nowhere') $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard', "to" => 'nowhere') $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard', "to" => 'graveyard') $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard', max => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard', max => -1) $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard', ids => '{NULL}') $$);

-- Where headers say they came from is a sender's word: it needs the right to send there.
CREATE ROLE redrive_owner;
SELECT mq.create_queue('secret');
SELECT mq.create_queue('theirs');
ALTER VIEW mq.theirs OWNER TO redrive_owner;
SET ROLE redrive_owner;
SELECT mq.send('theirs', '"forged"', headers => '{"x-death": [{"queue": "secret", "reason": "rejected", "id": 1}]}') > 0 AS sent;
SELECT pg_temp.failing($$ SELECT mq.redrive('theirs') $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('theirs', 'secret') $$);
SELECT pg_temp.failing($$ SELECT mq.redrive('graveyard') $$);
RESET ROLE;
SELECT count(*) FROM mq.secret;
DROP OWNED BY redrive_owner CASCADE;
DROP ROLE redrive_owner;
