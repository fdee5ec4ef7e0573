//! The client on the inside: what bridge, admin door and tests use instead of a socket.

use super::Broker;
use super::publish::Outcome;
use nightjar_mqtt::{Message, ReasonCode};
use std::sync::Arc;

/// A handle of the broker for code that lives in the same process.
#[derive(Clone)]
pub struct Handle {
    pub(super) broker: Arc<Broker>,
}

impl Handle {
    /// A handle of `broker`.
    #[must_use]
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    /// Lets what this thread does for the broker be counted. Called once, by each thread that uses a handle.
    pub fn enter_thread(&self) {
        super::stats::enter(self.broker.board.join());
    }

    /// Publishes `message` and waits until that is as durable as a PUBACK would say. The reason code is PUBACK's.
    pub async fn publish(&self, message: Message) -> ReasonCode {
        let home = self.broker.others.as_ref().map(|others| others.home());
        let now = self.broker.clock.now();
        let retained = message.retain;
        let mut ops = Vec::new();
        let outcome = self.broker.publish_message(&Arc::new(message), &mut ops, now);
        super::turn::flush();
        let position =
            if ops.is_empty() { self.broker.store.submitted() } else { self.broker.store.submit(&mut ops, None) };
        if retained || outcome == Outcome::Matched {
            self.broker.store.wait(position).await;
        }
        // Cut off for so long that the cluster has given this process up, with all that it had not agreed on.
        let is_same = home == self.broker.others.as_ref().map(|others| others.home());
        if is_same { outcome.reason() } else { ReasonCode::UnspecifiedError }
    }
}
