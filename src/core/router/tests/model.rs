//! The router against a list of subscriptions that is searched from end to end.

#![allow(clippy::unwrap_used)]

use nightjar_mqtt::{QoS, SubscriptionOptions};
use nightjar_router::Router;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Key = (String, Option<String>, u64);
type Wanted = (u64, u64, QoS, bool, Vec<u32>);

#[derive(Default)]
struct List(BTreeMap<Key, (u64, SubscriptionOptions)>);

fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([one, filter @ ..], [other, topic @ ..]) => (*one == "+" || one == other) && levels(filter, topic),
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    !hidden && levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

impl List {
    fn receivers(&self, topic: &str, publisher: u64) -> Vec<Wanted> {
        let mut receivers: BTreeMap<u64, Wanted> = BTreeMap::new();
        for ((filter, share, id), (handle, options)) in &self.0 {
            if share.is_some() || !matches(filter, topic) || options.no_local && *id == publisher {
                continue;
            }
            let wanted = receivers.entry(*id).or_insert((*id, *handle, QoS::AtMostOnce, false, Vec::new()));
            wanted.2 = wanted.2.max(options.qos);
            wanted.3 |= options.retain_as_published;
            wanted.4.extend(options.identifier);
            wanted.4.sort_unstable();
            wanted.4.dedup();
        }
        receivers.into_values().collect()
    }

    fn groups(&self, topic: &str) -> Vec<(String, Vec<Wanted>)> {
        let mut groups: BTreeMap<String, Vec<Wanted>> = BTreeMap::new();
        for ((filter, share, id), (handle, options)) in &self.0 {
            if let Some(share) = share
                && matches(filter, topic)
            {
                let identifiers = options.identifier.into_iter().collect();
                let member = (*id, *handle, options.qos, options.retain_as_published, identifiers);
                groups.entry(format!("$share/{share}/{filter}")).or_default().push(member);
            }
        }
        groups.into_iter().collect()
    }
}

fn wanted(receivers: &[nightjar_router::Receiver<u64>]) -> Vec<Wanted> {
    receivers
        .iter()
        .map(|r| (r.id, r.handle, r.qos, r.retain_as_published, r.identifiers.as_slice().to_vec()))
        .collect()
}

/// Both, and every step checked on both.
#[derive(Default)]
struct Pair {
    router: Router<u64>,
    list: List,
}

impl Pair {
    /// Handles derive from the id alone, as the broker's do.
    fn subscribe(&mut self, filter: &str, share: Option<&str>, id: u64, options: SubscriptionOptions) {
        let new = self.router.subscribe(filter, share, id, &(id * 10), options);
        let old = self.list.0.insert((filter.to_owned(), share.map(str::to_owned), id), (id * 10, options));
        assert_eq!(new, old.is_none(), "subscribe {filter} {share:?} {id}");
    }

    fn unsubscribe(&mut self, filter: &str, share: Option<&str>, id: u64) {
        let removed = self.router.unsubscribe(filter, share, id);
        let old = self.list.0.remove(&(filter.to_owned(), share.map(str::to_owned), id));
        assert_eq!(removed, old.is_some(), "unsubscribe {filter} {share:?} {id}");
    }

    fn plan(&self, topic: &str, publisher: u64) {
        let plan = self.router.plan(topic, publisher);
        assert_eq!(wanted(&plan.receivers), self.list.receivers(topic, publisher), "plan {topic} of {publisher}");
        let mut groups: Vec<_> = plan.groups.iter().map(|g| (g.share.to_string(), wanted(&g.members))).collect();
        groups.sort();
        let expected = self.list.groups(topic);
        assert_eq!(groups, expected, "groups of {topic}");
        let any = self.list.0.keys().any(|(filter, ..)| matches(filter, topic));
        assert_eq!(self.router.has_match(topic), any, "{topic}");
    }

