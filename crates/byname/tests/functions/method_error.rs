//! A function's own error for callers that don't know its type: code, status and message, by every way.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::harness::{Running, post, raw};
use byname::{CallError, Client, Code, Error, Kind, MethodError, Next, Request, Server, Transport, rpc};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Every code by its name, and the status of a function's own error that has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, MethodError)]
enum Every {
    #[code(cancelled)]
    Cancelled,
    #[code(unknown)]
    Unknown,
    #[code(invalid_argument)]
    InvalidArgument,
    #[code(deadline_exceeded)]
    DeadlineExceeded,
    #[code(not_found)]
    NotFound,
    #[code(already_exists)]
    AlreadyExists,
    #[code(permission_denied)]
    PermissionDenied,
    #[code(resource_exhausted)]
    ResourceExhausted,
    #[code(failed_precondition)]
    FailedPrecondition,
    #[code(aborted)]
    Aborted,
    #[code(out_of_range)]
    OutOfRange,
    #[code(unimplemented)]
    Unimplemented,
    #[code(internal)]
    Internal,
    #[code(unavailable)]
    Unavailable,
    #[code(data_loss)]
    DataLoss,
    #[code(unauthenticated)]
    Unauthenticated,
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {self:?}")
    }
}

#[rpc]
async fn every(which: Every) -> Result<(), Every> {
    Err(which)
}

