//! Attacks on a real broker process, while honest clients go about their business.
//!
//! Each test is one attack against a broker whose limits are set as an operator would who expects it. Twenty honest
//! clients with passwords and rules send each other messages at QoS 1 all the while. In the end: nothing of theirs is
//! lost or out of order, they did not wait much longer than before, the broker's memory grew by no more than the bound
//! that the test states, the process is the same, and the attacker was cut off or is told by a reason code or the log.
//!
//! `NIGHTJAR_ATTACK_SECONDS=n` makes every attack go on for so long; without it each is over in a few seconds.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod arena;
mod crowd;
mod flood;
mod login;
mod packets;
mod webs;
