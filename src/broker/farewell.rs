//! The last bytes to a client, and from it.

use super::connection::BUFFER;
use super::peer::Peer;
use crate::env::task;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

/// Reads what still comes, and drops it, until the client closes.
pub(super) async fn discard(peer: Arc<Peer>) {
    loop {
        match BUFFER.with(|buffer| peer.read(&mut buffer.borrow_mut())) {
            Ok(0) => return,
            Ok(_) => task::pause().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if poll_fn(|context| peer.stream.poll_read_ready(context)).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Waits until everything in the outbox is written, by whoever writes it.
pub(super) async fn drain(peer: Arc<Peer>) {
    loop {
        peer.flush();
        let (over, blocked) = {
            let state = peer.lock();
            let written = state.outbox.is_empty() && !state.writing && !peer.stream.holds_back();
            (state.broken || written, state.blocked)
        };
        if over {
            return;
        }
        if blocked {
            poll_fn(|context| peer.poll_unblock(context)).await;
        } else {
            task::pause().await;
        }
    }
}
