//! The life of one bridge: it reaches for the remote, splices, loses it, waits, and tries again.

use super::poison::Poison;
use super::pump::{Ending, Pump};
use super::remote::{self, Introduction, Reached, Speech, Unreached, speeches};
use super::status::{State, Status};
use super::{Host, Plan, local};
use crate::broker::{BRIDGE_PREFIX, BridgeQueue, Handle, Listener};
use crate::config::{Mode, Start};
use crate::env::clock::Clock;
use crate::env::{entropy, task};
use crate::telemetry::escape;
use crate::transport::dial;
use nightjar_base::{Wall, millis};
use nightjar_mqtt::{Disconnect, Packet, ReasonCode, Version};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How often a lazy bridge looks whether enough waits.
const LOOK: Duration = Duration::from_millis(500);
/// Closings without an answer to CONNECT before another way to speak is tried.
const SILENT: u32 = 3;
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the remote may hold packet identifiers of QoS 2 messages that it will not be sent again. It would take new messages
/// under them for repetitions.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Some of our queue was dropped, set aside or settled here, or went elsewhere.
    pub(super) any: bool,
    /// The address of the last connection.
    pub(super) address: Option<usize>,
    /// What had been dropped of the queue then.
    pub(super) overflowed: u64,
}

/// Kept as long as a bridge has no session here.
pub(super) type Preparing = std::sync::mpsc::SyncSender<()>;

/// What a bridge is to do.
#[derive(Clone)]
pub(super) enum Order {
    /// To be as planned.
    Run(Box<Plan>),
    /// To end with all that it has here.
    Remove,
    /// To end, and to leave everything as it is: the node stops.
    Stop,
}

/// One bridge.
pub(super) struct Link {
    pub(super) host: Arc<dyn Host>,
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) plan: Plan,
    pub(super) status: Arc<Status>,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) listener: Arc<Listener>,
    /// Its client identifier here.
    pub(super) client_id: String,
    /// What is to be known of the remote's session: identifiers that it may hold of messages that will not be sent again.
    pub(super) doubt: Doubt,
    /// The removed bridge of the same name, which is to be gone first, and the sign that this one is not.
    before: Option<mpsc::Sender<()>>,
    /// Dropped when there is a session here, which takes what is published.
    pub(super) prepared: Option<Preparing>,
    _life: mpsc::Receiver<()>,
    /// Filters that this process has asked of the remote.
    pub(super) asked: HashSet<String>,
    pub(super) address: usize,
    pub(super) speech: usize,
    pub(super) failures: u32,
    /// Closings in a row without an answer to CONNECT.
    pub(super) silent: u32,
    /// The way to speak was guessed from them.
    pub(super) guessed: bool,
    /// It was tried again in the best way since.
    pub(super) rechecked: bool,
    /// The address at which the remote knew nothing of us, and now has a session by a connection that carried nothing.
    pub(super) unknown_at: Option<usize>,
    /// The remote was asked for nothing any more.
    pub(super) has_left: bool,
    /// The remote was there, and was lost.
    pub(super) was_lost: bool,
    pub(super) poison: Poison,
    pub(super) spoken: bool,
}

impl Link {
    pub(super) fn new(
        host: Arc<dyn Host>,
        handle: Handle,
        clock: Clock,
        plan: Plan,
        status: Arc<Status>,
        orders: watch::Receiver<Order>,
        (before, life): (Option<mpsc::Sender<()>>, mpsc::Receiver<()>),
    ) -> Self {
        let client_id = client_id(&plan.bridge.name);
        let listener = local::listener(&plan);
        Self {
            host,
            handle,
            clock,
            plan,
            status,
            orders,
            listener,
            client_id,
            doubt: Doubt::default(),
            before,
            prepared: None,
            _life: life,
            asked: HashSet::new(),
            address: 0,
            speech: 0,
            failures: 0,
            silent: 0,
            guessed: false,
            rechecked: false,
            unknown_at: None,
            has_left: false,
            was_lost: false,
            poison: Poison::default(),
            spoken: false,
        }
    }

