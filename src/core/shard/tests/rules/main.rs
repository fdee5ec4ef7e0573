//! One test for each rule of the shard.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod batches;
mod bench;
mod format;
mod homes;
mod origins;
mod queues;
mod retained;
mod sessions;
mod tables;
