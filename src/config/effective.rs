//! A configuration as text: as TOML with the origin of every value, and as the page of the manual.

use super::bridge::{self, Bridge};
use super::listener::{self, Listener};
use super::preset::Preset;
use super::sections::{Described, Section};
use super::{Access, Admin, Auth, Cluster, Config, Limits, Loaded, Log, Mqtt, Node, Session, Store, Sys};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every key that there is, but those of listeners and bridges, whose names are the operator's.
pub(super) fn keys() -> Vec<String> {
    fn of<S: Section>() -> impl Iterator<Item = String> {
        S::KEYS.iter().map(|key| format!("{}.{key}", S::KEY))
    }
    of::<Node>()
        .chain(of::<Store>())
        .chain(of::<Session>())
        .chain(of::<Mqtt>())
        .chain(of::<Limits>())
        .chain(of::<Auth>())
        .chain(of::<Access>())
        .chain(of::<Admin>())
        .chain(of::<Cluster>())
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
    tables.extend(config.bridges.iter().map(of_bridge));
    tables.extend([table(&config.store), table(&config.session), table(&config.mqtt)]);
    tables.extend([table(&config.limits), table(&config.auth), table(&config.access), table(&config.admin)]);
    tables.extend([table(&config.cluster), table(&config.sys), table(&config.log)]);
    tables
}

fn of_bridge(bridge: &Bridge) -> Table {
    Table { name: format!("bridges.{}", bridge.name), about: bridge::ABOUT.to_owned(), settings: bridge.describe() }
}

/// The values that a preset sets, by their keys.
fn preset_values(config: &Config) -> BTreeMap<String, &'static str> {
    let of = |bridge: &Bridge| {
        let named = |settings: Bridge| Bridge { name: bridge.name.clone(), ..settings }.describe();
        let plain = named(Bridge::default());
        let sets = named(bridge.preset.settings()).into_iter().zip(plain);
        let preset = bridge.preset.name();
        sets.filter(|(set, plain)| set.value != plain.value).map(|(set, _)| (set.key, preset)).collect::<Vec<_>>()
    };
    config.bridges.iter().filter(|bridge| bridge.preset != Preset::None).flat_map(of).collect()
}

impl Loaded {
    /// The whole configuration as a file that would give it again, with where each value came from.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let presets = preset_values(&self.config);
        for table in tables(&self.config) {
            let _ = writeln!(text, "{}[{}]", if text.is_empty() { "" } else { "\n" }, table.name);
            for setting in table.settings {
                let default =
                    || presets.get(&setting.key).map_or_else(|| "default".into(), |of| format!("preset {of}"));
                let origin = self.origins.get(&setting.key).map_or_else(default, ToString::to_string);
                let _ = writeln!(text, "{} = {} # {origin}", last(&setting.key), setting.value);
            }
        }
        text
    }
}

/// Keys that take effect when the process starts, by their beginnings: what a reload cannot change.
const FIXED: &[&str] =
    &["node.", "store.", "cluster.", "admin.address", "admin.socket", "sys.", "log.format", "limits.backlog"];

/// Keys whose values are nobody's business. Each can be given as the path of a file as well, by `KEY_file`.
pub(super) const SECRETS: &[&str] = &["auth.jwt_secret", "auth.http_token", "admin.token", "admin.read_token"];

/// Whether the value of `key` is nobody's business.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key) || (key.starts_with("bridges.") && key.ends_with(".password"))
}

fn needs_restart(key: &str) -> bool {
    FIXED.iter().any(|fixed| key.starts_with(fixed))
}

/// What a new configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that a reload puts in force.
    pub applied: Vec<String>,
    /// Keys that wait for a restart.
    pub needs_restart: Vec<String>,
}

impl Config {
    /// What is different in `new`.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let values = |config: &Self| -> BTreeMap<String, String> {
            let all = tables(config).into_iter().flat_map(|table| table.settings);
            all.map(|setting| (setting.key, setting.value)).collect()
        };
        let (before, after) = (values(self), values(new));
        let mut changes = Changes::default();
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
            // A table that came or went as a whole is one change, not one for each of its settings.
            let table = key.rsplit_once('.').map_or(key.as_str(), |(table, _)| table);
            let named = |config: &Self| config.has_table(table);
            if table.contains('.') && named(self) != named(new) {
                if changes.applied.last().is_none_or(|last| last != table) {
                    changes.applied.push(table.to_owned());
                }
                continue;
            }
            let list = if needs_restart(key) { &mut changes.needs_restart } else { &mut changes.applied };
            list.push(key.clone());
        }
        for (key, differs) in [
            ("auth.jwt_secret", self.auth.jwt_secret != new.auth.jwt_secret),
            ("auth.http_token", self.auth.http_token != new.auth.http_token),
            ("admin.token", self.admin.token != new.admin.token),
            ("admin.read_token", self.admin.read_token != new.admin.read_token),
        ] {
            if differs && !changes.applied.iter().any(|applied| applied == key) {
                changes.applied.push(key.to_owned());
            }
        }
        for bridge in &self.bridges {
            let key = format!("bridges.{}.password", bridge.name);
            let other = new.bridges.iter().find(|other| other.name == bridge.name);
            let differs = other.is_some_and(|other| other.password != bridge.password);
            if differs && !changes.applied.contains(&key) {
                changes.applied.push(key);
            }
        }
        changes
    }

    fn has_table(&self, name: &str) -> bool {
        let listeners = self.listeners.iter().map(|of| format!("listeners.{}", of.name));
        listeners.chain(self.bridges.iter().map(|of| format!("bridges.{}", of.name))).any(|table| table == name)
    }

    /// An example of a config file: every key with its default and what it is for.
    #[must_use]
    pub fn example() -> String {
        let mut text = String::from(
            "# An example of a config file: every setting with its default. What is left out keeps its default.\n\
             # Sizes and durations have units: \"64KiB\", \"2MB\"; \"500ms\", \"30s\", \"7d\".\n",
        );
        for table in documented() {
            // There is no bridge unless somebody wants one.
            let off = if table.name.starts_with("bridges.") { "#" } else { "" };
            let _ = write!(text, "\n{}{off}[{}]\n", comment(&table.about), table.name);
            for setting in table.settings {
                let about = format!("{}\nExpected: {}.", setting.about.trim(), setting.expected);
                let _ = write!(text, "{}{off}{} = {}\n\n", comment(&about), last(&setting.key), setting.value);
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
        for table in documented() {
            let name = if table.name.starts_with("listeners.") { "listeners.NAME" } else { &table.name };
            let _ = write!(
                text,
                "\n## `[{name}]`\n\n{}\n\n| key | default | may be |\n| --- | --- | --- |\n",
                flow(&table.about)
            );
            for setting in &table.settings {
                let (key, value) = (last(&setting.key), &setting.value);
                let restart = if needs_restart(&setting.key) { "; takes effect at a restart" } else { "" };
                let _ = writeln!(text, "| `{key}` | `{value}` | {}{restart} |", setting.expected);
            }
            for setting in &table.settings {
                let key = last(&setting.key);
                let _ = write!(text, "\n**`{name}.{key}`**: {}\n", flow(&setting.about));
            }
        }
        text
    }
}

/// Every table that there can be, with its defaults.
fn documented() -> Vec<Table> {
    let mut tables = tables(&Config::default());
    let place = tables.iter().position(|table| table.name.starts_with("listeners.")).map_or(0, |place| place + 1);
    tables.insert(place, of_bridge(&Bridge::default()));
    tables
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
