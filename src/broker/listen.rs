//! The doors: listeners, one socket of each on every loop thread.

use super::connection::Connection;
use super::handshake::Refusal;
use super::listener::{Door, Listener, Place};
use super::people::{Bounds, RateLimit, Share, TooMany};
use super::turn::{self, Inbox};
use super::{Broker, housekeeping, stats, sys, trace, wheel};
use crate::env::net::{TcpStream, UnixStream, network};
use crate::env::task;
use crate::telemetry::escape;
use crate::transport::{self, Acceptor, Fresh};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long accepting rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(50);

impl Broker {
    /// Starts what every loop thread needs, on the runtime of this thread; the first also keeps house.
    pub fn start_thread(self: &Arc<Self>, first: bool, sys_interval: Option<Duration>) -> Thread {
        stats::enter(self.board.join());
        let inbox = Arc::<Inbox>::default();
        task::spawn(turn::flusher(Arc::clone(&inbox)));
        task::spawn(wheel::turn(self.clock.clone()));
        if first {
            task::spawn(housekeeping::run(Arc::clone(self)));
            if let Some(interval) = sys_interval {
                task::spawn(sys::run(Arc::clone(self), interval));
            }
        }
        Thread { broker: Arc::clone(self), inbox }
    }

    /// The body of the feeder's thread: ends when the broker stops.
    pub fn run_feeder(&self) {
        super::feed::run(self);
    }

    /// What hears from the journal.
    #[must_use]
    pub fn sink(self: &Arc<Self>) -> Box<dyn crate::store::Sink> {
        Box::new(super::sink::JournalSink::new(Arc::clone(self)))
    }

    /// Lets the feeder's thread end.
    pub fn stop_feeder(&self) {
        self.feeder.stop();
    }
}

/// One loop thread's part of the broker.
pub struct Thread {
    broker: Arc<Broker>,
    inbox: Arc<Inbox>,
}

impl Thread {
    /// Accepts connections of `listener` on this thread, until it is closed or the broker stops.
    pub fn accept(&self, socket: Acceptor, listener: Arc<Listener>) {
        let (broker, inbox) = (Arc::clone(&self.broker), Arc::clone(&self.inbox));
        task::spawn(async move {
            while !broker.is_stopping() {
                let accepted = tokio::select! {
                    accepted = socket.accept() => accepted,
                    () = listener.closed() => return,
                };
                match accepted {
                    Ok(fresh) => {
                        stats::add(|s| &s.sockets_opened, 1);
                        admit(&broker, &inbox, &listener, fresh);
                    }
                    Err(error) => {
                        tracing::warn!(%error, listener = %listener.name, "cannot accept");
                        task::sleep(REST).await;
                    }
                }
            }
        });
    }
}

/// A connection that was let in elsewhere, and belongs to no runtime.
pub enum Adopted {
    /// A WebSocket.
    WebSocket {
        /// Its socket.
        stream: std::net::TcpStream,
        /// Where it comes from.
        address: SocketAddr,
        /// What was read of it already.
        rest: Vec<u8>,
    },
    /// One end of a pair whose other end is in this process.
    Pair(std::os::unix::net::UnixStream),
}

impl Thread {
    /// Takes it in as a connection of `listener` on this thread.
    pub fn adopt(&self, adopted: Adopted, listener: &Arc<Listener>) {
        let fresh = match adopted {
            Adopted::WebSocket { stream, address, rest } => {
                TcpStream::from_std(stream).map(|stream| Fresh::WebSocket(stream, address, rest))
            }
            Adopted::Pair(stream) => UnixStream::from_std(stream).map(Fresh::Unix),
        };
        match fresh {
            Ok(fresh) => admit(&self.broker, &self.inbox, listener, fresh),
            Err(error) => tracing::warn!(%error, listener = %listener.name, "a connection cannot be taken over"),
        }
    }
}

/// Lets a socket in, or closes it if there are too many.
fn admit(broker: &Arc<Broker>, inbox: &Arc<Inbox>, listener: &Arc<Listener>, fresh: Fresh) {
    let place = if broker.half_open.load(Ordering::Relaxed) >= broker.limits.load().half_open {
        Err("too many connections without CONNECT")
    } else {
        listener.admit(broker.clock.tick())
    };
    match place {
        Ok(place) => {
            // Boxed, since what the beginning needs is large and soon over, and the task lives as long as the connection.
            let opening = Box::pin(open(Arc::clone(broker), Arc::clone(inbox), Arc::clone(listener), fresh));
            task::spawn(serve(opening, place));
        }
        Err(why) => {
            stats::add(|s| &s.refused_connections, 1);
            tracing::debug!(listener = %listener.name, why, "refused");
        }
    }
}

