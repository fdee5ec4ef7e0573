//! What the control group is told of this node's transient subscribers: which filters have any.

use nightjar_base::HomeId;
use nightjar_control::ControlOp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Filters that are told at once, well within the largest op.
const FILTERS: usize = 4_096;
/// Bytes of them.
const BYTES: usize = 1 << 20;

/// The filters of this node's transient subscribers, each with how many there are.
#[derive(Debug, Default)]
pub(super) struct Local {
    filters: HashMap<Arc<str>, u32>,
    /// Filters that may be others than what was told.
    changed: BTreeSet<Arc<str>>,
    /// What was told, under the present home.
    told: HashSet<Arc<str>>,
    /// Counts changes.
    version: u64,
}

impl Local {
    /// One more subscriber has `filter`; whether that is news.
    pub(super) fn added(&mut self, filter: &str) -> bool {
        if let Some(count) = self.filters.get_mut(filter) {
            *count += 1;
            return false;
        }
        let filter: Arc<str> = filter.into();
        self.filters.insert(Arc::clone(&filter), 1);
        self.changed.insert(filter);
        self.version += 1;
        true
    }

    /// One fewer has it; whether that is news.
    pub(super) fn removed(&mut self, filter: &str) -> bool {
        let Some(count) = self.filters.get_mut(filter) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        if let Some((filter, _)) = self.filters.remove_entry(filter) {
            self.changed.insert(filter);
            self.version += 1;
        }
        true
    }

    /// Nothing of it is known to anybody: this process has a new home.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
        self.version += 1;
        self.changed = self.filters.keys().cloned().collect();
    }

    /// The count of changes so far: what is told up to here is known to all.
    #[must_use]
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The next op that has to be agreed on, and which version is told with it, if that is so of any; [`Self::told`] is to
    /// be called when it is.
    #[must_use]
    pub(super) fn op(&self, home: HomeId) -> Option<(ControlOp, Option<u64>)> {
        let (mut added, mut removed, mut bytes, mut all) = (Vec::new(), Vec::new(), 0, true);
        for filter in &self.changed {
            match (self.filters.contains_key(filter), self.told.contains(filter)) {
                (true, false) => added.push(Arc::clone(filter)),
                (false, true) => removed.push(Arc::clone(filter)),
                _ => continue,
            }
            bytes += filter.len();
            if added.len() + removed.len() >= FILTERS || bytes >= BYTES {
                all = false;
                break;
            }
        }
        let is_any = !added.is_empty() || !removed.is_empty();
        is_any.then(|| (ControlOp::Routes { home, added, removed }, all.then_some(self.version)))
    }

    /// What [`Self::op`] gave has been agreed on.
    pub(super) fn told(&mut self, op: &ControlOp) {
        let ControlOp::Routes { added, removed, .. } = op else { return };
        self.told.extend(added.iter().cloned());
        removed.iter().for_each(|filter| {
            self.told.remove(filter);
        });
        let Self { filters, changed, told, .. } = self;
        changed.retain(|filter| filters.contains_key(filter) != told.contains(filter));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOME: HomeId = HomeId(7);

    fn op(added: &[&str], removed: &[&str], version: u64) -> Option<(ControlOp, Option<u64>)> {
        let all = |of: &[&str]| of.iter().map(|filter| Arc::from(*filter)).collect();
        Some((ControlOp::Routes { home: HOME, added: all(added), removed: all(removed) }, Some(version)))
    }

    #[test]
    fn only_the_first_and_the_last_subscriber_are_news() {
        let mut local = Local::default();
        assert!(local.added("a") && !local.added("a") && local.added("b"));
        let first = local.op(HOME);
        assert_eq!(first, op(&["a", "b"], &[], 2));
        // One goes while the others are being told.
        assert!(local.removed("b") && !local.removed("a"));
        local.told(&first.unwrap().0);
        let second = local.op(HOME);
        assert_eq!(second, op(&[], &["b"], 3));
        local.told(&second.unwrap().0);
        assert!(local.op(HOME).is_none());
        assert!(!local.removed("b"));
        local.forget_told();
        assert_eq!(local.op(HOME), op(&["a"], &[], 4));
    }

    #[test]
    fn what_came_and_went_is_not_told() {
        let mut local = Local::default();
        local.added("a");
        local.removed("a");
        assert!(local.op(HOME).is_none());
    }

    #[test]
    fn what_is_too_much_for_one_op_is_told_with_the_last() {
        let mut local = Local::default();
        (0..FILTERS + 1).for_each(|number| assert!(local.added(&number.to_string())));
        let (first, version) = local.op(HOME).unwrap();
        assert_eq!(version, None);
        local.told(&first);
        assert_eq!(local.op(HOME).unwrap().1, Some(FILTERS as u64 + 1));
    }
}
