//! From the text of a rules file to rules.
//!
//! ```text
//! group NAME = USER, USER, …
//! allow|deny  WHO [and WHO]…  to  ACTION[, ACTION]…  [at qos N|N-M]  on  FILTER…
//! ```

use crate::pattern::Pattern;
use crate::rights::{Note, bits};
use crate::rules::{Name, Rule, Rules, Term};
use crate::words::{Word, split};
use crate::{Problem, rights};
use std::sync::Arc;

const WHO: &str = "everyone, anonymous, authenticated, user NAME, client ID or group NAME";
const ACTIONS: &[(&str, u8)] = &[
    ("publish", bits::PUBLISH),
    ("subscribe", bits::SUBSCRIBE),
    ("receive", bits::RECEIVE),
    ("retain", bits::RETAIN),
    ("share", bits::SHARE),
    ("all", bits::ALL),
];

pub(crate) fn rules(file: &str, text: &str) -> Result<Rules, Vec<Problem>> {
    let file: Arc<str> = file.into();
    let mut rules = Rules::default();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("# ") || line.starts_with("##") || line == "#" {
            continue;
        }
        if let Err(problem) = one(&file, number + 1, line, &mut rules) {
            problems.push(Problem { line: number + 1, problem });
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn one(file: &Arc<str>, number: usize, line: &str, rules: &mut Rules) -> Result<(), String> {
    let words = split(line)?;
    let mut words = Words { words: &words };
    match words.keyword() {
        Some("group") => group(&mut words, rules),
        Some(verb @ ("allow" | "deny")) => {
            let note = rights::Note { file: Arc::clone(file), line: number, text: line.to_owned() };
            rules.rules.push(rule(verb == "allow", &mut words, note)?);
            Ok(())
        }
        _ if line.starts_with('#') => Err("expected white space behind the # of a comment".to_owned()),
        _ => Err("expected a line that begins with allow, deny, group or #".to_owned()),
    }
}

struct Words<'w> {
    words: &'w [Word],
}

impl<'w> Words<'w> {
    fn next(&mut self) -> Option<&'w Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn keyword(&mut self) -> Option<&'w str> {
        self.next().filter(|word| !word.quoted).map(|word| &*word.text)
    }

    /// Takes the next word if it is this keyword.
    fn take(&mut self, keyword: &str) -> bool {
        let there = self.words.first().is_some_and(|word| word.is(keyword));
        if there {
            self.next();
        }
        there
    }

    fn name(&mut self, of: &str) -> Result<&'w Word, String> {
        self.next().filter(|word| !word.is(",")).ok_or_else(|| format!("expected a name behind {of}"))
    }
}

fn group(words: &mut Words<'_>, rules: &mut Rules) -> Result<(), String> {
    let name = words.name("group")?.text.clone();
    if !words.take("=") {
        return Err(format!("expected = and the members of group {name:?}"));
    }
    let mut members = vec![words.name("=")?.text.clone()];
    while words.take(",") {
        members.push(words.name(",")?.text.clone());
    }
    if let Some(word) = words.next() {
        return Err(format!("expected a comma before {:?}", word.text));
    }
    // More lines of one name add to it: long groups are easier to read so.
    rules.groups.entry(name).or_default().append(&mut members);
    Ok(())
}

fn rule(allow: bool, words: &mut Words<'_>, note: Note) -> Result<Rule, String> {
    let mut who = vec![term(words)?];
    while words.take("and") {
        who.push(term(words)?);
    }
    if !words.take("to") {
        return Err(format!("expected \"and\" with one more condition, or \"to\" and what is {}", past(allow)));
    }
    let mut actions = action(words)?;
    while words.take(",") {
        actions |= action(words)?;
    }
    let qos = if words.take("at") { levels_of_qos(words)? } else { bits::ANY_QOS };
    if !allow && qos != bits::ANY_QOS {
        // What is denied is to subscribe at that level: a lower one is granted, and its messages are to come.
        actions &= !bits::RECEIVE;
    }
    if !words.take("on") {
        return Err("expected \"on\" and topic filters".to_owned());
    }
    let mut filters = Vec::new();
    while let Some(word) = words.next() {
        if word.is(",") {
            return Err("expected topic filters separated by white space; quote one that holds a comma".to_owned());
        }
        let literal = word.text.strip_prefix('=');
        filters.push((literal.is_some(), Pattern::parse(literal.unwrap_or(&word.text))?));
    }
    if filters.is_empty() {
        return Err("expected at least one topic filter behind \"on\"".to_owned());
    }
    Ok(Rule { allow, who, actions, qos, filters, note: Arc::new(note) })
}

fn past(allow: bool) -> &'static str {
    if allow { "allowed" } else { "denied" }
}

fn term(words: &mut Words<'_>) -> Result<Term, String> {
    let name = |word: &Word| match word.text.strip_suffix('*') {
        Some(prefix) if !word.quoted => Name::Prefix(prefix.to_owned()),
        _ => Name::Whole(word.text.clone()),
    };
    match words.keyword() {
        Some("everyone") => Ok(Term::Everyone),
        Some("anonymous") => Ok(Term::Anonymous),
        Some("authenticated") => Ok(Term::Authenticated),
        Some("user") => Ok(Term::User(name(words.name("user")?))),
        Some("client") => Ok(Term::Client(name(words.name("client")?))),
        Some("group") => Ok(Term::Group(words.name("group")?.text.clone())),
        Some(other) => Err(format!("expected {WHO}, found {other:?}")),
        None => Err(format!("expected {WHO}")),
    }
}

fn action(words: &mut Words<'_>) -> Result<u8, String> {
    let word = words.keyword().unwrap_or_default();
    let known = ACTIONS.iter().find(|(name, _)| *name == word).map(|(_, bits)| *bits);
    known.ok_or_else(|| {
        let names: Vec<_> = ACTIONS.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}, found {word:?}", names.join(", "))
    })
}

fn levels_of_qos(words: &mut Words<'_>) -> Result<u8, String> {
    let wrong = || "expected \"at qos\" and 0, 1, 2 or a range as 0-1".to_owned();
    if !words.take("qos") {
        return Err(wrong());
    }
    let range = words.keyword().ok_or_else(wrong)?;
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let level = |text: &str| text.parse::<u8>().ok().filter(|level| *level <= 2).ok_or_else(wrong);
    let (from, to) = (level(from)?, level(to)?);
    if from > to {
        return Err(wrong());
    }
    Ok((from..=to).fold(0, |bits, level| bits | 1 << level))
}
