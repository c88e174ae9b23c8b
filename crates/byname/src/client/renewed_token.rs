//! A bearer token that expires, and that all calls of a client share: [`RenewedToken`].

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::bearer_token::{self, IssuedToken};
use crate::deadline::{before, later};
use crate::error::{Code, Error, Executed};
use crate::ordered_watch as watch;
use crate::runtime::{self, BoxFuture};
use crate::untrusted_text::excerpt;

/// How long the user's function may take. A token that is fetched for longer keeps all calls waiting.
const LONGEST_FETCH: Duration = Duration::from_secs(30);

/// After a renewal that failed, and after the fetch for a refused token, the next one begins this much later, as long as
/// the old token is valid.
const PAUSE: Duration = Duration::from_secs(1);

/// The most bytes of an error of the user's function in a message.
const LONGEST_ERROR: usize = 300;

/// A token that is fetched by a function of the user: once for all calls that need it, and again before its end. A task
/// fetches it, so a call that is dropped takes it from no other.
pub(super) struct RenewedToken {
    fetch: Box<dyn Fn() -> BoxFuture<Result<IssuedToken, String>> + Send + Sync>,
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    held: Option<HeldToken>,
    /// Where the running fetch will put its result.
    fetching: Option<watch::Receiver<Fetched>>,
    /// The next renewal does not begin before this.
    not_before: Option<Instant>,
}

/// The result of a fetch, once it has ended.
type Fetched = Option<Result<HeaderValue, Error>>;

struct HeldToken {
    value: HeaderValue,
    /// From now on a new one is fetched, while this one is used.
    renew: Instant,
    ends: Instant,
}

impl RenewedToken {
    pub(super) fn new<F, Fut, E>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<IssuedToken, E>> + Send + 'static,
        E: Display,
    {
        let fetch = move || -> BoxFuture<_> {
            let fetched = fetch();
            Box::pin(async move { fetched.await.map_err(|error| excerpt(error, LONGEST_ERROR)) })
        };
        Self { fetch: Box::new(fetch), state: Mutex::default() }
    }

    /// The header with the token, if there is one that is valid. If it ends soon, its renewal begins.
    pub(super) fn held(self: &Arc<Self>) -> Option<HeaderValue> {
        let mut state = self.lock();
        let now = Instant::now();
        let held = state.held.as_ref().filter(|held| now < held.ends)?;
        let (value, is_due) = (held.value.clone(), held.renew <= now);
        if is_due && state.not_before.is_none_or(|at| at <= now) {
            self.fetching(&mut state);
        }
        Some(value)
    }

    /// Adds the token to the headers of a call, unless the call has credentials of its own. Waits for it until `deadline`.
    /// Returns whether it added it.
    pub(super) async fn put(
        self: &Arc<Self>,
        name: &str,
        headers: &mut HeaderMap,
        deadline: Instant,
    ) -> Result<bool, Error> {
        if headers.contains_key(AUTHORIZATION) {
            return Ok(false);
        }
        let value = before(deadline, self.get()).await.unwrap_or_else(|| {
            let why = format!(
                "`{name}` was still waiting for its bearer token at its deadline; make the function of \
                 `Client::bearer_from` faster, or allow more time with `.timeout(…)`"
            );
            Err(Error::refused(Code::DeadlineExceeded, why))
        })?;
        headers.insert(AUTHORIZATION, value);
        Ok(true)
    }

    /// Another token than that of a call which the server refused: the one that is held meanwhile, or a new one. All
    /// calls of one token share its fetch. `None` if there is none until `deadline`, and if the last fetch for a refused
    /// token was a moment ago: a server that refuses every token does not keep the issuer busy.
    pub(super) async fn other_than(
        self: &Arc<Self>,
        refused: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Option<HeaderValue> {
        let mut fetching = {
            let mut state = self.lock();
            let now = Instant::now();
            if let Some(held) = state.held.as_ref().filter(|held| now < held.ends && Some(&held.value) != refused) {
                return Some(held.value.clone());
            }
            if !state.is_fetching() {
                if state.not_before.is_some_and(|at| now < at) {
                    return None;
                }
                state.not_before = Some(later(now, PAUSE));
            }
            self.fetching(&mut state)
        };
        let fetched = async { fetching.wait_for(Option::is_some).await.ok()?.clone() };
        let value = before(deadline, fetched).await??.ok()?;
        (Some(&value) != refused).then_some(value)
    }

    async fn get(self: &Arc<Self>) -> Result<HeaderValue, Error> {
        // The first fetch may have been lost with the runtime that it ran on.
        for _ in 0..2 {
            if let Some(value) = self.held() {
                return Ok(value);
            }
            let mut fetching = self.fetching(&mut self.lock());
            if let Ok(fetched) = fetching.wait_for(Option::is_some).await
                && let Some(fetched) = &*fetched
            {
                return fetched.clone();
            }
        }
        Err(failed("the function panicked, or its runtime has ended"))
    }

    /// The fetch that runs, or a new one.
    fn fetching(self: &Arc<Self>, state: &mut TokenState) -> watch::Receiver<Fetched> {
        if let Some(running) = &state.fetching
            && state.is_fetching()
        {
            return running.clone();
        }
        let (done, fetching) = watch::channel(None);
        state.fetching = Some(fetching.clone());
        let this = Arc::clone(self);
        runtime::spawn(&runtime::current(), async move {
            let fetched = this.fetch().await;
            done.send_replace(Some(fetched));
        });
        fetching
    }

    async fn fetch(&self) -> Result<HeaderValue, Error> {
        // The time of the fetch counts as a part of the token's life.
        let began = Instant::now();
        let fetched = before(later(began, LONGEST_FETCH), async { (self.fetch)().await }).await;
        let fetched = match fetched {
            Some(Ok(issued)) => bearer_token::header(&issued.token).map(|value| (value, issued.expires_in)),
            Some(Err(why)) => Err(failed(&why)),
            None => Err(failed(&format!("it took longer than {LONGEST_FETCH:?}"))),
        };
        let mut state = self.lock();
        state.fetching = None;
        match fetched {
            Ok((value, life)) => {
                let (renew, ends) = (later(began, life.mul_f64(0.8)), later(began, life));
                state.held = Some(HeldToken { value: value.clone(), renew, ends });
                Ok(value)
            }
            Err(error) => {
                let now = Instant::now();
                if state.held.as_ref().is_some_and(|held| now < held.ends) {
                    tracing::warn!("a bearer token is used until its end, because it could not be renewed: {error}");
                }
                state.not_before = Some(later(now, PAUSE));
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenState {
    /// Its channel is closed if the runtime of the fetch has ended.
    fn is_fetching(&self) -> bool {
        self.fetching.as_ref().is_some_and(|running| running.has_changed().is_ok())
    }
}

/// Whether the server refused a call because of its token, and did not run it.
pub(super) fn is_refused(error: &Error) -> bool {
    error.code() == Code::Unauthenticated && error.executed() == Executed::No
}

fn failed(why: &str) -> Error {
    let why = format!("the call was not sent, because `Client::bearer_from` got no token from its function: {why}");
    Error::refused(Code::Unavailable, why)
}
