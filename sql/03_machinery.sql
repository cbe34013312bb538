-- What queues are made with: the triggers of their views, and the event triggers that
-- let a queue follow its view. None of it is for calling by hand.

CREATE FUNCTION mq_internal.view_insert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_view_insert';
CREATE FUNCTION mq_internal.view_update() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_view_update';
CREATE FUNCTION mq_internal.view_delete() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_view_delete';
CREATE FUNCTION mq_internal.archive_write() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_archive_write';
REVOKE ALL ON FUNCTION mq_internal.view_insert(), mq_internal.view_update(),
    mq_internal.view_delete(), mq_internal.archive_write() FROM PUBLIC;
-- Restoring a dump creates the triggers anew.
GRANT EXECUTE ON FUNCTION mq_internal.view_insert(), mq_internal.view_update(),
    mq_internal.view_delete(), mq_internal.archive_write() TO @extowner@;

CREATE FUNCTION mq_internal.on_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_on_drop';
CREATE FUNCTION mq_internal.on_alter() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_on_alter';
REVOKE ALL ON FUNCTION mq_internal.on_drop(), mq_internal.on_alter() FROM PUBLIC;

CREATE EVENT TRIGGER mq_queue_dropped ON sql_drop
    EXECUTE FUNCTION mq_internal.on_drop();
CREATE EVENT TRIGGER mq_queue_altered ON ddl_command_end
    WHEN TAG IN ('ALTER VIEW', 'ALTER TABLE')
    EXECUTE FUNCTION mq_internal.on_alter();

-- Whoever restores a dump must be able to create tables and views in these schemas, but a
-- function, operator, cast or type there could capture somebody's call: none but the extension's.
CREATE FUNCTION mq_internal.on_plant() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'mq_on_plant';
REVOKE ALL ON FUNCTION mq_internal.on_plant() FROM PUBLIC;
CREATE EVENT TRIGGER mq_nothing_planted ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'CREATE PROCEDURE', 'CREATE AGGREGATE', 'CREATE OPERATOR',
                 'CREATE TYPE', 'CREATE DOMAIN', 'ALTER FUNCTION', 'ALTER PROCEDURE',
                 'ALTER ROUTINE', 'ALTER AGGREGATE', 'ALTER OPERATOR', 'ALTER TYPE',
                 'ALTER DOMAIN')
    EXECUTE FUNCTION mq_internal.on_plant();
