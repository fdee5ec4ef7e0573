//! The broker as a process, seen by scripted peers over TCP.
//!
//! `field` holds the inputs that broke other brokers, named by their case; the other modules go through what the
//! broker must do, room by room. One binary, since linking is the slow part.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod bad_input;
mod doors;
mod field;
mod flow;
mod keepalive;
mod limits;
mod log;
mod logins;
mod publish;
mod quotas;
mod reload;
mod replay;
mod response;
mod retained;
mod secrets;
mod session;
mod shared;
mod subscribe;
mod sys;
mod systemd;
mod v5_properties;
mod will;
