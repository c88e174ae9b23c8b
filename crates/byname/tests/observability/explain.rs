//! What a client says of its calls and of its service: `Client::explain`, `Call::explain`, `GET /rpc/!explain`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::foreign::{Foreign, ret, skip};
use crate::harness::{Running, get, raw, within};
use byname::{
    Client, Discover, DiscoverFuture, Error, ExplainedSetting, Explanation, ReplicaState, Replicas, Server,
    SettingSource, Transport, rpc,
};

#[rpc(readonly, timeout = "3s")]
async fn look(order: u64) -> u64 {
    order
}

#[rpc]
async fn place(order: u64) -> u64 {
    order
}

fn setting<'a>(explanation: &'a Explanation, name: &str) -> &'a ExplainedSetting {
    explanation.settings.iter().find(|setting| setting.name == name).unwrap()
}

/// The value of a setting, and where it came from.
fn of(explanation: &Explanation, name: &str) -> (String, SettingSource) {
    let setting = setting(explanation, name);
    (setting.value.clone(), setting.source.clone())
}

#[tokio::test]
async fn each_setting_says_where_it_came_from() {
    let client = Client::new("127.0.0.1:1/rpc").unwrap();
    let usual = client.explain("place").await;
    assert_eq!(of(&usual, "timeout"), ("30s".to_owned(), SettingSource::BuiltIn));
    assert_eq!(of(&usual, "attempts"), ("3".to_owned(), SettingSource::BuiltIn));
    assert_eq!(of(&usual, "hedge"), ("off".to_owned(), SettingSource::BuiltIn));
    assert_eq!(of(&usual, "repeated"), ("if it did not run".to_owned(), SettingSource::BuiltIn));
    let declared = look::on(&client, 1).explain().await;
    assert_eq!(of(&declared, "timeout"), ("3s".to_owned(), SettingSource::Attribute));
    assert_eq!(of(&declared, "repeated"), ("always, it is readonly".to_owned(), SettingSource::Attribute));

    #[rpc(keyed)]
    async fn pay(order: u64);

    let keyed = pay::on(&client, 1).explain().await;
    assert_eq!(of(&keyed, "repeated"), ("where its key is known".to_owned(), SettingSource::Attribute));
    let limited = Client::builder("127.0.0.1:1/rpc").limits(|limits| limits.call = Duration::from_secs(9));
    let limited = limited.build().unwrap();
    assert_eq!(of(&limited.explain("place").await, "timeout"), ("9s".to_owned(), SettingSource::Limits));
    let hurried = client.timeout(Duration::from_secs(2));
    assert_eq!(of(&look::on(&hurried, 1).explain().await, "timeout"), ("2s".to_owned(), SettingSource::Client));
    let own = look::on(&hurried, 1).timeout(Duration::from_secs(1)).explain().await;
    assert_eq!(of(&own, "timeout"), ("1s".to_owned(), SettingSource::Call));
    let ruled = client.policy("*", |policy| policy.attempts = 2).policy("look", |policy| policy.hedge = true);
    let ruled = look::on(&ruled, 1).explain().await;
    assert_eq!(of(&ruled, "attempts"), ("2".to_owned(), SettingSource::Policy("*".to_owned())));
    let hedged = "off, there is 1 replica".to_owned();
    assert_eq!(of(&ruled, "hedge"), (hedged, SettingSource::Policy("look".to_owned())));
    assert_eq!(of(&ruled, "timeout"), ("3s".to_owned(), SettingSource::Attribute));
}

#[tokio::test]
async fn a_hedge_says_after_which_time_or_that_nothing_is_known() {
    let (one, other) = (Foreign::answering(ret("1")).await, Foreign::answering(ret("1")).await);
    let url = format!("http://{},{}/rpc", one.address, other.address);
    let client = Client::new(&url).unwrap().policy("*", |policy| policy.hedge = true);
    let value = |explanation: &Explanation| setting(explanation, "hedge").value.clone();
    assert_eq!(value(&client.explain("look").await), "off, it is called by name");
    assert_eq!(value(&place::on(&client, 1).explain().await), "off, it is not readonly");
    let once = client.policy("look", |policy| policy.attempts = 1);
    assert_eq!(value(&look::on(&once, 1).explain().await), "off, there is 1 attempt");
    let alone = one.client().policy("*", |policy| policy.hedge = true);
    assert_eq!(value(&look::on(&alone, 1).explain().await), "off, there is 1 replica");
    for _ in 0..100 {
        assert_eq!(value(&look::on(&client, 1).explain().await), "on, no delay known yet");
        within(look::on(&client, 1)).await.unwrap();
    }
    let measured = value(&look::on(&client, 1).explain().await);
    assert!(measured.starts_with("on, after ") && measured.ends_with("ms"), "{measured}");
}

