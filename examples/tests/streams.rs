//! Runs the examples of streams as a user would, with their own callers and with curl.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A process that ends when this is dropped, line by line.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|said| line.send(said)));
        Self { stdin: child.stdin.take(), child, lines }
    }

    fn says(&self, expected: &str) {
        let said = self.lines.recv_timeout(Duration::from_secs(60));
        assert_eq!(said.as_deref(), Ok(expected));
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes its input, as Ctrl-D does.
    fn close_input(&mut self) {
        self.stdin = None;
    }

    fn ends_well(mut self) {
        let more = self.lines.recv_timeout(Duration::from_secs(60));
        assert_eq!(more, Err(mpsc::RecvTimeoutError::Disconnected));
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example that serves, and where.
struct Service {
    name: &'static str,
    address: String,
    directory: PathBuf,
    _running: Running,
}

/// Cargo puts examples beside the folder that tests run from, and builds them for `cargo test`.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        example.exists(),
        "{example:?} is not there: `cargo build --example {name}`, in the same profile, makes it"
    );
    Command::new(example)
}

impl Service {
    fn start(name: &'static str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        let running = Running::start(example(name).args(["serve", "127.0.0.1:0"]).current_dir(&directory));
        let address = running.lines.recv_timeout(Duration::from_secs(60)).expect("it says where it serves");
        Self { name, address, directory, _running: running }
    }

    fn call(&self, arguments: &[&str]) -> Running {
        Running::start(example(self.name).args(["call", &self.address]).args(arguments))
    }

    /// Curl with the arguments of an example's documentation: the last is what stands behind `localhost:8080`.
    fn curl(&self, arguments: &[&str]) -> Running {
        let (path, options) = arguments.split_last().unwrap();
        let options = ["--no-progress-meter", "--noproxy", "*"].iter().chain(options);
        let url = format!("{}{path}", self.address);
        Running::start(Command::new("curl").args(options).arg(url).current_dir(&self.directory))
    }

    /// The status and the body that curl gets.
    fn answer(&self, arguments: &[&str]) -> (String, String) {
        let status = ["--write-out", "\n%{http_code}"];
        let curl = self.curl(&[&status, arguments].concat());
        let mut said: Vec<_> = curl.lines.iter().collect();
        (said.pop().unwrap_or_default(), said.join("\n"))
    }
}

#[test]
fn a_log_is_followed_from_any_line_by_whoever_asks() {
    let service = Service::start("log_follower");
    let log = service.directory.join("log");
    fs::write(&log, "one\ntwo\n").unwrap();
    let append = |text: &str| OpenOptions::new().append(true).open(&log).unwrap().write_all(text.as_bytes()).unwrap();

    let all = [service.call(&["log"]), service.call(&["log", "1"])];
    let curl = service.curl(&["-N", "/rpc/follow?path=log"]);
    let events = service.curl(&["-N", "-H", "accept: text/event-stream", "/rpc/follow?path=log&from=1"]);
    all[0].says("one");
    for caller in &all {
        caller.says("two");
    }
    curl.says(r#"{"item":"one"}"#);
    curl.says(r#"{"item":"two"}"#);
    events.says(r#"data: "two""#);
    events.says("");

    // All of them have read what there was, so what comes now was not there when they came.
    append("three\nfo");
    for caller in &all {
        caller.says("three");
    }
    curl.says(r#"{"item":"three"}"#);
    events.says(r#"data: "three""#);
    events.says("");
    append("ur\n");
    for caller in &all {
        caller.says("four");
    }
    curl.says(r#"{"item":"four"}"#);
    events.says(r#"data: "four""#);
}

#[test]
fn a_log_that_is_not_there_is_an_answer_and_no_stream() {
    let service = Service::start("log_follower");
    for (path, expected) in [("nowhere", "404"), ("../log", "403"), ("/log", "403")] {
        let (status, body) = service.answer(&[&format!("/rpc/follow?path={path}")]);
        assert_eq!(status, expected, "{path}: {body}");
    }
}

#[test]
fn measurements_are_summed_up_from_a_program_and_from_a_file() {
    let service = Service::start("upload_sum");
    fs::write(
        service.directory.join("measurements.ndjson"),
        "{\"sensor\":\"a\",\"value\":1.5}\n{\"sensor\":\"b\",\"value\":4}\n",
    )
    .unwrap();
    let caller = service.call(&["100000"]);
    caller.says(
        r#"{"count":100000,"sum":5000050000.0,"greatest":100000.0,"by_sensor":{"s0":33333,"s1":33334,"s2":33333}}"#,
    );
    caller.ends_well();

    let all = r#"{"count":2,"sum":5.5,"greatest":4.0,"by_sensor":{"a":1,"b":1}}"#;
    let above = r#"{"count":1,"sum":4.0,"greatest":4.0,"by_sensor":{"b":1}}"#;
    let none = r#"{"count":0,"sum":0.0,"greatest":null,"by_sensor":{}}"#;
    let file = "@measurements.ndjson";
    for (arguments, expected) in [
        (&["--data-binary", file, "/rpc/summarize"][..], all),
        (&["--data-binary", file, "/rpc/summarize?above=2"], above),
        (&["-X", "POST", "-T", "measurements.ndjson", "/rpc/summarize"], all),
        (&["-X", "POST", "-T", "measurements.ndjson", "/rpc/summarize?above=2"], above),
        (&["--data-binary", "", "/rpc/summarize"], none),
    ] {
        assert_eq!(service.answer(arguments), ("200".to_owned(), expected.to_owned()));
    }
    let wrong = "{\"sensor\":\"a\",\"value\":1}\n{\"sensor\":\"a\"}\n";
    let (status, body) = service.answer(&["--data-binary", wrong, "/rpc/summarize"]);
    assert_eq!(status, "400", "{body}");
    assert!(body.contains("item 2 of the stream `measurements`") && body.contains("`value`"), "{body}");
}

#[test]
fn guests_hear_each_other_on_every_way() {
    let service = Service::start("chat");
    let mut ann = service.call(&["Ann"]);
    ann.says("Ann joins");
    let mut bob = service.curl(&["-N", "-X", "POST", "-T", ".", "/rpc/join?name=Bob"]);
    ann.says("Bob joins");
    bob.says(r#"{"item":"Bob joins"}"#);

    ann.type_in("hello");
    ann.says("Ann says hello");
    bob.says(r#"{"item":"Ann says hello"}"#);
    bob.type_in(r#""hi \"Ann\"""#);
    ann.says(r#"Bob says hi "Ann""#);
    bob.says(r#"{"item":"Bob says hi \"Ann\""}"#);

    // A guest whose connection is cut leaves too.
    let cat = service.call(&["Cat"]);
    ann.says("Cat joins");
    bob.says(r#"{"item":"Cat joins"}"#);
    drop(cat);
    ann.says("Cat leaves");
    bob.says(r#"{"item":"Cat leaves"}"#);

    ann.close_input();
    bob.says(r#"{"item":"Ann leaves"}"#);
    ann.ends_well();
    bob.close_input();
    bob.says(r#"{"end":6}"#);
    bob.ends_well();
}
