//! Mosquitto's ACL file, as mosquitto reads it.
#![allow(clippy::unwrap_used)]

use nightjar_mqtt::QoS::{AtMostOnce, ExactlyOnce};
use nightjar_policy::{Acl, Action, Policy, Rights, Who};

fn rights(text: &str, user: Option<&str>, client_id: &str) -> Rights {
    let acl = Acl::parse("acl", text).unwrap_or_else(|problems| panic!("{problems:?}"));
    Policy::Mosquitto(acl).rights(&Who { user, client_id, ..Who::default() })
}

fn writes(rights: &Rights, topic: &str) -> bool {
    rights.publish(topic, AtMostOnce, false)
}

#[test]
fn lists_belong_to_users() {
    let text = "topic read open/#\n\nuser al ice\ntopic write a b/c\ntopic readwrite x y\ntopic both\nuser bob\ntopic read b\nuser al ice\ntopic read more";
    let text = text.replace("topic write a b/c", "topic write ab/c");
    let alice = rights(&text, Some("al ice"), "c");
    assert!(writes(&alice, "ab/c") && !alice.receive("ab/c"));
    assert!(writes(&alice, "x y") && alice.receive("x y"));
    assert!(writes(&alice, "both") && alice.receive("both"));
    assert!(alice.receive("more"), "blocks of one user are one list");
    assert!(!alice.receive("open/1"), "what stands before the first user is of those without a name");
    let nobody = rights(&text, None, "c");
    assert!(nobody.receive("open/1") && !writes(&nobody, "open/1"));
    let unknown = rights(&text, Some("eve"), "c");
    assert!(!unknown.receive("open/1") && !unknown.receive("b"));
}

#[test]
fn deny_lines_come_first_wherever_they_stand() {
    let text = "user u\ntopic readwrite a/#\ntopic deny a/b\n";
    let u = rights(text, Some("u"), "c");
    assert!(writes(&u, "a/c") && !writes(&u, "a/b") && !u.receive("a/b"));
    let verdict = u.explain(Action::Receive, "a/b");
    assert_eq!(verdict.rule.map(|rule| (rule.line, rule.text)), Some((3, "topic deny a/b".to_owned())));
}

#[test]
fn a_line_with_other_access_does_not_decide() {
    let u = rights("user u\ntopic read a\ntopic write a\n", Some("u"), "c");
    assert!(u.receive("a") && writes(&u, "a"));
}

#[test]
fn patterns_follow_with_names_put_in() {
    let text = "pattern read %u/%c/#\npattern deny %u/%c/no\npattern write c/%c\n";
    let u = rights(text, Some("u"), "cl");
    assert!(u.receive("u/cl/x") && !u.receive("u/cl/no") && writes(&u, "c/cl"));
    let nameless = rights(text, None, "cl");
    assert!(writes(&nameless, "c/cl") && !nameless.receive("/cl/x"));
    for (user, client) in [("+", "cl"), ("u", "#"), ("u", "a+b")] {
        let wild = rights(text, Some(user), client);
        assert!(!wild.receive("u/cl/x") && !writes(&wild, "c/cl"), "{user} {client}");
    }
    assert!(rights("user +\ntopic a\n", Some("+"), "c").receive("a"), "its own list is still its own");
}

#[test]
fn every_subscribe_is_granted() {
    let none = rights("", Some("u"), "c");
    assert_eq!(none.subscribe("#", false, ExactlyOnce), Some(ExactlyOnce));
    assert!(!none.receive("a") && !writes(&none, "a"), "an empty file denies all (CVE-2018-12550)");
}

#[test]
fn only_bridge_states_are_written_under_sys() {
    let u = rights("user u\ntopic readwrite $SYS/#\ntopic readwrite #\n", Some("u"), "c");
    assert!(writes(&u, "$SYS/broker/connection/x/state") && !writes(&u, "$SYS/broker/uptime"));
    assert!(u.receive("$SYS/broker/uptime"));
    let all = rights("user u\ntopic readwrite #\n", Some("u"), "c");
    assert!(!all.receive("$SYS/broker/uptime"), "a wildcard at the beginning leaves out reserved trees");
}

#[test]
fn bad_lines_are_mistakes() {
    let problems =
        Acl::parse("acl", "# fine\ntopic a b\nuser\nusr x\ntopic a/#/b\n pattern read\ntopic\n").unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3, 4, 5, 7]);
}
