//! Changes to bridges that were made while the broker ran: a file of its own in the data folder, `bridges.toml`, that
//! lies over the config file. Its tables are those of the config file; `removed = true` takes a bridge away that the
//! config file names.
//!
//! Nothing is filled in where it says `${NAME}`: what was set is what is meant.

use super::access;
use super::bridge::{Bridge, KEYS};
use super::files;
use super::kinds::{Found, quote};
use super::mistake::{Mistake, Mistakes};
use super::more_kinds::Texts;
use super::reader::{Gathered, Origin, is_name, no_such};
use super::sections::Node;
use crate::env::disk;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Its name in the data folder.
const FILE: &str = "bridges.toml";
/// Takes a bridge away.
const REMOVED: &str = "removed";

const HEAD: &str = "\
# Changes to bridges that were made while the broker ran, by `nightjar ctl bridge`, the API or the page.\n\
# They lie over the config file. The broker writes this file anew with each change.\n";

/// The text of a file of changes, and where it is.
#[derive(Clone, Debug)]
pub struct Overlaid {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Overlaid {
    /// Where the file of changes is in a data folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// The file of changes in a data folder; empty if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(data: &Path) -> Result<Self, Mistakes> {
        let path = Self::path(data);
        match fs::metadata(&path) {
            // A data folder that is none is told of elsewhere.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Self { path, text: String::new() })
            }
            _ => match access::read_text(&path) {
                Ok(text) => Ok(Self { path, text }),
                Err(problem) => {
                    let origin = Some(Origin::File { path, line: None });
                    Err(Mistakes(vec![Mistake { origin, key: String::new(), problem }]))
                }
            },
        }
    }

    /// Writes it, for our own user alone since there may be passwords in it. A crash leaves the old text or the new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self) -> io::Result<()> {
        disk::replace(&self.path, self.text.as_bytes())
    }
}

/// The file of changes of the data folder that the settings name, if it is of use.
fn in_data_folder(gathered: &mut Gathered) -> Option<Overlaid> {
    let text = |key: &str| gathered.values.get(key).and_then(|(found, _)| found.text());
    // In memory alone the folder is never touched.
    if text("store.durability") == Some("memory") {
        return None;
    }
    let data = text("node.data").map_or_else(|| Node::default().data, PathBuf::from);
    Overlaid::read(&data).map_err(|Mistakes(mistakes)| gathered.mistakes.extend(mistakes)).ok()
}

/// Lays what was changed over what the config file says, and under what the environment and flags say.
pub(super) fn lay(given: Option<&Overlaid>, gathered: &mut Gathered) {
    let Some(overlaid) = given.cloned().or_else(|| in_data_folder(gathered)) else { return };
    let values = match files::parse(&overlaid.path, &overlaid.text) {
        Ok(values) => values,
        Err(mistake) => return gathered.mistakes.push(mistake),
    };
    let table = |key: &str| place(key).map(|(name, _)| name.to_owned());
    let configured: BTreeSet<String> = gathered.values.keys().filter_map(|key| table(key)).collect();
    let has = |name: &str, setting: &str| values.iter().any(|(key, ..)| place(key) == Some((name, setting)));
    let added = |name: &str| has(name, "address") && has(name, "topics");
    let mut removed = Vec::new();
    for (key, found, line) in &values {
        let origin = Origin::File { path: overlaid.path.clone(), line: *line };
        let mut mistake = |problem: String| {
            gathered.mistakes.push(Mistake { origin: Some(origin.clone()), key: key.clone(), problem });
        };
        match (place(key), found) {
            (None, Found::Table) if key == "bridges" => {}
            (None, _) => mistake("expected tables as [bridges.hub], and no other setting in this file".to_owned()),
            (Some((name, REMOVED)), Found::Flag(true)) => removed.push(name),
            (Some((_, REMOVED)), Found::Flag(false)) => {}
            (Some((_, REMOVED)), other) => mistake(format!("expected true or false, found {}", other.describe())),
            // What was changed of a bridge that has left the config file since means nothing any more.
            (Some((name, _)), _) if !configured.contains(name) && !added(name) => {}
            _ => {
                let stronger = gathered.values.get(key).is_some_and(|(_, of)| !matches!(of, Origin::File { .. }));
                if !stronger {
                    gathered.values.insert(key.clone(), (found.clone(), origin));
                }
            }
        }
    }
    for name in removed {
        gathered.values.retain(|key, _| place(key).is_none_or(|(of, _)| of != name));
    }
}

