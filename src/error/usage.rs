//! How arguments are written, for hints.

/// How an argument is written, for when a value is refused.
pub(super) fn usage(argument: &str) -> &'static str {
    match argument {
        "qty" => "Say how many messages to take, as in mq.read('orders', qty => 10).",
        "visibility" => "Say how long the lease lasts, as in visibility => '30 seconds'.",
        "delay" => "Say how long to wait, as in delay => '5 minutes'.",
        "deliver_at" | "visible_at" => "Give a time, as in now() + '1 hour'.",
        "ttl" => "Say how long the message is worth delivering, as in ttl => '1 hour'.",
        "expires_at" => "Give a time, or leave it null for never.",
        "priority" => "Higher goes first; 4 is the default, as in priority => 9.",
        "wait" | "timeout" => "Say how long to wait, as in '10 seconds'.",
        "backoff" => "List the waits before each retry, as in backoff => '{1s,10s,1min}'.",
        "dedup_window" => "Say for how long, as in dedup_window => '5 minutes'.",
        "archive_retention" => "Say for how long, as in archive_retention => '30 days'.",
        "max_failures" => "Say how often it may fail, as in max_failures => 5.",
        "max_length" => "Say how many messages fit, as in max_length => 100000.",
        "max_bytes" => "Say how large a message may be, as in max_bytes => 65536.",
        "max" => "Say how many messages at most, as in max => 100.",
        "rate_limit" => "Say how many messages each rate_interval, as in rate_limit => 100.",
        "rate_interval" => {
            "Give the time that rate_limit counts for, as in rate_interval => '1 minute'."
        }
        "rate_burst" => {
            "Say how many messages may go at once, as in rate_limit => 100, rate_burst => 10."
        }
        "rate_key" => {
            "Name a header, each value of which has a rate of its own, as in rate_limit => 10, \
             rate_key => 'tenant'; or 'group_key'."
        }
        "fair_by" => {
            "Name a header whose values take turns, as in fair_by => 'tenant'; in a queue without \
             ordering."
        }
        "max_in_flight" => {
            "Say how many messages may be leased at one time, as in max_in_flight => 10."
        }
        "group_max_in_flight" => {
            "Say how many messages of a group one read takes, as in ordering => 'group', \
             group_max_in_flight => 5."
        }
        "overflow" => "Use overflow => 'reject' or overflow => 'drop_oldest'.",
        "until" => "Leave it out to pause until mq.resume.",
        "id" | "ids" | "receipt" | "receipts" => {
            "Pass the id and receipt that mq.read returned, as in mq.ack('orders', id, receipt)."
        }
        "body" | "bodies" | "data" => {
            "Send something: mq.send takes jsonb ('null' is a value), mq.send_text text, \
             mq.send_bytes bytea."
        }
        "headers" => "Write headers as a JSON object, as in '{\"type\": \"order\"}'.",
        "kind" => "Use 'topic', 'direct', 'fanout', 'headers' or 'hash'.",
        "exchange" => "Name the exchange, as in mq.publish('news', 'sports.chess', '{}').",
        "target" => "Name a queue or another exchange.",
        "pattern" => {
            "For a topic, words and dots, where * is one word and # none or more: 'sports.*'; for a \
             direct exchange, the key."
        }
        "key" => "Give the key to route by, as in mq.publish('news', 'sports.chess', '{}').",
        "keys" => "Give one key a message.",
        "filter" => {
            "Write a jsonpath over {\"headers\": …, \"body\": …}, as in '$.body.weight > 2500'."
        }
        "match" => "Use match => 'all' or match => 'any'.",
        "weight" => "Give the share beside the others', as in weight => 2.",
        "alternate" => "Name the exchange that takes what no binding matches.",
        "group_keys" | "dedup_keys" => "Give one element a message, null for none.",
        "message" => {
            "Pass a message as mq.read returned it, as in mq.reply(m, '1') FROM mq.read('q') m."
        }
        "correlation_id" => "Pass the id that was sent in the header correlation_id.",
        "reset" => "Name the options to put back to their defaults, as in reset => '{ttl}'.",
        "to" => "Name a queue that you may send to.",
        "new_name" => "Give the new name, as in mq.rename_queue('orders', 'purchases').",
        "queues" => "Name the queues, as in mq.wait_any('{orders,mail}', '10 seconds').",
        _ => "See the SQL reference.",
    }
}
