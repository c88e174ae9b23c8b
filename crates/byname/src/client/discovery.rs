//! The replicas of a service that are looked up, and looked up again while a client is used: [`Discovery`].

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Id;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::discovery_state::{AnswerNews, BegunLookup, DiscoveryState, DoubtedAnswer, FirstAnswer, POLLED};
use super::replica_address::ReplicaAddress;
use super::replica_source::{FoundReplicas, ReplicaSource};
use crate::address::Address;
use crate::deadline::{before, later};
use crate::ordered_watch as watch;
use crate::runtime;

/// Dropping it ends the lookup in the background.
pub(super) struct Discovery {
    lookups: Arc<Lookups>,
    background: Mutex<Option<AbortHandle>>,
}

/// What lookups need, which may outlive the client for a moment.
struct Lookups {
    /// The URL of the client.
    shown: String,
    source: ReplicaSource,
    state: Mutex<DiscoveryState<Vec<ReplicaAddress>, Id>>,
    /// How many lookups have ended.
    ended: watch::Sender<u64>,
}

/// An answer of discovery.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) replicas: Arc<Vec<ReplicaAddress>>,
    /// Different answers have different numbers.
    pub(super) version: u64,
}

impl Discovery {
    pub(super) fn new(shown: String, source: ReplicaSource) -> Self {
        let (ended, state) = (watch::Sender::new(0), Mutex::new(DiscoveryState::new()));
        let lookups = Arc::new(Lookups { shown, source, state, ended });
        Self { lookups, background: Mutex::default() }
    }

    /// The last good answer. Waits only for the first one, which the call looks up by itself: a client that makes one call
    /// needs no task.
    pub(super) async fn answer(&self) -> io::Result<Answer> {
        loop {
            let mut ended = self.lookups.ended.subscribe();
            if let Some(answer) = self.used() {
                return Ok(answer);
            }
            let first = self.lookups.state().first(&here(), Instant::now());
            match first {
                FirstAnswer::LookUp(begun) => LookupGuard::new(&self.lookups, begun).run().await?,
                FirstAnswer::Wait { lookup, until } => {
                    before(until, ended.changed()).await;
                    // Calls that waited for the same lookup fail as it did.
                    if let Some(why) = self.lookups.state().failure_of(lookup) {
                        return Err(io::Error::other(why.to_owned()));
                    }
                }
            }
        }
    }

    /// The last good answer, if there is one. If it is old, the next lookup begins in the background.
    pub(super) fn used(&self) -> Option<Answer> {
        let mut state = self.lookups.state();
        let answer = Answer::of(&state)?;
        if let Some(begun) = state.used(here(), Instant::now()) {
            drop(state);
            self.begin(begun);
        }
        Some(answer)
    }

    /// No address of this answer could be connected to. Waits for the next answer, if a lookup can give one soon. Returns it
    /// if it is another.
    pub(super) async fn other_than(&self, failed: u64) -> Option<Answer> {
        let mut ended = self.lookups.ended.subscribe();
        loop {
            let doubted = self.lookups.state().doubted(failed, here(), Instant::now());
            match doubted {
                DoubtedAnswer::Keep => break,
                DoubtedAnswer::Ask { lookup, waits } => {
                    self.begin(lookup);
                    if waits {
                        ended.changed().await.ok()?;
                    }
                    break;
                }
                DoubtedAnswer::Wait { until } => {
                    if let Some(changed) = before(until, ended.changed()).await {
                        changed.ok()?;
                        break;
                    }
                }
            }
        }
        Answer::of(&self.lookups.state()).filter(|answer| answer.version != failed)
    }

    /// When a client that is used should look at the answer again.
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        self.lookups.state().look_at(now)
    }

    /// As [`DiscoveryState`] knows them, without use: the replicas, their age, and why there is no newer answer.
    pub(super) fn known(&self) -> Option<(Answer, Duration, Option<String>)> {
        let state = self.lookups.state();
        let (answer, age) = (Answer::of(&state)?, state.age(Instant::now()).unwrap_or_default());
        Some((answer, age, state.failure().map(str::to_owned)))
    }

    /// Starts the lookup that counts as begun.
    fn begin(&self, begun: BegunLookup) {
        let lookup = LookupGuard::new(&self.lookups, begun);
        let task = runtime::spawn(&runtime::current(), async move {
            // It is logged.
            let _ = lookup.run().await;
        });
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before has ended, or this one has taken over from it.
        if let Some(before) = background.replace(task.abort_handle()) {
            before.abort();
        }
    }
}

