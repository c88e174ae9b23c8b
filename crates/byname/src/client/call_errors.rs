//! Errors of attempts, over HTTP and by frames: what happened, and whether the function ran.

use std::time::Duration;

use crate::address::Address;
use crate::codec::{self, Codec};
use crate::deadline;
use crate::error::{Code, Error, Executed};
use crate::limits_and_timeouts::{Limit, in_bytes};
use crate::outcome::Failure;
use crate::request::Reply;

/// The call had no answer at its deadline.
pub(super) fn late(url: &str, name: &str, allowed: Duration, executed: Executed) -> Error {
    let what = match executed {
        Executed::No => "it was not sent",
        _ => "it may have run, or be running",
    };
    let (paused, allowed) = (paused_clock(), to_milliseconds(allowed));
    let why = format!(
        "`{name}` of {url} did not answer within {allowed:?}; {what}; allow more time with `.timeout(…)`{paused}"
    );
    Error::new(Code::DeadlineExceeded, why).executed_is(executed)
}

/// The connection broke. `executed` says whether the call was sent before.
pub(super) fn broken(url: &str, name: &str, executed: Executed, why: &str) -> Error {
    let (when, what) = match executed {
        Executed::No => ("before", "it did not run"),
        _ => ("after", "it may have run"),
    };
    let why = format!("the connection to {url} broke {when} `{name}` was sent; {what}: {why}");
    let error = Error::new(Code::Unavailable, why).executed_is(executed);
    if executed == Executed::No { error.unsent() } else { error }
}

/// An error knows from then on to which of several replicas its attempt went. The reply is changed in place: moving it costs
/// each call some 60 instructions.
pub(super) fn set_replica(reply: &mut Reply, replica: impl FnOnce() -> Option<Address>) {
    if let Err(Failure::Rpc(error)) = &mut reply.result
        && let Some(replica) = replica()
    {
        error.set_replica(replica);
    }
}

pub(super) fn reply_too_large(name: &str, limit: usize, codec: Codec, executed: Executed) -> Error {
    let shorter = codec::shorter(codec);
    let why = format!(
        "the reply of `{name}` is larger than {} (`Limits::message` of the client); ask for less, or raise \
         it{shorter}",
        in_bytes(limit)
    );
    Error::new(Code::ResourceExhausted, why).of_limit(Limit::Message).executed_is(executed)
}

/// A time as messages show it, without the digits that only a clock knows.
pub(super) fn to_milliseconds(time: Duration) -> Duration {
    let millis = time.as_micros().saturating_add(500) / 1000;
    if millis == 0 { time } else { u64::try_from(millis).map_or(time, Duration::from_millis) }
}

/// What a time-out in a test says besides, if the test has paused tokio's clock.
pub(super) fn paused_clock() -> &'static str {
    if deadline::is_ahead() {
        "; tokio's clock is paused in this runtime, which advances it to the next time-out while a socket is waited for: \
         test with `Client::local`, or let the clock run"
    } else {
        ""
    }
}
