//! The trie of topic filters: which slots a filter owns and which slots a topic matches.

use crate::levels::Levels;
use crate::slab::{NONE, Slab};
use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::{SmallVec, smallvec};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

const ROOT: u32 = 0;

/// In [`Node::level`]: the single-level wildcard, which is its parent's `plus` and no edge of the table.
const PLUS: u32 = u32::MAX - 1;

/// One prefix of the filters in the trie. Links and slots are numbers; `NONE` where there is none.
struct Node {
    parent: u32,
    level: u32,
    plus: u32,
    /// How many edges of the table start here.
    children: u32,
    /// The slot of the filter that ends here.
    exact: u32,
    /// The slot of the filter that goes on with `/#`.
    multi: u32,
}

impl Default for Node {
    fn default() -> Self {
        Self { parent: NONE, level: NONE, plus: NONE, children: 0, exact: NONE, multi: NONE }
    }
}

/// Where a filter's slot is: at a node, and which of its two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    node: u32,
    multi: bool,
}

impl Place {
    /// Where the place is after [`Trie::compact`], which returned `nodes`.
    #[must_use]
    pub fn moved(self, nodes: &[u32]) -> Self {
        Self { node: nodes[self.node as usize], ..self }
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self::new()
    }
}

/// Filters to slots.
pub struct Trie {
    nodes: Slab<Node>,
    levels: Levels,
    /// Nodes by (parent, level), both read from the node itself.
    edges: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[inline]
fn edge_hash(hasher: &DefaultHashBuilder, parent: u32, level: u32) -> u64 {
    hasher.hash_one(u64::from(parent) << 32 | u64::from(level))
}

/// The levels of `filter` that are nodes, and whether `#` follows them.
fn path(filter: &str) -> (impl Iterator<Item = &str>, bool) {
    let (levels, multi) = match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(rest) => rest.strip_suffix('/').map_or((Some(filter), false), |levels| (Some(levels), true)),
        None => (Some(filter), false),
    };
    (levels.into_iter().flat_map(|levels| levels.split('/')), multi)
}

