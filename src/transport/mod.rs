//! Transports: from a fresh socket to a stream of MQTT bytes, whatever it is wrapped in.

mod remote;

pub use remote::{Kind, Remote};
