//! The frontier's protocol over every interleaving of small casts, and its parts against naive
//! ones.

mod choosy;
mod dice;
mod explore;
mod properties;
mod world;
