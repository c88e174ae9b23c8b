//! What went wrong, and whether the function ran: [`Error`], [`Code`], [`Executed`], [`CallError`].

mod internal;

pub use self::internal::Internal;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_core::de::{DeserializeOwned, Error as _};
use serde_core::ser::SerializeStruct;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::address::Address;
use crate::limits_and_timeouts::Limit;
use crate::untrusted_text::excerpt;

/// What went wrong: gRPC's sixteen codes, in snake case on the wire.
///
/// | code | HTTP status | JSON-RPC | meant for |
/// | --- | --- | --- | --- |
/// | `cancelled` | 499 | -32001 | the caller went away |
/// | `unknown` | 500 | -32002 | an error without a better code |
/// | `invalid_argument` | 400 | -32602 | the request is wrong whatever the state of the server |
/// | `deadline_exceeded` | 504 | -32004 | the deadline passed first |
/// | `not_found` | 404 | -32005 | a thing the function was asked for is not there |
/// | `already_exists` | 409 | -32006 | a thing the function should make is there |
/// | `permission_denied` | 403 | -32007 | the caller is known and may not |
/// | `resource_exhausted` | 429 | -32008 | a limit or quota is used up |
/// | `failed_precondition` | 400 | -32009 | the system is not in the state that the function needs |
/// | `aborted` | 409 | -32010 | a conflict with another operation |
/// | `out_of_range` | 400 | -32011 | past the end of something |
/// | `unimplemented` | 404 | -32601 | no function of that name |
/// | `internal` | 500 | -32603 | a defect: a panic, an answer that can't be read |
/// | `unavailable` | 503 | -32014 | nobody answers, or not now |
/// | `data_loss` | 500 | -32015 | data is gone or corrupt |
/// | `unauthenticated` | 401 | -32016 | the caller is not known |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller gave the call up before it ended. A server answers it when its caller has gone, and nobody is
    /// expected to read it. If the time ran out, use [`DeadlineExceeded`](Code::DeadlineExceeded).
    ///
    /// HTTP status 499. Whether a caller may repeat the call depends on [`Error::executed`].
    Cancelled,
    /// No other code fits, or nothing is known about the error. A function's own error without a code has this one. If
    /// your own code is at fault, use [`Internal`](Code::Internal).
    ///
    /// HTTP status 500. A caller should not repeat the call: nothing says that it would help.
    Unknown,
    /// The arguments are wrong, whatever state the system is in. If they would be right in another state, use
    /// [`FailedPrecondition`](Code::FailedPrecondition); if a value is only past the end of something,
    /// [`OutOfRange`](Code::OutOfRange).
    ///
    /// HTTP status 400. A caller must change the arguments before it repeats the call.
    InvalidArgument,
    /// The time for the call ran out. The function may still be running, or may have succeeded. If a server refuses
    /// because it has too much to do, it uses [`Unavailable`](Code::Unavailable).
    ///
    /// HTTP status 504. A caller may repeat the call with more time if the function is idempotent.
    DeadlineExceeded,
    /// A thing that the caller asked for does not exist, such as a user of that id. If the function itself does not
    /// exist, the code is [`Unimplemented`](Code::Unimplemented). If the caller may not know whether it exists, use
    /// this and not [`PermissionDenied`](Code::PermissionDenied).
    ///
    /// HTTP status 404. A caller should not repeat the call.
    NotFound,
    /// A thing that the function should create exists. If two callers change the same thing at once, use
    /// [`Aborted`](Code::Aborted).
    ///
    /// HTTP status 409. A caller should not repeat the call; after a first attempt without an answer this often means
    /// success.
    AlreadyExists,
    /// The caller is known, and may not do this. If the caller is not known, use
    /// [`Unauthenticated`](Code::Unauthenticated); if it has used up its quota,
    /// [`ResourceExhausted`](Code::ResourceExhausted).
    ///
    /// HTTP status 403. A caller should not repeat the call with the same credentials.
    PermissionDenied,
    /// A limit or a quota is used up: too many calls, a message that is too large, a full disk. If the server as a
    /// whole can't serve now, use [`Unavailable`](Code::Unavailable).
    ///
    /// HTTP status 429, 413 if a message is too large. A caller may repeat the call later, after
    /// [`Error::retry_after`]; one whose message is too large must send less.
    ResourceExhausted,
    /// The system is not in the state that the function needs: an account has too little money, a directory is not
    /// empty. If a caller can repeat only this call with success, use [`Unavailable`](Code::Unavailable); if it must
    /// begin a longer sequence again, [`Aborted`](Code::Aborted).
    ///
    /// HTTP status 400. A caller must change the state before it repeats the call.
    FailedPrecondition,
    /// Another operation got in the way: a transaction failed, a version had changed. If no other operation was
    /// involved, use [`FailedPrecondition`](Code::FailedPrecondition).
    ///
    /// HTTP status 409. A caller may repeat the whole sequence, from reading the value that it wanted to change.
    Aborted,
    /// A value is past the end of something: a page after the last one, an offset behind the end of a file. Unlike
    /// [`InvalidArgument`](Code::InvalidArgument) it may become valid when the thing grows. A caller that reads until
    /// the end looks for this code.
    ///
    /// HTTP status 400. A caller should not repeat the call until the thing has changed.
    OutOfRange,
    /// There is no function of that name, or it does not support this. If the function exists and a thing does not, use
    /// [`NotFound`](Code::NotFound).
    ///
    /// HTTP status 404. A caller should not repeat the call: another version of the server would be needed.
    Unimplemented,
    /// Something is broken: the function panicked, or a value can't be encoded or decoded.
    /// [`Internal`](crate::Internal) gives it to every failure that callers can do nothing about. If data is lost, use
    /// [`DataLoss`](Code::DataLoss).
    ///
    /// HTTP status 500. A caller should not repeat the call; a person must look at the server's log.
    Internal,
    /// The service can't be reached, or can't serve now: nothing listens, the connection broke, the server stops. Among
    /// the codes for "not now" it is the one that asks for the same call again.
    ///
    /// HTTP status 503. A caller may repeat the call after a pause if [`Error::executed`] is `no` or the function is
    /// idempotent.
    Unavailable,
    /// Data is lost or corrupt, for good. If it is only not readable now, use [`Unavailable`](Code::Unavailable) or
    /// [`Internal`](Code::Internal).
    ///
    /// HTTP status 500. A caller should not repeat the call.
    DataLoss,
    /// The caller has no credentials, or they are not valid. If they are valid and don't suffice, use
    /// [`PermissionDenied`](Code::PermissionDenied).
    ///
    /// HTTP status 401. A caller may repeat the call with other credentials.
    Unauthenticated,
}

