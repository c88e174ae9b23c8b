//! Runs the commands that `examples/auth` shows, and those of the guide for it, and compares what they print with what is
//! shown. Those over TLS run with the feature `tls`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The command and what it prints, as the page shows it.
struct Shown {
    command: String,
    output: String,
}

/// The commands of the blocks that begin with one of these fences.
fn shown<'t>(lines: impl Iterator<Item = &'t str>, fences: &[&str]) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut is_in_block = false;
    for line in lines {
        if line.starts_with("```") {
            is_in_block = fences.contains(&line);
            continue;
        }
        if !is_in_block {
            continue;
        }
        match (line.strip_prefix("$ "), all.last_mut()) {
            (Some(command), _) => all.push(Shown { command: command.to_owned(), output: String::new() }),
            (None, Some(last)) => last.output += &format!("{line}\n"),
            (None, None) => panic!("{line} is below no command"),
        }
    }
    all
}

/// Whether this was printed where that is shown. There `…` stands for anything.
fn is_shown(shown: &str, printed: &str) -> bool {
    let parts: Vec<&str> = shown.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else {
        return shown == printed;
    };
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    for part in between {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Cargo puts examples beside the folder that tests run from, and builds them for `cargo test`.
fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().and_then(Path::parent).unwrap().join("examples");
    let auth = examples.join(format!("auth{}", std::env::consts::EXE_SUFFIX));
    assert!(auth.exists(), "{auth:?} is not there: `cargo build --example auth`, in the same profile, makes it");
    examples
}

/// The service, until it is dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn its_commands_print_what_it_shows() {
    let fences: &[_] = if cfg!(feature = "tls") { &["```console", "```console,tls"] } else { &["```console"] };
    let lines = include_str!("../auth/main.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let services = run_commands("auth", shown(lines, fences));
    assert_eq!(services, if cfg!(feature = "tls") { 3 } else { 2 });
}

#[cfg(all(unix, feature = "tls"))]
#[test]
fn the_guides_commands_with_certificates_print_what_it_shows() {
    let guide = include_str!("../../docs/guide/who-is-calling.md");
    assert_eq!(run_commands("auth-in-the-guide", shown(guide.lines(), &["```console,auth"])), 1);
}

/// Runs commands in a directory of this name, and returns how many services they have started.
#[cfg(unix)]
fn run_commands(name: &str, commands: Vec<Shown>) -> usize {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(".curlrc"), "silent\nnoproxy = \"*\"\nmax-time = 60\n").unwrap();
    let path = format!("{}:{}", examples().display(), std::env::var("PATH").unwrap());
    let bash = |command: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("set -o pipefail\n{command}")]);
        bash.current_dir(&directory).env("PATH", &path).env("CURL_HOME", &directory);
        bash
    };

    assert!(commands.iter().filter(|shown| shown.command.starts_with("curl ")).count() >= 5, "they were read");
    // Each port that is shown, and the port that the service has in its place.
    let (mut services, mut ports) = (Vec::new(), Vec::<(&str, String)>::new());
    for Shown { command, output } in commands {
        if command.starts_with("auth serve ") {
            let serve = command.replace(":8080", ":0").replace(":8443", ":0");
            let mut child = bash(&format!("exec {serve}")).stdout(Stdio::piped()).spawn().unwrap();
            let stdout = BufReader::new(child.stdout.take().unwrap());
            let (line, lines) = mpsc::channel();
            std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|said| line.send(said)));
            services.push(Service(child));
            let address = lines.recv_timeout(Duration::from_secs(60)).expect("it says where it serves");
            if let Some((_, chosen)) = address.split_once("127.0.0.1:") {
                let shown = if command.contains(":8443") { ":8443" } else { ":8080" };
                ports.push((shown, format!(":{chosen}")));
            }
            continue;
        }
        let chosen = ports.iter().fold(command.clone(), |command, (shown, chosen)| command.replace(shown, chosen));
        let ran = bash(&chosen).output().unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}: {errors}");
        assert!(is_shown(output.trim_end(), printed.trim_end()), "{command}\nprinted\n{printed}\nit shows\n{output}");
    }
    services.len()
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (shown, printed, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…c", "abc", true),
        ("a…c…e", "a b c d e", true),
        ("a…x…e", "a b c d e", false),
        ("a…c", "abcd", false),
        ("", "", true),
    ] {
        assert_eq!(is_shown(shown, printed), expected, "{shown} {printed}");
    }
}
