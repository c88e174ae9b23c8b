//! What a client would do with a call, and why: [`Explanation`].

use std::fmt;
use std::time::Duration;

use super::discover::KnownReplicas;
use super::frame_connection::FrameConnection;
use super::policy::{Policy, PolicySources};
use super::replica_choice::{ReplicaStanding, ReplicaView};
use crate::address::Address;
use crate::error::Error;
use crate::limits_and_timeouts::Limits;
use crate::method::Method;
use crate::priority::Priority;

/// What a client would do now with a call of one function: [`Client::explain`](crate::Client::explain) and
/// [`Call::explain`](crate::Call::explain).
///
/// Print it with `{}`. The fields are for programs, and further ones may follow.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The name of the function.
    pub name: String,
    /// Each value that is effective, and where it came from.
    pub settings: Vec<ExplainedSetting>,
    /// Why every such call fails before it is sent, if so: as an invalid policy of the client's handle.
    pub refused: Option<Error>,
    /// The service. `None` for a client within the process.
    pub service: Option<ExplainedService>,
}

/// A value that is effective for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedSetting {
    /// Such as `timeout`.
    pub name: &'static str,
    /// The value, as a person reads it.
    pub value: String,
    /// Where it came from.
    pub source: SettingSource,
}

/// Where a setting of a call came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingSource {
    /// It is the default.
    BuiltIn,
    /// `#[rpc(…)]` on the function.
    Attribute,
    /// `ClientBuilder::limits`.
    Limits,
    /// A method of the client's handle, such as `Client::timeout`.
    Client,
    /// `Client::policy`, with this pattern.
    Policy(String),
    /// An option of the call itself, such as `Call::timeout`.
    Call,
}

/// What a client knows of its service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExplainedService {
    /// The URL of the client.
    pub url: String,
    /// How many more calls may be repeated now.
    pub repetitions: f64,
    /// The share of calls that are not sent now, from 0 to 1, because the service has refused many.
    pub held_back: f64,
    /// The limits of the client.
    pub limits: Limits,
    /// Where the replicas are. `None` before the first lookup.
    pub known: Option<KnownReplicas>,
    /// What is known of each address that calls go to.
    pub replicas: Vec<ExplainedReplica>,
    /// How connections were used.
    pub connections: ExplainedConnections,
}

/// What a client knows of one replica.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExplainedReplica {
    /// Its address.
    pub address: Address,
    /// Whether calls go there by frames.
    pub is_by_frames: bool,
    /// The random number of the server behind the address, by frames and if it says one. Several servers may be behind one
    /// address.
    pub instance: Option<String>,
    /// Whether it gets calls.
    pub state: ReplicaState,
    /// The client's calls in flight there. 0 if the client knows no other replica, because it counts nothing then.
    pub in_flight: u32,
    /// How many calls it had in flight when it said so last.
    pub reported: Option<u32>,
    /// How long its answers take. `None` before the first, and if the client knows no other replica.
    pub latency: Option<Duration>,
    /// The share of the last calls that succeeded, from 0 to 1. `unavailable` is a failure of the replica, and the function's own
    /// error is none. It is 1 before the first call.
    pub success: f64,
    /// Calls were sent there, and none was answered.
    pub never_answered: bool,
    /// Whether the function has the same structure there as in this client: the names of its arguments, their defaults, and the
    /// shapes of its types. `None` if that is not known: it is told by frames, if both sides have the feature `schema`, soon after the
    /// first call of a stub. [`Client::check`](crate::Client::check) says where they differ, and whether it matters.
    pub is_same_function: Option<bool>,
}

/// Whether a replica gets calls.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReplicaState {
    /// It gets calls.
    Serving,
    /// It is new, or was ejected. It gets this share of its usual calls, from 0 to 1.
    Joining(f64),
    /// It has failed, and gets no calls for this time. Then one call tries it.
    Ejected(Duration),
    /// One call is trying it.
    Tried,
    /// It gets no calls now: calls go by frames, and the client has no connection of frames to it.
    NotConnected,
}