impl Code {
    /// All sixteen, in gRPC's order.
    pub const ALL: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The name on the wire, such as `"invalid_argument"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Cancelled => "cancelled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }
    }

    /// The HTTP status that an error of this code is answered with. For a function's own error it is 422 where this is 429, 499
    /// or 5xx.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::Cancelled => 499,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::DeadlineExceeded => 504,
            Code::NotFound | Code::Unimplemented => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::PermissionDenied => 403,
            Code::ResourceExhausted => 429,
            Code::Unavailable => 503,
            Code::Unauthenticated => 401,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
        }
    }

    /// The `error.code` that an error of this code bears in JSON-RPC: the specification's own where it has one, else
    /// -32000 less gRPC's number. A function's own error has -32000 whatever its code.
    pub const fn json_rpc_code(self) -> i32 {
        match self {
            Code::InvalidArgument => -32602,
            Code::Unimplemented => -32601,
            Code::Internal => -32603,
            Code::Cancelled => -32001,
            Code::Unknown => -32002,
            Code::DeadlineExceeded => -32004,
            Code::NotFound => -32005,
            Code::AlreadyExists => -32006,
            Code::PermissionDenied => -32007,
            Code::ResourceExhausted => -32008,
            Code::FailedPrecondition => -32009,
            Code::Aborted => -32010,
            Code::OutOfRange => -32011,
            Code::Unavailable => -32014,
            Code::DataLoss => -32015,
            Code::Unauthenticated => -32016,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the function ran. A call may be sent again without harm only after [`Executed::No`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executed {
    /// It provably did not start.
    No,
    /// The request may have arrived; nothing tells whether the function ran.
    Unknown,
    /// It started. Its effects, or some of them, may be there.
    Yes,
}

impl Executed {
    /// The name on the wire: `"no"`, `"unknown"` or `"yes"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Executed::No => "no",
            Executed::Unknown => "unknown",
            Executed::Yes => "yes",
        }
    }
}

