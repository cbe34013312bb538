//! The parts of pg_broker that need no PostgreSQL: names, retry delays, the story of a death.

pub mod backoff;
pub mod death;
pub mod names;
