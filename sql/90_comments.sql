-- What every public object is for. docs/reference.md is written from these
-- texts (scripts/gen-reference) and `\df+ mq.*` shows them, so a comment says
-- in a few sentences what the call does, what it returns, and what it needs.
--
-- Functions are named without their arguments: one name is one function here,
-- and should that ever stop being true, this file refuses to load.
--
-- The columns of each queue's view repeat the comments of mq.message.

COMMENT ON SCHEMA mq IS
  'pg_broker: message queues. Every queue is a view here; the functions send, read and settle its messages.';
COMMENT ON SCHEMA mq_internal IS
  'pg_broker: storage and machinery of the queues. Not an interface: everything in it may change between versions.';

-- The message ---------------------------------------------------------------

COMMENT ON TYPE mq.message IS
  'A message, as mq.read, mq.pop and mq.get return it; the view of a queue has the same columns.';
COMMENT ON COLUMN mq.message.id IS
  'Number of the message in its queue: increasing, never reused. There are gaps, as with any sequence: after a rollback, a restart, a restore.';
COMMENT ON COLUMN mq.message.receipt IS
  'Names this hand-out of the message; pass it when you settle. Random, new at every hand-out. Null when browsing.';
COMMENT ON COLUMN mq.message.queue IS
  'The queue that the message is in.';
COMMENT ON COLUMN mq.message.body IS
  'The payload when it is JSON, or text (a JSON string); null when the payload is binary.';
COMMENT ON COLUMN mq.message.data IS
  'The payload when it is binary, otherwise null.';
COMMENT ON COLUMN mq.message.headers IS
  'A JSON object beside the payload, or null. Dead letters carry their history in its key x-death.';
COMMENT ON COLUMN mq.message.attempts IS
  'How many times the message has been handed out.';
COMMENT ON COLUMN mq.message.failures IS
  'How many of its hand-outs failed: nacks and leases that ended. The queue''s max_failures counts these.';
COMMENT ON COLUMN mq.message.last_error IS
  'Why the last hand-out failed: the reason given, ''lease ended'', or ''transaction rolled back''.';
COMMENT ON COLUMN mq.message.priority IS
  'From 0 to 9, higher first; 4 unless given.';
COMMENT ON COLUMN mq.message.group_key IS
  'Ordered group of the message, or null. Only where the queue''s ordering is ''group''.';
COMMENT ON COLUMN mq.message.dedup_key IS
  'Key under which a second send within the queue''s dedup_window is a duplicate, or null.';
COMMENT ON COLUMN mq.message.enqueued_at IS
  'When the message was sent.';
COMMENT ON COLUMN mq.message.visible_at IS
  'When the message may next be handed out; while it is leased, when the lease ends.';
COMMENT ON COLUMN mq.message.read_at IS
  'When the message was last handed out, or null.';
COMMENT ON COLUMN mq.message.expires_at IS
  'From then on the message is never handed out; null: it does not expire.';
COMMENT ON COLUMN mq.message.state IS
  'ready, delayed, leased or expired, as of now.';

-- Queues --------------------------------------------------------------------

COMMENT ON FUNCTION mq.create_queue IS
  'Creates a queue, a view of that name in schema mq that belongs to the calling role. Returns true, or false when it existed and if_not_exists is set. Needs EXECUTE on this function, which PUBLIC does not have; naming another queue as dead_letter needs INSERT on it.';
COMMENT ON FUNCTION mq.alter_queue IS
  'Changes options of a queue: null leaves an option as it is, and reset names options to set back to their defaults. Needs ownership of the queue, and INSERT on a newly named dead_letter queue.';
COMMENT ON FUNCTION mq.drop_queue IS
  'Drops a queue with its messages and its archive; its dead-letter queue stays. Refused while it is another queue''s dead_letter or other objects depend on its view, unless cascade is set. Returns false only when there is no such queue and if_exists is set. Needs ownership of the queue.';
COMMENT ON FUNCTION mq.rename_queue IS
  'Renames a queue and its archive; messages, options, privileges and views over it stay. Needs ownership of the queue.';
COMMENT ON FUNCTION mq.purge_queue IS
  'Removes the messages of a queue, whatever their state, except those that another open transaction has locked; the archive stays. Returns how many. Needs DELETE on the queue.';