/// Whose error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call failed: the network, a limit, the arguments, a panic.
    Rpc,
    /// The function itself returned `Err`. [`Error::data`] is its error.
    Method,
}

impl Kind {
    /// The name on the wire: `"rpc"` or `"method"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Rpc => "rpc",
            Kind::Method => "method",
        }
    }
}

/// Why a call failed: what ([`Error::code`]) and whether the function ran ([`Error::executed`]).
///
/// On the wire it is one JSON object, the same on every way in:
///
/// ```
/// use byname::{Code, Error};
///
/// let error = Error::new(Code::NotFound, "no user 7");
/// assert_eq!(
///     serde_json::to_string(&error).unwrap(),
///     r#"{"code":"not_found","message":"no user 7","executed":"unknown","kind":"rpc"}"#,
/// );
/// ```
///
/// A function may return it as its own error (`Result<T, byname::Error>`); then the caller sees this very code and
/// message, as [`CallError::Rpc`], with [`Executed::Yes`].
#[derive(Clone)]
pub struct Error(Box<ErrorRepr>);

#[derive(Clone)]
struct ErrorRepr {
    code: Code,
    message: Cow<'static, str>,
    executed: Executed,
    kind: Kind,
    data: Option<Value>,
    retry_after: Option<Duration>,
    limit: Option<Cow<'static, str>>,
    /// A repetition is of no use.
    is_final: bool,
    /// Nothing of the call was sent. Only the client that made the attempt knows that, so it is not on the wire.
    is_unsent: bool,
    /// The replica that an attempt went to, where there are several. Only the client that made the attempt knows it.
    replica: Option<Address>,
    /// It was read from an answer, and its text is that of the other side.
    is_of_peer: bool,
    /// This side could not read a value of the other one.
    is_unreadable: bool,
}