#[tokio::test]
async fn a_client_says_what_it_knows_of_its_replicas_and_connections() {
    let broken = Foreign::new(|mut connection| async move {
        connection.request().await;
        connection.reset();
    });
    let (broken, well, other) = (broken.await, Foreign::answering(ret("1")).await, Foreign::answering(ret("1")).await);
    let client = Client::builder("localhost/rpc").addresses([broken.address, well.address, other.address]);
    let client = client.transport(Transport::Http).build().unwrap();
    let before = client.explain("look").await.service.unwrap();
    assert_eq!((before.known.unwrap().addresses.len(), before.replicas.len()), (3, 0), "no call was made");
    while broken.requests().is_empty() {
        within(look::on(&client, 1)).await.unwrap();
    }
    let service = client.explain("look").await.service.unwrap();
    let replica = |of: &Foreign| {
        let of = of.address.into();
        service.replicas.iter().find(|replica| replica.address == of).unwrap()
    };
    let (healthy, ill) = (replica(&well), replica(&broken));
    assert_eq!((healthy.state, healthy.in_flight, healthy.is_by_frames), (ReplicaState::Serving, 0, false));
    assert!(healthy.success > 0.9 && ill.success < 0.8, "{service:?}");
    assert!(ill.never_answered && ill.latency.is_none() && !healthy.never_answered, "{service:?}");
    let shown = service.to_string();
    assert!(shown.contains(", no answer yet\n") && shown.contains(" % succeeded\n"), "{shown}");
    let used = service.connections;
    let requests = broken.requests().len() + well.requests().len() + other.requests().len();
    assert_eq!(used.http_opened + used.http_reused, requests as u64);
    let opened = broken.opened() + well.opened() + other.opened();
    assert_eq!((used.http_opened, used.frames_opened, used.waited), (opened as u64, 0, 0));
    assert!(used.calls < requests as u64, "some calls were repeated");
}

/// The replicas are those that the test says.
#[derive(Clone)]
struct Said(Arc<Mutex<Vec<SocketAddr>>>);

impl Discover for Said {
    fn replicas<'a>(&'a self, _: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        let now = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(Replicas::new(now)) })
    }
}

