//! What SQL calls: arguments in, rows out. One file a subject, no rules of their own.

mod args;
mod events;
mod exchanges;
mod limits;
mod observe;
mod options;
mod pgmq;
mod publish;
mod queues;
mod receive;
mod redrive;
mod requests;
mod send;
mod settle;
mod upkeep;
mod view;
mod wait;
