//! The drain: how long a server that stops waits for its calls and connections.

use std::pin::pin;

use tracing::{info, warn};

use super::http::ServerEndpoint;
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::Limit;
use crate::ordered_watch as watch;

/// Waits for the calls in flight and for their connections, for at most `Limits::drain`. Streams that have not ended
/// after half of that time are ended. `hint` is added to the line in the log.
///
/// # Errors
///
/// At the limit, with the names of the functions that still run.
pub(super) async fn drain(endpoint: &ServerEndpoint, stop: &watch::Sender<()>, hint: &str) -> Result<(), Error> {
    let dispatch = endpoint.dispatch();
    let limit = dispatch.limits_now().drain;
    info!("draining: no new calls, {limit:?} for those in flight{hint}");
    stop.send_replace(());
    let ended = async {
        stop.closed().await;
        dispatch.admission().idle().await;
    };
    let mut ended = pin!(tokio::time::timeout(limit, ended));
    // A stream may never end by itself. It has half of the time.
    let ended = match tokio::time::timeout(limit / 2, ended.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            dispatch.end_streams();
            ended.await
        }
    };
    if ended.is_ok() {
        return Ok(());
    }
    let active = dispatch.active();
    let names: Vec<_> = active.iter().map(|(name, count)| format!("`{name}` ({count})")).collect();
    let what = match names.as_slice() {
        [] => "connections that did not close".to_owned(),
        names => names.join(", "),
    };
    let why = format!(
        "stopped after {limit:?} (`Limits::drain`) with work unfinished: {what}; allow more time, or end the work sooner"
    );
    warn!("{why}");
    Err(Error::new(Code::DeadlineExceeded, why).executed_is(Executed::Unknown).of_limit(Limit::Drain))
}
