-- pgmq.q_<queue> and pgmq.a_<queue>: a queue and its archive as pgmq shows them. They are there for
-- every queue, are owned by its owner, and follow it.
--
-- pg_broker calls _queue_made, _queue_named, _queue_leaves and _queues_told with the rights of the
-- machinery; nobody else may.

CREATE FUNCTION pgmq._view_insert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_view_insert';
CREATE FUNCTION pgmq._view_update() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_view_update';
CREATE FUNCTION pgmq._view_delete() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgmq_view_delete';

-- Every relation of a queue asks this, which costs nothing: so it goes when the extension does.
CREATE FUNCTION pgmq._is_there() RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN true;

-- Gives a new relation to the queue's owner, with the privileges that the owner's relations begin with.
CREATE FUNCTION pgmq._give(relation text, owner oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given record;
BEGIN
    EXECUTE format('ALTER VIEW pgmq.%I OWNER TO %I', relation, pg_get_userbyid(owner));
    EXECUTE format('GRANT SELECT ON pgmq.%I TO pg_monitor', relation);
    FOR given IN
        SELECT a.privilege_type, a.is_grantable,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   AS grantee
        FROM pg_default_acl d, aclexplode(d.defaclacl) a
        WHERE d.defaclrole = owner AND d.defaclobjtype = 'r'
            AND d.defaclnamespace IN (0, 'pgmq'::regnamespace)
            AND a.grantee <> owner AND a.privilege_type <> 'MAINTAIN'
    LOOP
        EXECUTE format('GRANT %s ON pgmq.%I TO %s%s', given.privilege_type, relation, given.grantee,
                       CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END
$$;

-- Makes what is missing of a queue's relations.
CREATE FUNCTION pgmq._relate(queue text, name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known mq_internal.queue;
    owner oid;
    q text := 'q_' || name;
    a text := 'a_' || name;
BEGIN
    SELECT k.* INTO STRICT known FROM mq_internal.queue k
    WHERE k.view = format('mq.%I', queue)::regclass;
    SELECT c.relowner INTO STRICT owner FROM pg_class c WHERE c.oid = known.view;
    IF to_regclass(format('pgmq.%I', q)) IS NULL THEN
        EXECUTE format(
            'CREATE VIEW pgmq.%I AS SELECT m.id AS msg_id, m.attempts AS read_ct, m.enqueued_at, '
            'm.read_at AS last_read_at, m.visible_at AS vt, m.body AS message, m.headers '
            'FROM %s m WHERE pgmq._is_there()', q, known.view);
        EXECUTE format('CREATE TRIGGER pgmq_insert INSTEAD OF INSERT ON pgmq.%I '
            'FOR EACH ROW EXECUTE FUNCTION pgmq._view_insert()', q);
        EXECUTE format('CREATE TRIGGER pgmq_update INSTEAD OF UPDATE ON pgmq.%I '
            'FOR EACH ROW EXECUTE FUNCTION pgmq._view_update()', q);
        EXECUTE format('CREATE TRIGGER pgmq_delete INSTEAD OF DELETE ON pgmq.%I '
            'FOR EACH ROW EXECUTE FUNCTION pgmq._view_delete()', q);
        PERFORM pgmq._give(q, owner);
    END IF;
    IF to_regclass(format('pgmq.%I', a)) IS NULL THEN
        EXECUTE format(
            'CREATE VIEW pgmq.%I AS SELECT m.id AS msg_id, m.attempts AS read_ct, m.enqueued_at, '
            'm.read_at AS last_read_at, m.archived_at, m.visible_at AS vt, m.body AS message, m.headers '
            'FROM %s m WHERE pgmq._is_there()', a, known.archive);
        PERFORM pgmq._give(a, owner);
    END IF;
END
$$;

CREATE FUNCTION pgmq._queue_made(queue text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgmq._relate(queue, queue);
    INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged, created_at)
    SELECT queue, false, s.relpersistence = 'u', k.created_at
    FROM mq_internal.queue k
    JOIN pg_class s ON s.oid = format('mq_internal.q_%s', k.n)::regclass
    WHERE k.view = format('mq.%I', queue)::regclass
    ON CONFLICT DO NOTHING;
END
$$;

-- pgmq.create was called with that name.
CREATE FUNCTION pgmq._queue_named(queue text, given text, fresh boolean, partitioned boolean)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := lower(given);
BEGIN
    IF fresh THEN
        IF queue = '$' || name THEN
            EXECUTE format('ALTER VIEW pgmq.%I RENAME TO %I', 'q_' || queue, 'q_' || name);
            EXECUTE format('ALTER VIEW pgmq.%I RENAME TO %I', 'a_' || queue, 'a_' || name);
        END IF;
        UPDATE pgmq.meta m SET queue_name = given, is_partitioned = partitioned
        WHERE m.queue_name = queue;
    ELSE
        PERFORM pgmq._relate(queue, CASE queue WHEN '$' || name THEN name ELSE queue END);
        INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged, created_at)
        SELECT given, m.is_partitioned, m.is_unlogged, m.created_at FROM pgmq.meta m
        WHERE pgmq._is(queue, m.queue_name)
        ORDER BY m.created_at LIMIT 1
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- The relations in schema pgmq of a queue or an archive.
CREATE FUNCTION pgmq._relations(source regclass[]) RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT v.oid::regclass
    FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = ANY (source) AND v.relnamespace = 'pgmq'::regnamespace
        AND v.relname ~ '^[qa]_'
$$;

CREATE FUNCTION pgmq._queue_leaves(queue text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT pgmq._relations(ARRAY[k.view, k.archive]) FROM mq_internal.queue k
        WHERE k.view = format('mq.%I', queue)::regclass
    LOOP
        EXECUTE format('DROP VIEW %s', relation);
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION pgmq._give, pgmq._relate, pgmq._queue_made, pgmq._queue_named,
    pgmq._relations, pgmq._queue_leaves FROM PUBLIC;

-- Queues were renamed or given away.
CREATE FUNCTION pgmq._on_alter() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    altered record;
    wanted text;
BEGIN
    FOR altered IN
        SELECT c.relname AS queue, c.relowner AS owner, v.relname AS relation, v.relowner
        FROM pg_event_trigger_ddl_commands() o
        JOIN mq_internal.queue k ON k.view = o.objid
        JOIN pg_class c ON c.oid = k.view
        CROSS JOIN LATERAL pgmq._relations(ARRAY[k.view, k.archive]) r
        JOIN pg_class v ON v.oid = r
        WHERE o.classid = 'pg_class'::regclass
    LOOP
        IF altered.relowner <> altered.owner THEN
            EXECUTE format('ALTER VIEW pgmq.%I OWNER TO %I', altered.relation,
                           pg_get_userbyid(altered.owner));
        END IF;
        IF NOT pgmq._is(altered.queue, substr(altered.relation, 3)) THEN
            wanted := left(altered.relation, 2) || altered.queue;
            EXECUTE format('ALTER VIEW pgmq.%I RENAME TO %I', altered.relation, wanted);
            DELETE FROM pgmq.meta m WHERE pgmq._is(substr(altered.relation, 3), m.queue_name)
                AND EXISTS (SELECT FROM pgmq.meta o WHERE o.queue_name = altered.queue);
            UPDATE pgmq.meta m SET queue_name = altered.queue
            WHERE m.queue_name = (
                SELECT min(o.queue_name) FROM pgmq.meta o
                WHERE pgmq._is(substr(altered.relation, 3), o.queue_name));
        END IF;
    END LOOP;
END
$$;

-- Queues were dropped.
CREATE FUNCTION pgmq._on_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('pgmq.meta') IS NOT NULL THEN
        DELETE FROM pgmq.meta m USING pg_event_trigger_dropped_objects() o
        WHERE o.object_type = 'view' AND o.schema_name = 'mq'
            AND pgmq._is(o.object_name, m.queue_name)
            AND to_regclass(format('mq.%I', o.object_name)) IS NULL;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION pgmq._on_alter(), pgmq._on_drop() FROM PUBLIC;

CREATE EVENT TRIGGER pgmq_queue_altered ON ddl_command_end
    WHEN TAG IN ('ALTER VIEW', 'ALTER TABLE')
    EXECUTE FUNCTION pgmq._on_alter();
CREATE EVENT TRIGGER pgmq_queue_dropped ON sql_drop
    EXECUTE FUNCTION pgmq._on_drop();
