-- Topics: messages go to the queues whose patterns match their routing key.

CREATE FUNCTION pgmq.validate_routing_key(routing_key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    wrong text := CASE
        WHEN routing_key IS NULL OR routing_key = '' THEN 'cannot be NULL or empty'
        WHEN length(routing_key) > 255 THEN
            format('length cannot exceed 255 characters, got %s characters', length(routing_key))
        WHEN routing_key !~ '^[a-zA-Z0-9._-]+$' THEN
            'contains invalid characters. Only alphanumeric, dots, hyphens, and underscores are allowed. Got: '
            || routing_key
        WHEN routing_key LIKE '.%' THEN 'cannot start with a dot. Got: ' || routing_key
        WHEN routing_key LIKE '%.' THEN 'cannot end with a dot. Got: ' || routing_key
        WHEN routing_key LIKE '%..%' THEN 'cannot contain consecutive dots. Got: ' || routing_key
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'routing_key %', wrong;
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION pgmq.validate_topic_pattern(pattern text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    wrong text := CASE
        WHEN pattern IS NULL OR pattern = '' THEN 'cannot be NULL or empty'
        WHEN length(pattern) > 255 THEN
            format('length cannot exceed 255 characters, got %s characters', length(pattern))
        WHEN pattern !~ '^[a-zA-Z0-9._*#-]+$' THEN
            'contains invalid characters. Only alphanumeric, dots, hyphens, underscores, *, and # are allowed. Got: '
            || pattern
        WHEN pattern LIKE '.%' THEN 'cannot start with a dot. Got: ' || pattern
        WHEN pattern LIKE '%.' THEN 'cannot end with a dot. Got: ' || pattern
        WHEN pattern LIKE '%..%' THEN 'cannot contain consecutive dots. Got: ' || pattern
        WHEN pattern LIKE '%**%' THEN
            'cannot contain consecutive stars (**). Use # for multi-segment matching. Got: ' || pattern
        WHEN pattern LIKE '%##%' THEN
            'cannot contain consecutive hashes (##). A single # already matches zero or more segments. Got: '
            || pattern
        WHEN pattern LIKE '%*#%' OR pattern LIKE '%#*%' THEN
            'cannot contain adjacent wildcards (*# or #*). Separate wildcards with dots. Got: ' || pattern
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'pattern %', wrong;
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION pgmq.bind_topic(pattern text, queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pgmq.validate_topic_pattern(pattern);
    IF queue_name IS NULL OR queue_name = '' THEN
        RAISE EXCEPTION 'queue_name cannot be NULL or empty';
    END IF;
    IF NOT EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = queue_name) THEN
        RAISE EXCEPTION 'Queue "%" does not exist. Create the queue first using pgmq.create()',
            queue_name;
    END IF;
    INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES (pattern, queue_name)
    ON CONFLICT ON CONSTRAINT topic_bindings_unique_pattern_queue DO NOTHING;
END
$$;

CREATE FUNCTION pgmq.unbind_topic(pattern text, queue_name text) RETURNS boolean
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    IF pattern IS NULL OR pattern = '' THEN
        RAISE EXCEPTION 'pattern cannot be NULL or empty';
    END IF;
    IF queue_name IS NULL OR queue_name = '' THEN
        RAISE EXCEPTION 'queue_name cannot be NULL or empty';
    END IF;
    DELETE FROM pgmq.topic_bindings b WHERE b.pattern = pattern AND b.queue_name = queue_name;
    RETURN FOUND;
END
$$;

CREATE FUNCTION pgmq.list_topic_bindings()
    RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
    LANGUAGE sql STABLE AS $$
    SELECT b.pattern, b.queue_name, b.bound_at, b.compiled_regex FROM pgmq.topic_bindings b
    ORDER BY b.bound_at DESC, b.pattern, b.queue_name
$$;

CREATE FUNCTION pgmq.list_topic_bindings(queue_name text)
    RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
    LANGUAGE sql STABLE AS $$
    SELECT b.pattern, b.queue_name, b.bound_at, b.compiled_regex FROM pgmq.topic_bindings b
    WHERE b.queue_name = list_topic_bindings.queue_name
    ORDER BY b.bound_at DESC, b.pattern
$$;

CREATE FUNCTION pgmq.test_routing(routing_key text)
    RETURNS TABLE (pattern text, queue_name text, compiled_regex text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    PERFORM pgmq.validate_routing_key(routing_key);
    RETURN QUERY
        SELECT b.pattern, b.queue_name, b.compiled_regex FROM pgmq.topic_bindings b
        WHERE routing_key ~ b.compiled_regex ORDER BY b.pattern;
END
$$;

-- The queues that a routing key leads to, each once, always in one order.
CREATE FUNCTION pgmq._routes(routing_key text) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$
    SELECT DISTINCT b.queue_name FROM pgmq.topic_bindings b
    WHERE routing_key ~ b.compiled_regex ORDER BY 1
$$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, headers jsonb, delay integer)
    RETURNS integer
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_routing_key(routing_key);
    IF msg IS NULL THEN
        RAISE EXCEPTION 'msg cannot be NULL';
    END IF;
    IF delay < 0 THEN
        RAISE EXCEPTION 'delay cannot be negative, got: %', delay;
    END IF;
    RETURN (SELECT count(*) FROM pgmq._routes(routing_key) r, pgmq.send(r, msg, headers, delay));
END
$$;

CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb) RETURNS integer
    LANGUAGE sql AS $$ SELECT pgmq.send_topic(routing_key, msg, NULL, 0) $$;
CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, delay integer) RETURNS integer
    LANGUAGE sql AS $$ SELECT pgmq.send_topic(routing_key, msg, NULL, delay) $$;

CREATE FUNCTION pgmq.send_batch_topic(
    routing_key text, msgs jsonb[], headers jsonb[], delay timestamptz
) RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_routing_key(routing_key);
    IF msgs IS NULL OR cardinality(msgs) = 0 THEN
        RAISE EXCEPTION 'msgs cannot be NULL or empty';
    END IF;
    IF cardinality(headers) <> cardinality(msgs) THEN
        RAISE EXCEPTION 'headers array length (%) must match msgs array length (%)',
            cardinality(headers), cardinality(msgs);
    END IF;
    RETURN QUERY
        SELECT r, s FROM pgmq._routes(routing_key) r, pgmq.send_batch(r, msgs, headers, delay) s;
END
$$;

CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[])
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.send_batch_topic(routing_key, msgs, NULL, clock_timestamp())
$$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[])
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.send_batch_topic(routing_key, msgs, headers, clock_timestamp())
$$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay integer)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.send_batch_topic(
        routing_key, msgs, NULL, clock_timestamp() + make_interval(secs => delay))
$$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay timestamptz)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$ SELECT * FROM pgmq.send_batch_topic(routing_key, msgs, NULL, delay) $$;
CREATE FUNCTION pgmq.send_batch_topic(
    routing_key text, msgs jsonb[], headers jsonb[], delay integer
) RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.send_batch_topic(
        routing_key, msgs, headers, clock_timestamp() + make_interval(secs => delay))
$$;
