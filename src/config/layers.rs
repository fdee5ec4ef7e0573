//! The sources, laid over each other: what was written, and where.

use super::access;
use super::kinds::{Found, quote};
use super::listener::BUILT_IN;
use super::mistake::{Mistake, Mistakes};
use super::reader::{Gathered, Origin};
use config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Every variable that concerns the broker begins with it.
const PREFIX: &str = "NIGHTJAR_";
/// Names the config file, as `--config` does.
const CONFIG_FILE: &str = "NIGHTJAR_CONFIG";

/// Where a configuration comes from. The default is none of them: the built-in one.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// The environment; what does not begin with `NIGHTJAR_` is not looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// `--data DIR`.
    pub data: Option<PathBuf>,
    /// `--listen ADDR:PORT`: these listeners and no other.
    pub listen: Vec<String>,
    /// `--anonymous`: every listener lets everyone in.
    pub anonymous: bool,
}

impl Sources {
    /// The config file that is read, if any.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let named = || self.environment.iter().find(|(name, _)| name == CONFIG_FILE);
        self.file.clone().or_else(|| named().map(|(_, path)| PathBuf::from(path)))
    }
}

/// All values that are written anywhere, the strongest source of each.
pub(super) fn gather(sources: &Sources) -> Result<Gathered, Mistakes> {
    let mut gathered = Gathered::default();
    if let Some(path) = sources.file() {
        // What the file says cannot be known, so what the other sources say cannot be judged.
        file(&path, &mut gathered).map_err(|mistake| Mistakes(vec![mistake]))?;
    }
    environment(&sources.environment, &mut gathered);
    if !sources.listen.is_empty() {
        gathered.values.retain(|key, _| !key.starts_with("listeners."));
    }
    set(&sources.set, &mut gathered);
    flags(sources, &mut gathered);
    Ok(gathered)
}

fn file(path: &Path, gathered: &mut Gathered) -> Result<(), Mistake> {
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let text = access::read_text(path).map_err(|problem| Mistake {
        origin: Some(origin(None)),
        key: String::new(),
        problem,
    })?;
    let tree = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
        let problem = error.to_string();
        Mistake { origin: Some(origin(line_in(&problem))), key: String::new(), problem: problem.trim_end().to_owned() }
    })?;
    let mut flat = Vec::new();
    flatten("", tree, &mut flat);
    for (key, found) in flat {
        let line = line_of(&text, &key);
        gathered.values.insert(key, (found, origin(line)));
    }
    Ok(())
}

fn environment(variables: &[(OsString, OsString)], gathered: &mut Gathered) {
    let mut ours = Map::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name == CONFIG_FILE || is_no_setting(name) {
            continue;
        }
        match value.to_str() {
            Some(value) => drop(ours.insert(name.to_owned(), value.to_owned())),
            None => gathered.mistakes.push(Mistake {
                origin: Some(Origin::Environment(name.to_owned())),
                key: String::new(),
                problem: "expected text in UTF-8".to_owned(),
            }),
        }
    }
    let source = Environment::with_prefix("NIGHTJAR").prefix_separator("_").separator("__").source(Some(ours));
    let values = source.collect().expect("only a value that is no text is an error, and those were left out");
    for (key, value) in values {
        let ValueKind::String(text) = value.kind else { continue };
        let name = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
        gathered.values.insert(key, (Found::Bare(text), Origin::Environment(name)));
    }
}

/// Every setting's variable has `__` between section and key. One without is somebody else's, unless it looks as if it
/// was meant for us: a section, or the key alone, or both with the second underscore forgotten.
fn is_no_setting(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let is_typo = || {
        super::effective::keys().iter().filter_map(|key| key.split_once('.')).any(|(section, key)| {
            rest == section || rest == key || rest.strip_prefix(section).is_some_and(|key| key.starts_with('_'))
        })
    };
    !name.contains("__") && (is_service_link(name) || !is_typo())
}

/// Kubernetes gives every container variables about each service, named after it: with a service `nightjar` there are
/// `NIGHTJAR_PORT=tcp://…`, `NIGHTJAR_SERVICE_HOST` and more, which nobody wrote and nobody can take away.
fn is_service_link(name: &str) -> bool {
    !name.contains("__")
        && (name == "NIGHTJAR_PORT"
            || name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.contains("TCP") || rest.contains("UDP")))
}

fn set(settings: &[String], gathered: &mut Gathered) {
    for setting in settings {
        match setting.split_once('=') {
            Some((key, value)) => {
                let found = Found::Bare(value.trim().to_owned());
                gathered.values.insert(key.trim().to_owned(), (found, Origin::Flag("--set")));
            }
            None => gathered.mistakes.push(Mistake {
                origin: Some(Origin::Flag("--set")),
                key: String::new(),
                problem: format!("expected KEY=VALUE, as store.shards=16, found {}", quote(setting)),
            }),
        }
    }
}

