//! The mode of [`Dispatch`] for calls with a key, which run once: [`KeyedCall`].

use std::error::Error as StdError;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha1_smol::Sha1;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Dispatch, late, late_by};
use crate::admission::CallerTrust;
use crate::arguments::EncodedArguments;
use crate::catch_panic::{Panicked, caught};
use crate::codec::{self, Codec, canonical_hash};
use crate::deadline::{before, later};
use crate::error::{Code, Error, Executed};
use crate::idempotency_key::{IdempotencyKey, REPLAYED, key_of};
use crate::key_store::{KeyClaim, KeyStore, KeyStoreFuture, StoredReply};
use crate::key_window::{KeyWindow, KeyedStart};
use crate::limits_and_timeouts::{Limit, Limits};
use crate::method::Method;
use crate::ordered_watch;
use crate::registry::RegistryEntry;
use crate::request::{CallArguments, Reply, Request};
use crate::runtime;
use crate::wire::headers::{INSTANCE, KEYS};
use crate::wire::instance_and_load::InstanceId;

/// When a caller may ask again whose call runs elsewhere.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The keys of the calls of a server, and where their replies are kept.
pub(super) struct KeyedCalls {
    window: Mutex<KeyWindow<ReplyWatch, Arc<StoredReply>>>,
    store: Option<Arc<dyn KeyStore>>,
    instance: InstanceId,
}

/// Sees the reply of a call that runs.
type ReplyWatch = ordered_watch::Receiver<Option<RunReply>>;

/// The reply of a call that was run, or that a store knew.
#[derive(Clone)]
struct RunReply {
    reply: Arc<StoredReply>,
    is_of_store: bool,
}

impl KeyedCalls {
    pub(super) fn new(limits: &Limits) -> Self {
        let window = Mutex::new(KeyWindow::new(limits.key_window, limits.key_bytes));
        Self { window, store: None, instance: InstanceId::random() }
    }

    fn window(&self) -> MutexGuard<'_, KeyWindow<ReplyWatch, Arc<StoredReply>>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps replies in this store.
    pub(super) fn keep_in(&mut self, store: Arc<dyn KeyStore>) {
        self.store = Some(store);
    }

    pub(super) fn instance(&self) -> InstanceId {
        self.instance
    }

    pub(super) fn has_shared_store(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_shared())
    }

    /// Refuses a repetition at another server than that of the first attempt, which may have run there.
    fn check_instance(&self, key: &IdempotencyKey, metadata: &HeaderMap, now: Instant) -> Result<(), Error> {
        let first = metadata.get(INSTANCE).and_then(|first| InstanceId::read(first.to_str().ok()?));
        match first {
            Some(first) if first != self.instance && !self.has_shared_store() && !self.window().knows(key, now) => {
                Err(elsewhere(first))
            }
            _ => Ok(()),
        }
    }
}

/// A call with a key that the rules admit.
pub(super) struct KeyedCall<'c> {
    pub(super) dispatch: &'c Arc<Dispatch>,
    pub(super) entry: &'c Arc<RegistryEntry>,
}

