//! The node: builds every part from the configuration, starts and stops them in order. The only place that knows all.
//!
//! Start: files read -> store recovered -> sessions and routes taken up -> threads -> leftovers of the last run detached
//! -> listeners -> bridges. Stop: bridges ended -> clients told -> their connections over -> store checkpointed and synced. Reload: the new
//! configuration read and understood whole, new sockets bound, and only then everything put in force.
//!
//! | file | its story |
//! | --- | --- |
//! | `parts` | from a configuration to what it describes |
//! | `bridges` | bridges, and how they come in |
//! | `doors` | listeners, opened, changed and closed |
//! | `reload` | a new configuration for a node that runs |
//! | `cluster` | the node as one of several |
//! | `change` | bridges changed while it runs, for good |
//! | `systemd` | what a service manager is told |
//! | `operator` | what the admin door asks |

mod bridges;
mod change;
mod cluster;
mod doors;
mod operator;
mod parts;
mod reload;
mod systemd;

pub use parts::parts;
pub use reload::ReloadError;

use crate::admin;
use crate::bridge::{Bridges, Plan};
use crate::broker::{Broker, Handle, Limits};
use crate::cluster::Member;
use crate::config::{self, Config, Loaded, Mistakes, Sources};
use crate::env::clock::Clock;
use crate::env::signal::Signal;
use crate::env::{signal, task};
use crate::store::{Durability, Store, StoreConfig, StoreError};
use change::Kept;
use doors::{COMMANDS, Change, Command, Doors};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use systemd::{Beats, Watchdog};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;

