//! The only doors to the outside: clocks, random numbers, sockets, threads and tasks.
//!
//! Everything above takes time and randomness from here, so that a test can put its own in their place and so that the
//! pure rooms below never meet them at all.

#![allow(clippy::disallowed_methods, reason = "these are the doors that the bans point to")]

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod memory;
pub mod net;
pub mod signal;
pub mod task;
