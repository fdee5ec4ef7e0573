//! The node: builds every part from the configuration, starts and stops them in order. The only place that knows all.
//!
//! Start: store recovered -> sessions and routes taken up -> threads -> leftovers of the last run detached -> listeners.
//! Stop: clients told -> their connections over -> store checkpointed and synced.

use crate::broker::{Alone, Broker, Limits, ListenerSettings};
use crate::config::{self, Config};
use crate::env::clock::Clock;
use crate::env::net::{TcpListener, ensure_free};
use crate::env::{signal, task};
use crate::store::{Durability, Store, StoreConfig, StoreError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Why a node does not run.
#[derive(Debug, Error)]
pub enum Error {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be opened.
    #[error("cannot listen on {address} (listener {name}): {source}")]
    Listen {
        /// The listener's name.
        name: Arc<str>,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread, runtime or signal.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until SIGTERM or SIGINT, then stops it cleanly.
///
/// # Errors
/// When it cannot start.
pub fn run(config: &Config) -> Result<(), Error> {
    let node = Node::start(config)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signal = runtime.block_on(signal::stop())?;
    tracing::info!(signal, "stopping");
    node.stop(config.node.shutdown_timeout);
    tracing::info!("stopped");
    Ok(())
}

/// A running node.
struct Node {
    broker: Arc<Broker>,
    store: Store,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    feeder: JoinHandle<()>,
}

impl Node {
    fn start(config: &Config) -> Result<Self, Error> {
        let clock = Clock::machine();
        let opened = Store::open(store_config(config))?;
        for listener in &config.listeners {
            // Loop threads share each address, which would let a second process share it too.
            ensure_free(ip(&listener.address)).map_err(|source| listen_error(listener, source))?;
        }
        let broker = Broker::new(opened.store().clone(), clock, Limits::new(config), Arc::new(Alone), Arc::new(Alone));
        let store = opened.start(broker.sink())?;
        Builder::new_current_thread().enable_all().build()?.block_on(broker.detach_all());
        let feeder = {
            let broker = Arc::clone(&broker);
            task::thread("feeder", move || broker.run_feeder())?
        };
        let listeners: Vec<_> = config.listeners.iter().map(|of| listener_settings(of, config)).collect();
        let (stop, stopped) = watch::channel(false);
        let (ready, started) = sync_channel(config.node.worker_count());
        let mut threads = Vec::new();
        for number in 0..config.node.worker_count() {
            let (broker, listeners) = (Arc::clone(&broker), listeners.clone());
            let (ready, stopped) = (ready.clone(), stopped.clone());
            let sys_interval = config.sys.interval;
            let body = move || run_loop(&broker, number == 0, sys_interval, listeners, &ready, stopped);
            threads.push(task::thread(&format!("loop-{number}"), body)?);
        }
        wait_until_listening(&started, threads.len())?;
        for listener in &listeners {
            tracing::info!(name = %listener.name, address = %listener.address, "listening");
        }
        Ok(Self { broker, store, stop, threads, feeder })
    }

    fn stop(self, patience: Duration) {
        self.broker.begin_stop();
        let clock = Clock::machine();
        while self.broker.connected() > 0 && Duration::from_millis(clock.tick().0) < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The receivers are in the loop threads: without any the threads are gone already.
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.broker.stop_feeder();
        let _ = self.feeder.join();
        self.store.stop();
    }
}

/// One loop thread: its runtime, its sockets, its connections.
fn run_loop(
    broker: &Arc<Broker>,
    first: bool,
    sys_interval: Option<Duration>,
    listeners: Vec<ListenerSettings>,
    ready: &SyncSender<Result<(), Error>>,
    mut stopped: watch::Receiver<bool>,
) {
    let serve = |runtime: Runtime| {
        runtime.block_on(async {
            let thread = broker.start_thread(first, sys_interval);
            match bind_all(listeners) {
                Ok(sockets) => {
                    for (socket, listener) in sockets {
                        thread.accept(socket, listener);
                    }
                    let _ = ready.send(Ok(()));
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        // Connections that would not end in time end here.
        runtime.shutdown_background();
    };
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => serve(runtime),
        Err(error) => drop(ready.send(Err(error.into()))),
    }
}

fn bind_all(listeners: Vec<ListenerSettings>) -> Result<Vec<(TcpListener, ListenerSettings)>, Error> {
    let bind = |listener: ListenerSettings| match Broker::bind(&listener) {
        Ok(socket) => Ok((socket, listener)),
        Err(source) => Err(Error::Listen { name: listener.name, address: listener.address, source }),
    };
    listeners.into_iter().map(bind).collect()
}

fn wait_until_listening(started: &Receiver<Result<(), Error>>, threads: usize) -> Result<(), Error> {
    for _ in 0..threads {
        started.recv().map_err(|_| std::io::Error::other("a loop thread ended before it listened"))??;
    }
    Ok(())
}

fn listen_error(listener: &config::Listener, source: std::io::Error) -> Error {
    Error::Listen { name: listener.name.as_str().into(), address: ip(&listener.address), source }
}

fn ip(address: &config::ListenAddress) -> SocketAddr {
    match address {
        config::ListenAddress::Ip(address) => *address,
        config::ListenAddress::Unix(_) => ([127, 0, 0, 1], 0).into(),
    }
}

fn listener_settings(listener: &config::Listener, config: &Config) -> ListenerSettings {
    ListenerSettings {
        name: listener.name.as_str().into(),
        address: ip(&listener.address),
        max_connections: listener.max_connections,
        strict: listener.strict,
        backlog: config.limits.backlog,
        connections: Arc::default(),
    }
}

fn store_config(config: &Config) -> StoreConfig {
    let store = &config.store;
    StoreConfig {
        durability: match store.durability {
            config::Durability::Sync => Durability::Sync,
            config::Durability::Interval => Durability::Interval(store.sync_interval),
            config::Durability::Memory => Durability::Memory,
        },
        shards: store.shards,
        segment_bytes: store.segment_size,
        journal_budget: store.journal_budget,
        checkpoint_overlay_bytes: usize::try_from(store.checkpoint_size).unwrap_or(usize::MAX),
        checkpoint_interval: store.checkpoint_interval,
        sled_cache_bytes: store.sled_cache,
        pending_bytes: usize::try_from(store.pending_size).unwrap_or(usize::MAX),
        free_space_floor: store.free_space_floor,
        reserve_bytes: store.reserve,
        ..StoreConfig::new(&config.node.data)
    }
}
