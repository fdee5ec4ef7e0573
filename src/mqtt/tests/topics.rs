//! Matching and validation against the plainest way to write them down.
#![allow(missing_docs)]

use nightjar_mqtt::topic::{matches, parse_filter, validate_filter, validate_name};
use proptest::prelude::*;

/// Section 4.7 as a recursion over levels.
fn matches_naively(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches_naively(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) if level == name => matches_naively(filter, topic),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

/// Section 4.7.1 by characters: what stands before and after each wildcard.
fn is_filter_naively(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied();
    let before = |index: usize| index == 0 || at(index - 1) == Some('/');
    !text.is_empty()
        && text.len() <= 65_535
        && characters.iter().enumerate().all(|(index, character)| match character {
            '\0' => false,
            '#' => before(index) && at(index + 1).is_none(),
            '+' => before(index) && matches!(at(index + 1), None | Some('/')),
            _ => true,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matching_is_what_the_recursion_says(
        filter in "(\\$s|a|b|\\+|)(/(a|b|\\+|)){0,4}(/#|)|#",
        topic in "(\\$s|a|b|)(/(a|b|)){0,5}",
    ) {
        let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
        prop_assert_eq!(matches(&filter, &topic), !hidden && matches_naively(&split(&filter), &split(&topic)));
    }

    #[test]
    fn filters_are_valid_when_their_characters_are(text in "[a/+#\\x00é$]{0,6}") {
        prop_assert_eq!(validate_filter(&text).is_ok(), is_filter_naively(&text));
    }

    #[test]
    fn names_are_valid_when_their_bytes_are(bytes in prop::collection::vec(
        prop_oneof![Just(b'a'), Just(b'/'), Just(b'+'), Just(b'#'), Just(0), Just(0xc3), Just(0xa9), any::<u8>()],
        0..6,
    )) {
        let valid = String::from_utf8(bytes.clone()).is_ok_and(|text| !text.is_empty() && !text.contains(['+', '#', '\0']));
        prop_assert_eq!(validate_name(&bytes).is_ok(), valid);
    }

    #[test]
    fn a_shared_filter_is_its_name_and_a_filter(share in "[a+/#]{0,3}", filter in "[a/+#]{0,4}") {
        let text = format!("$share/{share}/{filter}");
        let parsed = parse_filter(&text);
        let whole = format!("{share}/{filter}");
        let (name, rest) = whole.split_once('/').unwrap_or((&whole, ""));
        let valid = !name.is_empty() && !name.contains(['+', '#']) && is_filter_naively(rest);
        prop_assert_eq!(parsed.is_ok(), valid);
        if let Ok(parsed) = parsed {
            prop_assert_eq!((parsed.share, parsed.filter), (Some(name), rest));
        }
    }
}
