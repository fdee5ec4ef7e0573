//! Serving the page.

use super::answer::Failure;
use super::page::{ASSETS, Asset};
use super::routes::State;
use axum::extract::State as Of;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// What a browser may do with the page: use what comes from here, and nothing else; nobody may frame it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// A file of the page.
pub(super) async fn asset(Of(state): Of<Arc<State>>, uri: Uri) -> Result<Response, Failure> {
    let found = ASSETS.iter().find(|asset| asset.path == uri.path()).filter(|_| state.rules.load().page);
    let Asset { content_type, text, .. } = found.ok_or_else(|| Failure::not_found("page"))?;
    let headers = [
        (header::CONTENT_TYPE, *content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files belong to the program: after an upgrade the old ones must not stay.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, *text).into_response())
}
