//! A part of a list.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part begins: the `cursor` to ask with. `null` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page of other items.
    pub(super) fn map<U>(self, to: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(to).collect(), next: self.next }
    }
}

/// Finds the page behind a key among items that come in any order, in the memory of the page.
pub(super) struct Paging<T> {
    after: Option<String>,
    limit: usize,
    /// The smallest keys so far, one more than the page has room for.
    found: BTreeMap<Arc<str>, T>,
}

impl<T> Paging<T> {
    pub(super) fn new(after: Option<&str>, limit: usize) -> Self {
        Self { after: after.map(str::to_owned), limit: limit.max(1), found: BTreeMap::new() }
    }

    /// Whether an item with this key may be on the page.
    pub(super) fn wants(&self, key: &str) -> bool {
        let behind = self.after.as_deref().is_none_or(|after| key > after);
        let full = self.found.len() > self.limit;
        behind && !(full && self.found.last_key_value().is_some_and(|(last, _)| key >= &**last))
    }

    pub(super) fn offer(&mut self, key: &Arc<str>, item: T) {
        self.found.insert(Arc::clone(key), item);
        if self.found.len() > self.limit + 1 {
            self.found.pop_last();
        }
    }

    /// The page. Its cursor is the last key on it.
    pub(super) fn page(mut self) -> Page<T> {
        let more = self.found.len() > self.limit;
        if more {
            self.found.pop_last();
        }
        let last = self.found.last_key_value().map(|(key, _)| key.to_string());
        Page { items: self.found.into_values().collect(), next: last.filter(|_| more) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_whatever_the_order() {
        let keys: Vec<Arc<str>> = ["d", "a", "e", "c", "b"].map(Arc::from).to_vec();
        let mut after: Option<String> = None;
        let mut seen = Vec::new();
        loop {
            let mut paging = Paging::new(after.as_deref(), 2);
            for key in &keys {
                if paging.wants(key) {
                    paging.offer(key, key.to_string());
                }
            }
            let page = paging.page();
            seen.push(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        let mut paging = Paging::new(None, 1);
        paging.offer(&Arc::from("a"), ());
        assert_eq!(paging.page(), Page { items: vec![()], next: None });
    }
}
