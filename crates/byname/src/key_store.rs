//! Where the replies of calls with a key are kept: [`KeyStore`], and what is kept: [`StoredReply`].

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_core::Serialize;
use serde_json::{Map, Value, json};

use crate::codec::{self, Codec};
use crate::error::{Code, Error, Executed};
use crate::idempotency_key::IdempotencyKey;
use crate::metadata;
use crate::outcome::{Failure, Returned, ReturnedValue};
use crate::request::Reply;
use crate::wire::{Way, WireError, plain_format, read_error, reply};

/// Keeps the replies of calls with an [`IdempotencyKey`], for [`Server::key_store`](crate::Server::key_store): in a database,
/// so that they outlive the server. The server itself makes duplicates wait that come while the first call runs.
///
/// A server asks [`claim`](Self::claim) first. If the answer is [`KeyClaim::Run`] it runs the function, and then calls
/// [`complete`](Self::complete) with the reply. If the function was not run after all, because the call was refused, it calls
/// [`release`](Self::release). A store that panics, or has not answered after [`Limits::call`](crate::Limits::call), counts as
/// one that has answered with an error.
///
/// If the process ends between the work of the function and `complete`, the work is done and its reply is not stored. So a
/// function whose work is in the same database stores the reply itself, in one transaction with its work:
/// [`Context::idempotency_key`](crate::Context::idempotency_key) gives the key, and [`StoredReply::success`] makes the
/// reply. `complete` then finds that it is there. `examples/transfers` in the repository does it with SQLite.
pub trait KeyStore: Send + Sync + 'static {
    /// Whether the call with this key is to be run. An error refuses the call, which may be sent again.
    fn claim<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, KeyClaim>;

    /// The function has run. The reply is stored, unless there is one for this key. After an error the reply is kept in the
    /// memory of the server, as without a store.
    fn complete<'a>(&'a self, key: &'a IdempotencyKey, reply: &'a StoredReply) -> KeyStoreFuture<'a, ()>;

    /// The function was not run, or has changed nothing ([`IdempotencyKey::release`]). A store that has noted the claim removes it. By default nothing is done.
    fn release<'a>(&'a self, key: &'a IdempotencyKey) -> KeyStoreFuture<'a, ()> {
        let _ = key;
        Box::pin(async { Ok(()) })
    }

    /// Whether every server of the service uses the same store, and it outlives them. Then a client may repeat a call at another
    /// server, and at one that has restarted. `true` unless this says otherwise.
    fn is_shared(&self) -> bool {
        true
    }
}

/// An answer of a [`KeyStore`], when it is there. An error is shown in the log.
pub type KeyStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// What a [`KeyStore`] says of the call with a key.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyClaim {
    /// No call with the key has run: the function is run now.
    Run,
    /// The call has run, and this is its reply.
    Reply(StoredReply),
    /// Another server runs it now. The caller gets `unavailable` and may ask again.
    RunsElsewhere,
}

/// The reply of a call with a key.
#[derive(Clone)]
pub struct StoredReply {
    arguments: [u8; 20],
    outcome: StoredOutcome,
    metadata: HeaderMap,
}

#[derive(Clone)]
enum StoredOutcome {
    Value(Codec, Bytes),
    Method { error: Error, codec: Codec, data: Bytes },
    Rpc(Error),
}

impl StoredReply {
    /// The reply of a function that returns this value, or `Ok` with this value: what a function stores itself, in one
    /// transaction with its work.
    ///
    /// # Errors
    ///
    /// `internal` if the value can't be encoded.
    pub fn success<T: Serialize + ?Sized>(key: &IdempotencyKey, value: &T) -> Result<Self, Error> {
        let mut text = Vec::new();
        codec::encode(Codec::Json, value, &mut text).map_err(|why| {
            Error::new(Code::Internal, format!("the reply can't be stored because it can't be encoded: {why}"))
        })?;
        let outcome = StoredOutcome::Value(Codec::Json, text.into());
        Ok(Self { arguments: key.arguments(), outcome, metadata: HeaderMap::new() })
    }