impl KeyedCall<'_> {
    /// Runs the call, or waits for the first one with this key, or has its reply. The reply says that this server knows keys, for the
    /// client's next call.
    pub(super) async fn run(self, request: Request) -> Reply {
        let sharing = self.dispatch.key_sharing();
        let mut reply = self.reply(request).await;
        reply.metadata.insert(KEYS, HeaderValue::from_static(sharing.as_str()));
        reply
    }

    async fn reply(self, request: Request) -> Reply {
        let (now, name) = (Instant::now(), Arc::clone(&request.name));
        let (deadline, set_by) = self.dispatch.deadline(self.entry.handler.method.timeout, request.deadline, now);
        if deadline <= now {
            return late(&name).into();
        }
        let codec = match &request.args {
            CallArguments::Encoded(args) => args.codec,
            CallArguments::Query(_) | CallArguments::Local(_) | CallArguments::Refused(_) => Codec::Json,
        };
        let (mut waiter, duplicate) = match self.begin(request, now) {
            Ok(KeyedProgress::Reply(reply)) => return replayed(reply.reply(codec)),
            Ok(KeyedProgress::Waits(waiter, duplicate)) => (waiter, duplicate),
            Err(error) => return error.into(),
        };
        let reply = match before(deadline, waiter.wait_for(Option::is_some)).await {
            Some(Ok(reply)) => reply.clone(),
            Some(Err(_)) => None,
            None => return late_by(&name, false, deadline.saturating_duration_since(now), set_by).into(),
        };
        match reply {
            Some(RunReply { reply, is_of_store }) if reply.has_run() && (is_of_store || duplicate.is_some()) => {
                replayed(reply.reply(codec))
            }
            Some(RunReply { reply, .. }) => reply.reply(codec),
            None => without_reply(&name).into(),
        }
    }

    fn begin(&self, mut request: Request, now: Instant) -> Result<KeyedProgress, Error> {
        let Self { dispatch, entry } = *self;
        let key = key(&entry.handler.method, &mut request)?;
        dispatch.keyed.check_instance(&key, &request.metadata, now)?;
        // Duplicates that wait are calls in flight as well.
        if request.permit.is_none() {
            dispatch.admit_early(Some(entry), &mut request)?;
        }
        let (done, waiter) = ordered_watch::channel(None);
        let start = dispatch.keyed.window().begin(&key, waiter.clone(), now);
        match start {
            KeyedStart::Run => {
                let (dispatch, entry) = (Arc::clone(dispatch), Arc::clone(entry));
                let running = RunningKey { dispatch, key, done, may_have_run: false, is_over: false };
                // The function runs to its end, and its reply is kept, also if the caller goes away.
                let work = running.run(entry, request).in_current_span();
                runtime::spawn(&runtime::current(), work);
                Ok(KeyedProgress::Waits(waiter, None))
            }
            KeyedStart::Wait(waiter) => Ok(KeyedProgress::Waits(waiter, Some(Box::new(request)))),
            KeyedStart::Reply(reply) => Ok(KeyedProgress::Reply(reply)),
            KeyedStart::NoReply => Err(not_kept(&request.name)),
            KeyedStart::OtherArguments => Err(other_arguments(&request.name)),
            KeyedStart::Full(next) => Err(full(next)),
        }
    }
}

/// Where a call with a key is after its begin.
enum KeyedProgress {
    Reply(Arc<StoredReply>),
    /// It waits for the reply. A duplicate keeps its permits while it waits.
    Waits(ReplyWatch, Option<Box<Request>>),
}

/// The first call with a key.
struct RunningKey {
    dispatch: Arc<Dispatch>,
    key: IdempotencyKey,
    done: ordered_watch::Sender<Option<RunReply>>,
    may_have_run: bool,
    is_over: bool,
}

impl RunningKey {
    async fn run(mut self, entry: Arc<RegistryEntry>, mut request: Request) {
        let name = Arc::clone(&request.name);
        let store = self.dispatch.keyed.store.clone();
        let limit = self.dispatch.limits.call;
        if let Some(store) = &store {
            let refused = match of_store(limit, || store.claim(&self.key)).await {
                Ok(KeyClaim::Run) => None,
                Ok(KeyClaim::Reply(reply)) if reply.has_arguments_of(&self.key) => {
                    self.dispatch.keyed.window().released(&self.key);
                    return self.end(RunReply { reply: Arc::new(reply), is_of_store: true });
                }
                Ok(KeyClaim::Reply(_)) => Some(other_arguments(&name)),
                Ok(KeyClaim::RunsElsewhere) => Some(runs_elsewhere(&name)),
                Err(why) => {
                    tracing::error!(rpc.method = %name, "the key store can't say whether `{name}` has run: {why}");
                    Some(no_claim(&name))
                }
            };
            if let Some(refused) = refused {
                self.dispatch.keyed.window().released(&self.key);
                let reply = Arc::new(StoredReply::of(&self.key, refused.into()));
                return self.end(RunReply { reply, is_of_store: false });
            }
        }
        request.extensions.insert(self.key.clone());
        self.may_have_run = true;
        let reply = match self.dispatch.begin_request(&entry, request) {
            Ok(supervised) => supervised.run_to_end().await,
            Err(error) => error.into(),
        };
        let reply = Arc::new(StoredReply::of(&self.key, reply));
        let is_kept = reply.has_run() && !self.key.is_released();
        let is_stored = match &store {
            None => false,
            Some(store) => {
                let told = match is_kept {
                    true => of_store(limit, || store.complete(&self.key, &reply)).await,
                    false => of_store(limit, || store.release(&self.key)).await,
                };
                if let Err(why) = &told {
                    tracing::error!(
                        rpc.method = %name,
                        "the key store failed after `{name}`, so this server keeps the reply itself: {why}"
                    );
                }
                told.is_ok()
            }
        };
        let mut window = self.dispatch.keyed.window();
        if is_stored || !is_kept {
            window.released(&self.key);
        } else if !window.ended(&self.key, Some((Arc::clone(&reply), reply.size())), Instant::now()) {
            tracing::warn!(
                rpc.method = %name,
                "the reply of `{name}` is not kept for its key: there is no room, which is `Limits::key_bytes`"
            );
        }
        drop(window);
        self.end(RunReply { reply, is_of_store: false });
    }

