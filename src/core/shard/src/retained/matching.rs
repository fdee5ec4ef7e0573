//! Matching one filter against topics in their byte order, and where to go on when one does not match.

/// How a topic stands to a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It matches.
    Match,
    /// It does not, and nothing is known of the topics behind it.
    Mismatch,
    /// It does not, nor does any topic between it and this text.
    Seek(String),
    /// It does not, nor does any topic behind it.
    End,
}

/// The text from which topics that match `filter` can begin.
pub(super) fn start(filter: &str) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    // "a/#" matches "a" as well [MQTT-4.7.1-2].
    if filter[wildcard..].starts_with('#') { filter[..wildcard].trim_end_matches('/') } else { &filter[..wildcard] }
}

/// Whether `filter` has wildcards.
pub(super) fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// How `topic` stands to `filter`, a valid one without `$share`.
pub(super) fn judge(filter: &str, topic: &str) -> Verdict {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        // No filter that begins with a wildcard matches a topic that begins with $ [MQTT-4.7.2-1].
        return Verdict::Seek("%".to_owned());
    }
    // `stem` is the length of the leading levels that matched, with the slash behind them.
    let mut stem = 0;
    let mut wanted = filter.split('/');
    let mut levels = topic.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return Verdict::Match,
            (Some("+"), Some(level)) => stem += level.len() + 1,
            (Some(want), Some(level)) if want == level => stem += level.len() + 1,
            (Some(want), Some(_)) => return seek(topic, stem, want),
            // Something between the topic and its children may match: "a!" lies between "a" and "a/".
            (Some(_), None) => return Verdict::Mismatch,
            (None, Some(_)) => return behind(topic, stem),
        }
    }
}

/// Where to go on when the level behind `stem` is not `want`. All topics that begin with the stem lie together.
fn seek(topic: &str, stem: usize, want: &str) -> Verdict {
    let rest = &topic[stem..];
    if rest < want {
        return Verdict::Seek(format!("{}{want}", &topic[..stem]));
    }
    match rest.strip_prefix(want) {
        // "b!" lies between "b" and "b/".
        Some(more) if more < "/" => Verdict::Seek(format!("{}{want}/", &topic[..stem])),
        _ => behind(topic, stem),
    }
}

/// Nothing that begins with the stem matches any more: '0' follows '/'.
fn behind(topic: &str, stem: usize) -> Verdict {
    match stem.checked_sub(1) {
        Some(slash) => Verdict::Seek(format!("{}0", &topic[..slash])),
        None => Verdict::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) | (None, None) => true,
            (Some(want), Some(level)) => (*want == "+" || want == level) && naive(&filter[1..], &topic[1..]),
            _ => false,
        }
    }

    fn matches(filter: &str, topic: &str) -> bool {
        let dollar = topic.starts_with('$') && filter.starts_with(['+', '#']);
        !dollar && naive(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
    }

    /// Every topic of up to four characters over an alphabet with all the corners of the order, against every filter.
    #[test]
    fn judges_and_seeks_like_a_naive_matcher() {
        let mut topics = vec![String::new()];
        let mut from = 0;
        for _ in 0..4 {
            let to = topics.len();
            for at in from..to {
                for letter in ['$', '!', '/', '0', 'a'] {
                    let topic = format!("{}{letter}", topics[at]);
                    topics.push(topic);
                }
            }
            from = to;
        }
        topics.sort();
        let filters = [
            "#", "+", "a", "a/#", "a/+", "+/a", "+/#", "/#", "/+", "+/+", "a/+/a", "+//+", "$/#", "!/#", "$a/+", "0/a",
            "+/+/#", "a!", "a/", "//#", "+/0/+",
        ];
        for filter in filters {
            for (at, topic) in topics.iter().enumerate() {
                let verdict = judge(filter, topic);
                assert_eq!(verdict == Verdict::Match, matches(filter, topic), "{filter} {topic}");
                let skipped = |other: &&String| match &verdict {
                    Verdict::Seek(to) => *other < to,
                    Verdict::End => true,
                    _ => false,
                };
                if let Verdict::Seek(to) = &verdict {
                    assert!(to > topic, "{filter} {topic} {to}");
                }
                for other in topics[at..].iter().take_while(skipped) {
                    assert!(!matches(filter, other), "{filter}: {other} was lost behind {topic}");
                }
                if matches(filter, topic) {
                    assert!(topic.as_str() >= start(filter), "{filter} {topic}");
                }
            }
        }
    }
}
