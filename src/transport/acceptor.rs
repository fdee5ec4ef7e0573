//! Listening sockets of either family.

use super::Remote;
use crate::env::net::{self, TcpListener, TcpStream, UnixListener, UnixStream};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// A socket that listens and belongs to no runtime yet.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// Listens on an address that other sockets of this process may share.
    ///
    /// # Errors
    /// What the system says.
    pub fn tcp(address: SocketAddr, backlog: u16) -> io::Result<Self> {
        net::bind_std(address, true, backlog.into()).map(Self::Tcp)
    }

    /// Listens on a Unix socket, whose file gets `mode`.
    ///
    /// # Errors
    /// When somebody listens there, or something else is there; what the system says.
    pub fn unix(path: &Path, mode: u32, backlog: u16) -> io::Result<Self> {
        net::bind_unix(path, mode, backlog.into()).map(Self::Unix)
    }

    /// The IP address that it got, if it has one: a port of 0 leaves the choice to the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// One more handle of the same socket: for addresses that cannot be shared otherwise.
    ///
    /// # Errors
    /// What the system says.
    pub fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// Moves it to the runtime of this thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(socket) => TcpListener::from_std(socket).map(Acceptor::Tcp),
            Self::Unix(socket) => UnixListener::from_std(socket).map(Acceptor::Unix),
        }
    }
}

/// A socket that accepts on the runtime of one thread.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// A connection that nothing was read of.
#[derive(Debug)]
pub enum Fresh {
    /// TCP, and where it comes from.
    Tcp(TcpStream, SocketAddr),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP that became a WebSocket elsewhere: where it comes from, and what was read of it already.
    WebSocket(TcpStream, SocketAddr, Vec<u8>),
}

impl Acceptor {
    /// The next connection.
    ///
    /// # Errors
    /// What the system says: no descriptors left, for example.
    pub async fn accept(&self) -> io::Result<Fresh> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, address)| Fresh::Tcp(stream, address)),
            Self::Unix(socket) => socket.accept().await.map(|(stream, _)| Fresh::Unix(stream)),
        }
    }
}

impl Fresh {
    /// Where it comes from, as the socket says.
    #[must_use]
    pub fn remote(&self) -> Remote {
        match self {
            Self::Tcp(_, address) | Self::WebSocket(_, address, _) => Remote::Ip(*address),
            Self::Unix(_) => Remote::Unix,
        }
    }
}
