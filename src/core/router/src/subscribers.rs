//! Who subscribed with one filter: mostly one, sometimes very many, sometimes groups.

use crate::plan::{GroupPlan, Receiver};
use nightjar_mqtt::{QoS, SubscriptionOptions};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

/// One subscriber's subscription with one filter, as small as a plan allows.
pub(crate) struct Subscription<H> {
    pub(crate) id: u64,
    pub(crate) handle: H,
    /// 0, which is no valid subscription identifier, if the client gave none.
    pub(crate) identifier: u32,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

impl<H> Subscription<H> {
    pub(crate) fn new(id: u64, handle: H, options: SubscriptionOptions) -> Self {
        Self {
            id,
            handle,
            identifier: options.identifier.unwrap_or(0),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }
}

/// Subscriptions by subscriber, each once, ordered by id.
pub(crate) enum Members<H> {
    /// Up to `FEW`, sorted: no more memory than they need.
    Few(Vec<Subscription<H>>),
    /// Any number, so that the ten thousandth costs no more to add than the hundredth.
    Many(BTreeMap<u64, Subscription<H>>),
}

const FEW: usize = 32;

impl<H> Members<H> {
    const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Adds or replaces; returns whether it is new.
    fn insert(&mut self, subscription: Subscription<H>) -> bool {
        match self {
            Self::Few(few) => match few.binary_search_by_key(&subscription.id, |member| member.id) {
                Ok(at) => {
                    few[at] = subscription;
                    false
                }
                Err(at) => {
                    few.insert(at, subscription);
                    if few.len() > FEW {
                        let few = std::mem::take(few);
                        *self = Self::Many(few.into_iter().map(|member| (member.id, member)).collect());
                    }
                    true
                }
            },
            Self::Many(many) => many.insert(subscription.id, subscription).is_none(),
        }
    }

    fn remove(&mut self, id: u64) -> bool {
        match self {
            Self::Few(few) => few.binary_search_by_key(&id, |member| member.id).map(|at| few.remove(at)).is_ok(),
            Self::Many(many) => {
                let removed = many.remove(&id).is_some();
                // Half, so that one who comes and goes does not convert them each time.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(many).into_values().collect());
                }
                removed
            }
        }
    }

