//! The parts of pg_broker that need no PostgreSQL: names, retry delays, the story of a death,
//! and where a reader has to look.

pub mod backoff;
pub mod board;
pub mod death;
pub mod frontier;
pub mod ids;
pub mod names;
