//! The routes: which nodes have transient subscribers for which filters.
//!
//! A spot is a place in the trie, with the nodes of its plain filter and those of each share name before it. Its row is
//! numbered when it is first written; the filter is read back from the trie then, and kept nowhere else.

use crate::node::{NodeSet, Seat};
use nightjar_mqtt::topic::{self, Filter};
use nightjar_trie::{Place, Slab, Trie};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A shared subscription with transient members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRoute {
    /// `$share/group/filter`.
    pub key: Arc<str>,
    /// The nodes that have members.
    pub nodes: NodeSet,
}

/// What a filter has.
#[derive(Default)]
pub(crate) struct Spot {
    /// None in a spot that is free.
    place: Option<Place>,
    /// Its row, as long as that has parts.
    pub(crate) row: u32,
    pub(crate) parts: u16,
    pub(crate) nodes: NodeSet,
    /// Ordered by key.
    #[expect(clippy::box_collection, reason = "few filters have any, and there may be a million filters")]
    groups: Option<Box<Vec<GroupRoute>>>,
}

/// All routes.
#[derive(Default)]
pub(crate) struct Routes {
    trie: Trie,
    spots: Slab<Spot>,
    pub(crate) epoch: u64,
    /// Spots that the next freeze writes.
    pub(crate) dirty: BTreeSet<u32>,
    /// Rows, with their parts, that the next freeze removes.
    pub(crate) graves: Vec<(u32, u16)>,
    /// The rows that were given out are below this.
    pub(crate) next_row: u32,
    /// Rows that are free again.
    pub(crate) free_rows: Vec<u32>,
}

/// Counts only: there may be a million filters.
impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("filters", &self.len()).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Spot {
    pub(crate) fn groups(&self) -> &[GroupRoute] {
        self.groups.as_ref().map_or(&[], |groups| groups.as_slice())
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.groups.is_none()
    }

    fn add(&mut self, share: Option<&str>, filter: &str, nodes: NodeSet) -> bool {
        let set = match share {
            None => &mut self.nodes,
            Some(share) => {
                let key = format!("$share/{share}/{filter}");
                let groups = self.groups.get_or_insert_default();
                let at = groups.binary_search_by(|group| (*group.key).cmp(&key)).unwrap_or_else(|at| {
                    groups.insert(at, GroupRoute { key: key.into(), nodes: NodeSet::default() });
                    at
                });
                &mut groups[at].nodes
            }
        };
        let before = *set;
        *set = set.union(nodes);
        *set != before
    }

    fn remove(&mut self, key: Option<&str>, seat: Seat) -> bool {
        let Some(key) = key else { return self.nodes.remove(seat) };
        let Some(groups) = &mut self.groups else { return false };
        let Some(group) = groups.iter_mut().find(|group| *group.key == *key) else { return false };
        let removed = group.nodes.remove(seat);
        self.drop_empty_groups();
        removed
    }

    fn remove_everywhere(&mut self, seat: Seat) -> bool {
        let mut removed = self.nodes.remove(seat);
        for group in self.groups.iter_mut().flat_map(|groups| groups.iter_mut()) {
            removed |= group.nodes.remove(seat);
        }
        self.drop_empty_groups();
        removed
    }

    fn drop_empty_groups(&mut self) {
        let Some(groups) = &mut self.groups else { return };
        groups.retain(|group| !group.nodes.is_empty());
        if groups.is_empty() {
            self.groups = None;
        }
    }
}

impl Routes {
    /// Changes the routes of one node; whether anything is different now. What is no filter is passed over: it was
    /// refused where it came from.
    pub(crate) fn change(&mut self, seat: Seat, added: &[Arc<str>], removed: &[Arc<str>]) -> bool {
        let mut changed = false;
        for text in removed {
            changed |= self.remove(text, seat);
        }
        for text in added {
            let Ok(filter) = topic::parse_filter(text) else { continue };
            let number = self.spot(filter.filter);
            if self.spots[number].add(filter.share, filter.filter, NodeSet::only(seat)) {
                self.dirty.insert(number);
                changed = true;
            }
        }
        self.epoch += u64::from(changed);
        changed
    }

    /// Removes all routes of one node; whether it had any.
    pub(crate) fn clear(&mut self, seat: Seat) -> bool {
        let mut hit = Vec::new();
        for (number, spot) in (0..).zip(self.spots.iter_mut()) {
            if spot.remove_everywhere(seat) {
                hit.push(number);
            }
        }
        for &number in &hit {
            self.settle(number);
        }
        self.compact();
        self.epoch += u64::from(!hit.is_empty());
        !hit.is_empty()
    }

