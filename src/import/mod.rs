//! Moving in: mosquitto's configuration and database become Nightjar's.
//!
//! ```text
//! mosquitto.conf ──> conf ──> translate ──> toml, report ──┐
//! mosquitto.db   ──> db   ──> work ─────────────────────────┴──> load: ordinary ops into an ordinary store
//! ```
//! Everything is read and understood before anything is written, and everything is written beside its place before it
//! takes it.
//!
//! | file | its story |
//! | --- | --- |
//! | `conf` | mosquitto's options, as they stand in its files |
//! | `translate`, `toml` | the settings that they become |
//! | `report` | what is said of each option |
//! | `db` | mosquitto's database |
//! | `work` | what of it is to be in the store, and in which places |
//! | `load` | putting it there |

mod conf;
mod db;
mod error;
mod load;
mod report;
mod toml;
mod translate;
mod work;

pub use error::ImportError;
pub use load::LoadError;
pub use report::{Entry, Fate, Report};
pub use work::Counts;

use crate::broker::BRIDGE_PREFIX;
use crate::config::{self, Config, Sources, access};
use crate::store::StoreConfig;
use db::Database;
use nightjar_base::Wall;
use nightjar_shard::{NEVER, Overflow, QueueLimits};
use std::fs;
use std::io::{BufReader, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use translate::Translation;
use work::{Rules, Work};

/// The config file that is written.
const CONFIG: &str = "nightjar.toml";
/// The folder that the data goes to.
const DATA: &str = "data";
/// The password file that is made where nobody could come in.
const PASSWORDS: &str = "passwords";
/// The file of rules that is made where a plugin may have decided: it allows nothing.
const RULES: &str = "rules";
const RULES_TEXT: &str = "\
# What no rule allows is denied: without one, everything. See docs/access-rules.md.
#
# allow user ann to all on ann/#
";

/// What is to be imported, and to where.
#[derive(Clone, Debug)]
pub struct Request {
    /// mosquitto's config file.
    pub conf: PathBuf,
    /// Its database, if not where the configuration says.
    pub db: Option<PathBuf>,
    /// The folder for what comes of it.
    pub out: PathBuf,
    /// Whether a config file that is there already may be replaced.
    pub force: bool,
}

/// What was found, and is not written yet.
#[derive(Debug)]
pub struct Plan {
    out: PathBuf,
    force: bool,
    toml: String,
    needs_passwords: bool,
    needs_rules: bool,
    work: Option<Work>,
    now: Wall,
    /// What becomes of each option.
    pub report: Report,
    /// The database, and its format; none if there is none.
    pub database: Option<(PathBuf, u32)>,
}

impl Plan {
    /// Reads and understands everything. Nothing is written.
    ///
    /// # Errors
    /// When the configuration or the database is not as mosquitto's are.
    pub fn make(request: &Request, now: Wall) -> Result<Self, ImportError> {
        let out = std::path::absolute(&request.out)
            .map_err(|source| ImportError::Write { path: request.out.clone(), source })?;
        if out.to_str().is_none() {
            return Err(ImportError::Unreadable { path: out, why: "expected a path in UTF-8".to_owned() });
        }
        let mut translation = translate::translate(&request.conf, &out)
            .map_err(|wrong| ImportError::Configuration { lines: wrong.iter().map(ToString::to_string).collect() })?;
        let found = read_database(request.db.as_deref(), &mut translation)?;
        let (database, work) = match found {
            Some((path, database)) => {
                let version = database.version;
                let work = arrange(database, &mut translation, now)
                    .map_err(|why| ImportError::Unreadable { path: path.clone(), why })?;
                (Some((path, version)), Some(work))
            }
            None => (None, None),
        };
        settle_queues(&mut translation, work.as_ref().map(|work| work.counts).unwrap_or_default());
        let (needs_passwords, needs_rules) = (translation.needs_passwords, translation.needs_rules);
        let head = format!(
            "Written by `nightjar import mosquitto` from {}.\nEvery setting is told in docs/configuration.md.",
            request.conf.display()
        );
        let (toml, report) = translation.finish(&head);
        Ok(Self { out, force: request.force, toml, needs_passwords, needs_rules, work, now, report, database })
    }

    /// How much there is to be imported.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.work.as_ref().map(|work| work.counts).unwrap_or_default()
    }

    /// The config file.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.toml
    }

    /// Where the config file will be.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.out.join(CONFIG)
    }

    /// Where the data will be.
    #[must_use]
    pub fn data_path(&self) -> PathBuf {
        self.out.join(DATA)
    }

    fn data_beside(&self) -> PathBuf {
        self.out.join(format!("{DATA}.importing"))
    }

    /// What is in the way of writing, one line each.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let mut found = Vec::new();
        let config = self.config_path();
        if config.exists() && !self.force {
            found.push(format!("{}: is there already; --force replaces it", config.display()));
        }
        let data = self.data_path();
        match fs::read_dir(&data).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Ok(true) if self.work.is_some() => {
                found.push(format!("{}: holds something already: choose another --out", data.display()));
            }
            Ok(true) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => found.push(format!("{}: {}", data.display(), access::explain(&data, "read", &error))),
        }
        let beside = self.data_beside();
        if beside.exists() {
            found.push(format!("{}: an import that was cut short has left it: remove it", beside.display()));
        }
        found
    }

    /// Writes everything: the config file, and the data.
    ///
    /// # Errors
    /// When something is in the way or cannot be written. Nothing is left behind then.
    pub fn write(&self) -> Result<(), ImportError> {
        let taken = self.obstacles();
        if !taken.is_empty() {
            return Err(ImportError::Taken(taken));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ImportError::Write { path, source }
        };
        fs::create_dir_all(&self.out).map_err(failed(&self.out))?;
        let beside = Beside { config: self.out.join(format!("{CONFIG}.new")), data: self.data_beside() };
        write_file(&beside.config, &self.toml).map_err(failed(&beside.config))?;
        // What is written must be taken.
        let sources = Sources { file: Some(beside.config.clone()), ..Sources::default() };
        let config = Config::load(&sources).map_err(ImportError::Result)?.config;
        if let Some(work) = &self.work {
            let store = StoreConfig { shards: config.store.shards, ..StoreConfig::new(&beside.data) };
            load::load(store, work, queue_limits(&config), self.now)?;
        }
        for (needed, name, text) in [
            (self.needs_passwords, PASSWORDS, "# Users are added by `nightjar passwd add`.\n"),
            (self.needs_rules, RULES, RULES_TEXT),
        ] {
            let path = self.out.join(name);
            if needed && !path.exists() {
                write_file(&path, text).map_err(failed(&path))?;
            }
        }
        if self.work.is_some() {
            fs::rename(&beside.data, self.data_path()).map_err(failed(&self.data_path()))?;
        }
        fs::rename(&beside.config, self.config_path()).map_err(failed(&self.config_path()))?;
        fs::File::open(&self.out).and_then(|folder| folder.sync_all()).map_err(failed(&self.out))
    }
}