    /// Lives until it is stopped or removed.
    pub(super) async fn run(mut self) {
        if let Some(before) = self.before.take() {
            before.closed().await;
        }
        self.prepare().await;
        self.prepared = None;
        self.tell_down().await;
        loop {
            let order = self.orders.borrow_and_update().clone();
            match order {
                Order::Stop => return,
                Order::Remove => return self.remove().await,
                Order::Run(plan) => self.take_up(*plan).await,
            }
            // Until another order comes.
            self.work().await;
        }
    }

    /// Takes up new settings.
    async fn take_up(&mut self, plan: Plan) {
        let same = plan.bridge == self.plan.bridge && plan.limits == self.plan.limits;
        // What goes under other rules, or in other ways, may leave something behind at the remote.
        self.doubt.any |= plan.rules != self.plan.rules || plan.bridge.max_qos > self.plan.bridge.max_qos;
        if plan.rules != self.plan.rules {
            self.status.recount(plan.rules.rules().len());
        }
        self.plan = plan;
        self.listener = local::listener(&self.plan);
        if !same {
            (self.address, self.speech, self.failures, self.was_lost, self.has_left) = (0, 0, 0, false, false);
            self.status.update(|status| {
                status.last_error = None;
                status.last_error_at = None;
            });
            self.prepare().await;
            if !self.plan.bridge.notifications {
                self.forget_state().await;
            } else {
                self.tell_down().await;
            }
        }
    }

    /// Works as it was ordered, until there is another order.
    async fn work(&mut self) {
        loop {
            let waits = match self.plan.bridge.mode {
                Mode::Paused => Some(State::Paused),
                Mode::Draining if self.handle.bridge_queue(&self.client_id).messages == 0 && self.has_parted() => {
                    Some(State::Drained)
                }
                _ if self.plan.bridge.start == Start::Once && self.was_lost => Some(State::Ended),
                _ => None,
            };
            if let Some(state) = waits {
                self.enter(state);
                return self.watch_queue().await;
            }
            if self.plan.bridge.start == Start::Lazy && !self.enough_waits().await {
                return;
            }
            if self.once().await {
                return;
            }
        }
    }

    /// Looks at the queue, so that the status knows since when the oldest waits.
    fn look(&self) -> BridgeQueue {
        let queue = self.handle.bridge_queue(&self.client_id);
        self.status.look(&queue, self.clock.tick());
        queue
    }

    /// Looks at the queue until there is another order.
    async fn watch_queue(&mut self) {
        loop {
            self.look();
            tokio::select! {
                _ = self.orders.changed() => return,
                () = task::sleep(LOOK) => {}
            }
        }
    }

    /// Waits until enough waits for a lazy bridge; false if there is another order.
    async fn enough_waits(&mut self) -> bool {
        loop {
            if self.look().messages >= self.plan.bridge.lazy_threshold {
                return true;
            }
            self.enter(State::Idle);
            tokio::select! {
                _ = self.orders.changed() => return false,
                () = task::sleep(LOOK) => {}
            }
        }
    }

    /// One connection, from reaching to the wait for the next. True if there is another order.
    async fn once(&mut self) -> bool {
        self.enter(State::Connecting);
        let address = self.plan.bridge.address[self.address % self.plan.bridge.address.len()].clone();
        let ways = speeches(&self.plan.bridge);
        let speech = ways[self.speech % ways.len()];
        self.status.update(|status| status.address = Some(address.to_string()));
        let node = self.handle.node_id();
        let (remote_id, state_topic) = (self.remote_id(), self.remote_state_topic());
        let introduction = Introduction {
            client_id: &remote_id,
            node: &node,
            state_topic: state_topic.as_deref(),
            max_packet: self.plan.limits.largest_packet(),
        };
        let (plan, begin) = (self.plan.clone(), self.clock.tick());
        let reached = tokio::select! {
            _ = self.orders.changed() => return true,
            reached = remote::reach(&plan.bridge, &address, speech, &introduction) => reached,
        };
        match reached {
            Err(Unreached::Version(_)) if self.speech + 1 < ways.len() => {
                // The next way at once: nothing is wrong with the remote.
                self.speech += 1;
                false
            }
            Err(error) => {
                self.speak_otherwise(&error, ways.len());
                self.lost(&format!("{address}: {error}"));
                self.next_address();
                self.wait().await
            }
            Ok(reached) => {
                self.handle.note_round_trip(self.clock.tick().since(begin));
                self.connected(reached, &address.to_string()).await
            }
        }
    }

