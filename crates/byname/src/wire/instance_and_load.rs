//! What a server says of itself, for clients that choose among several servers: [`InstanceId`] and [`ReportedLoad`].

use std::fmt;

use http::{HeaderMap, HeaderValue};

use super::headers;
use crate::clock_and_chance::random_number;

/// Tells a server from every other one, also behind the same address. It is random, and made once for each server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstanceId(u64);

/// How busy a server is, as it says in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReportedLoad {
    /// The calls that it has and has not answered, and the functions that still run although their callers are gone.
    pub(crate) calls: u32,
    /// How long a call waited before its function was first polled, in microseconds. 0 if that was not measured.
    pub(crate) queue_delay: u32,
}

impl InstanceId {
    pub(crate) fn random() -> Self {
        Self(random_number())
    }

    /// Reads 16 hexadecimal digits. Anything else identifies no instance.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }

    /// Client: which instance has sent these headers, if they say so.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        Self::read(headers.get(headers::INSTANCE)?.to_str().ok()?)
    }

    pub(crate) fn to_header(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("digits can stand in a header")
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ReportedLoad {
    /// Client: the load in these headers. `None` if there is none that can be read. Elements behind the first two are
    /// ignored.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let mut numbers = headers.get(headers::LOAD)?.to_str().ok()?.split(',').map(|number| {
            let number = number.trim_matches([' ', '\t']);
            if number.bytes().all(|byte| byte.is_ascii_digit()) { number.parse().ok() } else { None }
        });
        Some(Self { calls: numbers.next()??, queue_delay: numbers.next()?? })
    }

    pub(crate) fn to_header(self) -> HeaderValue {
        let Self { calls, queue_delay } = self;
        HeaderValue::try_from(format!("{calls}, {queue_delay}")).expect("digits can stand in a header")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(name: http::HeaderName, value: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(name, value)])
    }

    proptest! {
        #[test]
        fn what_a_server_says_is_read_as_it_was_written(id: u64, calls: u32, queue_delay: u32) {
            let (id, load) = (InstanceId(id), ReportedLoad { calls, queue_delay });
            prop_assert_eq!(InstanceId::of_answer(&one(headers::INSTANCE, id.to_header())), Some(id));
            prop_assert_eq!(ReportedLoad::of_answer(&one(headers::LOAD, load.to_header())), Some(load));
        }
    }

    #[test]
    fn the_headers_are_those_of_the_protocol() {
        assert_eq!(InstanceId(0x9f3c_0000_27ab_51d0).to_header(), "9f3c000027ab51d0");
        assert_eq!(InstanceId(7).to_header(), "0000000000000007");
        assert_eq!(ReportedLoad { calls: 17, queue_delay: 350 }.to_header(), "17, 350");
    }

    #[test]
    fn what_is_not_an_instance_or_a_load_is_ignored() {
        for wrong in ["", "9f3c000027ab51d", "9f3c000027ab51d00", "+f3c000027ab51d0", "9f3c000027ab51dg"] {
            assert_eq!(InstanceId::read(wrong), None, "{wrong}");
        }
        let read = |text: &'static str| ReportedLoad::of_answer(&one(headers::LOAD, HeaderValue::from_static(text)));
        for wrong in ["", "17", "17,", ", 350", "17 350", "-1, 0", "+1, 0", "1.5, 0", "4294967296, 0", "a, b", "1, b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let load = Some(ReportedLoad { calls: 17, queue_delay: 350 });
        assert_eq!([read("17,350"), read(" 17 ,\t350 "), read("17, 350, 9, later")], [load; 3]);
        assert_eq!(ReportedLoad::of_answer(&HeaderMap::new()), None);
        let not_text = HeaderValue::from_bytes(b"\xff").unwrap();
        assert_eq!(ReportedLoad::of_answer(&one(headers::LOAD, not_text.clone())), None);
        assert_eq!(InstanceId::of_answer(&one(headers::INSTANCE, not_text)), None);
    }
}
