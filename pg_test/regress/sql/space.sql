-- The space of a queue: the option, what mq.segments shows, and that space comes back.
SELECT mq.create_queue('chosen');
SELECT mq.create_queue('small', segment_size => 64);
SELECT queue, segment_size FROM mq.queues ORDER BY queue;

-- The option is checked, changed and reset like the others.
SELECT mq.create_queue('tiny', segment_size => 63);
SELECT mq.create_queue('rate', segment_size => 0);
SELECT mq.drop_queue('rate');
SELECT mq.create_queue('less', segment_size => -1);
SELECT mq.alter_queue('chosen', segment_size => 63);
SELECT mq.alter_queue('chosen', segment_size => 1000);
SELECT segment_size FROM mq.queues WHERE queue = 'chosen';
SELECT mq.alter_queue('chosen', visibility => '1 min');
SELECT segment_size FROM mq.queues WHERE queue = 'chosen';
SELECT mq.alter_queue('chosen', reset => ARRAY['segment_size']);
SELECT segment_size FROM mq.queues WHERE queue = 'chosen';

-- The settings.
SHOW pg_broker.segment_size;
SHOW pg_broker.rotation_interval;
SHOW pg_broker.move_grace;
SET pg_broker.segment_size = 100;

-- A young queue has one table.
SELECT queue, storage ~ '^q_[0-9]+$' AS named, state, first_id, last_id, bytes > 0 AS has_bytes,
       since <= clock_timestamp() AS has_since, kept_by
  FROM mq.segments;

-- Messages come and go; the tables stay few, and what is used up is truncated.
CREATE PROCEDURE public.work(rounds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        PERFORM mq.send('small', '1') FROM generate_series(1, 32);
        COMMIT;
        PERFORM count(*) FROM mq.pop('small', 32);
        COMMIT;
        PERFORM mq.maintain('small');
        COMMIT;
    END LOOP;
END$$;
CALL public.work(60);
SELECT storage ~ '_s[0-9]+$' AS is_segment, count(*) BETWEEN 1 AND 6 AS few FROM mq.segments WHERE queue = 'small' GROUP BY 1 ORDER BY 1;
SELECT count(*) <= 2 AS few_are_old FROM mq.segments WHERE state IN ('closed', 'drained');
SELECT count(*) FROM mq.small;

-- What is delayed is moved, and stays.
SELECT mq.send('small', '"late"', delay => '1 hour') > 0 AS sent;
BEGIN;
SELECT body FROM mq.small;
SELECT bool_and(kept_by IS NULL) AS no_open_one_is_kept FROM mq.segments WHERE state = 'open';
COMMIT;
CALL public.work(20);
SELECT body, state FROM mq.small;
SELECT mq.delete('small', id) FROM mq.small;

-- Everything goes with the queue.
SELECT mq.drop_queue('small');
SELECT count(*) FROM mq.segments WHERE queue = 'small';
SELECT count(*) FROM mq_internal.segment;
SELECT count(*) FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace AND relname ~ '_s[0-9]+$';

-- Who has no privilege on a queue does not see its space.
CREATE ROLE space_nobody;
SET ROLE space_nobody;
SELECT * FROM mq.segments;
RESET ROLE;
GRANT SELECT ON mq.chosen TO space_nobody;
SET ROLE space_nobody;
SELECT queue, state FROM mq.segments;
RESET ROLE;
DROP OWNED BY space_nobody;
DROP ROLE space_nobody;