    /// Another way to speak is tried when the remote does not know this one, or closes at it again and again: some have no
    /// other word for it. One closing alone says nothing: the remote, or what is before it, may be starting.
    fn speak_otherwise(&mut self, error: &Unreached, ways: usize) {
        match error {
            Unreached::Version(_) => self.speech = (self.speech + 1) % ways,
            Unreached::Silent(_) => {
                self.silent += 1;
                if self.silent >= SILENT {
                    self.silent = 0;
                    self.speech = (self.speech + 1) % ways;
                    // The best one is no guess, nor the only one.
                    self.guessed = self.speech != 0;
                }
            }
            _ => {}
        }
    }

    /// The remote is there. True if there is another order.
    async fn connected(&mut self, mut reached: Reached, address: &str) -> bool {
        let since = self.clock.tick();
        self.silent = 0;
        // What was only guessed from its silence is not held against it: now that it answers, the best way is tried again.
        let guessed = std::mem::take(&mut self.guessed);
        if guessed && !self.rechecked {
            (self.rechecked, self.speech) = (true, 0);
            if !reached.connack.session_present {
                self.unknown_at = Some(self.address);
            }
            // It leaves in order, or the remote would tell everybody that the bridge is gone.
            let (farewell, version) =
                (Packet::Disconnect(Disconnect::new(ReasonCode::Success)), reached.speech.version);
            let _ = task::timeout(FAREWELL, reached.wire.send(&farewell, version)).await;
            reached.wire.socket.finish();
            return false;
        }
        self.rechecked &= guessed;
        // The session that the remote has now is none that it remembers.
        reached.connack.session_present &= self.unknown_at != Some(self.address);
        self.status.counts().connects.add(1);
        let speech = reached.speech;
        let (bridge, mut words) = (self.plan.bridge.name.clone(), remote::in_words(&speech));
        if let Some(node) = &reached.nightjar {
            words = format!("{words}, with the Nightjar {}", escape(node));
        }
        tracing::info!(bridge, address, speech = words, session_present = reached.connack.session_present, "connected");
        self.status.update(|status| {
            status.speech = Some(words);
            status.refused_filters.clear();
        });
        let ending = match self.splice(reached).await {
            Ok(mut pump) => {
                self.unknown_at = None;
                self.pump(&mut pump).await
            }
            Err(why) => Ending::Lost(why),
        };
        if guessed {
            self.speech = 0;
        }
        self.tell_down().await;
        self.status.update(|status| status.under_way = 0);
        if self.plan.bridge.clean_local && !matches!(*self.orders.borrow(), Order::Stop) {
            self.forget().await;
        }
        let held = self.clock.tick().since(since) >= millis(self.plan.bridge.retry_reset);
        if held {
            self.failures = 0;
        }
        match ending {
            Ending::Order => true,
            Ending::Home => {
                self.address = 0;
                false
            }
            Ending::Idle | Ending::Drained | Ending::Cleared => false,
            Ending::Lost(why) | Ending::Closed { why, .. } => {
                self.lost(&format!("{address}: {why}"));
                self.was_lost = true;
                if self.plan.bridge.round_robin {
                    self.next_address();
                } else {
                    // The first one is home: it is tried first, whichever was lost.
                    self.address = 0;
                }
                if self.plan.bridge.start == Start::Once { false } else { self.wait().await }
            }
        }
    }

    async fn pump(&mut self, pump: &mut Pump) -> Ending {
        let home = self.home();
        let mut orders = self.orders.clone();
        let ending = pump.run(&mut orders, home).await;
        if pump.condemned && !pump.splice.waits_for_condemned() {
            self.poison.cleared();
        }
        match &ending {
            Ending::Closed { spoken, .. } => {
                self.poison.closed_at(pump.splice.suspect());
                self.spoken = *spoken;
            }
            Ending::Cleared => self.poison.cleared(),
            _ => {}
        }
        if !matches!(ending, Ending::Lost(_) | Ending::Closed { .. }) {
            let leaves = matches!(*self.orders.borrow(), Order::Remove) || self.plan.bridge.mode == Mode::Draining;
            let _ = task::timeout(FAREWELL, self.farewell(pump, leaves)).await;
        }
        ending
    }

