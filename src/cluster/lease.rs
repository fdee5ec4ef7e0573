//! Leases: who may acknowledge.
//!
//! ```text
//! holder                                   keeper (leads the control group)
//! renew, at time s ───────────────────────► knows that it still led `age` ago: a majority has answered since
//! held until s + LEASE - age ◄───── age ─── notes that the holder may have it until now + LEASE + MARGIN
//! ```
//! A node that holds no lease acknowledges no QoS 1 or 2 PUBLISH and no SUBSCRIBE: it may not know all routes any more.
//! A keeper says of a node that its lease has ended only when no clock within the margin could say otherwise; a new keeper
//! knows nothing of what the one before has granted, and takes all for granted at its beginning.
//!
//! Pure: times are read by whoever calls, each by its own clock; only durations are compared between nodes.

use nightjar_base::{HomeId, NodeId, Tick};
use std::collections::BTreeMap;

/// How long a lease lasts, in milliseconds.
pub const LEASE: u64 = 1_500;
/// By how much the clocks of two nodes may differ in what they take for [`LEASE`], in milliseconds, and half as much again.
pub const MARGIN: u64 = 250;
/// How often a lease is renewed, in milliseconds.
pub const RENEWAL: u64 = 400;

/// The lease of this node.
#[derive(Debug, Default)]
pub struct Lease {
    until: Option<Tick>,
    /// How many times it was held anew after it had run out.
    spell: u64,
    /// The spell in which everything that others may have been told was applied here.
    caught_up: Option<u64>,
}

impl Lease {
    /// The keeper has granted what was asked for at `asked`, and certainly led `age` milliseconds before it did. Returns the
    /// spell if nothing may be acknowledged in it yet: everything that the groups had agreed on by now is to be applied
    /// here, and [`caught_up`](Self::caught_up) to be told.
    pub fn granted(&mut self, asked: Tick, age: u64, now: Tick) -> Option<u64> {
        let until = asked.plus_millis(LEASE.saturating_sub(age));
        if until <= now {
            return None;
        }
        if !self.runs(now) {
            self.spell += 1;
        }
        self.until = self.until.max(Some(until));
        (self.caught_up != Some(self.spell)).then_some(self.spell)
    }

    /// What the groups had agreed on when this spell began is applied here.
    pub fn caught_up(&mut self, spell: u64) {
        if self.spell == spell {
            self.caught_up = Some(spell);
        }
    }

    fn runs(&self, now: Tick) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether this node may acknowledge.
    #[must_use]
    pub fn is_held(&self, now: Tick) -> bool {
        self.runs(now) && self.caught_up == Some(self.spell)
    }
}

/// What the leader of the control group knows of everybody's leases.
#[derive(Debug)]
pub struct Keeper {
    /// Since when it leads.
    since: Tick,
    granted: BTreeMap<NodeId, Tick>,
    /// The run of each node that was asked about last, and since when.
    met: BTreeMap<NodeId, (HomeId, Tick)>,
    /// The run of each node that is given up, which gets no lease any more.
    given_up: BTreeMap<NodeId, HomeId>,
}