/// What is written beside its place; whatever has not taken it in the end is removed.
struct Beside {
    config: PathBuf,
    data: PathBuf,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// A file that may hold secrets: its user and group alone may read it.
fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The database, if there is one: the one that was named, or the one that the configuration names.
fn read_database(
    named: Option<&Path>,
    translation: &mut Translation,
) -> Result<Option<(PathBuf, Database)>, ImportError> {
    let Some(path) = named.map(Path::to_owned).or_else(|| translation.database.clone()) else {
        translation
            .note("mosquitto kept no data (no `persistence true`): there are no sessions and messages to import");
        return Ok(None);
    };
    let unreadable = |error: std::io::Error| ImportError::Unreadable {
        why: access::explain(&path, "read", &error),
        path: path.clone(),
    };
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
            let path = path.display();
            translation.note(format!("NO DATA WAS FOUND: {path} is not there; --db FILE names another database"));
            return Ok(None);
        }
        opened => opened.map_err(unreadable)?,
    };
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(ImportError::Unreadable { why: "expected a file".to_owned(), path });
    }
    let database = db::read(&mut BufReader::with_capacity(1 << 20, file), found.len());
    let database = database.map_err(|failure| match failure {
        db::Failure::Damaged(db::Damage { offset, what }) => ImportError::Database { path: path.clone(), offset, what },
        db::Failure::Io(error) => unreadable(error),
    })?;
    Ok(Some((path, database)))
}

