//! How important a call is: who says so, whom the server believes, what the calls of a function inherit, and which calls are
//! refused first.

use std::sync::Arc;

use crate::harness::unix::UnixRunning;
use crate::harness::{Caller, Running, post_with, within};
use byname::{Client, Code, Context, Executed, Priority, Server, Transport, rpc};
use tokio::sync::{Notify, mpsc};

fn here() -> String {
    Context::current().map_or_else(|| "none".to_owned(), |call| call.priority().to_string())
}

#[rpc]
async fn plain() -> String {
    here()
}

#[rpc(priority = "batch")]
async fn report() -> String {
    here()
}

#[rpc(priority = "critical")]
async fn pay() -> String {
    here()
}

/// Calls the functions above, and says with which priority each was served.
struct Middle(Client);

#[rpc(prefix = "through")]
impl Middle {
    async fn plain(&self) -> Vec<String> {
        self.ask().await
    }

    #[rpc(priority = "sheddable")]
    async fn lesser(&self) -> Vec<String> {
        self.ask().await
    }

    async fn in_a_task(&self) -> String {
        let client = self.0.clone();
        Context::spawn(async move { plain::on(&client).await.unwrap() }).await.unwrap()
    }
}

impl Middle {
    async fn ask(&self) -> Vec<String> {
        let own = plain::on(&self.0).priority(Priority::Batch).await.unwrap();
        let (usual, pay) = (plain::on(&self.0).await.unwrap(), pay::on(&self.0).await.unwrap());
        vec![usual, own, pay]
    }
}

fn server() -> Server {
    Server::new().method::<plain>().method::<report>().method::<pay>().method::<way>()
}

/// What each function is served as, if the caller says `said` of each call.
async fn served(client: &Client, said: Priority) -> [String; 3] {
    [
        plain::on(client).priority(said).await.unwrap(),
        report::on(client).priority(said).await.unwrap(),
        pay::on(client).priority(said).await.unwrap(),
    ]
}

/// What a call came by: every request of HTTP says what host it is for.
#[rpc]
async fn way() -> String {
    if Context::current().unwrap().header("host").is_some() { "http" } else { "frames" }.to_owned()
}

/// A client over HTTP, and one whose calls go by frames.
async fn ways(running: &Running) -> [Client; 2] {
    let address = running.address.to_string();
    let clients = [Transport::Http, Transport::Frames]
        .map(|transport| Client::builder(&address).transport(transport).build().unwrap());
    within(async { while way::on(&clients[1]).await.unwrap() != "frames" {} }).await;
    clients
}

#[tokio::test]
async fn a_caller_that_is_not_trusted_can_only_lower_the_priority() {
    let running = Running::new(server()).await;
    for client in ways(&running).await {
        assert_eq!(plain::on(&client).await.unwrap(), "default");
        assert_eq!([report::on(&client).await.unwrap(), pay::on(&client).await.unwrap()], ["batch", "critical"]);
        assert_eq!(served(&client, Priority::Critical).await, ["default", "batch", "critical"]);
        assert_eq!(served(&client, Priority::Normal).await, ["default", "batch", "default"]);
        assert_eq!(served(&client, Priority::Sheddable).await, ["sheddable", "batch", "sheddable"]);
        assert_eq!(served(&client, Priority::Batch).await, ["batch", "batch", "batch"]);
    }
}

#[tokio::test]
async fn a_caller_of_a_trusted_network_is_believed() {
    let running = Running::new(server().trust_priority(["127.0.0.0/8"])).await;
    for client in ways(&running).await {
        for said in [Priority::Batch, Priority::Sheddable, Priority::Normal, Priority::Critical] {
            assert_eq!(served(&client, said).await, [said.as_str(); 3]);
        }
    }
    let elsewhere = Running::new(server().trust_priority(["10.0.0.0/8"])).await;
    for client in ways(&elsewhere).await {
        assert_eq!(plain::on(&client).priority(Priority::Critical).await.unwrap(), "default");
    }
    let wrong = Server::new().trust_priority(["everywhere"]).serve("127.0.0.1:0").bind().await.unwrap_err();
    assert!(wrong.message().starts_with("`Server::trust_priority`: `everywhere` is not a network"), "{wrong}");
}

#[tokio::test]
async fn a_caller_with_a_proven_identity_is_believed_unless_it_passes_on_what_others_say() {
    let running = UnixRunning::new(server()).await;
    let client = running.client();
    assert_eq!(served(&client, Priority::Critical).await, ["critical", "critical", "critical"]);
    let passed_on = plain::on(&client).priority(Priority::Critical).header("x-forwarded-for", "10.0.0.1");
    assert_eq!(passed_on.await.unwrap(), "default");
}

