//! Our own rules: who may do what on which topics, the first that matches decides.

use crate::pattern::Pattern;
use crate::rights::{Entry, Note, Rights};
use crate::{Problem, Who, parse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rules file.
#[derive(Debug, Default)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// The members of each group.
    pub(crate) groups: BTreeMap<String, Vec<String>>,
}

/// One line that allows or denies.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// All of them must hold.
    pub(crate) who: Vec<Term>,
    pub(crate) actions: u8,
    pub(crate) qos: u8,
    /// Whether each is meant as it is written.
    pub(crate) filters: Vec<(bool, Pattern)>,
    pub(crate) note: Arc<Note>,
}

/// A condition on who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Everyone,
    Anonymous,
    Authenticated,
    User(Name),
    Client(Name),
    Group(String),
}

/// A name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Whole(String),
    Prefix(String),
}

impl Name {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Whole(whole) => whole == name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

impl Rules {
    /// The rules in `text`, which is the content of `file`.
    ///
    /// # Errors
    /// With every mistake, not the first alone.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        parse::rules(file, text)
    }

    /// The groups of the file that `user` is a member of.
    pub fn groups_of(&self, user: &str) -> impl Iterator<Item = &str> {
        let user = user.to_owned();
        let is_member = move |members: &&Vec<String>| members.contains(&user);
        self.groups.iter().filter(move |(_, members)| is_member(members)).map(|(group, _)| &**group)
    }

    pub(crate) fn rights(&self, who: &Who<'_>) -> Rights {
        let mut entries = who.grants.map_or_else(Vec::new, |grants| grants.entries(who));
        for rule in self.rules.iter().filter(|rule| rule.who.iter().all(|term| self.holds(term, who))) {
            let filters = rule.filters.iter().filter_map(|(exact, pattern)| Some((*exact, pattern.of(who)?)));
            for (exact, filter) in filters {
                let (allow, actions, qos) = (rule.allow, rule.actions, rule.qos);
                entries.push(Entry { allow, actions, qos, filter, exact, note: Arc::clone(&rule.note) });
            }
        }
        Rights::of_entries(entries)
    }

    fn holds(&self, term: &Term, who: &Who<'_>) -> bool {
        match term {
            Term::Everyone => true,
            Term::Anonymous => who.user.is_none(),
            Term::Authenticated => who.user.is_some(),
            Term::User(name) => who.user.is_some_and(|user| name.fits(user)),
            Term::Client(name) => name.fits(who.client_id),
            Term::Group(group) => {
                let member = |user: &str| self.groups.get(group).is_some_and(|all| all.iter().any(|one| one == user));
                who.groups.iter().any(|of| **of == **group) || who.user.is_some_and(member)
            }
        }
    }
}
