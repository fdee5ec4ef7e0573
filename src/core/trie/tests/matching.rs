//! The trie against the plain comparison of a filter with a topic.
#![allow(clippy::unwrap_used, missing_docs)]

use nightjar_mqtt::topic;
use nightjar_trie::{Place, Trie};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn text(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..5).prop_map(|levels| levels.join("/"))
}

fn filter() -> impl Strategy<Value = String> {
    text(&["a", "b", "", "+", "$x", "#"])
        .prop_filter("a filter", |text| !text.is_empty() && topic::validate_filter(text).is_ok())
}

fn name() -> impl Strategy<Value = String> {
    text(&["a", "b", "", "c", "$x"]).prop_filter("a topic", |text| !text.is_empty())
}

fn found(trie: &Trie, topic: &str) -> Vec<u32> {
    let mut slots = Vec::new();
    let _ = trie.walk(topic, |slot| {
        slots.push(slot);
        ControlFlow::Continue(())
    });
    slots.sort_unstable();
    slots
}

proptest! {
    #[test]
    fn what_matches_is_found(steps in prop::collection::vec((filter(), any::<bool>()), 1..60), topics in prop::collection::vec(name(), 8)) {
        let mut trie = Trie::new();
        let mut places: BTreeMap<u32, (String, Place)> = BTreeMap::new();
        for (number, (filter, compact)) in (0..).zip(steps) {
            let place = trie.make(&filter);
            match trie.slot(place) {
                Some(slot) => {
                    trie.prune(place);
                    places.remove(&slot);
                }
                None => {
                    trie.set_slot(place, number);
                    places.insert(number, (filter, place));
                }
            }
            if compact {
                let nodes = trie.compact(&[]);
                places.values_mut().for_each(|(_, place)| *place = place.moved(&nodes));
            }
        }
        for (slot, (filter, place)) in &places {
            prop_assert_eq!(trie.find(filter), Some(*place));
            prop_assert_eq!(trie.slot(*place), Some(*slot));
            prop_assert_eq!(&trie.filter(*place), filter);
        }
        for topic in &topics {
            let wanted: Vec<u32> = places
                .iter()
                .filter(|(_, (filter, _))| topic::matches(filter, topic))
                .map(|(&slot, _)| slot)
                .collect();
            prop_assert_eq!(found(&trie, topic), wanted, "{}", topic);
        }
    }
}
