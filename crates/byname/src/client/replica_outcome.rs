//! What the reply to an attempt says about its replica: [`replica_outcome`].

use super::replica_load::ReplicaOutcome;
use crate::error::Code;
use crate::outcome::Failure;
use crate::request::Reply;

/// A function's own error and a wrong argument speak for the replica. A replica that is busy is not ill.
pub(super) fn replica_outcome(reply: &Reply) -> ReplicaOutcome {
    let Err(Failure::Rpc(error)) = &reply.result else {
        return ReplicaOutcome::Answered;
    };
    match error.code() {
        Code::Unavailable | Code::Internal => ReplicaOutcome::Failed,
        Code::DeadlineExceeded => ReplicaOutcome::TimedOut,
        Code::ResourceExhausted => ReplicaOutcome::Refused,
        _ => ReplicaOutcome::Answered,
    }
}