COMMENT ON FUNCTION mq.pause IS
  'Stops handing out messages of a queue, until a moment if one is given; sending and settling go on. Needs ownership of the queue.';
COMMENT ON FUNCTION mq.resume IS
  'Hands out messages of a paused queue again. Needs ownership of the queue.';

-- Sending -------------------------------------------------------------------

COMMENT ON FUNCTION mq.send IS
  'Sends one JSON message as part of the calling transaction and returns its id, or for a duplicate dedup_key the id of the message sent first. delay or deliver_at hold it back, ttl limits its life. Needs INSERT on the queue.';
COMMENT ON FUNCTION mq.send_text IS
  'Sends one text message, stored as a JSON string whatever it looks like; otherwise like mq.send. Needs INSERT on the queue.';
COMMENT ON FUNCTION mq.send_bytes IS
  'Sends one binary message, which consumers find in data instead of body; otherwise like mq.send. Needs INSERT on the queue.';
COMMENT ON FUNCTION mq.send_batch IS
  'Sends many JSON messages in one call and returns their ids in the order given, a duplicate''s being that of the message sent first. headers, group_keys and dedup_keys are null or as long as bodies; the other options hold for all. Needs INSERT on the queue.';

-- Receiving -----------------------------------------------------------------

COMMENT ON FUNCTION mq.read IS
  'Hands out up to qty ready messages, by priority and then id, each leased for visibility (default: the queue''s). Waits for the first up to wait, at most 20 seconds, and less when somebody waits to drop, rename or lock the queue. Returns no rows when nothing is ready or the queue is paused. With filter, only messages in whose {"headers": …, "body": …} it finds something first that is neither false nor null; the others are passed over, and not looked at again by this session until they change. Of a queue with single_active only the active session is handed messages. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.pop IS
  'Hands out and removes up to qty ready messages in one step: exactly-once inside the transaction that does the work, at-most-once alone. filter and single_active as with mq.read. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.step_down IS
  'Gives up being the active session of a queue with single_active, so that another takes over. Returns true when this session was it. At once, whatever becomes of the transaction. Needs UPDATE on the queue.';
COMMENT ON PROCEDURE mq.wait IS
  'Returns as soon as a message of the queue may be ready (ready true) or the time is over (ready false), holding no snapshot meanwhile. Not inside a transaction block. Needs UPDATE on the queue.';
COMMENT ON PROCEDURE mq.wait_any IS
  'Like mq.wait, for several queues: returns as soon as one of them may have a message ready. Not inside a transaction block. Needs UPDATE on each queue.';
COMMENT ON FUNCTION mq.get IS
  'Looks at one message without taking it; null when it is not there. Needs SELECT on the queue.';
COMMENT ON FUNCTION mq.delete IS
  'Removes one message, whoever holds it. Returns false when it is not there. Needs DELETE on the queue.';
COMMENT ON FUNCTION mq.delete_batch IS
  'Removes messages, whoever holds them, and returns the ids removed, in the order given. Needs DELETE on the queue.';

-- Settling ------------------------------------------------------------------

COMMENT ON FUNCTION mq.ack IS
  'Done: removes a message that was handed out. Returns false when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.archive IS
  'Done: moves a message that was handed out to the queue''s archive. Returns false when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.nack IS
  'Failed: counts a failure and returns the message to the queue after delay or the queue''s backoff, or dead-letters it when max_failures is reached. Returns false when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.release IS
  'Gives a message back without counting a failure, ready at once or after delay. Returns false when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.reject IS
  'Dead-letters a message now; in a queue without a dead-letter queue it is removed and counted as dead. Returns false when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.extend IS
  'Makes the lease end visibility from now (default: the queue''s) and returns that time, or null when that hand-out is no longer current. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.ack_batch IS
  'mq.ack for many messages: returns the ids that it settled, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.archive_batch IS
  'mq.archive for many messages: returns the ids that it settled, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.nack_batch IS
  'mq.nack for many messages: returns the ids that it settled, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.release_batch IS
  'mq.release for many messages: returns the ids that it settled, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.reject_batch IS
  'mq.reject for many messages: returns the ids that it settled, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.extend_batch IS
  'mq.extend for many messages: returns the ids whose leases it extended, in the order given, each once. Needs UPDATE on the queue.';
COMMENT ON FUNCTION mq.redrive IS
  'Sends dead letters of a queue back to where each came from, or to the queue named by "to": those with the given ids, or all, at most max. Returns how many. Needs ownership of the dead-letter queue and INSERT on the target.';

