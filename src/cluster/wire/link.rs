//! One lane to one node: dialled, lost, and dialled again.
//!
//! ```text
//!                 ┌── asked, or by itself after a pause ── Lost
//!                 v                                          ^
//!  new ──> Open, dialling ── connected ──> Open ── lost ─────┤
//!                 │                          ^               │ if it was young
//!                 └── in vain ──> Down <─────┼───────────────┘
//!                                  └─ dialled again and again, each time later
//! ```
//!
//! While a link is down whatever is asked of it fails at once; only after a loss, one attempt is worth waiting for.

use super::dial::{DialError, client, dial};
use super::hello::{Introduction, Told};
use super::line::{Call, Line};
use super::outbox::Writer;
use super::ports::{CallError, Lane, Peer, Request};
use super::proto;
use super::wire::Shared;
use crate::env::clock::Clock;
use crate::env::{entropy, task};
use crate::telemetry::escape;
use nightjar_base::NodeId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Streaming;
use tonic::transport::Channel;

/// The first pause between two attempts, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long we wait before a node that refused us, or that we refused, is tried again: somebody has to do something
/// first.
const SLOW: Duration = Duration::from_secs(5);
/// A link that was lost before this age was not worth much: the next attempt waits as if it had failed. So two nodes
/// that take each other's place do so at a modest pace.
const GROWN_MILLIS: u64 = 1000;

/// One lane to one node.
#[derive(Debug)]
pub(super) struct Link {
    to: NodeId,
    lane: Lane,
    address: String,
    shared: Arc<Shared>,
    phase: Mutex<Phase>,
    /// Told when somebody asks after a loss.
    asked: Notify,
    clock: Clock,
}

#[derive(Debug)]
enum Phase {
    Open(Arc<Line>),
    Lost,
    Down,
}

impl Link {
    /// A link to be kept with [`Self::keep`]. What is asked of it before that has connected waits.
    pub(super) fn new(to: NodeId, lane: Lane, address: String, shared: Arc<Shared>) -> Arc<Self> {
        let phase = Mutex::new(Phase::Open(Line::new()));
        Arc::new(Self { to, lane, address, shared, phase, asked: Notify::new(), clock: Clock::machine() })
    }

    /// Queues a request whose answer is waited for.
    pub(super) fn call(&self, request: Request) -> Result<Call, CallError> {
        self.line()?.call(request, &self.shared.settings)
    }

    /// Queues a request that has no answer.
    pub(super) fn tell(&self, request: Request) -> Result<(), CallError> {
        self.line()?.tell(request, &self.shared.settings)
    }

    fn line(&self) -> Result<Arc<Line>, CallError> {
        let mut phase = self.phase.lock();
        match &*phase {
            Phase::Open(line) => Ok(Arc::clone(line)),
            Phase::Lost => {
                let line = Line::new();
                *phase = Phase::Open(Arc::clone(&line));
                self.asked.notify_one();
                Ok(line)
            }
            Phase::Down => Err(CallError::Unreachable),
        }
    }

    /// The line that the next attempt is for: one that requests may wait in already, or one that nobody sees yet.
    fn next_line(&self) -> Arc<Line> {
        self.line().unwrap_or_else(|_| Line::new())
    }

    /// What is under way fails, and what is still asked.
    pub(super) fn cut(&self) {
        let phase = std::mem::replace(&mut *self.phase.lock(), Phase::Down);
        if let Phase::Open(line) = phase {
            line.close();
        }
    }

    /// Keeps the link up until it is aborted.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        let mut told = Told::default();
        let mut cluster = self.shared.cluster.subscribe();
        // A link without a cluster would be refused. It never ends while we hold what it belongs to.
        let _ = cluster.wait_for(Option::is_some).await;
        loop {
            let attempt = Attempt { link: &self, line: self.next_line(), peer: None };
            let slow = match attempt.run(&mut told, &mut pause).await {
                Ok(()) => false,
                Err(error) => {
                    let why = escape(&error.to_string()).to_string();
                    if told.is_news(&why) {
                        let (node, lane, address) = (self.to, self.lane, &self.address);
                        tracing::warn!(%node, %lane, address, %why, "no link to another node");
                    }
                    error.lasts()
                }
            };
            let wait = if slow { SLOW } else { jitter(pause) };
            tokio::select! {
                () = task::sleep(wait) => {}
                () = self.asked.notified() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Between half and all of `pause`, so that nodes that lost each other together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX) / 2;
    Duration::from_nanos(nanos + entropy::u64() % (nanos + 1))
}

/// One connection, or the attempt at it. However it ends, also by being aborted, its calls fail when it is dropped.
struct Attempt<'a> {
    link: &'a Link,
    line: Arc<Line>,
    /// Who is at the other end, once we know.
    peer: Option<Peer>,
}

impl Attempt<'_> {
    /// Connects, and stays until the connection is lost.
    async fn run(mut self, told: &mut Told, pause: &mut Duration) -> Result<(), DialError> {
        let Link { lane, shared, address, .. } = self.link;
        let limit = shared.settings.dial(*lane);
        let connected = task::timeout(limit, self.connect()).await.map_err(|_| DialError::TimedOut)?;
        // The channel lives as long as the stream.
        let (peer, _channel, mut answers) = connected?;
        let begun = self.link.clock.tick();
        *self.link.phase.lock() = Phase::Open(Arc::clone(&self.line));
        self.line.outbox().open();
        shared.service.connected(&peer, *lane);
        let (node, name) = (peer.node, escape(&peer.name).to_string());
        if told.is_news("linked") {
            tracing::info!(%node, %name, %lane, address, "linked to another node");
        }
        self.peer = Some(peer);
        let why = loop {
            match answers.message().await {
                Ok(Some(message)) => message.answers.into_iter().for_each(|answer| self.line.answered(answer)),
                Ok(None) => break DialError::HungUp,
                Err(status) => break status.into(),
            }
        };
        let why = escape(&why.to_string()).to_string();
        if self.link.clock.tick().since(begun) >= GROWN_MILLIS {
            tracing::warn!(%node, %name, %lane, %why, "the link to another node is lost");
            (*told, *pause) = (Told::default(), FIRST_PAUSE);
            *self.link.phase.lock() = Phase::Lost;
        } else if told.is_news(&why) {
            tracing::warn!(%node, %name, %lane, %why, "the link to another node was lost soon after it was made");
        }
        Ok(())
    }

    async fn connect(&self) -> Result<(Peer, Channel, Streaming<proto::Answers>), DialError> {
        let Link { to, lane, shared, address, .. } = self.link;
        let security = shared.security.load_full();
        let channel = dial(address, *lane, &security).await?;
        let cluster = shared.cluster.borrow().clone().unwrap_or_default();
        let introduction = Introduction { me: &shared.me, cluster: &cluster };
        let hello = proto::Requests { hello: Some(introduction.hello(*to, *lane)), requests: Vec::new() };
        let requests = Writer::new(hello, Arc::clone(self.line.outbox()));
        let mut answers = client(channel.clone()).link(requests).await?.into_inner();
        let first = answers.message().await?.ok_or(DialError::HungUp)?;
        let (peer, _) = introduction.check(first.hello, Some((*to, *lane)))?;
        Ok((peer, channel, answers))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        {
            let mut phase = self.link.phase.lock();
            if matches!(&*phase, Phase::Open(line) if Arc::ptr_eq(line, &self.line)) {
                *phase = Phase::Down;
            }
        }
        self.line.close();
        if let Some(peer) = &self.peer {
            self.link.shared.service.lost(peer, self.link.lane);
        }
    }
}
