//! Failures of clients with several replicas that users of other projects have reported, tried here. Each test names the
//! report.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use byname::simulation::{self, CALLER, Simulation};
use byname::{Client, Code, Discover, DiscoverFuture, Error, ReplicaState, Replicas, Server, Transport, rpc};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep};

const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs a scenario by each transport.
#[track_caller]
fn by_each_transport<F: Future<Output = Outcome>>(scenario: impl Fn(Simulation, Transport) -> F) {
    for transport in [Transport::Http, Transport::Frames] {
        simulation::check(0..1, |sim| scenario(sim, transport));
    }
}

/// What a machine does with calls, and those that it got.
struct Replica {
    name: &'static str,
    fails: AtomicBool,
    /// In milliseconds.
    takes: AtomicU64,
    calls: Mutex<Vec<Instant>>,
    /// The ids of calls of `look`.
    looked: Mutex<Vec<u64>>,
}

impl Replica {
    /// Starts a machine.
    fn start(sim: &Simulation, name: &'static str) -> Arc<Self> {
        let (fails, takes, calls, looked) = Default::default();
        let replica = Arc::new(Self { name, fails, takes, calls, looked });
        let served = Arc::clone(&replica);
        sim.machine(name, move || {
            let (who, look) = (Arc::clone(&served), Arc::clone(&served));
            Server::new()
                .function("who", move || {
                    let replica = Arc::clone(&who);
                    async move { replica.answer().await }
                })
                .function(("look", ["id", "takes"]), move |id: u64, takes: u64| {
                    let replica = Arc::clone(&look);
                    async move {
                        replica.looked.lock().unwrap().push(id);
                        sleep(ms(takes)).await;
                        id
                    }
                })
                .method::<ticks>()
        });
        replica
    }

    async fn answer(&self) -> Result<&'static str, Error> {
        self.calls.lock().unwrap().push(Instant::now());
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Unavailable, "it is ill"));
        }
        sleep(ms(self.takes.load(Ordering::Relaxed))).await;
        Ok(self.name)
    }

    fn fails(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    fn takes(&self, time: u64) {
        self.takes.store(time, Ordering::Relaxed);
    }

    /// The calls between two times.
    fn calls(&self, from: Instant, until: Instant) -> usize {
        self.calls.lock().unwrap().iter().filter(|at| (from..until).contains(at)).count()
    }
}

/// It may be sent to a second replica.
#[rpc(readonly, hedge)]
async fn look(id: u64, takes: u64) -> u64;

/// Numbers from 0, one each 100 ms.
#[rpc(readonly)]
fn ticks(count: u32) -> impl Stream<Item = u32> {
    stream::iter(0..count).then(|n| async move {
        sleep(ms(100)).await;
        n
    })
}

fn client(url: &str, transport: Transport) -> Result<Client, Error> {
    Client::builder(url).transport(transport).build()
}

/// Who answers one call. It is repeated only if it did not run.
async fn who(client: &Client) -> Result<String, Error> {
    client.call("who", ()).await.map_err(|error| error.rpc().expect("it has no error of its own").clone())
}

/// The calls of a time: how many each replica answered, and how many failed.
#[derive(Debug, Default)]
struct Calls {
    answered: BTreeMap<String, usize>,
    failed: Vec<String>,
}

impl Calls {
    fn of(&self, name: &str) -> usize {
        self.answered.get(name).copied().unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.answered.values().sum::<usize>() + self.failed.len()
    }
}

/// Makes one call after each pause, without waiting for their answers.
async fn call_for(client: &Client, time: Duration, pause: Duration) -> Calls {
    let (end, mut begun, mut calls) = (Instant::now() + time, Vec::new(), Calls::default());
    while Instant::now() < end {
        let client = client.clone();
        begun.push(simulation::spawn(async move { who(&client).await }));
        sleep(pause).await;
    }
    for call in begun {
        match call.await.expect("it does not panic") {
            Ok(name) => *calls.answered.entry(name).or_default() += 1,
            Err(why) => calls.failed.push(why.to_string()),
        }
    }
    calls
}