/// The bridge and the setting that a key is about; the setting is empty where a table stands for itself.
fn place(key: &str) -> Option<(&str, &str)> {
    let rest = key.strip_prefix("bridges.")?;
    Some(rest.rsplit_once('.').unwrap_or((rest, "")))
}

/// What was changed of one bridge; the default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
struct Changed {
    removed: bool,
    settings: BTreeMap<String, Found>,
}

/// What was changed of all bridges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay(BTreeMap<String, Changed>);

impl Overlay {
    /// What a file of changes says.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(overlaid: &Overlaid) -> Result<Self, Mistakes> {
        let values = files::parse(&overlaid.path, &overlaid.text).map_err(|mistake| Mistakes(vec![mistake]))?;
        let mut overlay = Self::default();
        for (key, found, _) in values {
            let Some((name, field)) = place(&key) else { continue };
            let changed = overlay.0.entry(name.to_owned()).or_default();
            match (field, found) {
                (REMOVED, found) => changed.removed = found == Found::Flag(true),
                ("", _) => {}
                (field, found) => drop(changed.settings.insert(field.to_owned(), found)),
            }
        }
        Ok(overlay)
    }

    /// The file that says it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (name, Changed { removed, settings }) in &self.0 {
            let _ = write!(text, "\n[bridges.{name}]\n");
            if *removed {
                let _ = writeln!(text, "{REMOVED} = true");
            }
            for (field, found) in settings {
                let _ = writeln!(text, "{field} = {}", toml(found));
            }
        }
        text
    }

    /// Whether anything was changed of a bridge.
    #[must_use]
    pub fn knows(&self, bridge: &str) -> bool {
        self.0.contains_key(bridge)
    }

    /// Whether a bridge was taken away.
    #[must_use]
    pub fn removes(&self, bridge: &str) -> bool {
        self.0.get(bridge).is_some_and(|changed| changed.removed)
    }

    /// Changes settings of a bridge; `null` has the config file decide again.
    ///
    /// # Errors
    /// When one is no setting of a bridge, or its value none that a file could have.
    pub fn set(&mut self, bridge: &str, settings: &Map<String, Value>) -> Result<(), Mistakes> {
        let mut mistakes = Vec::new();
        let changed = self.0.entry(bridge.to_owned()).or_default();
        for (field, value) in settings {
            let key = format!("bridges.{bridge}.{field}");
            if let Err(problem) = known(bridge, field) {
                mistakes.push(Mistake { origin: None, key, problem });
                continue;
            }
            match found(value) {
                Ok(Some(found)) => drop(changed.settings.insert(field.clone(), found)),
                Ok(None) => drop(changed.settings.remove(field)),
                Err(problem) => mistakes.push(Mistake { origin: None, key, problem }),
            }
        }
        self.0.retain(|_, changed| *changed != Changed::default());
        if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
    }

    /// Has the config file decide a setting of a bridge again, or all of them.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn reset(&mut self, bridge: &str, field: Option<&str>) -> Result<(), Mistakes> {
        let Some(field) = field else {
            self.0.remove(bridge);
            return Ok(());
        };
        known(bridge, field).map_err(|problem| {
            let key = format!("bridges.{bridge}.{field}");
            Mistakes(vec![Mistake { origin: None, key, problem }])
        })?;
        if let Some(changed) = self.0.get_mut(bridge) {
            changed.settings.remove(field);
        }
        self.0.retain(|_, changed| *changed != Changed::default());
        Ok(())
    }

    /// Takes a bridge away. `configured`: the config file names it too.
    pub fn remove(&mut self, bridge: &str, configured: bool) {
        self.0.remove(bridge);
        if configured {
            self.0.insert(bridge.to_owned(), Changed { removed: true, settings: BTreeMap::new() });
        }
    }
}

/// Whether `field` is a setting of `bridge`; else what is wrong.
fn known(bridge: &str, field: &str) -> Result<(), String> {
    if !is_name(bridge) {
        return Err("expected a bridge's name of lower-case letters, digits, \"-\" and \"_\"".to_owned());
    }
    if KEYS.contains(&field) {
        return Ok(());
    }
    let known: Vec<String> = KEYS.iter().map(|known| format!("bridges.{bridge}.{known}")).collect();
    Err(no_such(&format!("bridges.{bridge}.{field}"), &known))
}

