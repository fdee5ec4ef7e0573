//! What a data folder notes of its cluster: which one it is, and where the other nodes were. It is read before anything else
//! can be known, and written anew whenever it changes.

use crate::env::{disk, entropy};
use nightjar_base::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "cluster";
const FIRST_LINE: &str = "nightjar cluster 1";

/// Which cluster a folder belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The cluster.
    pub cluster: u128,
    /// Whether this node has founded it, alone.
    pub founder: bool,
    /// The nodes, with `host:port`.
    pub nodes: BTreeMap<NodeId, String>,
}

impl Identity {
    fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// The number of a cluster that there was not before.
    #[must_use]
    pub(super) fn invent() -> u128 {
        u128::from(entropy::u64()) << 64 | u128::from(entropy::u64())
    }

    /// The note in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        match std::fs::read_to_string(Self::path(folder)) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: not what was written", Self::path(folder).display()),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the note in `folder`, on disk as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        disk::replace(&Self::path(folder), self.text().as_bytes())
    }

    /// The cluster as nodes tell each other.
    #[must_use]
    pub(super) fn name(&self) -> String {
        format!("{:032x}", self.cluster)
    }

    fn text(&self) -> String {
        let founder = if self.founder { "founder\n" } else { "" };
        let nodes = self.nodes.iter().map(|(node, address)| format!("node {node} {address}\n"));
        format!("{FIRST_LINE}\ncluster {}\n{founder}{}", self.name(), nodes.collect::<String>())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut found = Self::default();
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["cluster", id] => found.cluster = u128::from_str_radix(id, 16).ok()?,
                ["founder"] => found.founder = true,
                ["node", id, address] => {
                    found.nodes.insert(NodeId(u64::from_str_radix(id, 16).ok()?), address.to_owned());
                }
                _ => return None,
            }
        }
        (found.cluster != 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap(), None);
        let nodes = BTreeMap::from([(NodeId(7), "one:1884".to_owned()), (NodeId(u64::MAX), "[::1]:1".to_owned())]);
        for founder in [false, true] {
            let identity = Identity { cluster: 1 << 100, founder, nodes: nodes.clone() };
            identity.write(folder.path()).unwrap();
            assert_eq!(Identity::read(folder.path()).unwrap(), Some(identity));
        }
        std::fs::write(folder.path().join(FILE), "something else").unwrap();
        assert!(Identity::read(folder.path()).is_err());
    }
}