    /// The reply as bytes, for a store. They are a JSON object, which later versions of byname can read.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut headers = Map::new();
        for name in self.metadata.keys() {
            let values = self.metadata.get_all(name).iter().filter_map(|value| value.to_str().ok());
            headers.insert(name.as_str().to_owned(), values.collect());
        }
        let arguments: String = self.arguments.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = match self.reply(Codec::Json).result {
            Ok(Returned::Value(value)) => plain_format::success(&value.into_json().unwrap_or_default()).body,
            Ok(Returned::Stream(_)) => unreachable!("a stream is not stored"),
            Err(failure) => WireError::from(failure).answer(Way::Plain, StatusCode::OK).body,
        };
        let mut text = json!({ "arguments": arguments, "headers": headers }).to_string().into_bytes();
        text.pop();
        text.extend_from_slice(b",\"reply\":");
        text.extend_from_slice(&body);
        text.push(b'}');
        text
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    ///
    /// `data_loss` if these bytes are no stored reply.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).ok_or_else(|| {
            let why = "the stored reply can't be read; expected what `StoredReply::to_bytes` has written";
            Error::new(Code::DataLoss, why).executed_is(Executed::Yes)
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let entries = codec::entries(Codec::Json, bytes)?;
        let member = |name: &str| entries.iter().find(|(member, _)| member == name).map(|(_, value)| *value);
        let text: String = codec::decode(Codec::Json, member("arguments")?).ok()?;
        let mut arguments = [0; 20];
        if text.len() != 2 * arguments.len() || !text.is_ascii() {
            return None;
        }
        for (at, byte) in arguments.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        let headers: Map<String, Value> = codec::decode(Codec::Json, member("headers")?).ok()?;
        let mut metadata = HeaderMap::new();
        for (name, values) in headers {
            for value in values.as_array()? {
                metadata.append(HeaderName::try_from(&name).ok()?, HeaderValue::try_from(value.as_str()?).ok()?);
            }
        }
        let body = Bytes::copy_from_slice(member("reply")?);
        let status = match &codec::entries(Codec::Json, &body)?[..] {
            [(name, _)] if name == "ret" => StatusCode::OK,
            [(name, error)] if name == "err" && read_error(error).is_ok() => StatusCode::INTERNAL_SERVER_ERROR,
            _ => return None,
        };
        let outcome = match reply(Way::Plain, "", status, None, &HeaderMap::new(), &body) {
            Ok(value) => StoredOutcome::Value(Codec::Json, value),
            Err(Failure::Method { error, data: ReturnedValue::Encoded(codec, data) }) => {
                StoredOutcome::Method { error, codec, data }
            }
            Err(Failure::Rpc(error)) => StoredOutcome::Rpc(error),
            Err(Failure::Method { .. }) => unreachable!("a reply over HTTP is encoded"),
        };
        Some(Self { arguments, outcome, metadata })
    }

    /// The reply of a call with this key.
    pub(crate) fn of(key: &IdempotencyKey, reply: Reply) -> Self {
        let Reply { result, metadata } = reply;
        let outcome = match result {
            Ok(Returned::Value(ReturnedValue::Encoded(codec, value))) => StoredOutcome::Value(codec, value),
            Ok(Returned::Value(ReturnedValue::Parts(codec, parts))) => StoredOutcome::Value(codec, parts.join()),
            Err(Failure::Method { error, data: ReturnedValue::Encoded(codec, data) }) => {
                StoredOutcome::Method { error, codec, data }
            }
            Err(Failure::Rpc(error)) => StoredOutcome::Rpc(error),
            Ok(Returned::Stream(_)) => unreachable!("a call with a key that streams is refused"),
            Ok(Returned::Value(ReturnedValue::Local(_))) | Err(Failure::Method { .. }) => {
                unreachable!("the arguments of a call with a key are encoded, so its result is")
            }
        };
        Self { arguments: key.arguments(), outcome, metadata }
    }

    /// The reply to a caller that reads this codec.
    pub(crate) fn reply(&self, codec: Codec) -> Reply {
        let value = |from: Codec, value: &Bytes| {
            let converted = match (from, codec) {
                (Codec::Json, Codec::MessagePack) => codec::to_message_pack(value),
                (Codec::MessagePack, Codec::Json) => codec::to_json(value),
                _ => return Ok(ReturnedValue::Encoded(codec, value.clone())),
            };
            converted.map(|value| ReturnedValue::Encoded(codec, value.into())).map_err(|why| {
                let why = format!("the call ran before, but its reply can't be converted for this caller: {why}");
                Failure::Rpc(Error::new(Code::Internal, why).executed_is(Executed::Yes))
            })
        };
        let result = match &self.outcome {
            StoredOutcome::Value(from, bytes) => value(*from, bytes).map(Returned::Value),
            StoredOutcome::Method { error, codec, data } => {
                value(*codec, data).and_then(|data| Err(Failure::Method { error: error.clone(), data }))
            }
            StoredOutcome::Rpc(error) => Err(Failure::Rpc(error.clone())),
        };
        Reply { result, metadata: self.metadata.clone() }
    }

    /// Whether the function has run.
    pub(crate) fn has_run(&self) -> bool {
        !matches!(&self.outcome, StoredOutcome::Rpc(error) if error.executed() == Executed::No)
    }

    /// Whether it is the reply to a call with the arguments of this one.
    pub(crate) fn has_arguments_of(&self, key: &IdempotencyKey) -> bool {
        self.arguments == key.arguments()
    }

    /// How many bytes it takes, about.
    pub(crate) fn size(&self) -> usize {
        let outcome = match &self.outcome {
            StoredOutcome::Value(_, value) => value.len(),
            StoredOutcome::Method { error, data, .. } => error.message().len() + data.len(),
            StoredOutcome::Rpc(error) => error.message().len(),
        };
        outcome + metadata::size(&self.metadata)
    }
}

