//! Topic filters as sets of topics.

use nightjar_mqtt::topic::levels;

/// Whether every topic that `inner` matches is matched by `outer`. Both are well-formed and without `$share`.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    // A wildcard at the beginning leaves out what begins with `$` [MQTT-4.7.2-1].
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    // Every topic has a first level.
    let outer = match outer {
        "+/#" => "#",
        // And no topic is empty.
        "/+/#" => "/#",
        other => other,
    };
    let inner = if inner == "/#" { "/+/#" } else { inner };
    let (mut outer, mut inner) = (levels(outer), levels(inner));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            // `a/#` matches `a` too, and much more: only another `#` covers it.
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            (_, _) => return false,
        }
    }
}

/// Whether there is a topic that both match. Both are well-formed and without `$share`.
#[must_use]
pub fn overlaps(one: &str, other: &str) -> bool {
    let reserved = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if (reserved(one) && wild(other)) || (reserved(other) && wild(one)) {
        return false;
    }
    // The empty topic, which is none, is all that `+` and `/#` have in common.
    if matches!((one, other), ("+", "/#") | ("/#", "+")) {
        return false;
    }
    let (mut one, mut other) = (levels(one), levels(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            // `#` matches its parent level as well, so it may meet the other's end.
            (Some("#"), _) | (_, Some("#")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(a), Some(b)) if a == "+" || b == "+" || a == b => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightjar_mqtt::topic::matches;
    use proptest::prelude::*;

    #[test]
    fn covering() {
        for (outer, inner, expected) in [
            ("#", "a/b", true),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/#", "a", true),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/+", "a/#", false),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/b", "a/+", false),
            ("+", "$SYS", false),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} covers {inner}");
        }
    }

    #[test]
    fn overlapping() {
        for (one, other, expected) in [
            ("#", "a/b", true),
            ("#", "$SYS/#", false),
            ("a/+", "+/b", true),
            ("a/b/#", "a/+", true),
            ("a/b/#", "a", false),
            ("a/#", "a", true),
            ("a", "b", false),
            ("+/+", "a", false),
        ] {
            assert_eq!(overlaps(one, other), expected, "{one} overlaps {other}");
            assert_eq!(overlaps(other, one), expected, "{other} overlaps {one}");
        }
    }

    /// Filters and topics of up to three levels over a small alphabet, `$` and empty levels included.
    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "+", "$x"]);
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_filter_map("not empty", |(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            let filter = levels.join("/");
            (!filter.is_empty()).then_some(filter)
        })
    }

    /// Every topic of up to five levels over an alphabet that has one more letter than the filters use.
    fn topics() -> Vec<String> {
        let alphabet = ["a", "b", "", "$x", "z"];
        let mut all: Vec<String> = alphabet.iter().map(|&level| level.to_owned()).collect();
        let mut last = all.clone();
        for _ in 0..4 {
            last = last.iter().flat_map(|head| alphabet.iter().map(move |level| format!("{head}/{level}"))).collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|topic| !topic.is_empty());
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_algebra_agrees_with_matching(one in filter(), other in filter()) {
            let topics = topics();
            let both = topics.iter().any(|topic| matches(&one, topic) && matches(&other, topic));
            prop_assert_eq!(overlaps(&one, &other), both);
            let all = topics.iter().filter(|topic| matches(&other, topic)).all(|topic| matches(&one, topic));
            // Covering may be denied where no letter could tell the difference, never claimed where one can.
            prop_assert!(!covers(&one, &other) || all);
            prop_assert!(covers(&one, &one));
        }

        #[test]
        fn a_covered_filter_is_found_covered(one in filter(), other in filter()) {
            let topics = topics();
            let matched: Vec<_> = topics.iter().filter(|topic| matches(&other, topic)).collect();
            let all = !matched.is_empty() && matched.iter().all(|topic| matches(&one, topic));
            prop_assert_eq!(covers(&one, &other), all);
        }
    }
}
