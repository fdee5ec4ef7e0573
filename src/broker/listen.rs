//! The doors: listeners, one socket of each on every loop thread.

use super::attach::Door;
use super::connection::Connection;
use super::turn::{self, Inbox};
use super::{Broker, housekeeping, stats, sys, wheel};
use crate::env::net::{self, TcpListener, TcpStream};
use crate::env::task;
use crate::telemetry::escape;
use crate::transport::{Kind, Remote};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long accepting rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// A listener as the configuration describes it.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections at a time.
    pub max_connections: usize,
    /// Whether clients are held to the letter where brokers are usually lenient.
    pub strict: bool,
    /// Connections that the kernel keeps for us meanwhile.
    pub backlog: u16,
    /// Connections now, over all threads.
    pub connections: Arc<AtomicUsize>,
}

impl Broker {
    /// Opens one socket of `listener` for one loop thread. Must be called within the runtime of that thread.
    ///
    /// # Errors
    /// What the system says against it.
    pub fn bind(listener: &ListenerSettings) -> io::Result<TcpListener> {
        net::bind(listener.address, true, listener.backlog.into())
    }

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
    /// Accepts connections of `listener` on this thread, until the broker stops.
    pub fn accept(&self, socket: TcpListener, listener: ListenerSettings) {
        let (broker, inbox) = (Arc::clone(&self.broker), Arc::clone(&self.inbox));
        task::spawn(async move {
            while !broker.is_stopping() {
                match socket.accept().await {
                    Ok((stream, address)) => {
                        stats::add(|s| &s.sockets_opened, 1);
                        admit(&broker, &inbox, &listener, stream, address);
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

/// Lets a socket in, or closes it if there are too many.
fn admit(
    broker: &Arc<Broker>,
    inbox: &Arc<Inbox>,
    listener: &ListenerSettings,
    stream: TcpStream,
    address: SocketAddr,
) {
    let connections = Arc::clone(&listener.connections);
    if connections.fetch_add(1, Ordering::Relaxed) >= listener.max_connections
        || broker.half_open.load(Ordering::Relaxed) >= broker.limits.half_open
    {
        connections.fetch_sub(1, Ordering::Relaxed);
        tracing::debug!(%address, listener = %listener.name, "refused: too many connections");
        return;
    }
    let remote = Remote::Ip(address);
    let door = Door { listener: Arc::clone(&listener.name), strict: listener.strict, remote, kind: Kind::Tcp };
    // Boxed, since what the beginning needs is large and soon over, and the task lives as long as the connection.
    let opening = Box::pin(open(Arc::clone(broker), Arc::clone(inbox), door, stream));
    task::spawn(serve(opening, Counted(connections)));
}

/// One of a listener's connections, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The whole life of one socket.
async fn serve<F: Future<Output = Option<Box<Connection>>>>(opening: Pin<Box<F>>, counted: Counted) {
    if let Some(connection) = opening.await {
        connection.run().await;
    }
    drop(counted);
}

/// From the fresh socket to a connection; `None` if it was refused.
async fn open(broker: Arc<Broker>, inbox: Arc<Inbox>, door: Door, stream: TcpStream) -> Option<Box<Connection>> {
    let address = door.remote;
    let opening = {
        broker.half_open.fetch_add(1, Ordering::Relaxed);
        let _half_open = HalfOpen(&broker);
        broker.receive_connect(&stream).await
    };
    let connected = match opening {
        Ok(opening) => broker.attach(stream, door, &inbox, opening).await,
        Err(refusal) => Err(refusal),
    };
    match connected {
        Ok(connection) => Some(Box::new(connection)),
        Err(refusal) => {
            tracing::info!(%address, reason = %escape(&refusal.to_string()), "refused");
            None
        }
    }
}

/// One of the sockets that have not sent CONNECT yet, until it is dropped.
struct HalfOpen<'a>(&'a Broker);

impl Drop for HalfOpen<'_> {
    fn drop(&mut self) {
        self.0.half_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) fn task_size() -> usize {
    fn of<A, F: Future>(_: impl Fn(A, Counted) -> F) -> usize {
        size_of::<F>()
    }
    type Opening = std::future::Ready<Option<Box<Connection>>>;
    of(serve::<Opening>)
}