/// What of a database is to be stored; what is lost is noted.
fn arrange(mut database: Database, translation: &mut Translation, now: Wall) -> Result<Work, String> {
    if !database.complete {
        translation.note(
            "mosquitto was running when it wrote the database: what it took since is not in there. Stop it, and import \
             again",
        );
    }
    bridge_sessions(&mut database, translation);
    let nameless = |client: &&mut db::Client| translation.subject_ports.contains(&client.port);
    database.clients.iter_mut().filter(nameless).for_each(|client| client.user = None);
    let rules = Rules { now, expiration: translation.expiration, proves_users: translation.proves_users };
    let work = Work::of(database, &rules)?;
    let counts = work.counts;
    let mut lost = |number: u64, text: &str| {
        if number > 0 {
            translation.note(format!("{number} {text}"));
        }
    };
    lost(
        counts.expired_sessions,
        "sessions are left out: their time is over, or they are of bridges that are not kept",
    );
    lost(counts.left_behind, "messages are left out that waited in those sessions");
    lost(counts.expired_messages, "messages are left out: their time is over, or the database does not hold them");
    lost(
        counts.unacknowledged,
        "messages from clients are left out: mosquitto had not acknowledged them, so their clients send them again",
    );
    lost(counts.orphans, "records are left out: the database holds no session of their clients");
    lost(
        counts.renumbered,
        "messages that were under way get other packet identifiers; clients take those of QoS 1 for new ones",
    );
    lost(
        counts.renumbered_qos2,
        "of them are of QoS 2: clients that had them already, and have not said so, get them twice",
    );
    translation.note("mosquitto's database holds no shared subscriptions: clients that have some must subscribe again");
    Ok(work)
}

/// A bridge's session within mosquitto is a client's like any other, and so it is here, under another identifier.
fn bridge_sessions(database: &mut Database, translation: &mut Translation) {
    let reserved = |client: &db::Client| client.id.starts_with(BRIDGE_PREFIX);
    let before = database.clients.len();
    database.clients.retain(|client| !reserved(client));
    if database.clients.len() < before {
        translation.note(format!(
            "sessions of clients whose identifiers begin with {BRIDGE_PREFIX} are left out: those are bridges"
        ));
    }
    for bridge in translation.bridges.clone() {
        let Some(client) = database.clients.iter_mut().find(|client| bridge.has(&client.id)) else { continue };
        if let Some(id) = bridge.remote_id(&client.id) {
            translation.toml.text(&format!("bridges.{}", bridge.name), "client_id", id);
        }
        (client.id, client.user) = (format!("{BRIDGE_PREFIX}{}", bridge.name), None);
        // Of a bridge mosquitto writes no expiry interval, since its session never ends.
        (client.expiry, client.expiry_time) = (NEVER, 0);
        translation.note(format!("bridge {} goes on with its queue, {} messages", bridge.name, client.outgoing.len()));
    }
}

/// Bounds the queues as the files say, but never so that something of the database would have no place.
fn settle_queues(translation: &mut Translation, counts: Counts) {
    let default = Config::default().session;
    let queues = translation.queues;
    for (key, bound, default, needed, what) in [
        ("queue_messages", queues.messages, default.queue_messages, counts.longest_queue, "messages"),
        ("queue_bytes", queues.bytes, default.queue_bytes, counts.largest_queue, "bytes"),
    ] {
        let limit = bound.unwrap_or(default);
        let raised = if needed > limit { needed.saturating_mul(2) } else { limit };
        if raised > limit {
            translation.note(format!(
                "session.{key} = {raised}, not {limit}: a session has {needed} {what} in its queue, and none is to be lost"
            ));
        }
        if bound.is_some() || raised > limit {
            let value = if raised == u64::MAX { "\"unlimited\"".to_owned() } else { raised.to_string() };
            translation.toml.set("session", key, value);
        }
    }
}

fn queue_limits(config: &Config) -> QueueLimits {
    let session = &config.session;
    QueueLimits {
        messages: session.queue_messages,
        bytes: session.queue_bytes,
        policy: match session.queue_overflow {
            config::Overflow::DropOldest => Overflow::DropOldest,
            config::Overflow::DropNewest => Overflow::DropNewest,
            config::Overflow::Refuse => Overflow::Refuse,
        },
    }
}
