//! Hedged calls: a call that is slow at one replica is sent to another, once, and the first answer counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Log, Running, post_with, raw, within};
use byname::{CallError, Client, Code, Context, Error, Executed, Server, Transport, rpc};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;

/// How many calls there are before the first that is hedged: enough for the delay and for three hedges.
const BEFORE: usize = 300;

/// What happens to a call at a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// It stands still. The number of its attempt.
    Stands(u32),
    Ended,
    Dropped,
}

/// One of two replicas.
struct Replica {
    name: &'static str,
    stands_still: AtomicBool,
    seen: UnboundedSender<Seen>,
    /// Lets one call that stands still go on.
    released: Semaphore,
    fails: AtomicBool,
}

struct Ending<'a>(&'a Replica, Seen);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let _ = self.0.seen.send(self.1);
    }
}

impl Replica {
    /// The name of the replica and the number of the attempt.
    async fn answer(&self) -> Result<(String, u32), Error> {
        let attempt = Context::current().unwrap().attempt();
        if self.stands_still.load(Ordering::SeqCst) {
            self.seen.send(Seen::Stands(attempt)).unwrap();
            let mut ending = Ending(self, Seen::Dropped);
            self.released.acquire().await.unwrap().forget();
            ending.1 = Seen::Ended;
        }
        let answer = (self.name.to_owned(), attempt);
        if self.fails.load(Ordering::SeqCst) { Err(Error::new(Code::Unavailable, self.name)) } else { Ok(answer) }
    }
}

#[rpc]
impl Replica {
    #[rpc(readonly, hedge)]
    async fn look(&self) -> Result<(String, u32), Error> {
        self.answer().await
    }

    #[rpc(readonly)]
    async fn look_once(&self) -> Result<(String, u32), Error> {
        self.answer().await
    }

    #[rpc(idempotent)]
    async fn touch(&self) -> Result<(String, u32), Error> {
        self.answer().await
    }

    /// The name, and whether the call came by frames.
    async fn way(&self) -> (String, bool) {
        (self.name.to_owned(), Context::current().unwrap().header("host").is_none())
    }
}

/// Two replicas and a client of both.
struct Two {
    replicas: [Arc<Replica>; 2],
    seen: [UnboundedReceiver<Seen>; 2],
    servers: [Running; 2],
    client: Client,
}

/// Two replicas, and a client that knows how long a call takes that `call` makes by this client.
async fn two<F>(transport: Transport, call: impl Fn(&Client) -> F) -> Two
where
    F: Future<Output = Result<(String, u32), CallError<Error>>>,
{
    let [(one, seen_one), (two, seen_two)] = ["one", "two"].map(|name| {
        let (seen, watched) = unbounded_channel();
        let (stands_still, fails, released) = (AtomicBool::new(false), AtomicBool::new(false), Semaphore::new(0));
        (Arc::new(Replica { name, stands_still, seen, released, fails }), watched)
    });
    let (replicas, mut seen) = ([one, two], [seen_one, seen_two]);
    let serve = |replica: &Arc<Replica>| Running::new(Server::new().inject(Arc::clone(replica)));
    let servers = [serve(&replicas[0]).await, serve(&replicas[1]).await];
    let client = Client::builder("localhost/rpc").addresses(servers.iter().map(|server| server.address));
    // A connection of HTTP is closed with its call, so that the function is dropped at once.
    let client = client.transport(transport).limits(|limits| limits.abandoned = Duration::ZERO).build().unwrap();
    let mut known = BTreeSet::new();
    while known.len() < 2 {
        let (name, is_by_frames) = within(Replica::on(&client).way()).await.unwrap();
        if is_by_frames == (transport == Transport::Frames) {
            known.insert(name);
        }
        yield_now().await;
    }
    // They all begin before the first is answered, so none of them is hedged, and each takes longer than any later one.
    set(&replicas, true);
    let calls = join_all((0..BEFORE).map(|_| call(&client)));
    let release = async {
        for _ in 0..BEFORE / 3 {
            let [one, two] = &mut seen;
            tokio::select! {
                _ = one.recv() => {},
                _ = two.recv() => {},
            }
        }
        set(&replicas, false);
        replicas.iter().for_each(|replica| replica.released.add_permits(BEFORE));
    };
    let (answers, ()) = within(async { tokio::join!(calls, release) }).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|(_, attempt)| attempt == 1)), "nothing was known");
    for (replica, seen) in replicas.iter().zip(&mut seen) {
        replica.released.forget_permits(BEFORE);
        while seen.try_recv().is_ok() {}
    }
    Two { replicas, seen, servers, client }
}

