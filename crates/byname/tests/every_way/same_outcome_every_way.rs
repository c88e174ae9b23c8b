//! One table of calls, each made by every way and in every codec. The outcome must not change when a client changes to frames.
//!
//! Each row says the outcome of its call. The functions are called often enough that a connection of frames polls them
//! inline as well.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use crate::harness::foreign::{Foreign, answer, frame};
use crate::harness::unix::UnixRunning;
use crate::harness::{Caller, Running, Served, Tap, peer, post, post_with, raw, within, without_comparison};
use byname::{
    Call, CallError, Client, Code, Codec, Context, Error, Internal, Limits, MethodError, Next, Request, Server,
    Streaming, Transport, rpc,
};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::yield_now;

/// A way of calling.
struct Way {
    name: String,
    /// A client for each call, or always the same.
    client: Box<dyn Fn() -> Client>,
    /// A connection of frames polls a function inline from about the ninth call.
    rounds: usize,
    is_encoded: bool,
    /// What it needs to stay open.
    open: Option<(Box<dyn Served>, Option<Tap>)>,
}

type Came = Pin<Box<dyn Future<Output = String> + Send>>;

/// A call and its outcome, as text.
struct Row {
    name: String,
    call: Box<dyn Fn(Client) -> Came>,
    expected: String,
    /// Not for a client in the process that hands values over as they are.
    needs_encoding: bool,
}

impl Row {
    fn encoded(self) -> Self {
        Self { needs_encoding: true, ..self }
    }
}

fn row<F: Future<Output = String> + Send + 'static>(
    name: impl Into<String>,
    call: impl Fn(Client) -> F + 'static,
    expected: impl Into<String>,
) -> Row {
    let (name, expected) = (name.into(), expected.into());
    Row { name, call: Box::new(move |client| Box::pin(call(client))), expected, needs_encoding: false }
}

/// An error of the call itself, with everything that programs may go by.
fn shown(error: &Error) -> String {
    let (code, executed, kind, limit) = (error.code(), error.executed(), error.kind(), error.limit());
    let (message, data, after) = (without_comparison(error), error.data(), error.retry_after());
    format!("{code}, {executed:?}, {kind:?}, {limit:?}, {after:?}, {data:?}: {message}")
}

/// What a call of a function that returns a `Result` came to.
fn told<T: Debug, E: Debug>(result: Result<T, CallError<E>>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(CallError::Method(error)) => format!("own error: {error:?}"),
        Err(CallError::Rpc(error)) => shown(&error),
    }
}

/// What a call of another function came to.
fn said<T: Debug>(result: Result<T, Error>) -> String {
    result.map_or_else(|error| shown(&error), |value| format!("{value:?}"))
}

fn own<E: Debug>(error: E) -> String {
    format!("own error: {error:?}")
}

/// Ours, of a function that did not run.
fn refused(code: Code, message: &str) -> String {
    format!("{code}, No, Rpc, None, None, None: {message}")
}

/// Ours, of a function that ran.
fn ran(code: Code, message: &str) -> String {
    format!("{code}, Yes, Rpc, None, None, None: {message}")
}

// Own errors: each is returned by a function, by a stream as its first item, and behind an item.

#[derive(Debug, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Serialize, Deserialize)]
struct Wrapped(Option<()>);

