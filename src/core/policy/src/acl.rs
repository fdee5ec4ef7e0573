//! Mosquitto's ACL file, as mosquitto reads it: its format, its order, its quirks.
//!
//! A client has the list of its user name (or the one before the first `user` line, if it has none). Of that list the
//! deny lines come first, the others follow in the order of the file, and the first that matches decides; then the
//! `pattern` lines in the same way; then nothing is allowed.

use crate::rights::{Rights, RuleRef, Verdict};
use crate::{Problem, Who};
use nightjar_mqtt::topic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The only topics under `$SYS` that a rule can let a client write to: bridges tell their state there.
const WRITABLE_SYS: &str = "$SYS/broker/connection/+/state";

/// Mosquitto's ACL file.
#[derive(Debug, Default)]
pub struct Acl {
    file: Arc<str>,
    users: BTreeMap<String, Vec<Line>>,
    anonymous: Vec<Line>,
    patterns: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    access: Access,
    filter: Arc<str>,
    number: usize,
    text: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Deny,
    Read,
    Write,
    ReadWrite,
}

impl Acl {
    /// The lists in `text`, which is the content of `file`.
    ///
    /// # Errors
    /// With every line that mosquitto would not take.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut acl = Self { file: file.into(), ..Self::default() };
        let mut user: Option<String> = None;
        let mut problems = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            if let Err(problem) = acl.line(number + 1, line.trim_end(), &mut user) {
                problems.push(Problem { line: number + 1, problem });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Deny lines sort first; the sort is stable, so the rest keeps its order.
        let lists = acl.users.values_mut().chain([&mut acl.anonymous, &mut acl.patterns]);
        lists.for_each(|list| list.sort_by_key(|line| line.access != Access::Deny));
        Ok(acl)
    }

    fn line(&mut self, number: usize, text: &str, user: &mut Option<String>) -> Result<(), String> {
        let (keyword, rest) = text.trim_start().split_once([' ', '\t']).unwrap_or((text.trim_start(), ""));
        let rest = rest.trim();
        match keyword {
            "user" if rest.is_empty() => Err("expected a name behind user".to_owned()),
            "user" => {
                self.users.entry(rest.to_owned()).or_default();
                *user = Some(rest.to_owned());
                Ok(())
            }
            "topic" | "pattern" => {
                let (access, filter) = access(rest)?;
                topic::validate_filter(filter).map_err(|error| format!("{filter:?} is no topic filter: {error}"))?;
                let line = Line { access, filter: filter.into(), number, text: text.trim().into() };
                let list = match (keyword, user) {
                    ("pattern", _) => &mut self.patterns,
                    (_, Some(user)) => self.users.entry(user.clone()).or_default(),
                    (_, None) => &mut self.anonymous,
                };
                list.push(line);
                Ok(())
            }
            other => Err(format!("expected user, topic or pattern, found {other:?}")),
        }
    }

    pub(crate) fn rights(&self, who: &Who<'_>) -> Rights {
        let list = match who.user {
            Some(user) => self.users.get(user).map_or(&[][..], Vec::as_slice),
            None => &self.anonymous,
        };
        // A name with a wildcard in it would turn its pattern into another one (CVE-2017-7650).
        let unsafe_name = who.client_id.contains(['+', '#']) || who.user.is_some_and(|user| user.contains(['+', '#']));
        let of = |line: &Line| {
            if line.filter.contains("%u") && who.user.is_none() {
                return None;
            }
            let filter = line.filter.replace("%c", who.client_id).replace("%u", who.user.unwrap_or_default());
            Some(Line { filter: filter.into(), ..line.clone() })
        };
        let patterns = if unsafe_name { Vec::new() } else { self.patterns.iter().filter_map(of).collect() };
        Rights::of_acl(AclRights { file: Arc::clone(&self.file), list: list.to_vec(), patterns })
    }
}

/// The access and the filter of a `topic` or `pattern` line. The access may be left out, unless the filter has spaces.
fn access(rest: &str) -> Result<(Access, &str), String> {
    if rest.is_empty() {
        return Err("expected a topic filter".to_owned());
    }
    let Some((word, filter)) = rest.split_once([' ', '\t']) else { return Ok((Access::ReadWrite, rest)) };
    let filter = filter.trim_start();
    match word {
        "read" => Ok((Access::Read, filter)),
        "write" => Ok((Access::Write, filter)),
        "readwrite" => Ok((Access::ReadWrite, filter)),
        "deny" => Ok((Access::Deny, filter)),
        other => Err(format!("expected read, write, readwrite or deny before the filter, found {other:?}")),
    }
}

/// The lists of one client.
#[derive(Debug)]
pub(crate) struct AclRights {
    file: Arc<str>,
    list: Vec<Line>,
    patterns: Vec<Line>,
}

/// What the lists say.
pub(crate) struct Said<'r> {
    pub(crate) allowed: bool,
    file: &'r Arc<str>,
    line: Option<&'r Line>,
    why: &'static str,
}

impl Said<'_> {
    pub(crate) fn verdict(&self) -> Verdict {
        let rule = self.line.map(|line| RuleRef {
            file: Arc::clone(self.file),
            line: line.number,
            text: line.text.to_string(),
        });
        Verdict { allowed: self.allowed, rule, why: self.why.to_owned() }
    }
}

impl AclRights {
    pub(crate) fn write(&self, topic: &str) -> Said<'_> {
        if topic.starts_with("$SYS/") && !topic::matches(WRITABLE_SYS, topic) {
            let why = "no rule of mosquitto's can allow writing under $SYS";
            return Said { allowed: false, file: &self.file, line: None, why };
        }
        self.check(topic, Access::Write)
    }

    pub(crate) fn read(&self, topic: &str) -> Said<'_> {
        self.check(topic, Access::Read)
    }

    fn check(&self, topic: &str, wanted: Access) -> Said<'_> {
        let gives = |line: &&Line| {
            let access = line.access;
            (access == Access::Deny || access == Access::ReadWrite || access == wanted)
                && topic::matches(&line.filter, topic)
        };
        let found = [&self.list, &self.patterns].into_iter().find_map(|list| list.iter().find(gives));
        let allowed = found.is_some_and(|line| line.access != Access::Deny);
        let why = match found {
            Some(_) if allowed => "the line allows it",
            Some(_) => "the line denies it, and deny lines come first",
            None => "no line matches, and what no line allows is denied",
        };
        Said { allowed, file: &self.file, line: found, why }
    }
}
