-- the API: every function, its arguments and result; one function a name; nothing undescribed.
\ir include/helpers.sql
SELECT mq.create_queue('orders', max_failures => 1);

\pset format unaligned
\pset tuples_only on
SELECT format('%smq.%s(%s)%s', CASE prokind WHEN 'p' THEN 'CALL ' END, proname,
    regexp_replace(pg_get_function_arguments(p.oid), '::[a-z ]+(\[\])?', '', 'g'),
    CASE prokind WHEN 'f' THEN ' → ' || pg_get_function_result(p.oid) END)
FROM pg_proc p WHERE p.pronamespace = 'mq'::regnamespace ORDER BY 1;
\pset format aligned
\pset tuples_only off

-- No overloads: untyped parameters of drivers find the one.
SELECT proname, count(*) FROM pg_proc WHERE pronamespace = 'mq'::regnamespace GROUP BY 1 HAVING count(*) > 1;
-- None is strict (NULL is a default, or refused in words), none runs in a parallel worker, none as its owner with the caller's path.
SELECT proname FROM pg_proc WHERE pronamespace = 'mq'::regnamespace AND (proisstrict OR proparallel = 's' AND provolatile = 'v') ORDER BY 1;
SELECT proname, proparallel, provolatile FROM pg_proc WHERE pronamespace = 'mq'::regnamespace AND (proparallel <> 'u' OR provolatile <> 'v') ORDER BY 1;
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
WHERE prosecdef AND NOT coalesce(array_to_string(proconfig, ',') LIKE '%search_path=%', false) AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') ORDER BY 1;
-- Everybody may call them, but for making queues.
SELECT proname FROM pg_proc WHERE pronamespace = 'mq'::regnamespace AND NOT has_function_privilege('public', oid, 'EXECUTE') ORDER BY 1;
-- Nobody may call the machinery, or look into it.
SELECT has_schema_privilege('public', 'mq', 'USAGE') AS mq, has_schema_privilege('public', 'mq', 'CREATE') AS plant,
       has_schema_privilege('public', 'mq_internal', 'USAGE') AS mq_internal;

-- The composite that reading returns.
SELECT attname, atttypid::regtype AS type, col_description(attrelid, attnum) IS NOT NULL AS described
FROM pg_attribute WHERE attrelid = 'mq.message'::regclass AND attnum > 0 ORDER BY attnum;

-- Every function, view, type, column in mq has a comment, a new queue's view too.
SELECT 'function ' || p.oid::regprocedure AS undescribed FROM pg_proc p
WHERE pronamespace = 'mq'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'relation ' || c.oid::regclass FROM pg_class c
WHERE relnamespace = 'mq'::regnamespace AND obj_description(c.oid, 'pg_class') IS NULL AND relkind <> 'c'
UNION ALL
SELECT 'type ' || t.oid::regtype FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
WHERE typnamespace = 'mq'::regnamespace AND relkind = 'c' AND obj_description(t.oid, 'pg_type') IS NULL
UNION ALL
SELECT format('column %s.%I', attrelid::regclass, attname) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'mq'::regnamespace AND attnum > 0 AND col_description(attrelid, attnum) IS NULL
UNION ALL
SELECT 'schema ' || nspname FROM pg_namespace n WHERE nspname IN ('mq', 'mq_internal') AND obj_description(n.oid, 'pg_namespace') IS NULL
UNION ALL
SELECT 'extension' FROM pg_extension e WHERE extname = 'pg_broker' AND obj_description(e.oid, 'pg_extension') IS NULL
ORDER BY 1;

-- Settings: each with a word about it.
SELECT name, vartype, context, setting, short_desc <> '' AS described FROM pg_settings WHERE name LIKE 'pg\_broker.%' ORDER BY 1;