/// The runtime of the caller.
fn here() -> Id {
    runtime::current().id()
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(task) = self.background.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Answer {
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.replicas.iter().map(|replica| replica.address.clone()).collect()
    }

    fn of(state: &DiscoveryState<Vec<ReplicaAddress>, Id>) -> Option<Self> {
        state.known().map(|(replicas, version)| Self { replicas: Arc::clone(replicas), version })
    }
}

impl Lookups {
    fn answered(&self, FoundReplicas { replicas, fresh_for, missing }: FoundReplicas) {
        let (mut state, shown) = (self.state(), &self.shown);
        let had_failed = state.failure().is_some();
        if let Some(why) = missing.as_ref().filter(|_| !had_failed) {
            tracing::warn!("a part of the replicas of {shown} was not found: {why}");
        }
        let AnswerNews { is_changed, has_recovered } = state.answered(replicas, fresh_for, missing, Instant::now());
        if has_recovered {
            tracing::info!("the replicas of {shown} are found again");
        }
        if is_changed && let Some((replicas, _)) = state.known() {
            let addresses: Vec<_> = replicas.iter().map(|replica| replica.address.to_string()).collect();
            tracing::debug!("the replicas of {shown} are {}", addresses.join(", "));
        }
    }

    fn failed(&self, why: &io::Error) {
        let (mut state, now, shown) = (self.state(), Instant::now(), &self.shown);
        let known = state.known().map(|(replicas, _)| replicas.len()).zip(state.age(now));
        let is_new = state.failed(why.to_string(), now);
        // Without an answer the call says so.
        if let Some((count, age)) = known.filter(|_| is_new) {
            tracing::warn!(
                "the replicas of {shown} were not found, and the {count} that were found {age:.0?} ago stay in use: {why}"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, DiscoveryState<Vec<ReplicaAddress>, Id>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lookup that has begun, until its end or until it is dropped.
struct LookupGuard {
    lookups: Arc<Lookups>,
    begun: BegunLookup,
}

impl LookupGuard {
    fn new(lookups: &Arc<Lookups>, begun: BegunLookup) -> Self {
        Self { lookups: Arc::clone(lookups), begun }
    }

    /// Looks up, unless another lookup takes over.
    async fn run(self) -> io::Result<()> {
        let (lookups, BegunLookup { number, is_takeover }) = (&self.lookups, self.begun);
        if is_takeover {
            lookups.source.begin_anew();
        }
        let mut looking = pin!(lookups.source.look_up());
        let found = loop {
            let found = before(later(Instant::now(), POLLED), looking.as_mut()).await;
            if !lookups.state().polled(number, Instant::now()) {
                return Ok(());
            }
            if let Some(found) = found {
                break found;
            }
        };
        let result = match found {
            Ok(found) => {
                lookups.answered(found);
                Ok(())
            }
            Err(why) => {
                lookups.failed(&why);
                Err(why)
            }
        };
        lookups.ended.send_modify(|ended| *ended += 1);
        result
    }
}

impl Drop for LookupGuard {
    /// Of one that has ended, or was taken over, nothing is changed.
    fn drop(&mut self) {
        if self.lookups.state().abandoned(self.begun.number) {
            self.lookups.ended.send_modify(|ended| *ended += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::endpoint_url::EndpointUrls;
    use super::super::replica_file::ReplicaFile;
    use super::super::replica_source::KnownNames;
    use super::super::service_url::ServiceUrl;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Removed when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("byname-discovery-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.0.join(name), content).unwrap();
        }

        fn discovery(&self, name: &str) -> Discovery {
            let url = ServiceUrl::parse("file:///etc/orders.replicas").unwrap();
            let file = ReplicaFile::new(self.0.join(name), EndpointUrls::new(&url, None));
            Discovery::new(url.shown(), ReplicaSource::File { file, names: KnownNames::default() })
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn shown(answer: &Answer) -> String {
        answer.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// What is in use after a use that begins a lookup.
    async fn looked_up_after(discovery: &Discovery, wait: Duration) -> String {
        tokio::time::advance(wait).await;
        let mut ended = discovery.lookups.ended.subscribe();
        let before = shown(&discovery.used().unwrap());
        assert_eq!(before, shown(&discovery.known().unwrap().0), "no use waits for a lookup");
        ended.changed().await.unwrap();
        shown(&discovery.known().unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_every_five_seconds_while_it_is_used() {
        let folder = Folder::new();
        folder.write("replicas", "10.0.0.1:1\n");
        let discovery = folder.discovery("replicas");
        assert_eq!(shown(&discovery.answer().await.unwrap()), "10.0.0.1:1");
        folder.write("replicas", "10.0.0.2:2\n10.0.0.3:3\n");
        tokio::time::advance(4 * SECOND).await;
        assert_eq!(shown(&discovery.answer().await.unwrap()), "10.0.0.1:1");
        assert_eq!(*discovery.lookups.ended.borrow(), 1, "the answer is not old yet");
        assert_eq!(looked_up_after(&discovery, SECOND).await, "10.0.0.2:2 10.0.0.3:3");
        // Half a line is half an address.
        folder.write("replicas", "10.0.0.4:44");
        assert_eq!(looked_up_after(&discovery, 5 * SECOND).await, "10.0.0.2:2 10.0.0.3:3");
        folder.write("replicas", "10.0.0.4:4444\n");
        assert_eq!(looked_up_after(&discovery, 5 * SECOND).await, "10.0.0.4:4444");
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_link_to_another_file_is_noticed() {
        let folder = Folder::new();
        let link = |target: &str| {
            let _ = fs::remove_file(folder.0.join("replicas"));
            std::os::unix::fs::symlink(folder.0.join(target), folder.0.join("replicas")).unwrap();
        };
        folder.write("one", "10.0.0.1:1\n");
        folder.write("two", "10.0.0.2:2\n");
        link("one");
        let discovery = folder.discovery("replicas");
        assert_eq!(shown(&discovery.answer().await.unwrap()), "10.0.0.1:1");
        link("two");
        assert_eq!(looked_up_after(&discovery, 5 * SECOND).await, "10.0.0.2:2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_broken_empty_or_gone_keeps_the_last_good_answer() {
        let folder = Folder::new();
        folder.write("replicas", "10.0.0.1:1\n");
        let discovery = folder.discovery("replicas");
        discovery.answer().await.unwrap();
        for (round, content) in (1..).zip([Some("10.0.0.1\n"), Some("\n"), None]) {
            match content {
                Some(content) => folder.write("replicas", content),
                None => fs::remove_file(folder.0.join("replicas")).unwrap(),
            }
            assert_eq!(looked_up_after(&discovery, 5 * SECOND).await, "10.0.0.1:1", "{content:?}");
            let (_, age, failure) = discovery.known().unwrap();
            assert_eq!(age, round * 5 * SECOND, "the age is that of the answer");
            assert!(failure.is_some_and(|why| why.contains("replicas`")), "{content:?}");
        }
        folder.write("replicas", "10.0.0.1:1\n");
        assert_eq!(looked_up_after(&discovery, 5 * SECOND).await, "10.0.0.1:1");
        let (_, age, failure) = discovery.known().unwrap();
        assert_eq!((age, failure), (Duration::ZERO, None));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_one_lookup_share_its_failure() {
        let folder = Folder::new();
        let discovery = folder.discovery("replicas");
        let (one, two) = tokio::join!(discovery.answer(), discovery.answer());
        assert!(one.is_err() && two.is_err() && *discovery.lookups.ended.borrow() == 1);
        folder.write("replicas", "10.0.0.1:1\n");
        assert_eq!(shown(&discovery.answer().await.unwrap()), "10.0.0.1:1", "the next call looks again at once");
    }
}