    fn each<'a>(&'a self, visit: impl FnMut(&'a Subscription<H>)) {
        match self {
            Self::Few(few) => few.iter().for_each(visit),
            Self::Many(many) => many.values().for_each(visit),
        }
    }
}

/// The members of one shared subscription: one share name and one filter [MQTT-4.8.2-1].
struct Group<H> {
    /// The whole filter, `$share/…/…`.
    share: Arc<str>,
    members: Members<H>,
    /// What plans hold of the members. Made by the first plan after a change: a thousand who subscribe one after the
    /// other cost one copy, not a thousand.
    receivers: OnceLock<Arc<[Receiver<H>]>>,
    turn: Arc<AtomicUsize>,
}

impl<H: Clone> Group<H> {
    fn plan(&self) -> GroupPlan<H> {
        let members = self.receivers.get_or_init(|| {
            let mut receivers = Vec::with_capacity(self.members.len());
            self.members.each(|member| receivers.push(Receiver::of(member)));
            receivers.into()
        });
        GroupPlan { share: Arc::clone(&self.share), members: Arc::clone(members), turn: Arc::clone(&self.turn) }
    }
}

/// Everyone who subscribed with one filter.
#[derive(Default)]
pub(crate) enum Subscribers<H> {
    /// No filter's: an empty slot.
    #[default]
    None,
    /// The common case, without an allocation of its own.
    One(Subscription<H>),
    /// More than one, or groups.
    Full(Box<Full<H>>),
}

/// Plain subscribers and groups by share name.
pub(crate) struct Full<H> {
    plain: Members<H>,
    groups: BTreeMap<Box<str>, Group<H>>,
}

impl<H: Clone> Subscribers<H> {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The number of plain subscribers.
    pub(crate) fn plain_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Full(full) => full.plain.len(),
        }
    }

    fn full(&mut self) -> &mut Full<H> {
        if !matches!(self, Self::Full(_)) {
            let mut plain = Members::new();
            if let Self::One(subscription) = std::mem::take(self) {
                plain.insert(subscription);
            }
            *self = Self::Full(Box::new(Full { plain, groups: BTreeMap::new() }));
        }
        match self {
            Self::Full(full) => full,
            Self::None | Self::One(_) => unreachable!("made full above"),
        }
    }

    /// Goes back to the small forms when they suffice.
    fn settle(&mut self) {
        let Self::Full(full) = self else { return };
        if !full.groups.is_empty() || full.plain.len() > 1 {
            return;
        }
        let last = match &mut full.plain {
            Members::Few(few) => few.pop(),
            Members::Many(many) => many.pop_first().map(|(_, member)| member),
        };
        *self = last.map_or(Self::None, Self::One);
    }

    /// Adds or replaces a plain subscription; returns whether it is new.
    pub(crate) fn insert(&mut self, subscription: Subscription<H>) -> bool {
        match self {
            Self::None => {
                *self = Self::One(subscription);
                true
            }
            Self::One(one) if one.id == subscription.id => {
                *one = subscription;
                false
            }
            _ => self.full().plain.insert(subscription),
        }
    }

    /// Adds or replaces a subscription that is shared under `share`; returns whether it is new.
    pub(crate) fn insert_shared(&mut self, share: &str, filter: &str, subscription: Subscription<H>) -> bool {
        let groups = &mut self.full().groups;
        if let Some(group) = groups.get_mut(share) {
            group.receivers.take();
            return group.members.insert(subscription);
        }
        let mut members = Members::new();
        members.insert(subscription);
        let group = Group {
            share: format!("$share/{share}/{filter}").into(),
            members,
            receivers: OnceLock::new(),
            turn: Arc::new(AtomicUsize::new(0)),
        };
        groups.insert(share.into(), group);
        true
    }

    /// Removes a plain subscription; returns whether it was there.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let removed = match self {
            Self::None => false,
            Self::One(one) if one.id == id => {
                *self = Self::None;
                true
            }
            Self::One(_) => false,
            Self::Full(full) => full.plain.remove(id),
        };
        self.settle();
        removed
    }

    /// Removes a shared subscription; returns whether it was there.
    pub(crate) fn remove_shared(&mut self, share: &str, id: u64) -> bool {
        let Self::Full(full) = self else { return false };
        let Some(group) = full.groups.get_mut(share) else { return false };
        let removed = group.members.remove(id);
        group.receivers.take();
        if group.members.len() == 0 {
            full.groups.remove(share);
        }
        self.settle();
        removed
    }

    /// Visits the plain subscriptions in the order of their subscribers' ids.
    pub(crate) fn each<'a>(&'a self, mut visit: impl FnMut(&'a Subscription<H>)) {
        match self {
            Self::None => {}
            Self::One(one) => visit(one),
            Self::Full(full) => full.plain.each(visit),
        }
    }

    /// The groups, by share name.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupPlan<H>> {
        let groups = match self {
            Self::Full(full) => Some(full.groups.values().map(Group::plan)),
            Self::None | Self::One(_) => None,
        };
        groups.into_iter().flatten()
    }

    /// Bytes outside of this value.
    pub(crate) fn memory(&self) -> usize {
        let Self::Full(full) = self else { return 0 };
        let subscription = size_of::<Subscription<H>>();
        let members = |members: &Members<H>| match members {
            Members::Few(few) => few.capacity() * subscription,
            // Leaves of eleven, two thirds full.
            Members::Many(many) => many.len() * (subscription + 8) * 3 / 2,
        };
        let group = |group: &Group<H>| {
            let shared = group.receivers.get().map_or(0, |receivers| size_of_val::<[_]>(receivers));
            // The share name is also the key.
            members(&group.members) + shared + 2 * group.share.len() + size_of::<Group<H>>() + 64
        };
        size_of::<Full<H>>() + members(&full.plain) + full.groups.values().map(group).sum::<usize>()
    }
}
