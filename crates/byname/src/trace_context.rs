//! W3C Trace Context: where a call is in a trace, and what the calls that its function makes say of it.
//!
//! A call that is served is a span of its trace, whether anybody records it or not, and so is a call that is made. Each has an id
//! of its own, which is the parent of what is done for it. A call that names no trace begins one when something needs it.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock_and_chance::random_id;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The most members of a `tracestate`. With more it is invalid as a whole.
const MOST_STATE_MEMBERS: usize = 32;
/// The longest `tracestate` that is passed on. The specification wants 512 bytes of it, and the headers of a call have a limit,
/// which a caller must not use up for the calls that are made to serve it.
const LONGEST_STATE: usize = 2 << 10;
/// A member of a longer `tracestate` that has more bytes is the first to go.
const LONG_STATE_MEMBER: usize = 128;
/// The most bytes of a key and of a value in a `tracestate`.
const LONGEST_STATE_PART: usize = 256;

/// The most members of the baggage that is passed on, and the most bytes. The specification wants as many.
const MOST_BAGGAGE_MEMBERS: usize = 64;
const LONGEST_BAGGAGE: usize = 8 << 10;

/// `00-`, 32 digits of the trace, 16 of the span, two of flags, with `-` between.
const LENGTH: usize = 55;

/// The id of a trace. It is shown as 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 16]);

/// The id of a span. It is shown as 16 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(NonZeroU64);

/// The flags of a `traceparent` that have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceFlags(u8);

/// What a `traceparent` says: the span that is the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteSpan {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) flags: TraceFlags,
}

/// The place of a call in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallSpan {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    /// `None` if the trace begins here.
    pub(crate) parent: Option<SpanId>,
    pub(crate) flags: TraceFlags,
}

/// The place of a call that is served, once something has needed it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedSpan(Arc<OnceLock<CallSpan>>);

/// What is known of the place of a call in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace: TraceId,
    /// The id of the call itself. `None` if nothing has needed it.
    pub(crate) span: Option<SpanId>,
    /// The id of the call that made it. `None` if the trace begins here.
    pub(crate) parent: Option<SpanId>,
}

impl TraceId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[cfg(feature = "otel")]
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn random() -> Self {
        let (high, low) = (random_id(), random_id().max(1));
        Self::from_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    fn read(digits: &str) -> Option<Self> {
        let id = u128::from_str_radix(digits, 16).ok()?;
        (id != 0).then(|| Self::from_bytes(id.to_be_bytes()))
    }
}

impl SpanId {
    pub(crate) fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    #[cfg(feature = "otel")]
    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    fn random() -> Self {
        Self(NonZeroU64::new(random_id()).unwrap_or(NonZeroU64::MIN))
    }
}

impl TraceFlags {
    const SAMPLED: u8 = 1;
    /// The id of the trace is random, says the second level of the specification.
    const RANDOM: u8 = 2;

    /// The other flags have no meaning yet and are sent as zero.
    pub(crate) const fn new(flags: u8) -> Self {
        Self(flags & (Self::SAMPLED | Self::RANDOM))
    }

    #[cfg(feature = "otel")]
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }
}

impl RemoteSpan {
    /// What these headers say. `None` if they say nothing, or not as the specification has it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return None;
        };
        Self::read(value.as_bytes().trim_ascii())
    }

    fn read(text: &[u8]) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let mut part = |length| {
            let part = parts.next()?;
            if part.len() != length || !part.iter().all(is_digit) {
                return None;
            }
            str::from_utf8(part).ok()
        };
        let (version, trace, id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // Later versions may say more behind a further `-`.
        let is_known = match version {
            "00" => more.is_empty(),
            "ff" => false,
            _ => matches!(more, [] | [b'-', ..]),
        };
        if !is_known {
            return None;
        }
        Some(Self {
            trace: TraceId::read(trace)?,
            id: SpanId::new(u64::from_str_radix(id, 16).ok()?)?,
            flags: TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        })
    }
}

impl CallSpan {
    /// A new span of the trace that these headers name, or of a new trace. `is_recorded` counts for a new trace.
    pub(crate) fn of_headers(headers: &HeaderMap, is_recorded: bool) -> Self {
        RemoteSpan::of(headers).map_or_else(|| Self::begin(is_recorded), Self::under)
    }

