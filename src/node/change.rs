//! Bridges changed while the node runs, for good. A change goes the way of a reload: it is laid over the config file, the
//! whole is understood, and only then it is written and put in force.

use super::reload::ReloadError;
use super::{Inside, State};
use crate::admin::{BridgeChange, BridgeRefused};
use crate::config::{Config, Durability, Loaded, Mistake, Mistakes, Origin, Overlaid, Overlay, Sources};
use std::path::PathBuf;

/// Where changes are kept. It stays what it was at the start, since the data folder does.
pub(super) enum Kept {
    /// In the data folder.
    Folder(PathBuf),
    /// In memory alone, as everything else.
    Memory(Overlaid),
}

impl Kept {
    pub(super) fn new(config: &Config) -> Self {
        match config.store.durability {
            Durability::Memory => Self::Memory(Overlaid { path: "changes in memory".into(), text: String::new() }),
            _ => Self::Folder(config.node.data.clone()),
        }
    }

    /// The file that they are told to come from.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Folder(data) => Overlaid::path(data),
            Self::Memory(overlaid) => overlaid.path.clone(),
        }
    }

    /// What was changed up to now.
    pub(super) fn overlaid(&self) -> Result<Overlaid, Mistakes> {
        match self {
            Self::Folder(data) => Overlaid::read(data),
            Self::Memory(overlaid) => Ok(overlaid.clone()),
        }
    }

    fn keep(&mut self, new: Overlaid) -> Result<(), ReloadError> {
        match self {
            Self::Folder(_) => new.write().map_err(|source| ReloadError::Keep { path: new.path, source }),
            Self::Memory(overlaid) => {
                *overlaid = new;
                Ok(())
            }
        }
    }
}

impl Inside {
    /// Makes a change to a bridge, keeps it and puts it in force; or nothing at all.
    pub(super) fn change_bridge(&self, name: &str, change: BridgeChange) -> Result<(), BridgeRefused> {
        // Held to the end: changes come one after the other, and reloads between them.
        let mut state = self.state.lock();
        let old = state.kept.overlaid().map_err(told)?;
        let mut overlay = Overlay::parse(&old).map_err(told)?;
        let removes = matches!(change, BridgeChange::Remove);
        let wanted = self.edit(&state, &mut overlay, name, change)?;
        let new = Overlaid { text: overlay.to_text(), ..old };
        let loaded = self.load(new.clone()).map_err(told)?;
        if !removes {
            check(&loaded, &new, name, &wanted).map_err(told)?;
        }
        let changes = self.take_up(&mut state, loaded, |state| state.kept.keep(new)).map_err(|error| match error {
            ReloadError::Mistakes(mistakes) => told(mistakes),
            other => BridgeRefused::Failed(other.to_string()),
        })?;
        let own = format!("bridges.{name}.");
        // The whole was read again: what somebody wrote into the config file meanwhile is in force too.
        let others: Vec<String> = changes.applied.into_iter().filter(|key| !key.starts_with(&own)).collect();
        if !(others.is_empty() && changes.needs_restart.is_empty()) {
            let (changed, restart) = (others.join(" "), changes.needs_restart.join(" "));
            tracing::warn!(changed, restart, "the config file was read again with a change of a bridge");
        }
        Ok(())
    }

    /// Makes the change in what was changed; the settings that it is about.
    fn edit(
        &self,
        state: &State,
        overlay: &mut Overlay,
        name: &str,
        change: BridgeChange,
    ) -> Result<Vec<String>, BridgeRefused> {
        let is_there = state.loaded.config.bridges.iter().any(|bridge| bridge.name == name);
        let there = || if is_there { Ok(()) } else { Err(BridgeRefused::Unknown) };
        match change {
            BridgeChange::Add(_) if is_there => {
                return Err(BridgeRefused::Conflict("there is a bridge of this name: change its settings".to_owned()));
            }
            BridgeChange::Add(_) if overlay.removes(name) && self.is_configured(overlay, name) => {
                let why = "the config file has a bridge of this name, which was removed: reset it to have it again";
                return Err(BridgeRefused::Conflict(why.to_owned()));
            }
            BridgeChange::Add(settings) => {
                // Nothing is left of one that had the name before.
                overlay.remove(name, false);
                overlay.set(name, &settings).map_err(told)?;
                return Ok(settings.into_iter().map(|(key, _)| key).collect());
            }
            BridgeChange::Set(settings) => {
                there()?;
                overlay.set(name, &settings).map_err(told)?;
                return Ok(settings.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect());
            }
            BridgeChange::Reset(Some(key)) => {
                there()?;
                overlay.reset(name, Some(&key)).map_err(told)?;
            }
            BridgeChange::Reset(None) if overlay.knows(name) && !self.is_configured(overlay, name) => {
                let why = "the config file has no bridge of this name: this one can be changed or removed";
                return Err(BridgeRefused::Conflict(why.to_owned()));
            }
            BridgeChange::Reset(None) if overlay.knows(name) => overlay.reset(name, None).map_err(told)?,
            BridgeChange::Reset(None) => there()?,
            BridgeChange::Remove => {
                there()?;
                overlay.remove(name, self.is_configured(overlay, name));
            }
        }
        Ok(Vec::new())
    }

    fn load(&self, overlaid: Overlaid) -> Result<Loaded, Mistakes> {
        Config::load(&Sources { overlaid: Some(overlaid), ..self.sources.clone() })
    }

    /// Whether there is a bridge of this name without what was changed of it. Where that cannot be known, there is.
    fn is_configured(&self, overlay: &Overlay, name: &str) -> bool {
        let mut without = overlay.clone();
        without.remove(name, false);
        let loaded = self.load(Overlaid { path: PathBuf::new(), text: without.to_text() });
        loaded.map_or(true, |loaded| loaded.config.bridges.iter().any(|bridge| bridge.name == name))
    }
}

fn told(mistakes: Mistakes) -> BridgeRefused {
    BridgeRefused::Mistakes(mistakes.0.iter().map(ToString::to_string).collect())
}

/// Whether the bridge is what was asked for.
fn check(loaded: &Loaded, overlaid: &Overlaid, name: &str, wanted: &[String]) -> Result<(), Mistakes> {
    if !loaded.config.bridges.iter().any(|bridge| bridge.name == name) {
        let key = format!("bridges.{name}.address");
        let problem = "missing: a bridge has an address and topics".to_owned();
        return Err(Mistakes(vec![Mistake { origin: None, key, problem }]));
    }
    let mistakes: Vec<Mistake> = wanted.iter().filter_map(|field| elsewhere(loaded, overlaid, name, field)).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

/// A setting that something stronger decides: a change of it would change nothing.
fn elsewhere(loaded: &Loaded, overlaid: &Overlaid, name: &str, field: &str) -> Option<Mistake> {
    let key = format!("bridges.{name}.{field}");
    let origin = loaded.origins.get(&key)?;
    let ours = matches!(origin, Origin::File { path, .. } if *path == overlaid.path);
    let problem = "is set there, which is stronger than a change made here".to_owned();
    (!ours).then(|| Mistake { origin: Some(origin.clone()), key, problem })
}
