-- create_queue: values that are refused, each naming the queue and the argument.
\ir include/helpers.sql
\pset format unaligned
\pset tuples_only on

-- visibility: more than nothing
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', visibility => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', visibility => '-1 second') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', visibility => '-1 month') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', visibility => '1 month -30 days') $$);

-- max_failures: at least 1
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_failures => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_failures => -1) $$);

-- dead_letter: a queue
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dead_letter => 'nowhere') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dead_letter => '') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dead_letter => 'q') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dead_letter => 'queues') $$);

-- backoff: one dimension, no null, nothing negative; an empty one is none at all
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', backoff => '{}') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', backoff => '{1s,NULL}') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', backoff => '{1s,-1s}') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', backoff => '{{1s},{2s}}') $$);

-- ttl, dedup_window, archive_retention: more than nothing
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', ttl => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', ttl => '-1 hour') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dedup_window => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', dedup_window => '-5 minutes') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', archive_retention => '0') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', archive_retention => '-1 day') $$);

-- max_length: at least 1; overflow: one of two words
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_length => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_length => -1) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', overflow => 'bounce') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', overflow => '') $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', overflow => 'REJECT') $$);

-- max_bytes: at least 1
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_bytes => 0) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('q', max_bytes => -1) $$);

-- the name: see names.sql for more
SELECT pg_temp.failing($$ SELECT mq.create_queue(NULL) $$);
SELECT pg_temp.failing($$ SELECT mq.create_queue('') $$);

-- Nothing was created.
SELECT count(*) FROM mq.queues;
