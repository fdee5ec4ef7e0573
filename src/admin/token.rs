//! Tokens: compared in constant time, and made where the operator gave none.

use crate::env::{disk, entropy};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io;
use std::path::Path;

/// A token as it is compared: its digest, so that neither content nor length shows in the time that it takes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A new one that nobody can guess.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    entropy::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token in `path`; made, readable by our own user alone, if there is none yet.
///
/// # Errors
/// What the system says; a file that is empty.
pub fn file_token(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(io::Error::other("the file is empty: remove it")),
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = random();
            disk::replace(path, format!("{token}\n").as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let token = file_token(&path).unwrap();
        assert!(token.len() >= 43);
        assert_eq!(file_token(&path).unwrap(), token);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "\n").unwrap();
        assert!(file_token(&path).is_err());
    }

    #[test]
    fn tokens_are_compared_as_wholes() {
        let token = Token::new("a long enough token");
        assert!(token.is(&Token::new("a long enough token")));
        assert!(!token.is(&Token::new("a long enough tokeN")));
        assert!(!token.is(&Token::new("a long enough")));
    }
}