    fn end(mut self, reply: RunReply) {
        self.is_over = true;
        self.done.send_replace(Some(reply));
    }
}

impl Drop for RunningKey {
    /// The runtime ends.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut window = self.dispatch.keyed.window();
        if self.may_have_run {
            window.ended(&self.key, None, Instant::now());
        } else {
            window.released(&self.key);
        }
    }
}

/// What a store answers, within this time. A store that panics or never answers must not keep the key for ever.
async fn of_store<'a, T>(
    limit: Duration,
    ask: impl FnOnce() -> KeyStoreFuture<'a, T>,
) -> Result<T, Box<dyn StdError + Send + Sync>> {
    let panicked = || "it has panicked".into();
    let mut asked = caught(ask).map_err(|Panicked| panicked())?;
    let answer = poll_fn(|cx| match caught(|| asked.as_mut().poll(cx)) {
        Ok(polled) => polled,
        Err(Panicked) => Poll::Ready(Err(panicked())),
    });
    let late = || Err(format!("it has not answered within {limit:?}, which is `Limits::call` of the server").into());
    before(later(Instant::now(), limit), answer).await.unwrap_or_else(late)
}

/// The key of a call.
fn key(method: &Method, request: &mut Request) -> Result<IdempotencyKey, Error> {
    let key = key_of(&request.metadata)?.ok_or_else(|| without_key(&request.name))?;
    if method.streams || method.takes.is_some() || request.items.is_some() {
        return Err(streams(&request.name));
    }
    let refused = CallArguments::Refused(without_key(&request.name));
    let arguments = match &request.args {
        CallArguments::Encoded(args) => hash(method, args)?,
        CallArguments::Query(pairs) => {
            let mut pairs = pairs.clone();
            pairs.sort_unstable();
            Sha1::from(format!("{pairs:?}")).digest().bytes()
        }
        CallArguments::Local(_) => return Err(key_of_an_interceptor(&request.name)),
        CallArguments::Refused(_) => match std::mem::replace(&mut request.args, refused) {
            CallArguments::Refused(error) => return Err(error),
            _ => unreachable!("they were looked at"),
        },
    };
    let caller =
        CallerTrust { metadata: &request.metadata, peer: request.peer.as_deref(), is_forwarded: request.is_forwarded };
    Ok(IdempotencyKey::new(&method.name, &owner(caller), key, arguments))
}

/// Says in the headers of a reply that it is not the first one with this key.
fn replayed(mut reply: Reply) -> Reply {
    reply.metadata.insert(REPLAYED, HeaderValue::from_static("true"));
    reply
}

/// To whom a key belongs, without spaces.
fn owner(caller: CallerTrust<'_>) -> String {
    let hash = |text: &[u8]| Sha1::from(text).digest();
    match (caller.proven_name(), caller.metadata.get(AUTHORIZATION)) {
        (Some(name), _) => format!("identity:{}", hash(name.as_bytes())),
        (None, Some(authorization)) => format!("authorization:{}", hash(authorization.as_bytes())),
        (None, None) => "anonymous".to_owned(),
    }
}