#[tokio::test]
async fn a_caller_without_byname_says_it_in_a_header() {
    let running = Running::new(server()).await;
    let mut caller = Caller::to(running.address).await;
    for (said, served) in
        [("batch", "batch"), ("sheddable", "sheddable"), ("critical", "default"), ("Batch", "default"), ("", "default")]
    {
        let answer = caller.ask(post_with("/rpc/plain", &format!("byname-priority: {said}\r\n"), "[]")).await;
        assert_eq!((answer.status, answer.body), (200, format!("{served:?}")), "{said}");
    }
}

#[tokio::test]
async fn a_policy_says_it_for_functions_and_the_call_itself_has_precedence() {
    let running = Running::new(server().trust_priority(["127.0.0.1"])).await;
    for client in ways(&running).await {
        let client = client.policy("*", |policy| policy.priority = Some(Priority::Sheddable));
        let client = client.policy("pay", |policy| policy.priority = Some(Priority::Critical));
        assert_eq!([plain::on(&client).await.unwrap(), pay::on(&client).await.unwrap()], ["sheddable", "critical"]);
        assert_eq!(served(&client, Priority::Batch).await, ["batch"; 3]);
        let explained = client.explain("pay").await.to_string();
        assert!(explained.contains("priority") && explained.contains("critical"), "{explained}");
    }
}

#[tokio::test]
async fn calls_that_a_function_makes_inherit_its_priority() {
    let below = Running::new(server().trust_priority(["127.0.0.1"])).await;
    for client in ways(&below).await {
        let through = Running::new(server().inject(Middle(client)).trust_priority(["127.0.0.1"])).await;
        let [client, _] = ways(&through).await;
        let through = Middle::on(&client);
        assert_eq!(through.plain().await.unwrap(), ["default", "batch", "critical"]);
        assert_eq!(through.lesser().await.unwrap(), ["sheddable", "batch", "sheddable"]);
        assert_eq!(through.plain().priority(Priority::Critical).await.unwrap(), ["critical", "batch", "critical"]);
        assert_eq!(through.in_a_task().priority(Priority::Batch).await.unwrap(), "batch");
    }
}

#[tokio::test]
async fn a_client_within_the_process_is_believed() {
    let client = Client::local(&server()).unwrap();
    assert_eq!(served(&client, Priority::Critical).await, ["critical"; 3]);
    assert_eq!([plain::on(&client).await.unwrap(), report::on(&client).await.unwrap()], ["default", "batch"]);
    assert_eq!(plain().await, "none");
}

/// Waits until it may end.
struct Held(mpsc::UnboundedSender<()>, Arc<Notify>);

#[rpc]
impl Held {
    async fn hold(&self) {
        self.0.send(()).unwrap();
        self.1.notified().await;
    }
}

#[tokio::test]
async fn batch_calls_leave_a_quarter_of_the_calls_in_flight_to_others() {
    for transport in [Transport::Http, Transport::Frames] {
        for intercepts in [false, true] {
            let (runs, mut running_ones) = mpsc::unbounded_channel();
            let ends = Arc::new(Notify::new());
            let server = server().inject(Held(runs, Arc::clone(&ends))).limits(|limits| limits.in_flight = 4);
            let server = match intercepts {
                true => server.intercept(|request, next| next.run(request)),
                false => server,
            };
            let running = Running::new(server).await;
            let client = Client::builder(running.address.to_string()).transport(transport).build().unwrap();
            let client = client.policy("*", |policy| policy.attempts = 1);
            let mut calls = Vec::new();
            for _ in 0..3 {
                calls.push(tokio::spawn(Held::on(&client).hold().into_future()));
                within(running_ones.recv()).await.unwrap();
            }
            let refused = report::on(&client).await.unwrap_err();
            assert_eq!((refused.code(), refused.executed()), (Code::ResourceExhausted, Executed::No));
            let lowered = plain::on(&client).priority(Priority::Batch).await.unwrap_err();
            assert_eq!(lowered.to_string(), refused.to_string().replace("report", "plain"));
            assert_eq!(plain::on(&client).await.unwrap(), "default");
            ends.notify_waiters();
            for call in calls {
                within(call).await.unwrap().unwrap();
            }
            assert_eq!(report::on(&client).await.unwrap(), "batch");
        }
    }
}
