-- planted: functions, operators, tables that somebody else puts into any schema are never ours to call.
\ir include/helpers.sql
CREATE ROLE planted_attacker;
CREATE ROLE planted_victim;
GRANT EXECUTE ON FUNCTION mq.create_queue TO planted_victim;
GRANT CREATE ON SCHEMA public TO planted_attacker;
CREATE SCHEMA evil AUTHORIZATION planted_attacker;
GRANT USAGE ON SCHEMA evil TO PUBLIC;

-- Nobody can plant anything in mq or mq_internal.
SET ROLE planted_attacker;
CREATE FUNCTION mq.send(unknown, unknown) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE TABLE mq.orders (id int);
CREATE TYPE mq.trap AS (a int);
CREATE FUNCTION mq_internal.f() RETURNS int LANGUAGE sql AS 'SELECT 1';

-- The attacker plants traps in public and in a schema of his own, that spring by writing where he could not.
CREATE TABLE evil.sprung (what text, by_whom name DEFAULT current_user);
GRANT ALL ON evil.sprung TO PUBLIC;
CREATE FUNCTION evil.spring(what text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO evil.sprung (what) VALUES (spring.what); END $$;
DO $$
DECLARE
    place text;
    f text;
BEGIN
    FOREACH place IN ARRAY '{public,evil}'::text[] LOOP
        -- what a queue might call, with the arguments it might call it with
        FOREACH f IN ARRAY '{clock_timestamp(),now(),random(),current_setting(text),current_setting(text\,boolean),
            to_jsonb(text),to_jsonb(anyelement),jsonb_typeof(jsonb),octet_length(text),octet_length(bytea),length(text),length(bytea),
            array_length(anyarray\,integer),unnest(anyarray),cardinality(anyarray),format(text),format(text\,text),
            quote_ident(text),quote_ident(name),has_table_privilege(text\,text),has_table_privilege(oid\,text),
            pg_has_role(oid\,text),nextval(regclass),nextval(text),hashtext(text),hashtextextended(text\,bigint),
            pg_notify(text\,text),jsonb_build_object(text\,text),jsonb_build_array(jsonb),
            jsonb_array_length(jsonb),to_regclass(text),count(bigint),min(bigint),max(bigint)}'::text[] LOOP
            EXECUTE pg_catalog.format('CREATE FUNCTION %I.%s RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$',
                place, f, CASE WHEN f LIKE '%any%' THEN 'integer' ELSE 'text' END, f);
        END LOOP;
        EXECUTE pg_catalog.format('CREATE FUNCTION %I.op(a jsonb, b text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$', place, '->>');
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = %1$I.op)', place);
        EXECUTE pg_catalog.format('CREATE FUNCTION %I.opb(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN false; END $f$', place, '=');
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = %1$I.opb)', place);
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = %1$I.opb)', place);
        EXECUTE pg_catalog.format('CREATE FUNCTION %I.opt(a timestamptz, b timestamptz) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN false; END $f$', place, '<=');
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = %1$I.opt)', place);
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = %1$I.opt)', place);
        EXECUTE pg_catalog.format('CREATE FUNCTION %I.opi(a timestamptz, b interval) RETURNS timestamptz LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$', place, '+');
        EXECUTE pg_catalog.format('CREATE OPERATOR %I.+ (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = %1$I.opi)', place);
    END LOOP;
END $$;
-- Relations and types that a careless search would find first.
CREATE TABLE evil.queues (LIKE mq.queues);
CREATE TABLE evil.pg_class (relname text);
CREATE TYPE evil.message AS (id text);
CREATE DOMAIN evil.jsonb AS text;
CREATE DOMAIN public.interval AS text;
RESET ROLE;

-- The victim's search path prefers the attacker's schemas, pg_catalog last.
CREATE FUNCTION pg_temp.whole_life() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m mq.message;
BEGIN
    PERFORM mq.create_queue('orders', max_failures => 1, backoff => '{1s}', max_length => 100, archive_retention => '1 day', notify => true);
    PERFORM mq.send('orders', '{"n": 1}', dedup_key => 'k');
    PERFORM mq.send('orders', '{"n": 2}', headers => '{"h": 1}', delay => '1 microsecond', ttl => '1 day', priority => 5);
    PERFORM mq.send_text('orders', 'three', ttl => '1 microsecond');
    PERFORM mq.send_bytes('orders', 'four');
    PERFORM mq.send_batch('orders', '{5,6,7}', dedup_keys => '{x,y,k}');
    INSERT INTO mq.orders (body) VALUES ('{"n": 8}');
    UPDATE mq.orders SET priority = 9 WHERE body = '{"n": 8}';
    SELECT * INTO m FROM mq.read('orders');
    PERFORM mq.extend('orders', m.id, m.receipt), mq.nack('orders', m.id, m.receipt);
    SELECT * INTO m FROM mq.read('orders');
    PERFORM mq.archive('orders', m.id, m.receipt);
    PERFORM mq.pop('orders');
    PERFORM mq.reject('orders', r.id), mq.ack('orders', r.id) FROM mq.read('orders', 2, wait => '1 ms') r;
    PERFORM mq.redrive('orders_dead'), mq.maintain('orders'), mq.pause('orders'), mq.resume('orders');
    PERFORM mq.alter_queue('orders', visibility => '1min'), mq.rename_queue('orders', 'orders2'), mq.rename_queue('orders2', 'orders');
    DELETE FROM mq.orders WHERE body = '7';
    PERFORM count(*) FROM mq.queues;
    PERFORM count(*) FROM mq.metrics;
    PERFORM mq.status(), mq.version(), mq.get('orders', 1), mq.purge_queue('orders');
    PERFORM mq.drop_queue('orders'), mq.drop_queue('orders_dead');
    RETURN 'ok';