impl Keeper {
    /// One that leads from now on.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self { since: now, granted: BTreeMap::new(), met: BTreeMap::new(), given_up: BTreeMap::new() }
    }

    /// Whether `home`, the run of `node`, may have its lease: then it is answered so at `now`, which is not before it asked.
    #[must_use]
    pub fn grants(&mut self, node: NodeId, home: HomeId, now: Tick) -> bool {
        if self.given_up.get(&node) == Some(&home) {
            return false;
        }
        self.granted.insert(node, now);
        true
    }

    /// Whether `node` certainly holds no lease any more, of this keeper or of one before.
    #[must_use]
    pub fn has_ended(&self, node: NodeId, now: Tick) -> bool {
        let last = self.granted.get(&node).copied().unwrap_or(self.since).max(self.since);
        now.since(last) >= LEASE + MARGIN
    }

    /// Whether to give up this run of `node`: it certainly has no lease, and nothing was heard of it for `patience`
    /// milliseconds, counted from when it was first asked about, at the earliest, since a run that has only begun had
    /// nothing to say before. From then on it gets none: others are told that it is over, and rely on it.
    #[must_use]
    pub fn gives_up(&mut self, node: NodeId, home: HomeId, patience: u64, now: Tick) -> bool {
        let met = self.met.entry(node).or_insert((home, now));
        if met.0 != home {
            *met = (home, now);
        }
        let silent = now.since(self.granted.get(&node).copied().unwrap_or(self.since).max(met.1));
        if silent >= patience && self.has_ended(node, now) {
            self.given_up.insert(node, home);
        }
        self.given_up.get(&node) == Some(&home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let mut lease = Lease::default();
        assert!(!lease.is_held(Tick(0)));
        assert_eq!(lease.granted(Tick(100), 0, Tick(400)), Some(1));
        assert!(!lease.is_held(Tick(400)), "not before it has caught up");
        lease.caught_up(1);
        assert!(lease.is_held(Tick(400)) && lease.is_held(Tick(100 + LEASE - 1)));
        assert!(!lease.is_held(Tick(100 + LEASE)));
        // An answer that comes too late grants nothing.
        assert_eq!(lease.granted(Tick(200), 0, Tick(200 + LEASE)), None);
        assert_eq!(lease.granted(Tick(300), 100, Tick(200 + LEASE)), None);
        assert_eq!(lease.granted(Tick(200 + LEASE), LEASE + 1, Tick(200 + LEASE)), None);
        assert!(!lease.is_held(Tick(200 + LEASE)));
    }

    #[test]
    fn renewals_go_on_and_a_gap_begins_a_new_spell() {
        let mut lease = Lease::default();
        assert_eq!(lease.granted(Tick(0), 0, Tick(1)), Some(1));
        assert_eq!(lease.granted(Tick(1), 0, Tick(2)), Some(1), "as long as it has not caught up");
        lease.caught_up(1);
        assert_eq!(lease.granted(Tick(300), 0, Tick(301)), None);
        // An older answer that comes behind a newer one takes nothing back.
        assert_eq!(lease.granted(Tick(350), 151, Tick(302)), None);
        assert!(lease.is_held(Tick(300 + LEASE - 1)));
        let late = Tick(300 + LEASE + 5);
        assert_eq!(lease.granted(late, 0, late), Some(2));
        assert!(!lease.is_held(late));
        lease.caught_up(1);
        assert!(!lease.is_held(late), "what was caught up with before the gap says nothing");
        lease.caught_up(2);
        assert!(lease.is_held(late));
    }

    #[test]
    fn a_new_keeper_waits_out_what_the_old_one_may_have_granted() {
        let begin = Tick(10_000);
        let mut keeper = Keeper::new(begin);
        assert!(!keeper.has_ended(NODE, begin.plus_millis(LEASE + MARGIN - 1)));
        assert!(keeper.has_ended(NODE, begin.plus_millis(LEASE + MARGIN)));
        let granted = begin.plus_millis(500);
        assert!(keeper.grants(NODE, HomeId(1), granted));
        assert!(!keeper.has_ended(NODE, granted.plus_millis(LEASE + MARGIN - 1)));
        assert!(keeper.has_ended(NODE, granted.plus_millis(LEASE + MARGIN)));
    }

    #[test]
    fn a_run_that_is_given_up_gets_no_lease_any_more() {
        const PATIENCE: u64 = 2_000;
        let (old, new) = (HomeId(1), HomeId(2));
        let mut keeper = Keeper::new(Tick(0));
        assert!(keeper.grants(NODE, old, Tick(500)));
        assert!(!keeper.gives_up(NODE, old, PATIENCE, Tick(500)));
        assert!(!keeper.gives_up(NODE, old, PATIENCE, Tick(500 + PATIENCE - 1)));
        assert!(!keeper.gives_up(NODE, old, 3, Tick(500 + LEASE)), "it may have its lease, however patient one is");
        assert!(keeper.gives_up(NODE, old, PATIENCE, Tick(500 + PATIENCE)));
        // It is back while the others are being told.
        assert!(!keeper.grants(NODE, old, Tick(600 + PATIENCE)));
        assert!(keeper.gives_up(NODE, old, PATIENCE, Tick(700 + PATIENCE)));
        // The next run of it has nothing to answer for.
        assert!(keeper.grants(NODE, new, Tick(9_000)));
        assert!(!keeper.gives_up(NODE, new, PATIENCE, Tick(9_000)));
        assert!(!keeper.gives_up(NODE, new, PATIENCE, Tick(9_000 + PATIENCE - 1)));
        assert!(keeper.gives_up(NODE, new, PATIENCE, Tick(9_000 + PATIENCE)));
    }

    /// Whatever the delays: while a holder takes its lease for held, no keeper says that it has ended.
    #[test]
    fn nobody_is_declared_without_a_lease_who_has_one() {
        for asked in (0..3_000).step_by(97) {
            for way_there in (0..2_000).step_by(211) {
                for (way_back, age) in (0..2_000).step_by(223).zip((0..400).step_by(37).cycle()) {
                    let (asked, granted) = (Tick(1_000 + asked), Tick(1_000 + asked + way_there));
                    let answered = Tick(granted.0 + way_back);
                    let (mut lease, mut keeper) = (Lease::default(), Keeper::new(Tick(0)));
                    assert!(keeper.grants(NODE, HomeId(1), granted));
                    if let Some(spell) = lease.granted(asked, age, answered) {
                        lease.caught_up(spell);
                    }
                    // The next keeper is elected at the earliest behind the moment at which this one had a majority.
                    let next = Keeper::new(Tick(granted.0 - age));
                    for now in (0..9_000).step_by(53).map(Tick) {
                        assert!(!(lease.is_held(now) && keeper.has_ended(NODE, now)));
                        assert!(!(lease.is_held(now) && next.has_ended(NODE, now)));
                    }
                }
            }
        }
    }
}
