-- send_text and send_bytes: payloads that are not JSON.
\ir include/helpers.sql
SELECT mq.create_queue('post');

-- A text is stored as a JSON string, whatever it looks like.
SELECT mq.send_text('post', 'hello') AS hello \gset
SELECT mq.send_text('post', '{"looks": "like JSON"}') > 0 AS sent;
SELECT mq.send_text('post', '') > 0 AS sent;
SELECT mq.send_text('post', 'null') > 0 AS sent;
SELECT mq.send_text('post', E'quote " backslash \\ newline \n tab \t control \x01 größer 📦') > 0 AS sent;
SELECT body, jsonb_typeof(body), body #>> '{}' AS text, data FROM mq.read('post', 10);

-- Bytes go to data, and stay bytes.
SELECT mq.send_bytes('post', '\x00ff10') AS bytes \gset
SELECT mq.send_bytes('post', '') > 0 AS no_bytes_at_all;
SELECT mq.send_bytes('post', '{"looks": "like JSON"}') > 0 AS sent;
SELECT body, data, length(data) FROM mq.read('post', 10);

-- Both take all that send takes, in the same order.
SELECT mq.send_text(queue => 'post', body => 'later', headers => '{"h": 1}', delay => '1 hour',
    deliver_at => NULL, priority => 9, group_key => NULL, dedup_key => 'k1', ttl => '1 day') AS text \gset
SELECT mq.send_bytes(queue => 'post', data => '\x01', headers => '{"h": 2}', delay => NULL,
    deliver_at => '2100-01-01', priority => 0, group_key => NULL, dedup_key => 'k2', ttl => NULL) AS bytes \gset
SELECT mq.send_text('post', 'x', '{"h": 3}', '1 hour', NULL, 1, NULL, 'k3', '1 day') > 0 AS sent,
       mq.send_bytes('post', 'x', '{"h": 4}', '1 hour', NULL, 2, NULL, 'k4', '1 day') > 0 AS sent;
SELECT body, data, headers, priority, dedup_key, state, expires_at IS NOT NULL AS expires
FROM mq.post WHERE state = 'delayed' ORDER BY id;
-- One window for all kinds: a duplicate is a duplicate.
SELECT mq.send_bytes('post', 'other', dedup_key => 'k1') = :text AS winner,
       mq.send('post', '1', dedup_key => 'k2') = :bytes AS winner;

-- Refused.
SELECT mq.send_text('post', NULL);
SELECT mq.send_bytes('post', NULL);
SELECT mq.send_text(NULL, 'x');
SELECT mq.send_bytes(NULL, 'x');
SELECT mq.send_text('nowhere', 'x');
SELECT mq.send_bytes('nowhere', 'x');
SELECT mq.send_text('post', 'x', headers => '[1]');
SELECT mq.send_bytes('post', 'x', headers => '[1]');
SELECT mq.send_text('post', 'x', priority => 10);
SELECT mq.send_bytes('post', 'x', priority => -1);
SELECT mq.send_text('post', 'x', delay => '1s', deliver_at => '2100-01-01');
SELECT mq.send_bytes('post', 'x', delay => '1s', deliver_at => '2100-01-01');
SELECT mq.send_text('post', 'x', group_key => 'g');
SELECT mq.send_bytes('post', 'x', group_key => 'g');
