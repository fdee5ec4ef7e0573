//! The sources, laid over each other: what was written, and where.

use super::files;
use super::kinds::{Found, quote};
use super::listener::BUILT_IN;
use super::mistake::{Mistake, Mistakes};
use super::overlay::{self, Overlaid};
use super::reader::{Gathered, Origin};
use config::{Environment, Map, Source, ValueKind};
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// What stands in place of the file of changes that is in the data folder.
    pub overlaid: Option<Overlaid>,
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
        files::read(&path, &sources.environment, &mut gathered).map_err(Mistakes)?;
    }
    environment(&sources.environment, &mut gathered);
    if !sources.listen.is_empty() {
        gathered.values.retain(|key, _| !key.starts_with("listeners."));
    }
    set(&sources.set, &mut gathered);
    flags(sources, &mut gathered);
    // Last, since all of them may say where the data folder is; they stay over it all the same.
    overlay::lay(sources.overlaid.as_ref(), &mut gathered);
    files::secrets(&mut gathered);
    Ok(gathered)
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
/// `NIGHTJAR_PORT=tcp://…`, `NIGHTJAR_SERVICE_HOST` and more, which nobody wrote and nobody can take away. With another
/// service `nightjar-cluster`, there are `NIGHTJAR_CLUSTER_PORT` and the like.
fn is_service_link(name: &str) -> bool {
    !name.contains("__")
        && (name.ends_with("_PORT")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_kubernetes_makes_are_no_settings() {
        for name in [
            "NIGHTJAR_PORT",
            "NIGHTJAR_SERVICE_HOST",
            "NIGHTJAR_SERVICE_PORT_MQTT",
            "NIGHTJAR_PORT_1883_TCP_ADDR",
            "NIGHTJAR_CLUSTER_PORT",
            "NIGHTJAR_CLUSTER_SERVICE_HOST",
            "NIGHTJAR_CLUSTER_PORT_7883_TCP",
        ] {
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