impl Error {
    /// An error of this code, for a function to return. Whether the function ran is [`Executed::Unknown`] until the
    /// error has crossed a hop; the caller of the function sees [`Executed::Yes`].
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(ErrorRepr {
            code,
            message: message.into(),
            executed: Executed::Unknown,
            kind: Kind::Rpc,
            data: None,
            retry_after: None,
            limit: None,
            is_final: false,
            is_unsent: false,
            replica: None,
            is_of_peer: false,
            is_unreadable: false,
        }))
    }

    /// The same error with a JSON value for the caller's program to read. `null` is no data.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Value>) -> Self {
        self.0.data = Some(data.into()).filter(|data| !data.is_null());
        self
    }

    /// The same error with advice when to try again; it is sent as `retry_after_ms` and as `retry-after`.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The same error for a cause that a repetition does not cure, now or soon. It is sent as `"retry": false`. Clients then
    /// don't repeat the call by themselves, also if the code is [`Unavailable`](Code::Unavailable) and the function is
    /// idempotent.
    ///
    /// ```
    /// use byname::{Code, Error, rpc};
    ///
    /// #[rpc(readonly)]
    /// async fn rates() -> Result<Vec<f64>, Error> {
    ///     Err(Error::new(Code::Unavailable, "closed for maintenance until Monday").without_retry())
    /// }
    /// ```
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.0.is_final = true;
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What went wrong, in words, and what to do next.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the function ran.
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// Whose error it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the other side attached: with [`Kind::Method`] the function's own error, which may be `null`.
    pub fn data(&self) -> Option<&Value> {
        self.0.data.as_ref()
    }

    /// When to try again, where the other side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// `false` if the other side said that a repetition is of no use ([`without_retry`](Self::without_retry)). A client also
    /// says so if it did not repeat the call because its [budget](crate::Client#when-a-call-is-repeated) was used up, or
    /// because it was serving a repetition: then callers further up don't multiply the load.
    ///
    /// `true` says only that nothing forbids a repetition, and not that it would help: it is also `true` for `invalid_argument` and
    /// `permission_denied`. Ask [`code`](Self::code) and [`executed`](Self::executed) too.
    pub fn allows_retry(&self) -> bool {
        !self.0.is_final
    }

    /// The field of [`Limits`](crate::Limits) that was exceeded, where it was a limit.
    pub fn limit(&self) -> Option<&str> {
        self.0.limit.as_deref()
    }

    pub(crate) fn executed_is(mut self, executed: Executed) -> Self {
        self.0.executed = executed;
        self
    }

    pub(crate) fn kind_is(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn data_is(mut self, data: Option<Value>) -> Self {
        self.0.data = data;
        self
    }

    pub(crate) fn of_limit(mut self, limit: Limit) -> Self {
        self.0.limit = Some(Cow::Borrowed(limit.as_str()));
        self
    }

    /// Nothing of the call was sent.
    pub(crate) fn unsent(mut self) -> Self {
        self.0.is_unsent = true;
        self.executed_is(Executed::No)
    }

    pub(crate) fn is_unsent(&self) -> bool {
        self.0.is_unsent
    }

    /// The attempt went to this replica, which is one of several.
    pub(crate) fn set_replica(&mut self, replica: Address) {
        self.0.replica = Some(replica);
    }

    pub(crate) fn replica(&self) -> Option<&Address> {
        self.0.replica.as_ref()
    }

    /// Whether its text is that of the other side.
    pub(crate) fn is_of_peer(&self) -> bool {
        self.0.is_of_peer
    }

    /// This side could not read a value of the other one.
    pub(crate) fn unreadable(mut self) -> Self {
        self.0.is_unreadable = true;
        self
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.0.is_unreadable
    }

    pub(crate) fn message_is(mut self, message: String) -> Self {
        self.0.message = Cow::Owned(message);
        self
    }

    /// The function did not run.
    pub(crate) fn refused(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, message).executed_is(Executed::No)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.code)?;
        // The other side wrote the message: on a terminal it must not move the cursor.
        let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
        for part in self.0.message.split_inclusive(is_harmful) {
            match part.chars().next_back() {
                Some(last) if is_harmful(last) => {
                    write!(f, "{}{}", &part[..part.len() - last.len_utf8()], last.escape_default())?;
                }
                _ => f.write_str(part)?,
            }
        }
        // The value of a function's own error, unless the message has it.
        match (self.0.kind, &self.0.data) {
            (Kind::Method, Some(data)) => {
                let data = excerpt(data, LONGEST_SHOWN);
                if !self.0.message.contains(&data) {
                    write!(f, " (the function returned {data})")?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// As its [`Display`](fmt::Display), which is what a person reads where `main` returns one.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// It has no source: the message says everything, and reports that print the sources behind it would say it twice.
impl std::error::Error for Error {}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ErrorRepr { code, message, executed, kind, data, retry_after, limit, is_final, .. } = &*self.0;
        let optional = [data.is_some(), retry_after.is_some(), limit.is_some(), *is_final];
        let len = 4 + optional.into_iter().filter(|given| *given).count();
        let mut members = serializer.serialize_struct("Error", len)?;
        members.serialize_field("code", code)?;
        members.serialize_field("message", message)?;
        members.serialize_field("executed", executed)?;
        members.serialize_field("kind", kind)?;
        match data {
            Some(data) => members.serialize_field("data", data)?,
            None => members.skip_field("data")?,
        }
        match retry_after {
            Some(after) => {
                members.serialize_field("retry_after_ms", &u64::try_from(after.as_millis()).unwrap_or(u64::MAX))?
            }
            None => members.skip_field("retry_after_ms")?,
        }
        match limit {
            Some(limit) => members.serialize_field("limit", limit)?,
            None => members.skip_field("limit")?,
        }
        match is_final {
            true => members.serialize_field("retry", &false)?,
            false => members.skip_field("retry")?,
        }
        members.end()
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut code, mut message, mut executed, mut kind) = (None, None, None, None);
        let (mut data, mut retry_after, mut limit, mut is_final) = (None, None, None, false);
        for (name, value) in Map::deserialize(deserializer)? {
            let read = match name.as_str() {
                "code" => into(&mut code, value),
                "message" => into(&mut message, value),
                "executed" => into(&mut executed, value),
                "kind" => into(&mut kind, value),
                "retry_after_ms" => into(&mut retry_after, value),
                "limit" => into::<String>(&mut limit, value),
                "data" => into(&mut data, value),
                "retry" => {
                    is_final = value == false;
                    Ok(())
                }
                _ => Ok(()),
            };
            read.map_err(|why| D::Error::custom(format_args!("`{name}`: {why}")))?;
        }
        // The own error of a function is there even where it is `null`.
        let data = data.or_else(|| (kind == Some(Kind::Method)).then_some(Value::Null));
        Ok(Self(Box::new(ErrorRepr {
            code: code.ok_or_else(|| D::Error::missing_field("code"))?,
            message: message.map(Cow::Owned).ok_or_else(|| D::Error::missing_field("message"))?,
            executed: executed.ok_or_else(|| D::Error::missing_field("executed"))?,
            kind: kind.ok_or_else(|| D::Error::missing_field("kind"))?,
            data,
            retry_after: retry_after.map(Duration::from_millis),
            limit: limit.map(Cow::Owned),
            is_final,
            is_unsent: false,
            replica: None,
            is_of_peer: true,
            is_unreadable: false,
        })))
    }
}

