//! One test for each rule of matching and of plans.

use nightjar_mqtt::{QoS, SubscriptionOptions};
use nightjar_router::{Plan, Router};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NOBODY: u64 = u64::MAX;

fn router(filters: &[&str]) -> Router<u64> {
    let mut router = Router::new();
    for (id, filter) in (1..).zip(filters) {
        assert!(router.subscribe(filter, None, id, &id, SubscriptionOptions::default()));
    }
    router
}

fn ids<H>(plan: &Plan<H>) -> Vec<u64> {
    plan.receivers.iter().map(|receiver| receiver.id).collect()
}

fn matches(filter: &str, topic: &str) -> bool {
    let router = router(&[filter]);
    let matched = ids(&router.plan(topic, NOBODY)) == [1];
    assert_eq!(matched, router.has_match(topic), "{filter} {topic}");
    matched
}

fn options(qos: QoS, identifier: Option<u32>) -> SubscriptionOptions {
    SubscriptionOptions { qos, identifier, ..SubscriptionOptions::default() }
}

#[test]
fn the_examples_of_section_4_7_1_hold() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/#", "sports", false),
        ("#", "a", true),
        ("#", "/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("/finance", "/finance", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "x/tennis", true),
        ("/#", "/", true),
        ("/#", "a", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/b", "a/b/", false),
        ("a/b", "A/b", false),
        ("a/+/#", "a", false),
        ("a/+/#", "a/b", true),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

/// [MQTT-4.7.2-1]
#[test]
fn leading_wildcards_do_not_match_dollar_topics() {
    for (filter, topic, expected) in [
        ("#", "$SYS/uptime", false),
        ("#", "$SYS", false),
        ("+", "$SYS", false),
        ("+/uptime", "$SYS/uptime", false),
        ("+/#", "$SYS/uptime", false),
        ("$SYS/#", "$SYS/uptime", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/+", "$SYS/uptime", true),
        ("+/uptime", "a/uptime", true),
        ("a/+", "a/$SYS", true),
        ("a/#", "a/$SYS", true),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn overlapping_filters_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    let mut router = Router::new();
    router.subscribe("a/#", None, 7, &(), options(QoS::AtLeastOnce, Some(30)));
    router.subscribe("a/+", None, 7, &(), options(QoS::ExactlyOnce, Some(10)));
    router.subscribe("+/b", None, 7, &(), options(QoS::AtMostOnce, None));
    router.subscribe("a/b", None, 7, &(), options(QoS::AtMostOnce, Some(20)));
    router.subscribe("#", None, 7, &(), options(QoS::AtMostOnce, Some(30)));
    router.subscribe("a/b", None, 3, &(), options(QoS::AtMostOnce, None));
    let plan = router.plan("a/b", NOBODY);
    assert_eq!(ids(&plan), [3, 7]);
    assert_eq!(plan.receivers[1].qos, QoS::ExactlyOnce);
    assert_eq!(plan.receivers[1].identifiers.as_slice(), [10, 20, 30]);
    assert!(plan.receivers[0].identifiers.is_empty());
}

#[test]
fn retain_as_published_holds_if_any_subscription_has_it() {
    let mut router = Router::new();
    let published = SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::default() };
    router.subscribe("a", None, 1, &(), published);
    router.subscribe("+", None, 1, &(), SubscriptionOptions::default());
    router.subscribe("+", None, 2, &(), SubscriptionOptions::default());
    let plan = router.plan("a", NOBODY);
    assert_eq!(plan.receivers.iter().map(|receiver| receiver.retain_as_published).collect::<Vec<_>>(), [true, false]);
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_leaves_out_the_publisher_but_only_that_subscription() {
    let mut router = Router::new();
    let no_local = SubscriptionOptions { no_local: true, ..options(QoS::ExactlyOnce, Some(1)) };
    router.subscribe("a", None, 1, &(), no_local);
    router.subscribe("a", None, 2, &(), no_local);
    assert_eq!(ids(&router.plan("a", 1)), [2]);
    assert_eq!(ids(&router.plan("a", NOBODY)), [1, 2]);
    router.subscribe("+", None, 1, &(), options(QoS::AtMostOnce, Some(2)));
    let plan = router.plan("a", 1);
    assert_eq!(ids(&plan), [1, 2]);
    assert_eq!(plan.receivers[0].qos, QoS::AtMostOnce);
    assert_eq!(plan.receivers[0].identifiers.as_slice(), [2]);
}

#[test]
fn subscribing_again_replaces_options_and_handle() {
    let mut router = Router::new();
    assert!(router.subscribe("a", None, 1, &"old", options(QoS::AtMostOnce, Some(1))));
    assert!(!router.subscribe("a", None, 1, &"new", options(QoS::AtLeastOnce, None)));
    let plan = router.plan("a", NOBODY);
    assert_eq!(plan.receivers.len(), 1);
    assert_eq!((plan.receivers[0].handle, plan.receivers[0].qos), ("new", QoS::AtLeastOnce));
    assert!(plan.receivers[0].identifiers.is_empty());
    assert_eq!(router.len(), 1);
}

#[test]
fn a_subscription_is_removed_once_and_alone() {
    let mut router = router(&["a/b", "a/b", "a/+", "a/#"]);
    assert!(!router.unsubscribe("a/b", None, 3));
    assert!(!router.unsubscribe("a", None, 1));
    assert!(!router.unsubscribe("x/y/z", None, 1));
    assert!(!router.unsubscribe("a/b", Some("g"), 1));
    assert!(router.unsubscribe("a/b", None, 1));
    assert!(!router.unsubscribe("a/b", None, 1));
    assert_eq!(ids(&router.plan("a/b", NOBODY)), [2, 3, 4]);
    assert_eq!(router.len(), 3);
}

/// [MQTT-4.8.2-1]: share name and filter together are the group.
#[test]
fn each_filter_of_a_share_name_is_its_own_group() {
    let mut router = Router::new();
    for (filter, share, id) in [("a", "g", 2), ("a", "g", 1), ("+", "g", 1), ("a", "h", 3)] {
        assert!(router.subscribe(filter, Some(share), id, &id, SubscriptionOptions::default()));
    }
    assert!(router.subscribe("a", None, 1, &1, SubscriptionOptions::default()));
    let plan = router.plan("a", 1);
    let groups: Vec<(&str, Vec<u64>)> = plan
        .groups
        .iter()
        .map(|group| (&*group.share, group.members.iter().map(|member| member.id).collect()))
        .collect();
    assert_eq!(groups, [("$share/g/+", vec![1]), ("$share/g/a", vec![1, 2]), ("$share/h/a", vec![3])]);
    assert_eq!(ids(&plan), [1], "a plain subscription beside a shared one stands for itself");
    assert_eq!((router.len(), router.shared_len()), (5, 4));
    assert!(router.plan("$a", NOBODY).groups.is_empty());
}

#[test]
fn plans_share_a_groups_members_and_its_turn() {
    let mut router = Router::new();
    for id in 0..100 {
        router.subscribe("a", Some("g"), id, &id, options(QoS::AtLeastOnce, Some(5)));
    }
    let (one, two) = (router.plan("a", NOBODY), router.plan("a", NOBODY));
    assert!(Arc::ptr_eq(&one.groups[0].members, &two.groups[0].members));
    one.groups[0].turn.fetch_add(3, Ordering::Relaxed);
    assert!(!router.subscribe("a", Some("g"), 5, &5, options(QoS::ExactlyOnce, None)));
    assert!(router.unsubscribe("a", Some("g"), 0));
    assert!(!router.unsubscribe("a", Some("g"), 0));
    let three = router.plan("a", NOBODY);
    assert_eq!(three.groups[0].turn.load(Ordering::Relaxed), 3, "a change of members does not begin the rotation anew");
    assert_eq!((one.groups[0].members.len(), three.groups[0].members.len()), (100, 99));
    assert_eq!(three.groups[0].members[4].qos, QoS::ExactlyOnce);
    for id in 1..100 {
        assert!(router.has_match("a"));
        assert!(router.unsubscribe("a", Some("g"), id));
    }
    assert!(!router.has_match("a"));
    assert!(router.is_empty());
    assert!(router.plan("a", NOBODY).is_empty());
}

#[test]
fn receivers_are_ordered_by_id_however_many_there_are() {
    let mut router = Router::new();
    let mut expected = Vec::new();
    for step in 0..1000_u64 {
        let id = step * 7919 % 1009;
        router.subscribe("a/b", None, id, &id, SubscriptionOptions::default());
        expected.push(id);
        if step % 2 == 0 {
            router.subscribe("a/#", None, id, &id, SubscriptionOptions::default());
        }
    }
    expected.sort_unstable();
    assert_eq!(ids(&router.plan("a/b", NOBODY)), expected);
}