END $$;
-- The traps work: who does not look where he steps is caught.
SET ROLE planted_victim;
SET search_path = evil, pg_catalog;
SELECT clock_timestamp(), 1::bigint = 1::bigint AS one_is_one;
RESET search_path;
RESET ROLE;
SELECT what, by_whom FROM evil.sprung ORDER BY what;
DELETE FROM evil.sprung;

-- First with PostgreSQL's own path, to have seen it work,
SET ROLE planted_victim;
SELECT pg_temp.whole_life();
RESET ROLE;
-- then with the attacker's. (The victim's own statements would fall into the traps: they call by schema.)
SELECT pg_catalog.count(*) FROM evil.sprung;
CREATE FUNCTION pg_temp.in_the_trap(path text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m mq.message;
    messages mq.message[];
BEGIN
    PERFORM pg_catalog.set_config('search_path', path, true);
    PERFORM mq.create_queue('orders', max_failures => 1, backoff => '{1s}'::pg_catalog.interval[], max_length => 100, archive_retention => '1 day', notify => true);
    PERFORM mq.send('orders', '{"n": 1}', dedup_key => 'k');
    PERFORM mq.send('orders', '{"n": 2}', headers => '{"h": 1}', delay => '1 microsecond', ttl => '1 day', priority => 5);
    PERFORM mq.send_text('orders', 'three', ttl => '1 microsecond');
    PERFORM mq.send_bytes('orders', 'four');
    PERFORM mq.send_batch('orders', '{5,6,7}', dedup_keys => '{x,y,k}');
    INSERT INTO mq.orders (body) VALUES ('{"n": 8}');
    UPDATE mq.orders SET priority = 9;
    SELECT * INTO m FROM mq.read('orders');
    PERFORM mq.extend('orders', m.id, m.receipt);
    PERFORM mq.nack('orders', m.id, m.receipt);
    SELECT * INTO m FROM mq.read('orders');
    PERFORM mq.archive('orders', m.id, m.receipt);
    PERFORM mq.pop('orders');
    SELECT * INTO m FROM mq.read('orders', wait => '1 ms');
    PERFORM mq.reject('orders', m.id);
    PERFORM mq.redrive('orders_dead'), mq.maintain('orders'), mq.pause('orders'), mq.resume('orders');
    PERFORM mq.alter_queue('orders', visibility => '1min'), mq.rename_queue('orders', 'orders2'), mq.rename_queue('orders2', 'orders');
    PERFORM * FROM mq.orders;
    DELETE FROM mq.orders;
    PERFORM * FROM mq.queues;
    PERFORM * FROM mq.metrics;
    PERFORM mq.status(), mq.version(), mq.get('orders', 1), mq.purge_queue('orders');
    PERFORM mq.drop_queue('orders'), mq.drop_queue('orders_dead');
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
    RETURN 'ok';
END $$;
SET ROLE planted_victim;
SELECT pg_temp.in_the_trap('evil, public, mq_internal, mq, pg_catalog');
SELECT pg_temp.in_the_trap('evil, public, pg_catalog');
RESET ROLE;
SELECT what, by_whom FROM evil.sprung;
-- Nor does a temporary table or function of the session's own user do harm.
SET ROLE planted_victim;
CREATE TEMP TABLE queues (queue text);
CREATE TEMP TABLE pg_class (relname text);
SELECT pg_temp.in_the_trap('pg_temp, evil, pg_catalog');
DROP TABLE pg_temp.queues, pg_temp.pg_class;
RESET ROLE;
SELECT what, by_whom FROM evil.sprung;

-- An event trigger, rule or trigger on a queue's view belongs to who may make one: not to others.
SET ROLE planted_victim;
SELECT mq.create_queue('orders');
GRANT ALL ON mq.orders TO planted_attacker;
SET ROLE planted_attacker;
CREATE FUNCTION evil.trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.spring('trigger'); RETURN new; END $$;
CREATE RULE steal AS ON INSERT TO mq.orders DO ALSO SELECT evil.spring('rule');
RESET ROLE;
REVOKE ALL ON mq.orders FROM planted_attacker;
DROP OWNED BY planted_attacker, planted_victim CASCADE;
DROP ROLE planted_attacker, planted_victim;