/// Reads a member; `null` is none.
fn into<T: DeserializeOwned>(member: &mut Option<T>, value: Value) -> Result<(), serde_json::Error> {
    *member = Option::deserialize(value)?;
    Ok(())
}

/// Derived code for these three would cost every user's build more than all of them are worth.
macro_rules! words {
    ($($type:ident: $what:literal, $all:expr;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                let known = $all.into_iter().find(|known| known.as_str() == word);
                known.ok_or_else(|| D::Error::custom(format_args!("`{word}` is not {}", $what)))
            }
        }
    )*};
}

words! {
    Code: "a code", Code::ALL;
    Executed: "`no`, `unknown` or `yes`", [Executed::No, Executed::Unknown, Executed::Yes];
    Kind: "`rpc` or `method`", [Kind::Rpc, Kind::Method];
}

/// What a function's own error says to callers that don't know its type: a [`Code`], and a message in words.
///
/// The derive macro of the same name takes the code from `#[code(…)]`, and the message from `Display`:
///
/// ```
/// use std::fmt;
///
/// use byname::{Code, MethodError};
///
/// #[derive(Debug, serde::Serialize, serde::Deserialize, MethodError)]
/// enum BankError {
///     #[code(not_found)]
///     NoSuchAccount(u64),
///     #[code(failed_precondition)]
///     Overdrawn { missing: u64 },
/// }
///
/// impl fmt::Display for BankError {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         match self {
///             BankError::NoSuchAccount(id) => write!(f, "there is no account {id}"),
///             BankError::Overdrawn { missing } => write!(f, "{missing} are missing"),
///         }
///     }
/// }
///
/// assert_eq!(BankError::NoSuchAccount(7).code(), Code::NotFound);
/// assert_eq!(BankError::NoSuchAccount(7).message().unwrap(), "there is no account 7");
/// ```
///
/// The code gives the HTTP status too, by [the table](Code), but 422 where that would be 429, 499 or 5xx: proxies and clients
/// would repeat a call whose function ran. The value goes out whole in any case, as [`data`](Error::data).
///
/// A type without this trait has the code [`Code::Unknown`], and its message is the beginning of its value as JSON: a text that
/// its author did not mean for callers is not sent.
///
/// The [derive macro](macro@crate::MethodError) lists its attributes.
pub trait MethodError {
    /// The code.
    fn code(&self) -> Code;

