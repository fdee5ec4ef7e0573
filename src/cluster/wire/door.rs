//! From a listener to HTTP/2: accepted sockets go through TLS side by side, each within a time.

use super::dial::{CONNECTION_WINDOW, STREAM_WINDOW};
use super::hello::Told;
use super::host::Host;
use super::proto::cluster_server::ClusterServer;
use super::socket::Socket;
use super::wire::{LARGEST_MESSAGE, Shared};
use crate::env::net::{TcpListener, TcpStream};
use crate::env::task::{self, Task};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

/// Connections at a time, of nodes and of whoever else. More wait in the backlog: three a node leave room for large
/// clusters.
const MOST_CONNECTIONS: usize = 1024;
/// Connections that are through TLS and not served yet. Beyond that, the handshakes wait.
const ARRIVED: usize = 16;
/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After how much silence whoever dialled is asked for a sign of life, and how long that may take. Who has dialled asks
/// before: this is for what is left of one that is gone.
const SILENCE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure to accept, when there are no more file descriptors for example.
const BREATH: Duration = Duration::from_millis(100);
/// Streams on one connection: a node needs one.
const MOST_STREAMS: u32 = 8;

/// The listener, and what serves its connections. It closes when this is dropped.
#[derive(Debug)]
pub(super) struct Door {
    accepting: Task<()>,
    /// Dropping it ends the serving, gently: whatever runs goes to its end.
    _serving: oneshot::Sender<Infallible>,
}

impl Door {
    /// Opens it.
    pub(super) fn open(listener: TcpListener, shared: Arc<Shared>, host: Host) -> Self {
        let (arrived, arriving) = mpsc::channel(ARRIVED);
        let accepting = task::spawn(accept(listener, shared, arrived));
        let (serving, over) = oneshot::channel();
        let service = ClusterServer::new(host)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MOST_STREAMS)
            .http2_keepalive_interval(Some(SILENCE))
            .http2_keepalive_timeout(Some(PATIENCE));
        let arriving = ReceiverStream::new(arriving).map(Ok::<Socket, Infallible>);
        task::spawn(async move {
            let over = async {
                let _: Result<Infallible, _> = over.await;
            };
            if let Err(error) = server.serve_with_incoming_shutdown(service, arriving, over).await {
                tracing::error!(%error, "the door for other nodes is closed");
            }
        });
        Self { accepting, _serving: serving }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, arrived: mpsc::Sender<Socket>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let told = Arc::new(Mutex::new(Told::default()));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, arrived, told) = (Arc::clone(&shared), arrived.clone(), Arc::clone(&told));
                task::spawn(async move {
                    let why = match task::timeout(HANDSHAKE, secured(&shared, stream, place)).await {
                        Ok(Ok(socket)) => return drop(arrived.send(socket).await),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "the handshake took too long".to_owned(),
                    };
                    if told.lock().is_news(&why) {
                        tracing::warn!(why, "somebody who is no node of this cluster was turned away");
                    }
                });
            }
            Err(error) => {
                if told.lock().is_news(&error.to_string()) {
                    tracing::warn!(%error, "cannot accept connections of other nodes");
                }
                task::sleep(BREATH).await;
            }
        }
    }
}

async fn secured(shared: &Shared, stream: TcpStream, place: OwnedSemaphorePermit) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let security = shared.security.load_full();
    Socket::accepted(stream, &security, place).await
}
