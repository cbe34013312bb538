//! The frontier's protocol over every interleaving of small casts, and its parts against naive
//! ones.

mod explore;
mod properties;
mod world;