/// What a connection counts as besides one of its listener's, until it is dropped.
type Counted = Option<Box<Share<IpAddr>>>;

/// The whole life of one socket.
async fn serve<F: Future<Output = Option<(Box<Connection>, Counted)>>>(opening: Pin<Box<F>>, place: Place) {
    if let Some((connection, counted)) = opening.await {
        connection.run().await;
        drop(counted);
    }
    drop(place);
}

/// From the fresh socket to a connection; `None` if it was refused.
async fn open(
    broker: Arc<Broker>,
    inbox: Arc<Inbox>,
    listener: Arc<Listener>,
    fresh: Fresh,
) -> Option<(Box<Connection>, Counted)> {
    let mut remote = fresh.remote();
    let result = enter(&broker, &inbox, listener, fresh, &mut remote).await;
    if let (Err(refusal), true) = (&result, trace::on()) {
        trace::refused(broker.clock.now(), &remote, refusal.to_string());
    }
    match result {
        Ok((connection, counted)) => Some((Box::new(connection), counted)),
        Err(refusal) if refusal.is_quiet() => {
            tracing::debug!(address = %remote, reason = %escape(&refusal.to_string()), "refused");
            None
        }
        Err(refusal) => {
            tracing::info!(address = %remote, reason = %escape(&refusal.to_string()), "refused");
            None
        }
    }
}

async fn enter(
    broker: &Arc<Broker>,
    inbox: &Arc<Inbox>,
    listener: Arc<Listener>,
    fresh: Fresh,
    remote: &mut transport::Remote,
) -> Result<(Connection, Counted), Refusal> {
    let settings = listener.settings().clone();
    let half_open = HalfOpen::new(broker);
    let direct = *remote;
    // Counted before anything is waited for; a balancer's own address says nothing of its clients.
    let by_balancer = settings.transport.believes(&direct);
    let counted = if by_balancer { None } else { broker.count_address(&direct)? };
    let opening = async {
        let arrived = transport::accept(fresh, &settings.transport).await?;
        *remote = arrived.remote;
        let counted = if by_balancer { broker.count_address(remote)? } else { counted };
        let opening = broker.receive_connect(&arrived.socket, &settings.limits).await?;
        Ok((arrived, counted, opening))
    };
    // One deadline for all of it: proxies, handshakes and CONNECT.
    let opened = task::timeout(settings.limits.connect_timeout, opening).await;
    let (arrived, counted, opening) = opened.unwrap_or(Err(Refusal::Timeout))?;
    let door = Door { at: listener, strict: settings.strict, remote: arrived.remote, kind: arrived.kind };
    let connection = broker.attach(arrived.socket, door, arrived.tls, inbox, opening).await?;
    drop(half_open);
    Ok((connection, counted))
}

impl Broker {
    /// Counts a connection for its address, where addresses are counted.
    fn count_address(&self, remote: &transport::Remote) -> Result<Counted, Refusal> {
        let limits = self.limits.load();
        let bounds = Bounds {
            connections: limits.connections_per_address,
            arrivals: limits.connect_rate_per_address,
            rate: RateLimit::default(),
        };
        let Some(address) = remote.ip().map(network).filter(|_| !bounds.is_unlimited()) else { return Ok(None) };
        match self.addresses.enter(address, &bounds, self.clock.tick()) {
            Ok(share) => Ok(Some(Box::new(share))),
            Err(why) => {
                stats::add(|s| &s.refused_address, 1);
                Err(Refusal::TooMany(match why {
                    TooMany::Connections => "too many connections of this address",
                    TooMany::Arrivals => "too many new connections of this address at once",
                }))
            }
        }
    }
}

/// One of the sockets that have not been let in yet, until it is dropped.
struct HalfOpen<'a>(&'a Broker);

impl<'a> HalfOpen<'a> {
    fn new(broker: &'a Broker) -> Self {
        broker.half_open.fetch_add(1, Ordering::Relaxed);
        Self(broker)
    }
}

impl Drop for HalfOpen<'_> {
    fn drop(&mut self) {
        self.0.half_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) fn task_size() -> usize {
    fn of<A, F: Future>(_: impl Fn(A, Place) -> F) -> usize {
        size_of::<F>()
    }
    type Opening = std::future::Ready<Option<(Box<Connection>, Counted)>>;
    of(serve::<Opening>)
}
