//! The parts of pg_broker that need no PostgreSQL: names, retry delays, the story of a death,
//! where a reader has to look, how many messages there are, and whom one is for.

pub mod backoff;
pub mod board;
pub mod death;
pub mod fair;
pub mod frontier;
pub mod gate;
pub mod groups;
pub mod hash;
pub mod ids;
pub mod names;
pub mod rate;
pub mod route;
pub mod space;
pub mod tally;