impl Trie {
    /// No filters.
    #[must_use]
    pub fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        Self { nodes, levels: Levels::new(), edges: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    #[inline]
    fn child(&self, parent: u32, level: u32) -> Option<u32> {
        let same = |&number: &u32| self.nodes[number].parent == parent && self.nodes[number].level == level;
        self.edges.find(edge_hash(&self.hasher, parent, level), same).copied()
    }

    /// Where `filter` is, if the trie has its path.
    #[must_use]
    pub fn find(&self, filter: &str) -> Option<Place> {
        let (levels, multi) = path(filter);
        let mut node = ROOT;
        for text in levels {
            node = match text {
                "+" => Some(self.nodes[node].plus).filter(|&plus| plus != NONE)?,
                _ => self.child(node, self.levels.find(text)?)?,
            };
        }
        Some(Place { node, multi })
    }

    /// Where `filter` is; its path is made if it is not there. A place without a slot must be given one or pruned.
    pub fn make(&mut self, filter: &str) -> Place {
        let (levels, multi) = path(filter);
        let mut node = ROOT;
        for text in levels {
            node = if text == "+" { self.make_plus(node) } else { self.make_child(node, text) };
        }
        Place { node, multi }
    }

    fn make_plus(&mut self, parent: u32) -> u32 {
        if self.nodes[parent].plus == NONE {
            let number = self.nodes.insert(Node { parent, level: PLUS, ..Node::default() });
            self.nodes[parent].plus = number;
        }
        self.nodes[parent].plus
    }

    fn make_child(&mut self, parent: u32, text: &str) -> u32 {
        let level = self.levels.intern(text);
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        self.levels.used(level);
        self.nodes[parent].children += 1;
        let number = self.nodes.insert(Node { parent, level, ..Node::default() });
        self.add_edge(number);
        number
    }

    fn add_edge(&mut self, number: u32) {
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let hash = |&number: &u32| edge_hash(hasher, nodes[number].parent, nodes[number].level);
        self.edges.insert_unique(hash(&number), number, hash);
    }

    /// The slot at `place`.
    #[must_use]
    pub fn slot(&self, place: Place) -> Option<u32> {
        let node = &self.nodes[place.node];
        Some(if place.multi { node.multi } else { node.exact }).filter(|&slot| slot != NONE)
    }

    /// Gives `place` its slot.
    pub fn set_slot(&mut self, place: Place, slot: u32) {
        let node = &mut self.nodes[place.node];
        *(if place.multi { &mut node.multi } else { &mut node.exact }) = slot;
    }

    /// Takes the slot from `place`, and every node that then leads nowhere.
    pub fn prune(&mut self, place: Place) {
        self.set_slot(place, NONE);
        let mut number = place.node;
        while number != ROOT {
            let node = &self.nodes[number];
            if node.exact != NONE || node.multi != NONE || node.plus != NONE || node.children > 0 {
                return;
            }
            let (parent, level) = (node.parent, node.level);
            if level == PLUS {
                self.nodes[parent].plus = NONE;
            } else {
                let hash = edge_hash(&self.hasher, parent, level);
                if let Ok(entry) = self.edges.find_entry(hash, |&other| other == number) {
                    entry.remove();
                }
                self.nodes[parent].children -= 1;
                self.levels.release(level);
            }
            self.nodes.remove(number);
            number = parent;
        }
    }

    /// Calls `visit` with the slot of every filter that matches `topic`, shorter filters first, until it breaks.
    ///
    /// The active nodes are those whose prefix matches the topic so far. At most two follow from each, and no node is
    /// active twice, so there are never more than the filters in the trie have prefixes of this length.
    pub fn walk(&self, topic: &str, mut visit: impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut active: SmallVec<[u32; 16]> = smallvec![ROOT];
        let mut next: SmallVec<[u32; 16]> = SmallVec::new();
        // [MQTT-4.7.2-1]: no filter that begins with a wildcard matches a topic that begins with `$`.
        let mut wildcards = !topic.starts_with('$');
        for text in topic.split('/') {
            let mut level = None;
            for &number in &active {
                let node = &self.nodes[number];
                if wildcards && node.multi != NONE {
                    visit(node.multi)?;
                }
                if wildcards && node.plus != NONE {
                    next.push(node.plus);
                }
                if node.children > 0
                    && let Some(level) = *level.get_or_insert_with(|| self.levels.find(text))
                    && let Some(child) = self.child(number, level)
                {
                    next.push(child);
                }
            }
            if next.is_empty() {
                return ControlFlow::Continue(());
            }
            std::mem::swap(&mut active, &mut next);
            next.clear();
            wildcards = true;
        }
        for &number in &active {
            let node = &self.nodes[number];
            // `#` includes its parent level (section 4.7.1.2): "a/#" matches "a".
            for slot in [node.multi, node.exact] {
                if slot != NONE {
                    visit(slot)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The filter at `place`.
    #[must_use]
    pub fn filter(&self, place: Place) -> String {
        let mut levels: SmallVec<[&str; 16]> = SmallVec::new();
        if place.multi {
            levels.push("#");
        }
        let mut number = place.node;
        while number != ROOT {
            let node = &self.nodes[number];
            levels.push(if node.level == PLUS { "+" } else { self.levels.text(node.level) });
            number = node.parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// How many nodes there are, the root included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.live()
    }

    /// Entries in use, and entries that memory is held for.
    #[must_use]
    pub fn fill(&self) -> (usize, usize) {
        (self.nodes.live() + self.levels.live(), self.nodes.occupied() + self.levels.occupied())
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.nodes.memory() + self.levels.memory() + self.edges.allocation_size()
    }

    /// Gives memory back; `slots` has the new number of each old slot, or nothing if they keep theirs.
    /// Returns what [`Place::moved`] needs: every place that was kept is another now.
    pub fn compact(&mut self, slots: &[u32]) -> Vec<u32> {
        let levels = self.levels.compact();
        let nodes = self.nodes.compact();
        // `NONE` and `PLUS` are beyond every table.
        let renumber = |number: &mut u32, moved: &[u32]| {
            if let Some(&new) = moved.get(*number as usize) {
                *number = new;
            }
        };
        for node in self.nodes.iter_mut() {
            renumber(&mut node.parent, &nodes);
            renumber(&mut node.plus, &nodes);
            renumber(&mut node.level, &levels);
            renumber(&mut node.exact, slots);
            renumber(&mut node.multi, slots);
        }
        let live = u32::try_from(self.nodes.live()).expect("nodes are numbered by u32");
        let edges = (ROOT + 1..live).filter(|&number| self.nodes[number].level != PLUS);
        let edges: Vec<u32> = edges.collect();
        self.edges = HashTable::with_capacity(edges.len());
        for number in edges {
            self.add_edge(number);
        }
        nodes
    }
}
