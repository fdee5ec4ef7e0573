//! The listeners of a running node: opened on every loop thread, added, changed and closed by a reload.

use super::Error;
use crate::auth::Identity;
use crate::broker::{Adopted, Limits, Listener, ListenerSettings};
use crate::config::ListenAddress;
use crate::env::net::ensure_free;
use crate::transport::{Bound, Options, Tls};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Consoles at a time.
const CONSOLES: usize = 16;

/// Commands that a loop thread may still have to obey.
pub(super) const COMMANDS: usize = 64;

/// What a loop thread is asked.
pub(super) enum Command {
    /// To accept on a socket.
    Open(Bound, Arc<Listener>),
    /// To take in a connection that came elsewhere.
    Adopt(Adopted, Arc<Listener>),
}

/// A listener's sockets, one for each loop thread, that nobody accepts on yet.
pub(super) struct Opened {
    listener: Arc<Listener>,
    sockets: Vec<Bound>,
}

/// The listeners of a node.
#[derive(Default)]
pub(super) struct Doors {
    threads: Vec<Sender<Command>>,
    listeners: Vec<Arc<Listener>>,
    /// The first were opened.
    are_open: bool,
    /// By which the page's consoles come in.
    console: Option<Arc<Listener>>,
}

/// What a reload does to the listeners; nothing is done yet.
pub(super) struct Change {
    opened: Vec<Opened>,
    replaced: Vec<(Arc<Listener>, ListenerSettings)>,
    closed: Vec<Arc<Listener>>,
}

impl Doors {
    pub(super) fn new(threads: Vec<Sender<Command>>) -> Self {
        Self { threads, listeners: Vec::new(), are_open: false, console: None }
    }

    /// Whether the first listeners were opened: in a cluster that waits until the node is in touch.
    pub(super) fn are_open(&self) -> bool {
        self.are_open
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
        self.are_open = true;
        for listener in change.closed {
            tracing::info!(name = %listener.name, address = %listener.settings().address, "no longer listening");
            listener.close();
            let address = &listener.settings().address;
            let reused = change.opened.iter().any(|opened| opened.listener.settings().address == *address);
            if let (ListenAddress::Unix(path), false) = (address, reused) {
                // It may have been removed by hand.
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
                let _ = thread.try_send(Command::Open(socket, Arc::clone(&listener)));
            }
            match address {
                Some(address) => tracing::info!(name = %listener.name, %address, "listening"),
                None => tracing::info!(name = %listener.name, address = %listener.settings().address, "listening"),
            }
            self.listeners.push(listener);
        }
    }

    /// Takes in a connection of the page's console.
    pub(super) fn adopt(&self, adopted: Adopted) {
        if let (Some(thread), Some(console)) = (self.threads.first(), &self.console) {
            // A thread that has so much to do takes no console: its page says that it is disconnected.
            let _ = thread.try_send(Command::Adopt(adopted, Arc::clone(console)));
        }
    }

    /// Takes in a connection of the bridge whose listener is `listener`, on a thread that stays the same for each bridge.
    pub(super) fn adopt_bridge(&self, pair: UnixStream, listener: &Arc<Listener>) {
        let number = listener.name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        if let Some(thread) = self.threads.get(number % self.threads.len().max(1)) {
            // A thread that has so much to do takes none: the pair is closed, and the bridge tries again.
            let _ = thread.try_send(Command::Adopt(Adopted::Pair(pair), Arc::clone(listener)));
        }
    }

    /// Sets what consoles may cost.
    pub(super) fn limit_console(&mut self, limits: Arc<Limits>) {
        let settings = ListenerSettings {
            address: ListenAddress::Ip(([127, 0, 0, 1], 0).into()),
            anonymous: true,
            known: Some(Arc::new(Identity::operator())),
            bridge: false,
            max_connections: CONSOLES,
            connection_rate: 0,
            strict: false,
            transport: Options { first_frame: limits.first_packet(), ..Options::default() },
            methods: None,
            limits,
        };
        match &self.console {
            Some(console) => console.replace(settings),
            None => self.console = Some(Listener::new("admin".into(), settings)),
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
