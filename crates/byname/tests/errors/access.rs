//! Who may call: the rules of a server, and the tokens of clients.

use std::future::pending;
use std::time::Duration;

use byname::{Client, IssuedToken, Server};

use super::harness::add;
use super::{Page, Running, SHORT, Seen, failed, one, post_with, raw, refused};

pub(super) async fn access(page: &mut Page) {
    page.section("Who may call");
    rules(page).await;
    console(page).await;
    tokens(page).await;
}

async fn rules(page: &mut Page) {
    page.add(
        "A rule has an invalid pattern",
        refused(one().allow_anyone("ad*")).await,
        "Write a whole name, or end the pattern with `.*`, which means all names below a word.",
    );
    page.add(
        "A rule matches no function",
        refused(one().allow_anyone("xyz")).await,
        "Compare the pattern with the names that the server logs at its start. Remove rules about functions that are \
         not served.",
    );
    page.add(
        "A rule is misspelt",
        refused(one().allow_anyone("adds")).await,
        "Write the pattern that is suggested, if you meant it.",
    );
    let aliased = Server::new().method::<super::harness::echo>();
    page.add(
        "A rule has the alias of a function",
        refused(aliased.allow_anyone("same")).await,
        "Write the registered name. The rule then holds for calls by the alias as well.",
    );
    page.add(
        "A rule never decides",
        refused(one().allow_anyone("*").allow("add", |_| false)).await,
        "The first rule that matches a function decides. Put narrow rules before wide ones.",
    );
    let closed = Client::local(&one().allow("add", |_| false)).unwrap();
    page.add(
        "A rule wants to know who calls",
        failed(add::on(&closed, 1, 2).await),
        "Send a token, or connect in a way that proves who you are. The answer is the same for a name that no \
         function has, so check the name too.",
    );
    page.add(
        "A rule wants a bearer token",
        failed(add::on(&closed.header("authorization", "Token 1234"), 1, 2).await),
        "The header must be exactly `authorization: Bearer TOKEN`, with one space. An interceptor of the server may accept \
         other credentials. It puts the caller that it has found into the extensions of the request.",
    );
    page.add(
        "A rule refuses the caller",
        failed(add::on(&closed.bearer("1234"), 1, 2).await),
        "Compare the identity that the caller has with what the server's rule for this function asks for. The answer \
         is the same for a name that no function has, so check the name too.",
    );
}

async fn console(page: &mut Page) {
    let running = Running::new(one()).await;
    page.add(
        "The console is of another server",
        raw(running.address, post_with("/rpc/add", "byname-console: 0123\r\n", "[1,2]")).await,
        "Each server makes a token at its start, and only its own page has it. The page asks for a new one by itself, once. \
         If several replicas share one address, let the proxy send one browser to one of them. Programs send no such \
         header.",
    );
}

async fn tokens(page: &mut Page) {
    let local = Client::local(&one()).unwrap();
    page.add(
        "A token is invalid",
        failed(add::on(&local.bearer("Bearer 1234"), 1, 2).await),
        "Give the token alone. Trim text that was read from a file. Send other credentials with `Client::header`.",
    );
    let away = Client::new("orders:8080").unwrap().bearer("1234");
    page.add(
        "A token could be read by others",
        failed(add::on(&away, 1, 2).await),
        "Call the service over TLS, or through a proxy on this machine that encrypts.",
    );
    let never = || pending::<Result<IssuedToken, String>>();
    page.add(
        "A call waited too long for its token",
        failed(add::on(&local.bearer_from(never), 1, 2).timeout(SHORT).await),
        "Find out why the issuer of tokens is slow. The fetch goes on, so a later call may have the token at once.",
    );
    page.add(
        "The function for tokens failed",
        failed(add::on(&local.bearer_from(async || Err::<IssuedToken, _>("the issuer says 503")), 1, 2).await),
        "The message ends with the error of your function. The next call fetches again.",
    );
    let panics = || async { if SHORT.is_zero() { Ok(IssuedToken::new("1", SHORT)) } else { panic!("on purpose") } };
    page.add(
        "The function for tokens panicked",
        failed(add::on(&local.bearer_from::<_, _, String>(panics), 1, 2).await),
        "The log of this program says where it panicked.",
    );
    let slow = std::thread::spawn(move || -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime
            .block_on(async { failed(add::on(&local.bearer_from(never), 1, 2).timeout(Duration::from_secs(60)).await) })
    });
    page.add(
        "The function for tokens takes too long",
        slow.join().unwrap(),
        "Find out what your function waits for, and give its requests a time-out of their own.",
    );
}
