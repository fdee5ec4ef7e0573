//! The normative statements of MQTT 3.1.1 and 5.0 that no other suite shows, on a real broker process.
//!
//! A test is named after the first statement that it shows; the numbers are those of MQTT 5.0 unless the name says
//! `v311`. `document` keeps `docs/conformance.md`, which lists every statement with its tests, true.
// Tests stand outside: they may read the clock that the broker may not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod behaviour;
mod connect;
mod document;
mod flow;
mod format;
mod leave;
mod publish;
mod raw;
mod subscribe;
