//! Whether a file or folder can be used, and if not, why: who we are, who owns it, what its mode allows.

use rustix::fs::{Access, AtFlags, CWD};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The text of a file. The error is one line that says what is needed to mend it; it does not repeat the path.
pub fn read_text(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err(format!("is a folder, expected a file{}", standing(path)));
    }
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => "expected text in UTF-8".to_owned(),
        _ => explain(path, "read", &error),
    })
}

/// Whether a folder can be written to, or made if it is not there. Nothing is made or changed.
pub fn check_folder(path: &Path) -> Result<(), String> {
    let there = nearest_existing(path);
    let (needed, what) =
        if there == path { ("read, write and search", "") } else { ("write and search", " to make it") };
    if !there.is_dir() {
        return Err(format!("{}: is no folder{}", path.display(), standing(&there)));
    }
    let wanted = if there == path {
        Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::WRITE_OK | Access::EXEC_OK
    };
    rustix::fs::accessat(CWD, &there, wanted, AtFlags::EACCESS).map_err(|error| {
        let error = io::Error::from(error);
        let of = if there == path { String::new() } else { format!(" on {}", there.display()) };
        format!("{}: {}; needs {needed} access{of}{what}{}", path.display(), reason(&error), standing(&there))
    })
}

/// Why `path` could not be used, with the access that was `needed`: "read", "write". One line, without the path.
#[must_use]
pub fn explain(path: &Path, needed: &str, error: &io::Error) -> String {
    let there = nearest_existing(path);
    let mut line = format!("{}; needs {needed} access", reason(error));
    if there != path {
        let _ = write!(line, "; {} is the nearest that is there", there.display());
    }
    line + &standing(&there)
}

/// "; we are user 1000, group 1000; it belongs to user 0, group 0, mode 0600"
fn standing(path: &Path) -> String {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ours = format!("; we are user {user}, group {group}");
    let Ok(found) = fs::metadata(path) else { return ours };
    let special = if found.file_type().is_fifo() || found.file_type().is_socket() { ", not a plain file" } else { "" };
    let mode = found.mode() & 0o7777;
    format!("{ours}; it belongs to user {}, group {}, mode {mode:04o}{special}", found.uid(), found.gid())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => error.to_string(),
    }
}

/// `path` itself, or the nearest folder above it that is there.
fn nearest_existing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|path| path.exists());
    match there {
        Some(there) if !there.as_os_str().is_empty() => there.to_owned(),
        _ => PathBuf::from("."),
    }
}
