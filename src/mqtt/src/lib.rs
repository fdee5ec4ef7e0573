//! MQTT 3.1, 3.1.1 and 5.0 as values.

mod message;
mod types;

pub use message::Message;
pub use types::{QoS, RetainHandling, SubscriptionOptions, Version};
