//! The files of the page, compiled in: no build step, nothing loaded from elsewhere.

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// The path of its URL.
    pub path: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! asset {
    ($kind:ident, $file:literal) => {
        asset!($kind, $file, concat!("/page/", $file))
    };
    ($kind:ident, $file:literal, $path:expr) => {
        Asset { path: $path, content_type: $kind, text: include_str!(concat!("page/", $file)) }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// All files of the page. They ask for no more than the policy `default-src 'self'` allows.
pub const ASSETS: &[Asset] = &[
    asset!(HTML, "index.html", "/"),
    asset!(STYLE, "style.css"),
    asset!(IMAGE, "icon.svg"),
    asset!(SCRIPT, "api.js"),
    asset!(SCRIPT, "app.js"),
    asset!(SCRIPT, "bridges.js"),
    asset!(SCRIPT, "chart.js"),
    asset!(SCRIPT, "client.js"),
    asset!(SCRIPT, "config.js"),
    asset!(SCRIPT, "console.js"),
    asset!(SCRIPT, "format.js"),
    asset!(SCRIPT, "history.js"),
    asset!(SCRIPT, "lists.js"),
    asset!(SCRIPT, "mqtt.js"),
    asset!(SCRIPT, "overview.js"),
    asset!(SCRIPT, "retained.js"),
    asset!(SCRIPT, "trace.js"),
    asset!(SCRIPT, "ui.js"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn file(asset: &Asset) -> &'static str {
        asset.path.strip_prefix("/page/").unwrap_or("index.html")
    }

    #[test]
    fn every_file_of_the_folder_is_served_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page");
        let there: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<String> = ASSETS.iter().map(|a| file(a).to_owned()).collect();
        assert_eq!(there, served);
        assert_eq!(served.len(), ASSETS.len());
    }

    #[test]
    fn every_file_that_a_file_names_is_served() {
        let mut named = 0;
        for asset in ASSETS {
            let before = if asset.path == "/" { "\"page/" } else { "from './" };
            for rest in asset.text.split(before).skip(1) {
                let name = rest.split(['"', '\'']).next().unwrap();
                assert!(ASSETS.iter().any(|a| file(a) == name), "{} names {name}", asset.path);
                named += 1;
            }
        }
        assert!(named > ASSETS.len());
    }

    #[test]
    fn nothing_is_read_as_markup_and_nothing_comes_from_elsewhere() {
        for asset in ASSETS {
            for banned in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\"", "url("]
            {
                assert!(!asset.text.contains(banned), "{} has {banned}", asset.path);
            }
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{} names another place", asset.path);
            assert!(asset.text.lines().count() < 500, "{} is too long", asset.path);
        }
        assert!(!ASSETS[0].text.contains("<script>") && !ASSETS[0].text.contains("<style>"));
    }
}
