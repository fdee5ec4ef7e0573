//! Leases: who may acknowledge.
//!
//! ```text
//! holder                                   keeper (leads the control group)
//! renew, at time s ───────────────────────► asks a majority whether it still leads
//! held until s + LEASE ◄──────── index ──── notes that the holder may have it until now + LEASE + MARGIN
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
    /// The keeper has granted what was asked for at `asked`. Returns the spell if nothing may be acknowledged in it yet:
    /// everything that the groups had agreed on by now is to be applied here, and [`caught_up`](Self::caught_up) to be told.
    pub fn granted(&mut self, asked: Tick, now: Tick) -> Option<u64> {
        let until = asked.plus_millis(LEASE);
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
}

impl Keeper {
    /// One that leads from now on.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self { since: now, granted: BTreeMap::new(), met: BTreeMap::new() }
    }

    /// `node` is answered that it may have its lease: at `now`, which is not before it asked.
    pub fn grant(&mut self, node: NodeId, now: Tick) {
        self.granted.insert(node, now);
    }

    /// Whether `node` certainly holds no lease any more, of this keeper or of one before.
    #[must_use]
    pub fn has_ended(&self, node: NodeId, now: Tick) -> bool {
        let last = self.granted.get(&node).copied().unwrap_or(self.since).max(self.since);
        now.since(last) >= LEASE + MARGIN
    }

    /// For how many milliseconds nothing was heard of this run of `node`: counted from when it was first asked about, at
    /// the earliest, since a run that has only begun had nothing to say before.
    #[must_use]
    pub fn silent(&mut self, node: NodeId, home: HomeId, now: Tick) -> u64 {
        let met = self.met.entry(node).or_insert((home, now));
        if met.0 != home {
            *met = (home, now);
        }
        now.since(self.granted.get(&node).copied().unwrap_or(self.since).max(met.1))
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
        assert_eq!(lease.granted(Tick(100), Tick(400)), Some(1));
        assert!(!lease.is_held(Tick(400)), "not before it has caught up");
        lease.caught_up(1);
        assert!(lease.is_held(Tick(400)) && lease.is_held(Tick(100 + LEASE - 1)));
        assert!(!lease.is_held(Tick(100 + LEASE)));
        // An answer that comes too late grants nothing.
        assert_eq!(lease.granted(Tick(200), Tick(200 + LEASE)), None);
        assert!(!lease.is_held(Tick(200 + LEASE)));
    }

    #[test]
    fn renewals_go_on_and_a_gap_begins_a_new_spell() {
        let mut lease = Lease::default();
        assert_eq!(lease.granted(Tick(0), Tick(1)), Some(1));
        assert_eq!(lease.granted(Tick(1), Tick(2)), Some(1), "as long as it has not caught up");
        lease.caught_up(1);
        assert_eq!(lease.granted(Tick(300), Tick(301)), None);
        // An older answer that comes behind a newer one takes nothing back.
        assert_eq!(lease.granted(Tick(200), Tick(302)), None);
        assert!(lease.is_held(Tick(300 + LEASE - 1)));
        let late = Tick(300 + LEASE + 5);
        assert_eq!(lease.granted(late, late), Some(2));
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
        keeper.grant(NODE, granted);
        assert!(!keeper.has_ended(NODE, granted.plus_millis(LEASE + MARGIN - 1)));
        assert!(keeper.has_ended(NODE, granted.plus_millis(LEASE + MARGIN)));
        let home = HomeId(1);
        assert_eq!(keeper.silent(NODE, home, granted), 0);
        assert_eq!(keeper.silent(NODE, home, granted.plus_millis(3)), 3);
        // The next run of it has nothing to answer for.
        assert_eq!(keeper.silent(NODE, HomeId(2), granted.plus_millis(9_000)), 0);
        assert_eq!(keeper.silent(NODE, HomeId(2), granted.plus_millis(9_500)), 500);
    }

    /// Whatever the delays: while a holder takes its lease for held, no keeper says that it has ended.
    #[test]
    fn nobody_is_declared_without_a_lease_who_has_one() {
        for asked in (0..3_000).step_by(97) {
            for way_there in (0..2_000).step_by(211) {
                for way_back in (0..2_000).step_by(223) {
                    let (asked, granted) = (Tick(asked), Tick(asked + way_there));
                    let answered = Tick(asked.0 + way_there + way_back);
                    let (mut lease, mut keeper) = (Lease::default(), Keeper::new(Tick(0)));
                    keeper.grant(NODE, granted);
                    if let Some(spell) = lease.granted(asked, answered) {
                        lease.caught_up(spell);
                    }
                    // The next keeper is elected at the earliest behind the moment at which this one asked a majority.
                    let next = Keeper::new(granted);
                    for now in (0..8_000).step_by(53).map(Tick) {
                        assert!(!(lease.is_held(now) && keeper.has_ended(NODE, now)));
                        assert!(!(lease.is_held(now) && next.has_ended(NODE, now)));
                    }
                }
            }
        }
    }
}