/// grpc/grpc-go#3353: a refused connection caused no lookup, so a service that had moved was not found.
#[test]
fn a_service_that_moves_is_found_by_its_next_calls() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", ["one"]);
        let client = client("orders.internal:80", transport)?;
        call_for(&client, secs(sim.random(2..9)), ms(100)).await;
        sim.name("orders.internal", ["two"]);
        sim.crash("one");
        let moved = Instant::now();
        while who(&client).await.is_err() {
            assert!(moved.elapsed() < ms(1200), "{:?}", moved.elapsed());
            sleep(ms(20)).await;
        }
        let calls = call_for(&client, secs(5), ms(100)).await;
        assert_eq!((calls.of("two"), calls.count()), (calls.count(), calls.count()), "{calls:?}");
        Ok(())
    });
}

/// The same, where the machine says nothing any more.
#[test]
fn a_service_that_moves_away_from_a_machine_without_power_is_found() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", ["one"]);
        let client = client("orders.internal:80", transport)?.timeout(secs(2));
        call_for(&client, secs(5), ms(100)).await;
        sim.name("orders.internal", ["two"]);
        sim.isolate("one");
        call_for(&client, secs(20), ms(100)).await;
        let calls = call_for(&client, secs(10), ms(100)).await;
        assert_eq!((calls.of("two"), calls.count()), (calls.count(), calls.count()), "{calls:?}");
        Ok(())
    });
}

/// grpc/grpc-node#1663, grpc/grpc-java#8720: the client looked a name up again only after a failure, so replicas that were
/// added got no calls.
#[test]
fn replicas_that_are_added_get_calls_though_none_has_failed() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", ["one"]);
        let client = client("orders.internal:80", transport)?;
        call_for(&client, secs(30), ms(50)).await;
        sim.name("orders.internal", ["one", "two", "three"]);
        // A change is followed within 20 s, and the share of a new replica grows for 10 s.
        let growing = call_for(&client, secs(30), ms(50)).await;
        assert_eq!(growing.failed, [""; 0], "{growing:?}");
        let calls = call_for(&client, secs(20), ms(50)).await;
        let least = ["one", "two", "three"].map(|name| calls.of(name)).into_iter().min();
        assert!(least.is_some_and(|least| least * 5 >= calls.count()), "{calls:?}");
        Ok(())
    });
}

/// Answers all replicas, and counts its lookups.
struct Counted {
    addresses: Vec<SocketAddr>,
    lookups: Arc<AtomicUsize>,
}

impl Discover for Counted {
    fn replicas<'a>(&'a self, _known: Option<&'a Replicas>) -> DiscoverFuture<'a> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(Replicas::new(self.addresses.clone()).fresh_for(secs(5))) })
    }
}

/// grpc/grpc-node#2023: a replica that was down caused lookups one after the other.
#[test]
fn replicas_that_are_down_cause_no_storm_of_lookups() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        let addresses = ["one", "two", "three"].map(|name| SocketAddr::new(sim.ip(name), 80)).to_vec();
        let lookups = Arc::default();
        let counted = Counted { addresses, lookups: Arc::clone(&lookups) };
        let client = Client::builder("orders.internal/rpc").discover(counted).transport(transport).build()?;
        let looked_up = async |time: u64| {
            let before = lookups.load(Ordering::Relaxed);
            let calls = call_for(&client, secs(time), ms(20)).await;
            (lookups.load(Ordering::Relaxed) - before, calls)
        };
        looked_up(5).await;
        sim.crash("one");
        let (count, calls) = looked_up(30).await;
        assert!(count <= 7, "{count} lookups in 30 s while one of three is down");
        // Calls that run while it crashes may fail.
        assert!(calls.failed.len() <= 3, "{calls:?}");
        sim.crash("two");
        sim.crash("three");
        let (count, _) = looked_up(30).await;
        assert!(count <= 31, "{count} lookups in 30 s while all are down");
        Ok(())
    });
}

