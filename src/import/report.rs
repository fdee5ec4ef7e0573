//! What becomes of each option of the file, one line each, and what else is to be said.

use super::conf::Conf;
use std::fmt;

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It holds as it did.
    Honoured,
    /// Something like it holds.
    Changed,
    /// It does not hold; the text says what to do instead.
    Unsupported,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honoured => "honoured",
            Self::Changed => "changed",
            Self::Unsupported => "unsupported",
        })
    }
}

/// What is said of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File and line.
    pub place: String,
    /// The option as it stands there.
    pub option: String,
    /// What becomes of it.
    pub fate: Fate,
    /// As which setting, why, or what to do instead.
    pub text: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.place, self.option, self.fate, self.text)
    }
}

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A line for each option that stands in the files, in their order.
    pub entries: Vec<Entry>,
    /// What no single option shows.
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// Values of the files stand in the report: nothing in it is for a terminal to act on.
fn harmless(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

/// The report while it is being written: fates are found in any order.
#[derive(Debug)]
pub(super) struct Draft {
    fates: Vec<Option<(Fate, String)>>,
    pub(super) notes: Vec<String>,
}

impl Draft {
    /// What the table alone says of each option.
    pub(super) fn new(conf: &Conf) -> Self {
        let fates = conf.options.iter().map(|option| option.known.fate.map(|(fate, text)| (fate, text.to_owned())));
        let mut draft = Self { fates: fates.collect(), notes: Vec::new() };
        for group in conf.listeners.iter().chain(&conf.bridges).chain([&conf.global]) {
            for (at, successor) in conf.replaced(group) {
                let place = &conf.options[successor].place;
                draft.set(at, Fate::Changed, format!("{place} says otherwise, and counts"));
            }
        }
        draft
    }

    /// Says what becomes of an option. What was said first stays.
    pub(super) fn set(&mut self, at: usize, fate: Fate, text: impl Into<String>) {
        self.fates[at].get_or_insert_with(|| (fate, text.into()));
    }

    /// Says what becomes of an option after all, whatever was said before.
    pub(super) fn overrule(&mut self, at: usize, fate: Fate, text: impl Into<String>) {
        self.fates[at] = Some((fate, text.into()));
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    pub(super) fn finish(self, conf: &Conf) -> Report {
        let entry = |(option, fate): (&super::conf::Opt, Option<(Fate, String)>)| {
            let (fate, text) = fate.unwrap_or((Fate::Unsupported, "nothing in nightjar is like it".to_owned()));
            let [place, option, text] = [option.place.to_string(), option.name.clone(), text].map(harmless);
            Entry { place, option, fate, text }
        };
        Report { entries: conf.options.iter().zip(self.fates).map(entry).collect(), notes: self.notes }
    }
}
