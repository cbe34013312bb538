\set ECHO none
-- What every test file starts with: `\ir include/helpers.sql`.
\set SHOW_CONTEXT never
\pset null '(null)'
SET timezone = 'UTC';
SET intervalstyle = 'postgres';

-- failing(sql): runs a statement that should fail, and says how it failed.
-- Whatever the statement did is rolled back, also when it did not fail.
CREATE FUNCTION pg_temp.failing(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text; message text; detail text; hint text;
BEGIN
    BEGIN
        EXECUTE sql;
        RAISE EXCEPTION 'no error' USING ERRCODE = 'TEST0';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    IF code = 'TEST0' THEN
        RETURN 'no error';
    END IF;
    RETURN concat_ws(E'\n', code || ': ' || message,
        'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END $$;

-- pass(moment): returns once the clock has passed that moment.
CREATE FUNCTION pg_temp.pass(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE clock_timestamp() <= moment LOOP
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
\set ECHO all
