//! A configuration as text: as TOML with the origin of every value, and as the page of the manual.

use super::listener::{self, Listener};
use super::sections::{Described, Section};
use super::{Config, Limits, Loaded, Log, Mqtt, Node, Session, Store, Sys};
use std::fmt::Write as _;

/// Every key that there is, but those of listeners, whose names are the operator's.
pub(super) fn keys() -> Vec<String> {
    fn of<S: Section>() -> impl Iterator<Item = String> {
        S::KEYS.iter().map(|key| format!("{}.{key}", S::KEY))
    }
    of::<Node>()
        .chain(of::<Store>())
        .chain(of::<Session>())
        .chain(of::<Mqtt>())
        .chain(of::<Limits>())
        .chain(of::<Sys>())
        .chain(of::<Log>())
        .collect()
}

/// One table of the file.
struct Table {
    name: String,
    about: String,
    settings: Vec<Described>,
}

fn tables(config: &Config) -> Vec<Table> {
    fn table<S: Section>(section: &S) -> Table {
        Table { name: S::KEY.to_owned(), about: S::ABOUT.to_owned(), settings: section.describe() }
    }
    let listener = |listener: &Listener| Table {
        name: format!("listeners.{}", listener.name),
        about: listener::ABOUT.to_owned(),
        settings: listener.describe(),
    };
    let mut tables = vec![table(&config.node)];
    tables.extend(config.listeners.iter().map(listener));
    tables.extend([table(&config.store), table(&config.session), table(&config.mqtt)]);
    tables.extend([table(&config.limits), table(&config.sys), table(&config.log)]);
    tables
}

impl Loaded {
    /// The whole configuration as a file that would give it again, with where each value came from.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut text = String::new();
        for table in tables(&self.config) {
            let _ = writeln!(text, "{}[{}]", if text.is_empty() { "" } else { "\n" }, table.name);
            for setting in table.settings {
                let origin = self.origins.get(&setting.key).map_or_else(|| "default".to_owned(), ToString::to_string);
                let _ = writeln!(text, "{} = {} # {origin}", last(&setting.key), setting.value);
            }
        }
        text
    }
}

impl Config {
    /// An example of a config file: every key with its default and what it is for.
    #[must_use]
    pub fn example() -> String {
        let mut text = String::from(
            "# An example of a config file: every setting with its default. What is left out keeps its default.\n\
             # Sizes and durations have units: \"64KiB\", \"2MB\"; \"500ms\", \"30s\", \"7d\".\n",
        );
        for table in tables(&Self::default()) {
            let _ = write!(text, "\n{}[{}]\n", comment(&table.about), table.name);
            for setting in table.settings {
                let about = format!("{}\nExpected: {}.", setting.about.trim(), setting.expected);
                let _ = write!(text, "{}{} = {}\n\n", comment(&about), last(&setting.key), setting.value);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// The page of the manual about every setting.
    #[must_use]
    pub fn manual() -> String {
        let mut text = String::from(include_str!("manual.md"));
        for table in tables(&Self::default()) {
            let name = if table.name.starts_with("listeners.") { "listeners.NAME" } else { &table.name };
            let _ = write!(
                text,
                "\n## `[{name}]`\n\n{}\n\n| key | default | may be |\n| --- | --- | --- |\n",
                flow(&table.about)
            );
            for setting in &table.settings {
                let (key, value) = (last(&setting.key), &setting.value);
                let _ = writeln!(text, "| `{key}` | `{value}` | {} |", setting.expected);
            }
            for setting in &table.settings {
                let key = last(&setting.key);
                let _ = write!(text, "\n**`{name}.{key}`**: {}\n", flow(&setting.about));
            }
        }
        text
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Doc lines as one paragraph.
fn flow(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text as comment lines of at most 100 characters.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text
        .split("\nExpected")
        .enumerate()
        .map(|(part, text)| if part == 0 { text.to_owned() } else { format!("Expected{text}") })
    {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > 100 {
                let _ = writeln!(lines, "{line}");
                line = String::from("#");
            }
            let _ = write!(line, " {word}");
        }
        let _ = writeln!(lines, "{line}");
    }
    lines
}
