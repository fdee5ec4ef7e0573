//! `nightjar passwd`: the users of a password file.

use super::Failure;
use crate::auth::file::{PasswordFile, split};
use crate::auth::hash::Hash;
use crate::config::access;
use clap::{Args, Subcommand};
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What can be done with a password file.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a user; the file is made if it is not there
    Add(Set),
    /// Give a user another password
    Change(Set),
    /// Remove a user
    Remove {
        /// The password file
        file: PathBuf,
        /// The user's name
        user: String,
    },
    /// Check a password: exit code 0 if it is right, 1 if not
    Check {
        /// The password file
        file: PathBuf,
        /// The user's name
        user: String,
        #[command(flatten)]
        from: From,
    },
    /// List the users, and by which hashes each can be checked
    List {
        /// The password file
        file: PathBuf,
    },
}

/// A user and a password.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The password file
    file: PathBuf,
    /// The user's name
    user: String,
    /// Keep keys for SCRAM-SHA-256 as well, which MQTT 5 clients can use without sending the password
    #[arg(long)]
    scram: bool,
    #[command(flatten)]
    from: From,
}

/// Where the password comes from; without any of these, it is asked for.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct From {
    /// Read it from the standard input, up to the end of the line
    #[arg(long)]
    stdin: bool,
    /// Read it from a file, up to the end of the line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl From {
    fn password(&self, twice: bool) -> Result<String, Failure> {
        let failed = |what: &str, error: std::io::Error| Failure::Other(format!("{what}: {error}").into());
        let text = if self.stdin {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(|error| failed("standard input", error))?;
            line
        } else if let Some(path) = &self.password_file {
            let text =
                access::read_text(path).map_err(|why| Failure::Other(format!("{}: {why}", path.display()).into()))?;
            text.lines().next().unwrap_or_default().to_owned()
        } else {
            let password = rpassword::prompt_password("Password: ").map_err(|error| failed("terminal", error))?;
            if twice {
                let again = rpassword::prompt_password("Again: ").map_err(|error| failed("terminal", error))?;
                if again != password {
                    return Err(Failure::Other("the two passwords differ; nothing was changed".into()));
                }
            }
            password
        };
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            return Err(Failure::Other("expected a password, found none; nothing was changed".into()));
        }
        Ok(password)
    }
}

/// Does it.
pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Add(set) => {
            let lines = lines(&set.file, true)?;
            if names(&lines).any(|name| name == set.user) {
                return Err(Failure::Other(
                    format!("user {:?} is there already; change gives another password", set.user).into(),
                ));
            }
            save_user(set, lines)
        }
        Command::Change(set) => {
            let lines = without(lines(&set.file, false)?, &set.user, &set.file)?;
            save_user(set, lines)
        }
        Command::Remove { file, user } => {
            let lines = without(lines(file, false)?, user, file)?;
            save(file, &lines)
        }
        Command::Check { file, user, from } => {
            let lines = lines(file, false)?;
            let password = from.password(false)?;
            let hashes = lines.iter().filter_map(|line| split(line)).filter(|(name, _)| name == user);
            let mut hashes = hashes.filter_map(|(_, hash)| Hash::parse(hash).ok()).peekable();
            if hashes.peek().is_none() {
                return Err(no_user(user, file));
            }
            if hashes.all(|hash| hash.verify(password.as_bytes())) {
                return super::print("right\n");
            }
            Err(Failure::Other("wrong".into()))
        }
        Command::List { file } => list(&lines(file, false)?),
    }
}

fn list(lines: &[String]) -> Result<(), Failure> {
    let mut told = String::new();
    for (name, hash) in lines.iter().filter_map(|line| split(line)) {
        let kind = hash.split('$').nth(1).unwrap_or_default();
        let kind = match kind {
            "6" => "sha512 (mosquitto)",
            "7" => "pbkdf2 (mosquitto)",
            other => other,
        };
        told += &format!("{name}\t{kind}\n");
    }
    super::print(&told)
}

