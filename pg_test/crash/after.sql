-- What must hold once the killed server is up again. Every assertion names what it is about.

DO $$
DECLARE
  leased bigint;
  next_id bigint;
BEGIN
  ASSERT (SELECT count(*) FROM mq.kept) = 7, 'committed messages are kept';
  ASSERT (SELECT count(*) FROM mq.kept_archive) = 1, 'the archive is kept';
  ASSERT (SELECT count(*) FROM mq.kept_dead) = 1, 'the dead letter is kept';
  ASSERT (SELECT count(*) FROM mq.kept WHERE state = 'delayed' AND failures = 1
          AND last_error = 'later') = 1, 'the failed message waits as before';
  ASSERT NOT EXISTS (SELECT FROM mq.kept WHERE body = '"rolled back"'), 'rolled back is gone';
  ASSERT (SELECT max_bytes FROM mq.queues WHERE queue = 'kept') = 4321, 'options are kept';
  ASSERT (SELECT paused FROM mq.queues WHERE queue = 'light'), 'the pause is kept';

  -- A hand-out that was committed long before may be forgotten or kept, never both lost and live.
  SELECT count(*) INTO leased FROM mq.kept WHERE state = 'leased';
  ASSERT leased IN (0, 2), 'leases are kept or forgotten together';
  ASSERT mq.send('kept', '1', dedup_key => 'key 1') = 1, 'keys are kept';

  -- The queue that is not durable is empty and works; its ids go on.
  ASSERT (SELECT count(*) FROM mq.light) = 0, 'the light queue is empty';
  PERFORM mq.resume('light');
  next_id := mq.send('light', '1', dedup_key => 'key 1');
  ASSERT next_id > (SELECT light FROM last_ids), 'ids of the light queue are not used again';
  ASSERT (SELECT count(*) FROM mq.read('light')) = 1, 'the light queue hands out';
  next_id := mq.send('kept', '"after"');
  ASSERT next_id > (SELECT kept FROM last_ids), 'ids are not used again';
  PERFORM mq.delete('kept', next_id);
END
$$;

-- The prepared transactions still hold what they hold.
DO $$
BEGIN
  ASSERT (SELECT count(*) FROM mq.kept WHERE body = '"prepared"') = 0, 'not committed yet';
  ASSERT (SELECT count(*) FROM mq.read('kept', 100)) = 3 + (
    SELECT count(*) FROM hand_outs h WHERE NOT EXISTS (
      SELECT FROM mq.kept k WHERE k.id = h.id AND k.state = 'leased')),
    'everything ready is handed out but what a prepared transaction has taken';
END
$$;
COMMIT PREPARED 'sends';
ROLLBACK PREPARED 'takes';
DO $$
DECLARE
  m mq.message;
BEGIN
  ASSERT (SELECT count(*) FROM mq.kept WHERE state = 'ready') = 2, 'sent and given back';
  FOR m IN SELECT * FROM mq.read('kept', 10) LOOP
    ASSERT mq.ack('kept', m.id, m.receipt), 'and they can be handled';
  END LOOP;
  ASSERT (SELECT bool_and(mq.ack('kept', id, receipt)) FROM hand_outs), 'hand-outs go on';
  ASSERT (SELECT sent IS NOT NULL AND since IS NOT NULL FROM mq.metrics WHERE queue = 'kept'),
    'metrics start again';
END
$$;
