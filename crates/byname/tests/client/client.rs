//! The client's requests: their way, their headers, and requests that it rejects.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::foreign::{BYNAME, Foreign, answer, ret, start};
use crate::harness::{Running, everything, greet};
use byname::{Args, CallError, Client, Code, Error, Executed, Server, rpc};
use serde_json::{Value, json};

/// A server that says the headers of byname in `headers` and answers 3, by both ways.
async fn saying(headers: &'static str) -> Foreign {
    Foreign::new(move |mut connection| async move {
        while let Some(asked) = connection.request().await {
            let body = if asked.line.starts_with("POST /rpc ") { "{\"ret\": 3}" } else { "3" };
            connection.send(answer("200 OK", headers, body)).await;
        }
    })
    .await
}

async fn three(client: &Client, args: impl serde::Serialize + Send + 'static) {
    assert_eq!(client.call::<u8>("add", args).await, Ok(3));
}

/// The call's own failure.
fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

#[derive(serde::Serialize)]
struct Named {
    a: u8,
    b: u8,
}

#[tokio::test]
async fn the_first_call_is_plain_with_all_three_members() {
    let calls: [(fn() -> Args, Value); 4] = [
        (Args::new, json!({"fun": "add", "args": [], "kwargs": {}})),
        (|| Args::new().arg(1).arg("x"), json!({"fun": "add", "args": [1, "x"], "kwargs": {}})),
        (|| Args::new().kwarg("a", 1), json!({"fun": "add", "args": [], "kwargs": {"a": 1}})),
        (|| Args::new().arg(1).kwarg("b", 2), json!({"fun": "add", "args": [1], "kwargs": {"b": 2}})),
    ];
    for (args, body) in calls {
        let server = saying(BYNAME).await;
        three(&server.client(), args()).await;
        let asked = &server.requests()[0];
        assert_eq!(asked.line, "POST /rpc HTTP/1.1");
        assert_eq!(asked.json(), body);
    }
}

#[tokio::test]
async fn tuples_go_by_position_and_structs_and_maps_by_name() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    three(&client, (1, 2)).await;
    three(&client, vec![1, 2]).await;
    three(&client, Named { a: 1, b: 2 }).await;
    three(&client, BTreeMap::from([("a", 1), ("b", 2)])).await;
    three(&client, ()).await;
    let arguments: Vec<_> =
        server.requests().iter().map(|asked| (asked.json()["args"].clone(), asked.json()["kwargs"].clone())).collect();
    let (positions, names) = ((json!([1, 2]), json!({})), (json!([]), json!({"a": 1, "b": 2})));
    assert_eq!(arguments, [positions.clone(), positions, names.clone(), names, (json!([]), json!({}))]);
}