    /// What people read, at most 4,096 bytes. `None` stands for the beginning of the value as JSON, at most 256 bytes.
    fn message(&self) -> Option<String> {
        None
    }
}

/// What a function's own error says beside its value.
#[derive(Debug)]
pub struct MethodErrorSummary {
    /// [`MethodError::code`].
    pub code: Code,
    /// [`MethodError::message`].
    pub message: Option<String>,
}

impl MethodErrorSummary {
    /// Of an error that is no [`MethodError`].
    pub(crate) fn of_any<E>(_: &E) -> Self {
        Self { code: Code::Unknown, message: None }
    }
}

/// Why a call of a function that itself returns `Result<T, E>` failed, or a call by name, whose `E` is a JSON value.
///
/// `?` turns it into a `Box<dyn Error>`, an [`Internal`](crate::Internal), or an error of yours that says how:
///
/// ```
/// use byname::{CallError, Client, Error, rpc};
///
/// #[rpc]
/// async fn charge(card: String) -> Result<u64, String>;
///
/// enum OrderError { NotCharged(String), Rpc(Error) }
///
/// impl From<CallError<String>> for OrderError {
///     fn from(error: CallError<String>) -> Self {
///         match error {
///             CallError::Method(why) => OrderError::NotCharged(why),
///             CallError::Rpc(error) => OrderError::Rpc(error),
///         }
///     }
/// }
///
/// async fn order(payments: &Client) -> Result<u64, OrderError> {
///     Ok(charge::on(payments, "1234".into()).await?)
/// }
/// ```
///
/// It does not become an [`Error`], which has no place for the function's own. Where `E` is [`Error`] too, such a call
/// fails with `Rpc` only, and `?` makes one of both.
///
/// Its `Display` shows the function's own error as `Debug` does, or as JSON after a call by name, at most 1,024 bytes of it.
#[derive(Clone, PartialEq)]
pub enum CallError<E> {
    /// The function ran and returned this.
    Method(E),
    /// The call failed. [`Error::executed`] says whether the function ran.
    Rpc(Error),
}

impl<E> CallError<E> {
    /// The call's own failure, unless the function returned the error.
    pub fn rpc(&self) -> Option<&Error> {
        match self {
            CallError::Method(_) => None,
            CallError::Rpc(error) => Some(error),
        }
    }

    /// The function's own error, unless the call failed.
    pub fn method(&self) -> Option<&E> {
        match self {
            CallError::Method(error) => Some(error),
            CallError::Rpc(_) => None,
        }
    }

    /// Whether the function ran.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::Method(_) => Executed::Yes,
            CallError::Rpc(error) => error.executed(),
        }
    }
}

impl CallError<Value> {
    /// Types the function's own error, after a call by name. A value that is no `E` becomes an [`Error`] of code
    /// `internal` that says so and keeps the value as its [`data`](Error::data).
    pub fn error<E: DeserializeOwned>(self) -> CallError<E> {
        match self {
            CallError::Rpc(error) => CallError::Rpc(error),
            CallError::Method(value) => match E::deserialize(&value) {
                Ok(error) => CallError::Method(error),
                Err(why) => CallError::Rpc(
                    Error::new(
                        Code::Internal,
                        format!(
                            "the function's own error is not of type `{}`: {why}; name the type that it returns",
                            std::any::type_name::<E>()
                        ),
                    )
                    .executed_is(Executed::Yes)
                    .kind_is(Kind::Method)
                    .data_is(Some(value)),
                ),
            },
        }
    }
}

impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        CallError::Rpc(error)
    }
}

/// A function whose own error is [`Error`] fails with that and nothing else, so `?` passes its failure on in another
/// such function.
impl<E: BynameError> From<CallError<E>> for Error {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Method(error) => error.into_rpc(),
            CallError::Rpc(error) => error,
        }
    }
}

/// What a function's own error must be for `?` to make an [`Error`] of its [`CallError`]. Of the words here `rustc` shows the
/// name and the label only.
#[diagnostic::on_unimplemented(
    message = "the function's own error `{Self}` can't become a `byname::Error`",
    label = "`byname::Error` has no place for `{Self}`: match on `CallError::Method` and `CallError::Rpc`, or return \
             `byname::Internal`, `Box<dyn Error>` or an error of your own that is `From<CallError<{Self}>>`"
)]
pub trait BynameError {
    #[doc(hidden)]
    fn into_rpc(self) -> Error;
}

impl BynameError for Error {
    fn into_rpc(self) -> Error {
        self
    }
}

/// The most bytes that are printed of a function's own error.
const LONGEST_SHOWN: usize = 1024;

/// The function's own error, be it of its type or as JSON, escaped and bounded: the other side wrote it.
fn shown<E: fmt::Debug + 'static>(error: &E) -> String {
    match (error as &dyn Any).downcast_ref::<Value>() {
        Some(value) => excerpt(value, LONGEST_SHOWN),
        None => excerpt(format_args!("{error:?}"), LONGEST_SHOWN),
    }
}

impl<E: fmt::Debug + 'static> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Method(error) => write!(f, "the function returned {}", shown(error)),
            CallError::Rpc(error) => error.fmt(f),
        }
    }
}

/// As [`Error`]'s.
impl<E: fmt::Debug + 'static> fmt::Debug for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Method(_) => fmt::Display::fmt(self, f),
            CallError::Rpc(error) => fmt::Debug::fmt(error, f),
        }
    }
}

/// It has no source: its `Display` says everything, and reports that print the sources behind it would say it twice.
impl<E: fmt::Debug + 'static> std::error::Error for CallError<E> {}

