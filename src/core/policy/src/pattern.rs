//! Filters with places for the user's name and the client's identifier.

use crate::Who;
use nightjar_mqtt::topic;
use std::sync::Arc;

/// A topic filter in which `%u` and `%c` stand for the user name and the client identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Arc<str>,
    /// Whether there is anything to put in.
    open: bool,
}

impl Pattern {
    /// The pattern in `text`, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if topic::is_shared(text) {
            return Err(format!(
                "expected a filter without $share: what is behind the share name is what rules are compared with; \
                 write {:?}",
                text.splitn(3, '/').nth(2).unwrap_or("#")
            ));
        }
        topic::validate_filter(text).map_err(|error| format!("{text:?} is no topic filter: {error}"))?;
        Ok(Self { text: text.into(), open: text.contains("%u") || text.contains("%c") })
    }

    /// The filter for `who`; `None` if it is none of this client's: it needs a name that the client does not have, or
    /// the name would be more than a part of one level.
    pub(crate) fn of(&self, who: &Who<'_>) -> Option<Arc<str>> {
        if !self.open {
            return Some(Arc::clone(&self.text));
        }
        let mut filter = String::with_capacity(self.text.len() + 32);
        let mut rest = &*self.text;
        while let Some(at) = rest.find('%') {
            filter.push_str(&rest[..at]);
            let value = match rest.as_bytes().get(at + 1) {
                Some(b'u') => who.user?,
                Some(b'c') => who.client_id,
                _ => {
                    filter.push('%');
                    rest = &rest[at + 1..];
                    continue;
                }
            };
            // A name must never be read as a wildcard, nor reach into another level or a reserved tree.
            let reserved = filter.is_empty() && value.starts_with('$');
            if value.contains(['+', '#', '/', '\0']) || reserved {
                return None;
            }
            filter.push_str(value);
            rest = &rest[at + 2..];
        }
        filter.push_str(rest);
        topic::validate_filter(&filter).is_ok().then(|| filter.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn who<'a>(user: Option<&'a str>, client_id: &'a str) -> Who<'a> {
        Who { user, client_id, ..Who::default() }
    }

    #[test]
    fn names_are_put_in_as_they_are() {
        for (pattern, user, client, expected) in [
            ("a/%u/#", Some("u1"), "c1", Some("a/u1/#")),
            ("a/%u/%c", Some("%c"), "c1", Some("a/%c/c1")),
            ("a/%u", None, "c1", None),
            ("%c/x", None, "$SYS", None),
            ("a%c/x", None, "$SYS", Some("a$SYS/x")),
            ("a/%c", None, "x/y", None),
            ("a/%c", None, "+", None),
            ("a/%c", None, "", Some("a/")),
            ("50%/%x", None, "c", Some("50%/%x")),
        ] {
            let filter = Pattern::parse(pattern).unwrap().of(&who(user, client));
            assert_eq!(filter.as_deref(), expected, "{pattern} {user:?} {client}");
        }
    }

    #[test]
    fn f63_a_rule_that_names_a_share_is_told_how_to_be_written() {
        let problem = Pattern::parse("$share/g1/ibm/#").unwrap_err();
        assert!(problem.contains("\"ibm/#\""), "{problem}");
    }

    proptest! {
        #[test]
        fn no_name_widens_a_filter(user in "[a+#/$%uc]{0,6}", client in "[a+#/$%uc]{0,6}", topic in "[a+#/$%uc]{1,8}") {
            prop_assume!(!topic::has_wildcard(&topic));
            let who = who(Some(&user), &client);
            if let Some(filter) = Pattern::parse("x/%u/%c").unwrap().of(&who) {
                // What is matched is the one topic that the names spell.
                prop_assert_eq!(topic::matches(&filter, &topic), *topic == format!("x/{user}/{client}"));
            }
        }
    }
}
