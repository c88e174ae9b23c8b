//! The programs that `byname call --as` prints make the same call as the command. Those of a tool that is not installed are left out.

use std::future::IntoFuture as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use byname::{Context, Error, Server, Streaming, rpc};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::Value;

#[rpc(readonly)]
async fn measure(text: String, id: u64, line: Value) -> u64 {
    text.len() as u64 + id % 1_000 + line.to_string().len() as u64
}

#[rpc(readonly)]
async fn quarter(n: u128) -> u128 {
    n / 4
}

#[rpc(readonly)]
async fn opposite(is: bool) -> (Option<u8>, bool, String) {
    (None, !is, "ß".to_owned())
}

/// What came, with all its digits.
#[rpc(readonly)]
async fn echo(line: Value) -> Value {
    line
}

/// The items as they came, with all their digits.
#[rpc(readonly)]
async fn joined(items: Streaming<Value>) -> Result<String, Error> {
    let mut items = std::pin::pin!(items);
    let mut texts = Vec::new();
    while let Some(item) = items.next().await {
        texts.push(item?.to_string());
    }
    Ok(texts.join(" "))
}

/// The numbers, one by one.
#[rpc(readonly)]
fn each(lines: Vec<Value>) -> impl Stream<Item = Value> {
    stream::iter(lines)
}

#[rpc(readonly)]
async fn header() -> Option<String> {
    Context::current()?.header("x-note").map(str::to_owned)
}

#[rpc(keyed)]
async fn pay(cents: i64) -> i64 {
    cents
}

#[rpc(readonly)]
fn count(to: u64) -> impl Stream<Item = u64> {
    stream::iter(0..to)
}

#[rpc(readonly)]
async fn sum(factor: i64, name: String, items: Streaming<i64>) -> Result<i64, Error> {
    let mut items = std::pin::pin!(items);
    let mut sum = name.len() as i64;
    while let Some(item) = items.next().await {
        sum += factor * item?;
    }
    Ok(sum)
}

#[rpc(readonly)]
fn scaled(factor: i64, items: Streaming<i64>) -> impl Stream<Item = Result<i64, Error>> {
    items.map(move |item| item.map(|item| item * factor))
}

struct Call {
    name: &'static str,
    arguments: &'static [&'static str],
    items: &'static str,
    shown: &'static str,
}

/// What a literal of some language would round, or write otherwise.
const DIGITS: &str = "[9007199254740993,-9223372036854775808,18446744073709551615,340282366920938463463374607431768211455,\
     0.123456789012345678901234567891,123456789012345678901234567890.5,1.10,5.0,-0.0,-0,1e+5,1e+400,0.1,1.5]";

/// What a literal of some language, or a shell, would take for something else.
const TEXT: &str = "it's \"$HOME\" `id` $(id) ${HOME} %41 %s {{}} #{x} \\ \\n \n\t\r\u{8}\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{feff} */ //  </script> ß😀";

