//! byname calls `tests/interop/original_server.py`, a service on Tornado: `interop_client HOST:PORT`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use byname::{Args, CallError, Client, Code, Executed, rpc};
use serde::Serialize;
use serde_json::{Value, json};

// Declared, not defined: these functions are Python.
#[rpc(readonly)]
async fn add(a: i64, b: i64) -> i64;

#[rpc(readonly)]
async fn greet(name: &str, greeting: Option<String>) -> String;

#[rpc]
async fn bump(by: i64) -> i64;

async fn by_position(data: Client) {
    assert_eq!(data.call::<i64>("add", (1, 2)).await.unwrap(), 3);
    assert_eq!(data.call::<String>("greet", ("Ann", "hi")).await.unwrap(), "hi, Ann");
    assert_eq!(data.call::<i64>("add", vec![1, 2]).await.unwrap(), 3);
}

async fn by_keyword(data: Client) {
    #[derive(Serialize)]
    struct Add {
        a: i64,
        b: i64,
    }
    assert_eq!(data.call::<i64>("add", Add { a: 1, b: 2 }).await.unwrap(), 3);
    let greet = BTreeMap::from([("name", "Ann"), ("greeting", "hi")]);
    assert_eq!(data.call::<String>("greet", greet).await.unwrap(), "hi, Ann");
}

async fn by_position_and_keyword(data: Client) {
    let args = Args::new().arg("Ann").kwarg("greeting", "hi");
    assert_eq!(data.call::<String>("greet", args).await.unwrap(), "hi, Ann");
}

async fn without_arguments(data: Client) {
    data.call::<()>("nothing", ()).await.unwrap();
}

async fn by_stub(data: Client) {
    assert_eq!(add::on(&data, 1, 2).await.unwrap(), 3);
    assert_eq!(greet::on(&data, "Ann", Some("hi".into())).await.unwrap(), "hi, Ann");
    // What is `None` is left out, so Python's own default stands.
    assert_eq!(greet::on(&data, "Ann", None).await.unwrap(), "hello, Ann");
}

async fn bound_method(data: Client) {
    let before = bump::on(&data, 0).await.unwrap();
    assert_eq!(bump::on(&data, 5).await.unwrap(), before + 5);
}

async fn text(data: Client) {
    for text in ["", "ä", "日本語", "😀", "\0", "a\0b", "\"\\/\u{8}\u{c}\n\r\t", "\u{2028}", "\u{feff}", "\u{10ffff}"]
    {
        let value = json!({ text: [text] });
        assert_eq!(data.call::<Value>("echo", (value.clone(),)).await.unwrap(), value);
        assert_eq!(greet::on(&data, text, Some(text.into())).await.unwrap(), format!("{text}, {text}"));
    }
    assert_eq!(data.call::<i64>("twice", BTreeMap::from([("größe", 2)])).await.unwrap(), 4);
}

async fn big_integers(data: Client) {
    for number in [(1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MIN] {
        assert_eq!(data.call::<i64>("signed", (number,)).await.unwrap(), number);
    }
    for number in [(1 << 53) + 1, 1 << 63, u64::MAX] {
        assert_eq!(data.call::<u64>("unsigned", (number,)).await.unwrap(), number);
    }
    assert_eq!(data.call::<u64>("power_of_two", (63,)).await.unwrap(), 1 << 63);
}

/// Python goes on where 64 bits end.
async fn integers_beyond_64_bits(data: Client) {
    let error = rpc_error(data.call::<u64>("power_of_two", (64,)).await);
    assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes), "{error}");
    let number = (1u128 << 64) + 1;
    assert_eq!(data.call::<u128>("echo", (number,)).await.unwrap(), number);
    match data.call::<Value>("echo", (number,)).await {
        Ok(value) => assert_eq!(value.to_string(), number.to_string(), "rounded"),
        Err(error) => assert_eq!(error.executed(), Executed::Yes, "{error}"),
    }
}

async fn floats(data: Client) {
    for number in [0.1, -0.0, 1e300, 5e-324, f64::MAX] {
        let echoed = data.call::<f64>("echo", (number,)).await.unwrap();
        assert_eq!(echoed.to_bits(), number.to_bits(), "{number} became {echoed}");
    }
    for number in [f64::NAN, f64::INFINITY] {
        let error = rpc_error(data.call::<Value>("echo", (number,)).await);
        assert_eq!((error.code(), error.executed()), (Code::InvalidArgument, Executed::No), "{error}");
    }
    // Python writes `{"ret": NaN}`, which is not JSON.
    let error = rpc_error(data.call::<Option<f64>>("not_a_number", ()).await);
    assert_eq!(error.code(), Code::Internal, "{error}");
    assert_ne!(error.executed(), Executed::No, "{error}");
}

