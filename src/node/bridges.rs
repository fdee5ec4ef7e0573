//! The bridges of a node, and how their connections come in.

use super::Inside;
use crate::bridge::Host;
use crate::broker::Listener;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

/// The node as its bridges see it, which are a part of it.
struct Doorway(Weak<Inside>);

impl Host for Doorway {
    fn adopt(&self, pair: UnixStream, listener: &Arc<Listener>) {
        if let Some(inside) = self.0.upgrade() {
            inside.state.lock().doors.adopt_bridge(pair, listener);
        }
    }
}

/// What the bridges of `inside` need of it.
pub(super) fn host(inside: &Weak<Inside>) -> Arc<dyn Host> {
    Arc::new(Doorway(Weak::clone(inside)))
}