/// The lines of the file, which must be a good one; none if it may be missing, and is.
fn lines(path: &Path, may_be_missing: bool) -> Result<Vec<String>, Failure> {
    if may_be_missing && !path.exists() {
        return Ok(Vec::new());
    }
    PasswordFile::read(path).map_err(|problems| {
        let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::Other(all.join("\n").into())
    })?;
    let text = access::read_text(path).map_err(|why| Failure::Other(format!("{}: {why}", path.display()).into()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn names(lines: &[String]) -> impl Iterator<Item = &str> {
    lines.iter().filter_map(|line| split(line)).map(|(name, _)| name)
}

fn no_user(user: &str, path: &Path) -> Failure {
    Failure::Other(format!("{} has no user {user:?}", path.display()).into())
}

fn without(mut lines: Vec<String>, user: &str, path: &Path) -> Result<Vec<String>, Failure> {
    let before = lines.len();
    lines.retain(|line| split(line).is_none_or(|(name, _)| name != user));
    if lines.len() == before { Err(no_user(user, path)) } else { Ok(lines) }
}

fn save_user(set: &Set, mut lines: Vec<String>) -> Result<(), Failure> {
    let name = &set.user;
    if name.is_empty() || name.trim() != name || name.contains([':', '\n', '\r']) || name.starts_with('#') {
        let expected = "expected a user name without a colon, white space at its ends, or # at its beginning";
        return Err(Failure::Other(expected.into()));
    }
    let password = zeroize::Zeroizing::new(set.from.password(true)?);
    lines.push(format!("{name}:{}", Hash::make(password.as_bytes()).to_text()));
    if set.scram {
        lines.push(format!("{name}:{}", Hash::make_scram(password.as_bytes()).to_text()));
    }
    save(&set.file, &lines)
}

/// Replaces the file at once, so that nobody ever reads half of it. It keeps its owner and mode.
fn save(path: &Path, lines: &[String]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()).into());
    // A link is followed: what is replaced is the file.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let old = fs::metadata(&path).ok();
    // Its folder's group, where that is handed down, is the broker's.
    let mode = old.as_ref().map_or(0o640, |found| found.mode() & 0o777);
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(failed)?;
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if let Some(old) = old {
        // Only root can give a file away, and only root needs to.
        let _ = std::os::unix::fs::chown(&beside, Some(old.uid()), Some(old.gid()));
    }
    fs::rename(&beside, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(folder: &Path, user: &str, password: &str, scram: bool) -> Set {
        let source = folder.join("password");
        fs::write(&source, format!("{password}\n")).unwrap();
        let from = From { stdin: false, password_file: Some(source) };
        Set { file: folder.join("users"), user: user.to_owned(), scram, from }
    }

    #[test]
    fn users_come_change_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = (folder.path(), folder.path().join("users"));
        run(&Command::Add(set(path, "ann", "one", true))).unwrap();
        run(&Command::Add(set(path, "bob", "two", false))).unwrap();
        assert!(run(&Command::Add(set(path, "ann", "x", false))).is_err());
        assert!(run(&Command::Add(set(path, "a:b", "x", false))).is_err());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        let check = |user: &str, password: &str| {
            let Set { file, user, from, .. } = set(path, user, password, false);
            run(&Command::Check { file, user, from }).is_ok()
        };
        assert!(check("ann", "one") && !check("ann", "two") && check("bob", "two") && !check("eve", "one"));
        run(&Command::Change(set(path, "ann", "three", false))).unwrap();
        assert!(check("ann", "three") && !check("ann", "one"));
        run(&Command::Remove { file: file.clone(), user: "bob".into() }).unwrap();
        assert!(run(&Command::Remove { file: file.clone(), user: "bob".into() }).is_err());
        let left = fs::read_to_string(&file).unwrap();
        assert!(left.lines().count() == 1 && left.starts_with("ann:$argon2id$"), "{left}");
        run(&Command::List { file }).unwrap();
    }

    #[test]
    fn a_bad_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        fs::write(&file, "ann:nonsense\n").unwrap();
        assert!(run(&Command::Add(set(folder.path(), "bob", "two", false))).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "ann:nonsense\n");
    }
}
