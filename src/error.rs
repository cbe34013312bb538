//! Everything that the extension refuses, with its SQLSTATE, message and hint.
//!
//! A message names the queue and the argument; a hint names the call that helps.

mod usage;

use pg_broker_core::names::{quote_ident, quote_literal, refuse};
use thiserror::Error;
use usage::usage;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    UndefinedTable,
    DuplicateTable,
    InvalidName,
    InvalidParameter,
    GeneratedAlways,
    ProgramLimitExceeded,
    ConfigurationLimitExceeded,
    InsufficientPrivilege,
    ReadOnly,
    NoData,
    DependentObjects,
    ActiveTransaction,
    ObjectInUse,
    NotNull,
    NullNotAllowed,
    NegativeLimit,
    Raised,
    Broken,
    FeatureNotSupported,
    Internal,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("queue \"{0}\" does not exist")]
    NoSuchQueue(String),
    #[error("relation \"{0}\" already exists in schema mq")]
    NameTaken(String),
    #[error("queue \"{0}\" already exists")]
    QueueExists(String),
    #[error("\"{name}\" cannot be the name of {what}: {why}")]
    BadName {
        what: &'static str,
        name: String,
        why: &'static str,
    },
    #[error("argument \"{argument}\" must not be null")]
    NullQueue { argument: &'static str },
    #[error("{}argument \"{argument}\" {why}", of(queue))]
    Argument {
        queue: String,
        argument: &'static str,
        why: String,
        hint: Option<String>,
    },
    #[error("queue \"{queue}\": column \"{column}\" cannot be written")]
    Column {
        queue: String,
        column: String,
        hint: &'static str,
    },
    #[error(
        "queue \"{queue}\": argument \"{argument}\" is {size} bytes, more than the {limit} allowed"
    )]
    TooLarge {
        queue: String,
        argument: &'static str,
        size: i64,
        limit: i64,
    },
    #[error("queue \"{queue}\" is full: it holds its max_length of {limit} messages")]
    Full { queue: String, limit: i64 },
    #[error("permission denied for view {name}")]
    Denied {
        name: String,
        privilege: &'static str,
    },
    #[error("queue \"{queue}\": the owner of the queue may not send to \"{target}\"")]
    DeadLetterDenied { queue: String, target: String },
    #[error("queue \"{0}\": its dead-letter queue is gone")]
    NoDeadLetter(String),
    #[error("exchange \"{0}\" does not exist")]
    NoSuchExchange(String),
    #[error("the catalog entry of exchange \"{0}\" is missing")]
    BrokenExchange(String),
    #[error("exchange \"{0}\" already exists")]
    ExchangeExists(String),
    #[error("queue or exchange \"{0}\" does not exist")]
    NoTarget(String),
    #[error("exchange \"{exchange}\": argument \"{argument}\" {why}")]
    ExchangeArgument {
        exchange: String,
        argument: &'static str,
        why: String,
    },
    #[error("exchange \"{exchange}\": no queue takes a message with {}", shown(key.as_deref()))]
    Unrouted {
        exchange: String,
        key: Option<String>,
    },
    #[error("exchange \"{exchange}\": the owner of the exchange may not send to \"{target}\"")]
    PublishDenied { exchange: String, target: String },
    #[error("must be owner of exchange \"{0}\"")]
    NotExchangeOwner(String),
    #[error("cannot drop exchange \"{exchange}\" because other objects depend on it")]
    ExchangeDepends { exchange: String, detail: String },
    #[error("exchange \"{0}\": column \"queues\" cannot be written")]
    ExchangeColumn(String),
    #[error("cannot execute {0} in a read-only transaction")]
    ReadOnly(&'static str),
    #[error("cannot create {0}: this schema is the extension's")]
    Planted(String),
    #[error("must be owner of queue \"{0}\"")]
    NotOwner(String),
    #[error("cannot drop queue \"{queue}\" because other objects depend on it")]
    Depends { queue: String, detail: String },
    #[error("cannot drop {what} \"{name}\" because queue \"{queue}\" needs it")]
    PartOfQueue {
        what: &'static str,
        name: String,
        queue: String,
    },
    #[error("cannot {what} {name}")]
    NotSupported {
        what: &'static str,
        name: String,
        hint: String,
    },
    #[error("queue \"{queue}\": group_key needs a queue with ordered groups")]
    NoGroups { queue: String },
    #[error("queue \"{0}\": this transaction has messages of as many groups as it may")]
    TooManyGroups(String),
    #[error("mq.{0} cannot run inside a transaction block")]
    InTransaction(&'static str),
    #[error("queue \"{queue}\": message {id} is leased")]
    Leased { queue: String, id: i64 },
    #[error("queue \"{queue}\" already dead-letters, directly or not, into \"{target}\"")]
    Cycle { queue: String, target: String },
    #[error("nobody reads queue \"{0}\": nobody waits for it or holds one of its messages")]
    NoReader(String),
    #[error("{0} needs pg_broker in shared_preload_libraries")]
    NeedsPreload(&'static str),
    #[error("queue \"{0}\": its limits need pg_broker in shared_preload_libraries")]
    NeedsBoard(String),
    #[error("queue \"{0}\": fair_by needs pg_broker in shared_preload_libraries")]
    FairNeedsBoard(String),
    #[error("queue \"{0}\": shared memory has no room for its limits")]
    NoPlace(String),
    #[error("this session has no reply queue")]
    NoReplyQueue,
    #[error("the catalog of queue \"{0}\" is incomplete")]
    BrokenQueue(String),
    #[error("permission denied for schema pgmq")]
    PgmqDenied,
    /// In the words of pgmq, which its clients know.
    #[error("{1}")]
    AsPgmq(State, String),
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// An argument of a call that cannot be accepted, with the reason.
    pub fn argument(queue: &str, argument: &'static str, why: impl Into<String>) -> Self {
        Error::Argument {
            queue: queue.into(),
            argument,
            why: why.into(),
            hint: None,
        }
    }

    pub fn argument_hint(
        queue: &str,
        argument: &'static str,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Error::Argument {
            queue: queue.into(),
            argument,
            why: why.into(),
            hint: Some(hint.into()),
        }
    }

    pub fn ordered_already(queue: &str) -> Self {
        Error::NotSupported {
            what: "read by the header x-pgmq-group",
            name: format!("queue \"{queue}\", which keeps an order of its own"),
            hint: "Use pgmq.read: it hands out what is in order.".into(),
        }
    }

    pub fn renamed_reply_queue(queue: &str) -> Self {
        Error::NotSupported {
            what: "rename",
            name: format!("the private reply queue \"{queue}\""),
            hint: "Create a queue of your own with mq.create_queue.".into(),
        }
    }

    /// `reset` names an option that is also given a value.
    pub fn reset_and_given(queue: &str, option: &str) -> Self {
        Self::argument(
            queue,
            "reset",
            format!("names \"{option}\", which is also given a value"),
        )
    }

    pub fn null(queue: &str, argument: &'static str) -> Self {
        Self::argument(queue, argument, "must not be null")
    }

    pub fn state(&self) -> State {
        match self {
            Error::NoSuchQueue(_)
            | Error::NoDeadLetter(_)
            | Error::NoSuchExchange(_)
            | Error::NoTarget(_) => State::UndefinedTable,
            Error::NameTaken(_) | Error::QueueExists(_) | Error::ExchangeExists(_) => {
                State::DuplicateTable
            }
            Error::BadName { .. } => State::InvalidName,
            Error::NullQueue { .. }
            | Error::Argument { .. }
            | Error::ExchangeArgument { .. }
            | Error::Cycle { .. } => State::InvalidParameter,
            Error::Column { .. } | Error::ExchangeColumn(_) => State::GeneratedAlways,
            Error::Unrouted { .. } => State::NoData,
            Error::TooLarge { .. } => State::ProgramLimitExceeded,
            Error::Full { .. } | Error::TooManyGroups(_) => State::ConfigurationLimitExceeded,
            Error::NotOwner(_)
            | Error::NotExchangeOwner(_)
            | Error::PgmqDenied
            | Error::PublishDenied { .. }
            | Error::Planted(_)
            | Error::Denied { .. }
            | Error::DeadLetterDenied { .. } => State::InsufficientPrivilege,
            Error::ReadOnly(_) => State::ReadOnly,
            Error::Depends { .. } | Error::PartOfQueue { .. } | Error::ExchangeDepends { .. } => {
                State::DependentObjects
            }
            Error::NotSupported { .. } | Error::NoGroups { .. } => State::FeatureNotSupported,
            Error::InTransaction(_) => State::ActiveTransaction,
            Error::Leased { .. } => State::ObjectInUse,
            Error::NoReader(_)
            | Error::NeedsPreload(_)
            | Error::NeedsBoard(_)
            | Error::FairNeedsBoard(_)
            | Error::NoPlace(_)
            | Error::NoReplyQueue
            | Error::BrokenExchange(_)
            | Error::BrokenQueue(_) => State::Broken,
            Error::AsPgmq(state, _) => *state,
            Error::Internal(_) => State::Internal,
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Error::Depends { detail, .. } | Error::ExchangeDepends { detail, .. } => {
                Some(detail.clone())
            }
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoSuchQueue(q) if refuse(q).is_some() => {
                Some("mq.queues lists the queues that you can see.".into())
            }
            Error::NoSuchQueue(q) => Some(format!(
                "Create it with SELECT mq.create_queue({}).",
                quote_literal(q)
            )),
            Error::NoSuchExchange(x) => Some(format!(
                "Create it with SELECT mq.create_exchange({}, 'topic'); to send to a queue by its \
                 name, use mq.send.",
                quote_literal(x)
            )),
            Error::BrokenExchange(x) => Some(format!(
                "It was restored in part, perhaps; DROP VIEW mq.{} and create it anew.",
                quote_ident(x)
            )),
            Error::ExchangeExists(x) => Some(format!(
                "Use mq.create_exchange({}, …, if_not_exists => true) to accept an existing exchange.",
                quote_literal(x)
            )),
            Error::NoTarget(_) => {
                Some("Name a queue or an exchange; mq.queues and mq.exchanges list them.".into())
            }
            Error::ExchangeArgument { argument, .. } => Some(usage(argument).into()),
            Error::Unrouted { exchange, .. } => Some(format!(
                "Bind a queue with mq.bind({}, …), give the exchange an alternate, or publish \
                 without mandatory.",
                quote_literal(exchange)
            )),
            Error::PublishDenied { target, .. } => Some(format!(
                "GRANT INSERT ON mq.{} to the owner of the exchange, or unbind it.",
                quote_ident(target)
            )),
            Error::NotExchangeOwner(_) => {
                Some("The owner of an exchange is the owner of its view in schema mq.".into())
            }
            Error::ExchangeDepends { exchange, .. } => Some(format!(
                "mq.drop_exchange({}, cascade => true) drops dependent views with it, and takes it \
                 out of other exchanges.",
                quote_literal(exchange)
            )),
            Error::ExchangeColumn(_) => {
                Some("It is for RETURNING: how many queues the message reached.".into())
            }
            Error::NoDeadLetter(q) => Some(format!(
                "Name another with mq.alter_queue({}, dead_letter => …), or take it away with \
                 reset => '{{dead_letter}}'.",
                quote_literal(q)
            )),
            Error::QueueExists(q) => Some(format!(
                "Use mq.create_queue({}, if_not_exists => true) to accept an existing queue.",
                quote_literal(q)
            )),
            Error::NameTaken(_) => Some(
                "Queues and exchanges share their names. A queue also takes the name of its archive, \
                 <queue>_archive, and, with max_failures and no dead_letter, of its dead-letter queue, \
                 <queue>_dead. Choose another name, or name an existing queue in dead_letter."
                    .into(),
            ),
            Error::BadName { .. } => Some(
                "A name is 1 to 48 bytes long, is not one of mq's own relations, and does not \
                 start with mq_ or pg_."
                    .into(),
            ),
            Error::NullQueue { argument } if *argument != "queue" => Some(usage(argument).into()),
            Error::NullQueue { .. } => Some("Name the queue, as in mq.read('orders').".into()),
            Error::Argument {
                hint: Some(hint), ..
            } => Some(hint.clone()),
            Error::Argument { argument, .. } => Some(usage(argument).into()),
            Error::Denied { name, privilege } => Some(format!(
                "Its owner can allow it: GRANT {privilege} ON mq.{} TO …",
                quote_ident(name)
            )),
            Error::DeadLetterDenied { target, .. } => Some(format!(
                "GRANT INSERT ON mq.{} to the owner of the queue, or name another dead-letter \
                 queue with mq.alter_queue.",
                quote_ident(target)
            )),
            Error::Planted(_) => Some("Create it in a schema of your own.".into()),
            Error::ReadOnly(_) => Some(
                "In a read-only transaction, and on a standby, queues can be browsed and measured, \
                 not changed."
                    .into(),
            ),
            Error::Column { hint, .. } => Some((*hint).into()),
            Error::TooLarge { queue, .. } => Some(format!(
                "Raise the limit with mq.alter_queue({}, max_bytes => …), or send a reference to \
                 the data.",
                quote_literal(queue)
            )),
            Error::Full { queue, .. } => Some(format!(
                "Consume messages, send fewer at once, or raise the limit with \
                 mq.alter_queue({}, max_length => …).",
                quote_literal(queue)
            )),
            Error::NotOwner(_) => {
                Some("The owner of a queue is the owner of its view in schema mq.".into())
            }
            Error::Depends { queue, .. } => Some(format!(
                "mq.drop_queue({}, cascade => true) drops dependent views with it; queues that \
                 dead-letter into it stay, and keep their dead messages.",
                quote_literal(queue)
            )),
            Error::PartOfQueue { queue, .. } => Some(format!(
                "Drop the queue with SELECT mq.drop_queue({}).",
                quote_literal(queue)
            )),
            Error::NotSupported { hint, .. } => Some(hint.clone()),
            Error::TooManyGroups(_) => Some(
                "Commit, and read again: each group is a lock until then. Or raise \
                 max_locks_per_transaction."
                    .into(),
            ),
            Error::NoGroups { queue } => Some(format!(
                "Leave group_key out, or make a queue with SELECT mq.create_queue({}, \
                 ordering => 'group').",
                quote_literal(&format!("{queue}_in_order"))
            )),
            Error::InTransaction("request") => Some(
                "Call it outside BEGIN … COMMIT, as a statement of its own; or send with the headers \
                 reply_to (mq.reply_queue()) and correlation_id, commit, and use mq.read_reply."
                    .into(),
            ),
            Error::NoReader(queue) => Some(format!(
                "A reader waits with CALL mq.wait({0}, …) or mq.read({0}, wait => …). Leave \
                 expect_reader out to wait until somebody reads.",
                quote_literal(queue)
            )),
            Error::NeedsPreload(_) => Some(
                "Only then it is known who waits. Add pg_broker to shared_preload_libraries and \
                 restart the server, or leave expect_reader out."
                    .into(),
            ),
            Error::NeedsBoard(queue) => Some(format!(
                "Add pg_broker to shared_preload_libraries and restart the server, or take the limits \
                 away with mq.alter_queue({}, reset => '{{rate_limit,max_in_flight}}').",
                quote_literal(queue)
            )),
            Error::FairNeedsBoard(_) => Some(
                "Add pg_broker to shared_preload_libraries and restart the server.".into(),
            ),
            Error::NoPlace(_) => Some(
                "Raise pg_broker.max_queues and restart the server, or drop queues that nobody needs."
                    .into(),
            ),
            Error::NoReplyQueue => Some(
                "Name mq.reply_queue() in the header reply_to of what you send, in this session \
                 and with this role."
                    .into(),
            ),
            Error::InTransaction(_) => Some(
                "Call it outside BEGIN … COMMIT, as a statement of its own; inside a transaction \
                 use mq.read(…, wait => …)."
                    .into(),
            ),
            Error::Leased { queue, id } => Some(format!(
                "Wait until it is settled or its lease ends, or give it back with \
                 mq.release({}, {id}).",
                quote_literal(queue)
            )),
            Error::Cycle { .. } => Some("Choose a dead-letter queue that has none.".into()),
            Error::BrokenQueue(q) => Some(format!(
                "Its entry or its tables are missing, perhaps after a partial restore; drop it \
                 with SELECT mq.drop_queue({}).",
                quote_literal(q)
            )),
            _ => None,
        }
    }
}

fn shown(key: Option<&str>) -> String {
    key.map_or("no key".into(), |key| format!("key \"{key}\""))
}

/// The beginning of a message about a queue, if there is one.
fn of(queue: &str) -> String {
    if queue.is_empty() {
        String::new()
    } else {
        format!("queue \"{queue}\": ")
    }
}