fn flags(sources: &Sources, gathered: &mut Gathered) {
    let mut put = |key: String, found, flag| drop(gathered.values.insert(key, (found, Origin::Flag(flag))));
    if let Some(data) = &sources.data {
        put("node.data".to_owned(), Found::Bare(data.to_string_lossy().into_owned()), "--data");
    }
    for (position, address) in sources.listen.iter().enumerate() {
        let name = if position == 0 { BUILT_IN.to_owned() } else { format!("{BUILT_IN}-{}", position + 1) };
        put(format!("listeners.{name}.address"), Found::Bare(address.clone()), "--listen");
    }
    if sources.anonymous {
        let table = |key: &String| Some(key.strip_prefix("listeners.")?.rsplit_once('.')?.0.to_owned());
        let mut names: Vec<String> = gathered.values.keys().filter_map(table).collect();
        names.dedup();
        if names.is_empty() {
            names.push(BUILT_IN.to_owned());
        }
        for name in names {
            let value = (Found::Flag(true), Origin::Flag("--anonymous"));
            gathered.values.insert(format!("listeners.{name}.anonymous"), value);
        }
    }
}

/// A tree as a list of `section.key` and value. A table with nothing in it stands for itself.
fn flatten(prefix: &str, tree: Map<String, Value>, flat: &mut Vec<(String, Found)>) {
    for (name, value) in tree {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let found = match value.kind {
            ValueKind::Table(table) if !table.is_empty() => {
                flatten(&key, table, flat);
                continue;
            }
            ValueKind::Table(_) | ValueKind::Nil => Found::Table,
            // Listeners that need no names can be a list, and are then numbered.
            ValueKind::Array(list) if key == "listeners" && list.iter().all(is_table) => {
                let numbered = list.into_iter().enumerate().map(|(place, table)| ((place + 1).to_string(), table));
                flatten(&key, numbered.collect(), flat);
                continue;
            }
            ValueKind::Array(_) => Found::List,
            ValueKind::Boolean(flag) => Found::Flag(flag),
            ValueKind::I64(number) => Found::Number(number.into()),
            ValueKind::I128(number) => Found::Number(number),
            ValueKind::U64(number) => Found::Number(number.into()),
            ValueKind::U128(number) => Found::Number(i128::try_from(number).unwrap_or(i128::MAX)),
            ValueKind::Float(number) => Found::Fraction(number),
            ValueKind::String(text) => Found::Text(text),
        };
        flat.push((key, found));
    }
}

fn is_table(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Table(_))
}

/// The line on which `key` is set, found by its looks: the parser tells no lines of what it could read.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut table = String::new();
    let mut nearest = None;
    let mut listeners = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let full = if let Some(header) = line.strip_prefix('[') {
            table = header.trim_start_matches('[').split(']').next().unwrap_or("").trim().to_owned();
            if table == "listeners" && header.starts_with('[') {
                listeners += 1;
                table = format!("listeners.{listeners}");
            }
            table.clone()
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = name.trim().trim_matches(['"', '\'']);
            if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
        } else {
            continue;
        };
        if full == key {
            return Some(number + 1);
        }
        // An inline table, or the header, if nothing nearer comes.
        if key.strip_prefix(&full).is_some_and(|rest| rest.starts_with('.')) {
            nearest = Some(number + 1);
        }
    }
    nearest
}

/// The line that a parser's message names.
fn line_in(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("at line ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_table_and_key() {
        let text = "# shards = 1\n[node]\nshards = 2\n\n[store]\n  shards = 3 # of 16\n[listeners.main]\naddress='a'\n\
                    [[listeners]]\naddress='b'\n[[listeners]]\naddress='c'\n";
        for (key, line) in [
            ("node.shards", Some(3)),
            ("store.shards", Some(6)),
            ("store.other", Some(5)),
            ("listeners.main.address", Some(8)),
            ("listeners.1.address", Some(10)),
            ("listeners.2.address", Some(12)),
            ("listeners.2.strict", Some(11)),
            ("mqtt.max_qos", None),
        ] {
            assert_eq!(line_of(text, key), line, "{key}");
        }
    }

    #[test]
    fn variables_that_kubernetes_makes_are_no_settings() {
        for name in
            ["NIGHTJAR_PORT", "NIGHTJAR_SERVICE_HOST", "NIGHTJAR_SERVICE_PORT_MQTT", "NIGHTJAR_PORT_1883_TCP_ADDR"]
        {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["NIGHTJAR_CMD", "NIGHTJAR_CRASH_ROUNDS"] {
            assert!(is_no_setting(name), "{name}");
        }
        for name in
            ["NIGHTJAR_DATA", "NIGHTJAR_STORE", "NIGHTJAR_NODE_DATA", "NIGHTJAR_NODE__DATA", "NIGHTJAR_NOD__DATA"]
        {
            assert!(!is_no_setting(name), "{name}");
        }
    }
}
