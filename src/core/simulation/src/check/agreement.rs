//! Agreement: replicas that have applied the same log hold the same state.

use super::tale::Tale;
use crate::history::Event;
use std::collections::BTreeMap;

/// Replicas that differ.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let (mut states, mut broken) = (BTreeMap::new(), Vec::new());
    for event in tale.history.iter() {
        let Event::Standing { node, shard, index, digest } = event else { continue };
        let (other, state) = *states.entry((*shard, *index)).or_insert((*node, *digest));
        if state != *digest {
            broken.push(format!("nodes {other} and {node} differ in shard {shard} at {index}"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up::judge;
    use super::check;
    use crate::history::Event;

    #[test]
    fn the_same_log_is_the_same_state() {
        let at = |node, index, digest| Event::Standing { node, shard: 0, index, digest };
        assert_eq!(judge(check, vec![at(0, 5, 1), at(1, 5, 1), at(2, 6, 2)]).len(), 0);
        assert_eq!(judge(check, vec![at(0, 5, 1), at(1, 5, 2)]).len(), 1);
    }
}
