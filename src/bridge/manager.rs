//! The bridges of a node: started, changed and stopped as the configuration says, each on a thread of its own, so that
//! nothing that one of them meets makes another wait.

use super::link::{Link, Order, Preparing, client_id};
use super::local::session;
use super::status::{Now, State, Status};
use super::{Counts, Host, Plan};
use crate::broker::{BridgeQueue, Handle};
use crate::env::clock::Clock;
use crate::env::task;
use nightjar_base::{Wall, millis};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, mpsc::sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

/// How long a node that starts waits for its bridges to have sessions. Only a store that takes nothing needs longer.
const PREPARING: Duration = Duration::from_secs(10);
/// How long its bridges may take to end when the node stops. What they tell here is durable long before, if it can be.
const ENDING: Duration = Duration::from_secs(5);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// The bridges of a node.
pub struct Bridges {
    host: Arc<dyn Host>,
    handle: Handle,
    clock: Clock,
    state: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    bridges: BTreeMap<String, One>,
    /// Those that are removed and not gone yet: who comes by the same name waits for them.
    leaving: HashMap<String, mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Those that this node of a cluster runs; all of them, if it is alone.
    owned: Option<BTreeSet<String>>,
}

impl Running {
    fn owns(&self, name: &str) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.contains(name))
    }
}

struct One {
    plan: Plan,
    orders: watch::Sender<Order>,
    /// Closed when it is over.
    over: mpsc::Sender<()>,
    status: Arc<Status>,
    /// Whether it runs here.
    runs: bool,
}

impl One {
    /// One that runs elsewhere.
    fn elsewhere(plan: Plan, now: Wall) -> Self {
        let orders = watch::channel(Order::Stop).0;
        let status = Arc::new(Status::new(plan.rules.rules().len()));
        status.enter(State::Elsewhere, now);
        Self { plan, orders, over: mpsc::channel(1).0, status, runs: false }
    }
}

/// A bridge, for those who look.
#[derive(Clone)]
pub struct Shown {
    /// How it is to be.
    pub plan: Plan,
    /// What it is doing.
    pub now: Now,
    /// What it has carried.
    pub counts: Arc<Counts>,
    /// Its queue.
    pub queue: BridgeQueue,
    /// Milliseconds that the oldest message has waited.
    pub oldest: Option<u64>,
}