COMMENT ON FUNCTION mq.import_pgmq IS
  'Moves the queues of a pgmq in schema pgmq here, those named or all, with archives, ids, read counts and visibility; its tables are set aside in schema pgmq_before, where the drop-in finds topics and notifications. Returns each queue with how many messages and archived ones. For superusers.';

-- Exchanges -----------------------------------------------------------------

COMMENT ON FUNCTION mq.create_exchange IS
  'Makes an exchange of kind topic, direct, fanout, headers or hash: the view of its name in schema mq, which passes on what is published to the queues bound to it. alternate: the exchange that gets what no binding matches. Returns false when if_not_exists and it exists. Needs EXECUTE, which is not granted to PUBLIC.';
COMMENT ON FUNCTION mq.alter_exchange IS
  'Changes the alternate of an exchange, or takes it away with reset => ''{alternate}''. For its owner.';
COMMENT ON FUNCTION mq.rename_exchange IS
  'Renames an exchange; its bindings stay. For its owner.';
COMMENT ON FUNCTION mq.drop_exchange IS
  'Drops an exchange with its bindings; refused while other exchanges pass messages on to it or views depend on it, unless cascade. Returns false when if_exists and there is none. For its owner.';
COMMENT ON FUNCTION mq.bind IS
  'Binds a queue or another exchange to an exchange. topic: pattern of words and dots, where * is one word and # none or more; direct: the key; headers: the headers that a message must have, all or any of them (match); hash: each key goes to one of the bound, by weight. filter: a jsonpath over {"headers": …, "body": …} that must find something that is neither false nor null. Returns false when that binding was there. For the owner of the exchange, who needs INSERT on the target.';
COMMENT ON FUNCTION mq.unbind IS
  'Takes away the bindings of a target: those with this pattern, these headers and this filter, where given, or all of them; returns how many. For the owner of the exchange.';
COMMENT ON FUNCTION mq.publish IS
  'Sends a message to every queue that the exchange passes it on to, each once, all or none; returns how many. The key is added to its headers as x-key. mandatory: an error when no queue takes it. Needs INSERT on the exchange, and on no queue.';
COMMENT ON FUNCTION mq.publish_text IS
  'mq.publish with a text, sent as a JSON string.';
COMMENT ON FUNCTION mq.publish_bytes IS
  'mq.publish with a binary payload.';
COMMENT ON FUNCTION mq.publish_batch IS
  'mq.publish for many messages: returns how many queues each reached, in the order given.';

COMMENT ON VIEW mq.exchanges IS
  'The exchanges. Shows those that you have any privilege on; pg_monitor sees all.';
COMMENT ON COLUMN mq.exchanges.exchange IS
  'Name of the exchange, and of its view in schema mq.';
COMMENT ON COLUMN mq.exchanges.owner IS
  'Role that owns the exchange.';
COMMENT ON COLUMN mq.exchanges.kind IS
  'topic, direct, fanout, headers or hash.';
COMMENT ON COLUMN mq.exchanges.alternate IS
  'Exchange that gets what no binding matches; null: nobody does.';
COMMENT ON COLUMN mq.exchanges.created_at IS
  'When the exchange was created.';

COMMENT ON VIEW mq.bindings IS
  'What is bound to each exchange. Shows the bindings of the exchanges that you have any privilege on; pg_monitor sees all.';
COMMENT ON COLUMN mq.bindings.exchange IS
  'Name of the exchange.';
COMMENT ON COLUMN mq.bindings.target IS
  'Queue or exchange that messages are passed on to.';
COMMENT ON COLUMN mq.bindings.pattern IS
  'Of a topic exchange: the pattern that keys must match; of a direct one: the key.';
COMMENT ON COLUMN mq.bindings.headers IS
  'Of a headers exchange: the headers that a message must have.';
COMMENT ON COLUMN mq.bindings.match IS
  'Of a headers exchange: whether it must have all of them or any.';
COMMENT ON COLUMN mq.bindings.filter IS
  'What else must be so of a message, as a jsonpath over {"headers": …, "body": …}; null: nothing.';
COMMENT ON COLUMN mq.bindings.weight IS
  'Of a hash exchange: the share of the keys beside the others''.';

-- Requests and replies ------------------------------------------------------