impl PartialEq for Error {
    /// Equal when they say the same on the wire.
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        a.code == b.code
            && a.message == b.message
            && a.executed == b.executed
            && a.kind == b.kind
            && a.data == b.data
            && a.retry_after == b.retry_after
            && a.limit == b.limit
            && a.is_final == b.is_final
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_on_the_wire_as_they_are_in_text() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.http_status()), "{code} would not look like an error");
        }
        // -32000 is a function's own error, -32600 and -32700 are what can't be read.
        let taken = [-32000, -32600, -32700].into_iter().chain(Code::ALL.map(Code::json_rpc_code));
        assert_eq!(taken.collect::<std::collections::BTreeSet<_>>().len(), 3 + Code::ALL.len());
    }

    #[test]
    fn a_failing_main_prints_a_readable_error() {
        let error = Error::new(Code::Unavailable, "can't connect to data:80");
        let expected = "unavailable: can't connect to data:80";
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(format!("{:?}", CallError::<u8>::Rpc(error)), expected);
        assert_eq!(format!("{:?}", CallError::Method("gone")), "the function returned \"gone\"");
        let internal = format!("{:?}", Internal::from(std::io::Error::other("the disk is full")));
        assert!(internal.starts_with("internal: the function failed"), "{internal}");
        assert!(internal.ends_with("\ncaused by: the disk is full"), "{internal}");
    }

    #[test]
    fn an_error_crosses_the_wire_whole() {
        let error = Error::refused(Code::ResourceExhausted, "too many")
            .with_data(serde_json::json!({"now": 7}))
            .with_retry_after(Duration::from_millis(250))
            .of_limit(Limit::InFlight);
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&text).unwrap(), error);
        assert!(error.allows_retry() && !text.contains("\"retry\""), "{text}");
        let error = error.without_retry();
        let text = serde_json::to_string(&error).unwrap();
        assert!(text.ends_with(r#""limit":"in_flight","retry":false}"#), "{text}");
        assert_eq!(serde_json::from_str::<Error>(&text).unwrap(), error);
    }

    #[test]
    fn only_false_says_that_a_repetition_is_of_no_use() {
        for (said, allows) in [("false", false), ("true", true), ("null", true), ("\"soon\"", true), ("0", true)] {
            let text = format!(r#"{{"code":"unavailable","message":"m","executed":"no","kind":"rpc","retry":{said}}}"#);
            assert_eq!(serde_json::from_str::<Error>(&text).unwrap().allows_retry(), allows, "{said}");
        }
    }

    #[test]
    fn an_error_is_read_by_its_members() {
        let read = |text: &str| serde_json::from_str::<Error>(text).map_err(|why| why.to_string());
        let least = r#""code":"aborted","message":"m","executed":"no","kind":"method""#;
        let own = Error::new(Code::Aborted, "m").executed_is(Executed::No).kind_is(Kind::Method);
        let own = own.data_is(Some(Value::Null));
        let ours = Error::refused(Code::Aborted, "m");
        for (least, known) in [(least.to_owned(), own), (least.replace("method", "rpc"), ours)] {
            assert_eq!(read(&format!("{{{least}}}")), Ok(known.clone()));
            assert_eq!(read(&format!(r#"{{"newer":[1],"data":null,"limit":null,{least}}}"#)), Ok(known));
        }
        for (text, words) in [
            (least.replace("aborted", "teapot"), "`code`: `teapot` is not a code"),
            (least.replace("no", "maybe"), "`executed`: `maybe` is not `no`, `unknown` or `yes`"),
            (least.replace("\"m\"", "1"), "`message`: invalid type"),
            (least.replace("kind", "sort"), "missing field `kind`"),
            (format!(r#"{least},"retry_after_ms":-1"#), "`retry_after_ms`: invalid value"),
        ] {
            let why = read(&format!("{{{text}}}")).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
        assert!(read(r#"["aborted","m","no","method"]"#).is_err());
    }

    #[test]
    fn a_functions_own_error_is_printed_as_it_is_written_in_json_or_rust() {
        let value = serde_json::json!({"NotFound": {"id": 7, "name": "\u{1b}[2J\u{202e}"}});
        let by_name = CallError::Method(value.clone());
        let expected = r#"{"NotFound":{"id":7,"name":"\u001b[2J\u{202e}"}}"#;
        assert_eq!(by_name.to_string(), format!("the function returned {expected}"));
        assert_eq!(format!("{by_name:?}"), by_name.to_string());
        assert_eq!(CallError::Method(Some(7)).to_string(), "the function returned Some(7)");

        let untyped = Error::new(Code::NotFound, "no user 7").kind_is(Kind::Method).data_is(Some(value));
        assert_eq!(untyped.to_string(), format!("not_found: no user 7 (the function returned {expected})"));
        let said = format!("`f` returned its own error: {expected}");
        let once = Error(Box::new(ErrorRepr { message: said.clone().into(), ..(*untyped.0).clone() }));
        assert_eq!(once.to_string(), format!("not_found: {said}"), "the data is printed once");

        let long = CallError::Method(Value::from("x".repeat(2000))).to_string();
        assert_eq!(long, format!("the function returned \"{}…", "x".repeat(1023)));
        let long = CallError::Method("x".repeat(2000)).to_string();
        assert_eq!(long, format!("the function returned \"{}…", "x".repeat(1023)));
    }

    #[test]
    fn a_value_of_another_type_is_kept_as_data() {
        let error = CallError::Method(serde_json::json!("gone")).error::<u32>();
        let rpc = error.rpc().expect("a string is no u32");
        assert_eq!((rpc.code(), rpc.executed()), (Code::Internal, Executed::Yes));
        assert_eq!(rpc.data(), Some(&serde_json::json!("gone")));
    }
}
