//! Topic names and topic filters (v5 sections 4.7 and 4.8).

use crate::{DecodeError, wire};

/// The longest topic name or filter in bytes [MQTT-4.7.3-3].
pub const MAX_LENGTH: usize = 65_535;

const SHARE: &str = "$share/";

/// A topic filter as a client sent it, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The share name, if it is a shared subscription.
    pub share: Option<&'a str>,
    /// What topics are matched with.
    pub filter: &'a str,
}

/// The topic name in `bytes`: UTF-8 without U+0000, not empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2].
pub fn validate_name(bytes: &[u8]) -> Result<&str, DecodeError> {
    let name = wire::text(bytes)?;
    if name.is_empty() {
        return Err(DecodeError::topic_name("empty topic name", "MQTT-4.7.3-1"));
    }
    if name.len() > MAX_LENGTH {
        return Err(DecodeError::topic_name("topic name longer than 65,535 bytes", "MQTT-4.7.3-3"));
    }
    if has_wildcard(name) {
        return Err(DecodeError::topic_name("wildcard in a topic name", "MQTT-3.3.2-2"));
    }
    Ok(name)
}

/// `filter`, unless it is empty: that no client can mean, so the packet is malformed, where any other mistake in a
/// filter has its reason code in the answer.
pub(crate) fn not_empty(filter: &str) -> Result<&str, DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::malformed("empty topic filter", "MQTT-4.7.3-1"));
    }
    Ok(filter)
}

