//! The listeners of a running node: opened on every loop thread, added, changed and closed by a reload.

use super::Error;
use crate::broker::{Listener, ListenerSettings};
use crate::config::ListenAddress;
use crate::env::net::ensure_free;
use crate::transport::{Bound, Tls};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Listeners that a loop thread may still have to open.
pub(super) const COMMANDS: usize = 64;

/// A socket for one loop thread.
pub(super) struct Open {
    pub(super) socket: Bound,
    pub(super) listener: Arc<Listener>,
}

/// A listener's sockets, one for each loop thread, that nobody accepts on yet.
pub(super) struct Opened {
    listener: Arc<Listener>,
    sockets: Vec<Bound>,
}

/// The listeners of a node.
#[derive(Default)]
pub(super) struct Doors {
    threads: Vec<Sender<Open>>,
    listeners: Vec<Arc<Listener>>,
}

/// What a reload does to the listeners; nothing is done yet.
pub(super) struct Change {
    opened: Vec<Opened>,
    replaced: Vec<(Arc<Listener>, ListenerSettings)>,
    closed: Vec<Arc<Listener>>,
}

impl Doors {
    pub(super) fn new(threads: Vec<Sender<Open>>) -> Self {
        Self { threads, listeners: Vec::new() }
    }

    pub(super) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// The TLS of all of them.
    pub(super) fn tls(&self) -> Vec<Arc<Tls>> {
        self.listeners.iter().filter_map(|listener| listener.tls()).collect()
    }

    /// What has to be done to have `wanted`: sockets that are new are bound, and that is all.
    pub(super) fn prepare(
        &self,
        wanted: Vec<(Arc<str>, ListenerSettings)>,
        backlog: u16,
        unix_mode: impl Fn(&str) -> u32,
    ) -> Result<Change, Error> {
        let mut change = Change { opened: Vec::new(), replaced: Vec::new(), closed: self.listeners.clone() };
        for (name, settings) in wanted {
            let kept = change
                .closed
                .iter()
                .position(|listener| listener.name == name && listener.settings().address == settings.address);
            match kept {
                Some(place) => change.replaced.push((change.closed.remove(place), settings)),
                None => {
                    let sockets =
                        bind(&settings.address, self.threads.len(), backlog, unix_mode(&name)).map_err(|source| {
                            Error::Listen { name: Arc::clone(&name), address: settings.address.clone(), source }
                        })?;
                    change.opened.push(Opened { listener: Listener::new(name, settings), sockets });
                }
            }
        }
        Ok(change)
    }

    /// Does it. Who is connected stays, also by a listener that is closed.
    pub(super) fn apply(&mut self, change: Change) {
        for listener in change.closed {
            tracing::info!(name = %listener.name, address = %listener.settings().address, "no longer listening");
            listener.close();
            if let ListenAddress::Unix(path) = &listener.settings().address {
                // In vain where another listener has put its own there meanwhile.
                let _ = std::fs::remove_file(path);
            }
            self.listeners.retain(|known| !Arc::ptr_eq(known, &listener));
        }
        for (listener, settings) in change.replaced {
            listener.replace(settings);
        }
        for Opened { listener, sockets } in change.opened {
            let address = sockets.first().and_then(Bound::address);
            for (socket, thread) in sockets.into_iter().zip(&self.threads) {
                // A thread that is gone, or has that much to open, is no thread any more: the node is stopping.
                let _ = thread.try_send(Open { socket, listener: Arc::clone(&listener) });
            }
            match address {
                Some(address) => tracing::info!(name = %listener.name, %address, "listening"),
                None => tracing::info!(name = %listener.name, address = %listener.settings().address, "listening"),
            }
            self.listeners.push(listener);
        }
    }

    /// Removes the files of Unix sockets: the node stops.
    pub(super) fn clean(&self) {
        for listener in &self.listeners {
            if let ListenAddress::Unix(path) = &listener.settings().address {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// A socket for each of `threads`.
fn bind(address: &ListenAddress, threads: usize, backlog: u16, mode: u32) -> io::Result<Vec<Bound>> {
    let mut sockets = Vec::with_capacity(threads);
    match address {
        ListenAddress::Ip(address) => {
            // Loop threads share each address, which would let a second process share it too.
            ensure_free(*address)?;
            let mut address = *address;
            for _ in 0..threads {
                let socket = Bound::tcp(address, backlog)?;
                // The port that the system chose for the first is the others' too.
                address = socket.address().unwrap_or(address);
                sockets.push(socket);
            }
        }
        ListenAddress::Unix(path) => {
            let first = Bound::unix(path, mode, backlog)?;
            for _ in 1..threads {
                sockets.push(first.share()?);
            }
            sockets.push(first);
        }
    }
    Ok(sockets)
}