/// How a client has used its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedConnections {
    /// The calls that were made, by frames and over HTTP.
    pub calls: u64,
    /// The connections of HTTP that were opened.
    pub http_opened: u64,
    /// How often an idle connection of HTTP was used again.
    pub http_reused: u64,
    /// The connections of frames that were opened.
    pub frames_opened: u64,
    /// Up to how many connections of frames a runtime of several threads has to one server now. It is 1 until 64 calls of a
    /// runtime were in flight at once, then the number of its worker threads, and 4 at most.
    pub frames_for_threads: usize,
    /// How many calls waited because [`Limits::connections`] connections were in use.
    pub waited: u64,
    /// How long they waited, all together.
    pub waited_for: Duration,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        if let Some(error) = &self.refused {
            writeln!(f, "  every call fails  {error}")?;
        }
        for ExplainedSetting { name, value, source } in &self.settings {
            writeln!(f, "  {name:<12} {value:<24} {source}")?;
        }
        match &self.service {
            Some(service) => service.fmt(f),
            None => writeln!(f, "  service      within this process"),
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("default"),
            Self::Attribute => f.write_str("#[rpc] on the function"),
            Self::Limits => f.write_str("ClientBuilder::limits"),
            Self::Client => f.write_str("the client's handle"),
            Self::Policy(pattern) => write!(f, "the policy for `{pattern}`"),
            Self::Call => f.write_str("the call itself"),
        }
    }
}

impl fmt::Display for ExplainedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  service      {}", self.url)?;
        let calls = self.connections.calls;
        writeln!(f, "  budget       {:.0} repetitions now; {calls} calls were made", self.repetitions.floor())?;
        if self.held_back > 0.0 {
            let share = self.held_back * 100.0;
            writeln!(f, "  throttle     {share:.0} % of the calls are not sent, because the service refuses others")?;
        }
        let Limits { connect, connections, waiting, pool_idle, message, .. } = &self.limits;
        writeln!(
            f,
            "  limits       connect {connect:?}, connections {connections}, waiting {waiting}, pool_idle {pool_idle:?}, \
             message {message}"
        )?;
        self.connections.fmt(f)?;
        match &self.known {
            None => writeln!(f, "  replicas     not looked up yet")?,
            Some(KnownReplicas { addresses, age, failure, .. }) => {
                write!(f, "  replicas     {} known", addresses.len())?;
                let used =
                    addresses.iter().filter(|known| self.replicas.iter().any(|one| one.address == **known)).count();
                if (1..addresses.len()).contains(&used) {
                    write!(f, ", {used} of them used by this client")?;
                }
                if !age.is_zero() {
                    write!(f, ", by an answer {age:.1?} old")?;
                }
                if let Some(why) = failure {
                    write!(f, "; there is no newer answer: {why}")?;
                }
                writeln!(f)?;
            }
        }
        for replica in &self.replicas {
            writeln!(f, "    {replica}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExplainedReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.is_by_frames { "frames" } else { "HTTP" };
        write!(f, "{:<22} {way:<6}  {}, {} in flight", self.address.to_string(), self.state, self.in_flight)?;
        if let Some(instance) = &self.instance {
            write!(f, ", instance {instance}")?;
        }
        if let Some(calls) = self.reported {
            write!(f, ", reported {calls}")?;
        }
        if let Some(latency) = self.latency {
            write!(f, ", latency {latency:.1?}, {:.0} % succeeded", self.success * 100.0)?;
        } else if self.never_answered {
            f.write_str(", no answer yet")?;
        }
        match self.is_same_function {
            Some(true) => f.write_str(", same structure")?,
            Some(false) => f.write_str(", another structure")?,
            None => {}
        }
        Ok(())
    }
}

impl fmt::Display for ReplicaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("gets calls"),
            Self::Joining(share) => write!(f, "gets {:.0} % of its usual calls", share * 100.0),
            Self::Ejected(time) => write!(f, "failed and is left out for {time:.1?}"),
            Self::Tried => f.write_str("failed and is tried with one call"),
            Self::NotConnected => f.write_str("gets no calls: no connection of frames"),
        }
    }
}

impl fmt::Display for ExplainedConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, http_opened, http_reused, frames_opened, frames_for_threads, waited, waited_for } = self;
        let opened = http_opened + frames_opened;
        write!(f, "  connections  {opened} opened ({http_opened} HTTP, {frames_opened} frames)")?;
        if *calls > 0 {
            write!(f, ", {:.1} for 1,000 calls", opened as f64 * 1000.0 / *calls as f64)?;
        }
        if *frames_for_threads > 1 {
            write!(
                f,
                "; {frames_for_threads} of frames for a runtime of several threads, because many calls are in flight"
            )?;
        }
        write!(f, "; HTTP reused {http_reused} times; {waited} calls waited for one")?;
        if let Some(average) = waited_for.checked_div(u32::try_from(*waited).unwrap_or(u32::MAX)) {
            write!(f, ", {average:.1?} on average")?;
        }
        writeln!(f)
    }
}