/// Whether `filter` is a well-formed topic filter. The rules of `$share` are [`parse_filter`]'s.
pub fn validate_filter(filter: &str) -> Result<(), DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::topic_filter("empty topic filter", "MQTT-4.7.3-1"));
    }
    if filter.len() > MAX_LENGTH {
        return Err(DecodeError::topic_filter("topic filter longer than 65,535 bytes", "MQTT-4.7.3-3"));
    }
    if filter.as_bytes().contains(&0) {
        return Err(DecodeError::topic_filter("U+0000 in a topic filter", "MQTT-4.7.3-2"));
    }
    let mut ended = false;
    for level in levels(filter) {
        if ended {
            return Err(DecodeError::topic_filter("# is not the last level", "MQTT-4.7.1-1"));
        }
        match level {
            "#" => ended = true,
            "+" => {}
            _ if level.contains('#') => {
                return Err(DecodeError::topic_filter("# does not fill its level", "MQTT-4.7.1-1"));
            }
            _ if level.contains('+') => {
                return Err(DecodeError::topic_filter("+ does not fill its level", "MQTT-4.7.1-2"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes `text` apart into share name and filter, both well-formed. In text that begins with `$share/` a share name
/// [MQTT-4.8.2-1], free of wildcards, and after it a filter [MQTT-4.8.2-2] are due; it is never a plain filter.
pub fn parse_filter(text: &str) -> Result<Filter<'_>, DecodeError> {
    let Some(shared) = text.strip_prefix(SHARE) else {
        validate_filter(text)?;
        return Ok(Filter { share: None, filter: text });
    };
    let Some((share, filter)) = shared.split_once('/') else {
        return Err(DecodeError::topic_filter("shared subscription without a filter", "MQTT-4.8.2-2"));
    };
    if share.is_empty() {
        return Err(DecodeError::topic_filter("empty share name", "MQTT-4.8.2-1"));
    }
    if has_wildcard(share) {
        return Err(DecodeError::topic_filter("wildcard in a share name", "MQTT-4.8.2-2"));
    }
    if text.len() > MAX_LENGTH {
        return Err(DecodeError::topic_filter("topic filter longer than 65,535 bytes", "MQTT-4.7.3-3"));
    }
    if share.as_bytes().contains(&0) {
        return Err(DecodeError::topic_filter("U+0000 in a share name", "MQTT-1.5.4-2"));
    }
    validate_filter(filter)?;
    Ok(Filter { share: Some(share), filter })
}

/// Whether `text` asks for a shared subscription, well-formed or not.
#[must_use]
pub fn is_shared(text: &str) -> bool {
    text.starts_with(SHARE)
}

/// Whether a `+` or `#` is anywhere in `text`.
#[must_use]
#[inline]
pub fn has_wildcard(text: &str) -> bool {
    wire::has_wildcard(text.as_bytes())
}

/// Whether `topic` is matched by `filter`, which is well-formed and has no `$share` prefix.
///
/// `#` also matches its parent level, so `a/#` matches `a`. A filter that begins with a wildcard matches no topic that
/// begins with `$` [MQTT-4.7.2-1].
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (filter, topic) = (filter.as_bytes(), topic.as_bytes());
    // Both stand at the start of a level.
    let (mut at, mut name) = (0, 0);
    loop {
        match filter.get(at) {
            Some(b'#') => return true,
            Some(b'+') => {
                at += 1;
                name += topic[name..].iter().take_while(|&&byte| byte != b'/').count();
            }
            _ => {
                let same = filter[at..].iter().zip(&topic[name..]).take_while(|(a, b)| a == b && **a != b'/').count();
                at += same;
                name += same;
            }
        }
        match (filter.get(at), topic.get(name)) {
            (None, None) => return true,
            (Some(b'/'), Some(b'/')) => {
                at += 1;
                name += 1;
            }
            (Some(b'/'), None) => return filter[at..] == *b"/#",
            _ => return false,
        }
    }
}

/// The levels of a topic name or filter; empty ones are levels too.
#[inline]
pub fn levels(topic: &str) -> std::str::Split<'_, char> {
    topic.split('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ReasonCode;

    #[test]
    fn filters_match_as_in_section_4_7() {
        for (filter, topic) in [
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "a/b"),
            ("#", "/"),
            ("+", "a"),
            ("a/+/c", "a/b/c"),
            ("a/+/c", "a//c"),
            ("+/+", "/a"),
            ("/+", "/a"),
            ("a/+/#", "a/b"),
            ("$SYS/#", "$SYS/broker"),
            ("$SYS/+", "$SYS/x"),
            ("a/$b/#", "a/$b"),
            ("+/$b", "a/$b"),
            ("a/", "a/"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("a", "b"),
            ("a/+", "a"),
            ("+", "/a"),
            ("a/#", "ab"),
            ("a", "A"),
            ("a", "a/"),
            ("a/b", "a"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("+/+", "$foo/x"),
            ("a/+/#", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn the_deepest_topic_costs_no_stack() {
        let topic = "/".repeat(MAX_LENGTH);
        assert!(matches("#", &topic));
        assert!(matches(&format!("{}#", "+/".repeat(MAX_LENGTH / 2)), &topic));
        assert_eq!(levels(&topic).count(), MAX_LENGTH + 1);
    }

    #[test]
    fn names_have_no_wildcards_and_filters_whole_levels_of_them() {
        for name in ["a", "/", " ", "$x", "a//b", "\u{1F99C}"] {
            assert_eq!(validate_name(name.as_bytes()).unwrap(), name);
        }
        for name in ["", "+", "a/#", "a+b"] {
            assert_eq!(validate_name(name.as_bytes()).unwrap_err().reason, ReasonCode::TopicNameInvalid);
        }
        assert_eq!(validate_name(b"a\0b").unwrap_err().reason, ReasonCode::MalformedPacket);
        for filter in ["#", "+", "a/+/#", "/", "+/+", "$share", "$SYS/#"] {
            assert!(validate_filter(filter).is_ok(), "{filter}");
        }
        for filter in ["", "#/a", "a#", "a/#b", "##", "+a", "a/b+/c", "++", "a\0"] {
            assert_eq!(validate_filter(filter).unwrap_err().reason, ReasonCode::TopicFilterInvalid, "{filter}");
        }
    }

    #[test]
    fn f27_shared_filters_need_a_name_and_a_filter() {
        assert_eq!(parse_filter("$share/g/t").unwrap(), Filter { share: Some("g"), filter: "t" });
        assert_eq!(parse_filter("$share/g//").unwrap(), Filter { share: Some("g"), filter: "/" });
        assert_eq!(parse_filter("$share/g/a/#").unwrap(), Filter { share: Some("g"), filter: "a/#" });
        assert_eq!(parse_filter("$shared/g").unwrap(), Filter { share: None, filter: "$shared/g" });
        for text in
            ["$share/g", "$share//t", "$share/g+/t", "$share/#/t", "$share/g/", "$share/", "$share//", "$share/g/a#"]
        {
            assert_eq!(parse_filter(text).unwrap_err().reason, ReasonCode::TopicFilterInvalid, "{text}");
        }
    }
}
