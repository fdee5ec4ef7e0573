//! Takes values out of what was gathered, and keeps every mistake on the way.

use super::kinds::{Found, Kind};
use super::mistake::{Mistake, nearest};
use super::{bridge, effective, listener};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The config file, and the line if it could be found.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// All values by `section.key`, and what was already found wrong with them.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) values: BTreeMap<String, (Found, Origin)>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Takes values out by key.
pub(super) struct Reader(Gathered);

impl Reader {
    /// A reader of what was gathered. Keys that nothing will ask for are mistakes.
    pub(super) fn new(gathered: Gathered) -> Self {
        let mut reader = Self(gathered);
        reader.refuse_unknown();
        reader
    }

    /// The value of `key`, or `default` if it is not there or not of its kind.
    pub(super) fn value<T>(&mut self, key: &str, kind: &impl Kind<T>, default: T) -> T {
        let Some((found, _)) = self.0.values.get(key) else { return default };
        if let Some(value) = kind.read(found) {
            return value;
        }
        let shown = if effective::is_secret(key) { "something else".to_owned() } else { found.describe() };
        let problem = format!("expected {}, found {shown}", kind.expected());
        self.mistake(key, problem);
        default
    }

    /// Whether `key` was given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.values.contains_key(key)
    }

    /// Whether a mistake with `key` was found already, so that what it would have been is not known.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.0.mistakes.iter().any(|mistake| mistake.key == key)
    }

    /// The names of the tables of a kind whose names are the operator's, in order.
    pub(super) fn names(&self, kind: &str) -> BTreeSet<String> {
        let name = |key: &String| Some(key.strip_prefix(kind)?.strip_prefix('.')?.rsplit_once('.')?.0.to_owned());
        self.0.values.keys().filter_map(name).filter(|name| is_name(name)).collect()
    }

    /// Something is wrong with `key`.
    pub(super) fn mistake(&mut self, key: &str, problem: String) {
        // The nearest thing that the operator wrote: the key itself, or its table.
        let table = key.rsplit_once('.').map_or(key, |(table, _)| table);
        let within = |known: &&String| known.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let written = if self.has(key) { Some(key) } else { self.0.values.keys().find(within).map(String::as_str) };
        let origin = written.map(|written| self.0.values[written].1.clone());
        self.0.mistakes.push(Mistake { origin, key: key.to_owned(), problem });
    }

    /// Where each value came from, and all that is wrong, in the order in which it was written.
    pub(super) fn finish(self) -> (BTreeMap<String, Origin>, Vec<Mistake>) {
        let Gathered { values, mut mistakes } = self.0;
        mistakes.sort_by_key(Mistake::place);
        (values.into_iter().map(|(key, (_, origin))| (key, origin)).collect(), mistakes)
    }

    fn refuse_unknown(&mut self) {
        let known = effective::keys();
        let mut unknown = Vec::new();
        for (key, (found, origin)) in &self.0.values {
            if let Some(problem) = problem_with(key, found, &known) {
                unknown.push(Mistake { origin: Some(origin.clone()), key: key.clone(), problem });
            }
        }
        for mistake in unknown {
            self.0.values.remove(&mistake.key);
            self.0.mistakes.push(mistake);
        }
    }
}

/// Tables whose names are the operator's.
struct Named {
    kind: &'static str,
    keys: &'static [&'static str],
    /// What is expected where a table of the kind stands.
    tables: &'static str,
    one: &'static str,
}

const NAMED: &[Named] = &[
    Named {
        kind: "listeners",
        keys: listener::KEYS,
        tables: "tables, as [listeners.main] or [[listeners]]",
        one: "a listener",
    },
    Named { kind: "bridges", keys: bridge::KEYS, tables: "tables, as [bridges.hub]", one: "a bridge" },
];

fn problem_with(key: &str, found: &Found, known: &[String]) -> Option<String> {
    if known.iter().any(|known| known == key) {
        return None;
    }
    let named = NAMED.iter().find(|named| Some(named.kind) == key.split('.').next());
    let is_section = known.iter().any(|known| known.split('.').next() == Some(key));
    if is_section || named.is_some_and(|named| named.kind == key) {
        let wanted = named.map_or("a table of settings", |named| named.tables);
        return (*found != Found::Table).then(|| format!("expected {wanted}, found {}", found.describe()));
    }
    let Some(named) = named else { return Some(no_such(key, known)) };
    let rest = &key[named.kind.len() + 1..];
    if let Some((name, field)) = rest.rsplit_once('.') {
        if !is_name(name) {
            return Some(format!("expected {}'s name of lower-case letters, digits, \"-\" and \"_\"", named.one));
        }
        if named.keys.contains(&field) {
            return None;
        }
        let known: Vec<String> = named.keys.iter().map(|field| format!("{}.{name}.{field}", named.kind)).collect();
        return Some(no_such(key, &known));
    }
    // `[listeners.main]` with nothing in it is a listener with nothing but defaults.
    if is_name(rest) && *found == Found::Table {
        return None;
    }
    Some(no_such(key, known))
}

pub(super) fn no_such(key: &str, known: &[String]) -> String {
    match nearest(key, known) {
        Some(nearest) => format!("no such setting; did you mean {nearest}?"),
        None => "no such setting".to_owned(),
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}
