//! Would this client receive a message on that topic, and why: each thing that stands between them, in order.

use super::DroppedRun;
use crate::broker::Handle;
use crate::broker::access::may_receive;
use crate::broker::peer::Peer;
use crate::broker::subscriber::Subscriber;
use nightjar_mqtt::{QoS, topic};
use nightjar_policy::Action;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The answer, and how it comes about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// Whether it would receive the message, at once or when it comes back.
    pub receives: bool,
    /// The answer in a sentence.
    pub summary: String,
    /// What was looked at, in the order in which a message meets it.
    pub steps: Vec<Step>,
    /// What the client lost of late.
    pub drops: Vec<DroppedRun>,
}

/// One thing between a message and a client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Step {
    /// What it is.
    pub what: &'static str,
    /// Whether it lets the message through; `null` if that depends on the message.
    pub ok: Option<bool>,
    /// How it stands.
    pub detail: String,
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, what: &'static str, ok: impl Into<Option<bool>>, detail: impl Into<String>) {
        self.0.push(Step { what, ok: ok.into(), detail: detail.into() });
    }

    fn conclude(self, drops: Vec<DroppedRun>) -> Explanation {
        let stopped = self.0.iter().find(|step| step.ok == Some(false));
        let receives = stopped.is_none();
        let summary = match stopped {
            Some(step) => format!("{}: {}", step.what, step.detail),
            None => match self.0.iter().rev().find(|step| step.ok.is_none()) {
                Some(step) => format!("it would, but {}: {}", step.what, step.detail),
                None => "nothing stands between them".to_owned(),
            },
        };
        Explanation { receives, summary, steps: self.0, drops }
    }
}

impl Handle {
    /// Whether, and why, `client_id` would receive a message on `name`; `None` if there is neither a connection nor a
    /// session of it.
    #[must_use]
    pub fn explain(&self, client_id: &str, name: &str) -> Option<Explanation> {
        let peer = self.broker.registry.find(client_id);
        let subscriber = match &peer {
            Some(peer) => peer.subscriber.upgrade(),
            None => self.absent(client_id),
        }?;
        let mut steps = Steps::default();
        steps.add("client", None, if peer.is_some() { "connected" } else { "away, with a persistent session" });
        if peer.is_some() {
            steps.0[0].ok = Some(true);
        }
        let highest = self.subscriptions_step(&subscriber, name, &mut steps);
        rights_step(&subscriber, name, &mut steps);
        if let Some(qos) = highest {
            match &peer {
                Some(peer) => connection_steps(peer, subscriber.session.is_some(), qos, &mut steps),
                None => self.queue_step(&subscriber, qos, &mut steps),
            }
        }
        let drops = self.client(client_id).map(|client| client.drops).unwrap_or_default();
        Some(steps.conclude(drops))
    }

    /// The subscriber of a session that has no connection.
    fn absent(&self, client_id: &str) -> Option<Arc<Subscriber>> {
        let shard = self.broker.store.shard_of(client_id);
        let session = self.broker.store.lock(shard).session_of(client_id)?;
        self.broker.session(shard, session)
    }

    /// The subscriptions that match; the highest quality of service among them.
    fn subscriptions_step(&self, subscriber: &Arc<Subscriber>, name: &str, steps: &mut Steps) -> Option<QoS> {
        let all = self.filters_of(subscriber);
        let inner = |filter: &str| topic::parse_filter(filter).map(|parsed| topic::matches(parsed.filter, name));
        let matching: Vec<_> = all.iter().filter(|one| inner(&one.filter) == Ok(true)).collect();
        if matching.is_empty() {
            steps.add("subscription", false, format!("none of its {} subscriptions matches", all.len()));
            return None;
        }
        let told: Vec<String> = matching.iter().map(|one| format!("{} at QoS {}", one.filter, one.qos)).collect();
        steps.add("subscription", true, told.join(", "));
        if matching.iter().all(|one| one.share.is_some()) {
            let others = "a member of a shared subscription gets its share of the messages, not each of them";
            steps.add("shared", None, others);
        }
        if matching.iter().all(|one| one.no_local) {
            steps.add("no local", None, "what it publishes itself is not sent to it");
        }
        matching.iter().map(|one| one.qos).max().and_then(QoS::from_bits)
    }

    /// What becomes of a message for a session that is away.
    fn queue_step(&self, subscriber: &Subscriber, qos: QoS, steps: &mut Steps) {
        let limits = self.broker.limits.load();
        if qos == QoS::AtMostOnce && !limits.queue_qos0 {
            steps.add("queue", false, "messages of QoS 0 are not kept for those who are away (session.queue_qos0)");
            return;
        }
        if qos > QoS::AtMostOnce && !limits.queue_qos0 {
            steps.add("quality", None, "a message that is published at QoS 0 is not kept for it");
        }
        let Some((shard, id)) = subscriber.session else { return };
        let store = self.broker.store.lock(shard);
        let Some(session) = store.session(id) else { return };
        let bounds = session.limits();
        let full = session.queued() >= bounds.messages || session.queued_bytes() >= bounds.bytes;
        let detail = format!("{} messages, {} bytes wait for it", session.queued(), session.queued_bytes());
        if full {
            let policy = format!("{detail}; its queue is full, and the policy is {:?}", bounds.policy);
            steps.add("queue", None, policy);
        } else {
            steps.add("queue", true, detail);
        }
        if self.broker.pressure.queues_full(&limits) {
            steps.add("limits", false, "the queues of all sessions together are at their limit");
        }
    }
}

fn rights_step(subscriber: &Subscriber, name: &str, steps: &mut Steps) {
    let verdict = subscriber.rights().explain(Action::Receive, name);
    let rule = verdict.rule.map(|rule| format!("{}:{}: {}; ", rule.file, rule.line, rule.text)).unwrap_or_default();
    steps.add("rights", may_receive(subscriber, name), format!("{rule}{}", verdict.why));
}

fn connection_steps(peer: &Peer, persistent: bool, qos: QoS, steps: &mut Steps) {
    let (figures, slow, lagging) = {
        let state = peer.lock();
        (state.figures(), state.is_slow(), state.lagging)
    };
    if slow {
        let waits =
            format!("{} bytes wait to be written: it reads too slowly, and QoS 0 is dropped", figures.outbox_bytes);
        steps.add("outbox", None, waits);
    } else {
        steps.add("outbox", true, format!("{} bytes wait to be written", figures.outbox_bytes));
    }
    if qos > QoS::AtMostOnce {
        let detail = format!("{} of {} are under way", figures.under_way, figures.window);
        if figures.under_way >= figures.window {
            steps.add("window", None, format!("{detail}: the message waits until the client acknowledges"));
        } else {
            steps.add("window", true, detail);
        }
        if persistent && lagging {
            steps.add("queue", None, "it is behind and gets what has waited first");
        } else if figures.waiting > 0 {
            steps.add("queue", None, format!("{} messages wait before it", figures.waiting));
        }
    }
    if let Some(most) = figures.maximum_packet {
        steps.add("packet size", None, format!("packets above {most} bytes are not sent to it, as it asked"));
    }
}
