//! Our own rules file: its grammar, and what its rules come to.
#![allow(clippy::unwrap_used)]

use nightjar_mqtt::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use nightjar_policy::{Action, Grants, Policy, Rights, Rules, Who};
use proptest::prelude::*;

fn rights(text: &str, user: Option<&str>, client_id: &str) -> Rights {
    let rules = Rules::parse("rules", text).unwrap_or_else(|problems| panic!("{problems:?}"));
    Policy::Rules(rules).rights(&Who { user, client_id, ..Who::default() })
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text = "
        # what nobody may
        deny everyone to publish on alarm/#
        allow user alice to publish, subscribe on # \"with space/+\"
        deny user alice to all on secret
    ";
    let alice = rights(text, Some("alice"), "c");
    assert!(!alice.publish("alarm/1", AtMostOnce, false));
    assert!(alice.publish("secret", ExactlyOnce, true), "the allow stands before the deny");
    assert!(alice.receive("with space/x"));
    assert!(!alice.receive("$SYS/x"), "a wildcard at the beginning leaves out reserved trees");
    let bob = rights(text, Some("bob"), "c");
    assert!(!bob.publish("a", AtMostOnce, false), "what no rule allows is denied");
}

#[test]
fn who_is_meant() {
    let text = "
        group ops = ann, \"b c\"
        group ops = dan
        allow group ops to publish on ops
        allow user dev-* and client c1 to publish on dev
        allow user \"star*\" to publish on star
        allow anonymous to publish on open
        allow authenticated to publish on named
    ";
    let may =
        |user: Option<&str>, client: &str, topic: &str| rights(text, user, client).publish(topic, AtMostOnce, false);
    for (user, client, topic, expected) in [
        (Some("ann"), "x", "ops", true),
        (Some("b c"), "x", "ops", true),
        (Some("dan"), "x", "ops", true),
        (Some("eve"), "x", "ops", false),
        (Some("dev-7"), "c1", "dev", true),
        (Some("dev-7"), "c2", "dev", false),
        (Some("star*"), "x", "star", true),
        (Some("starlight"), "x", "star", false),
        (None, "x", "open", true),
        (Some("ann"), "x", "open", false),
        (None, "x", "named", false),
        (Some("eve"), "x", "named", true),
    ] {
        assert_eq!(may(user, client, topic), expected, "{user:?} {client} {topic}");
    }
    let rules = Rules::parse("rules", text).unwrap();
    assert_eq!(rules.groups_of("ann").collect::<Vec<_>>(), ["ops"]);
    let of_token = Who { user: Some("eve"), client_id: "x", groups: &["ops".into()], grants: None };
    assert!(Policy::Rules(rules).rights(&of_token).publish("ops", AtMostOnce, false));
}

#[test]
fn retain_share_receive_and_qos_are_rights_of_their_own() {
    let text = "
        deny everyone to retain on plain/#
        deny everyone to share on plain/#
        deny everyone to receive on plain/hidden
        deny everyone to publish, subscribe at qos 2 on plain/#
        allow everyone to all on plain/#
    ";
    let all = rights(text, None, "c");
    assert!(all.publish("plain/a", AtLeastOnce, false));
    assert!(!all.publish("plain/a", AtLeastOnce, true));
    assert!(!all.publish("plain/a", ExactlyOnce, false));
    assert_eq!(all.subscribe("plain/#", false, ExactlyOnce), Some(AtLeastOnce), "the highest that is allowed");
    assert_eq!(all.subscribe("plain/#", true, AtMostOnce), None);
    assert!(!all.receive("plain/hidden") && all.receive("plain/seen"));
}

#[test]
fn a_filter_is_granted_whole_or_not_at_all() {
    let text = "
        allow user u to subscribe on a/public
        deny user u to subscribe on a/secret/#
        allow user u to subscribe on a/#
    ";
    let u = rights(text, Some("u"), "c");
    for (filter, expected) in [
        ("a/public", true),
        ("a/b", true),
        ("a/secret/x", false),
        ("a/+", false),
        ("a/#", false),
        ("a/b/#", true),
        ("#", false),
        ("b", false),
    ] {
        assert_eq!(u.subscribe(filter, false, AtMostOnce).is_some(), expected, "{filter}");
    }
    let verdict = u.explain(Action::Subscribe { qos: AtMostOnce, shared: false }, "a/#");
    assert!(!verdict.allowed && verdict.why.contains("a part of"), "{verdict:?}");
    assert_eq!(verdict.rule.map(|rule| rule.line), Some(3));
}

