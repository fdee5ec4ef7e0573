//! The admin door: health, metrics, the API and the page, over HTTP.

pub mod page;
