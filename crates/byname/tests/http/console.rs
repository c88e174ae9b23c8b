//! The page at the endpoint: who sees it, what is sent, and how its calls are known. `tests/console/run` uses it in a browser.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use byname::{Client, Code, Context, Error, Next, Request, Server, Transport, rpc};

use crate::harness::{Caller, Log, Mounted, Raw, Running, add, everything, get, post, post_with, raw, verb};

const HTML: &str = "accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";
const SCRIPT: &str = "/rpc?!console.js";
const STYLE: &str = "/rpc?!console.css";

/// The page, as a browser asks for it.
async fn page(address: SocketAddr, path: &str, headers: &str) -> Raw {
    raw(address, verb("GET", path, &format!("{HTML}{headers}"))).await
}

fn is_page(answer: &Raw) -> bool {
    answer.status == 200 && answer.body.starts_with("<!doctype html>")
}

/// The token in a page.
fn token(page: &Raw) -> String {
    let (_, rest) = page.body.split_once("name=\"byname-console\" content=\"").expect("the page has a token");
    rest[..32].to_owned()
}

/// What says that the caller may learn nothing.
fn as_without_console(answer: &Raw) -> bool {
    answer.status == 405 && answer.body.contains("calls nothing at `/rpc`; use POST")
}

#[tokio::test]
async fn a_browser_sees_the_page_and_other_callers_see_what_they_saw_before() {
    let running = Running::new(everything()).await;
    let seen = page(running.address, "/rpc", "").await;
    assert!(is_page(&seen), "{seen:?}");
    for other in ["", "accept: */*\r\n", "accept: application/json\r\n", "accept: text/html2, text/*\r\n"] {
        let answer = raw(running.address, verb("GET", "/rpc", other)).await;
        assert!(as_without_console(&answer), "{other}: {answer:?}");
    }
    assert!(is_page(&page(running.address, "/rpc/", "").await));
    // A browser that opens a function calls it.
    assert_eq!(page(running.address, "/rpc/add?a=1&b=2", "").await.body, "3");
    let mut caller = Caller::to(running.address).await;
    caller.send(verb("HEAD", "/rpc", &format!("connection: close\r\n{HTML}"))).await;
    let text = caller.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains(&format!("content-length: {}", seen.body.len())),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\n"), "it has no body: {text}");
}

#[tokio::test]
async fn it_is_shown_where_names_may_be_learnt_unless_the_server_says_otherwise() {
    let named = || everything().hosts(["app.example"]);
    let forwarded = "x-forwarded-for: 192.0.2.1\r\n";
    for (what, server, headers, is_shown) in [
        ("loopback", everything(), "", true),
        ("loopback, by a proxy", everything(), forwarded, false),
        ("with hosts", named(), "", false),
        ("listed", named().listing(true), "", true),
        ("not listed", everything().listing(false), "", false),
        ("on", named().console(true), "", true),
        ("on, by a proxy", named().console(true), forwarded, true),
        ("off", everything().console(false), "", false),
        ("off, but listed", everything().listing(true).console(false), "", false),
        ("on, without a listing", everything().listing(false).console(true), "", true),
    ] {
        let running = Running::new(server).await;
        for (path, begins) in [("/rpc", "<!doctype html>"), (SCRIPT, ""), (STYLE, ":root")] {
            let answer = page(running.address, path, headers).await;
            let expected = if is_shown {
                answer.status == 200 && answer.body.starts_with(begins)
            } else {
                as_without_console(&answer)
            };
            assert!(expected, "{what} {path}: {} {}", answer.status, &answer.body[..answer.body.len().min(200)]);
        }
    }
    let everywhere = Running::at(everything(), "0.0.0.0:0").await;
    let address = SocketAddr::from(([127, 0, 0, 1], everywhere.address.port()));
    assert!(as_without_console(&page(address, "/rpc", "").await));
}