    /// Ready when the first address can be reached again, where it is home and another one is in use.
    fn home(&self) -> impl Future<Output = ()> + use<> {
        let bridge = self.plan.bridge.clone();
        let away = !bridge.round_robin && !self.address.is_multiple_of(bridge.address.len());
        let max_packet = self.plan.limits.largest_packet();
        async move {
            if !away {
                return std::future::pending().await;
            }
            let speech = Speech { version: Version::V311, flag: false };
            loop {
                task::sleep(bridge.home_interval).await;
                let Ok(target) = remote::target(&bridge, &bridge.address[0], speech, max_packet) else { continue };
                if matches!(task::timeout(bridge.connect_timeout, dial(&target)).await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }

    /// Notes why the remote was lost, or not reached.
    fn lost(&mut self, why: &str) {
        let (bridge, counts) = (&self.plan.bridge.name, self.status.counts());
        counts.failures.add(1);
        // Once, and again when there is another reason: it is tried for as long as it takes.
        if self.failures == 0 || self.status.now().last_error.as_deref() != Some(why) {
            tracing::warn!(bridge, why = %escape(why), "the remote is not there");
        } else {
            tracing::debug!(bridge, why = %escape(why), "the remote is not there");
        }
        let at = self.clock.now();
        self.status.update(|status| {
            status.last_error = Some(why.to_owned());
            status.last_error_at = Some(at);
        });
    }

    /// Where it is tried next.
    fn next_address(&mut self) {
        self.address = (self.address + 1) % self.plan.bridge.address.len();
    }

    /// Waits before the next try. True if there is another order.
    async fn wait(&mut self) -> bool {
        let bridge = &self.plan.bridge;
        // All addresses are tried before it waits longer.
        let round = self.failures / u32::try_from(bridge.address.len()).unwrap_or(u32::MAX).max(1);
        let wait = backoff(millis(bridge.retry_base), millis(bridge.retry_cap), round, entropy::u64());
        self.failures = self.failures.saturating_add(1);
        self.enter(State::Waiting);
        let until = self.clock.now().0.saturating_add(wait);
        self.status.update(|status| status.retry_at = Some(Wall(until)));
        let deadline = self.clock.tick().plus_millis(wait);
        while self.clock.tick() < deadline {
            self.look();
            let left = deadline.since(self.clock.tick()).min(millis(LOOK));
            tokio::select! {
                _ = self.orders.changed() => return true,
                () = task::sleep(Duration::from_millis(left)) => {}
            }
        }
        false
    }

    pub(super) fn enter(&self, state: State) {
        self.status.enter(state, self.clock.now());
    }
}

/// How many milliseconds to wait after `failures` in a row: twice as long after each, up to `cap`, give or take half of
/// it by `random`, so that many bridges that lost one remote do not all come back at once.
fn backoff(base: u64, cap: u64, failures: u32, random: u64) -> u64 {
    let wait = base.saturating_mul(1 << failures.min(20)).min(cap);
    wait / 2 + random % (wait + 1)
}

/// The client identifier here of the bridge with this name.
pub(super) fn client_id(name: &str) -> String {
    format!("{BRIDGE_PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::backoff;

    #[test]
    fn waits_grow_to_their_cap_and_differ_by_chance() {
        for (failures, wait) in [(0, 1_000), (1, 2_000), (5, 32_000), (6, 60_000), (1_000, 60_000)] {
            assert_eq!(backoff(1_000, 60_000, failures, 0), wait / 2, "{failures}");
            assert_eq!(backoff(1_000, 60_000, failures, wait), wait / 2 + wait, "{failures}");
        }
        assert_eq!(backoff(u64::MAX, u64::MAX - 1, 3, 0), (u64::MAX - 1) / 2);
    }
}