const CALLS: [Call; 9] = [
    Call {
        name: "measure",
        arguments: &["text=it's \"ß\"\u{1b}\n", "id=18446744073709551615", "line={\"a\":[-1,2.5,null,true]}"],
        items: "",
        shown: "650\n",
    },
    Call {
        name: "quarter",
        arguments: &["340282366920938463463374607431768211455"],
        items: "",
        shown: "85070591730234615865843651857942052863\n",
    },
    Call { name: "opposite", arguments: &["true"], items: "", shown: "[null,false,\"ß\"]\n" },
    Call { name: "pay", arguments: &["--timeout", "30s", "7"], items: "", shown: "7\n" },
    Call { name: "pay", arguments: &["--idempotency-key", "order-7", "-H", "x-team: a", "7"], items: "", shown: "7\n" },
    Call { name: "count", arguments: &["3"], items: "", shown: "0\n1\n2\n" },
    Call { name: "sum", arguments: &["2", "ä b&7"], items: "1\n2\n\n3\n", shown: "18\n" },
    Call {
        name: "joined",
        arguments: &[],
        items: "18446744073709551615\n[0.123456789012345678901234567891,1.10]\n-0\n",
        shown: "\"18446744073709551615 [0.123456789012345678901234567891,1.10] -0\"\n",
    },
    Call { name: "scaled", arguments: &["10"], items: "1\n2\n", shown: "10\n20\n" },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_make_the_call() {
    let server = Server::new().method::<measure>().method::<quarter>().method::<opposite>().method::<pay>();
    let server = server.method::<echo>().method::<header>().method::<joined>().method::<each>();
    let bound = server.method::<count>().method::<sum>().method::<scaled>().serve("127.0.0.1:0").bind().await.unwrap();
    let address = bound.local_addr().to_string();
    tokio::spawn(bound.into_future());
    tokio::task::spawn_blocking(move || compare(&address)).await.unwrap();
}

/// The calls, with those whose words are made.
fn calls() -> Vec<Call> {
    let text = Value::from(TEXT).to_string();
    // Each number also as a whole argument, which is written by other means than a part of one.
    let digits = DIGITS.trim_matches(['[', ']']).split(',').map(str::to_owned);
    let lines = digits.chain([DIGITS.to_owned(), format!("[{{\"a\":{DIGITS},{text}:{text},\"__proto__\":7}}]"), text]);
    let echo = |line: String| Call {
        name: "echo",
        arguments: Vec::leak(vec![&*format!("line={line}").leak()]),
        items: "",
        shown: format!("{line}\n").leak(),
    };
    let header =
        |value: &'static str, shown| Call { name: "header", arguments: Vec::leak(vec!["-H", value]), items: "", shown };
    let each = Call {
        name: "each",
        arguments: Vec::leak(vec![&*format!("lines={DIGITS}").leak()]),
        items: "",
        shown: DIGITS.trim_matches(['[', ']']).replace(',', "\n").leak(),
    };
    let headers = [
        header("x-note: it's \"a\" $HOME `id` \\", "\"it's \\\"a\\\" $HOME `id` \\\\\"\n"),
        header("x-note:", "\"\"\n"),
    ];
    CALLS.into_iter().chain(lines.map(echo)).chain([each]).chain(headers).collect()
}

fn compare(address: &str) {
    let folder = env::temp_dir().join(format!("byname-programs-{}", std::process::id()));
    fs::create_dir_all(folder.join("src")).unwrap();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = format!(
        "[package]\nname = \"programs\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         byname = {{ path = {:?}, features = [\"schema\"] }}\nserde_json = {{ version = \"1\", features = [\"arbitrary_precision\"] }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n",
        crates.join("byname")
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The versions that this repository is tested with.
    fs::copy(crates.join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let calls = calls();
    let mut in_rust = "fn main() {\n    let at = std::env::args().nth(1).unwrap();\n".to_owned();
    let mut modules = String::new();
    for (at, call) in calls.iter().enumerate() {
        let byname = |more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_byname"));
            command.args(["call", address, call.name]).args(call.arguments).args(more);
            command.env_remove("BYNAME_URL").env_remove("BYNAME_TOKEN").env("BYNAME_CONFIG", "/dev/null");
            command
        };
        assert_shown(call, &output(byname(&[]), call.items));
        let program = |language: &str| output(byname(&["--as", language]), "");
        let in_shell = output(shell(&program("curl"), "sh"), call.items);
        assert_shown(call, &values(&in_shell));
        if has("python3", &["-c", "import requests"]) {
            assert_shown(call, &output(shell(&program("python"), "python3"), call.items));
        }
        if has("node", &["--version"]) {
            let file = folder.join(format!("{at}.mjs"));
            fs::write(&file, program("typescript")).unwrap();
            let mut node = Command::new("node");
            node.arg(file);
            assert_shown(call, &output(node, call.items));
        }
        fs::write(
            folder.join(format!("src/program_{at}.rs")),
            program("rust") + "\npub fn run() {\n    main().unwrap()\n}\n",
        )
        .unwrap();
        modules.push_str(&format!("mod program_{at};\n"));
        in_rust.push_str(&format!("    if at == \"{at}\" {{ program_{at}::run() }}\n"));
    }
    fs::write(folder.join("src/main.rs"), format!("{modules}{in_rust}}}\n")).unwrap();
    let target = Path::new(env!("CARGO_BIN_EXE_byname")).parent().unwrap().join("tutorial");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--offline"]).current_dir(&folder).env("CARGO_TARGET_DIR", &target);
    assert_eq!(output(build, ""), "");
    for (at, call) in calls.iter().enumerate() {
        let mut program = Command::new(target.join("debug/programs"));
        program.arg(at.to_string());
        assert_shown(call, &output(program, call.items));
    }
    fs::remove_dir_all(folder).unwrap();
}

/// The same values with the same digits. Escapes, and the order of members, may be other ones.
fn assert_shown(call: &Call, shown: &str) {
    let read = |text: &str| text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    assert_eq!(read(shown).expect(shown), read(call.shown).unwrap(), "{} {:?}", call.name, call.arguments);
}

fn has(tool: &str, words: &[&str]) -> bool {
    Command::new(tool).args(words).output().is_ok_and(|done| done.status.success())
}

fn shell(program: &str, with: &str) -> Command {
    let mut command = Command::new(with);
    command.args(["-c", program]).env("no_proxy", "*");
    command
}

/// What a program prints, which must end well.
fn output(mut command: Command, items: &str) -> String {
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that takes no items may have ended.
    let _ = running.stdin.take().unwrap().write_all(items.as_bytes());
    let done = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8(done.stdout).unwrap()
}

/// The values that curl has printed: one, or the items of a stream.
fn values(answer: &str) -> String {
    let value = |line: &str| match serde_json::from_str::<Value>(line).unwrap() {
        Value::Object(members) => members.get("item").map(Value::to_string),
        other => Some(other.to_string()),
    };
    answer.lines().filter_map(value).map(|value| value + "\n").collect()
}