/// linkerd/linkerd2#2550: discovery no longer updated the balancer of a service that was scaled between 0 and 2 again and
/// again.
#[test]
fn a_service_that_is_scaled_between_none_and_two_is_followed() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        let client = client("orders.internal:80", transport)?;
        let mut running = vec!["one", "two"];
        sim.name("orders.internal", running.clone());
        who(&client).await?;
        for round in 0..20 {
            let next = match sim.random(0..4) {
                0 => Vec::new(),
                1 => vec!["one"],
                2 => vec!["two"],
                _ => vec!["one", "two"],
            };
            sim.name("orders.internal", next.clone());
            for name in running.iter().filter(|name| !next.contains(name)) {
                sim.drain(name).await?;
            }
            next.iter().filter(|name| !running.contains(name)).for_each(|name| sim.restart(name));
            running = next;
            if sim.chance(0.5) {
                sleep(secs(sim.random(1..7200))).await;
            }
            let settling = call_for(&client, secs(30), ms(500)).await;
            let calls = call_for(&client, secs(20), ms(200)).await;
            let by = calls.answered.keys().map(String::as_str).collect::<Vec<_>>();
            let mut expected = running.clone();
            expected.sort_unstable();
            assert_eq!(by, expected, "round {round}: {calls:?} after {settling:?}");
            assert!(running.is_empty() || calls.failed.is_empty(), "round {round}: {calls:?}");
        }
        Ok(())
    });
}

/// akka/akka-grpc#804: the first address of a name was dead, and the others were never tried.
#[test]
fn addresses_after_a_dead_one_are_tried() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", ["one", "two", "three"]);
        for how in 0..2 {
            match how {
                0 => sim.isolate("one"),
                _ => sim.crash("two"),
            }
            for _ in 0..10 {
                let (client, began) = (client("orders.internal:80", transport)?, Instant::now());
                let answered = who(&client).await?;
                assert!(answered != "one" && began.elapsed() < ms(700), "{answered} after {:?}", began.elapsed());
            }
        }
        Ok(())
    });
}

/// kedacore/keda#5224: DNS answered in the same order each time, and all clients used the first address.
#[test]
fn clients_that_make_one_call_each_use_all_addresses() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", ["one", "two", "three"]);
        let mut calls = Calls::default();
        for _ in 0..60 {
            let name = who(&client("orders.internal:80", transport)?).await?;
            *calls.answered.entry(name).or_default() += 1;
        }
        assert!(["one", "two", "three"].iter().all(|name| calls.of(name) >= 8), "{calls:?}");
        Ok(())
    });
}

/// A replica that refuses connections delayed connections by frames to replicas that were added later, and to those that
/// replaced all others.
#[test]
fn a_replica_that_is_down_does_not_delay_changes() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        sim.name("orders.internal", vec!["one", "two"]);
        let client = client("orders.internal:80", transport)?;
        call_for(&client, secs(5), ms(50)).await;
        sim.crash("two");
        call_for(&client, secs(40), ms(50)).await;
        sim.name("orders.internal", vec!["one", "two", "three"]);
        call_for(&client, secs(20), ms(50)).await;
        let added = call_for(&client, secs(10), ms(50)).await;
        assert!(added.of("three") * 4 >= added.count(), "{added:?}");
        sim.name("orders.internal", vec!["two", "three"]);
        call_for(&client, secs(10), ms(50)).await;
        let moved = call_for(&client, secs(10), ms(50)).await;
        assert_eq!(moved.of("three"), moved.count(), "{moved:?}");
        sim.restart("two");
        call_for(&client, secs(20), ms(50)).await;
        let back = call_for(&client, secs(10), ms(50)).await;
        assert!(back.of("two") * 4 >= back.count(), "{back:?}");
        Ok(())
    });
}

/// envoyproxy/envoy#18950, #40697: after a host had been ejected a few times, it was ejected late or not at all.
#[test]
fn a_replica_is_ejected_in_each_round_of_failures() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        let client = client("one:80,two:80,three:80", transport)?;
        call_for(&client, secs(15), ms(50)).await;
        for round in 0..4 {
            replicas[0].fails(true);
            let ill = call_for(&client, secs(20), ms(50)).await;
            assert!(ill.failed.len() <= 14, "round {round}: {} of {} calls failed", ill.failed.len(), ill.count());
            replicas[0].fails(false);
            call_for(&client, secs(60), ms(50)).await;
            let well = call_for(&client, secs(20), ms(50)).await;
            assert_eq!(well.failed, [""; 0]);
            assert!(well.of("one") * 5 >= well.count(), "round {round}: {well:?}");
        }
        Ok(())
    });
}