/// How often certificates are looked at.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// Why a node does not run.
#[derive(Debug, Error)]
pub enum Error {
    /// A file that the configuration names cannot be used.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be opened.
    #[error("cannot listen on {address} (listener {name}): {source}")]
    Listen {
        /// The listener's name.
        name: Arc<str>,
        /// Its address.
        address: config::ListenAddress,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread, runtime or signal.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until SIGTERM or SIGINT, then stops it cleanly. SIGHUP reloads what `sources` name.
///
/// # Errors
/// When it cannot start.
pub fn run(sources: &Sources, loaded: Loaded) -> Result<(), Error> {
    let patience = loaded.config.node.shutdown_timeout;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Before the doors are open: a log rotation that comes that early must not end the process.
    let signals = runtime.block_on(async { signal::Signals::new() })?;
    let mut node = Node::start(sources, loaded)?;
    let outcome = runtime.block_on(node.attend(signals));
    node.stop(patience);
    tracing::info!("stopped");
    outcome
}

/// A running node.
struct Node {
    broker: Arc<Broker>,
    store: Store,
    inside: Arc<Inside>,
    beats: Beats,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    feeder: JoinHandle<()>,
    membership: Option<cluster::Membership>,
    /// What is opened when clients can be served.
    closed: Option<(Vec<Plan>, Change)>,
}

/// What a reload changes, and what it needs to do so.
struct Inside {
    broker: Arc<Broker>,
    clock: Clock,
    sources: Sources,
    state: Mutex<State>,
    bridges: Bridges,
    /// This node in its cluster, unless it is alone.
    member: Option<Arc<Member>>,
    admin: Mutex<Option<admin::Server>>,
}

struct State {
    loaded: Loaded,
    kept: Kept,
    doors: Doors,
}

impl Node {
    fn start(sources: &Sources, loaded: Loaded) -> Result<Self, Error> {
        let clock = Clock::machine();
        let config = &loaded.config;
        let parts = parts(&loaded, &clock, None)?;
        let opened = cluster::open(store_config(config), parts.cluster.is_some())?;
        let member = cluster::member(&opened, parts.cluster, &clock)?;
        let (store, others) = (opened.store().clone(), cluster::others(member.as_ref()));
        let broker = Broker::new(store.clone(), clock.clone(), parts.limits, parts.access, others);
        let workers = config.node.worker_count();
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel(COMMANDS)).unzip();
        let mut doors = Doors::new(commands);
        // Bound before anything runs: an address that is taken is found before a thread is started.
        let change = doors.prepare(parts.listeners, config.limits.backlog, |name| unix_mode(config, name))?;
        let membership = match member {
            Some(member) => Some(cluster::Membership::begin(member, opened, &broker)?),
            None => {
                opened.start(broker.sink())?;
                Builder::new_current_thread().enable_all().build()?.block_on(broker.detach_all());
                None
            }
        };
        let feeder = {
            let broker = Arc::clone(&broker);
            task::thread("feeder", move || broker.run_feeder())?
        };
        let beats = Beats::new(clock.clone(), workers);
        let (stop, stopped) = watch::channel(false);
        let (ready, started) = sync_channel(workers);
        let mut threads = Vec::new();
        for (number, inbox) in inboxes.into_iter().enumerate() {
            let (broker, ready, stopped) = (Arc::clone(&broker), ready.clone(), stopped.clone());
            let (sys_interval, beats) = (config.sys.interval, beats.clone());
            let body = move || run_loop(&broker, number, beats, sys_interval, inbox, &ready, stopped);
            threads.push(task::thread(&format!("loop-{number}"), body)?);
        }
        for _ in 0..workers {
            started.recv().map_err(|_| std::io::Error::other("a loop thread ended before it ran"))??;
        }
        doors.limit_console(Arc::new(Limits::new(config, None)));
        let kept = Kept::new(&loaded.config);
        let state = Mutex::new(State { loaded, kept, doors });
        let inside = Arc::new_cyclic(|inside| Inside {
            broker: Arc::clone(&broker),
            bridges: Bridges::new(bridges::host(inside), Handle::new(Arc::clone(&broker)), clock.clone()),
            clock,
            sources: sources.clone(),
            state,
            member: membership.as_ref().map(|membership| Arc::clone(&membership.member)),
            admin: Mutex::new(None),
        });
        let mut node = Self {
            broker,
            store,
            inside,
            beats,
            stop,
            threads,
            feeder,
            membership,
            closed: Some((parts.bridges, change)),
        };
        match &node.membership {
            None => node.open()?,
            // None of its bridges runs here before the cluster says so.
            Some(_) => drop(node.inside.bridges.own(BTreeSet::new())?),
        }
        operator::open(&node.inside)?;
        Ok(node)
    }

    /// Lets bridges and clients in.
    fn open(&mut self) -> Result<(), Error> {
        if let Some((bridges, change)) = self.closed.take() {
            // Before anybody can publish: what came earlier would be acknowledged, and not be carried.
            self.inside.bridges.begin(bridges)?;
            self.inside.state.lock().doors.apply(change);
        }
        Ok(())
    }

    /// Sees to signals and certificates until the node is to stop.
    async fn attend(&mut self, mut signals: signal::Signals) -> Result<(), Error> {
        let mut certificates = task::interval(CERTIFICATES);
        let watchdog = Watchdog::new(self.store.clone(), self.beats.clone());
        let mut alive = std::pin::pin!(watchdog.run());
        let (bridges, mut change) = self.closed.take().unzip();
        let member = self.membership.as_ref().map(|of| Arc::clone(&of.member));
        let ready = cluster::ready(member, Arc::clone(&self.inside), bridges.unwrap_or_default());
        let mut ready = std::pin::pin!(ready);
        let mut owned = self.membership.as_ref().map(|of| of.member.owned_bridges());
        let mut ended = std::pin::pin!(cluster::ended(self.membership.as_mut().map(|of| of.take_ended())));
        systemd::ready();
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop(name) => {
                        tracing::info!(signal = name, "stopping");
                        return Ok(());
                    }
                    Signal::Reload => {
                        systemd::reloading();
                        // What came of it is in the log.
                        let _ = self.inside.reload();
                        systemd::ready();
                    }
                },
                () = &mut alive => {}
                outcome = &mut ready, if change.is_some() => {
                    outcome?;
                    if let Some(change) = change.take() {
                        self.inside.state.lock().doors.apply(change);
                    }
                }
                owned = cluster::next_owned(&mut owned) => cluster::own(&self.inside, self.membership.as_ref(), owned)?,
                error = &mut ended => return Err(error.into()),
                _ = certificates.tick() => self.inside.look_at_certificates(),
            }
        }
    }

    fn stop(self, patience: Duration) {
        systemd::stopping();
        let admin = self.inside.admin.lock().take();
        if let Some(admin) = admin {
            admin.stop();
        }
        // While there is a broker to tell that they are gone.
        self.inside.bridges.stop();
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
        self.inside.state.lock().doors.clean();
        if let Some(membership) = self.membership {
            membership.member.stop();
            // A panic in there was reported when it happened.
            let _ = membership.thread.join();
        }
        self.store.stop();
    }
}

/// One loop thread: its runtime, its sockets, its connections.
fn run_loop(
    broker: &Arc<Broker>,
    number: usize,
    beats: Beats,
    sys_interval: Option<Duration>,
    mut inbox: Receiver<Command>,
    ready: &SyncSender<Result<(), Error>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut serve = |runtime: Runtime| {
        runtime.block_on(async {
            let thread = broker.start_thread(number == 0, sys_interval);
            task::spawn(beats.clone().beat(number));
            let _ = ready.send(Ok(()));
            let open = async {
                while let Some(command) = inbox.recv().await {
                    match command {
                        Command::Adopt(adopted, listener) => thread.adopt(adopted, &listener),
                        Command::Open(socket, listener) => match socket.start() {
                            Ok(acceptor) => thread.accept(acceptor, listener),
                            Err(error) => tracing::error!(%error, name = %listener.name, "a thread cannot accept"),
                        },
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = open => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
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

fn unix_mode(config: &Config, listener: &str) -> u32 {
    config.listeners.iter().find(|of| of.name == listener).map_or(0o660, |of| of.unix_mode)
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
