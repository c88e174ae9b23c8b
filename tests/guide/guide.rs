//! Compiles the Rust of the guide's chapters, runs their tests, and runs their commands beside their programs.
//!
//! In `docs/guide` a block of
//!
//! - `rust` is compiled. It sees the blocks before it in its chapter.
//! - `rust` with `fn main` that serves at an address is the service of the commands below it, at a port that the test
//!   chooses. One that begins with `// src/bin/NAME.rs` is run by `$ cargo run --bin NAME`.
//!   Where one begins with `// NAME/src/lib.rs` those below it find it as `NAME`.
//! - `rust,peers` is compiled with the feature `peers` only: what byname is compared with.
//! - `rust,etcd` is compiled with the feature `etcd` only, and is not run.
//! - `rust,tls` is compiled with the feature `tls` only, and is not run.
//! - `rust,otel`, `rust,schema`, `rust,schemars` and `rust,simulation` are compiled with the feature of that name only, and their tests are run.
//! - `console` has commands behind `$ `, which are run, and below each what it prints. There `…` stands for anything in a
//!   line, and alone in a line for any lines. `GUIDE=overwrite` puts there what commands print now.
//! - `console,cli` has commands for the command line, which `crates/byname-cli/tests/tutorial.rs` runs.
//! - `console,auth` has commands for `examples/auth`, which `examples/tests/auth.rs` runs with the feature `tls`.
//! - `python` is a part of a program in `tests/interop`; `json` is JSON.
//! - `sh`, `toml`, `yaml` and others are for the reader alone.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use socket2::{Domain, Socket, Type};

/// What a chapter's program prints is compared with what the chapter shows.
macro_rules! println {
    ($($said:tt)*) => { $crate::said(module_path!(), &format!($($said)*)) };
}

#[allow(dead_code, unused, missing_docs, unreachable_pub, clippy::all, reason = "they are examples")]
mod chapters {
    include!(concat!(env!("OUT_DIR"), "/chapters.rs"));
}

/// A `fn main` of a chapter.
pub(crate) struct Program {
    /// Of its block in the chapter.
    pub line: usize,
    /// `main.rs`, `bin/NAME.rs`, or nothing.
    pub file: &'static str,
    /// Where the chapter says that it serves.
    pub ports: &'static [u16],
    pub module: &'static str,
    pub run: fn() -> Result<(), String>,
}

/// What a `fn main` may return.
pub(crate) trait Ended {
    fn ended(self) -> Result<(), String>;
}

