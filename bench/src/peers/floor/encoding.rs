//! What a payload holds.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Serialize;

use super::frames::Payload;
use crate::peers::base64::Base64;
use crate::work::User;

/// Appends values to what goes out, and reads them from where they came in.
pub trait Encoding: Copy + Send + Sync + 'static {
    const PACKAGES: &'static [&'static str];

    fn put_addends(a: i64, b: i64, out: &mut Vec<u8>);
    fn addends(bytes: &[u8]) -> Result<(i64, i64)>;
    fn put_sum(sum: i64, out: &mut Vec<u8>);
    fn sum(bytes: &[u8]) -> Result<i64>;
    fn put_users(users: &[User], out: &mut Vec<u8>);
    fn users(bytes: &[u8]) -> Result<Vec<User>>;
    /// Returns what need not be copied.
    fn put_payload(bytes: Bytes, out: &mut Vec<u8>) -> Option<Bytes>;
    fn payload(payload: Payload) -> Result<Bytes>;
    fn put_range(from: u64, count: u64, out: &mut Vec<u8>);
    fn range(bytes: &[u8]) -> Result<(u64, u64)>;
    fn put_number(number: u64, out: &mut Vec<u8>);
    fn number(bytes: &[u8]) -> Result<u64>;
}

/// Integers in little endian, strings behind their length, no names: what only the same program can read.
#[derive(Clone, Copy)]
pub struct Binary;

impl Encoding for Binary {
    const PACKAGES: &'static [&'static str] = &[];

    fn put_addends(a: i64, b: i64, out: &mut Vec<u8>) {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&a.to_le_bytes());
        both[8..].copy_from_slice(&b.to_le_bytes());
        out.extend_from_slice(&both);
    }

    fn addends(mut bytes: &[u8]) -> Result<(i64, i64)> {
        Ok((i64::from_le_bytes(*take(&mut bytes)?), i64::from_le_bytes(*take(&mut bytes)?)))
    }

    fn put_sum(sum: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(&sum.to_le_bytes());
    }

    fn sum(mut bytes: &[u8]) -> Result<i64> {
        Ok(i64::from_le_bytes(*take(&mut bytes)?))
    }

    fn put_users(users: &[User], out: &mut Vec<u8>) {
        out.extend_from_slice(&(users.len() as u32).to_le_bytes());
        for User { id, name, email, age, balance, active } in users {
            let mut fixed = [0; FIXED];
            fixed[..8].copy_from_slice(&id.to_le_bytes());
            fixed[8..16].copy_from_slice(&balance.to_le_bytes());
            fixed[16..20].copy_from_slice(&age.to_le_bytes());
            fixed[20..24].copy_from_slice(&(name.len() as u32).to_le_bytes());
            fixed[24..28].copy_from_slice(&(email.len() as u32).to_le_bytes());
            fixed[28] = u8::from(*active);
            out.reserve(FIXED + name.len() + email.len());
            out.extend_from_slice(&fixed);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(email.as_bytes());
        }
    }

    fn users(mut bytes: &[u8]) -> Result<Vec<User>> {
        let count = u32::from_le_bytes(*take(&mut bytes)?) as usize;
        ensure!(count <= bytes.len() / FIXED, "{count} users in {} bytes", bytes.len());
        let mut users = Vec::with_capacity(count);
        for _ in 0..count {
            let id = u64::from_le_bytes(*take(&mut bytes)?);
            let balance = f64::from_le_bytes(*take(&mut bytes)?);
            let age = u32::from_le_bytes(*take(&mut bytes)?);
            let name = u32::from_le_bytes(*take(&mut bytes)?);
            let email = u32::from_le_bytes(*take(&mut bytes)?);
            let [active] = *take(&mut bytes)?;
            let mut text = |length: u32| {
                let (text, rest) = bytes.split_at_checked(length as usize).context("a string is cut off")?;
                bytes = rest;
                Ok::<_, anyhow::Error>(str::from_utf8(text)?.to_owned())
            };
            users.push(User { id, name: text(name)?, email: text(email)?, age, balance, active: active != 0 });
        }
        Ok(users)
    }

    fn put_payload(bytes: Bytes, _: &mut Vec<u8>) -> Option<Bytes> {
        Some(bytes)
    }

    fn payload(payload: Payload) -> Result<Bytes> {
        Ok(match payload {
            Payload::Small(bytes) => Bytes::copy_from_slice(bytes),
            Payload::Large(bytes) => bytes,
        })
    }

    fn put_range(from: u64, count: u64, out: &mut Vec<u8>) {
        Self::put_number(from, out);
        Self::put_number(count, out);
    }

    fn range(mut bytes: &[u8]) -> Result<(u64, u64)> {
        Ok((u64::from_le_bytes(*take(&mut bytes)?), u64::from_le_bytes(*take(&mut bytes)?)))
    }

    fn put_number(number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&number.to_le_bytes());
    }

    fn number(mut bytes: &[u8]) -> Result<u64> {
        Ok(u64::from_le_bytes(*take(&mut bytes)?))
    }
}

/// What of a user has always the same size.
const FIXED: usize = 29;

fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Result<&'b [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().context("a payload is cut off")?;
    *bytes = rest;
    Ok(taken)
}

#[derive(Clone, Copy)]
pub struct Json;

impl Encoding for Json {
    const PACKAGES: &'static [&'static str] = &["serde_json"];

    fn put_addends(a: i64, b: i64, out: &mut Vec<u8>) {
        put((a, b), out);
    }

    fn addends(bytes: &[u8]) -> Result<(i64, i64)> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn put_sum(sum: i64, out: &mut Vec<u8>) {
        put(sum, out);
    }

    fn sum(bytes: &[u8]) -> Result<i64> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn put_users(users: &[User], out: &mut Vec<u8>) {
        put(users, out);
    }

    fn users(bytes: &[u8]) -> Result<Vec<User>> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn put_payload(bytes: Bytes, out: &mut Vec<u8>) -> Option<Bytes> {
        put(Base64(bytes), out);
        None
    }

    fn payload(payload: Payload) -> Result<Bytes> {
        let Base64(bytes) = serde_json::from_slice(payload.as_ref())?;
        Ok(bytes)
    }

    fn put_range(from: u64, count: u64, out: &mut Vec<u8>) {
        put((from, count), out);
    }

    fn range(bytes: &[u8]) -> Result<(u64, u64)> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn put_number(number: u64, out: &mut Vec<u8>) {
        put(number, out);
    }

    fn number(bytes: &[u8]) -> Result<u64> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

fn put(value: impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("there is nothing in it that JSON can't say");
}