#[derive(Debug, Serialize, Deserialize)]
struct Fields {
    none: Option<u8>,
    unit: (),
    list: Vec<Option<Unit>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Shapes {
    Bare,
    One(Option<u8>),
    Two(u8, ()),
    Named { why: Option<String> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Tagged {
    Nothing,
    Of(Option<u8>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Nothing,
    Text(String),
}

/// An error whose code is not the usual one.
#[derive(Debug, Serialize, Deserialize)]
struct Coded;

impl MethodError for Coded {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

/// Looks like what byname writes of its own errors.
#[derive(Debug, Serialize, Deserialize)]
struct Alike {
    code: String,
    message: String,
    executed: String,
    kind: String,
    data: Option<u8>,
}

fn alike() -> Alike {
    let [code, message, executed, kind] = ["aborted", "m", "no", "rpc"].map(str::to_owned);
    Alike { code, message, executed, kind, data: None }
}

macro_rules! own_errors {
    ($($at_once:ident, $first:ident, $behind:ident: ($($type:tt)+) = $value:expr;)*) => {
        $(
            #[rpc]
            async fn $at_once() -> Result<u8, $($type)+> {
                Err($value)
            }

            #[rpc]
            fn $first() -> impl Stream<Item = Result<u8, $($type)+>> {
                stream::iter([Err($value)])
            }

            #[rpc]
            fn $behind() -> impl Stream<Item = Result<u8, $($type)+>> {
                stream::iter([Ok(1), Err($value)])
            }
        )*

        /// The same functions for callers that don't know that they can fail.
        mod untyped {
            $(
                #[byname::rpc]
                pub(super) async fn $at_once() -> u8;
            )*
        }

        fn serve_own_errors(server: Server) -> Server {
            server$(.method::<$at_once>().method::<$first>().method::<$behind>())*
        }

        fn own_errors() -> Vec<Row> {
            let mut rows = Vec::new();
            $(
                let by_name = format!("own error: {:?}", serde_json::to_value($value).unwrap());
                let name = stringify!($at_once);
                rows.push(row(name, |client| async move { told($at_once::on(&client).await) }, own($value)));
                rows.push(row(
                    concat!(stringify!($at_once), " by name"),
                    move |client| async move { told(client.call::<u8>(name, ()).await) },
                    by_name.clone(),
                ));
                rows.push(row(
                    concat!(stringify!($at_once), " by name, typed later"),
                    move |client| async move {
                        told(client.call::<u8>(name, ()).await.map_err(CallError::error::<$($type)+>))
                    },
                    own($value),
                ));
                let json = serde_json::to_string(&$value).unwrap();
                // What JSON leaves as it is and a terminal would not.
                let json = json.replace('\u{2028}', r"\u{2028}").replace('\u{7f}', r"\u{7f}");
                let message = format!("`{name}` returned its own error: {json}");
                rows.push(row(
                    concat!(stringify!($at_once), ", its message"),
                    |client| async move { untyped::$at_once::on(&client).await.unwrap_err().message().to_owned() },
                    message,
                ));
                rows.push(row(
                    stringify!($first),
                    |client| async move {
                        let mut items = $first::on(&client);
                        let first = told(items.next().await.unwrap());
                        format!("{first}, then {:?}", items.next().await.map(told))
                    },
                    format!("{}, then None", own($value)),
                ));
                rows.push(row(
                    stringify!($behind),
                    |client| async move {
                        let mut items = $behind::on(&client);
                        let first = told(items.next().await.unwrap());
                        let second = told(items.next().await.unwrap());
                        format!("{first}, {second}, then {:?}", items.next().await.map(told))
                    },
                    format!("1, {}, then None", own($value)),
                ));
                rows.push(row(
                    concat!(stringify!($behind), " by name"),
                    |client| async move {
                        let mut items = client.stream::<u8>(stringify!($behind), ());
                        let first = told(items.next().await.unwrap());
                        format!("{first}, {}", told(items.next().await.unwrap()))
                    },
                    format!("1, {by_name}"),
                ));
            )*
            rows
        }
    };
}

own_errors! {
    unit, unit_first, unit_behind: (()) = ();
    unit_struct, unit_struct_first, unit_struct_behind: (Unit) = Unit;
    none, none_first, none_behind: (Option<String>) = None::<String>;
    some, some_first, some_behind: (Option<String>) = Some("why".to_owned());
    wrapped, wrapped_first, wrapped_behind: (Wrapped) = Wrapped(None);
    boxed, boxed_first, boxed_behind: (Box<()>) = Box::new(());
    null, null_first, null_behind: (Value) = Value::Null;
    nulls, nulls_first, nulls_behind: (Vec<Option<()>>) = vec![None::<()>, None];
    fields, fields_first, fields_behind: (Fields) = Fields { none: None, unit: (), list: vec![None] };
    bare, bare_first, bare_behind: (Shapes) = Shapes::Bare;
    one, one_first, one_behind: (Shapes) = Shapes::One(None);
    two, two_first, two_behind: (Shapes) = Shapes::Two(2, ());
    named, named_first, named_behind: (Shapes) = Shapes::Named { why: None };
    tagged, tagged_first, tagged_behind: (Tagged) = Tagged::Nothing;
    tagged_of, tagged_of_first, tagged_of_behind: (Tagged) = Tagged::Of(None);
    untagged, untagged_first, untagged_behind: (Untagged) = Untagged::Nothing;
    untagged_text, untagged_text_first, untagged_text_behind: (Untagged) = Untagged::Text("null".to_owned());
    coded, coded_first, coded_behind: (Coded) = Coded;
    looks_alike, looks_alike_first, looks_alike_behind: (Alike) = alike();
    truth, truth_first, truth_behind: (bool) = false;
    zero, zero_first, zero_behind: (i64) = 0;
    least, least_first, least_behind: (i64) = i64::MIN;
    most, most_first, most_behind: (u64) = u64::MAX;
    float, float_first, float_behind: (f64) = -0.0;
    single, single_first, single_behind: (f32) = 0.1;
    sign, sign_first, sign_behind: (char) = '\0';
    empty, empty_first, empty_behind: (String) = String::new();
    text, text_first, text_behind: (String) = "null\n\u{2028}\"\\\u{7f} Zoë 🦀".to_owned();
    list, list_first, list_behind: (Vec<u8>) = vec![0u8, 255];
    nothing_in_it, nothing_in_it_first, nothing_in_it_behind: (Vec<u8>) = Vec::<u8>::new();
    pair, pair_first, pair_behind: ((u8, String)) = (1u8, "two".to_owned());
    map, map_first, map_behind: (BTreeMap<i8, Option<bool>>) = BTreeMap::from([(-1i8, None::<bool>), (1, Some(true))]);
    inner, inner_first, inner_behind: (Vec<Result<u8, ()>>) = vec![Ok::<u8, ()>(1), Err(())];
    time, time_first, time_behind: (Duration) = Duration::new(1, 999_999_999);
    address, address_first, address_behind: (std::net::IpAddr) = "::1".parse::<std::net::IpAddr>().unwrap();
}

// Results that are unusual.

macro_rules! values {
    ($($name:ident: ($($type:tt)+) = $value:expr;)*) => {
        $(
            /// Gives back what it is given.
            #[rpc]
            async fn $name(value: $($type)+) -> $($type)+ {
                value
            }
        )*

        fn serve_values(server: Server) -> Server {
            server$(.method::<$name>())*
        }

        fn values() -> Vec<Row> {
            let mut rows = Vec::new();
            $(
                rows.push(row(
                    concat!("the value ", stringify!($name)),
                    |client| async move { said($name::on(&client, $value).await) },
                    format!("{:?}", $value),
                ));
                rows.push(row(
                    concat!("the value ", stringify!($name), " by name"),
                    |client| async move { told(client.call::<$($type)+>(stringify!($name), ($value,)).await) },
                    format!("{:?}", $value),
                ));
            )*
            rows
        }
    };
}

values! {
    no_value: (()) = ();
    of_unit: (Unit) = Unit;
    maybe: (Option<u8>) = Some(1u8);
    maybe_not: (Vec<Option<u8>>) = vec![None, Some(2u8)];
    in_wrapped: (Wrapped) = Wrapped(None);
    in_fields: (Fields) = Fields { none: Some(0), unit: (), list: vec![] };
    shapes: (Vec<Shapes>) = vec![Shapes::Bare, Shapes::One(Some(1)), Shapes::Two(2, ()), Shapes::Named { why: None }];
    tags: (Vec<Tagged>) = vec![Tagged::Nothing, Tagged::Of(None), Tagged::Of(Some(3))];
    no_tags: (Vec<Untagged>) = vec![Untagged::Nothing, Untagged::Text(String::new())];
    results: (Vec<Result<u8, String>>) = vec![Ok::<u8, String>(1), Err("no".to_owned())];
    signed: ((i8, i16, i32, i64, i128)) = (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN);
    unsigned: ((u8, u16, u32, u64, u128)) = (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX);
    floats: (Vec<f64>) = vec![-0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e20, 9_007_199_254_740_993.0];
    singles: (Vec<f32>) = vec![0.1f32, f32::MAX, f32::MIN_POSITIVE, 16_777_217.0];
    signs: (Vec<char>) = vec!['\0', '"', 'ß', '🦀', '\u{10ffff}'];
    texts: (Vec<String>) = ["", "null", "\u{0}\r\n\t\u{1b}", "\u{2028}\u{feff}", "Zoë 🦀"].map(str::to_owned).to_vec();
    bytes: (Vec<u8>) = (0..=255u8).collect::<Vec<u8>>();
    by_number: (BTreeMap<i64, String>) = BTreeMap::from([(i64::MIN, "least".to_owned()), (0, String::new())]);
    by_truth: (BTreeMap<bool, ()>) = BTreeMap::from([(false, ()), (true, ())]);
    by_text: (BTreeMap<String, Value>) = BTreeMap::from([(String::new(), json!(null)), ("$".to_owned(), json!([{"": []}]))]);
    any: (Value) = json!({"a": [null, true, -1, 18_446_744_073_709_551_615u64, 0.5, "x", {"b": {}}]});
    deep: (Value) = (0..100).fold(json!(null), |inner, _| json!([inner]));
    span: (Duration) = Duration::new(u64::MAX, 999_999_999);
    since: (std::time::SystemTime) = std::time::UNIX_EPOCH + Duration::new(1, 1);
    host: ((std::net::IpAddr, std::net::SocketAddr)) = (std::net::IpAddr::from([127, 0, 0, 1]), std::net::SocketAddr::from(([0; 8], 80)));
    range: (std::ops::Range<u8>) = 1..2u8;
    some_more: (std::num::NonZeroU8) = std::num::NonZeroU8::MAX;
    where_it_is: (std::path::PathBuf) = std::path::PathBuf::from("/a b");
}

// Errors that are byname's, or become such.

#[rpc]
async fn ours(which: u8) -> Result<u8, Error> {
    Err(match which {
        0 => Error::new(Code::NotFound, "no user 7"),
        1 => Error::new(Code::Aborted, ""),
        2 => Error::new(Code::Unavailable, "Zoë\u{0}\n\u{1b}[2J")
            .with_data("x")
            .with_retry_after(Duration::from_millis(1)),
        3 => Error::new(Code::ResourceExhausted, "full").with_data(json!({"a": [1, null]})),
        4 => Error::new(Code::Unknown, "nothing is with it").with_data(Value::Null),
        _ => Error::new(Code::Unimplemented, "not yet"),
    })
}

#[rpc]
fn ours_behind() -> impl Stream<Item = Result<u8, Error>> {
    stream::iter([Ok(1), Err(Error::new(Code::Aborted, "no more").with_data([1, 2]))])
}

#[rpc]
async fn maybe_nothing(fails: bool) -> Result<Option<u8>, Option<u8>> {
    if fails { Err(None) } else { Ok(None) }
}

#[rpc]
async fn well() -> Result<(), ()> {
    Ok(())
}

#[rpc]
async fn hides() -> Result<u8, Internal> {
    Err("the password is secret")?
}

#[rpc]
fn hides_behind() -> impl Stream<Item = Result<u8, Internal>> {
    stream::iter([1, 0].map(|item| if item == 0 { Err("the password is secret".into()) } else { Ok(item) }))
}

#[rpc]
async fn wide() -> Result<u8, i128> {
    Err(i128::MIN)
}

#[rpc]
async fn panics() -> Result<u8, Unit> {
    panic!("secret")
}

#[rpc]
fn panics_behind() -> impl Stream<Item = u8> {
    stream::iter([1, 0]).map(|item| if item == 0 { panic!("secret") } else { item })
}

#[rpc]
async fn no_number() -> f64 {
    f64::NAN
}

#[rpc]
async fn wrong_number() -> Result<u8, f64> {
    Err(f64::INFINITY)
}

#[rpc]
fn no_number_behind() -> impl Stream<Item = f64> {
    stream::iter([1.0, f64::NAN])
}

/// Others than those that are served under these names.
mod misread {
    use byname::rpc;

    #[rpc(name = "unit")]
    pub(super) async fn as_text() -> Result<u8, String>;

    #[rpc(name = "unit")]
    pub(super) async fn infallible() -> u8;

    #[rpc(name = "well")]
    pub(super) async fn as_number() -> Result<u8, ()>;

    #[rpc(name = "texts")]
    pub(super) async fn takes_a_number(value: u8) -> Vec<String>;

    #[rpc(name = "unit_behind")]
    pub(super) async fn single() -> Result<u8, ()>;

    #[rpc]
    pub(super) async fn is_not_there(value: u8) -> u8;
}

/// Two items at most.
async fn both_of<T: Debug, E: Debug>(mut items: impl Stream<Item = Result<T, CallError<E>>> + Unpin) -> String {
    let first = told(items.next().await.unwrap());
    let second = items.next().await.map(told);
    format!("{first}; {}", second.as_deref().unwrap_or("the end"))
}

/// Without the id, which differs from call to call.
fn without_id(text: String) -> String {
    let end = text.find("error id `").unwrap_or(text.len());
    text[..end].to_owned()
}

fn errors() -> Vec<Row> {
    let ours_is = |which: u8, expected: String| {
        row(format!("ours {which}"), move |client| async move { told(ours::on(&client, which).await) }, expected)
    };
    let with = |code: Code, after: Option<Duration>, data: Value, message: &str| {
        format!("{code}, Yes, Rpc, None, {after:?}, {:?}: {message}", Some(data))
    };
    let hidden = "the function failed; its server's log says why, under the ";
    let panicked = |name| ran(Code::Internal, &format!("`{name}` panicked; the server's log says where"));
    let number = |name, number| {
        let why = "is not a JSON number: NaN and infinities can't be sent, use an Option or a string";
        ran(Code::Internal, &format!("`{name}` ran, but what it returned can't be encoded: {number} {why}"))
    };
    let agree = "do both sides agree on the signature?";
    vec![
        ours_is(0, ran(Code::NotFound, "no user 7")),
        ours_is(1, ran(Code::Aborted, "")),
        ours_is(2, with(Code::Unavailable, Some(Duration::from_millis(1)), json!("x"), "Zoë\u{0}\n\u{1b}[2J")),
        ours_is(3, with(Code::ResourceExhausted, None, json!({"a": [1, null]}), "full")),
        ours_is(4, ran(Code::Unknown, "nothing is with it")),
        ours_is(5, ran(Code::Unimplemented, "not yet")),
        row(
            "ours behind an item",
            |client| async move { both_of(ours_behind::on(&client)).await },
            format!("1; {}", with(Code::Aborted, None, json!([1, 2]), "no more")),
        ),
        row("None is a result", |client| async move { told(maybe_nothing::on(&client, false).await) }, "None"),
        row("None is an error", |client| async move { told(maybe_nothing::on(&client, true).await) }, own(None::<u8>)),
        row("nothing is a result", |client| async move { told(well::on(&client).await) }, "()"),
        row(
            "a failure that is hidden",
            |client| async move { without_id(told(hides::on(&client).await)) },
            ran(Code::Internal, hidden),
        ),
        row(
            "a failure that is hidden behind an item",
            |client| async move { without_id(both_of(hides_behind::on(&client)).await) },
            format!("1; {}", ran(Code::Internal, hidden)),
        ),
        row("a panic", |client| async move { told(panics::on(&client).await) }, panicked("panics")),
        row(
            "a panic behind an item",
            |client| async move { both_of(panics_behind::on(&client).map(any_error)).await },
            format!("1; {}", panicked("panics_behind")),
        ),
        row("NaN", |client| async move { said(no_number::on(&client).await) }, number("no_number", "NaN")).encoded(),
        row("infinity", |client| async move { told(wrong_number::on(&client).await) }, number("wrong_number", "inf"))
            .encoded(),
        row(
            "NaN behind an item",
            |client| async move { both_of(no_number_behind::on(&client).map(any_error)).await },
            format!("1.0; {}", number("no_number_behind", "NaN")),
        )
        .encoded(),
        row("a wide own error", |client| async move { told(wide::on(&client).await) }, own(i128::MIN)),
        row(
            "a wide own error, by name",
            |client| async move {
                let error = client.call::<u8>("wide", ()).await.unwrap_err();
                error.rpc().map_or_else(String::new, |error| format!("{}, {:?}", error.code(), error.executed()))
            },
            "internal, Yes",
        ),
        row(
            "an own error that is of another type",
            |client| async move { told(misread::as_text::on(&client).await) },
            ran(
                Code::Internal,
                &format!(
                    "the own error of `unit` is not of type `alloc::string::String`: invalid type: null, expected a string; {agree}"
                ),
            ),
        ),
        row(
            "an own error that is of another type, typed later",
            |client| async move { told(client.call::<u8>("unit", ()).await.map_err(CallError::error::<String>)) },
            "internal, Yes, Method, None, None, Some(Null): the function's own error is not of type `alloc::string::String`: \
             invalid type: null, expected a string; name the type that it returns",
        ),
        row(
            "an own error where none is expected",
            |client| async move { said(misread::infallible::on(&client).await) },
            "unknown, Yes, Method, None, None, Some(Null): `unit` returned its own error: null",
        ),
        row(
            "null where a number is expected",
            |client| async move { told(misread::as_number::on(&client).await) },
            ran(
                Code::Internal,
                &format!("the reply of `well` is not of type `u8`: invalid type: null, expected u8; {agree}"),
            ),
        ),
        // Over HTTP nothing in a request says whether its caller takes a stream, so there the function has run.
        row(
            "a stream that is called for a value",
            |client| async move {
                let error = misread::single::on(&client).await.unwrap_err();
                error.rpc().map_or_else(String::new, |error| error.code().to_string())
            },
            "failed_precondition",
        ),
        row(
            "a value that is called for as a stream",
            |client| async move { both_of(client.stream::<u8>("well", ())).await },
            format!(
                "{}; the end",
                ran(
                    Code::FailedPrecondition,
                    "`well` returned a single value, but was called for a stream; call it with its stub or `Client::call`"
                )
            ),
        ),
        row(
            "an own error of what is called for as a stream",
            |client| async move { both_of(client.stream::<u8>("unit", ())).await },
            format!("{}; the end", own(Value::Null)),
        ),
        row(
            "an argument of another type",
            |client| async move { said(misread::takes_a_number::on(&client, 7).await) },
            refused(
                Code::InvalidArgument,
                "argument `value`: invalid type: integer `7`, expected a sequence; the signature is `texts(value: Vec<String>) -> \
                 Vec<String>`",
            ),
        ),
        row(
            "an argument that is missing",
            |client| async move { told(client.call::<Value>("deep", ()).await) },
            refused(
                Code::InvalidArgument,
                "argument `value` is missing; the signature is `deep(value: Value) -> Value`",
            ),
        ),
        row(
            "a function that is not there",
            |client| async move { said(misread::is_not_there::on(&client, 7).await) },
            refused(Code::Unimplemented, "no function is named `is_not_there` here"),
        ),
    ]
}

fn any_error<T>(result: Result<T, Error>) -> Result<T, CallError<()>> {
    result.map_err(CallError::Rpc)
}

// Headers.

/// These headers of the call.
#[rpc(readonly)]
async fn seen(names: Vec<String>) -> Vec<Option<String>> {
    let call = Context::current().unwrap();
    names.iter().map(|name| call.header(name).map(str::to_owned)).collect()
}

/// Adds headers to its reply, as far as they are taken.
#[rpc]
async fn adds(headers: Vec<(String, String)>) -> Result<(), Error> {
    let call = Context::current().unwrap();
    headers.iter().try_for_each(|(name, value)| call.reply_header(name, value))
}

#[rpc]
fn adds_and_streams(name: String, value: String) -> impl Stream<Item = Result<u8, Error>> {
    let added = Context::current().unwrap().reply_header(&name, &value);
    stream::iter([added.map(|()| 1)])
}

/// What it came to, with the values of one header of the reply.
async fn with_header<A: Send>(call: Call<A, Result<(), CallError<Error>>>, name: &str) -> String {
    match call.with_metadata().await {
        Ok(((), metadata)) => {
            let values: Vec<_> = metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            format!("{values:?}")
        }
        Err(error) => told(Err::<(), _>(error)),
    }
}

fn headers() -> Vec<Row> {
    let of_http = "HTTP uses it itself; choose another name, such as one that begins with `x-`";
    let of_protocol = "the protocol uses it itself; set a deadline with `.timeout(…)`";
    let other_name = "the protocol uses it itself; choose another name, such as one that begins with `x-`";
    let no_name = "expected a name of ASCII letters, digits, `-` and `_`, without spaces";
    let no_value = "expected visible ASCII characters, with spaces and tabs only between them; send other text in \
                    percent-encoding or base64, or as an argument";
    let rejected = [
        ("host", "elsewhere", "`host`", of_http),
        ("Content-Type", "text/plain", "`content-type`", of_http),
        ("content-length", "0", "`content-length`", of_http),
        ("content-encoding", "gzip", "`content-encoding`", of_http),
        ("transfer-encoding", "chunked", "`transfer-encoding`", of_http),
        ("connection", "close", "`connection`", of_http),
        ("keep-alive", "timeout=1", "`keep-alive`", of_http),
        ("upgrade", "h2c", "`upgrade`", of_http),
        ("http2-settings", "", "`http2-settings`", of_http),
        ("te", "trailers", "`te`", of_http),
        ("trailer", "x-a", "`trailer`", of_http),
        ("expect", "100-continue", "`expect`", of_http),
        ("accept", "text/event-stream", "`accept`", of_http),
        ("accept-encoding", "gzip", "`accept-encoding`", of_http),
        ("origin", "http://elsewhere", "`origin`", of_http),
        ("sec-fetch-site", "cross-site", "`sec-fetch-site`", of_http),
        ("proxy-authorization", "Basic YTpi", "`proxy-authorization`", of_http),
        ("range", "bytes=0-1", "`range`", of_http),
        ("if-none-match", "*", "`if-none-match`", of_http),
        ("byname-timeout-ms", "1", "`byname-timeout-ms`", of_protocol),
        ("byname-protocol", "2", "`byname-protocol`", other_name),
        ("x y", "a", "`x y`", no_name),
        ("", "a", "``", no_name),
        ("x-a", "Zoë", "the value of `x-a`", no_value),
        ("x-a", " a", "the value of `x-a`", no_value),
        ("x-a", "a ", "the value of `x-a`", no_value),
        ("x-a", "a\r\nb: c", "the value of `x-a`", no_value),
        ("x-a", "a\0", "the value of `x-a`", no_value),
    ];
    let accepted = [
        ("x-a", ""),
        ("X-B", "a b\tc"),
        ("x-c", "~!\"\\{}[],;="),
        ("authorization", "Bearer 1"),
        ("cookie", "a=1; b=2"),
        ("accept-language", "de, en;q=0.5"),
        ("x-forwarded-for", "10.0.0.1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("idempotency-key", "7"),
    ];
    let mut rows = Vec::new();
    for (name, value, what, why) in rejected {
        let message = format!("{what} can't be a header: {why}");
        rows.push(row(
            format!("{name}: {value} on a call"),
            move |client| async move { said(seen::on(&client, vec![]).header(name, value).await) },
            refused(Code::InvalidArgument, &message),
        ));
        rows.push(row(
            format!("{name}: {value} on a client"),
            move |client| async move { told(client.header(name, value).call::<Value>("seen", (["x"],)).await) },
            refused(Code::InvalidArgument, &message),
        ));
        rows.push(row(
            format!("{name}: {value} on a stream"),
            move |client| async move { both_of(unit_behind::on(&client).header(name, value)).await },
            format!("{}; the end", refused(Code::InvalidArgument, &message)),
        ));
        rows.push(row(
            format!("{name}: {value} by an interceptor"),
            move |client| async move {
                let sets = move |mut request: Request, next: Next| async move {
                    request.set_header(name, value)?;
                    Ok::<_, Error>(next.run(request).await)
                };
                said(seen::on(&client.intercept(sets), vec![]).await)
            },
            refused(Code::InvalidArgument, &message),
        ));
        rows.push(row(
            format!("{name}: {value} on a reply"),
            move |client| async move { told(adds::on(&client, vec![(name.to_owned(), value.to_owned())]).await) },
            ran(Code::InvalidArgument, &message),
        ));
        rows.push(row(
            format!("{name}: {value} on a stream's reply"),
            move |client| async move { both_of(adds_and_streams::on(&client, name.to_owned(), value.to_owned())).await },
            format!("{}; the end", ran(Code::InvalidArgument, &message)),
        ));
    }
    for (name, value) in accepted {
        rows.push(row(
            format!("{name}: {value} on a call"),
            move |client| async move { said(seen::on(&client, vec![name.to_owned()]).header(name, value).await) },
            format!("{:?}", [Some(value)]),
        ));
        rows.push(row(
            format!("{name}: {value} on a reply"),
            move |client| async move {
                with_header(adds::on(&client, vec![(name.to_owned(), value.to_owned())]), name).await
            },
            format!("{:?}", [value]),
        ));
    }
    let many = |count: usize, bytes: usize| {
        let value = "v".repeat(bytes - "x-00: \r\n".len());
        (0..count).map(|at| (format!("x-{at:02}"), value.clone())).collect::<Vec<_>>()
    };
    let too_much = |count: usize, bytes: usize| {
        format!(
            "the headers have {bytes} bytes in {count} fields, and a call or a reply may have 32768 in 64; send what is \
             large as an argument or as the result"
        )
    };
    for (count, each, fits) in
        [(64, 512, true), (65, 10, false), (1, 32768, true), (1, 32769, false), (2, 16385, false)]
    {
        let set = many(count, each);
        let values: Vec<_> = set.iter().map(|(_, value)| Some(value.clone())).collect();
        let names: Vec<_> = set.iter().map(|(name, _)| name.clone()).collect();
        let message = too_much(count, count * each);
        let headers = set.clone();
        rows.push(row(
            format!("{count} headers of {each} bytes on a call"),
            move |client| {
                let call = seen::on(&client, names.clone());
                let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
                async move { said(call.await) }
            },
            if fits { format!("{values:?}") } else { refused(Code::ResourceExhausted, &message) },
        ));
        rows.push(row(
            format!("{count} headers of {each} bytes on a reply"),
            move |client| {
                let set = set.clone();
                async move { with_header(adds::on(&client, set), "x-none").await }
            },
            if fits { "[]".to_owned() } else { ran(Code::ResourceExhausted, &message) },
        ));
    }
    let [half, other] = ["a", "b"].map(|value| value.repeat(20_000));
    let (one, two) = (half.clone(), other.clone());
    rows.push(row(
        "headers of a client and of a call, together too large",
        move |client| {
            let call = seen::on(&client.header("x-a", &one), vec![]).header("x-b", &two);
            async move { said(call.await) }
        },
        refused(Code::ResourceExhausted, &too_much(2, 2 * (20_000 + 7))),
    ));
    let (one, two) = (half.clone(), other.clone());
    rows.push(row(
        "a header of a call in place of the client's",
        move |client| {
            let call = seen::on(&client.header("x-a", &one), vec!["x-a".to_owned()]).header("x-a", &two);
            async move { said(call.await) }
        },
        format!("{:?}", [Some(&other)]),
    ));
    rows.push(row(
        "headers of a call and of an interceptor, together too large",
        move |client| {
            let other = other.clone();
            let sets = move |mut request: Request, next: Next| {
                let other = other.clone();
                async move {
                    request.set_header("x-b", &other)?;
                    Ok::<_, Error>(next.run(request).await)
                }
            };
            let call = seen::on(&client.intercept(sets), vec![]).header("x-a", &half);
            async move { said(call.await) }
        },
        refused(Code::ResourceExhausted, &too_much(2, 2 * (20_000 + 7))),
    ));
    rows.push(row(
        "a header of a reply that is there twice",
        |client| async move {
            let twice = ["1", "2"].map(|value| ("x-a".to_owned(), value.to_owned()));
            with_header(adds::on(&client, twice.into()), "x-a").await
        },
        r#"["1", "2"]"#,
    ));
    rows
}

fn serve() -> Server {
    serve_values(serve_own_errors(Server::new()))
        .method::<ours>()
        .method::<ours_behind>()
        .method::<maybe_nothing>()
        .method::<well>()
        .method::<hides>()
        .method::<hides_behind>()
        .method::<wide>()
        .method::<panics>()
        .method::<panics_behind>()
        .method::<no_number>()
        .method::<wrong_number>()
        .method::<no_number_behind>()
        .method::<seen>()
        .method::<adds>()
        .method::<adds_and_streams>()
        .function("nothing", || async {})
}

async fn pass(request: Request, next: Next) -> byname::Reply {
    next.run(request).await
}

/// Every way there is.
async fn ways(server: impl Fn() -> Server) -> Vec<Way> {
    let same = |client: Client| Box::new(move || client.clone());
    let mut ways = Vec::new();

    let running = Running::new(server()).await;
    let url = format!("{}/rpc", running.address);
    let first = Box::new(move || Client::builder(&url).transport(Transport::Http).build().unwrap());
    ways.push(Way {
        name: "the first call".into(),
        client: first,
        rounds: 1,
        is_encoded: true,
        open: Some((Box::new(running), None)),
    });

    let running = Running::new(server()).await;
    let client = running.client();
    client.call::<()>("nothing", ()).await.unwrap();
    ways.push(Way {
        name: "path".into(),
        client: same(client),
        rounds: 1,
        is_encoded: true,
        open: Some((Box::new(running), None)),
    });

    let running = UnixRunning::new(server()).await;
    let client = running.client();
    client.call::<()>("nothing", ()).await.unwrap();
    ways.push(Way {
        name: "path over a unix socket".into(),
        client: same(client),
        rounds: 1,
        is_encoded: true,
        open: Some((Box::new(running), None)),
    });

    for codec in [Codec::MessagePack, Codec::Json] {
        let running = Running::new(server()).await;
        let (tap, client) = Tap::client_by_frames(&running, codec).await;
        let (name, client) = (format!("frames in {codec:?}"), same(client));
        ways.push(Way { name, client, rounds: 10, is_encoded: true, open: Some((Box::new(running), Some(tap))) });

        let running = UnixRunning::new(server()).await;
        let (tap, client) = Tap::client_by_frames(&running, codec).await;
        let (name, client) = (format!("frames in {codec:?} over a unix socket"), same(client));
        ways.push(Way { name, client, rounds: 10, is_encoded: true, open: Some((Box::new(running), Some(tap))) });

        let client = Client::local(&server()).unwrap().encoded(true).codec(codec);
        ways.push(Way {
            name: format!("in process, in {codec:?}"),
            client: same(client),
            rounds: 1,
            is_encoded: true,
            open: None,
        });
    }
    let client = Client::local(&server()).unwrap();
    ways.push(Way { name: "in process".into(), client: same(client), rounds: 1, is_encoded: false, open: None });

    let running = Running::new(server().intercept(pass)).await;
    let client = running.client().intercept(pass);
    ways.push(Way {
        name: "HTTP, intercepted".into(),
        client: same(client),
        rounds: 1,
        is_encoded: true,
        open: Some((Box::new(running), None)),
    });
    let running = Running::new(server().intercept(pass)).await;
    let (tap, client) = Tap::client_by_frames(&running, Codec::MessagePack).await;
    let client = same(client.intercept(pass));
    ways.push(Way {
        name: "frames, intercepted".into(),
        client,
        rounds: 1,
        is_encoded: true,
        open: Some((Box::new(running), Some(tap))),
    });
    ways
}

/// Makes each call of the table by each way.
async fn check(rows: &[Row], ways: &[Way]) {
    let mut wrong = Vec::new();
    for way in ways {
        let tap = way.open.as_ref().and_then(|(_, tap)| tap.as_ref());
        let over_http = tap.map(Tap::over_http);
        for Row { name, call, expected, .. } in rows.iter().filter(|row| way.is_encoded || !row.needs_encoding) {
            for round in 0..way.rounds {
                let came = call((way.client)()).await;
                if came != *expected {
                    wrong.push(format!("{name}, {}, call {round}:\n  {came}\nexpected\n  {expected}", way.name));
                    break;
                }
            }
        }
        assert_eq!(tap.map(Tap::over_http), over_http, "{}: every call went by frames", way.name);
    }
    assert!(wrong.is_empty(), "{} of {} rows by {} ways\n{}", wrong.len(), rows.len(), ways.len(), wrong.join("\n"));
}

#[tokio::test]
async fn own_errors_of_every_shape() {
    check(&own_errors(), &ways(serve).await).await;
}

#[tokio::test]
async fn values_of_every_shape() {
    check(&values(), &ways(serve).await).await;
}

#[tokio::test]
async fn errors_that_are_not_the_functions_own() {
    check(&errors(), &ways(serve).await).await;
}

#[tokio::test]
async fn headers_are_taken_or_rejected() {
    check(&headers(), &ways(serve).await).await;
}

// Values that are too large: `Limits::message` counts encoded bytes, so a value may fit in one codec and not in the other.

#[rpc(readonly)]
async fn large(size: usize) -> Vec<u8> {
    vec![100; size]
}

#[rpc(readonly)]
async fn large_error(size: usize) -> Result<(), Vec<u8>> {
    Err(vec![100; size])
}

/// Its data is JSON whatever the codec.
#[rpc(readonly)]
async fn large_of_ours(size: usize) -> Result<(), Error> {
    Err(Error::new(Code::Aborted, "m").with_data(vec![100; size]))
}

#[rpc(readonly)]
fn large_item(size: usize) -> impl Stream<Item = Vec<u8>> {
    stream::iter([vec![], vec![100; size]])
}

#[rpc]
async fn takes(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[rpc]
async fn takes_items(mut items: Streaming<Vec<u8>>) -> Result<usize, Error> {
    let mut size = 0;
    while let Some(item) = items.next().await {
        size += item?.len();
    }
    Ok(size)
}

/// What a call of each came to. `Bytes` are named where JSON made it too large.
async fn sizes(client: &Client, size: usize) -> [(&'static str, String); 6] {
    let brief = |error: &Error| {
        let (limit, is_told) = (error.limit().unwrap_or("no limit"), error.message().contains("`byname::Bytes`"));
        assert!(error.message().contains("`Limits::message`"), "{error}");
        format!("{}, {:?}, {limit}{}", error.code(), error.executed(), if is_told { ", in JSON" } else { "" })
    };
    let own = |error: CallError<Error>| brief(error.rpc().unwrap());
    let reply = large::on(client, size).await.map_or_else(|error| brief(&error), |_| "fits".into());
    let error = match large_error::on(client, size).await {
        Err(CallError::Rpc(error)) => brief(&error),
        own => own.map_or_else(|_| "fits".to_owned(), |()| panic!("it fails")),
    };
    let ours = match large_of_ours::on(client, size).await.unwrap_err().rpc() {
        Some(error) if error.code() == Code::Aborted => "fits".to_owned(),
        error => brief(error.unwrap()),
    };
    let mut items = large_item::on(client, size);
    assert!(items.next().await.unwrap().unwrap().is_empty());
    let item = items.next().await.unwrap().map_or_else(|error| brief(&error), |_| "fits".into());
    let argument = takes::on(client, vec![100; size]).await.map_or_else(|error| brief(&error), |_| "fits".into());
    let upload = takes_items::on(client, Streaming::new(stream::iter([vec![], vec![100; size]])));
    let upload = upload.await.map_or_else(own, |_| "fits".into());
    [("reply", reply), ("own error", error), ("ours", ours), ("item", item), ("argument", argument), ("upload", upload)]
}

#[tokio::test]
async fn a_value_over_the_limit_is_an_error_on_every_way_that_names_a_shorter_encoding() {
    let server = |message: usize| {
        serve()
            .method::<large>()
            .method::<large_error>()
            .method::<large_of_ours>()
            .method::<large_item>()
            .method::<takes>()
            .method::<takes_items>()
            .limits(|limits| limits.message = message)
    };
    let (small, usual) = (1000, 4 << 20);
    // Which of them are too large, and whether the function is known to have run.
    let by_server = [
        ("reply", "Yes"),
        ("own error", "Yes"),
        ("ours", "Yes"),
        ("item", "Yes"),
        ("argument", "No"),
        ("upload", "Yes"),
    ];
    let by_client = [
        ("reply", "Yes"),
        // Of an error that is too large nothing is read, and it may be one that says that the function did not run.
        ("own error", "Unknown"),
        ("ours", "Unknown"),
        ("item", "Yes"),
        ("argument", "fits"),
        ("upload", "Unknown"),
    ];
    for (servers, clients, too_large) in [(small, usual, by_server), (usual, small, by_client)] {
        let running = Running::new(server(servers)).await;
        let limits = |limits: &mut Limits| limits.message = clients;
        let without_path = Running::new(server(servers).path(false)).await;
        let [plain, path] = [&without_path, &running].map(|running| {
            let builder = Client::builder(format!("{}/rpc", running.address)).transport(Transport::Http);
            builder.limits(limits).build().unwrap()
        });
        path.call::<()>("nothing", ()).await.unwrap();
        let (in_json, json) = Tap::limited_client_by_frames(&running, Codec::Json, limits).await;
        let (in_message_pack, message_pack) = Tap::limited_client_by_frames(&running, Codec::MessagePack, limits).await;
        let over_http = [&in_json, &in_message_pack].map(Tap::over_http);
        // A size that fits in MessagePack alone, and one that fits in neither.
        for (size, fits_in_message_pack) in [(300, true), (1100, false)] {
            let expected = |is_json: bool| {
                too_large.map(|(what, executed)| {
                    // The data of an error of ours is JSON in either, which only its server sees.
                    let is_ours = what == "ours";
                    let in_json = if is_json || is_ours && servers == small { ", in JSON" } else { "" };
                    let came = match executed {
                        "fits" => "fits".to_owned(),
                        _ if fits_in_message_pack && !is_json && !is_ours => "fits".to_owned(),
                        executed => format!("resource_exhausted, {executed}, message{in_json}"),
                    };
                    (what, came)
                })
            };
            for (way, client, is_json) in [
                ("plain", &plain, true),
                ("path", &path, true),
                ("frames in JSON", &json, true),
                ("frames in MessagePack", &message_pack, false),
            ] {
                // Often enough to be polled inline.
                for _ in 0..10 {
                    let came = sizes(client, size).await;
                    assert_eq!(came, expected(is_json), "{size} by {way}; the limits are {servers} and {clients}");
                }
            }
        }
        assert_eq!([&in_json, &in_message_pack].map(Tap::over_http), over_http, "every call went by frames");
    }
}

/// As others read it: `data` is there, and is `null`.
#[tokio::test]
async fn null_is_written_as_the_data_of_an_own_error() {
    let running = Running::new(serve()).await;
    let own = json!({
        "code": "unknown", "message": "`unit` returned its own error: null", "executed": "yes", "kind": "method",
        "data": null,
    });
    let plain = raw(running.address, post("/rpc", r#"{"fun":"unit"}"#)).await;
    assert_eq!((plain.status, plain.json()), (422, json!({"err": own})));
    let path = raw(running.address, post("/rpc/unit", "")).await;
    assert_eq!(
        (path.status, path.json()["kind"].as_str(), path.json().get("data")),
        (422, Some("method"), Some(&Value::Null))
    );
    let json_rpc = raw(running.address, post("/rpc", r#"{"jsonrpc":"2.0","method":"unit","id":1}"#)).await;
    assert_eq!(json_rpc.json()["error"]["data"], own);
    for (accept, end) in
        [("*/*", r#""kind":"method","data":null}}"#), ("text/event-stream", r#""kind":"method","data":null}"#)]
    {
        let mut caller = Caller::to(running.address).await;
        caller.send(post_with("/rpc/unit_behind", &format!("accept: {accept}\r\nconnection: close\r\n"), "")).await;
        let answer = caller.rest().await;
        assert!(answer.contains(&format!("{end}\n")), "{answer}");
    }
}

/// As others may write it: a server in a language without `null` leaves `data` out.
#[tokio::test]
async fn an_own_error_without_data_is_null() {
    let error = r#"{"code":"not_found","message":"m","executed":"yes","kind":"method"}"#;
    let server = Foreign::answering(answer("422 Unprocessable Content", "", &format!(r#"{{"err":{error}}}"#))).await;
    assert_eq!(told(unit::on(&server.client()).await), own(()));
    assert_eq!(told(server.client().call::<u8>("unit", ()).await), own(Value::Null));

    let lines = format!("{{\"item\":1}}\n{{\"err\":{error}}}\n");
    let head = "content-type: application/x-ndjson\r\nbyname-protocol: 1\r\n";
    let server = Foreign::answering(answer("200 OK", head, &lines)).await;
    assert_eq!(both_of(unit_behind::on(&server.client())).await, format!("1; {}", own(())));

    // ERROR of a connection of frames, with nothing behind it.
    let payload = [&u32::try_from(error.len()).unwrap().to_be_bytes()[..], error.as_bytes()].concat();
    let server = Foreign::new(move |mut connection| {
        let payload = payload.clone();
        async move {
            while let Some(asked) = connection.request().await {
                if asked.header("upgrade") != "websocket" {
                    let head = "byname-protocol: 1\r\nbyname-ways: plain, frames\r\n";
                    connection.send(answer("200 OK", head, r#"{"ret":3}"#)).await;
                    continue;
                }
                connection.grant_frames(&asked).await;
                loop {
                    let (kind, id) = connection.frame().await;
                    if kind == peer::CALL {
                        connection.send(frame(peer::ERROR, 0, id, &payload)).await;
                    }
                }
            }
        }
    });
    let server = server.await;
    for codec in [Codec::MessagePack, Codec::Json] {
        let client = Client::builder(server.address.to_string()).codec(codec).build().unwrap();
        let by_frames = async {
            loop {
                match told(client.call::<u8>("unit", ()).await).as_str() {
                    "3" => yield_now().await,
                    told => break told.to_owned(),
                }
            }
        };
        assert_eq!(within(by_frames).await, own(Value::Null));
        assert_eq!(told(unit::on(&client).await), own(()));
    }
}