    /// The first span of a new trace.
    pub(crate) fn begin(is_recorded: bool) -> Self {
        let sampled = if is_recorded { TraceFlags::SAMPLED } else { 0 };
        let flags = TraceFlags::new(TraceFlags::RANDOM | sampled);
        Self { trace: TraceId::random(), id: SpanId::random(), parent: None, flags }
    }

    /// A new span whose parent is this one.
    pub(crate) fn under(RemoteSpan { trace, id, flags }: RemoteSpan) -> Self {
        Self { trace, id: SpanId::random(), parent: Some(id), flags }
    }

    /// What others are told of it.
    pub(crate) fn as_parent(&self) -> RemoteSpan {
        RemoteSpan { trace: self.trace, id: self.id, flags: self.flags }
    }

    pub(crate) fn traceparent(&self) -> HeaderValue {
        let Self { trace, id, flags: TraceFlags(flags), .. } = self;
        let text = Bytes::from(format!("00-{trace}-{id}-{flags:02x}"));
        HeaderValue::from_maybe_shared(text)
            .unwrap_or_else(|_| unreachable!("digits and hyphens are allowed in a header"))
    }

    /// Puts it into the headers of the call that it is, with the `tracestate` of its trace.
    pub(crate) fn put(&self, state: Option<HeaderValue>, made: &mut HeaderMap) {
        made.insert(TRACEPARENT, self.traceparent());
        match state {
            Some(state) => drop(made.insert(TRACESTATE, state)),
            None => drop(made.remove(TRACESTATE)),
        }
    }
}

impl From<CallSpan> for TraceIds {
    fn from(CallSpan { trace, id, parent, .. }: CallSpan) -> Self {
        Self { trace, span: Some(id), parent }
    }
}

impl ServedSpan {
    pub(crate) fn get(&self) -> Option<CallSpan> {
        self.0.get().copied()
    }

    pub(crate) fn get_or_init(&self, find: impl FnOnce() -> CallSpan) -> CallSpan {
        *self.0.get_or_init(find)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The ids of a call with these headers, without its own. `None` where [`RemoteSpan::of`] is.
pub(crate) fn ids(headers: &HeaderMap) -> Option<TraceIds> {
    let RemoteSpan { trace, id, .. } = RemoteSpan::of(headers)?;
    Some(TraceIds { trace, span: None, parent: Some(id) })
}

/// The `tracestate` of a call with these headers, as one header. `None` if it has none, if a part of it is invalid, or if the
/// `traceparent` is.
pub(crate) fn trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(TRACESTATE);
    if values.iter().next().is_none() || RemoteSpan::of(headers).is_none() {
        return None;
    }
    let mut members: Vec<&str> = Vec::new();
    for value in values {
        for member in value.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let key = state_key(member)?;
            if members.len() == MOST_STATE_MEMBERS || members.iter().any(|other| state_key(other) == Some(key)) {
                return None;
            }
            members.push(member);
        }
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&members) > LONGEST_STATE {
        // The members at the front are the ones that were changed last.
        match members.iter().rposition(|member| member.len() > LONG_STATE_MEMBER) {
            Some(long) => drop(members.remove(long)),
            None => drop(members.pop()),
        }
    }
    if members.is_empty() {
        return None;
    }
    HeaderValue::try_from(members.join(",")).ok()
}

/// Puts the baggage of a call that is served into the headers of a call that is made meanwhile: whole members, from the front, as
/// many as may be passed on. Baggage that is not valid is dropped as a whole.
pub(crate) fn pass_baggage_on(served: &HeaderMap, made: &mut HeaderMap) {
    let mut passed = String::new();
    let (mut count, mut is_full) = (0, false);
    for value in served.get_all(BAGGAGE) {
        let Ok(value) = value.to_str() else {
            return;
        };
        for member in value.split(',').map(trimmed).filter(|member| !member.is_empty()) {
            if !is_baggage_member(member) {
                return;
            }
            count += 1;
            is_full |= count > MOST_BAGGAGE_MEMBERS || passed.len() + 1 + member.len() > LONGEST_BAGGAGE;
            if !is_full {
                passed.push_str(if passed.is_empty() { "" } else { "," });
                passed.push_str(member);
            }
        }
    }
    if !passed.is_empty()
        && let Ok(value) = HeaderValue::try_from(passed)
    {
        made.insert(BAGGAGE, value);
    }
}