#[tokio::test]
async fn calls_go_by_path_once_the_server_has_said_that_it_takes_them() {
    let server = saying(BYNAME).await;
    let client = server.client();
    three(&client, ()).await;
    three(&client, (1, 2)).await;
    three(&client.clone(), Named { a: 1, b: 2 }).await;
    three(&client.timeout(Duration::from_secs(9)), ()).await;
    let sent: Vec<_> = server.requests().into_iter().skip(1).map(|asked| (asked.line, asked.body)).collect();
    let by_path = |body: &str| ("POST /rpc/add HTTP/1.1".to_owned(), body.to_owned());
    assert_eq!(sent, [by_path("[1,2]"), by_path(r#"{"a":1,"b":2}"#), by_path("[]")]);
}

#[tokio::test]
async fn arguments_of_both_kinds_stay_plain() {
    let server = saying(BYNAME).await;
    let client = server.client();
    three(&client, ()).await;
    three(&client, Args::new().arg(1).kwarg("b", 2)).await;
    three(&client, (1, 2)).await;
    assert_eq!(server.paths(), ["/rpc", "/rpc", "/rpc/add"]);
    assert_eq!(server.requests()[1].json(), json!({"fun": "add", "args": [1], "kwargs": {"b": 2}}));
}

#[tokio::test]
async fn calls_by_path_are_sent_only_to_servers_that_announce_it() {
    let not_so = [
        "",
        "byname-protocol: 1\r\n",
        "byname-protocol: 1\r\nbyname-ways: plain\r\n",
        "byname-ways: plain, path\r\n",
        "byname-protocol: 2\r\nbyname-ways: plain, path\r\n",
        "byname-protocol: 1\r\nbyname-ways: plain, pathetic\r\n",
    ];
    for headers in not_so {
        let server = saying(headers).await;
        let client = server.client();
        for _ in 0..3 {
            three(&client, (1, 2)).await;
        }
        assert_eq!(server.paths(), ["/rpc"; 3], "{headers:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_replaced_by_another_kind_is_called_plainly_again() {
    let server = Foreign::new(|mut connection| async move {
        connection.request().await;
        connection.send(answer("200 OK", BYNAME, "{\"ret\": 3}")).await;
        connection.request().await;
        connection.send(answer("200 OK", "", "3")).await;
        connection.request().await;
        connection.send(ret("3")).await;
    })
    .await;
    let client = server.client();
    three(&client, ()).await;
    let error = rpc(client.call::<u8>("add", ()).await);
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Unknown));
    assert!(error.message().contains("no longer a byname server"), "{error}");
    three(&client, ()).await;
    assert_eq!(server.paths(), ["/rpc", "/rpc/add", "/rpc"]);
}

#[tokio::test]
async fn a_client_uses_the_only_way_that_a_server_offers() {
    let plain = Running::new(everything().path(false)).await;
    let path = Running::new(everything().plain(false)).await;
    for client in [plain.client(), path.client()] {
        for _ in 0..2 {
            three(&client, (1, 2)).await;
        }
    }
}

#[tokio::test]
async fn a_disabled_way_costs_exactly_one_more_request() {
    let turned = r#"{"err":{"code":"unimplemented","message":"by path, please","executed":"no","kind":"rpc"}}"#;
    let server = Foreign::new(move |mut connection| async move {
        while let Some(asked) = connection.request().await {
            let ways = "byname-protocol: 1\r\nbyname-ways: path\r\n";
            let plain = asked.line.starts_with("POST /rpc ");
            let (status, body) = if plain { ("404 Not Found", turned) } else { ("200 OK", "3") };
            connection.send(answer(status, ways, body)).await;
        }
    })
    .await;
    let client = server.client();
    three(&client, (1, 2)).await;
    three(&client, (1, 2)).await;
    assert_eq!(server.paths(), ["/rpc", "/rpc/add", "/rpc/add"]);

    let error = rpc(client.call::<u8>("add", Args::new().arg(1).kwarg("b", 2)).await);
    assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No));
    assert!(server.requests().len() <= 5, "{:?}", server.paths());
}

#[tokio::test]
async fn an_unknown_name_is_looked_up_once() {
    let server = Foreign::answering(answer("502 no func found err", BYNAME, "")).await;
    let error = rpc(server.client().call::<u8>("add", ()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_endpoint_can_be_anywhere() {
    for (end, plain, path) in [("", "/rpc", "/rpc/add"), ("/", "/", "/add"), ("/a/b/", "/a/b", "/a/b/add")] {
        let server = Foreign::new(|mut connection| async move {
            for body in ["{\"ret\": 3}", "3"] {
                connection.request().await;
                connection.send(answer("200 OK", BYNAME, body)).await;
            }
        })
        .await;
        let client = Client::new(format!("http://{}{end}", server.address)).unwrap();
        three(&client, ()).await;
        three(&client, ()).await;
        assert_eq!(server.paths(), [plain, path]);
    }
}

#[tokio::test]
async fn a_request_has_only_its_own_headers() {
    let server = Foreign::answering(ret("3")).await;
    three(&server.client(), (1, 2)).await;
    let mut headers = server.requests().remove(0).headers;
    let left: u64 = headers.remove("byname-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left} of the 30 s that every call has");
    let expected = [
        ("content-length", r#"{"fun":"add","args":[1,2],"kwargs":{}}"#.len().to_string()),
        ("content-type", "application/json".to_owned()),
        ("host", server.address.to_string()),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[tokio::test]
async fn the_time_that_is_left_is_the_calls_then_the_clients_then_the_limits() {
    let server = Foreign::answering(ret("3")).await;
    let s = Duration::from_secs;
    let limited = server.builder().limits(|limits| limits.call = s(1000)).build().unwrap();
    let client = limited.timeout(s(2000));
    three(&limited, ()).await;
    three(&client, ()).await;
    client.call::<u8>("add", ()).timeout(s(3000)).await.unwrap();
    client.call::<u8>("add", ()).timeout(s(500)).await.unwrap();
    client.timeout(s(4000)).call::<u8>("add", ()).await.unwrap();
    let seconds = |asked: &crate::harness::foreign::Asked| {
        let ms: u64 = asked.header("byname-timeout-ms").parse().unwrap();
        ms.div_ceil(100_000) * 100
    };
    assert_eq!(server.requests().iter().map(seconds).collect::<Vec<_>>(), [1000, 2000, 3000, 500, 4000]);
}

#[tokio::test]
async fn headers_of_a_client_and_of_a_call_travel_and_the_calls_own_wins() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    let ada = client.header("x-user", "ada").header("x-team", "a");
    let bob = ada.header("x-user", "bob");
    for client in [&client, &ada, &bob] {
        three(client, ()).await;
    }
    ada.call::<u8>("add", ()).header("X-User", "eve").header("x-trace", "1").await.unwrap();
    let said: Vec<_> = server
        .requests()
        .iter()
        .map(|asked| ["x-user", "x-team", "x-trace"].map(|name| asked.header(name).to_owned()).join(" "))
        .collect();
    assert_eq!(said, ["  ", "ada a ", "bob a ", "eve a 1"]);
}

#[tokio::test]
async fn an_invalid_header_fails_the_call_before_it_is_sent() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    let bad = [
        ("x user", "ada"),
        ("", "ada"),
        ("x-user", "a\r\nx: y"),
        ("content-length", "1"),
        ("connection", "close"),
        ("byname-timeout-ms", "60000"),
        ("Byname-Protocol", "2"),
    ];
    for (name, value) in bad {
        let errors = [
            rpc(client.header(name, value).call::<u8>("add", ()).await),
            rpc(client.call::<u8>("add", ()).header(name, value).await),
            crate::harness::add::on(&client.header(name, value), 1, 2).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{name:?}: {value:?}");
            assert!(error.message().contains("can't be a header"), "{error}");
        }
    }
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn stubs_send_defaults_and_leave_out_none() {
    let server = Foreign::answering(ret("\"\"")).await;
    let client = server.client();
    greet::on(&client, "Ada", "hello".into(), None).await.unwrap();
    greet::on(&client, "Ada", "salut".into(), Some('!')).await.unwrap();
    let sent: Vec<_> = server.requests().iter().map(crate::harness::foreign::Asked::json).collect();
    assert_eq!(sent[0], json!({"fun": "greet", "args": [], "kwargs": {"name": "Ada", "greeting": "hello"}}));
    let all = json!({"name": "Ada", "greeting": "salut", "mark": "!"});
    assert_eq!(sent[1], json!({"fun": "greet", "args": [], "kwargs": all}));
}

#[tokio::test]
async fn prefixes_nest_and_leave_the_client_as_it_is() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    three(&client.prefix("a").prefix("b.c"), ()).await;
    crate::harness::add::on(&client.prefix("left"), 1, 2).await.unwrap();
    three(&client, ()).await;
    let names: Vec<_> = server.requests().iter().map(|asked| asked.json()["fun"].clone()).collect();
    assert_eq!(names, ["a.b.c.add", "left.add", "add"]);
}

#[tokio::test]
async fn an_invalid_name_is_rejected_before_it_is_sent() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    let long = "x".repeat(129);
    for bad in ["", "a b", "1a", "../admin", "a\",\"b", "rpc.x", "!live", "añ", &long] {
        let as_name = rpc(client.call::<u8>(bad, ()).await);
        let as_prefix = rpc(client.prefix(bad).call::<u8>("add", ()).await);
        let of_a_stub = crate::harness::add::on(&client.prefix(bad).prefix("good"), 1, 2).await.unwrap_err();
        for error in [as_name, as_prefix, of_a_stub] {
            assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{bad:?}: {error}");
        }
    }
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn arguments_that_are_neither_by_position_nor_by_name_are_refused() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    let refused = [
        (rpc(client.call::<u8>("add", 7).await), "`(x,)`"),
        (rpc(client.call::<u8>("add", "text").await), "`(x,)`"),
        (rpc(client.call::<u8>("add", true).await), "`(x,)`"),
        (rpc(client.call::<u8>("add", (f64::NAN,)).await), "NaN"),
        (rpc(client.call::<u8>("add", BTreeMap::from([(vec![1], 1)])).await), "key must be a string"),
    ];
    for (error, words) in refused {
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No));
        assert!(error.message().contains(words) && error.message().contains("`add`"), "{error}");
    }
    assert_eq!(server.opened(), 0);
}

#[test]
fn an_invalid_address_is_rejected_at_once_with_the_reason() {
    for bad in ["", "ftp://data.example", "data.example:0", "data.example:port", "ada:secret@data.example"] {
        let error = Client::new(bad).unwrap_err();
        assert!(error.message().contains("such as localhost:8080/rpc"), "{bad}: {error}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_for_tls_https_is_rejected_with_its_name() {
    let https = Client::new("https://data.example/rpc").unwrap_err();
    assert_eq!((https.code(), https.executed()), (Code::InvalidArgument, Executed::No));
    assert!(https.message().contains("https:// needs the feature `tls`"), "{https}");
}

#[tokio::test]
async fn a_call_that_is_never_awaited_is_never_sent() {
    let server = Foreign::answering(ret("3")).await;
    let client = server.client();
    drop(client.call::<u8>("never", ()));
    drop(crate::harness::add::on(&client, 1, 2).timeout(Duration::from_secs(1)).with_metadata());
    three(&client, ()).await;
    let names: Vec<_> = server.requests().iter().map(|asked| asked.json()["fun"].clone()).collect();
    assert_eq!(names, ["add"]);
}

#[tokio::test]
async fn a_call_without_time_is_not_sent() {
    let server = Foreign::answering(ret("3")).await;
    let error = rpc(server.client().call::<u8>("add", ()).timeout(Duration::ZERO).await);
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn the_longest_possible_duration_is_accepted() {
    let server = Foreign::answering(ret("3")).await;
    assert_eq!(server.client().timeout(Duration::MAX).call::<u8>("add", ()).await, Ok(3));
}

#[tokio::test]
async fn metadata_of_the_reply_comes_with_its_success() {
    let server = Foreign::answering(answer("200 OK", "x-served: by-two\r\n", "{\"ret\": 3}")).await;
    let (three, metadata) = server.client().call::<u8>("add", ()).with_metadata().await.unwrap();
    assert_eq!((three, &metadata["x-served"]), (3, &"by-two".parse().unwrap()));
}

#[tokio::test]
async fn a_reply_of_another_type_says_which() {
    let server = Foreign::answering(ret("\"three\"")).await;
    let error = rpc(server.client().call::<u8>("add", ()).await);
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
    assert!(error.message().contains("`u8`") && error.message().contains("signature"), "{error}");
}

#[tokio::test]
#[should_panic(expected = "after it had ended")]
async fn a_call_that_has_ended_is_not_polled_again() {
    let server = Foreign::answering(ret("3")).await;
    let mut call = server.client().call::<u8>("add", ());
    (&mut call).await.unwrap();
    start(&mut call).await;
}

#[rpc]
async fn lookup(id: u64) -> Result<String, byname::Error> {
    Err(byname::Error::new(Code::NotFound, format!("no {id}")))
}

#[tokio::test]
async fn a_failed_call_is_passed_on_by_a_function_that_fails_in_the_same_way() {
    async fn pass_on(client: &Client) -> Result<String, byname::Error> {
        Ok(lookup::on(client, 7).await?)
    }
    let running = Running::new(Server::new().method::<lookup>()).await;
    let failed = pass_on(&running.client()).await.unwrap_err();
    assert_eq!((failed.code(), failed.message(), failed.executed()), (Code::NotFound, "no 7", Executed::Yes));
}