/// Whether calls stand still at these replicas.
fn set(replicas: &[Arc<Replica>], stand_still: bool) {
    replicas.iter().for_each(|replica| replica.stands_still.store(stand_still, Ordering::SeqCst));
}

impl Two {
    async fn of_look() -> Self {
        two(Transport::Frames, |client| Replica::on(client).look()).await
    }

    /// Makes calls until one has come to the first replica, which stands still. Says how that call ended.
    async fn until_one_stands_still<F>(&mut self, call: impl Fn(&Client) -> F) -> Result<(String, u32), Error>
    where
        F: Future<Output = Result<(String, u32), CallError<Error>>>,
    {
        set(&self.replicas[..1], true);
        loop {
            let result = within(call(&self.client)).await;
            if let Ok(seen) = self.seen[0].try_recv() {
                assert_eq!(seen, Seen::Stands(1));
                return result.map_err(Error::from);
            }
        }
    }

    /// The next call that stands still: at which replica, and the number of its attempt.
    async fn stands(&mut self) -> (usize, Seen) {
        let [one, two] = &mut self.seen;
        within(async {
            tokio::select! {
                seen = one.recv() => (0, seen.unwrap()),
                seen = two.recv() => (1, seen.unwrap()),
            }
        })
        .await
    }

    /// A call stands still at both replicas: the one that it came to first, and the other.
    async fn stands_at_both(&mut self) -> [usize; 2] {
        let (first, seen) = self.stands().await;
        assert_eq!(seen, Seen::Stands(1));
        let (second, seen) = self.stands().await;
        assert_eq!((second, seen), (1 - first, Seen::Stands(2)));
        [first, second]
    }

    /// Ends a call that stands still at this replica.
    async fn end(&mut self, at: usize) {
        self.replicas[at].released.add_permits(1);
        assert_eq!(within(self.seen[at].recv()).await, Some(Seen::Ended));
    }

