//! The only home of `unsafe` and of PostgreSQL's C interface. Everything here offers a safe face
//! to the rest, and every difference between server versions ends here.

pub mod active;
pub mod array;
pub mod aside;
pub mod bell;
pub mod blames;
pub mod board;
pub mod buckets;
mod calm;
pub mod entry;
pub mod event;
pub mod filter;
pub mod holders;
pub mod index;
pub mod json;
pub mod moment;
mod pinned;
mod place;
mod pool;
pub mod prepared;
pub mod rel;
pub mod report;
pub mod rival;
pub mod role;
pub mod roster;
pub mod session;
pub mod shmem;
pub mod spi;
pub mod table;
pub mod time;
pub mod trigger;
pub mod value;
pub mod wait;
pub mod waiters;
pub mod walk;
pub mod worker;
pub mod xact;
