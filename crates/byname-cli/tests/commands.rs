//! Commands against a service of this process: what they print, and their exit codes.

use std::future::IntoFuture as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use byname::{Bytes, Code, Error, Server, Streaming, rpc};
use futures_util::{Stream, TryStreamExt as _, stream};

#[rpc(readonly)]
async fn unsigned(n: u128) -> u128 {
    n
}

#[rpc(readonly)]
async fn signed(n: i128) -> Vec<i128> {
    vec![n]
}

#[rpc(readonly)]
fn count(to: u64) -> impl Stream<Item = u64> {
    stream::iter(0..to)
}

/// The address of a service with these functions.
async fn serve() -> String {
    serve_these(Server::new().method::<unsigned>().method::<signed>().method::<count>()).await
}

async fn serve_these(server: Server) -> String {
    let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
    let address = bound.local_addr().to_string();
    tokio::spawn(bound.into_future());
    address
}

/// Runs a command to its end.
async fn run(command: &mut Command) -> Output {
    let mut command = std::mem::replace(command, Command::new("true"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A command without a configuration file.
fn byname(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_byname"));
    command.args(words).env_remove("BYNAME_URL").env("BYNAME_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn numbers_of_128_bits_go_there_and_back() {
    let service = serve().await;
    let (most, least) = (u128::MAX.to_string(), i128::MIN.to_string());
    for way in [&["--timeout", "30s"][..], &["--http"]] {
        for (name, number, expected) in [("unsigned", &most, most.clone()), ("signed", &least, format!("[{least}]"))] {
            let done = run(byname(&["call", &service, name, number]).args(way)).await;
            assert_eq!((text(&done.stdout), text(&done.stderr)), (format!("{expected}\n"), String::new()), "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_service_with_a_name_is_called_by_its_address() {
    let service = serve().await;
    let folder = std::env::temp_dir().join(format!("byname-commands-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    let shop = format!("[services.shop]\nurl = '{service}'\ntoken_env = 'BYNAME_TEST_TOKEN'\n");
    std::fs::write(&file, shop).unwrap();
    let named = |words: &[&str]| {
        let mut command = byname(words);
        command.env("BYNAME_CONFIG", &file).env_remove("BYNAME_TOKEN").env("BYNAME_TEST_TOKEN", "");
        command
    };
    let url = format!("http://{service}/rpc");
    for format in ["openapi", "openrpc"] {
        let by_name = run(&mut named(&[format, "shop"])).await;
        let by_variable = run(byname(&[format]).env("BYNAME_URL", &service)).await;
        for done in [by_name, by_variable] {
            let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!(document["servers"][0]["url"], url, "{format}");
        }
    }
    let done = run(named(&["call", "shop", "unsigned", "1"]).env_remove("BYNAME_TEST_TOKEN")).await;
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("BYNAME_TEST_TOKEN, which is not set"), "{done:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_wrong_setting_is_an_error_of_the_command() {
    for words in [&["call", "ftp://shop", "f"][..], &["list", "localhost:1", "--ca", "/nowhere/ca.pem"]] {
        let done = run(&mut byname(words)).await;
        assert_eq!(done.status.code(), Some(2), "{words:?}: {done:?}");
    }
    let done = run(&mut byname(&["check", "shop.invalid", "--against", "shop.invalid"])).await;
    assert!(done.status.code() == Some(5) && text(&done.stderr).contains("neither a file nor a service"), "{done:?}");
    let service = serve_these(Server::new().method::<total>()).await;
    let shown = text(&run(&mut byname(&["show", &service, "total"])).await.stdout);
    assert!(shown.contains("total factor=0 < ITEMS"), "{shown}");
}

#[tokio::test]
async fn what_the_configuration_names_must_be_there() {
    let service = serve().await;
    let folder = std::env::temp_dir().join(format!("byname-configuration-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    std::fs::write(&file, format!("default = 'shp'\n[services.shop]\nurl = '{service}'\n")).unwrap();
    let fails = async |command: &mut Command, words: &[&str]| {
        let done = run(command).await;
        let said = text(&done.stderr);
        assert!(done.status.code() == Some(2) && words.iter().all(|word| said.contains(word)), "{done:?}");
    };
    let missing = folder.join("nofile");
    fails(byname(&["list", &service]).env("BYNAME_CONFIG", missing), &["nofile", "BYNAME_CONFIG"]).await;
    fails(byname(&["list"]).env("BYNAME_CONFIG", &file), &["`default`", "`shp`", "`shop`"]).await;
    let mut command = byname(&["call", "unsigned", "1"]);
    fails(command.env("BYNAME_CONFIG", &file).env("BYNAME_URL", "shp"), &["BYNAME_URL", "`shp`", "`shop`"]).await;
    let done = run(byname(&["call", "unsigned", "1"]).env("BYNAME_CONFIG", &file).env("BYNAME_URL", "shop")).await;
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("1\n".to_owned(), String::new()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_lock_file_is_compared_with_its_revision_from_any_folder() {
    let folder = std::env::temp_dir().join(format!("byname-revisions-{}", std::process::id()));
    let shop = folder.join("services/shop");
    std::fs::create_dir_all(&shop).unwrap();
    let lock = shop.join("byname.lock");
    let lock = lock.to_str().unwrap();
    let service = serve().await;
    let written = run(&mut byname(&["lock", &service, "--output", lock])).await;
    assert!(written.status.success(), "{written:?}");
    for words in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "The contract"]] {
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let done = run(Command::new("git").current_dir(&folder).args(who).args(words)).await;
        assert!(done.status.success(), "{done:?}");
    }
    let from = async |at: &Path, file: &str, against: &str| {
        run(byname(&["check", file, "--against", against]).current_dir(at)).await
    };
    for (at, file) in [(&shop, "byname.lock"), (&folder, "services/shop/byname.lock"), (&std::env::temp_dir(), lock)] {
        let done = from(at, file, "git:HEAD").await;
        assert!(done.status.success(), "{file} in {at:?}: {done:?}");
    }
    let done = from(&folder, lock, "git:HEAD:services/shop/byname.lock").await;
    assert!(done.status.success(), "{done:?}");
    // git would write a file.
    let done = from(&shop, "byname.lock", "git:--output=a:b").await;
    assert_eq!((done.status.code(), shop.join("a:b").exists()), (Some(2), false), "{done:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[rpc(readonly)]
async fn reversed(file: Bytes) -> Bytes {
    file.iter().rev().copied().collect::<Vec<_>>().into()
}

#[rpc(readonly)]
async fn total(factor: u64, items: Streaming<u64>) -> Result<u64, Error> {
    let items: Vec<u64> = items.try_collect().await?;
    Ok(items.iter().sum::<u64>() * factor)
}

#[tokio::test]
async fn bytes_are_sent_from_a_file() {
    let service = serve_these(Server::new().method::<reversed>()).await;
    let file = std::env::temp_dir().join(format!("byname-bytes-{}", std::process::id()));
    std::fs::write(&file, [0, 159, 146, 150]).unwrap();
    let argument = format!("@{}", file.display());
    for word in [argument.clone(), format!("file={argument}"), "AJ+Slg==".to_owned()] {
        let done = run(&mut byname(&["call", &service, "reversed", &word])).await;
        assert_eq!((text(&done.stdout), text(&done.stderr)), ("\"lpKfAA==\"\n".to_owned(), String::new()), "{word}");
    }
    let shown = text(&run(&mut byname(&["show", &service, "reversed"])).await.stdout);
    assert!(shown.contains("file  bytes (base64)\n  →     bytes (base64)\n"), "{shown}");
    assert!(shown.contains("reversed file=@FILE"), "{shown}");
    let done = run(&mut byname(&["call", &service, "reversed", &format!("--json={argument}")])).await;
    assert!(done.status.code() == Some(2) && text(&done.stderr).contains("not UTF-8"), "{done:?}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn credentials_are_not_shown() {
    let service = serve().await;
    let done =
        run(&mut byname(&["call", &service, "unsigned", "7", "-v", "-H", "Authorization: Basic c2VjcmV0"])).await;
    let said = text(&done.stderr);
    assert!(said.contains("> Authorization: …") && !said.contains("c2VjcmV0"), "{said}");
}

#[tokio::test]
async fn standard_input_is_not_both_an_argument_and_a_stream() {
    let service = serve_these(Server::new().method::<total>()).await;
    for words in [["total", "@-"], ["total", "--json=-"]] {
        let done = run(byname(&["call", &service]).args(words)).await;
        assert!(done.status.code() == Some(2) && text(&done.stderr).contains("`items`"), "{done:?}");
    }
}

#[rpc(readonly)]
async fn account(id: u64) -> Result<u64, Error> {
    let code = if id == 0 { Code::Unavailable } else { Code::NotFound };
    Err(Error::new(
        code,
        format!("there is no account {id}, and there has never been one with this number, nor will there be"),
    ))
}

#[rpc(keyed)]
async fn pay(cents: u64) -> u64 {
    cents
}

#[tokio::test]
async fn the_exit_code_says_whether_the_function_ran() {
    let service = serve_these(Server::new().method::<account>()).await;
    for (words, expected) in [(["account", "7"], 1), (["account", "0"], 1), (["acount", "7"], 3), (["account", "x"], 7)]
    {
        let done = run(byname(&["call", &service]).args(words)).await;
        assert_eq!(done.status.code(), Some(expected), "{words:?}: {done:?}");
    }
    let silent = serve_these(Server::new().method::<account>().listing(false)).await;
    let written = std::env::temp_dir().join(format!("byname-not-told-{}.lock", std::process::id()));
    let lock = written.to_str().unwrap();
    for words in [&["list", &silent][..], &["show", &silent, "account"], &["lock", &silent, "-o", lock]] {
        let done = run(&mut byname(words)).await;
        assert_eq!(done.status.code(), Some(4), "{words:?}: {done:?}");
    }
    // A caller that may call no function learns of none.
    let closed = Server::new().method::<account>().allow("account", |_| false);
    let closed = serve_these(closed).await;
    let done = run(&mut byname(&["lock", &closed, "-o", lock])).await;
    assert!(done.status.code() == Some(4) && text(&done.stderr).contains("--token"), "{done:?}");
    assert!(!written.exists());
    let done = run(&mut byname(&["lock", &service, "-o", "/nowhere/byname.lock"])).await;
    assert_eq!(done.status.code(), Some(8), "{done:?}");
}

#[tokio::test]
async fn streams_of_a_service_that_does_not_tell_its_schema() {
    let service = serve_these(Server::new().method::<count>().method::<total>().listing(false)).await;
    let done = run(&mut byname(&["call", &service, "count", "2"])).await;
    assert!(text(&done.stderr).contains("`--stream`"), "{done:?}");
    let done = run(&mut byname(&["call", &service, "count", "2", "--stream"])).await;
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("0\n1\n".to_owned(), String::new()));
    let done = run(&mut byname(&["call", &service, "total", "2", "--items"])).await;
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("0\n".to_owned(), String::new()));
}

#[tokio::test]
async fn a_check_says_what_it_could_not_compare() {
    let service = serve_these(Server::new().method::<reversed>().method::<unsigned>()).await;
    let check = async |more: &[&str]| {
        let words = [&["check", &service, "--against", &service], more].concat();
        text(&run(&mut byname(&words)).await.stdout)
    };
    let shown = check(&[]).await;
    assert!(shown.starts_with("compared only in part:\n  reversed"), "{shown}");
    assert!(shown.ends_with("\nno difference in what is sent and what is accepted\n"), "{shown}");
    let document: serde_json::Value = serde_json::from_str(&check(&["--format", "json"]).await).unwrap();
    assert!(document["open"].as_array().is_some_and(|open| !open.is_empty()), "{document}");
}

#[tokio::test]
async fn an_accepted_break_is_shown_with_its_reason() {
    let folder = std::env::temp_dir().join(format!("byname-accepted-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let old = serve_these(Server::new().function(("f", ["a"]), |a: u16| async move { a })).await;
    let new = serve_these(Server::new().function(("f", ["a"]), |a: u8| async move { u16::from(a) })).await;
    for (service, file) in [(&old, "old.lock"), (&new, "new.lock")] {
        let done = run(byname(&["lock", service, "-o", file]).current_dir(&folder)).await;
        assert!(done.status.success(), "{done:?}");
    }
    let lines = "range-narrower f arguments.a: it was always a byte\nfunction-missing h: \u{1b}[2J\nfunction-missing g: it is gone\n";
    std::fs::write(folder.join("byname.accepted"), lines).unwrap();
    let check = async |more: &[&str]| {
        let words = [&["check", "new.lock", "--against", "old.lock"], more].concat();
        let done = run(byname(&words).current_dir(&folder)).await;
        assert!(done.status.success(), "{done:?}");
        text(&done.stdout)
    };
    let shown = check(&[]).await;
    assert!(shown.contains("  accepted  old clients") && shown.contains("reason it was always a byte"), "{shown}");
    assert!(shown.contains("accepted without need: function-missing g: it is gone\n"), "{shown}");
    assert!(shown.ends_with("\n1 accepted, no other break of old clients\n"), "{shown}");
    let document: serde_json::Value = serde_json::from_str(&check(&["--format", "json"]).await).unwrap();
    assert_eq!(document["differences"][0]["reason"], "it was always a byte");
    assert_eq!(document["accepted_without_need"][1], "function-missing g: it is gone");
    let shown = check(&["--format", "github"]).await;
    assert!(
        shown.contains("::notice file=new.lock,title=range-narrower::accepted, because it was always a byte: f"),
        "{shown}"
    );
    assert!(
        shown.contains("::warning file=byname.accepted,title=accepted::accepted without need: function-missing g"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}') && shown.contains("function-missing h: \\u{1b}[2J"), "{shown}");
    let done = run(byname(&["check", "new.lock", "--against", "git:"]).current_dir(&folder)).await;
    assert!(done.status.code() == Some(2) && text(&done.stderr).contains("needs a revision"), "{done:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[rpc(readonly)]
async fn gone(n: u32) -> u32 {
    n
}

#[tokio::test]
async fn a_check_against_a_service_says_who_still_calls_what_breaks() {
    let old =
        || Server::new().method::<gone>().method::<unsigned>().function(("narrow", ["n"]), |n: u16| async move { n });
    let new = serve_these(
        Server::new().method::<unsigned>().function(("narrow", ["n"]), |n: u8| async move { u16::from(n) }),
    );
    let (new, service) = (new.await, serve_these(old()).await);
    for number in ["1", "2"] {
        assert!(run(&mut byname(&["call", &service, "gone", number])).await.status.success());
    }
    let check = async |against: &str, more: &[&str]| {
        let done = run(&mut byname(&[&["check", &new, "--against", against], more].concat())).await;
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        text(&done.stdout)
    };
    let shown = check(&service, &[]).await;
    assert!(
        shown.contains("\n            2 calls since start (") && shown.contains("\n            0 calls since start ("),
        "{shown}"
    );
    assert_eq!(shown.matches("since start").count(), 2, "{shown}");
    let document: serde_json::Value = serde_json::from_str(&check(&service, &["--format", "json"]).await).unwrap();
    let calls = |name| {
        let mut all = document["differences"].as_array().unwrap().iter();
        all.find(|difference| difference["function"] == name).unwrap()["calls_since_start"].as_u64()
    };
    assert_eq!((calls("gone"), calls("narrow")), (Some(2), Some(0)), "{document:#}");
    assert_eq!(document["counted"]["servers"], 1, "{document:#}");
    let shown = check(&service, &["--format", "github", "--both"]).await;
    assert!(shown.contains("2 calls since start (") && shown.contains("0 calls since start ("), "{shown}");
    // Two services are compared, so there is no file.
    assert!(shown.contains("::error title=function-missing::gone") && !shown.contains("file="), "{shown}");
    // Several servers are counted together.
    let second = serve_these(old()).await;
    let shown = check(&format!("{service},{second}"), &[]).await;
    assert!(shown.contains("2 calls since start (") && shown.contains(", the last of 2 servers)"), "{shown}");
    // What is not told is not said.
    let silent = serve_these(old().metrics(false)).await;
    for form in ["text", "json", "github"] {
        let shown = check(&silent, &["--format", form]).await;
        assert!(!shown.contains("since") && !shown.contains("counted"), "{shown}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_an_error() {
    let service = serve().await;
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for words in [&["call", &service, "count", "3"][..], &["call", &service, "unsigned", "3"], &["list", &service]] {
        let done = run(byname(words).stdout(full())).await;
        assert_eq!(done.status.code(), Some(8), "{words:?}: {done:?}");
    }
    // Where the error can't be told, the exit code still says it.
    for (words, expected) in [
        (&["call", &service, "nothing"][..], 3),
        (&["call", &service, "unsigned", "3", "--verbose"], 0),
        (&["call", &service, "unsigned", "text"], 7),
    ] {
        let done = run(byname(words).stderr(full())).await;
        assert_eq!(done.status.code(), Some(expected), "{words:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_load_that_is_told_to_end_reports_what_was_measured() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new().function("tell", move || {
        let _ = arrived.send(());
        async { 7 }
    });
    let service = serve_these(server).await;
    let mut load = byname(&["bench", &service, "tell", "--yes", "--duration", "1h", "--warm-up", "0s", "--json", "-"]);
    let running = load.stdout(Stdio::piped()).spawn().unwrap();
    // A call has come, so the signal is awaited.
    arrivals.recv().await.unwrap();
    let told = run(Command::new("kill").args(["-TERM", &running.id().to_string()])).await;
    assert!(told.status.success(), "{told:?}");
    let done = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap()).await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["is_interrupted"]), (Some(0), &true.into()), "{report:#}");
    assert!(report["calls"].as_u64() > Some(0), "{report:#}");
}

#[tokio::test]
async fn a_load_is_of_calls_that_can_succeed() {
    let service = serve_these(Server::new().method::<count>().method::<pay>().method::<account>()).await;
    let done = run(&mut byname(&["bench", &service, "count", "3"])).await;
    assert!(done.status.code() == Some(2) && text(&done.stderr).contains("returns a stream"), "{done:?}");
    let done = run(&mut byname(&["bench", &service, "pay", "7", "--yes", "--calls", "20"])).await;
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    // A program gets the whole text of an error.
    let done = run(&mut byname(&["bench", &service, "account", "7", "--calls", "1", "--warm-up", "0s"])).await;
    assert!(text(&done.stdout).contains("with this number, nor will there be"), "{done:?}");
}

#[tokio::test]
async fn a_load_asks_for_the_schema_within_its_time_out() {
    // It accepts, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = silent.local_addr().unwrap().to_string();
    let done = run(&mut byname(&["bench", &service, "f", "--timeout", "100ms"])).await;
    assert_eq!(done.status.code(), Some(6), "{done:?}");
    let said = text(&done.stderr);
    assert!(said.contains("within 100ms") && said.contains("so `f` was not called"), "{said}");
}