#[tokio::test]
async fn a_replica_that_discovery_has_dropped_is_not_shown() {
    let (one, other) = (Foreign::answering(ret("1")).await, Foreign::answering(ret("1")).await);
    let said = Said(Arc::new(Mutex::new(vec![one.address, other.address])));
    let client = Client::builder("orders.test/rpc").discover(said.clone()).transport(Transport::Http).build().unwrap();
    within(look::on(&client, 1)).await.unwrap();
    assert_eq!(client.explain("look").await.service.unwrap().replicas.len(), 2);
    *said.0.lock().unwrap() = vec![one.address];
    skip(Duration::from_secs(6)).await;
    within(look::on(&client, 1)).await.unwrap();
    let shown = async || client.explain("look").await.service.unwrap();
    let changed = async {
        while shown().await.known.unwrap().addresses.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    within(changed).await;
    let replicas = shown().await.replicas;
    assert!(replicas.len() == 1 && replicas[0].address == one.address.into(), "{replicas:?}");
}

#[tokio::test]
async fn replicas_that_this_client_does_not_use_are_counted() {
    let three = [(); 3].map(|()| Foreign::answering(ret("1")));
    let three = futures_util::future::join_all(three).await;
    let builder = Client::builder("orders.test/rpc").addresses(three.iter().map(|one| one.address));
    let client = builder.limits(|limits| limits.connections = 2).build().unwrap();
    within(look::on(&client, 1)).await.unwrap();
    let shown = client.explain("look").await.to_string();
    assert!(shown.contains("  replicas     3 known, 2 of them used by this client\n"), "{shown}");
}

#[tokio::test]
async fn where_calls_go_by_frames_an_address_without_a_connection_gets_none() {
    let (by_frames, by_http) = (Running::new(Server::new().method::<look>()).await, Foreign::answering(ret("1")).await);
    let url = format!("http://{},{}/rpc", by_frames.address, by_http.address);
    let client = Client::builder(&url).transport(Transport::Frames).build().unwrap();
    let shown = async || client.explain("look").await.service.unwrap();
    while !shown().await.replicas.iter().any(|replica| replica.is_by_frames) {
        within(look::on(&client, 1)).await.unwrap();
    }
    let service = shown().await;
    let row = service.replicas.iter().find(|replica| replica.address == by_http.address.into()).unwrap();
    assert_eq!((row.state, row.latency), (ReplicaState::NotConnected, None), "{service}");
}

#[tokio::test]
async fn a_handle_by_which_every_call_fails_says_why() {
    let client = Client::new("127.0.0.1:1/rpc").unwrap();
    let says = async |client: &Client| {
        let explained = client.explain("place").await;
        let error = within(place::on(client, 1)).await.unwrap_err();
        assert_eq!(explained.refused.as_ref().map(Error::message), Some(error.message()));
        assert_eq!(look::on(client, 1).explain().await.refused.map(|error| error.code()), Some(error.code()));
        let shown = explained.to_string();
        assert!(shown.starts_with(&format!("place\n  every call fails  {error}\n")), "{shown}");
    };
    assert_eq!(client.explain("place").await.refused.map(|error| error.to_string()), None);
    says(&client.policy("look", |policy| policy.attempts = 0)).await;
    says(&client.policy("look", |policy| policy.timeout = Duration::ZERO)).await;
    says(&client.policy("orders*", |_| ())).await;
    says(&client.timeout(Duration::ZERO)).await;
    let call = place::on(&client, 1).header("host", "x");
    let refused = call.explain().await.refused.expect("the header is not its caller's");
    assert_eq!(refused.message(), within(call).await.unwrap_err().message());
}

#[tokio::test]
async fn waiting_for_a_connection_is_counted() {
    let server = Foreign::holding(ret("1")).await;
    let client = server.builder().limits(|limits| limits.connections = 1).build().unwrap();
    let (mut first, mut second) = (Box::pin(look::on(&client, 1)), Box::pin(look::on(&client, 2)));
    server.until_asked_by(&mut first, 1).await;
    crate::harness::foreign::start(&mut second).await;
    server.release(2);
    assert_eq!((within(first).await, within(second).await), (Ok(1), Ok(1)));
    let used = client.explain("look").await.service.unwrap().connections;
    assert_eq!((used.waited, used.http_opened, used.http_reused, used.calls), (1, 1, 1, 2));
}

#[tokio::test]
async fn a_client_within_the_process_has_no_service() {
    let client = Client::local(&Server::new().method::<place>()).unwrap();
    let said = place::on(&client, 1).explain().await;
    assert!(said.service.is_none());
    assert!(said.to_string().contains("within this process"), "{said}");
}

#[tokio::test]
async fn a_server_that_was_told_so_explains_the_clients_of_its_process() {
    let client = Client::builder("orders-of-this-test.invalid:8080/rpc");
    let client = client.limits(|limits| limits.call = Duration::from_secs(7)).build().unwrap();
    let explains = Running::new(Server::new().method::<place>().explain_clients(true)).await;
    let answer = raw(explains.address, get("/rpc/!explain")).await;
    assert_eq!(answer.status, 200);
    let settings = answer.body.split("calls without a policy\n");
    let ours = settings.filter(|one| one.contains("service      http://orders-of-this-test.invalid:8080/rpc"));
    let ours: Vec<_> = ours.collect();
    for line in [
        "  timeout      7s                       ClientBuilder::limits\n",
        "  attempts     3                        default\n",
        "  first delay  50ms                     default\n",
        "  hedge        off                      default\n",
    ] {
        assert!(ours.len() == 1 && ours[0].contains(line), "{}", answer.body);
    }
    assert!(answer.body.starts_with("The clients of this process. "), "{}", answer.body);
    let foreign = crate::harness::verb("GET", "/rpc/!explain", "origin: http://evil.example\r\n");
    assert_eq!(raw(explains.address, foreign).await.status, 403);
    assert_eq!(raw(explains.address, crate::harness::post("/rpc/!explain", "{}")).await.status, 405);
    let silent = Running::new(Server::new().method::<place>()).await;
    let answer = raw(silent.address, get("/rpc/!explain")).await;
    assert!(answer.status == 404 && !answer.body.contains("invalid"), "{} {}", answer.status, answer.body);
    drop(client);
}
