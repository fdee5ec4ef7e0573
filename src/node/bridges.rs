//! The bridges of a node: how their connections come in, and how they are shown.

use super::Inside;
use crate::admin::{BridgeQueue, BridgeRule, BridgeStatus, Carried, Mapped, MappedTopic, NotTaken, SetAside};
use crate::bridge::{self, Host, Shown, State};
use crate::broker::Listener;
use crate::broker::inspect::Time;
use crate::config::{Mode, Origin};
use nightjar_policy::{TopicRules, Way};
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
        let changed = self.changed();
        self.bridges.all().iter().map(|shown| status(shown, &changed)).collect()
    }

    pub(super) fn bridge_status(&self, name: &str) -> Option<BridgeStatus> {
        self.bridges.one(name).map(|shown| status(&shown, &self.changed()))
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

fn status(shown: &Shown, changed: &[(String, String)]) -> BridgeStatus {
    let Shown { plan, now, counts, queue, oldest } = shown;
    let settings = &plan.bridge;
    let is_there = matches!(now.state, State::Connected | State::Draining);
    let rule = |(number, rule): (usize, &nightjar_policy::TopicRule)| {
        // Rules that have just been changed are counted a moment later.
        let count = |of: fn(&bridge::RuleCounts) -> &bridge::Carried| {
            let counted = counts.rules.get(number).map(of);
            counted.map_or_else(Carried::default, |counted| Carried {
                messages: counted.messages.get(),
                bytes: counted.bytes.get(),
            })
        };
        BridgeRule { line: rule.to_string(), sent: count(|rule| &rule.sent), received: count(|rule| &rule.received) }
    };
    BridgeStatus {
        name: settings.name.clone(),
        state: now.state.name(),
        since: Time(now.since),
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
        rules: plan.rules.rules().iter().enumerate().map(rule).collect(),
        changed: changed.iter().filter(|(of, _)| *of == settings.name).map(|(_, field)| field.clone()).collect(),
    }
}

/// What becomes of a topic in both directions.
pub(super) fn map(rules: &TopicRules, topic: &str) -> MappedTopic {
    let mapped = |way| {
        let (number, name) = rules.map(way, topic)?;
        Some(Mapped { topic: name, rule: number + 1, line: rules.rules()[number].to_string() })
    };
    MappedTopic { topic: topic.to_owned(), out: mapped(Way::Out), inward: mapped(Way::In) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_name_in_the_metrics() {
        assert_eq!(State::ALL.map(State::name), crate::admin::BRIDGE_STATES);
    }

    #[test]
    fn a_topic_is_mapped_both_ways() {
        let lines = ["a/# out 1", "b/# both 1 here/ there/"].map(|line| line.parse().expect("a rule"));
        let rules = TopicRules::new(lines.to_vec()).expect("they can stand together");
        let name = |mapped: Option<Mapped>| mapped.map(|mapped| (mapped.rule, mapped.topic));
        let found = map(&rules, "here/b/1");
        assert_eq!((name(found.out), name(found.inward)), (Some((2, "there/b/1".to_owned())), None));
        let found = map(&rules, "there/b/1");
        assert_eq!((name(found.out), name(found.inward)), (None, Some((2, "here/b/1".to_owned()))));
    }
}
