//! Requests that web pages of other sites can make a browser send, and answers that a page could misuse.
//! `http.rs` and the tests of `server::http::host_and_origin` hold the rules; here they are tried in the ways that browsers
//! have.

use crate::harness::foreign::{BYNAME, Foreign, answer};
use crate::harness::{Log, Raw, Running, everything, get, post, post_with, raw, verb, within};
use byname::Error;
use serde_json::json;

/// A call that would be counted, with these headers.
async fn bump(running: &Running, headers: &str) -> Raw {
    raw(running.address, post_with("/rpc/counter.bump", headers, "[]")).await
}

async fn nothing_was_bumped(running: &Running) {
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "0");
}

/// What a form, a script without leave and a beacon of another site can send.
const SIMPLE: [&str; 6] = [
    "content-type: text/plain\r\n",
    "content-type: application/x-www-form-urlencoded\r\n",
    "content-type: multipart/form-data; boundary=x\r\n",
    "content-type: text/plain; application/json\r\n",
    "content-type: text/plain;charset=application/json\r\n",
    "",
];

#[tokio::test]
async fn a_simple_post_of_another_site_is_refused() {
    let running = Running::new(everything()).await;
    for content_type in SIMPLE {
        for (page, status) in [
            ("sec-fetch-site: cross-site\r\n", 403),
            ("sec-fetch-site: same-site\r\n", 403),
            ("sec-fetch-site: Same-Origin\r\n", 403),
            ("sec-fetch-site: \r\n", 403),
            ("origin: http://evil.test\r\n", 403),
            ("origin: null\r\n", 403),
            ("origin: file://\r\n", 403),
            ("origin: \r\n", 403),
            ("origin: http://localhost.evil.test\r\n", 403),
            ("origin: http://evil.test#http://localhost\r\n", 403),
            ("origin: http://localhost:80@evil.test\r\n", 403),
            ("origin: localhost\r\n", 403),
            // Of a page of ours; but any page can make a form.
            ("origin: http://localhost\r\n", 415),
            ("sec-fetch-site: same-origin\r\n", 415),
            ("sec-fetch-site: none\r\n", 415),
        ] {
            let answer = bump(&running, &format!("{content_type}{page}")).await;
            assert_eq!(answer.status, status, "{content_type}{page}: {answer:?}");
        }
    }
    nothing_was_bumped(&running).await;
}

#[tokio::test]
async fn every_repeated_origin_header_must_be_allowed() {
    let running = Running::new(everything()).await;
    let json = "content-type: application/json\r\n";
    for twice in [
        ["origin: http://localhost\r\n", "origin: http://evil.test\r\n"],
        ["origin: http://localhost\r\n", "origin: null\r\n"],
        ["sec-fetch-site: same-origin\r\n", "sec-fetch-site: cross-site\r\n"],
        ["sec-fetch-site: none\r\n", "sec-fetch-site: cross-site\r\n"],
    ] {
        for order in [twice.concat(), [twice[1], twice[0]].concat()] {
            assert_eq!(bump(&running, &format!("{json}{order}")).await.status, 403, "{order}");
        }
    }
    nothing_was_bumped(&running).await;
}

#[tokio::test]
async fn a_get_of_another_site_runs_nothing() {
    let running = Running::new(everything()).await;
    for page in ["sec-fetch-site: cross-site\r\n", "origin: http://evil.test\r\n", "sec-fetch-site: same-site\r\n"] {
        for path in ["/rpc/counter.bump", "/rpc/add?a=1&b=2", "/rpc/none", "/rpc"] {
            assert_eq!(raw(running.address, verb("GET", path, page)).await.status, 403, "{path} {page}");
        }
    }
    // An old browser says nothing of the page; what only reads is all that it reaches.
    for method in ["counter.bump", "nothing", "withdraw", "panics"] {
        assert_eq!(raw(running.address, get(&format!("/rpc/{method}"))).await.status, 405, "{method}");
    }
    nothing_was_bumped(&running).await;
}