/// envoyproxy/envoy#28304, #2671: when many hosts failed at once, calls went to ejected ones.
#[test]
fn when_most_replicas_fail_the_last_gets_most_calls_and_all_come_back() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three", "four"].map(|name| Replica::start(&sim, name));
        let client = client("one:80,two:80,three:80,four:80", transport)?;
        call_for(&client, secs(15), ms(50)).await;
        replicas[..3].iter().for_each(|replica| replica.fails(true));
        call_for(&client, secs(2), ms(50)).await;
        let most = call_for(&client, secs(20), ms(50)).await;
        assert!(most.failed.len() * 10 <= most.count(), "{} of {} calls failed", most.failed.len(), most.count());
        replicas[3].fails(true);
        let all = call_for(&client, secs(30), ms(50)).await;
        assert!(all.answered.is_empty());
        replicas.iter().for_each(|replica| replica.fails(false));
        call_for(&client, secs(60), ms(50)).await;
        let well = call_for(&client, secs(20), ms(50)).await;
        assert!(well.failed.is_empty() && replicas.iter().all(|one| well.of(one.name) * 7 >= well.count()), "{well:?}");
        Ok(())
    });
}

/// apple/servicetalk#3551: one failure ejected a replica that had few calls.
#[test]
fn one_failure_ejects_no_replica_that_has_few_calls() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        let client = client("one:80,two:80", transport)?;
        for _ in 0..8 {
            replicas[0].fails(true);
            while who(&client).await.is_ok() {
                sleep(secs(2)).await;
            }
            replicas[0].fails(false);
            let service = client.explain("who").await.service.expect("it is remote");
            assert!(service.replicas.iter().all(|one| matches!(one.state, ReplicaState::Serving)), "{service:?}");
            let calls = call_for(&client, secs(120), secs(2)).await;
            assert!(calls.of("one") * 5 >= calls.count(), "{calls:?}");
        }
        Ok(())
    });
}

/// anthropics/connect-rust#285: the first call after a graceful GOAWAY failed while a stream was open. grpc/grpc-java#9566:
/// the age of a connection ended what was still running on it.
#[test]
fn calls_and_streams_outlive_the_drain_and_the_age_of_their_connection() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        replicas.iter().for_each(|replica| replica.takes(sim.random(0..2000)));
        let client = Client::builder("one:80,two:80").transport(transport);
        let client = client.limits(|limits| limits.connection_age = secs(3)).build()?;
        call_for(&client, secs(10), ms(20)).await;
        for name in ["one", "two"] {
            let streams: Vec<_> = (0..6)
                .map(|_| {
                    let client = client.clone();
                    simulation::spawn(async move {
                        ticks::on(&client, 80)
                            .map(|tick| tick.map_err(|error| error.to_string()))
                            .collect::<Vec<_>>()
                            .await
                    })
                })
                .collect();
            sleep(secs(1)).await;
            let draining = simulation::spawn(sim.drain(name));
            let calls = call_for(&client, secs(6), ms(20)).await;
            assert_eq!(calls.failed, [""; 0]);
            for stream in streams {
                assert_eq!(stream.await?, (0..80).map(Ok).collect::<Vec<_>>());
            }
            draining.await??;
            sim.restart(name);
            call_for(&client, secs(25), ms(20)).await;
        }
        Ok(())
    });
}

/// aiven/inkless#582, gRFC A6: hedges went to the same host, or several hedges of one call ran.
#[test]
fn a_hedge_goes_to_another_replica_and_there_is_one() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        let client = client("one:80,two:80,three:80", transport)?;
        for id in 0..300 {
            look::on(&client, id, 5).await?;
            sleep(ms(20)).await;
        }
        let mut hedges = 0;
        for id in 1000..1005 {
            look::on(&client, id, 3000).await?;
            let counts: Vec<_> = replicas
                .iter()
                .map(|replica| replica.looked.lock().unwrap().iter().filter(|looked| **looked == id).count())
                .collect();
            assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
            // One call in a hundred may be hedged.
            let sent = counts.iter().sum::<usize>();
            assert!((1..=2).contains(&sent), "{counts:?}");
            hedges += sent - 1;
            sleep(secs(10)).await;
        }
        assert!(hedges > 0);
        Ok(())
    });
}