    fn fail(&self, at: usize) {
        self.replicas[at].fails.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_call_that_stands_still_is_answered_by_another_replica_and_dropped_at_the_first() {
    for transport in [Transport::Frames, Transport::Http] {
        let mut log = Log::new();
        let mut two = two(transport, |client| Replica::on(client).look()).await;
        let answer = two.until_one_stands_still(|client| Replica::on(client).look()).await;
        assert_eq!(answer, Ok(("two".into(), 2)), "the number of the attempt travels");
        assert_eq!(within(two.seen[0].recv()).await, Some(Seen::Dropped));
        let made = log.spans("rpc.call").pop().unwrap().fields;
        assert_eq!((&*made["byname.attempts"], &*made["rpc.response.status_code"]), ("2", "ok"));
        for server in two.servers {
            within(server.stopped()).await.unwrap();
        }
        let mut served = log.spans("rpc.serve");
        served.retain(|span| span.fields.get("parent_id") == Some(&made["span_id"]));
        let mut codes: Vec<_> = served.iter().map(|span| &*span.fields["rpc.response.status_code"]).collect();
        codes.sort_unstable();
        assert_eq!(codes, ["cancelled", "ok"], "both attempts are under the span of their call");
    }
}

#[tokio::test]
async fn a_policy_hedges_calls_of_a_readonly_function() {
    let hedged = |client: &Client| {
        let client = client.policy("look_once", |p| p.hedge = true);
        async move { Replica::on(&client).look_once().await }
    };
    let mut two = two(Transport::Frames, hedged).await;
    assert_eq!(two.until_one_stands_still(hedged).await, Ok(("two".into(), 2)));
    assert_eq!(within(two.seen[0].recv()).await, Some(Seen::Dropped));
}

#[tokio::test]
async fn calls_that_are_not_to_be_hedged_wait_at_one_replica() {
    let mut two = Two::of_look().await;
    set(&two.replicas, true);
    let off = two.client.policy("look", |p| p.hedge = false);
    let once = two.client.policy("*", |p| p.attempts = 1);
    let on = two.client.policy("*", |p| p.hedge = true);
    let mut waiting = Vec::new();
    for kind in 0..5 {
        let (off, once, on, client) = (off.clone(), once.clone(), on.clone(), two.client.clone());
        waiting.push(tokio::spawn(async move {
            match kind {
                0 => Replica::on(&off).look().await,
                1 => Replica::on(&once).look().await,
                2 => Replica::on(&client).look_once().await,
                3 => Replica::on(&on).touch().await,
                _ => Ok(on.call::<(String, u32)>("look", ()).await.unwrap()),
            }
        }));
        assert_eq!(two.stands().await.1, Seen::Stands(1));
    }
    // It comes last and is hedged first.
    let client = two.client.clone();
    let hedged = tokio::spawn(async move { Replica::on(&client).look().await });
    two.stands_at_both().await;
    two.replicas.iter().for_each(|replica| replica.released.add_permits(10));
    for call in waiting {
        assert_eq!(within(call).await.unwrap().unwrap().1, 1);
    }
    within(hedged).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_is_made_while_a_repetition_is_served_is_not_hedged() {
    let mut two = Two::of_look().await;
    set(&two.replicas, true);
    let client = two.client.clone();
    let relay = Server::new().function("relay", move || {
        let client = client.clone();
        async move { Replica::on(&client).look().await.map_err(Error::from) }
    });
    let relay = Running::new(relay).await;
    let ask = |headers: &str| tokio::spawn(raw(relay.address, post_with("/rpc/relay", headers, "")));
    let repetition = ask("byname-attempt: 2\r\n");
    assert_eq!(two.stands().await.1, Seen::Stands(2));
    let hedged = ask("");
    two.stands_at_both().await;
    two.replicas.iter().for_each(|replica| replica.released.add_permits(10));
    assert_eq!(within(repetition).await.unwrap().json()[1], 2);
    assert_eq!(within(hedged).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_attempt_that_fails_waits_for_the_other() {
    for fails_first in [true, false] {
        let mut two = Two::of_look().await;
        set(&two.replicas, true);
        let client = two.client.clone();
        let call = tokio::spawn(async move { Replica::on(&client).look().await });
        let [first, second] = two.stands_at_both().await;
        let (failing, answering) = if fails_first { (first, second) } else { (second, first) };
        two.fail(failing);
        two.end(failing).await;
        two.end(answering).await;
        let attempt = if fails_first { 2 } else { 1 };
        assert_eq!(within(call).await.unwrap(), Ok((two.replicas[answering].name.into(), attempt)));
    }
}

#[tokio::test]
async fn when_both_attempts_fail_the_error_tells_both() {
    let mut two = Two::of_look().await;
    set(&two.replicas, true);
    let client = two.client.policy("look", |p| p.attempts = 2);
    let call = tokio::spawn(async move { Replica::on(&client).look().await });
    for at in two.stands_at_both().await {
        two.fail(at);
        two.end(at).await;
    }
    let error = Error::from(within(call).await.unwrap().unwrap_err());
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Yes));
    // The policy has two attempts, and the second is the hedge.
    let attempts = error.message().lines().filter(|line| line.contains(" of 2, at 127.0.0.1:"));
    assert_eq!(attempts.count(), 2, "{error}");
}

#[tokio::test]
async fn after_both_attempts_have_failed_a_third_follows() {
    let mut two = Two::of_look().await;
    set(&two.replicas, true);
    let client = two.client.clone();
    let call = tokio::spawn(async move { Replica::on(&client).look().await });
    for at in two.stands_at_both().await {
        two.fail(at);
        two.end(at).await;
    }
    set(&two.replicas, false);
    two.replicas.iter().for_each(|replica| replica.fails.store(false, Ordering::SeqCst));
    assert_eq!(within(call).await.unwrap().unwrap().1, 3);
}
