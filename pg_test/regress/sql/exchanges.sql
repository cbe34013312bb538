-- Exchanges: what is published goes to every queue that is bound for it.
SELECT mq.create_queue('errors'), mq.create_queue('everything'), mq.create_queue('kern');

-- direct: the key is the binding's.
SELECT mq.create_exchange('logs', 'direct');
SELECT mq.bind('logs', 'errors', 'error');
SELECT mq.bind('logs', 'everything', k) FROM unnest('{info,warning,error}'::text[]) k;
SELECT mq.bind('logs', 'errors', 'error') AS once_more;
SELECT mq.publish('logs', 'error', '"disk full"') AS queues;
SELECT mq.publish('logs', 'info', '"started"') AS queues;
SELECT mq.publish('logs', 'debug', '"x = 1"') AS queues;
SELECT queue, body, headers FROM mq.pop('errors', 10);
SELECT queue, body, headers FROM mq.pop('everything', 10);

-- topic: * is one word, # none or more.
SELECT mq.create_exchange('news', 'topic');
SELECT mq.bind('news', 'kern', 'kern.*'), mq.bind('news', 'kern', '*.critical'),
       mq.bind('news', 'everything', '#'), mq.bind('news', 'errors', 'kern.critical.#');
SELECT k, mq.publish('news', k, '1') AS queues
FROM unnest('{kern.critical,kern.info,cron.critical,kern.critical.disk,cron,a.b.c}'::text[]) k;
-- A queue gets it once, however many of its bindings match.
SELECT body, headers FROM mq.pop('kern', 10);
SELECT headers->>'x-key' AS key FROM mq.pop('errors', 10);
SELECT count(*) FROM mq.pop('everything', 10);

-- fanout: everybody; the key may be left out.
SELECT mq.create_exchange('all', 'fanout');
SELECT mq.bind('all', q) FROM unnest('{errors,everything,kern}'::text[]) q;
SELECT mq.publish_text('all', NULL, 'hello') AS queues;
SELECT mq.publish_bytes('all', 'k', '\x00ff', headers => '{"a": 1}') AS queues;
SELECT body, data, headers FROM mq.pop('kern', 10);

-- headers: all of them, or any.
SELECT mq.create_exchange('cars', 'headers');
SELECT mq.bind('cars', 'kern', headers => '{"type": "car", "color": "blue"}'),
       mq.bind('cars', 'errors', headers => '{"type": "car", "wheels": 3}', match => 'any');
SELECT h, mq.publish('cars', NULL, '{}', headers => h) AS queues
FROM unnest(ARRAY['{"type": "car", "color": "blue", "x": []}', '{"type": "car"}', '{"wheels": 3.0}',
                  '{"wheels": "3"}', '{"color": "blue"}', NULL]::jsonb[]) h;

-- hash: one of them, always the same for a key; in proportion to the weights.
SELECT mq.create_exchange('shards', 'hash');
SELECT mq.bind('shards', 'kern', weight => 3), mq.bind('shards', 'errors');
SELECT mq.purge_queue(q) IS NOT NULL AS purged FROM unnest('{errors,everything,kern}'::text[]) q;
SELECT sum(n) FROM mq.publish_batch('shards', (SELECT array_agg('k' || i) FROM generate_series(1, 400) i),
                                    (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 400) i)) n;
SELECT count(*) BETWEEN 240 AND 360 AS three_quarters FROM mq.kern;
SELECT mq.publish('shards', 'k' || i, to_jsonb(i)) FROM generate_series(1, 3) i;
SELECT count(DISTINCT q) FROM (SELECT headers->>'x-key' AS k, 'kern' AS q FROM mq.kern UNION ALL
                               SELECT headers->>'x-key', 'errors' FROM mq.errors) s WHERE k = 'k1';

-- A queue has its share under whatever name it was bound; a new one of that name has one of its own.
SELECT mq.rename_queue('errors', 'faults'), mq.create_queue('errors');
SELECT mq.bind('shards', 'errors');
SELECT mq.purge_queue('kern') IS NOT NULL AS purged FROM mq.purge_queue('faults');
SELECT sum(n) FROM mq.publish_batch('shards', (SELECT array_agg('k' || i) FROM generate_series(1, 500) i),
                                    (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 500) i)) n;
SELECT count(*) BETWEEN 60 AND 140 AS a_fifth FROM mq.faults;
SELECT count(*) BETWEEN 60 AND 140 AS a_fifth FROM mq.errors;
SELECT mq.drop_queue('errors'), mq.rename_queue('faults', 'errors');
SELECT mq.bind('all', 'errors');

