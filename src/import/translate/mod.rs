//! From mosquitto's options to Nightjar's settings; each option is told what becomes of it.
//!
//! | file | its options |
//! | --- | --- |
//! | `listeners` | doors: addresses, TLS, WebSocket, and what mosquitto sets for each of them |
//! | `security` | who may come in, and what each may do |
//! | `files` | password files, ACL files, plugins: mosquitto may have others at each listener |
//! | `limits` | sessions, queues, packets, persistence |
//! | `log` | the log and the `$SYS` topics |
//! | `bridges` | bridges |
//!
//! Where something cannot be kept that protects (TLS-PSK, a topic prefix, a demanded certificate), the listener or
//! bridge is left out rather than opened wider than it was.

mod bridges;
mod files;
mod limits;
mod listeners;
mod log;
mod security;

use super::conf::{Conf, Group, Opt, Wrong};
use super::report::{Draft, Fate, Report};
use super::toml::Toml;
use std::path::{Path, PathBuf};

pub(super) use limits::Queues;

/// What the configuration comes to.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) toml: Toml,
    draft: Draft,
    conf: Conf,
    /// Where the database is, if there is one.
    pub(super) database: Option<PathBuf>,
    /// Whether a password file that lets nobody in must be made.
    pub(super) needs_passwords: bool,
    /// Whether a file of rules that denies everything must be made.
    pub(super) needs_rules: bool,
    /// Whether user names are proved.
    pub(super) proves_users: bool,
    /// After how many seconds sessions end that would not by themselves.
    pub(super) expiration: Option<u64>,
    /// The bounds of queues.
    pub(super) queues: Queues,
    /// Ports of listeners at which a certificate's whole subject was the user name: nobody is called so any more.
    pub(super) subject_ports: Vec<u16>,
    /// Bridges that are written.
    pub(super) bridges: Vec<bridges::Known>,
}

impl Translation {
    /// Says what no option shows.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.draft.note(text);
    }

    /// The config file and the report.
    pub(super) fn finish(self, head: &str) -> (String, Report) {
        (self.toml.finish(head), self.draft.finish(&self.conf))
    }
}

/// Translates the file `path`; `out` is the folder that the configuration is written to.
///
/// # Errors
/// With all that is wrong with the files.
pub(super) fn translate(path: &Path, out: &Path) -> Result<Translation, Vec<Wrong>> {
    let conf = Conf::read(path)?;
    let draft = Draft::new(&conf);
    let mut writer = Writer {
        conf: &conf,
        toml: Toml::default(),
        draft,
        wrong: Vec::new(),
        kept: Vec::new(),
        taken: Vec::new(),
        subject_ports: Vec::new(),
    };
    writer.path("node", "data", &out.join("data"));
    writer.listeners();
    let security = writer.security(out);
    writer.shared();
    let (queues, expiration) = writer.limits();
    let database = writer.persistence();
    writer.log();
    let bridges = writer.bridges();
    let Writer { toml, draft, wrong, subject_ports, .. } = writer;
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let security::Security { needs_passwords, needs_rules, proves_users } = security;
    Ok(Translation {
        toml,
        draft,
        conf,
        database,
        needs_passwords,
        needs_rules,
        proves_users,
        expiration,
        queues,
        subject_ports,
        bridges,
    })
}

/// A listener that is written.
struct Kept {
    /// Its number in the configuration; none if no line defines it.
    at: Option<usize>,
    /// Its tables: one for each address.
    tables: Vec<String>,
    /// Whether a certificate says who a client is.
    identity: bool,
    /// Whether everyone may come in.
    anonymous: bool,
}

/// The translation while it is being made.
struct Writer<'c> {
    conf: &'c Conf,
    toml: Toml,
    draft: Draft,
    wrong: Vec<Wrong>,
    kept: Vec<Kept>,
    /// Addresses of listeners that are written.
    taken: Vec<String>,
    subject_ports: Vec<u16>,
}

impl<'c> Writer<'c> {
    fn option(&self, at: usize) -> &'c Opt {
        &self.conf.options[at]
    }

    fn honoured(&mut self, at: usize, text: impl Into<String>) {
        self.draft.set(at, Fate::Honoured, text);
    }

    fn changed(&mut self, at: usize, text: impl Into<String>) {
        self.draft.set(at, Fate::Changed, text);
    }

    fn unsupported(&mut self, at: usize, text: impl Into<String>) {
        self.draft.set(at, Fate::Unsupported, text);
    }

    fn wrong(&mut self, at: usize, what: impl Into<String>) {
        let option = self.option(at);
        let what = format!("{}: {}", option.name, what.into());
        self.wrong.push(Wrong { place: Some(option.place.clone()), what });
    }

    /// Sets a text, a path, a number or a flag, and says so.
    fn put(&mut self, at: usize, table: &str, key: &str, value: impl Into<String>) {
        let value = value.into();
        self.honoured(at, format!("{table}.{key} = {value}"));
        self.toml.set(table, key, value);
    }

    fn path(&mut self, table: &str, key: &str, path: &Path) {
        self.toml.text(table, key, &path.to_string_lossy());
    }

    /// A flag that is what Nightjar does anyway when it is `same`, and cannot be had otherwise.
    fn fixed_flag(&mut self, group: &Group, name: &str, same: bool, else_unsupported: &str) {
        let Some(at) = self.conf.last(group, name) else { return };
        if self.conf.flag(group, name) == Some(same) {
            self.honoured(at, "it is so");
        } else {
            self.unsupported(at, else_unsupported);
        }
    }
}

/// A path as mosquitto would find it, from the root: its own folder is not known, so the current one has to do.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// A number of seconds as a setting.
fn seconds(number: u64) -> String {
    format!("\"{number}s\"")
}

/// `name` as a table may be called: lower-case letters, digits, `-` and `_`; and as no other in `taken` is.
fn table_name(name: &str, taken: &[String]) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let name: String = name.to_lowercase().chars().map(allowed).collect();
    let name = if name.is_empty() { "unnamed".to_owned() } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    free.unwrap_or(name)
}

#[cfg(test)]
mod tests;
