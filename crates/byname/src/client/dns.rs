//! Names and SRV records, asked from the servers of DNS, which say how long an answer holds.

#[cfg(test)]
mod fake_dns_server;
mod name_resolver;
mod record_answer;
mod search_list;
mod srv_source;
mod srv_targets;

use std::time::Duration;

pub(super) use self::name_resolver::NameResolver;
pub(super) use self::srv_source::SrvSource;

/// An answer with a shorter TTL holds as long as this.
const SHORTEST: Duration = Duration::from_secs(1);

/// An answer with a longer TTL holds as long as this. Connections of frames follow a change up to ten seconds later, and the
/// calls are to follow within thirty.
const LONGEST: Duration = Duration::from_secs(20);

/// How long an answer with this TTL holds, in seconds.
fn fresh_for(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST)
}
