//! The admin door of a real broker, asked over real sockets.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod access;
mod bridges;
mod ctl;
mod document;
mod http;
mod lists;
mod metrics;
#[path = "../support/mod.rs"]
mod support;