impl Bridges {
    /// No bridges yet.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, handle: Handle, clock: Clock) -> Self {
        Self { host, handle, clock, state: Mutex::default() }
    }

    /// Has the bridges be as `plans` say: new ones are started, others changed, and those that are not named removed with
    /// what waits for their remotes.
    ///
    /// # Errors
    /// When the system gives no thread for a new one.
    pub fn replace(&self, plans: Vec<Plan>) -> io::Result<()> {
        let (preparing, _) = sync_channel(1);
        self.replace_by(plans, &preparing)
    }

    /// As [`Self::replace`], where none is there yet: returns when each has its session, so that nothing that is published
    /// from then on is lost to it.
    ///
    /// # Errors
    /// When the system gives no thread for one.
    pub fn begin(&self, plans: Vec<Plan>) -> io::Result<()> {
        let (preparing, prepared) = sync_channel(1);
        self.replace_by(plans, &preparing)?;
        drop(preparing);
        // It ends when nobody is left who could send anything.
        let _ = prepared.recv_timeout(PREPARING);
        Ok(())
    }

    fn replace_by(&self, plans: Vec<Plan>, preparing: &Preparing) -> io::Result<()> {
        let windows = plans.iter().filter_map(|plan| plan.bridge.loop_window).max();
        let hops = plans.iter().map(|plan| plan.bridge.max_hops).max().unwrap_or_default();
        self.handle.guard_loops(plans.len(), windows.map_or(0, millis), hops);
        plans
            .iter()
            .for_each(|plan| self.handle.expect_bridge(&session(plan, &client_id(&plan.bridge.name), false, false)));
        let mut state = self.state.lock();
        let named = |name: &String| plans.iter().any(|plan| plan.bridge.name == *name);
        let gone: Vec<String> = state.bridges.keys().filter(|name| !named(name)).cloned().collect();
        for name in gone {
            if let Some(one) = state.bridges.remove(&name) {
                tracing::info!(bridge = name, "removed");
                // In a cluster others may still have it, and its session is theirs.
                let order = if state.owned.is_some() { Order::Stop } else { Order::Remove };
                state.leaving.retain(|_, over| !over.is_closed());
                state.leaving.insert(name, one.over);
                // Nobody takes it only where its thread is gone.
                let _ = one.orders.send(order);
            }
        }
        for plan in plans {
            let owns = state.owns(&plan.bridge.name);
            match state.bridges.get_mut(&plan.bridge.name) {
                Some(one) => {
                    let same = one.plan.bridge == plan.bridge && one.plan.limits == plan.limits;
                    one.plan = plan.clone();
                    if !same && one.runs {
                        let _ = one.orders.send(Order::Run(Box::new(plan)));
                    }
                }
                None if owns => self.start(&mut state, plan, preparing.clone())?,
                None => {
                    let (name, one) = (plan.bridge.name.clone(), One::elsewhere(plan, self.clock.now()));
                    state.bridges.insert(name, one);
                }
            }
        }
        Ok(())
    }

    fn start(&self, state: &mut Running, plan: Plan, preparing: Preparing) -> io::Result<()> {
        let (orders, order) = watch::channel(Order::Run(Box::new(plan.clone())));
        let status = Arc::new(Status::new(plan.rules.rules().len()));
        let (over, life) = mpsc::channel(1);
        let before = state.leaving.remove(&plan.bridge.name);
        let mut link = Link::new(
            Arc::clone(&self.host),
            self.handle.clone(),
            self.clock.clone(),
            plan.clone(),
            Arc::clone(&status),
            order,
            (before, life),
        );
        link.prepared = Some(preparing);
        let (handle, name) = (self.handle.clone(), format!("bridge {}", plan.bridge.name));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(task::thread(&name, move || {
            handle.enter_thread();
            runtime.block_on(link.run());
            // A name that is still being looked up keeps nobody.
            runtime.shutdown_background();
        })?);
        state.bridges.insert(plan.bridge.name.clone(), One { plan, orders, over, status, runs: true });
        Ok(())
    }

    /// This node of a cluster runs the bridges that `owned` names, and no others. Those that ran here and are not named are
    /// told to stop, and leave everything as it is: they have when what is returned with their names is closed.
    ///
    /// # Errors
    /// When the system gives no thread for one.
    pub fn own(&self, owned: BTreeSet<String>) -> io::Result<Vec<(String, mpsc::Sender<()>)>> {
        let (preparing, _) = sync_channel(1);
        let mut state = self.state.lock();
        state.owned = Some(owned);
        let names: Vec<String> = state.bridges.keys().cloned().collect();
        let mut stopped = Vec::new();
        for name in names {
            let owns = state.owns(&name);
            let Some(one) = state.bridges.remove(&name) else { continue };
            if owns && !one.runs {
                self.start(&mut state, one.plan, preparing.clone())?;
            } else if !owns && one.runs {
                let _ = one.orders.send(Order::Stop);
                stopped.push((name.clone(), one.over.clone()));
                state.leaving.insert(name.clone(), one.over);
                state.bridges.insert(name, One::elsewhere(one.plan, self.clock.now()));
            } else {
                state.bridges.insert(name, one);
            }
        }
        Ok(stopped)
    }

    /// All bridges, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Shown> {
        self.state.lock().bridges.values().map(|one| self.shown(one)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<Shown> {
        self.state.lock().bridges.get(name).map(|one| self.shown(one))
    }

    fn shown(&self, one: &One) -> Shown {
        let queue = self.handle.bridge_queue(&client_id(&one.plan.bridge.name));
        Shown {
            plan: one.plan.clone(),
            now: one.status.now(),
            counts: one.status.counts(),
            oldest: one.status.oldest(&queue, self.clock.tick()),
            queue,
        }
    }

    /// Ends all of them, and leaves their sessions as they are. Returns when the remotes have been told, or had the time.
    pub fn stop(&self) {
        let begin = self.clock.tick();
        let mut state = self.state.lock();
        for one in std::mem::take(&mut state.bridges).into_values() {
            let _ = one.orders.send(Order::Stop);
        }
        let threads = std::mem::take(&mut state.threads);
        // Whoever looks meanwhile sees none.
        drop(state);
        for thread in threads {
            // One may wait for what nobody acknowledges any more: its cluster has no majority, or the disk is full.
            while !thread.is_finished() && self.clock.tick().since(begin) < millis(ENDING) {
                std::thread::sleep(LOOK);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
