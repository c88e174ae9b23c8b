//! W3C Trace Context: what the calls that a function makes say of the trace that its own call belongs to.
//!
//! A call that is served is a span of its trace, whether anybody records it or not: its id takes the place of the
//! caller's. The rest of a trace is passed on as it came.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock_and_chance::random_number;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest `tracestate` that is passed on: the specification wants 512 bytes of it, and the headers of a call have a
/// limit, which a caller must not use up for the calls that are made to serve it.
const LONGEST_STATE: usize = 8 << 10;

/// `00-`, 32 digits of the trace, 16 of the span, two of flags, with `-` between.
const LENGTH: usize = 55;

/// The trace that a call belongs to, as its `traceparent` says it.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    id: TraceId,
    /// The span of the caller.
    parent: u64,
    flags: [u8; 2],
}

/// The id of a trace: 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 32]);

impl TraceId {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Where a call is in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace: TraceId,
    /// The span of the call itself. Absent if it has none.
    pub(crate) span: Option<u64>,
    /// The span in which the call was made. Absent if the trace began with the call.
    pub(crate) parent: Option<u64>,
}

/// The id of the trace that a call with these headers belongs to; `None` where [`traceparent`] is.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<TraceId> {
    Trace::of(headers).map(|trace| trace.id)
}

/// Where a call with these headers is in its trace, as far as its caller says it.
pub(crate) fn trace_ids(headers: &HeaderMap) -> Option<TraceIds> {
    // Most calls have no headers.
    if headers.is_empty() {
        return None;
    }
    let Trace { id, parent, .. } = Trace::of(headers)?;
    Some(TraceIds { trace: id, span: None, parent: Some(parent) })
}

/// The `traceparent` of what is done in the span of this id on behalf of a call with these headers; `None` where they name
/// no trace, or not as the specification has it.
pub(crate) fn traceparent(headers: &HeaderMap, span: impl FnOnce() -> u64) -> Option<HeaderValue> {
    let trace = Trace::of(headers)?;
    let mut text = Vec::with_capacity(LENGTH);
    text.extend_from_slice(b"00-");
    text.extend_from_slice(&trace.id.0);
    text.push(b'-');
    let span = span();
    text.extend_from_slice(format!("{span:016x}").as_bytes());
    text.push(b'-');
    text.extend_from_slice(&trace.flags);
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// Puts the trace of a call with the headers `served`, which the span of this id serves, among those of a call that is
/// made meanwhile.
pub(crate) fn pass_on(served: &HeaderMap, span: impl FnOnce() -> u64, made: &mut HeaderMap) {
    let Some(traceparent) = traceparent(served, span) else {
        return;
    };
    made.insert(TRACEPARENT, traceparent);
    made.remove(TRACESTATE);
    let states = served.get_all(TRACESTATE);
    let length: usize = states.iter().map(HeaderValue::len).sum();
    if length <= LONGEST_STATE && states.iter().all(|state| state.to_str().is_ok()) {
        for state in states {
            made.append(TRACESTATE, state.clone());
        }
    }
}

/// An id for a span, at random.
pub(crate) fn new_span() -> u64 {
    random_number().max(1)
}

impl Trace {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return None;
        };
        Self::read(value.as_bytes())
    }

    fn read(text: &[u8]) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_right = [(version, 2), (id, 32), (parent, 16), (flags, 2)]
            .into_iter()
            .all(|(part, length)| part.len() == length && part.iter().all(is_digit));
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
        // Later versions may say more behind a further `-`.
        let is_known =
            if version == b"00" { more.is_empty() } else { version != b"ff" && matches!(more, [] | [b'-', ..]) };
        if !is_right || !is_known || is_zero(id) || is_zero(parent) {
            return None;
        }
        let flags = match (version, flags) {
            (b"00", &[high, low]) => [high, low],
            // Of another version's flags nothing is known but that the lowest says whether the trace is recorded.
            (_, &[_, low]) => match char::from(low).to_digit(16)? % 2 {
                1 => *b"01",
                _ => *b"00",
            },
            _ => return None,
        };
        let parent = u64::from_str_radix(str::from_utf8(parent).ok()?, 16).ok()?;
        Some(Self { id: TraceId(id.try_into().ok()?), parent, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn passed_on(headers: &[(HeaderName, &str)]) -> Vec<(String, String)> {
        let served: HeaderMap = HeaderMap::from_iter(
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())),
        );
        let mut made = HeaderMap::new();
        pass_on(&served, || 0xb7, &mut made);
        made.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn the_id_of_the_span_takes_the_place_of_the_callers_and_the_rest_stays() {
        for (given, flags) in [
            (format!("00-{ID}-b7ad6b7169203331-01"), "01"),
            (format!("00-{ID}-b7ad6b7169203331-00"), "00"),
            (format!("00-{ID}-b7ad6b7169203331-03"), "03"),
            (format!("cc-{ID}-b7ad6b7169203331-01"), "01"),
            (format!("cc-{ID}-b7ad6b7169203331-ff-and more"), "01"),
            (format!("cc-{ID}-b7ad6b7169203331-0a-"), "00"),
        ] {
            let expected = format!("00-{ID}-00000000000000b7-{flags}");
            assert_eq!(passed_on(&[(TRACEPARENT, &given)]), [("traceparent".to_owned(), expected)], "{given}");
        }
    }

    #[test]
    fn an_invalid_traceparent_is_dropped_with_its_state() {
        let right = format!("00-{ID}-b7ad6b7169203331-01");
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
        ] {
            assert!(passed_on(&[(TRACEPARENT, wrong), (TRACESTATE, "a=1")]).is_empty(), "{wrong:?}");
        }
        assert!(passed_on(&[(TRACEPARENT, &right), (TRACEPARENT, &right)]).is_empty(), "which one is it?");
        assert!(passed_on(&[(TRACESTATE, "a=1")]).is_empty());
    }

    #[test]
    fn the_state_is_passed_on_whole_or_not_at_all() {
        let right = format!("00-{ID}-b7ad6b7169203331-01");
        let states = |states: &[&str]| {
            let given: Vec<_> = states.iter().map(|state| (TRACESTATE, *state)).collect();
            let passed = passed_on(&[&[(TRACEPARENT, right.as_str())][..], &given].concat());
            passed.into_iter().filter(|(name, _)| name == "tracestate").map(|(_, state)| state).collect::<Vec<_>>()
        };
        assert_eq!(states(&["b=2,a=1", "c=3"]), ["b=2,a=1", "c=3"], "in their order");
        assert_eq!(states(&[&"x".repeat(8 << 10)]).len(), 1);
        assert!(states(&[&"x".repeat(8 << 10), "y"]).is_empty());
        assert!(states(&["a=ß"]).is_empty());
    }
}
