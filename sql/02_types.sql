-- The message, as reading hands it out. Columns are only ever appended.
CREATE TYPE mq.message AS (
    id          bigint,
    receipt     bigint,
    queue       text,
    body        jsonb,
    data        bytea,
    headers     jsonb,
    attempts    int,
    failures    int,
    last_error  text,
    priority    smallint,
    group_key   text,
    dedup_key   text,
    enqueued_at timestamptz,
    visible_at  timestamptz,
    read_at     timestamptz,
    expires_at  timestamptz,
    state       text
);
