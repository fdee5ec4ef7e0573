//! What a cluster implements and a node alone does not need.
//!
//! The broker announces its routes and offers what it publishes; with other nodes present, somebody forwards.

use nightjar_mqtt::Message;
use std::sync::Arc;

/// Who is told which filters this node has subscribers for.
pub trait Routes: Send + Sync {
    /// A subscriber of this node has subscribed to `filter` (as sent, `$share/…/` included).
    fn added(&self, filter: &str);
    /// A subscriber of this node has left `filter`.
    fn removed(&self, filter: &str);
    /// Whether SUBACK may go as soon as the subscription is durable here. With other nodes it waits until each of them
    /// routes to it.
    fn is_local(&self) -> bool;
}

/// The way to other nodes.
pub trait Links: Send + Sync {
    /// Whether any other node has a subscriber for `topic`.
    fn wants(&self, topic: &str) -> bool;
    /// Sends `message` to the nodes that have subscribers for it.
    fn forward(&self, message: &Arc<Message>);
}

/// A node alone: all subscribers are its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Routes for Alone {
    fn added(&self, _filter: &str) {}
    fn removed(&self, _filter: &str) {}
    fn is_local(&self) -> bool {
        true
    }
}

impl Links for Alone {
    fn wants(&self, _topic: &str) -> bool {
        false
    }
    fn forward(&self, _message: &Arc<Message>) {}
}