#[tokio::test]
async fn pages_of_other_sites_may_link_to_it_and_not_read_it() {
    let running = Running::new(everything().origins(["https://app.example"])).await;
    let link = "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    assert!(is_page(&page(running.address, "/rpc", link).await));
    for other in [
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: cors\r\nsec-fetch-dest: empty\r\n",
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n",
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\norigin: https://evil.example\r\n",
        "origin: https://evil.example\r\n",
    ] {
        assert_eq!(page(running.address, "/rpc", other).await.status, 403, "{other}");
    }
    // Nor may a site whose pages may call: it would learn the token.
    let allowed = page(running.address, "/rpc", "origin: https://app.example\r\nsec-fetch-site: cross-site\r\n").await;
    assert!(as_without_console(&allowed), "{allowed:?}");
    assert_eq!(page(running.address, SCRIPT, link).await.status, 403);
    let without = Running::new(everything().console(false)).await;
    assert_eq!(page(without.address, "/rpc", link).await.status, 403);
    assert_eq!(raw(running.address, get("/rpc").replace("localhost", "evil.example")).await.status, 421);
    let rebound = verb("GET", "/rpc", HTML).replace("localhost", "evil.example");
    assert_eq!(raw(running.address, rebound).await.status, 421);
}

#[tokio::test]
async fn rules_and_interceptors_decide_who_sees_it() {
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let server = everything().intercept(move |request: Request, next: Next| {
        seen.lock().unwrap().push(request.name().to_owned());
        async move {
            if request.name() == "!console" && request.header("x-user").is_none() {
                return Err(Error::new(Code::PermissionDenied, "sign in first"));
            }
            Ok(next.run(request).await)
        }
    });
    let running = Running::new(server).await;
    let refused = page(running.address, "/rpc", "").await;
    assert_eq!((refused.status, refused.body.contains("sign in first")), (403, true), "{refused:?}");
    assert_eq!(page(running.address, SCRIPT, "").await.status, 403);
    assert!(is_page(&page(running.address, "/rpc", "x-user: ada\r\n").await));
    assert_eq!(*names.lock().unwrap(), ["!console"; 3]);
    // Only a request for the page is one.
    assert_eq!(raw(running.address, post_with("/rpc/!console", "x-user: ada\r\n", "[]")).await.status, 404);
    assert_eq!(page(running.address, "/rpc/!console", "x-user: ada\r\n").await.status, 404);

    let of_user = |request: &Request| request.header("x-user").is_some();
    let running = Running::new(Server::new().method::<add>().allow("add", of_user)).await;
    assert!(is_page(&page(running.address, "/rpc", "x-user: ada\r\n").await));
    assert_eq!(page(running.address, "/rpc", "").await.status, 401);
    // Where the page is never shown, no rule is asked.
    let running = Running::new(Server::new().method::<add>().allow("add", of_user).console(false)).await;
    assert!(as_without_console(&page(running.address, "/rpc", "").await));
}

#[tokio::test]
async fn its_headers_allow_nothing_but_its_own_files() {
    let running = Running::new(everything()).await;
    for path in ["/rpc", SCRIPT, STYLE] {
        let answer = page(running.address, path, "").await;
        let policy = answer.header("content-security-policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
    }
    assert_eq!(page(running.address, "/rpc", "").await.header("cache-control"), "no-store");
    assert_eq!(page(running.address, SCRIPT, "").await.header("cache-control"), "private, no-cache");
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let running = Running::new(everything()).await;
    for path in ["/rpc", SCRIPT, STYLE] {
        let first = page(running.address, path, "").await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"'), "a strong tag: {tag}");
        for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = page(running.address, path, &format!("if-none-match: {known}\r\n")).await;
            assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", &*tag), "{path} {known}");
        }
        assert_eq!(page(running.address, path, "if-none-match: \"other\"\r\n").await.status, 200);
    }
}