impl Ended for () {
    fn ended(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Debug> Ended for Result<(), E> {
    fn ended(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// `address`, at the port that stands for the one that the chapter says.
pub(crate) fn at(chapter: &'static str, line: usize, port: u16, address: &'static str) -> &'static str {
    let here = port_for(chapter, line, port);
    let behind = address.find(&format!(":{port}")).map(|found| &address[found + format!(":{port}").len()..]);
    Box::leak(format!("127.0.0.1:{here}{}", behind.unwrap_or_default()).into_boxed_str())
}

/// By chapter, line and port as the chapter has it.
type Ports = HashMap<(String, usize, u16), (Socket, u16)>;

/// A free port, which stays free for its program: it is bound by a socket that doesn't listen.
fn port_for(chapter: &str, line: usize, port: u16) -> u16 {
    static PORTS: LazyLock<Mutex<Ports>> = LazyLock::new(Mutex::default);
    let mut ports = locked(&PORTS);
    let (_, chosen) = ports.entry((chapter.to_owned(), line, port)).or_insert_with(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let chosen = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, chosen)
    });
    *chosen
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static SAID: LazyLock<Mutex<HashMap<&'static str, String>>> = LazyLock::new(Mutex::default);

pub(crate) fn said(module: &'static str, line: &str) {
    writeln!(locked(&SAID).entry(module).or_default(), "{line}").unwrap();
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide")
}

/// Runs the commands of a chapter.
pub(crate) fn run_commands(chapter: &'static str, programs: &'static [Program]) {
    let path = guide().join(format!("{chapter}.md"));
    let text = fs::read_to_string(&path).unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide").join(chapter);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(".curlrc"), "no-progress-meter\nnoproxy = \"*\"\nmax-time = 60\n").unwrap();
    let mut bench = Bench { chapter, programs, directory, started: Vec::new() };

    let (mut kept, mut differences) = (String::new(), String::new());
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        writeln!(kept, "{line}").unwrap();
        if line != "```console" {
            continue;
        }
        while let Some((at, line)) = lines.next_if(|(_, line)| *line != "```") {
            let mut command =
                line.strip_prefix("$ ").unwrap_or_else(|| panic!("{chapter}.md:{}: no command", at + 1)).to_owned();
            writeln!(kept, "{line}").unwrap();
            while command.ends_with('\\') {
                let (_, more) = lines.next().unwrap();
                writeln!(kept, "{more}").unwrap();
                write!(command, "\n{more}").unwrap();
            }
            let mut shown = String::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| *line != "```" && !line.starts_with("$ ")) {
                writeln!(shown, "{line}").unwrap();
            }
            let printed = bench.run(&command, at);
            if is_shown(shown.trim_end(), printed.trim_end()) {
                kept.push_str(&shown);
            } else {
                writeln!(kept, "{}", printed.trim_end()).unwrap();
                writeln!(
                    differences,
                    "{chapter}.md:{}: $ {command}\nthe chapter shows:\n{shown}it prints:\n{printed}",
                    at + 1
                )
                .unwrap();
            }
        }
        assert!(lines.peek().is_some(), "{chapter}.md:{}: the block has no end", at + 1);
    }
    if env::var("GUIDE").as_deref() == Ok("overwrite") {
        fs::write(path, kept).unwrap();
    } else {
        assert!(differences.is_empty(), "{differences}`GUIDE=overwrite` puts in what is printed now");
    }
}

/// Where the commands of one chapter are run.
struct Bench {
    chapter: &'static str,
    programs: &'static [Program],
    directory: PathBuf,
    /// The lines of the services that run.
    started: Vec<usize>,
}

impl Bench {
    /// What a command in this line prints.
    fn run(&mut self, command: &str, line: usize) -> String {
        if let Some(name) = command.strip_prefix("cargo run --bin ") {
            let file = format!("bin/{name}.rs");
            let program = self.programs.iter().rev().find(|program| program.line <= line && program.file == file);
            let program = program.unwrap_or_else(|| panic!("{}.md: nothing above is `// src/{file}`", self.chapter));
            self.start_services(line);
            let ended = thread::spawn(program.run).join().expect("it doesn't panic");
            let printed = locked(&SAID).remove(program.module).unwrap_or_default();
            return match ended {
                Ok(()) => printed,
                Err(error) => format!("{printed}Error: {error}\n"),
            };
        }
        let ports = self.start_services(line);
        let mut here = command.to_owned();
        for (shown, chosen) in &ports {
            here = here.replace(&format!(":{shown}"), &format!(":{chosen}"));
        }
        let done = Command::new("bash")
            .args(["-c", &format!("set -o pipefail\n{here}")])
            .current_dir(&self.directory)
            .env("CURL_HOME", &self.directory)
            .output()
            .expect("bash is there");
        let errors = String::from_utf8_lossy(&done.stderr);
        let mut printed = String::from_utf8_lossy(&done.stdout).replace('\r', "");
        if !done.status.success() {
            write!(printed, "\n{errors}{}", done.status).unwrap();
        }
        for (shown, chosen) in &ports {
            printed = printed.replace(&format!(":{chosen}"), &format!(":{shown}"));
        }
        printed
    }

