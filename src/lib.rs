//! Nightjar: an MQTT broker in which an acknowledgement says what is durably true, and nothing else.

pub mod cli;
pub mod config;
pub mod env;
pub mod telemetry;