#[tokio::test]
async fn a_foreign_name_that_resolves_to_this_address_is_421() {
    let running = Running::new(everything()).await;
    let json = "content-type: application/json\r\n";
    for host in ["evil.test", "evil.test:80", "localhost.evil.test", "127.0.0.1.evil.test", "0.0.0.0", "a.localhost"] {
        // To the browser, page and server are one site.
        let page = format!("origin: http://{host}\r\nsec-fetch-site: same-origin\r\n");
        let call = |verb: &str, path: &str| {
            format!("{verb} {path} HTTP/1.1\r\nhost: {host}\r\n{json}{page}content-length: 2\r\n\r\n[]")
        };
        for call in [
            call("POST", "/rpc/counter.bump"),
            call("POST", "/rpc"),
            call("GET", "/rpc/add?a=1&b=2"),
            call("OPTIONS", "/rpc"),
        ] {
            let answer = raw(running.address, call).await;
            assert_eq!(answer.status, 421, "{host}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    nothing_was_bumped(&running).await;
}

#[tokio::test]
async fn origins_reject_what_only_resembles_them_and_so_do_credentials() {
    let origins = ["https://*.pages.example", "https://app.example"];
    let running = Running::new(everything().origins(origins)).await;
    for origin in [
        "https://evil.test",
        "null",
        "https://evil.example",
        "https://pages.example",
        "https://a.b.pages.example",
        "https://evil.test/.pages.example",
        "https://app.example.evil.test",
        "https://app.example:444",
        "http://app.example",
    ] {
        for request in [
            post_with("/rpc/counter.bump", &format!("content-type: application/json\r\norigin: {origin}\r\n"), "[]"),
            verb(
                "OPTIONS",
                "/rpc/counter.bump",
                &format!("origin: {origin}\r\naccess-control-request-method: POST\r\n"),
            ),
        ] {
            let answer = raw(running.address, request).await;
            assert_eq!(answer.status, 403, "{origin}: {answer:?}");
            let granted = answer.headers.keys().find(|name| name.starts_with("access-control-"));
            assert_eq!(granted, None, "{origin}");
        }
    }
    let allowed = "origin: https://app.example\r\ncookie: session=1\r\ncontent-type: application/json\r\n";
    let answer = raw(running.address, post_with("/rpc/counter.total", allowed, "[]")).await;
    assert_eq!((answer.body.as_str(), answer.header("access-control-allow-origin")), ("0", "https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn a_wildcard_admits_every_page_without_credentials() {
    let running = Running::new(everything().origins(["*"])).await;
    for origin in ["https://evil.test", "null"] {
        let page = format!("origin: {origin}\r\nsec-fetch-site: cross-site\r\ncontent-type: application/json\r\n");
        let answer = raw(running.address, post_with("/rpc/counter.total", &page, "[]")).await;
        assert_eq!((answer.body.as_str(), answer.header("access-control-allow-origin")), ("0", origin));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        // What needs no preflight is still refused.
        let form = page.replace("application/json", "text/plain");
        assert_eq!(raw(running.address, post_with("/rpc/counter.bump", &form, "[]")).await.status, 415);
    }
    nothing_was_bumped(&running).await;
}

#[tokio::test]
async fn a_preflight_for_json_rpc_is_granted_only_to_allowed_origins() {
    let running = Running::new(everything().origins(["https://app.example"])).await;
    let asks = |origin: &str| {
        let wants = "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n";
        verb("OPTIONS", "/rpc", &format!("origin: {origin}\r\n{wants}sec-fetch-site: cross-site\r\n"))
    };
    let bump = r#"{"jsonrpc":"2.0","method":"counter.bump","id":1}"#;
    let calls = |origin: &str, body: &str| {
        let page = format!("origin: {origin}\r\nsec-fetch-site: cross-site\r\ncontent-type: application/json\r\n");
        post_with("/rpc", &page, body)
    };
    let leave = raw(running.address, asks("https://app.example")).await;
    assert_eq!((leave.status, leave.header("access-control-allow-origin")), (204, "https://app.example"));
    assert!(leave.header("access-control-allow-methods").split(", ").any(|verb| verb == "POST"), "{leave:?}");
    assert!(leave.header("access-control-allow-headers").split(", ").any(|name| name == "content-type"), "{leave:?}");
    assert_eq!((leave.header("access-control-allow-credentials"), leave.header("vary")), ("", "origin"));
    for (body, status) in
        [(bump.to_owned(), 200), (format!("[{bump},{bump}]"), 200), (bump.replace(r#","id":1"#, ""), 204)]
    {
        let answer = raw(running.address, calls("https://app.example", &body)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, "https://app.example"));
    }
    for origin in ["https://evil.test", "null", "https://app.example.evil.test"] {
        for request in [asks(origin), calls(origin, bump), calls(origin, &format!("[{bump}]"))] {
            let answer = raw(running.address, &request).await;
            assert_eq!(answer.status, 403, "{request}");
            let granted = answer.headers.keys().find(|name| name.starts_with("access-control-"));
            assert_eq!(granted, None, "{request}");
        }
    }
    assert_eq!(raw(running.address, get("/rpc/counter.total")).await.body, "4");
}

/// Markup, and what moves a terminal's cursor or changes its title.
const ODD: &str = "<script>alert(1)</script>\u{1b}[2J\u{1b}]0;x\u{7}\u{8}\r\u{9b}31m";

#[tokio::test]
async fn markup_and_escapes_come_back_as_json_and_nothing_else() {
    let running = Running::new(everything()).await;
    for answer in [
        raw(running.address, post("/rpc", &json!({"fun": ODD}).to_string())).await,
        raw(running.address, post("/rpc", &json!({ODD: 1}).to_string())).await,
        raw(running.address, post("/rpc/add", &json!({ODD: 1}).to_string())).await,
        raw(running.address, post("/rpc/add", &json!([ODD, 1]).to_string())).await,
        raw(running.address, post("/rpc/echo", &json!([ODD]).to_string())).await,
        raw(running.address, post("/rpc/%3Cscript%3E", "[]")).await,
        raw(running.address, get("/rpc/<script>")).await,
        raw(running.address, get("/rpc/add?<script>=1")).await,
        raw(running.address, "GET /rpc/add HTTP/1.1\r\nhost: <script>\r\n\r\n").await,
        raw(running.address, verb("GET", "/rpc/add", "origin: <script>\r\n")).await,
        raw(running.address, post_with("/rpc/add", "byname-timeout-ms: <script>\r\n", "[]")).await,
        raw(running.address, post_with("/rpc/add", "content-encoding: <script>\r\n", "[]")).await,
        raw(running.address, verb("<SCRIPT>", "/rpc/add", "")).await,
    ] {
        if answer.body.is_empty() {
            assert_eq!(answer.status, 400, "{answer:?}");
            continue;
        }
        assert!(
            ["application/json", "application/problem+json"].contains(&answer.header("content-type")),
            "{answer:?}"
        );
        let control = answer.body.chars().find(|c| c.is_ascii_control());
        assert_eq!(control, None, "{answer:?}");
        answer.json();
    }
}

#[tokio::test]
async fn the_display_of_an_error_escapes_control_characters() {
    let said =
        json!({"err": {"code": "aborted", "message": ODD, "executed": "no", "kind": "rpc", "data": ODD, "limit": ODD}});
    let server = Foreign::answering(answer("409 Conflict", BYNAME, &said.to_string())).await;
    let error = within(server.client().call::<u8>("f", ())).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!(error.message(), ODD, "as it is for a program");
    let words: Error = error.clone();
    for shown in [format!("{words}"), format!("{words:?}"), format!("{:?}", words.clone().with_data(ODD))] {
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        assert!(shown.contains("<script>"), "{shown:?}");
    }
    let lines = Error::new(byname::Code::Aborted, "two\nlines\tand a tab");
    assert_eq!(lines.to_string(), "aborted: two\nlines\tand a tab");
}

#[tokio::test]
async fn the_servers_log_escapes_the_text_of_callers() {
    let mut log = Log::new();
    let running = Running::new(everything()).await;
    for request in [
        post("/rpc", &json!({"fun": ODD}).to_string()),
        post("/rpc/add", &json!({ODD: 1}).to_string()),
        post("/rpc/panics", &json!([ODD]).to_string()),
        post("/rpc/echo", &json!([ODD]).to_string()),
    ] {
        raw(running.address, request).await;
    }
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains("`panics`")), "{lines:?}");
    assert_eq!(lines.iter().find(|line| line.contains(|c: char| c.is_control())), None);
    for span in log.spans("rpc.serve") {
        assert!(span.fields.values().all(|value| !value.contains(|c: char| c.is_control())), "{span:?}");
    }
}