    fn counts(&self) {
        let shared = self.list.0.keys().filter(|(_, share, _)| share.is_some()).count();
        assert_eq!((self.router.len(), self.router.shared_len()), (self.list.0.len(), shared));
        let mut filters: Vec<&str> = self.list.0.keys().map(|(filter, ..)| filter.as_str()).collect();
        filters.dedup();
        assert_eq!(self.router.filters(), filters.len());
        let mut prefixes: Vec<&str> = Vec::new();
        for filter in filters {
            let path = if filter == "#" { continue } else { filter.strip_suffix("/#").unwrap_or(filter) };
            prefixes.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
            prefixes.push(path);
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(self.router.nodes(), prefixes.len() + 1, "a node for each prefix, and the root");
    }
}

/// Deterministic numbers (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn topic(&mut self, of: &[&str]) -> String {
        let levels = 1 + self.below(4);
        let mut topic = self.one(of).to_owned();
        for _ in 1..levels {
            topic.push('/');
            topic.push_str(self.one(of));
        }
        topic
    }

    fn filter(&mut self, of: &[&str]) -> String {
        let filter = self.topic(of);
        match self.below(6) {
            0 => format!("{filter}/#"),
            1 if self.below(8) == 0 => "#".to_owned(),
            _ => filter,
        }
    }

    fn options(&mut self) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: QoS::from_bits(u8::try_from(self.below(3)).unwrap()).unwrap(),
            no_local: self.below(4) == 0,
            retain_as_published: self.below(4) == 0,
            identifier: (self.below(2) == 0).then(|| 1 + u32::try_from(self.below(5)).unwrap()),
            ..SubscriptionOptions::default()
        }
    }
}

/// `steps` steps in phases that fill, keep and empty the router, with `ids` subscribers.
fn run(seed: u64, steps: u64, texts: &[&str], ids: u64) {
    let mut numbers = Numbers(seed);
    let mut pair = Pair::default();
    let wild: Vec<&str> = texts.iter().copied().chain(["+", "+"]).collect();
    let mut grow = 5;
    for step in 0..steps {
        if step % 512 == 0 {
            grow = 1 + numbers.below(8);
            pair.counts();
        }
        let share = numbers.below(4);
        let share = ["g", "h"].get(usize::try_from(share).unwrap()).copied();
        let id = numbers.below(ids);
        match numbers.below(16) {
            0..4 => pair.plan(&numbers.topic(texts), id),
            dice if dice < 4 + grow && pair.list.0.len() < 200 => {
                let filter = numbers.filter(&wild);
                let options = numbers.options();
                pair.subscribe(&filter, share, id, options);
            }
            4 => pair.unsubscribe(&numbers.filter(&wild), share, id),
            _ => {
                let Some(nth) = numbers.below(1 + pair.list.0.len() as u64).checked_sub(1) else { continue };
                let (filter, share, id) = pair.list.0.keys().nth(usize::try_from(nth).unwrap()).unwrap().clone();
                pair.unsubscribe(&filter, share.as_deref(), id);
            }
        }
    }
    for (filter, share, id) in pair.list.0.keys().cloned().collect::<Vec<_>>() {
        pair.unsubscribe(&filter, share.as_deref(), id);
    }
    pair.counts();
    assert_eq!(pair.router.nodes(), 1);
}

#[test]
fn many_filters_with_few_subscribers_each() {
    run(1, 1_000_000, &["a", "b", "c", "", "$d", "longer than a level usually is"], 8);
}

#[test]
fn few_filters_with_many_subscribers_each() {
    run(2, 1_000_000, &["a", "$b"], 90);
}

#[test]
fn hardly_any_subscriptions() {
    run(3, 1_000_000, &["a", "b"], 2);
}

fn level(wild: bool) -> impl Strategy<Value = String> {
    let wildcards = if wild { 3 } else { 0 };
    prop_oneof![4 => "[ab]", 1 => "", 1 => "\\$[a]", 1 => "[^/+#\0]{0,3}", wildcards => Just("+".to_owned())]
}

fn path(wild: bool) -> impl Strategy<Value = String> {
    (prop::collection::vec(level(wild), 1..6), any::<u8>()).prop_map(move |(mut levels, dice)| {
        if wild && dice < 60 {
            levels.push("#".to_owned());
        }
        levels.join("/")
    })
}

proptest! {
    #[test]
    fn any_subscriptions_give_the_plan_that_the_list_gives(
        steps in prop::collection::vec((path(true), prop::option::of("[gh]"), 0..4_u64, 1..u64::MAX), 1..40),
        topics in prop::collection::vec(path(false), 1..20),
    ) {
        let mut pair = Pair::default();
        for (n, (filter, share, id, seed)) in steps.iter().enumerate() {
            pair.subscribe(filter, share.as_deref(), *id, Numbers(*seed).options());
            if n % 3 == 2 {
                let (filter, share, id, _) = &steps[n / 2];
                pair.unsubscribe(filter, share.as_deref(), *id);
            }
        }
        pair.counts();
        for topic in &topics {
            pair.plan(topic, 1);
        }
    }
}
