//! Changes of a server while it runs: [`ServerHandle`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::limits_file::LimitsFile;
use crate::admission::{ClosedBy, ClosedPattern};
use crate::dispatch::Dispatch;
use crate::error::{Code, Error};
use crate::limits_and_timeouts::Limits;
use crate::name::NamePattern;
use crate::runtime;
use crate::stats::ServerStats;

/// How often a file of limits is read.
const EVERY: Duration = Duration::from_secs(1);

/// Changes a server while it runs. [`Bound::handle`](super::Bound::handle) and
/// [`HttpService::handle`](super::HttpService::handle) return it. Clones change the same server.
///
/// ```
/// # use std::time::Duration;
/// # use byname::{Server, rpc};
/// # #[rpc(prefix = "reports")] impl Reports { async fn build(&self) {} }
/// # struct Reports;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), byname::Error> {
/// let bound = Server::new().inject(Reports).serve("127.0.0.1:0").bind().await?;
/// let handle = bound.handle();
/// tokio::spawn(bound.into_future());
///
/// handle.change_limits(|limits| limits.in_flight = 500)?;
/// handle.close("reports.*", Duration::from_secs(30))?;
/// assert!(handle.open("reports.*")?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    dispatch: Arc<Dispatch>,
}

/// Opens what a file has closed once it is no longer followed, because only the file could.
struct OpenedAtTheEnd<'d>(&'d Dispatch);

impl Drop for OpenedAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.closed().closed_by_file(Vec::new());
    }
}

impl ServerHandle {
    pub(super) fn new(dispatch: Arc<Dispatch>) -> Self {
        Self { dispatch }
    }

    /// The limits that hold now.
    pub fn limits(&self) -> Limits {
        self.dispatch.limits_now()
    }

