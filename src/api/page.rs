//! The page at `/`: open incidents and runs that wait, renewed as they change.
//!
//! Plain files without a framework. Nothing is inline, so that the content security policy can
//! forbid it; all text is set as text, never as HTML.

use super::routes::{Answer, Operation};
use axum::http::header;
use axum::response::IntoResponse;

/// The routes of this file. They hold no data, so they need no token.
pub(super) fn operations() -> Vec<Operation> {
    let file = |path, summary, media_type: &'static str, text: &'static str| {
        let handler = move || async move { answer(media_type, text) };
        Operation::read(path, summary, Answer::Other(media_type), handler).role(None)
    };
    vec![
        file("/", "Shows the page", "text/html; charset=utf-8", include_str!("page/index.html")),
        file(
            "/page.css",
            "Shows the page's style",
            "text/css; charset=utf-8",
            include_str!("page/page.css"),
        ),
        file(
            "/page.js",
            "Shows the page's program",
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        ),
        file("/icon.svg", "Shows the page's icon", "image/svg+xml", include_str!("page/icon.svg")),
    ]
}

fn answer(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache")], text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_keeps_within_its_policy() {
        let html = include_str!("page/index.html");
        let program = include_str!("page/page.js");
        for inline in ["style=", "<style", "onclick", "onload", "javascript:"] {
            assert!(!html.contains(inline), "{inline} stands in the page");
        }
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("<script src=\"/page.js\" defer></script>"));
        for unsafe_way in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!program.contains(unsafe_way), "{unsafe_way} stands in the program");
        }
        // Every element that the program looks for is there.
        for id in program.split("byId(\"").skip(1).filter_map(|it| it.split('"').next()) {
            assert!(html.contains(&format!("id=\"{id}\"")), "the page has no element `{id}`");
        }
    }
}
