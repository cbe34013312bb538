-- The worker of outbox.sql. psql has no loop: a script that includes itself is one.

-- Take a message: for 30 seconds (the queue's visibility) nobody else gets it. The outer join
-- makes it one row in any case, since \gset insists on one.
SELECT m.id IS NOT NULL AS found, m.id, m.receipt, m.body->>'order' AS order_id,
       m.failures < coalesce((m.headers->>'fails')::int, 0) AS fails
FROM (VALUES (1)) AS one LEFT JOIN mq.read('example_psql') AS m ON true \gset

\if :found
    \if :fails
        -- Failed: back to the queue, to be tried again after its backoff. The reason stays with
        -- the message, as last_error.
        SELECT mq.nack('example_psql', :id, :receipt, reason => 'no carrier answers') \gset
        \echo order :order_id failed, it will be tried again
    \else
        -- The effect and the ack are one transaction: the order ships exactly once. The receipt
        -- names this hand-out; had our lease ended and another worker got the message, the ack
        -- would be false, and the shipment is rolled back: the other one does it.
        BEGIN;
        INSERT INTO example_psql.shipments VALUES (:order_id, 'psql');
        SELECT mq.ack('example_psql', :id, :receipt) AS ours \gset
        \if :ours
            COMMIT;
            \echo order :order_id is shipped
        \else
            ROLLBACK;
            \echo order :order_id has gone to another worker
        \endif
    \endif
    \ir worker.sql
\else
    -- Nothing ready: sleep until something is, here for 2 seconds at most. This wakes up at a
    -- sender's commit and at the end of a backoff. It must not be in a transaction block, which
    -- would hold back vacuum while it sleeps.
    CALL mq.wait('example_psql', '2 s') \gset
    \if :ready
        \ir worker.sql
    \endif
\endif