COMMENT ON PROCEDURE mq.request IS
  'Sends a message that asks for a reply, commits, and waits for the reply, holding no snapshot meanwhile: returns its body, or null when the timeout is over, with which the request expires too. Its headers reply_to (this session''s private reply queue) and correlation_id are set beside those given. With expect_reader it fails with 55000 within a moment when nobody waits for the queue and nobody holds one of its messages. Other replies in the reply queue are removed. Not inside a transaction block. Needs INSERT on the queue.';
COMMENT ON FUNCTION mq.reply IS
  'Replies to a message that mq.read, mq.pop or mq.get returned: sends to the queue that its header reply_to names, with its header correlation_id beside the headers given. Returns the id of the reply. It does not settle the request. Needs INSERT on that queue, which everybody has on private reply queues.';
COMMENT ON FUNCTION mq.reply_queue IS
  'The name of this session''s private reply queue, for the header reply_to: made at the first call, or taken from those that ended sessions of the same role have left, emptied. Everybody may send there, nobody but its owner read. It is the session''s until the session has ended, and the calling role''s: after SET ROLE there is another.';
COMMENT ON FUNCTION mq.read_reply IS
  'Takes the reply with this correlation_id from this session''s private reply queue; no row when it is not there, or does not come within wait (at most 20 seconds). Other replies stay. The reply is removed, as by mq.pop.';

-- Operations ----------------------------------------------------------------

COMMENT ON FUNCTION mq.maintain IS
  'Does what is due in one queue, or in all that the caller owns (a superuser: all): dead-letters what is past its failures or expired, removes archived messages past their retention and old dedup keys, frees reply queues of sessions that have ended, and takes its segments a step further. Bounded; returns how many rows it moved or removed, 0 when nothing is left to do.';
COMMENT ON FUNCTION mq.status IS
  'One row about the installation: version, whether the library is preloaded, the worker, the last maintenance, and warnings, each with what to do.';
COMMENT ON FUNCTION mq.version IS
  'The version of the loaded library.';

COMMENT ON VIEW mq.queues IS
  'The queues and their options. Shows the queues that you have any privilege on, private reply queues only to their owner; pg_monitor sees all.';
COMMENT ON COLUMN mq.queues.queue IS
  'Name of the queue, and of its view in schema mq.';
COMMENT ON COLUMN mq.queues.owner IS
  'Role that owns the queue.';
COMMENT ON COLUMN mq.queues.durable IS
  'False: messages are stored unlogged, and emptied by a server crash.';
COMMENT ON COLUMN mq.queues.visibility IS
  'How long a message is leased when read does not say.';
COMMENT ON COLUMN mq.queues.max_failures IS
  'A message is dead-lettered on this failure; null: never.';
COMMENT ON COLUMN mq.queues.dead_letter IS
  'Queue that dead letters go to; null: they are removed and counted.';
COMMENT ON COLUMN mq.queues.backoff IS
  'Wait before each retry of a nacked message; the last repeats. Null: none.';
COMMENT ON COLUMN mq.queues.ttl IS
  'Life of a message when sending does not say; null: unlimited.';
COMMENT ON COLUMN mq.queues.dedup_window IS
  'How long after a send its dedup_key is remembered; 1000 years or more: while the message is in the queue.';
COMMENT ON COLUMN mq.queues.max_length IS
  'Most messages that may be in the queue; null: unlimited.';
COMMENT ON COLUMN mq.queues.overflow IS
  'What a send to a full queue does: reject raises an error, drop_oldest makes room.';
COMMENT ON COLUMN mq.queues.max_bytes IS
  'Most bytes of a message, payload and headers together.';
COMMENT ON COLUMN mq.queues.archive_retention IS
  'How long archived messages are kept; null: for ever.';
COMMENT ON COLUMN mq.queues.notify IS
  'True: a committed send notifies the channel mq.<queue>.';
COMMENT ON COLUMN mq.queues.paused IS
  'True while the queue hands out nothing.';
COMMENT ON COLUMN mq.queues.paused_until IS
  'When the pause ends by itself; null: not paused, or until mq.resume.';
COMMENT ON COLUMN mq.queues.created_at IS
  'When the queue was created.';

COMMENT ON COLUMN mq.queues.ordering IS
  'Which messages are handed out one after the other: ''none'', those of one group_key (''group''), or all (''strict'').';