/// It shows no value, which may be secret.
impl fmt::Debug for StoredReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredReply").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> IdempotencyKey {
        IdempotencyKey::new("pay", "anonymous", "k", [7; 20])
    }

    fn text(reply: &StoredReply) -> String {
        match reply.reply(Codec::Json).result {
            Ok(Returned::Value(value)) => String::from_utf8(value.into_json().unwrap().to_vec()).unwrap(),
            Ok(Returned::Stream(_)) => panic!("it is no stream"),
            Err(Failure::Rpc(error)) => format!("rpc {error}"),
            Err(Failure::Method { error, data }) => {
                format!("method {error} {}", String::from_utf8(data.into_json().unwrap().to_vec()).unwrap())
            }
        }
    }

    #[test]
    fn a_stored_reply_is_read_as_it_was_written() {
        let metadata = HeaderMap::from_iter([(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]);
        let value =
            |codec, bytes: &'static [u8]| Ok(Returned::Value(ReturnedValue::Encoded(codec, Bytes::from_static(bytes))));
        let own = Error::new(Code::NotFound, "no such account").executed_is(Executed::Yes);
        let data = ReturnedValue::Encoded(Codec::Json, Bytes::from_static(b"{\"account\":7}"));
        for result in [
            value(Codec::Json, b"{\"a\":[1,2]}"),
            value(Codec::MessagePack, &[0x93, 1, 2, 0xc0]),
            Err(Failure::Rpc(own.clone())),
            Err(Failure::Method { error: own.kind_is(crate::error::Kind::Method), data }),
        ] {
            let stored = StoredReply::of(&key(), Reply { result, metadata: metadata.clone() });
            let read = StoredReply::from_bytes(&stored.to_bytes()).unwrap();
            assert_eq!(text(&read), text(&stored));
            assert_eq!((read.metadata.clone(), read.arguments), (metadata.clone(), [7; 20]));
            assert!(read.has_run() && read.has_arguments_of(&key()));
        }
        let own = StoredReply::success(&key(), &[1, 2]).unwrap();
        assert_eq!(text(&StoredReply::from_bytes(&own.to_bytes()).unwrap()), "[1,2]");
        let Ok(Returned::Value(ReturnedValue::Encoded(Codec::MessagePack, packed))) =
            own.reply(Codec::MessagePack).result
        else {
            panic!("it is a value in MessagePack")
        };
        assert_eq!(packed[..], [0x92, 1, 2]);
    }

    #[test]
    fn other_bytes_are_no_stored_reply() {
        let arguments = "07".repeat(20);
        for wrong in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"arguments":"{arguments}","headers":{{}},"reply":{{}}}}"#),
            format!(r#"{{"arguments":"{arguments}","headers":{{}},"reply":3}}"#),
            r#"{"arguments":"07","headers":{},"reply":{"ret":1}}"#.to_owned(),
            format!(r#"{{"arguments":"{}","headers":{{}},"reply":{{"ret":1}}}}"#, "x".repeat(40)),
            format!(r#"{{"arguments":"{arguments}","headers":[],"reply":{{"ret":1}}}}"#),
        ] {
            assert_eq!(StoredReply::from_bytes(wrong.as_bytes()).unwrap_err().code(), Code::DataLoss, "{wrong}");
        }
    }
}