impl ExplainedReplica {
    /// For this function, if it is for one.
    pub(super) fn by_frames(link: &FrameConnection, view: ReplicaView, name: Option<&str>) -> Self {
        let instance = link.instance().map(|instance| instance.to_string());
        let is_same_function = name.and_then(|name| link.is_same_function(name));
        Self { is_by_frames: true, instance, is_same_function, ..Self::over_http(link.address().clone(), view) }
    }

    pub(super) fn over_http(address: Address, view: ReplicaView) -> Self {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let state = match view.standing {
            ReplicaStanding::Serving => ReplicaState::Serving,
            ReplicaStanding::Joining(share) => ReplicaState::Joining(share),
            ReplicaStanding::Out(time) => ReplicaState::Ejected(time),
            ReplicaStanding::Tried => ReplicaState::Tried,
        };
        Self {
            address,
            is_by_frames: false,
            instance: None,
            state,
            in_flight: view.in_flight,
            reported: view.reported,
            latency: view.latency.map(seconds),
            success: view.success,
            never_answered: view.never_answered,
            is_same_function: None,
        }
    }

    /// The same replica where calls go by frames, and none can go there. What was measured over HTTP is old.
    pub(super) fn not_connected(self) -> Self {
        Self { state: ReplicaState::NotConnected, latency: None, reported: None, never_answered: false, ..self }
    }
}

impl ExplainedService {
    /// Whether a second attempt can go to another replica. Several servers may be behind one address.
    pub(super) fn has_several_replicas(&self) -> bool {
        self.replicas.len() > 1 || self.known.as_ref().is_none_or(|known| known.addresses.len() > 1)
    }
}

/// The settings of a policy, each with its source. `timeout` is where the time-out came from before the policies, and `hedge`
/// what becomes of hedging.
pub(super) fn policy_settings(
    policy: &Policy,
    timeout: SettingSource,
    method: Option<&Method>,
    hedge: String,
    set_by: &PolicySources,
) -> Vec<ExplainedSetting> {
    let source = |pattern: &Option<String>, otherwise: SettingSource| match pattern {
        Some(pattern) => SettingSource::Policy(pattern.clone()),
        None => otherwise,
    };
    let is_hedged_by_attribute = method.is_some_and(|method| method.hedge);
    let hedge_source = if is_hedged_by_attribute { SettingSource::Attribute } else { SettingSource::BuiltIn };
    let own = method.map(|method| method.priority).unwrap_or_default();
    let priority = policy.priority.unwrap_or(own);
    let priority_source = if own == Priority::Normal { SettingSource::BuiltIn } else { SettingSource::Attribute };
    let setting = |name, value, source| ExplainedSetting { name, value, source };
    vec![
        setting("timeout", format!("{:?}", policy.timeout), source(&set_by.timeout, timeout)),
        setting("attempts", policy.attempts.to_string(), source(&set_by.attempts, SettingSource::BuiltIn)),
        setting(
            "first delay",
            format!("{:?}", policy.first_delay),
            source(&set_by.first_delay, SettingSource::BuiltIn),
        ),
        setting("hedge", hedge, source(&set_by.hedge, hedge_source)),
        setting("priority", priority.to_string(), source(&set_by.priority, priority_source)),
    ]
}

/// The time-out of calls for which nothing else says one, and where it came from.
pub(super) fn usual_timeout(limits: &Limits) -> (Duration, SettingSource) {
    let is_default = limits.call == Limits::default().call;
    (limits.call, if is_default { SettingSource::BuiltIn } else { SettingSource::Limits })
}