/// grpc/proposal#269: an address that was answered twice counted as two replicas, and got twice the calls.
#[test]
fn an_address_that_is_found_twice_is_one_replica() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        sim.name("alias", ["one", "one"]);
        let alone = client("one:80,alias:80", transport)?;
        for id in 0..300 {
            look::on(&alone, id, 5).await?;
            sleep(ms(20)).await;
        }
        look::on(&alone, 1000, 3000).await?;
        assert_eq!(replicas[0].looked.lock().unwrap().iter().filter(|id| **id == 1000).count(), 1);
        let both = client("one:80,alias:80,two:80", transport)?;
        call_for(&both, secs(20), ms(50)).await;
        let calls = call_for(&both, secs(20), ms(50)).await;
        assert!(calls.of("one") * 5 <= calls.count() * 3, "{calls:?}");
        Ok(())
    });
}

/// Clients that call without a pause, each with several calls at once.
fn keep_busy(clients: &[Client], callers: usize, until: Instant) -> Vec<tokio::task::JoinHandle<()>> {
    let each = clients.iter().flat_map(|client| (0..callers).map(move |_| client.clone()));
    each.map(|client| {
        simulation::spawn(async move {
            while Instant::now() < until {
                let _ = who(&client).await;
            }
        })
    })
    .collect()
}

/// The largest share of all calls that one replica had in any second, in parts of a fair share.
fn largest_share(replicas: &[Arc<Replica>], of: usize, from: Instant, seconds: u64) -> f64 {
    let share = |second: u64| {
        let (from, until) = (from + secs(second), from + secs(second + 1));
        let all: usize = replicas.iter().map(|replica| replica.calls(from, until)).sum();
        (replicas[of].calls(from, until) * replicas.len()) as f64 / all.max(1) as f64
    };
    (0..seconds).map(share).fold(0.0, f64::max)
}

/// Shopify/ingress#219, and slow start of Envoy: a replica that is new got too many calls, because it looked idle.
#[test]
fn a_replica_that_is_new_or_back_is_not_flooded() {
    for transport in [Transport::Http, Transport::Frames] {
        simulation::check(0..1, |sim| async move {
            let replicas = NAMES.map(|name| Replica::start(&sim, name));
            replicas.iter().for_each(|replica| replica.takes(50));
            sim.name("orders.internal", NAMES[..5].to_vec());
            let clients: Vec<_> = (0..5).map(|_| client("orders.internal:80", transport)).collect::<Result<_, _>>()?;
            let began = Instant::now();
            let calling = keep_busy(&clients, 4, began + secs(80));
            sleep(secs(20)).await;
            sim.name("orders.internal", NAMES);
            sleep(secs(30)).await;
            let new = largest_share(&replicas, 5, began + secs(20), 30);
            assert!((0.7..1.5).contains(&new), "{new} of a fair share in one second");
            sim.crash("one");
            sleep(secs(3)).await;
            sim.restart("one");
            sleep(secs(25)).await;
            let back = largest_share(&replicas, 0, began + secs(53), 25);
            assert!((0.7..1.5).contains(&back), "{back} of a fair share in one second");
            for caller in calling {
                caller.await?;
            }
            Ok(())
        });
    }
}

/// holooooo in envoyproxy/envoy#288, LLMKube#462: calls that their callers gave up counted against the host, and callers
/// with short deadlines took healthy hosts away from the others.
#[test]
fn callers_that_give_up_early_eject_no_replica() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        replicas.iter().for_each(|replica| replica.takes(50));
        let client = client("one:80,two:80,three:80", transport)?;
        call_for(&client, secs(15), ms(50)).await;
        let (giving_up, until) = (client.clone(), Instant::now() + secs(20));
        let gives_up = simulation::spawn(async move {
            while Instant::now() < until {
                let _ = tokio::time::timeout(ms(10), who(&giving_up)).await;
                sleep(ms(20)).await;
            }
        });
        let calls = call_for(&client, secs(20), ms(50)).await;
        gives_up.await?;
        assert_eq!(calls.failed, [""; 0]);
        assert!(replicas.iter().all(|one| calls.of(one.name) * 5 >= calls.count()), "{calls:?}");
        Ok(())
    });
}

