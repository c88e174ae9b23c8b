//! Errors say which of several replicas they come from.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::foreign::{BYNAME, Foreign, answer};
use crate::harness::{Running, add, within};
use byname::{Client, Code, Context, Error, Server, Transport, rpc};

#[rpc(readonly)]
async fn fails() -> Result<u32, Error> {
    if Context::current().unwrap().header("fail").is_some() {
        return Err(Error::new(Code::Unavailable, "draining"));
    }
    Ok(1)
}

fn url(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("http://{}/rpc", addresses.join(","))
}

async fn three(each: impl AsyncFn() -> Foreign) -> ([Foreign; 3], String) {
    let three = [each().await, each().await, each().await];
    let url = url(&three.each_ref().map(|one| one.address));
    (three, url)
}

/// The replica that was asked.
fn asked(replicas: &[Foreign]) -> SocketAddr {
    let asked: Vec<_> = replicas.iter().filter(|one| !one.requests().is_empty()).collect();
    assert_eq!(asked.len(), 1);
    asked[0].address
}

#[tokio::test]
async fn an_answer_that_is_none_of_a_byname_server_names_the_replica() {
    let (replicas, url) = three(async || Foreign::answering(answer("404 Not Found", "", "")).await).await;
    let error = within(add::on(&Client::new(&url).unwrap(), 1, 2)).await.unwrap_err();
    let expected = format!("is it a byname endpoint? (at {})", asked(&replicas));
    assert!(error.message().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn a_connection_that_broke_names_the_replica() {
    let broken = || {
        Foreign::new(|mut connection| async move {
            connection.request().await;
            connection.reset();
        })
    };
    let (replicas, url) = three(async || broken().await).await;
    let client = Client::new(&url).unwrap().policy("*", |policy| policy.attempts = 1);
    let error = within(add::on(&client, 1, 2)).await.unwrap_err();
    let (from, to) = (format!("the connection to {url} broke after `add` was sent"), asked(&replicas));
    assert!(error.message().starts_with(&from) && error.message().ends_with(&format!(" (at {to})")), "{error}");
}

#[tokio::test]
async fn a_time_out_names_the_service_and_the_replica() {
    let (replicas, url) = three(async || Foreign::holding("").await).await;
    let call = add::on(&Client::new(&url).unwrap(), 1, 2).timeout(Duration::from_millis(20));
    let error = within(call).await.unwrap_err();
    let from = format!("`add` of {url} did not answer within ");
    let to = format!(" (at {})", asked(&replicas));
    assert!(error.message().starts_with(&from) && error.message().ends_with(&to), "{error}");
}

#[tokio::test]
async fn a_failed_connect_names_the_addresses() {
    let held: Vec<_> = (0..5)
        .map(|_| {
            let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            held
        })
        .collect();
    let addresses: Vec<_> = held.iter().map(|held| held.local_addr().unwrap().as_socket().unwrap()).collect();
    let url = url(&addresses);
    let client = Client::new(&url).unwrap().policy("*", |policy| policy.attempts = 1);
    let error = within(add::on(&client, 1, 2)).await.unwrap_err();
    let named = addresses.iter().filter(|one| error.message().replace(&url, "").contains(&one.to_string())).count();
    let message = error.message();
    assert!(named == 3 && message.contains(" and 2 more; is the server running there?"), "{error}");
    assert_eq!(message.matches("refused").count(), 1, "{error}");
}

#[tokio::test]
async fn each_attempt_names_its_replica_and_the_text_of_the_server_stays() {
    let draining = r#"{"err":{"code":"unavailable","message":"draining","executed":"no","kind":"rpc"}}"#;
    let (replicas, url) =
        three(async || Foreign::answering(answer("503 Service Unavailable", BYNAME, draining)).await).await;
    let client = Client::new(&url).unwrap();
    let error = within(add::on(&client, 1, 2)).await.unwrap_err();
    let lines: Vec<_> = error.message().lines().collect();
    assert_eq!((lines[0], lines.len()), ("draining", 4), "{error}");
    for one in &replicas {
        let at = format!(", at {}: the ", one.address);
        assert_eq!(lines.iter().filter(|line| line.contains(&at)).count(), 1, "{error}");
    }
    assert!(lines[1].ends_with(": the same error") && lines[3].ends_with(": the error above"), "{error}");
    let once = client.policy("*", |policy| policy.attempts = 1);
    assert_eq!(within(add::on(&once, 1, 2)).await.unwrap_err().message(), "draining");
}

#[tokio::test]
async fn so_does_an_attempt_by_frames() {
    let servers =
        [Running::new(Server::new().method::<fails>()).await, Running::new(Server::new().method::<fails>()).await];
    let url = url(&servers.each_ref().map(|server| server.address));
    let client = Client::builder(&url).transport(Transport::Frames).build().unwrap();
    let by_frames = async || {
        let replicas = client.explain("fails").await.service.unwrap().replicas;
        replicas.iter().filter(|replica| replica.is_by_frames).count()
    };
    while by_frames().await < 2 {
        within(fails::on(&client)).await.unwrap();
    }
    let error = Error::from(within(fails::on(&client.header("fail", "1"))).await.unwrap_err());
    assert!(error.message().starts_with("draining\nattempt 1 of 3, at 127.0.0.1:"), "{error}");
    for server in &servers {
        assert!(error.message().contains(&format!(", at {}: ", server.address)), "{error}");
    }
}
