//! The sockets of the admin door, and how much of everything there may be.

use super::access::From;
use super::patient::Patient;
use super::routes::{State, router};
use super::{Operator, Rules, Settings};
use crate::broker::Handle;
use crate::env::net::{self, TcpListener, UnixListener};
use crate::env::task;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at a time by TCP, and as many by the Unix socket; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// Connections that the system keeps for us meanwhile.
const BACKLOG: i32 = 64;
/// How long the head of a request may take, from the one before or from the connection on.
const HEAD: Duration = Duration::from_secs(15);
/// Bytes of the head of a request, and of what is read ahead of a body.
const BUFFER: usize = 64 * 1024;
/// How long accepting rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(50);
/// How often rates are sampled.
const SAMPLE: Duration = Duration::from_secs(1);

/// A running admin door.
pub struct Server {
    state: Arc<State>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Opens the admin door.
///
/// # Errors
/// When the address or the socket cannot be listened on; the error names both it and the setting to change.
pub fn start(settings: Settings, handle: Handle, operator: Arc<dyn Operator>) -> io::Result<Server> {
    let explain = |what: String, key: &str, error: &io::Error| {
        let text = format!("cannot open the admin door on {what}: {error} (the setting is admin.{key})");
        io::Error::new(error.kind(), text)
    };
    let tcp = match settings.address {
        None => None,
        Some(address) => {
            let bound = net::bind_std(address, false, BACKLOG);
            Some(bound.map_err(|error| explain(address.to_string(), "address", &error))?)
        }
    };
    let unix = match &settings.socket {
        None => None,
        Some(path) => {
            let bound = net::bind_unix(path, 0o600, BACKLOG);
            Some(bound.map_err(|error| explain(path.display().to_string(), "socket", &error))?)
        }
    };
    let address = tcp.as_ref().and_then(|socket| socket.local_addr().ok());
    let loopback = address.is_some_and(|address| address.ip().is_loopback());
    let state = Arc::new(State::new(handle, operator, settings.rules, loopback));
    let (stop, stopped) = watch::channel(false);
    let thread = {
        let state = Arc::clone(&state);
        task::thread("admin", move || run(&state, tcp, unix, stopped))?
    };
    if let Some(address) = address {
        tracing::info!(%address, "the admin door is open");
    }
    Ok(Server { state, address, socket: settings.socket, stop, thread })
}

impl Server {
    /// The TCP address that it got.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Replaces what a reload may change.
    pub fn replace(&self, rules: Rules) {
        self.state.replace(rules);
    }

    /// Closes it. What is being answered is cut off.
    pub fn stop(self) {
        // Without a receiver the thread has ended already.
        let _ = self.stop.send(true);
        let _ = self.thread.join();
        if let Some(path) = self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(
    state: &Arc<State>,
    tcp: Option<std::net::TcpListener>,
    unix: Option<StdUnixListener>,
    mut stopped: watch::Receiver<bool>,
) {
    state.handle.enter_thread();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the admin door has no runtime"),
    };
    runtime.block_on(async {
        let router = router(Arc::clone(state));
        // Whoever fills the one door leaves the other open.
        let places = || Arc::new(Semaphore::new(CONNECTIONS));
        if let Some(socket) = tcp.and_then(|socket| TcpListener::from_std(socket).ok()) {
            task::spawn(accept_tcp(socket, router.clone(), places()));
        }
        if let Some(socket) = unix.and_then(|socket| UnixListener::from_std(socket).ok()) {
            task::spawn(accept_unix(socket, router, places()));
        }
        task::spawn(sample(Arc::clone(state)));
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    runtime.shutdown_background();
}

async fn sample(state: Arc<State>) {
    let mut seconds = task::interval(SAMPLE);
    loop {
        let (now, totals) = state.handle.totals();
        state.samples.lock().add(now, totals);
        seconds.tick().await;
    }
}

async fn accept_tcp(socket: TcpListener, router: Router, places: Arc<Semaphore>) {
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match socket.accept().await {
            Ok((stream, address)) => {
                task::spawn(serve(TokioIo::new(stream), From::Address(address), router.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin door cannot accept");
                task::sleep(REST).await;
            }
        }
    }
}

async fn accept_unix(socket: UnixListener, router: Router, places: Arc<Semaphore>) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match socket.accept().await {
            Ok((stream, _)) => match net::peer_uid(&stream) {
                Ok(uid) => drop(task::spawn(serve(TokioIo::new(stream), From::User(uid), router.clone(), place))),
                Err(error) => tracing::warn!(%error, "the admin door does not know who came"),
            },
            Err(error) => {
                tracing::warn!(%error, "the admin door cannot accept");
                task::sleep(REST).await;
            }
        }
    }
}

async fn serve<I>(io: I, from: From, router: Router, place: OwnedSemaphorePermit)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(from);
        inner.call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    if let Err(error) = server.serve_connection(Patient::new(io), service).with_upgrades().await {
        tracing::debug!(%error, %from, "an admin connection ended");
    }
    drop(place);
}