    /// The ports that the chapter says at this line, and those that stand for them. Who serves there does so by then.
    fn start_services(&mut self, line: usize) -> Vec<(u16, u16)> {
        let mut ports = HashMap::new();
        for program in self.programs.iter().filter(|program| program.line <= line) {
            ports.extend(program.ports.iter().map(|port| (*port, program)));
        }
        let mut chosen = Vec::new();
        for (&port, program) in &ports {
            let here = port_for(self.chapter, program.line, port);
            if !self.started.contains(&program.line) {
                self.started.push(program.line);
                let running = thread::spawn(program.run);
                let latest = Instant::now() + Duration::from_secs(60);
                while TcpStream::connect((Ipv4Addr::LOCALHOST, here)).is_err() {
                    if running.is_finished() {
                        panic!("{}.md:{}: it ended at once: {:?}", self.chapter, program.line, running.join());
                    }
                    assert!(Instant::now() < latest, "{}.md:{}: nothing listens", self.chapter, program.line);
                    thread::yield_now();
                }
            }
            chosen.push((port, here));
        }
        chosen
    }
}

/// Whether this was printed where that is shown.
fn is_shown(shown: &str, printed: &str) -> bool {
    let Some(gap) = shown.find('…') else {
        return shown == printed;
    };
    let (before, behind) = (&shown[..gap], &shown[gap + '…'.len_utf8()..]);
    let Some(rest) = printed.strip_prefix(before) else {
        return false;
    };
    // Alone in its line it stands for lines, of which there may be none.
    let alone = (before.is_empty() || before.ends_with('\n')) && (behind.is_empty() || behind.starts_with('\n'));
    if alone && rest.is_empty() {
        return behind.is_empty();
    }
    let end = if alone { rest.len() } else { rest.find('\n').unwrap_or(rest.len()) };
    let ends = rest[..end].char_indices().map(|(at, _)| at).chain([end]);
    ends.into_iter().any(|at| is_shown(behind, &rest[at..]))
}

#[test]
fn an_ellipsis_stands_for_a_part_of_a_line_or_for_lines() {
    for (shown, printed, expected) in [
        ("3", "3", true),
        ("3", "4", false),
        ("a … c", "a b c", true),
        ("a … c", "a b d", false),
        ("a … c", "a b\nb c", false),
        ("a…", "a", true),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nb\nc", false),
        ("…\nd", "a\nd", true),
        ("a\n…", "a\nb\nc", true),
        ("a…\n…c", "a 1\n2 c", true),
    ] {
        assert_eq!(is_shown(shown, printed), expected, "{shown:?} {printed:?}");
    }
}

/// Each chapter with its name.
fn texts() -> Vec<(String, String)> {
    let pages = fs::read_dir(guide()).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The blocks of a kind.
fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let start = format!("\n```{kind}\n");
    text.split(&start).skip(1).map(|rest| rest.split("\n```\n").next().unwrap_or(rest)).collect()
}

#[test]
fn every_block_of_json_is_json_and_every_line_of_python_is_in_the_interoperation_tests() {
    let interop = guide().join("../../tests/interop");
    let python = ["original.py", "original_server.py", "client_against_byname.py"]
        .map(|file| fs::read_to_string(interop.join(file)).unwrap());
    for (page, text) in texts() {
        for block in blocks(&text, "json") {
            serde_json::from_str::<serde_json::Value>(block).unwrap_or_else(|why| panic!("{page}: {why}: {block}"));
        }
        for block in blocks(&text, "python") {
            for part in block.split("\n\n") {
                let part = part.trim_matches('\n');
                assert!(python.iter().any(|program| program.contains(part)), "{page}: in no program:\n{part}");
            }
        }
    }
}

#[test]
fn every_chapter_is_in_the_index_and_every_link_leads_somewhere() {
    let texts = texts();
    let (_, index) = texts.iter().find(|(page, _)| page == "README.md").unwrap();
    for (page, text) in &texts {
        assert!(page == "README.md" || index.contains(&format!("]({page})")), "the index lacks {page}");
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or(rest)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { guide().join(page) } else { guide().join(file) };
            assert!(target.exists(), "{page}: nothing is at `{link}`");
            if !anchor.is_empty() {
                let linked = fs::read_to_string(&target).unwrap();
                let anchors = linked.lines().filter(|line| line.starts_with('#')).map(anchor_of).collect::<Vec<_>>();
                assert!(anchors.iter().any(|known| known == anchor), "{page}: `{link}` is none of {anchors:?}");
            }
        }
    }
}

/// As GitHub makes it of a heading.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