#[tokio::test]
async fn the_code_of_an_own_error_gives_its_status_except_retried_ones() {
    let running = Running::new(Server::new().method::<every>()).await;
    let own = [
        (Every::Cancelled, Code::Cancelled, 422),
        (Every::Unknown, Code::Unknown, 422),
        (Every::InvalidArgument, Code::InvalidArgument, 400),
        (Every::DeadlineExceeded, Code::DeadlineExceeded, 422),
        (Every::NotFound, Code::NotFound, 404),
        (Every::AlreadyExists, Code::AlreadyExists, 409),
        (Every::PermissionDenied, Code::PermissionDenied, 403),
        (Every::ResourceExhausted, Code::ResourceExhausted, 422),
        (Every::FailedPrecondition, Code::FailedPrecondition, 400),
        (Every::Aborted, Code::Aborted, 409),
        (Every::OutOfRange, Code::OutOfRange, 400),
        (Every::Unimplemented, Code::Unimplemented, 404),
        (Every::Internal, Code::Internal, 422),
        (Every::Unavailable, Code::Unavailable, 422),
        (Every::DataLoss, Code::DataLoss, 422),
        (Every::Unauthenticated, Code::Unauthenticated, 401),
    ];
    assert_eq!(own.map(|(_, code, _)| code), Code::ALL);
    for (error, code, status) in own {
        assert_eq!(error.code(), code);
        let (name, message) = (json!(error), format!("it is {error:?}"));
        let expected = json!({
            "code": code.as_str(), "message": message, "executed": "yes", "kind": "method", "data": name,
        });
        let plain = raw(running.address, post("/rpc", &format!(r#"{{"fun":"every","args":[{name}]}}"#))).await;
        assert_eq!((plain.status, plain.json()), (status, json!({"err": expected})));

        let path = raw(running.address, post("/rpc/every", &format!("[{name}]"))).await;
        let problem = path.json();
        assert_eq!((path.status, &problem["status"]), (status, &json!(status)), "{problem}");
        assert_eq!((&problem["detail"], &problem["message"]), (&json!(message), &json!(message)));
        assert_eq!((&problem["code"], &problem["data"]), (&json!(code.as_str()), &name));

        let request = format!(r#"{{"jsonrpc":"2.0","method":"every","params":[{name}],"id":1}}"#);
        let json_rpc = raw(running.address, post("/rpc", &request)).await;
        assert_eq!(json_rpc.json()["error"], json!({"code": -32000, "message": message, "data": expected}));

        // The client goes by the body, whatever the status is.
        assert_eq!(every::on(&running.client(), error).await, Err(CallError::Method(error)));
    }
}

/// Types whose messages differ in where they come from.
macro_rules! failing {
    ($($name:ident, $streams:ident: $type:ty = $value:expr;)*) => {
        $(
            #[rpc]
            async fn $name() -> Result<u8, $type> {
                Err($value)
            }

            #[rpc]
            fn $streams() -> impl Stream<Item = Result<u8, $type>> {
                stream::iter([Ok(1), Err($value)])
            }
        )*

        /// The same functions for callers that don't know that they can fail.
        mod untyped {
            use byname::rpc;

            $(
                #[rpc]
                pub(super) async fn $name() -> u8;

                #[rpc]
                pub(super) fn $streams() -> impl Stream<Item = u8>;
            )*
        }

        fn server() -> Server {
            Server::new()$(.method::<$name>().method::<$streams>())*
        }

        /// What each says by this client: at once, and behind an item.
        async fn errors(client: &Client) -> Vec<(&'static str, Error, Error)> {
            let mut errors = Vec::new();
            $(
                let at_once = untyped::$name::on(client).await.unwrap_err();
                let mut items = untyped::$streams::on(client);
                assert_eq!(items.next().await, Some(Ok(1)));
                let behind = items.next().await.unwrap().unwrap_err();
                errors.push((stringify!($name), at_once, behind));
            )*
            errors
        }

        /// Calls each by its typed stub.
        async fn call_typed(client: &Client) {
            $(
                let error = $name::on(client).await.unwrap_err();
                assert_eq!(error, CallError::Method($value));
            )*
        }
    };
}

failing! {
    displayed, displayed_behind: Account = Account::NoSuch { id: 7 };
    hidden, hidden_behind: Account = Account::Ledger("/var/ledger".into());
    by_default, by_default_behind: Account = Account::Locked;
    of_a_struct, of_a_struct_behind: Quota = Quota { left: 0 };
    without_display, without_display_behind: NoDisplay = NoDisplay(3);
    generic, generic_behind: Generic<u8> = Generic(9);
    by_hand, by_hand_behind: ByHand = ByHand;
    any, any_behind: String = "a \"b\"\u{1b}[2J".to_owned();
    long, long_behind: String = "é".repeat(200);
    wordy, wordy_behind: Wordy = Wordy;
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MethodError)]
#[code(failed_precondition)]
enum Account {
    #[code(not_found)]
    NoSuch {
        id: u64,
    },
    #[method_error(message = false)]
    Ledger(String),
    Locked,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::NoSuch { id } => write!(f, "there is no account {id}"),
            Account::Ledger(_) => write!(f, "secret"),
            Account::Locked => write!(f, "it is locked"),
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MethodError)]
#[code(resource_exhausted)]
struct Quota {
    left: u8,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls are left", self.left)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MethodError)]
#[code(aborted)]
#[method_error(message = false)]
struct NoDisplay(u8);

#[derive(Debug, PartialEq, Serialize, Deserialize, MethodError)]
struct Generic<T>(T);

impl<T: fmt::Debug> fmt::Display for Generic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generic {:?}", self.0)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ByHand;

impl MethodError for ByHand {
    fn code(&self) -> Code {
        Code::DataLoss
    }

    fn message(&self) -> Option<String> {
        Some("said by hand".into())
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, MethodError)]
struct Wordy;

impl fmt::Display for Wordy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", "é".repeat(3000))
    }
}

/// The code and the message of each error, and its value.
fn expected() -> Vec<(&'static str, Code, String, Value)> {
    let of = |name: &'static str, value: &str| format!("`{name}` returned its own error: {value}");
    let no_such = json!({"NoSuch": {"id": 7}});
    vec![
        ("displayed", Code::NotFound, "there is no account 7".into(), no_such),
        (
            "hidden",
            Code::FailedPrecondition,
            of("hidden", r#"{"Ledger":"/var/ledger"}"#),
            json!({"Ledger": "/var/ledger"}),
        ),
        ("by_default", Code::FailedPrecondition, "it is locked".into(), json!("Locked")),
        ("of_a_struct", Code::ResourceExhausted, "0 calls are left".into(), json!({"left": 0})),
        ("without_display", Code::Aborted, of("without_display", "3"), json!(3)),
        ("generic", Code::Unknown, "generic 9".into(), json!(9)),
        ("by_hand", Code::DataLoss, "said by hand".into(), Value::Null),
        ("any", Code::Unknown, of("any", r#""a \"b\"\u001b[2J""#), json!("a \"b\"\u{1b}[2J")),
        // 256 bytes end within a character.
        ("long", Code::Unknown, of("long", &format!("\"{}…", "é".repeat(127))), json!("é".repeat(200))),
        // 4,096 bytes end within one too.
        ("wordy", Code::Unknown, format!("a{}…", "é".repeat(2047)), Value::Null),
    ]
}

#[tokio::test]
async fn an_own_error_says_the_same_by_every_way() {
    let running = Running::new(server()).await;
    let by_frames = running.client_by(Transport::Frames);
    let ways = [
        ("HTTP", running.client_by(Transport::Http)),
        ("frames", by_frames),
        ("in process", Client::local(&server()).unwrap()),
    ];
    for (way, client) in ways {
        let errors = errors(&client).await;
        assert_eq!(errors.len(), expected().len());
        for ((name, at_once, behind), (expected_name, code, message, data)) in errors.into_iter().zip(expected()) {
            assert_eq!(name, expected_name);
            for (error, name_on_the_wire) in [(at_once, name.to_owned()), (behind, format!("{name}_behind"))] {
                let message = message.replace(&format!("`{name}`"), &format!("`{name_on_the_wire}`"));
                assert_eq!((error.code(), error.message()), (code, &*message), "{name} by {way}");
                assert_eq!((error.kind(), error.data()), (Kind::Method, Some(&data)), "{name} by {way}");
                assert!(!error.to_string().contains('\u{1b}'), "{error}");
            }
        }
    }
}

/// Values that no codec touches have a message all the same.
#[tokio::test]
async fn an_interceptor_in_the_process_sees_the_message() {
    let seen: Arc<Mutex<Vec<(Code, String)>>> = Arc::default();
    let intercepted = server().intercept({
        let seen = Arc::clone(&seen);
        move |request: Request, next: Next| {
            let seen = Arc::clone(&seen);
            async move {
                let reply = next.run(request).await;
                let error = reply.error().unwrap();
                seen.lock().unwrap().push((error.code(), error.message().to_owned()));
                reply
            }
        }
    });
    call_typed(&Client::local(&intercepted).unwrap()).await;
    let expected: Vec<_> = expected().into_iter().map(|(_, code, message, _)| (code, message)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_own_error_by_name_is_printed_as_json() {
    let client = Client::local(&server()).unwrap();
    let error = client.call::<u8>("displayed", ()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"the function returned {"NoSuch":{"id":7}}"#);
    assert_eq!(format!("{error:?}"), error.to_string());
    let untyped = untyped::displayed::on(&client).await.unwrap_err();
    let printed = r#"not_found: there is no account 7 (the function returned {"NoSuch":{"id":7}})"#;
    assert_eq!(untyped.to_string(), printed);
}

/// A closure's error has no place for a trait that its type may have.
#[tokio::test]
async fn the_error_of_a_closure_has_the_beginning_of_its_value() {
    let closure = || async { Err::<u8, _>(Account::Locked) };
    let running = Running::new(Server::new().function("displayed", closure)).await;
    let answer = raw(running.address, post("/rpc/displayed", "")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("unknown")));
    assert_eq!(answer.json()["detail"], "`displayed` returned its own error: \"Locked\"");
}

/// `?` makes one error of a call's two where the function's own is a [`byname::Error`] already.
#[tokio::test]
async fn a_function_whose_error_is_byname_error_gives_one_kind_of_error() {
    #[rpc]
    async fn fails() -> Result<u8, Error> {
        Err(Error::new(Code::NotFound, "gone"))
    }

    async fn passes_on(client: &Client) -> Result<u8, Error> {
        Ok(fails::on(client).await?)
    }

    let client = Client::local(&Server::new().method::<fails>()).unwrap();
    let error = passes_on(&client).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "gone"));
}