    /// What was counted since the start of the server.
    ///
    /// ```
    /// # use byname::{Client, Server};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::new().function("double", |n: i64| async move { n * 2 });
    /// let bound = server.serve("127.0.0.1:0").bind().await?;
    /// let handle = bound.handle();
    /// # let data = Client::new(bound.local_addr().to_string())?;
    /// tokio::spawn(bound.into_future());
    /// # data.call::<i64>("double", (21,)).await?;
    ///
    /// for function in handle.stats().functions {
    ///     println!("{}: {} calls, p99 {:?}", function.name, function.calls, function.percentile(0.99));
    /// }
    /// # assert_eq!(handle.stats().functions[0].calls, 1);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.dispatch.stats()
    }

    /// Changes limits. [`in_flight`](Limits::in_flight), [`queue_delay`](Limits::queue_delay), [`drain`](Limits::drain) and
    /// [`drain_delay`](Limits::drain_delay) can be changed while the server runs. Calls that run are not affected: if more of them run than `in_flight` allows now,
    /// none is admitted until fewer do.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if another field is changed, with its name. Then nothing is changed.
    pub fn change_limits(&self, change: impl FnOnce(&mut Limits)) -> Result<(), Error> {
        let before = self.limits();
        let mut limits = before.clone();
        change(&mut limits);
        if let Some(field) = before.fixed_fields_that_differ(&limits).first() {
            let why = format!(
                "`Limits::{field}` can't be changed while the server runs; `in_flight`, `queue_delay`, `drain` and `drain_delay` \
                 can, and the others are set by `Server::limits` at the start"
            );
            return Err(Error::refused(Code::InvalidArgument, why));
        }
        self.dispatch.change_limits(&before, &limits);
        Ok(())
    }

    /// Closes functions for maintenance, by a pattern such as `reports.build`, `reports.*` or `*`. Their calls are refused with
    /// `unavailable`, not executed, and callers are told to come again after `retry_after`. Calls that run go on. The
    /// functions stay closed until [`open`](Self::open) is called with the same pattern. Health (`!live`, `!ready`) is answered
    /// as before.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if this is not a pattern, or if it matches no function of the server.
    pub fn close(&self, pattern: &str, retry_after: Duration) -> Result<(), Error> {
        let pattern = self.pattern(pattern)?;
        info!("closed `{pattern}` for maintenance");
        self.dispatch.closed().close(ClosedPattern { pattern, retry_after, by: ClosedBy::Program });
        Ok(())
    }

    /// Opens functions that were closed by this pattern with [`close`](Self::close). Returns whether they were. What a file has closed
    /// is opened by the file.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn open(&self, pattern: &str) -> Result<bool, Error> {
        let pattern = self.pattern(pattern)?;
        let was_closed = self.dispatch.closed().open(&pattern);
        if was_closed {
            info!("opened `{pattern}` after maintenance");
        }
        Ok(was_closed)
    }

    /// The patterns of functions that are closed now, by this or by a file.
    pub fn closed(&self) -> Vec<String> {
        self.dispatch.closed().patterns().into_iter().map(|closed| closed.pattern.to_string()).collect()
    }

    /// Reads a file once a second, and does what it says, until this future is dropped. Then what it has closed is opened, and its
    /// limits stay. Operators change a server with it:
    ///
    /// ```text
    /// # A comment
    /// in_flight = 500
    /// drain = 60s
    /// close reports.* 30s
    /// ```
    ///
    /// The file says everything: a limit that it does not name is that of the start, and a function that it does not
    /// name is open, unless the program has closed it. If there is no file, or something in it is wrong, the last
    /// content that was right holds, and a warning says what is wrong, once. Content without a line end at its end is
    /// used when it is read for the second time, because it may be half-written.
    ///
    /// ```
    /// # async fn example(bound: byname::Bound) {
    /// tokio::spawn(bound.handle().follow_file("/etc/orders/limits"));
    /// # }
    /// ```
    pub fn follow_file(&self, path: &str) -> impl Future<Output = ()> + Send + use<> {
        let (this, path) = (self.clone(), PathBuf::from(path));
        let start = self.dispatch.limits().clone();
        async move {
            let (mut file, mut warned) = (LimitsFile::default(), None);
            let _opens = OpenedAtTheEnd(&this.dispatch);
            loop {
                let reading = path.clone();
                // Files may be slow.
                let read = runtime::run_blocking(move || std::fs::read(&reading)).await;
                let read = read.unwrap_or_else(|why| Err(std::io::Error::other(why.to_string())));
                let name = path.display();
                let outcome = match read {
                    Ok(content) => this.follow(&mut file, content, &start),
                    Err(why) => Err(format!("it can't be read: {why}")),
                };
                match outcome {
                    Ok(true) => {
                        info!("the limits of the server are those of {name}");
                        warned = None;
                    }
                    Ok(false) => {}
                    Err(why) if warned.as_ref() == Some(&why) => {}
                    Err(why) => {
                        warn!("the file of limits {name} is not used: {why}");
                        warned = Some(why);
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        }
    }

    /// Does what this content says. Returns whether that is new.
    fn follow(&self, file: &mut LimitsFile, content: Vec<u8>, start: &Limits) -> Result<bool, String> {
        let Some(said) = file.read(content, start)? else {
            return Ok(false);
        };
        for (pattern, _) in &said.closed {
            self.matches_some(pattern).map_err(|why| why.message().to_owned())?;
        }
        self.change_limits(|limits| *limits = said.limits.clone()).map_err(|why| why.message().to_owned())?;
        let closed = said.closed.into_iter();
        let closed = closed.map(|(pattern, retry_after)| ClosedPattern { pattern, retry_after, by: ClosedBy::File });
        self.dispatch.closed().closed_by_file(closed.collect());
        Ok(true)
    }

    fn pattern(&self, pattern: &str) -> Result<NamePattern, Error> {
        let pattern = NamePattern::parse(pattern).map_err(|why| Error::refused(Code::InvalidArgument, why))?;
        self.matches_some(&pattern)?;
        Ok(pattern)
    }

    fn matches_some(&self, pattern: &NamePattern) -> Result<(), Error> {
        if self.dispatch.methods().any(|method| pattern.matches(&method.name)) {
            return Ok(());
        }
        let why = format!(
            "`{pattern}` matches no function of the server; expected the name of one, or a pattern such as `reports.*`"
        );
        Err(Error::refused(Code::InvalidArgument, why))
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle").field("closed", &self.closed()).finish_non_exhaustive()
    }
}
