//! The calls that every peer makes, the streams that it reads, and what must come of them.

use std::ops::Range;
use std::{fmt, iter};

use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Work {
    /// `add(i64, i64) -> i64`
    Add,
    /// Echoes ten users of six fields, 1.2 to 1.3 KB as JSON
    Record,
    /// Echoes 1 MiB of bytes
    Payload,
    /// Yields a `u64` after the other
    Stream,
}

impl Work {
    /// More at once would measure the memory: a payload lies in several buffers on its way, and of a stream all that
    /// came and was not yet read.
    pub fn max_in_flight(self) -> usize {
        match self {
            Work::Add | Work::Record => usize::MAX,
            Work::Payload => 32,
            Work::Stream => 128,
        }
    }

    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Work::Add | Work::Record | Work::Payload => "call",
            Work::Stream => "item",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let value = self.to_possible_value().expect("no work is skipped");
        f.pad(value.get_name())
    }
}

pub fn add(a: i64, b: i64) -> i64 {
    a + b
}

pub fn record(users: Vec<User>) -> Vec<User> {
    users
}

pub fn payload(bytes: Bytes) -> Bytes {
    bytes
}

/// The items of a stream.
pub fn numbers(from: u64, count: u64) -> Range<u64> {
    from..from.saturating_add(count)
}

/// What peers send as it is, whichever way they encode: none has to convert it from or to a type of its own.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
pub struct User {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub email: String,
    #[prost(uint32, tag = "4")]
    pub age: u32,
    #[prost(double, tag = "5")]
    pub balance: f64,
    #[prost(bool, tag = "6")]
    pub active: bool,
}

/// The arguments of a slot's n-th `add`: no two slots in flight expect the same sum.
pub fn addends(slot: usize, n: u64) -> (i64, i64) {
    (slot as i64 * 1_000_000_007, n as i64 * 1_000)
}

/// The argument of a slot's every `record`: no two slots send the same users.
pub fn users(slot: usize) -> Vec<User> {
    (0..10)
        .map(|position| {
            let id = 1_000_000 + slot as u64 * 10 + position;
            User {
                id,
                name: format!("Ada Lovelace {id}"),
                email: format!("ada.{id}@example.com"),
                age: 20 + (id % 70) as u32,
                balance: id as f64 / 8.0,
                active: id.is_multiple_of(2),
            }
        })
        .collect()
}

/// The argument of a slot's every `payload`: no two slots send the same bytes.
pub fn payload_bytes(slot: usize) -> Bytes {
    // A step of a linear congruential generator for each byte, so that nothing on the way finds a pattern in them.
    let mut state = slot as u64 + 1;
    let bytes = iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    bytes.take(1 << 20).collect()
}

/// How many items each of so many streams has: so many that its beginning and its end don't count.
pub fn stream_length(streams: usize) -> u64 {
    if streams == 1 { 100_000 } else { 10_000 }
}

/// The first number of a slot's every stream: no two slots are sent the same.
pub fn first_number(slot: usize) -> u64 {
    slot as u64 * stream_length(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_as_large_as_the_readme_says() {
        for slot in 0..1024 {
            let size = serde_json::to_vec(&users(slot)).unwrap().len();
            assert!((1200..=1300).contains(&size), "slot {slot}: {size} bytes");
        }
    }

    #[test]
    fn no_two_slots_expect_the_same_reply() {
        assert_ne!(users(0), users(1));
        assert_ne!(payload_bytes(0), payload_bytes(1));
        let sum = |slot, n| {
            let (a, b) = addends(slot, n);
            add(a, b)
        };
        assert_ne!(sum(0, 1_000_000), sum(1, 0));
        assert_ne!(sum(0, 1_000_007), sum(1, 0));
        assert_eq!(numbers(first_number(0), stream_length(128)).end, first_number(1));
    }
}