/// A value of JSON as one of a file; none for `null`.
fn found(value: &Value) -> Result<Option<Found>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(flag) => Found::Flag(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Found::Number(number.into()),
            // A file has whole numbers to 2^63 alone.
            (None, fraction) if number.is_f64() => Found::Fraction(fraction.unwrap_or_default()),
            _ => return Err(format!("expected a number below 2^63, found {number}")),
        },
        Value::String(text) => Found::Text(text.clone()),
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            Found::List(texts.ok_or("expected a list of texts")?)
        }
        Value::Object(_) => return Err("expected a text, a number, true, false or a list, found an object".to_owned()),
    }))
}

fn toml(found: &Found) -> String {
    match found {
        Found::Flag(flag) => flag.to_string(),
        Found::Number(number) => number.to_string(),
        // With its point or exponent, or it would be a whole number.
        Found::Fraction(number) => format!("{number:?}"),
        Found::Text(text) | Found::Bare(text) => quote(text),
        Found::List(list) => format!("[{}]", list.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ")),
        Found::Table => "{}".to_owned(),
    }
}

/// What somebody wrote behind `KEY=` as the value that a setting of a bridge wants: a number, `true`, a list (as JSON, or
/// with commas between), or the text itself.
#[must_use]
pub fn typed(field: &str, text: &str) -> Value {
    let takes = |value: &Value| matches!(found(value), Ok(Some(found)) if Bridge::takes(field, &found));
    let json = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string());
    if let Some(value) = json.filter(takes) {
        return value;
    }
    let parts = Texts::split(&Found::Bare(text.to_owned())).map(Value::from);
    if let Some(list) = parts.filter(takes) {
        return list;
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn overlaid(text: &str) -> Overlaid {
        Overlaid { path: FILE.into(), text: text.to_owned() }
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut overlay = Overlay::default();
        let all = json!({"address": ["mqtt://a", "mqtt://b"], "password": "a\"b\\c\n\u{1b}${HOME} ü", "clean_start": true,
            "lazy_threshold": 7, "max_hops": 1.5, "username": ""});
        assert_eq!(overlay.set("hub-1", &object(all)), Ok(()));
        overlay.remove("gone", true);
        overlay.remove("never-there", false);
        let text = overlay.to_text();
        assert_eq!(Overlay::parse(&overlaid(&text)).as_ref(), Ok(&overlay), "{text}");
        assert!(overlay.removes("gone") && !overlay.knows("never-there"), "{text}");
    }

    #[test]
    fn a_setting_comes_and_goes() {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.set("hub", &object(json!({"mode": "paused", "clean_start": true}))), Ok(()));
        assert!(overlay.to_text().ends_with("[bridges.hub]\nclean_start = true\nmode = \"paused\"\n"));
        assert_eq!(overlay.set("hub", &object(json!({"mode": null}))), Ok(()));
        assert_eq!(overlay.reset("hub", Some("clean_start")), Ok(()));
        assert!(!overlay.knows("hub"));
        for (bridge, settings, told) in [
            ("hub", json!({"mod": "paused"}), "bridges.hub.mod: no such setting; did you mean bridges.hub.mode?"),
            ("hub", json!({"removed": true}), "bridges.hub.removed: no such setting"),
            ("hub", json!({"topics": [["x"]]}), "bridges.hub.topics: expected a list of texts"),
            ("hub", json!({"topics": {}}), "found an object"),
            ("hub", json!({"queue_messages": u64::MAX}), "below 2^63"),
            ("a]b", json!({"mode": "paused"}), "a bridge's name"),
        ] {
            let told_us = overlay.set(bridge, &object(settings)).map_err(|mistakes| mistakes.to_string());
            assert!(told_us.as_ref().is_err_and(|line| line.contains(told)), "{told_us:?}");
        }
    }

    #[test]
    fn bare_text_becomes_what_the_setting_wants() {
        for (field, text, value) in [
            ("clean_start", "true", json!(true)),
            ("lazy_threshold", "7", json!(7)),
            ("queue_bytes", "1000000", json!(1_000_000)),
            ("queue_bytes", "64MiB", json!("64MiB")),
            ("client_id", "7", json!("7")),
            ("password", "true", json!("true")),
            ("address", "mqtt://a, mqtt://b", json!(["mqtt://a", "mqtt://b"])),
            ("topics", "[\"a,b out 1\"]", json!(["a,b out 1"])),
            ("topics", "a out 1", json!(["a out 1"])),
            ("mode", "paused", json!("paused")),
            ("mode", "asleep", json!("asleep")),
            ("nonsense", "7", json!("7")),
        ] {
            assert_eq!(typed(field, text), value, "{field}={text}");
        }
    }
}
