//! The bridges of a node: how their connections come in, and how they are shown.

use super::Inside;
use crate::admin::{BridgeQueue, BridgeRule, BridgeStatus, Carried, Mapped, MappedTopic, NotTaken, SetAside};
use crate::bridge::{self, Host, Plan, Shown, State};
use crate::broker::Listener;
use crate::broker::inspect::Time;
use crate::config::{Mode, Origin};
use nightjar_base::Wall;
use nightjar_policy::{TopicRule, Way};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

/// The node as its bridges see it, which are a part of it.
struct Doorway(Weak<Inside>);

impl Host for Doorway {
    fn adopt(&self, pair: UnixStream, listener: &Arc<Listener>) {
        if let Some(inside) = self.0.upgrade() {
            inside.state.lock().doors.adopt_bridge(pair, listener);
        }
    }
}

/// What the bridges of `inside` need of it.
pub(super) fn host(inside: &Weak<Inside>) -> Arc<dyn Host> {
    Arc::new(Doorway(Weak::clone(inside)))
}

impl Inside {
    pub(super) fn bridge_statuses(&self) -> Vec<BridgeStatus> {
        let (changed, now) = (self.changed(), self.clock.now());
        self.bridges.all().iter().map(|shown| status(shown, &changed, now)).collect()
    }

    pub(super) fn bridge_status(&self, name: &str) -> Option<BridgeStatus> {
        self.bridges.one(name).map(|shown| status(&shown, &self.changed(), self.clock.now()))
    }

    /// The settings that were changed while the node runs: bridge and key.
    fn changed(&self) -> Vec<(String, String)> {
        let state = self.state.lock();
        let path = state.kept.path();
        let ours = |origin: &Origin| matches!(origin, Origin::File { path: of, .. } if *of == path);
        let bridges = state.loaded.origins.iter().filter(|(key, origin)| key.starts_with("bridges.") && ours(origin));
        let parts = |key: &str| {
            let (bridge, field) = key.strip_prefix("bridges.")?.rsplit_once('.')?;
            Some((bridge.to_owned(), field.to_owned()))
        };
        bridges.filter_map(|(key, _)| parts(key)).collect()
    }
}

/// The rules as they were written. One that is there twice counts once.
fn lines(plan: &Plan) -> Vec<String> {
    let mut written = plan.bridge.topics.iter();
    let mut line = |rule: &TopicRule| written.find(|line| line.parse().as_ref() == Ok(rule)).cloned();
    plan.rules.rules().iter().map(|rule| line(rule).unwrap_or_else(|| rule.to_string())).collect()
}

fn status(shown: &Shown, changed: &[(String, String)], time: Wall) -> BridgeStatus {
    let Shown { plan, now, counts, queue, oldest } = shown;
    let settings = &plan.bridge;
    let is_there = matches!(now.state, State::Connected | State::Draining);
    let rule = |(number, line): (usize, String)| {
        // Rules that have just been changed are counted a moment later.
        let count = |of: fn(&bridge::RuleCounts) -> &bridge::Carried| {
            let counted = counts.rules.get(number).map(of);
            counted.map_or_else(Carried::default, |counted| Carried {
                messages: counted.messages.get(),
                bytes: counted.bytes.get(),
            })
        };
        BridgeRule { line, sent: count(|rule| &rule.sent), received: count(|rule| &rule.received) }
    };
    BridgeStatus {
        name: settings.name.clone(),
        state: now.state.name(),
        // One that was just added has not begun yet.
        since: Time(if now.since == Wall::default() { time } else { now.since }),
        mode: match settings.mode {
            Mode::Running => "running",
            Mode::Paused => "paused",
            Mode::Draining => "draining",
        },
        address: now.address.clone(),
        addresses: settings.address.iter().map(ToString::to_string).collect(),
        speaks: now.speech.clone().filter(|_| is_there),
        last_error: now.last_error.clone(),
        last_error_at: now.last_error_at.map(Time),
        retry_at: now.retry_at.map(Time),
        queue: BridgeQueue {
            messages: queue.messages,
            bytes: queue.bytes,
            oldest_ms: *oldest,
            under_way: now.under_way,
            dropped: queue.overflowed,
        },
        set_aside: SetAside {
            too_large: counts.too_large.get(),
            refused: counts.refused.get(),
            closed_at: counts.closed_at.get(),
        },
        not_taken: NotTaken { too_large: counts.too_large_here.get(), refused: counts.refused_here.get() },
        acknowledged: counts.acknowledged.get(),
        unmatched: counts.unmatched.get(),
        echoes: counts.echoes.get(),
        connects: counts.connects.get(),
        failures: counts.failures.get(),
        refused_filters: now.refused_filters.clone(),
        rules: lines(plan).into_iter().enumerate().map(rule).collect(),
        changed: changed.iter().filter(|(of, _)| *of == settings.name).map(|(_, field)| field.clone()).collect(),
    }
}

/// What becomes of a topic in both directions.
pub(super) fn map(plan: &Plan, topic: &str) -> MappedTopic {
    let lines = lines(plan);
    let mapped = |way| {
        let (number, name) = plan.rules.map(way, topic)?;
        Some(Mapped { topic: name, rule: number + 1, line: lines.get(number).cloned().unwrap_or_default() })
    };
    MappedTopic { topic: topic.to_owned(), out: mapped(Way::Out), inward: mapped(Way::In) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};

    #[test]
    fn every_state_has_its_name_in_the_metrics() {
        assert_eq!(State::ALL.map(State::name), crate::admin::BRIDGE_STATES);
    }

    #[test]
    fn a_topic_is_mapped_both_ways_by_rules_as_they_were_written() {
        let config = Config::default();
        let topics = ["a/#  out 1", "a/# OUT 1", "b/# both 1 here/ there/"].map(str::to_owned).to_vec();
        let bridge = config::Bridge { topics, ..config::Bridge::default() };
        let plan = super::super::parts::plan(&bridge, &config).expect("it can be planned");
        assert_eq!(lines(&plan), ["a/#  out 1", "b/# both 1 here/ there/"]);
        let name = |mapped: Option<Mapped>| mapped.map(|mapped| (mapped.rule, mapped.topic, mapped.line));
        let there = |name: &str| Some((2, name.to_owned(), "b/# both 1 here/ there/".to_owned()));
        let found = map(&plan, "here/b/1");
        assert_eq!((name(found.out), name(found.inward)), (there("there/b/1"), None));
        let found = map(&plan, "there/b/1");
        assert_eq!((name(found.out), name(found.inward)), (None, there("here/b/1")));
    }
}
