//! Where the replicas of a service are, as code of the user says it: [`Discover`].

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;

/// How long an answer holds that says nothing else, and how long a failed lookup is not repeated.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// Finds the replicas of a service, for [`ClientBuilder::discover`](crate::ClientBuilder::discover).
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
///
/// use byname::{Client, Discover, DiscoverFuture, Replicas};
///
/// struct Inventory;
///
/// impl Discover for Inventory {
///     fn replicas<'a>(&'a self, _known: Option<&'a Replicas>) -> DiscoverFuture<'a> {
///         Box::pin(async {
///             let found: Vec<SocketAddr> = ask_the_inventory("orders").await?;
///             Ok(Replicas::new(found).fresh_for(Duration::from_secs(10)))
///         })
///     }
/// }
///
/// # async fn ask_the_inventory(_: &str) -> std::io::Result<Vec<SocketAddr>> { Ok(Vec::new()) }
/// let orders = Client::builder("orders.internal/rpc").discover(Inventory).build()?;
/// # Ok::<(), byname::Error>(())
/// ```
///
/// The client asks at its first call. That call waits for the answer. Later the client asks in the background, only while it
/// is used, and one question at a time: once the answer is older than [`Replicas::fresh_for`], or if no address of it could
/// be connected to. A call that has an answer never waits for discovery. If a lookup fails, answers no address, or panics,
/// the last good answer stays in use, and the client asks again after five seconds. If the last handle of the client is
/// dropped, a running lookup is dropped too.
///
/// # A source that can be watched
///
/// Use `known`, the last good answer. Without it, answer what there is now. With it, wait until there is something else, and
/// answer that. Answers with `fresh_for(Duration::ZERO)` are asked for again at the next call, so a lookup is always waiting
/// while the client is used.
///
/// ```
/// use std::time::Duration;
///
/// use byname::{Discover, DiscoverFuture, Replicas};
/// use tokio::sync::watch;
///
/// /// The addresses that another task receives from the store.
/// struct Watched(watch::Receiver<Replicas>);
///
/// impl Discover for Watched {
///     fn replicas<'a>(&'a self, known: Option<&'a Replicas>) -> DiscoverFuture<'a> {
///         let mut store = self.0.clone();
///         Box::pin(async move {
///             let now = store.wait_for(|now| known.is_none_or(|known| known.addresses() != now.addresses())).await?;
///             Ok(now.clone().fresh_for(Duration::ZERO))
///         })
///     }
/// }
/// ```
pub trait Discover: Send + Sync + 'static {
    /// The replicas. `known` is the last good answer.
    fn replicas<'a>(&'a self, known: Option<&'a Replicas>) -> DiscoverFuture<'a>;
}

/// An answer of [`Discover`], when it is there. An error is shown in messages and in the log.
pub type DiscoverFuture<'a> = Pin<Box<dyn Future<Output = Result<Replicas, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// The addresses of a service's replicas, and how long they are used before they are looked up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    addresses: Arc<[Address]>,
    fresh_for: Duration,
}

impl Replicas {
    /// These addresses. They are looked up again after five seconds.
    pub fn new<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), fresh_for: FRESH }
    }

    /// The time after which they are looked up again, such as the TTL of a record in DNS. There is at least a second between
    /// the beginnings of two lookups.
    #[must_use]
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.fresh_for = time;
        self
    }

    /// The addresses.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    pub(super) fn time(&self) -> Duration {
        self.fresh_for
    }
}

/// What a client knows of where its service is: [`Client::replicas`](crate::Client::replicas).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownReplicas {
    /// The addresses that new connections go to.
    pub addresses: Vec<Address>,
    /// The time since discovery answered them. Zero if they do not come from discovery.
    pub age: Duration,
    /// Why discovery does not answer now, if so. Then the addresses are its last good answer.
    pub failure: Option<String>,
}

impl fmt::Debug for dyn Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discover")
    }
}