/// When a second attempt is made, where the policy says that one is, or why none is. `delay` is what was measured.
pub(super) fn hedge_value(
    method: Option<&Method>,
    attempts: u32,
    has_several_replicas: bool,
    delay: Option<Duration>,
) -> String {
    match (method, delay) {
        (None, _) => "off, it is called by name".to_owned(),
        (Some(method), _) if !method.readonly => "off, it is not readonly".to_owned(),
        _ if attempts < 2 => "off, there is 1 attempt".to_owned(),
        _ if !has_several_replicas => "off, there is 1 replica".to_owned(),
        (Some(_), Some(delay)) => format!("on, after {delay:.1?}"),
        (Some(_), None) => "on, no delay known yet".to_owned(),
    }
}

/// Whether a call is repeated after a failure.
pub(super) fn repeated_setting(method: Option<&Method>) -> ExplainedSetting {
    let (value, source) = match method {
        Some(method) if method.readonly => ("always, it is readonly", SettingSource::Attribute),
        Some(method) if method.idempotent => ("always, it is idempotent", SettingSource::Attribute),
        Some(method) if method.keyed => ("where its key is known", SettingSource::Attribute),
        _ => ("if it did not run", SettingSource::BuiltIn),
    };
    ExplainedSetting { name: "repeated", value: value.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_in_lines() {
        let setting = |name, value: &str, source| ExplainedSetting { name, value: value.to_owned(), source };
        let replica = |port, state| ExplainedReplica {
            address: std::net::SocketAddr::from(([10, 0, 0, 1], port)).into(),
            is_by_frames: true,
            instance: None,
            state,
            in_flight: 2,
            reported: Some(17),
            latency: Some(Duration::from_micros(1500)),
            success: 0.9,
            never_answered: false,
            is_same_function: None,
        };
        let replicas = vec![
            ExplainedReplica { is_same_function: Some(false), ..replica(1, ReplicaState::Serving) },
            ExplainedReplica { is_same_function: Some(true), ..replica(2, ReplicaState::Joining(0.25)) },
            ExplainedReplica {
                is_by_frames: false,
                instance: Some("9f3c000027ab51d0".to_owned()),
                reported: None,
                latency: None,
                never_answered: true,
                ..replica(3, ReplicaState::Ejected(Duration::from_secs(2)))
            },
            replica(4, ReplicaState::Tried),
        ];
        let known = KnownReplicas {
            addresses: replicas.iter().map(|replica| replica.address.clone()).collect(),
            age: Duration::from_millis(3200),
            failure: Some("no answer".to_owned()),
        };
        let connections = ExplainedConnections {
            calls: 2000,
            http_opened: 2,
            http_reused: 8,
            frames_opened: 4,
            frames_for_threads: 2,
            waited: 4,
            waited_for: Duration::from_millis(8),
        };
        let service = ExplainedService {
            url: "http://orders:8080/rpc".to_owned(),
            repetitions: 10.7,
            held_back: 0.434,
            limits: Limits::default(),
            known: Some(known),
            replicas,
            connections,
        };
        let explanation = Explanation {
            name: "orders.get".to_owned(),
            settings: vec![
                setting("timeout", "2s", SettingSource::Policy("orders.*".to_owned())),
                setting("attempts", "3", SettingSource::BuiltIn),
            ],
            refused: None,
            service: Some(service),
        };
        let expected = "\
orders.get
  timeout      2s                       the policy for `orders.*`
  attempts     3                        default
  service      http://orders:8080/rpc
  budget       10 repetitions now; 2000 calls were made
  throttle     43 % of the calls are not sent, because the service refuses others
  limits       connect 5s, connections 128, waiting 65536, pool_idle 60s, message 4194304
  connections  6 opened (2 HTTP, 4 frames), 3.0 for 1,000 calls; 2 of frames for a runtime of several threads, because many calls are in flight; HTTP reused 8 times; 4 calls waited for one, 2.0ms on average
  replicas     4 known, by an answer 3.2s old; there is no newer answer: no answer
    10.0.0.1:1             frames  gets calls, 2 in flight, reported 17, latency 1.5ms, 90 % succeeded, another structure
    10.0.0.1:2             frames  gets 25 % of its usual calls, 2 in flight, reported 17, latency 1.5ms, 90 % succeeded, same structure
    10.0.0.1:3             HTTP    failed and is left out for 2.0s, 2 in flight, instance 9f3c000027ab51d0, no answer yet
    10.0.0.1:4             frames  failed and is tried with one call, 2 in flight, reported 17, latency 1.5ms, 90 % succeeded
";
        assert_eq!(explanation.to_string(), expected);
    }
}