/// Whether this is a key with its value, and with properties if it has any.
fn is_baggage_member(member: &str) -> bool {
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(is_token);
    let is_value = |value: &str| value.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\'));
    let is_pair = |(key, value): (&str, &str)| is_key(trimmed(key)) && is_value(trimmed(value));
    let mut parts = member.split(';');
    parts.next().and_then(|first| first.split_once('=')).is_some_and(is_pair)
        && parts.all(|property| property.split_once('=').map_or_else(|| is_key(trimmed(property)), is_pair))
}

/// Whether a name of HTTP may have this byte.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Without the white space of HTTP around it.
fn trimmed(part: &str) -> &str {
    part.trim_matches([' ', '\t'])
}

/// The key of a member of a `tracestate`, if the member is valid.
fn state_key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_inner = |byte: u8| is_letter(byte) || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, longest: usize, may_begin: &dyn Fn(u8) -> bool| {
        part.len() <= longest && part.bytes().next().is_some_and(may_begin) && part.bytes().all(is_inner)
    };
    let begins = |byte: u8| is_letter(byte) || byte.is_ascii_digit();
    let is_key = match key.split_once('@') {
        // The name of a tenant, and that of its system.
        Some((tenant, system)) => is_part(tenant, 241, &begins) && is_part(system, 14, &is_letter),
        None => is_part(key, LONGEST_STATE_PART, &begins),
    };
    let is_value = !value.is_empty()
        && value.len() <= LONGEST_STATE_PART
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    (is_key && is_value).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(of: &[(HeaderName, &str)]) -> HeaderMap {
        HeaderMap::from_iter(
            of.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())),
        )
    }

    fn right() -> String {
        format!("00-{ID}-b7ad6b7169203331-01")
    }

    /// What a call says that is made while one with these headers is served.
    fn passed_on(given: &[(HeaderName, &str)]) -> Vec<(String, String)> {
        let (served, mut made) = (headers(given), HeaderMap::new());
        let Some(parent) = RemoteSpan::of(&served) else {
            return Vec::new();
        };
        CallSpan { id: SpanId::new(0xb7).unwrap(), ..CallSpan::under(parent) }.put(trace_state(&served), &mut made);
        made.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn the_id_of_the_span_takes_the_place_of_the_callers_and_the_rest_stays() {
        for (given, flags) in [
            (right(), "01"),
            (format!("00-{ID}-b7ad6b7169203331-00"), "00"),
            (format!("00-{ID}-b7ad6b7169203331-03"), "03"),
            (format!("00-{ID}-b7ad6b7169203331-02"), "02"),
            (format!("00-{ID}-b7ad6b7169203331-ff"), "03"),
            (format!("00-{ID}-b7ad6b7169203331-fc"), "00"),
            (format!("cc-{ID}-b7ad6b7169203331-01"), "01"),
            (format!("cc-{ID}-b7ad6b7169203331-ff-and more"), "03"),
            (format!("cc-{ID}-b7ad6b7169203331-0a-"), "02"),
        ] {
            let expected = format!("00-{ID}-00000000000000b7-{flags}");
            assert_eq!(passed_on(&[(TRACEPARENT, &given)]), [("traceparent".to_owned(), expected)], "{given}");
        }
    }

    #[test]
    fn an_invalid_traceparent_is_dropped_with_its_state() {
        let right = right();
        for wrong in [
            "",
            "1",
            "00",
            &right[..54],
            &format!("{right}-"),
            &format!("{right}0"),
            &format!("cc{}0", &right[2..]),
            &format!("ff{}", &right[2..]),
            &right.replace("00-", "0-"),
            &right.replace("00-", "0g-"),
            &right.to_uppercase(),
            &right.replace('-', "_"),
            &right.replace(ID, &"0".repeat(32)),
            &right.replace("b7ad6b7169203331", "0000000000000000"),
            &right.replace("b7ad6b7169203331", "b7ad6b716920333-"),
            &right.replace("b7ad6b7169203331", "b7ad6b716920333ß"),
            &right.replace("b7ad6b7169203331", "+7ad6b7169203331"),
        ] {
            assert!(passed_on(&[(TRACEPARENT, wrong), (TRACESTATE, "a=1")]).is_empty(), "{wrong:?}");
        }
        assert!(passed_on(&[(TRACEPARENT, &right), (TRACEPARENT, &right)]).is_empty(), "which one is it?");
        assert!(passed_on(&[(TRACESTATE, "a=1")]).is_empty());
    }

    #[test]
    fn a_new_trace_is_random_and_sampled_if_it_is_recorded() {
        for (is_recorded, flags) in [(false, "02"), (true, "03")] {
            let (one, other) = (CallSpan::begin(is_recorded), CallSpan::begin(is_recorded));
            assert!(one.trace != other.trace && one.id != other.id && one.parent.is_none());
            let text = one.traceparent();
            assert_eq!(RemoteSpan::read(text.as_bytes()), Some(one.as_parent()));
            assert_eq!(text.to_str().unwrap()[53..], *flags);
        }
    }

    #[test]
    fn the_members_of_a_state_are_combined_and_what_is_too_long_is_dropped_from_its_end() {
        let state = |values: &[&str]| {
            let mut given: Vec<_> = values.iter().map(|value| (TRACESTATE, *value)).collect();
            let right = right();
            given.push((TRACEPARENT, &right));
            trace_state(&headers(&given)).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(state(&["b=2,a=1", "c=3"]).unwrap(), "b=2,a=1,c=3", "in their order");
        assert_eq!(state(&[" b=2 \t,,\ta=x y ", "", " "]).unwrap(), "b=2,a=x y");
        for none in [&["", ","][..], &["a=ß"], &["a"], &["=1"], &["a=1,A=2"], &["a=1", "a=2"], &["a=1=2"], &["a= ,b=1"]]
        {
            assert_eq!(state(none), None, "{none:?}");
        }
        let member = |at: usize, length: usize| format!("k{at:02}={}", "v".repeat(length - 4));
        let all = |lengths: &[usize]| {
            let members: Vec<_> = lengths.iter().enumerate().map(|(at, length)| member(at, *length)).collect();
            members.join(",")
        };
        let fits = all(&[127; 16]);
        assert_eq!((fits.len(), state(&[&fits]).unwrap()), (LONGEST_STATE - 1, fits.clone()));
        let more = all(&[127; 17]);
        assert_eq!(state(&[&more]).unwrap(), fits, "whole members, from the end");
        assert_eq!(
            state(&["a=1", &format!("long={}", "v".repeat(200)), &more[..more.len()]]).unwrap(),
            format!("a=1,{}", all(&[127; 15]))
        );
        let members = |count| (0..count).map(|at| format!("k{at}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(state(&[&members(32)]).unwrap(), members(32));
        assert_eq!(state(&[&members(33)]), None);
    }

    #[test]
    fn baggage_is_passed_on_up_to_its_limits() {
        let passed = |values: &[&str]| {
            let given: Vec<_> = values.iter().map(|value| (BAGGAGE, *value)).collect();
            let mut made = HeaderMap::new();
            pass_baggage_on(&headers(&given), &mut made);
            made.get(BAGGAGE).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(passed(&["a=1;x=y, b=2", "c=%20"]).unwrap(), "a=1;x=y,b=2,c=%20");
        assert_eq!(passed(&[]), None);
        let valid = ["a= 1 ; x = y ;z,,b=", "!#$%&'*+-.^_`|~=a=b!#:<[]~", "a=1;x", "k=%E2%82%AC"];
        for valid in valid {
            assert!(passed(&[valid]).is_some(), "{valid}");
        }
        for invalid in [
            "not baggage at all",
            "a",
            "=1",
            "a b=1",
            "a=b c",
            "a=\"b\"",
            "a=b\\c",
            "a=1;",
            "a=1;=y",
            "a=1;x=y z",
            "a(=1",
            "a=ü",
            "a=1, b",
        ] {
            assert_eq!(passed(&[invalid]), None, "{invalid}");
            assert_eq!(passed(&["a=1", invalid]), None, "all of it goes: {invalid}");
        }
        let (long, short) = (format!("a={}", "v".repeat(LONGEST_BAGGAGE - 5)), "b=2");
        assert_eq!(passed(&[short, &long]).unwrap(), short, "whole members");
        let members = |count| (0..count).map(|at| format!("k{at}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(passed(&[&members(70)]).unwrap(), members(64));
    }
}