-- A filter looks at headers and body.
SELECT mq.bind('all', 'kern', filter => '$.body.weight > 2500 && $.headers.color == "blue"');
SELECT mq.unbind('all', 'kern', filter => '$.body.weight>2500 && $.headers.color == "blue"') AS one_gone;
SELECT mq.unbind('all', 'kern') AS the_other_gone;
SELECT mq.unbind('cars', 'kern', headers => '{"color": "blue"}'), mq.unbind('cars', 'errors', headers => '{"wheels": 3.0, "type": "car"}');
SELECT mq.bind('cars', 'errors', headers => '{"type": "car", "wheels": 3}', match => 'any');
SELECT mq.bind('all', 'kern', filter => '$.body.weight > 2500 && $.headers.color == "blue"');
SELECT mq.purge_queue('kern') IS NOT NULL AS purged;
SELECT mq.publish('all', NULL, b, headers => '{"color": "blue"}') AS queues
FROM unnest(ARRAY['{"weight": 2501}', '{"weight": 2500}', '{"weight": "heavy"}', '[]']::jsonb[]) b;
SELECT body FROM mq.pop('kern', 10);

-- Exchanges pass on to exchanges, also in a circle; each queue gets it once.
SELECT mq.bind('news', 'all', 'news.#'), mq.bind('all', 'news');
SELECT mq.publish('news', 'news.today', '{"weight": 1}') AS queues;
SELECT mq.publish('all', 'news', '{"weight": 1}') AS queues;
-- What nothing is bound for goes to the alternate; and is refused when it must arrive.
SELECT mq.create_exchange('strict', 'direct', alternate => 'all');
SELECT mq.publish('strict', 'nobody', '1') AS queues;
SELECT mq.alter_exchange('strict', reset => '{alternate}');
SELECT mq.publish('strict', 'nobody', '1') AS queues;
SELECT mq.publish('strict', 'nobody', '1', mandatory => true);

-- An exchange is a relation: inserting publishes.
INSERT INTO mq.logs (key, body, priority) VALUES ('error', '"no light"', 9), ('debug', '1', NULL)
RETURNING key, queues;
COPY mq.logs (key, body) FROM STDIN;
info	{"a": 1}
error	{"a": 2}
\.
SELECT count(*) FROM mq.logs;
SELECT exchange, owner = current_user AS own, kind, alternate FROM mq.exchanges;
SELECT * FROM mq.bindings;

-- Publishing many at once: all or none.
SELECT mq.purge_queue(q) IS NOT NULL AS purged FROM unnest('{errors,everything,kern}'::text[]) q;
SELECT n FROM mq.publish_batch('logs', '{error,info,debug,error}', ARRAY['1', '2', '3', '4']::jsonb[]) n;
SELECT body FROM mq.everything ORDER BY id;
SELECT mq.alter_queue('everything', max_length => 4);
SELECT mq.publish_batch('logs', '{error,error}', ARRAY['5', '6']::jsonb[]);
SELECT mq.publish('logs', 'error', '5');
SELECT mq.publish('logs', 'error', '6');
SELECT count(*) FROM mq.errors;
BEGIN;
SELECT mq.publish('news', 'kern.x', '7');
ROLLBACK;
SELECT count(*) FROM mq.kern;
-- One of a key in each queue.
SELECT mq.alter_queue('everything', reset => '{max_length}');
SELECT mq.publish('all', NULL, '8', dedup_key => 'd') AS queues FROM generate_series(1, 2);
SELECT count(*) FROM mq.errors WHERE body = '8';

-- What is dropped or renamed is followed.
SELECT mq.rename_queue('errors', 'mistakes');
SELECT mq.publish('logs', 'error', '9') AS queues;
SELECT mq.drop_queue('mistakes');
SELECT mq.publish('logs', 'error', '10') AS queues;
DROP VIEW mq.kern;
SELECT * FROM mq.bindings;
ALTER VIEW mq.logs RENAME TO logs_of_old;
SELECT mq.rename_exchange('logs_of_old', 'Old logs');
SELECT mq.publish('Old logs', 'info', '11') AS queues;
SELECT mq.drop_exchange('all');
SELECT mq.drop_exchange('all', cascade => true);
SELECT mq.drop_exchange('all', if_exists => true);
DROP VIEW mq.news;
SELECT exchange FROM mq.exchanges;
SELECT mq.create_exchange('Old logs', 'topic', if_not_exists => true);
