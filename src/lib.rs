//! Nightjar: an MQTT broker in which an acknowledgement says what is durably true, and nothing else.

pub mod admin;
pub mod auth;
pub mod bridge;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod env;
pub mod import;
pub mod node;
pub mod store;
pub mod telemetry;
pub mod transport;