    /// The number of a filter's spot, which may be new.
    fn spot(&mut self, filter: &str) -> u32 {
        let place = self.trie.make(filter);
        self.trie.slot(place).unwrap_or_else(|| {
            let number = self.spots.insert(Spot { place: Some(place), ..Spot::default() });
            self.trie.set_slot(place, number);
            number
        })
    }

    fn remove(&mut self, text: &str, seat: Seat) -> bool {
        let Ok(Filter { share, filter }) = topic::parse_filter(text) else { return false };
        let Some(number) = self.trie.find(filter).and_then(|place| self.trie.slot(place)) else { return false };
        let removed = self.spots[number].remove(share.map(|_| text), seat);
        if removed {
            self.settle(number);
            self.compact();
        }
        removed
    }

    /// Lets the next freeze write a spot that has changed, or forgets it when nobody is left in it.
    fn settle(&mut self, number: u32) {
        if !self.spots[number].is_empty() {
            self.dirty.insert(number);
            return;
        }
        let spot = self.spots.remove(number);
        self.dirty.remove(&number);
        if spot.parts > 0 {
            self.graves.push((spot.row, spot.parts));
        }
        if let Some(place) = spot.place {
            self.trie.prune(place);
        }
    }

    /// Gives memory back when most of it is unused. The work is what is left, a quarter of what was removed since the
    /// last time: constant for each removal.
    fn compact(&mut self) {
        let (live, occupied) = self.trie.fill();
        let (live, occupied) = (live + self.spots.live(), occupied + self.spots.occupied());
        if occupied <= 64 || live >= occupied / 4 {
            return;
        }
        let numbers = self.spots.compact();
        let nodes = self.trie.compact(&numbers);
        for spot in self.spots.iter_mut() {
            spot.place = spot.place.map(|place| place.moved(&nodes));
        }
        self.dirty = self.dirty.iter().map(|&number| numbers[number as usize]).collect();
    }

    fn visit(&self, topic: &str, mut each: impl FnMut(&Spot)) {
        let _ = self.trie.walk(topic, |number| {
            each(&self.spots[number]);
            ControlFlow::Continue(())
        });
    }

    pub(crate) fn nodes_for(&self, topic: &str) -> NodeSet {
        let mut nodes = NodeSet::default();
        self.visit(topic, |spot| nodes = nodes.union(spot.nodes));
        nodes
    }

    pub(crate) fn groups_for(&self, topic: &str, out: &mut Vec<GroupRoute>) {
        self.visit(topic, |spot| out.extend_from_slice(spot.groups()));
    }

    pub(crate) fn of(&self, seat: Seat) -> Vec<String> {
        let mut found = Vec::new();
        for spot in self.spots.iter() {
            if spot.nodes.contains(seat) {
                found.extend(self.filter(spot));
            }
            let groups = spot.groups().iter().filter(|group| group.nodes.contains(seat));
            found.extend(groups.map(|group| group.key.to_string()));
        }
        found.sort_unstable();
        found
    }

    fn filter(&self, spot: &Spot) -> Option<String> {
        spot.place.map(|place| self.trie.filter(place))
    }

    pub(crate) fn len(&self) -> usize {
        self.spots.live()
    }

    pub(crate) fn memory(&self) -> usize {
        let group = |group: &GroupRoute| size_of::<GroupRoute>() + group.key.len() + 16;
        let groups: usize = self.spots.iter().flat_map(Spot::groups).map(group).sum();
        self.trie.memory() + self.spots.memory() + groups
    }

    /// The row of a spot, which gets one if it has none.
    pub(crate) fn row(&mut self, number: u32) -> u32 {
        let spot = &self.spots[number];
        if spot.parts > 0 {
            return spot.row;
        }
        self.free_rows.pop().unwrap_or_else(|| {
            self.next_row += 1;
            self.next_row - 1
        })
    }

    /// The spot of a number in `dirty` and its filter, to write it.
    pub(crate) fn written(&mut self, number: u32) -> (&mut Spot, String) {
        let filter = self.filter(&self.spots[number]).unwrap_or_default();
        (&mut self.spots[number], filter)
    }

    /// Puts back what a row holds; `false` if its filter is none or has a row already.
    pub(crate) fn restore(
        &mut self,
        row: u32,
        parts: u16,
        filter: &str,
        nodes: NodeSet,
        groups: Vec<(String, NodeSet)>,
    ) -> bool {
        if topic::validate_filter(filter).is_err() {
            return false;
        }
        let number = self.spot(filter);
        let spot = &mut self.spots[number];
        if !spot.is_empty() || (nodes.is_empty() && groups.is_empty()) {
            return false;
        }
        (spot.row, spot.parts, spot.nodes) = (row, parts, nodes);
        for (share, nodes) in groups {
            spot.add(Some(&share), filter, nodes);
        }
        self.next_row = self.next_row.max(row.saturating_add(1));
        true
    }
}