#[test]
fn a_filter_can_be_meant_as_it_is_written() {
    let text = "
        deny everyone to subscribe on =# =test/nosubscribe
        allow everyone to subscribe on #
    ";
    let all = rights(text, None, "c");
    for (filter, expected) in [("#", false), ("test/nosubscribe", false), ("test/#", true), ("+/#", true)] {
        assert_eq!(all.subscribe(filter, false, AtMostOnce).is_some(), expected, "{filter}");
    }
    assert!(!all.receive("test/nosubscribe") && all.receive("test/other"));
}

#[test]
fn f63_a_shared_subscription_is_judged_by_the_filter_inside() {
    let text = "allow user u to subscribe on ibm/c7/msg";
    let u = rights(text, Some("u"), "c");
    assert!(u.subscribe("ibm/c7/msg", true, AtLeastOnce).is_some());
    assert!(u.subscribe("ibm/#", true, AtLeastOnce).is_none());
    assert!(u.subscribe("c7/msg", true, AtLeastOnce).is_none());
    let problems = Rules::parse("rules", "allow user u to subscribe on $share/g1/ibm/c7/msg").unwrap_err();
    assert!(problems[0].problem.contains("$share"), "{problems:?}");
}

#[test]
fn a_verdict_names_its_rule() {
    let text = "\n\nallow user u to publish on a/%u";
    let u = rights(text, Some("u"), "c");
    let verdict = u.explain(Action::Publish { qos: AtMostOnce, retain: false }, "a/u");
    let rule = verdict.rule.unwrap();
    assert_eq!((rule.file.as_ref(), rule.line, rule.text.as_str()), ("rules", 3, "allow user u to publish on a/%u"));
    let verdict = u.explain(Action::Receive, "a/u");
    assert_eq!((verdict.allowed, verdict.rule), (false, None));
}

#[test]
fn grants_come_before_the_rules() {
    let grants = Grants::new(&["up/%c".into()], &["down/%u/#".into()]).unwrap();
    let rules = Rules::parse("rules", "deny everyone to all on #").unwrap();
    let who = Who { user: Some("u"), client_id: "c", groups: &[], grants: Some(&grants) };
    for policy in [Policy::Rules(rules), Policy::Open] {
        let rights = policy.rights(&who);
        assert!(rights.publish("up/c", ExactlyOnce, true) && !rights.publish("up/d", AtMostOnce, false));
        assert!(rights.receive("down/u/x") && !rights.receive("other"));
    }
    assert!(Grants::new(&["a/#/b".into()], &[]).is_err());
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "allow user u to publish on a\npermit all\nallow nobody to publish on a\nallow user u to fly on a\n\
                allow user u to publish at qos 3 on a\nallow user u to publish on\nallow user u to publish on a/#/b\n\
                allow user u publish on a\ngroup g a\n#comment\nallow user u to publish on a, b";
    let problems = Rules::parse("rules", text).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), (2..=11).collect::<Vec<_>>());
    assert!(problems.iter().all(|problem| problem.problem.contains("expected") || problem.line == 7), "{problems:?}");
}

/// A rule of the model: allow, action (0 publish, 1 receive), filter.
type Simple = (bool, bool, &'static str);

fn naive(rules: &[Simple], publish: bool, topic: &str) -> bool {
    for (allow, of_publish, filter) in rules {
        if *of_publish == publish && nightjar_mqtt::topic::matches(filter, topic) {
            return *allow;
        }
    }
    false
}

proptest! {
    #[test]
    fn no_text_is_too_wild_for_the_parser(text in "(allow|deny|group|user|to|on|at|qos|=|,|#|\"|\\\\|[ -~]|\n| ){0,60}") {
        let _ = Rules::parse("rules", &text);
        let _ = nightjar_policy::Acl::parse("acl", &text);
    }

    #[test]
    fn verdicts_agree_with_a_naive_reading(
        rules in prop::collection::vec((any::<bool>(), any::<bool>(),
            prop::sample::select(vec!["a", "a/#", "+/b", "#", "a/b", "$SYS/#"])), 0..8),
        topic in prop::sample::select(vec!["a", "a/b", "c/b", "c", "$SYS/x"]), publish in any::<bool>(),
    ) {
        let line = |(allow, publish, filter): &Simple| format!("{} everyone to {} on {filter}\n",
            if *allow { "allow" } else { "deny" }, if *publish { "publish" } else { "receive" });
        let text: String = rules.iter().map(line).collect();
        let rights = rights(&text, None, "c");
        let verdict = if publish { rights.publish(topic, QoS::AtMostOnce, false) } else { rights.receive(topic) };
        prop_assert_eq!(verdict, naive(&rules, publish, topic));
        let action = if publish { Action::Publish { qos: QoS::AtMostOnce, retain: false } } else { Action::Receive };
        prop_assert_eq!(rights.explain(action, topic).allowed, verdict);
    }
}