async fn unknown_function(data: Client) {
    let error = rpc_error(data.call::<i64>("nowhere", ()).await);
    assert_eq!((error.code(), error.executed()), (Code::Unimplemented, Executed::No), "{error}");
    assert!(error.message().contains("`nowhere`"), "{error}");
}

async fn error_of_a_function(data: Client) {
    // All that Tornado says is 500: nothing tells how far the function got.
    for error in [
        rpc_error(data.call::<i64>("fail", ()).await),
        rpc_error(data.call::<i64>("add", (1,)).await),
        rpc_error(data.call::<i64>("add", (1, "two")).await),
    ] {
        assert_eq!(error.executed(), Executed::Unknown, "{error}");
        assert!(error.message().contains("500"), "{error}");
    }
}

async fn deadline(data: Client) {
    let error = rpc_error(data.call::<i64>("slow", (300,)).timeout(Duration::from_millis(50)).await);
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Unknown), "{error}");
    // The late answer belongs to nobody else.
    assert_eq!(add::on(&data, 1, 2).await.unwrap(), 3);
}

async fn large_message(data: Client) {
    let text = "x".repeat(1 << 20);
    assert_eq!(data.call::<String>("echo", (text.clone(),)).await.unwrap(), text);
    let error = rpc_error(data.call::<String>("echo", ("x".repeat(5 << 20),)).await);
    assert_eq!(error.limit(), Some("message"), "{error}");
    assert_eq!(add::on(&data, 1, 2).await.unwrap(), 3);
}

async fn callback(data: Client) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        data.call_then::<i64>("add", (1, 2), move |result| sender.send(result).unwrap());
    });
    let result = tokio::task::spawn_blocking(move || receiver.recv()).await.unwrap();
    assert_eq!(result.expect("the callback was called").unwrap(), 3);
}

async fn one_after_another_on_one_connection(data: Client) {
    let before = connections(&data).await;
    for n in 0..100 {
        assert_eq!(add::on(&data, n, 1).await.unwrap(), n + 1);
    }
    let opened = connections(&data).await - before;
    assert!(opened <= 1, "{opened} connections");
}

async fn calls_at_once(data: Client) {
    let before = connections(&data).await;
    let calls: Vec<_> = (0..10_000).map(|n| (n, tokio::spawn(add::on(&data, n, 1 << 53)))).collect();
    for (n, call) in calls {
        assert_eq!(call.await.unwrap().unwrap(), n + (1 << 53));
    }
    let opened = connections(&data).await - before;
    println!("    10000 calls, {opened} connections opened");
    assert!(opened <= 128, "{opened} connections");
}

async fn each_call_runs_once(data: Client) {
    let before = bump::on(&data, 0).await.unwrap();
    let calls: Vec<_> = (0..1_000).map(|_| tokio::spawn(bump::on(&data, 1))).collect();
    let mut totals = Vec::new();
    for call in calls {
        totals.push(call.await.unwrap().unwrap());
    }
    totals.sort_unstable();
    assert!(totals.into_iter().eq(before + 1..=before + 1_000), "a call ran twice or not at all");
}

/// How many connections the server has accepted so far.
async fn connections(data: &Client) -> u64 {
    data.call("connections", ()).await.unwrap()
}

fn rpc_error<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> byname::Error {
    match result {
        Err(CallError::Rpc(error)) => error,
        other => panic!("{other:?} instead of an error of the call"),
    }
}

type Test = (&'static str, fn(Client) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! tests {
    ($($test:ident),* $(,)?) => { [$((stringify!($test), |data| Box::pin($test(data)))),*] };
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("interop_client HOST:PORT");
        return ExitCode::FAILURE;
    };
    // No scheme, as in the original.
    let data = Client::new(format!("{address}/rpc")).expect("an address");
    let tests: &[Test] = &tests![
        by_position,
        by_keyword,
        by_position_and_keyword,
        without_arguments,
        by_stub,
        bound_method,
        text,
        big_integers,
        integers_beyond_64_bits,
        floats,
        unknown_function,
        error_of_a_function,
        deadline,
        large_message,
        callback,
        one_after_another_on_one_connection,
        calls_at_once,
        each_call_runs_once,
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        // A task of its own, so that a panic fails this test only.
        if tokio::spawn(test(data.clone())).await.is_ok() {
            passed += 1;
            println!("ok {name}");
        } else {
            failed += 1;
            println!("FAILED {name}");
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
