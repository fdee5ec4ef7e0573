//! Sockets.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

pub use tokio::io::Interest;
pub use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A peer that vanished without a word is asked after this much silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// And again in this interval, until the system gives it up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// What counts as one address: of IPv6 the network of 64 bits, within which everybody has as many as wanted
/// (RFC 6177 section 2).
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// Opens a listener. With `reuse_port` several listeners may share one address, so that the kernel spreads the
/// connections over the threads that accept.
///
/// Must be called within a tokio runtime: the listener belongs to it from then on.
pub fn bind(address: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<TcpListener> {
    TcpListener::from_std(bind_std(address, reuse_port, backlog)?)
}

/// Fails if anybody listens on `address` already. Where ports are shared the system would let a second process in, and
/// each would get a part of the clients without a word: so this is asked once, before the first `bind` that shares.
pub fn ensure_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

/// Lets the kernel find out that the peer is gone, for clients that asked for no keep alive of MQTT's own.
pub fn keepalive(stream: &TcpStream) -> io::Result<()> {
    let settings = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&settings)
}

/// The addresses that a host and port stand for.
///
/// # Errors
/// When the name is not known, or nobody can be asked.
pub async fn resolve(authority: &str) -> io::Result<Vec<SocketAddr>> {
    tokio::net::lookup_host(authority).await.map(Iterator::collect)
}

/// Connects to a host and port.
pub async fn connect(authority: &str) -> io::Result<TcpStream> {
    TcpStream::connect(authority).await
}

/// Two ends of one connection within this process: one for the runtime of this thread, one for any.
pub fn pair() -> io::Result<(UnixStream, std::os::unix::net::UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

/// Connects to a Unix socket.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// A connected stream socket of either family.
pub trait Stream: AsFd {
    /// Does `operation` if the socket is ready for it; if that would block, waits for readiness anew from then on.
    fn attempt<R>(&self, interest: Interest, operation: impl FnMut() -> io::Result<R>) -> io::Result<R>;
}

impl Stream for TcpStream {
    fn attempt<R>(&self, interest: Interest, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(interest, operation)
    }
}

impl Stream for UnixStream {
    fn attempt<R>(&self, interest: Interest, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(interest, operation)
    }
}

/// Reads what has come, without waiting, even if the runtime has not been told of it yet.
pub fn receive_unannounced(stream: &impl Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(stream, &mut *buffer, rustix::net::RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Reads what has come, without waiting; `Ok(0)` is the end of the stream.
///
/// A short read clears the socket's readiness at once, which saves the read that would find nothing.
#[inline]
pub fn receive(stream: &impl Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut short = None;
    let result = stream.attempt(Interest::READABLE, || {
        let (count, _) = rustix::net::recv(stream, &mut *buffer, rustix::net::RecvFlags::empty())?;
        if count == 0 || count == buffer.len() {
            return Ok(count);
        }
        short = Some(count);
        Err(io::ErrorKind::WouldBlock.into())
    });
    short.map_or(result, Ok)
}

/// Looks at what has come, without taking it; `Ok(0)` is the end of the stream.
pub fn look(stream: &impl Stream, buffer: &mut [u8]) -> io::Result<usize> {
    stream.attempt(Interest::READABLE, || {
        let (count, _) = rustix::net::recv(stream, &mut *buffer, rustix::net::RecvFlags::PEEK)?;
        Ok(count)
    })
}

/// Opens a listener on a Unix socket, whose file gets `mode`. A file that is left from before is removed if nobody
/// listens on it any more.
///
/// # Errors
/// When somebody listens there, when something else is there, or when the system refuses.
pub fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    // Before anybody can connect: nobody is let in by the mode that the file was made with.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// The user whose process is at the other end of a Unix socket.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(stream.peer_cred()?.uid())
}

/// The user that this process runs as.
#[must_use]
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens a TCP listener that is to be moved to a runtime later; see [`bind`].
pub fn bind_std(address: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Or a restart would have to wait until the last connections of the process before have left TIME_WAIT.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // So that `[::]` and `0.0.0.0` can both be listened on, whatever the machine's default is.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it: one system call less per connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Ends the direction to the peer: it reads what was sent, and then the end.
pub fn finish(stream: &impl Stream) {
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

/// Ends both directions of the connection, whoever still holds the socket. What the peer thinks of it is its affair.
pub fn shutdown(stream: &impl Stream) {
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn two_listeners_share_a_port_only_when_both_ask() {
        let first = bind(([127, 0, 0, 1], 0).into(), true, 16).unwrap();
        let address = first.local_addr().unwrap();
        assert!(bind(address, false, 16).is_err());
        bind(address, true, 16).unwrap();
    }

    #[tokio::test]
    async fn an_address_is_free_only_while_nobody_listens_on_it() {
        let listener = bind(([127, 0, 0, 1], 0).into(), true, 16).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(ensure_free(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // Not even what is left of an earlier connection stands in the way.
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
        drop((ours, listener));
        drop(theirs);
        ensure_free(address).unwrap();
    }

    #[tokio::test]
    async fn an_accepted_socket_sends_without_delay() {
        let listener = bind(([127, 0, 0, 1], 0).into(), false, 16).unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (stream, _) = ours.unwrap();
        assert!(stream.nodelay().unwrap());
        keepalive(&stream).unwrap();
        drop(theirs);
    }
}
