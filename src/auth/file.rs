//! The password file: one user a line, `name:hash`, as mosquitto has it.
//!
//! A line that begins with `#`, and one without a colon, is no user. A user may have a line of SCRAM keys besides. Any
//! mistake refuses the file whole: nobody is let in, or locked out, by half a file.

use super::hash::Hash;
use super::{Problem, fingerprint};
use crate::config::access;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The users of a file.
#[derive(Debug, Default)]
pub struct PasswordFile {
    users: HashMap<String, User>,
}

/// One user.
#[derive(Debug, Default)]
pub(super) struct User {
    /// For passwords.
    pub(super) password: Option<Hash>,
    /// For SCRAM.
    pub(super) scram: Option<Hash>,
    /// Stands for its lines.
    pub(super) line: u64,
}

/// The name and the hash of a line; `None` if it is no user's.
#[must_use]
pub fn split(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, hash) = line.split_once(':')?;
    Some((name.trim(), hash.trim()))
}

impl PasswordFile {
    /// Reads the file.
    ///
    /// # Errors
    /// With all that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let problem = |text: String| Problem { key: "auth.password_file", text: format!("{}{text}", path.display()) };
        let text = access::read_text(path).map_err(|why| vec![problem(format!(": {why}"))])?;
        if fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0) {
            tracing::warn!(file = %path.display(), "the password file can be read by everybody on this machine: chmod o-r it");
        }
        Self::parse(&text)
            .map_err(|all| all.into_iter().map(|(line, why)| problem(format!(":{line}: {why}"))).collect())
    }

    /// The users in `text`, or each bad line's number and what is wrong.
    fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let mut file = Self::default();
        let mut wrong = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some((name, hash)) = split(line) else { continue };
            if let Err(why) = file.add(name, hash) {
                wrong.push((number + 1, why));
            }
        }
        if wrong.is_empty() { Ok(file) } else { Err(wrong) }
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("expected a user name before the colon".to_owned());
        }
        let hash = Hash::parse(text)?;
        let user = self.users.entry(name.to_owned()).or_default();
        let place = if matches!(hash, Hash::Scram(_)) { &mut user.scram } else { &mut user.password };
        if place.replace(hash).is_some() {
            return Err(format!("user {name:?} has a line already"));
        }
        user.line = fingerprint(&[&user.line.to_le_bytes(), name.as_bytes(), text.as_bytes()]);
        Ok(())
    }

    pub(super) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Whether a line of this fingerprint is there.
    pub(super) fn has_line(&self, name: &str, line: u64) -> bool {
        self.users.get(name).is_some_and(|user| user.line == line)
    }

    /// Whether any user has keys of SCRAM.
    pub(super) fn has_scram(&self) -> bool {
        self.users.values().any(|user| user.scram.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_read_and_everything_else_is_a_mistake() {
        let (hash, scram) = (Hash::make(b"pw").to_text(), Hash::make_scram(b"pw").to_text());
        let good = format!("# comment: no user\nno colon here\n ann : {hash} \nann:{scram}\nbob:{hash}\n\n");
        let file = PasswordFile::parse(&good).unwrap();
        assert!(file.user("ann").unwrap().scram.is_some() && file.user("bob").is_some() && file.has_scram());
        assert!(file.user("# comment").is_none() && file.user("no colon here").is_none());
        let bad = format!("ann:{hash}\nann:{hash}\n:{hash}\nbob:plain\n");
        let lines: Vec<_> = PasswordFile::parse(&bad).unwrap_err().into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    #[test]
    fn a_changed_line_is_seen() {
        let (one, other) = (Hash::make(b"pw").to_text(), Hash::make(b"pw").to_text());
        let (before, after) =
            (PasswordFile::parse(&format!("ann:{one}")), PasswordFile::parse(&format!("ann:{other}")));
        let line = before.unwrap().user("ann").unwrap().line;
        assert!(!after.unwrap().has_line("ann", line));
        let same = PasswordFile::parse(&format!("bob:{other}\nann:{one}")).unwrap();
        assert!(same.has_line("ann", line));
    }
}