#[tokio::test]
async fn files_are_sent_in_gzip_where_it_is_accepted() {
    let running = Running::new(everything()).await;
    for path in [SCRIPT, STYLE] {
        let plain = page(running.address, path, "").await;
        for (accepted, is_gzip) in [
            ("gzip, deflate, br, zstd", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("*, gzip;q=0", false),
            ("br", false),
            ("identity", false),
        ] {
            let mut caller = Caller::to(running.address).await;
            caller.send(verb("GET", path, &format!("accept-encoding: {accepted}\r\nconnection: close\r\n"))).await;
            let answer = caller.rest().await;
            assert_eq!(answer.contains("content-encoding: gzip"), is_gzip, "{accepted}");
            // One tag is that of one sequence of bytes.
            assert_eq!(answer.contains(plain.header("etag")), !is_gzip, "{accepted}");
            assert!(answer.contains("vary: accept-encoding"));
            assert_eq!(answer.contains(plain.body.as_str()), !is_gzip, "{accepted}");
        }
    }
}

#[cfg(feature = "compression")]
#[tokio::test]
async fn a_server_that_compresses_encodes_each_file_once() {
    let running = Running::new(everything().compress(true)).await;
    for (accepted, coding) in [("gzip, zstd", "gzip"), ("zstd", "zstd"), ("gzip;q=0, zstd", "zstd")] {
        let accept = format!("accept-encoding: {accepted}\r\n");
        let mut caller = Caller::to(running.address).await;
        caller.send(verb("GET", SCRIPT, &format!("{accept}connection: close\r\n"))).await;
        let answer = caller.rest().await;
        assert_eq!(answer.matches("content-encoding: ").count(), 1, "{accepted}");
        assert!(answer.contains(&format!("content-encoding: {coding}\r\n")), "{accepted}");
        let (_, tag) = answer.split_once("etag: ").unwrap();
        let tag = tag.split_once('\r').unwrap().0;
        let again = page(running.address, SCRIPT, &format!("{accept}if-none-match: {tag}\r\n")).await;
        assert_eq!((again.status, again.header("content-encoding")), (304, ""), "{accepted}");
    }
}

/// Whether the call came from the page, as a function reads it.
#[rpc]
async fn is_from_page() -> bool {
    Context::current().is_some_and(|context| context.metadata().contains_key("byname-console"))
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

#[rpc]
async fn counted() -> usize {
    RUNS.fetch_add(1, Ordering::SeqCst) + 1
}

#[tokio::test]
async fn a_call_of_the_page_is_known_by_its_token() {
    let running = Running::new(Server::new().method::<is_from_page>().method::<counted>()).await;
    let token = token(&page(running.address, "/rpc", "").await);
    let from_page = format!("byname-console: {token}\r\n");
    assert_eq!(raw(running.address, post("/rpc/is_from_page", "[]")).await.body, "false");
    assert_eq!(raw(running.address, post_with("/rpc/is_from_page", &from_page, "[]")).await.body, "true");

    let other = Running::new(Server::new().method::<counted>()).await;
    let other = self::token(&page(other.address, "/rpc", "").await);
    assert_ne!(token, other);
    for wrong in ["byname-console: \r\n".to_owned(), format!("byname-console: {other}\r\n"), from_page.repeat(2)] {
        for (path, body) in [
            ("/rpc/counted", "[]"),
            ("/rpc", "{\"fun\":\"counted\",\"args\":[],\"kwargs\":{}}"),
            ("/rpc", "{\"jsonrpc\":\"2.0\",\"method\":\"counted\",\"id\":1}"),
        ] {
            let refused = raw(running.address, post_with(path, &wrong, body)).await;
            assert_eq!(refused.status, 403, "{wrong}: {refused:?}");
            assert!(
                refused.body.contains("reload the page") && refused.body.contains("\"executed\":\"no\""),
                "{refused:?}"
            );
            assert!(!refused.body.contains(&token), "{refused:?}");
        }
        assert_eq!(page(running.address, "/rpc/!schema", &wrong).await.status, 403);
    }
    assert_eq!(RUNS.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_interceptor_sees_the_token_and_no_debug_shows_it() {
    let server = everything().intercept(|request: Request, next: Next| async move {
        assert!(!format!("{:?}", request.metadata()).contains("0123"), "the header is sensitive");
        if request.header("byname-console").is_some() && request.name() == "counter.bump" {
            let shown = format!("{:?}", request.metadata());
            return Err(Error::new(Code::PermissionDenied, format!("not from the console, {shown}")));
        }
        Ok(next.run(request).await)
    });
    let running = Running::new(server).await;
    let token = token(&page(running.address, "/rpc", "").await);
    let header = format!("byname-console: {token}\r\n");
    let refused = raw(running.address, post_with("/rpc/counter.bump", &header, "[]")).await;
    assert_eq!((refused.status, refused.body.contains(&token)), (403, false), "{refused:?}");
    assert!(refused.body.contains("Sensitive"), "{refused:?}");
    assert_eq!(raw(running.address, post("/rpc/counter.bump", "[]")).await.body, "1");
}

#[tokio::test]
async fn the_page_may_read_what_it_shows_where_the_listing_is_off() {
    let running = Running::new(everything().hosts(["app.example"]).console(true)).await;
    let header = format!("byname-console: {}\r\n", token(&page(running.address, "/rpc", "").await));
    for document in ["/rpc/!schema", "/rpc/!stats"] {
        assert_eq!(raw(running.address, get(document)).await.status, 404);
        assert_eq!(raw(running.address, verb("GET", document, &header)).await.status, 200, "{document}");
    }
}

#[tokio::test]
async fn a_client_can_t_send_the_header_of_the_page() {
    let running = Running::new(everything()).await;
    for transport in [Transport::Http, Transport::Frames] {
        let client: Client = running.client_by(transport);
        let why = client.call::<i64>("add", (1, 2)).header("byname-console", "0123").await.unwrap_err();
        assert!(why.to_string().contains("the protocol uses it itself"), "{why}");
    }
}

#[tokio::test]
async fn a_request_for_the_page_is_no_call_in_the_access_log() {
    let mut log = Log::new();
    let running = Running::new(everything().access_log(true)).await;
    for path in ["/rpc", SCRIPT, STYLE] {
        assert_eq!(page(running.address, path, "").await.status, 200);
    }
    assert_eq!(raw(running.address, get("/rpc/add?a=1&b=2")).await.body, "3");
    assert_eq!(log.access().await["rpc.method"], "add");
}

#[tokio::test]
async fn a_mounted_server_and_one_at_the_root_have_the_page() {
    let mounted = Mounted::new(everything().listing(true)).await;
    let answer = page(mounted.address, "/api/rpc", "").await;
    assert!(is_page(&answer), "{answer:?}");
    // The browser asks for them at the path that it knows.
    assert!(answer.body.contains("\"?!console.js\"") && answer.body.contains("\"?!console.css\""));
    assert_eq!(
        page(mounted.address, "/api/rpc?!console.js", "").await.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    let root = everything().listing(true).endpoint("/").into_service().unwrap();
    let mounted = Mounted::serving(Router::new().nest_service("/deep/api", root)).await;
    assert!(is_page(&page(mounted.address, "/deep/api", "").await));
    assert_eq!(
        page(mounted.address, "/deep/api?!console.css", "").await.header("content-type"),
        "text/css; charset=utf-8"
    );
    let root = Running::new(everything().endpoint("/")).await;
    assert!(is_page(&page(root.address, "/", "").await));
    assert_eq!(page(root.address, "/?!console.js", "").await.status, 200);
    let other = Running::new(everything().endpoint("/api/v1/calls")).await;
    assert!(is_page(&page(other.address, "/api/v1/calls", "").await));
    assert!(!is_page(&page(other.address, "/rpc", "").await));
}