/// The same with deadlines.
#[test]
fn calls_with_short_deadlines_eject_no_replica_that_answers_others() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        replicas.iter().for_each(|replica| replica.takes(50));
        let client = client("one:80,two:80,three:80", transport)?;
        call_for(&client, secs(15), ms(50)).await;
        let (impatient, until) = (client.timeout(ms(10)), Instant::now() + secs(20));
        let failing = simulation::spawn(async move {
            while Instant::now() < until {
                let _ = who(&impatient).await;
                sleep(ms(20)).await;
            }
        });
        let calls = call_for(&client, secs(20), ms(50)).await;
        failing.await?;
        assert_eq!(calls.failed, [""; 0]);
        assert!(replicas.iter().all(|one| calls.of(one.name) * 5 >= calls.count()), "{calls:?}");
        Ok(())
    });
}

/// valyala/fasthttp#865, kubernetes/ingress-nginx#9025: a host that failed at once looked idle, and got most calls.
#[test]
fn a_replica_that_fails_at_once_gets_few_calls_of_many_at_a_time() {
    by_each_transport(|sim, transport| async move {
        let replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
        replicas.iter().for_each(|replica| replica.takes(50));
        let client = client("one:80,two:80,three:80", transport)?;
        call_for(&client, secs(15), ms(20)).await;
        replicas[0].fails(true);
        let began = Instant::now();
        for caller in keep_busy(&[client], 20, began + secs(10)) {
            caller.await?;
        }
        let [ill, two, three] = [0, 1, 2].map(|at| replicas[at].calls(began, began + secs(10)));
        assert!(ill * 20 <= two + three, "{ill} {two} {three}");
        Ok(())
    });
}

/// agentscope-java#2478, nanobot#4038: a stream that broke was begun again, and its first items came twice.
#[test]
fn a_stream_that_breaks_after_its_first_item_is_not_begun_again() {
    by_each_transport(|sim, transport| async move {
        let _replicas = ["one", "two"].map(|name| Replica::start(&sim, name));
        let client = client("one:80,two:80", transport)?;
        call_for(&client, secs(5), ms(50)).await;
        let mut items = ticks::on(&client, 50);
        let mut seen = vec![items.next().await.expect("it has items")?];
        for name in ["one", "two"] {
            sim.drop_connections(name, CALLER);
        }
        let why = loop {
            match items.next().await {
                Some(Ok(item)) => seen.push(item),
                Some(Err(why)) => break why.to_string(),
                None => panic!("it has broken, and looks complete after {seen:?}"),
            }
        };
        assert!(why.contains("unavailable"), "{why}");
        assert_eq!(seen, (0..seen.len() as u32).collect::<Vec<_>>());
        Ok(())
    });
}

/// gravitational/teleport#6889, nats-io/nats.java#1586: clients connected again in one moment after a restart, and hammered
/// a server that was down.
#[test]
fn a_replica_that_is_down_or_back_is_not_stormed_with_connections() {
    for transport in [Transport::Http, Transport::Frames] {
        let connects = |trace: &str, what: &str, from: f64, until: f64| {
            let at = |line: &str| line.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0.0);
            trace.lines().filter(|line| line.contains(what) && (from..until).contains(&at(line))).count()
        };
        let run = simulation::run(1, |sim| async move {
            let _replicas = ["one", "two", "three"].map(|name| Replica::start(&sim, name));
            let urls = [(); 20].map(|()| client("one:80,two:80,three:80", transport));
            let clients = urls.into_iter().collect::<Result<Vec<_>, _>>()?;
            let calling: Vec<_> = clients
                .into_iter()
                .map(|client| simulation::spawn(async move { call_for(&client, secs(100), ms(200)).await }))
                .collect();
            sleep(secs(20)).await;
            sim.crash("one");
            sleep(secs(40)).await;
            sim.restart("one");
            for call in calling {
                let calls = call.await?;
                assert!(calls.failed.len() <= 2, "{calls:?}");
            }
            Ok(())
        });
        run.result.unwrap();
        let refused = connects(&run.trace, "one        refuses connection", 25.0, 60.0);
        let first = connects(&run.trace, "one        accepts connection", 60.0, 61.0);
        let accepted = connects(&run.trace, "one        accepts connection", 60.0, 100.0);
        assert!(refused <= 20 * 35, "20 clients connected {refused} times in 35 s");
        assert!(
            first <= 20 && accepted <= 20 * 3,
            "20 clients connected {first} times in 1 s, {accepted} times in 40 s"
        );
    }
}
