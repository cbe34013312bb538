//! What a queue does: the rules, in terms of storage.

pub mod active;
pub mod bury;
pub mod filter;
pub mod grouped;
pub mod import;
pub mod life;
pub mod limits;
pub mod look;
mod note;
pub mod pace;
pub mod publish;
pub mod read;
pub mod redrive;
pub mod request;
pub mod rotate;
pub mod seize;
pub mod send;
pub mod settle;
mod spare;
mod tenants;
pub mod tend;
mod turns;
pub mod upkeep;