/// The hash of the arguments, which is the same if they are by position or by name.
fn hash(method: &Method, args: &EncodedArguments) -> Result<[u8; 20], Error> {
    let invalid = |why: String| Error::refused(Code::InvalidArgument, format!("the arguments can't be read: {why}"));
    let unreadable = |part: &[u8]| {
        let why = canonical_hash(args.codec, part).err();
        invalid(why.unwrap_or_else(|| "they are neither an array nor an object".to_owned()))
    };
    let mut hashes = Vec::new();
    // A frame does not say which part is which: each is an array or a map.
    for part in [&args.positional, &args.keyword].into_iter().filter(|part| !part.is_empty()) {
        if let Some(items) = codec::items(args.codec, part) {
            for (at, item) in items.iter().enumerate() {
                let name = method.params.get(at).map_or_else(|| at.to_string(), |param| param.name.to_string());
                hashes.push((name, canonical_hash(args.codec, item).map_err(invalid)?));
            }
            continue;
        }
        for (name, value) in codec::entries(args.codec, part).ok_or_else(|| unreadable(part))? {
            hashes.push((name.into_owned(), canonical_hash(args.codec, value).map_err(invalid)?));
        }
    }
    hashes.sort_unstable();
    let mut all = Sha1::new();
    for (name, value) in hashes {
        // Its length, so that no two lists of arguments are the same text.
        all.update(&(name.len() as u64).to_be_bytes());
        all.update(name.as_bytes());
        all.update(&value);
    }
    Ok(all.digest().bytes())
}

fn without_key(name: &str) -> Error {
    let why = format!(
        "`{name}` runs once for each key, and this call has none; send a header `idempotency-key` with a new key for each \
         call, such as a UUID, and the same one if you send the call again"
    );
    Error::refused(Code::InvalidArgument, why)
}

fn streams(name: &str) -> Error {
    let why = format!("`{name}` streams, and a call that streams can't have an `idempotency-key`; call it without");
    Error::refused(Code::InvalidArgument, why)
}

fn key_of_an_interceptor(name: &str) -> Error {
    let why = format!(
        "an interceptor has set `idempotency-key` on a call of `{name}` within the process, whose arguments are \
         not encoded; set the key where the call is made, with `.idempotency_key(…)`"
    );
    Error::refused(Code::FailedPrecondition, why)
}

fn other_arguments(name: &str) -> Error {
    let why = format!(
        "`{name}` was called before with this `idempotency-key` and other arguments; send the same arguments, or a new key \
         for another call"
    );
    Error::refused(Code::InvalidArgument, why)
}

fn not_kept(name: &str) -> Error {
    let why = format!(
        "the call of `{name}` with this `idempotency-key` has run, but its reply was not kept: there was no room for it \
         (`Limits::key_bytes` of the server), or the server was stopping; look up what it has done"
    );
    Error::new(Code::ResourceExhausted, why).executed_is(Executed::Yes).of_limit(Limit::KeyBytes)
}

fn full(next: Option<Duration>) -> Error {
    let why = "the server has no room for another `idempotency-key`, which is `Limits::key_bytes`; try again when older keys are \
               forgotten, after `Limits::key_window` of the server";
    let error = Error::refused(Code::ResourceExhausted, why).of_limit(Limit::KeyBytes);
    match next {
        Some(next) => error.with_retry_after(next),
        None => error,
    }
}

fn elsewhere(first: InstanceId) -> Error {
    let why = format!(
        "the first attempt at this call went to the server {first}, which this is not, so it is not known whether it has run: \
         servers do not share their keys unless they have a `Server::key_store`; look up what it has done, and call with a \
         new key if that is nothing"
    );
    Error::new(Code::FailedPrecondition, why).executed_is(Executed::Unknown)
}

fn without_reply(name: &str) -> Error {
    let why = format!("`{name}` ended without a reply because the server was stopping");
    Error::new(Code::Unavailable, why)
}

fn runs_elsewhere(name: &str) -> Error {
    let why = format!("another server runs `{name}` with this `idempotency-key` now; ask again with the same key");
    Error::new(Code::Unavailable, why).executed_is(Executed::Unknown).with_retry_after(ASK_AGAIN)
}

fn no_claim(name: &str) -> Error {
    let why = format!("the key store of the server can't say whether `{name}` has run; try again with the same key");
    Error::refused(Code::Unavailable, why)
}