COMMENT ON COLUMN mq.queues.single_active IS
  'Whether one session at a time is handed messages.';
COMMENT ON COLUMN mq.queues.active_pid IS
  'With single_active: process id of the session that is handed messages; null: the next that reads.';
COMMENT ON COLUMN mq.queues.rate_limit IS
  'How many messages are handed out each rate_interval; null: as many as are read.';
COMMENT ON COLUMN mq.queues.rate_interval IS
  'The time that rate_limit counts for.';
COMMENT ON COLUMN mq.queues.rate_burst IS
  'How many messages may be handed out at once, where none were for a while.';
COMMENT ON COLUMN mq.queues.rate_key IS
  'A header, or ''group_key'': the rate is for each of its values apart; null: for the queue.';
COMMENT ON COLUMN mq.queues.max_in_flight IS
  'How many messages may be leased at one time; null: any number.';
COMMENT ON COLUMN mq.queues.group_max_in_flight IS
  'How many messages of one group a read takes at most; null: any number.';
COMMENT ON COLUMN mq.queues.fair_by IS
  'A header whose values take turns; null: messages are handed out in the order of their ids.';
COMMENT ON COLUMN mq.queues.segment_size IS
  'How many messages a segment of the storage takes; 0: by the rate; null: as pg_broker.segment_size says.';

COMMENT ON VIEW mq.segments IS
  'The tables that hold each queue''s messages, and what keeps those that are used up. Shows the queues that you have any privilege on, private reply queues only to their owner; pg_monitor sees all.';
COMMENT ON COLUMN mq.segments.queue IS
  'Name of the queue.';
COMMENT ON COLUMN mq.segments.storage IS
  'The table, in schema mq_internal.';
COMMENT ON COLUMN mq.segments.state IS
  'Of a segment: open, closed (its ids are used up), drained (its messages have all left), free. Of a table for messages outside of segments: parked, leaving (it is being emptied), dormant.';
COMMENT ON COLUMN mq.segments.first_id IS
  'The first id that the segment takes.';
COMMENT ON COLUMN mq.segments.last_id IS
  'The last id that the segment takes.';
COMMENT ON COLUMN mq.segments.bytes IS
  'Size with indexes and large values.';
COMMENT ON COLUMN mq.segments.since IS
  'Since when it has been in this state.';
COMMENT ON COLUMN mq.segments.kept_by IS
  'What keeps a table that is used up from being truncated: its first message, a session, or a move that older snapshots may not see.';

COMMENT ON VIEW mq.metrics IS
  'What is in each queue now, and what went through it. Shows the queues that you have any privilege on, private reply queues only to their owner; pg_monitor sees all.';
COMMENT ON COLUMN mq.metrics.queue IS
  'Name of the queue.';
COMMENT ON COLUMN mq.metrics.ready IS
  'Messages that may be handed out now.';
COMMENT ON COLUMN mq.metrics.delayed IS
  'Messages that become ready later.';
COMMENT ON COLUMN mq.metrics.leased IS
  'Messages handed out whose lease has not ended.';
COMMENT ON COLUMN mq.metrics.oldest_ready_age IS
  'How long the oldest ready message has been ready; null when none is.';
COMMENT ON COLUMN mq.metrics.estimated IS
  'True when the counts are estimates: beyond 10,000 messages without preloading and for a moment after a restart, and while somebody has the queue locked or waits to.';
COMMENT ON COLUMN mq.metrics.sent IS
  'Messages sent since `since`; null, as all totals, when the library is not preloaded.';
COMMENT ON COLUMN mq.metrics.delivered IS
  'Hand-outs since `since`, redeliveries included.';
COMMENT ON COLUMN mq.metrics.acked IS
  'Messages acked, archived or popped since `since`.';
COMMENT ON COLUMN mq.metrics.failed IS
  'Failures counted since `since`: nacks and ended leases.';
COMMENT ON COLUMN mq.metrics.dead IS
  'Messages dead-lettered since `since`, or dropped for want of a dead-letter queue.';
COMMENT ON COLUMN mq.metrics.expired IS
  'Messages whose ttl ran out before they were settled, since `since`.';
COMMENT ON COLUMN mq.metrics.since IS
  'When the totals began: the first time after the start of the server that the queue was counted.';
COMMENT ON COLUMN mq.metrics.waiters IS
  'Sessions that wait for a message of the queue now; null when the library is not preloaded.';
