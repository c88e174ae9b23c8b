//! `byname top` against services of this process: what it prints, how it ends, and that the terminal is as before.

use std::future::IntoFuture as _;
use std::process::{Command, Output, Stdio};

use byname::{Client, Code, Error, Server, rpc};
use serde_json::Value;

#[rpc(readonly)]
async fn double(n: u64) -> Result<u64, Error> {
    n.checked_mul(2).ok_or_else(|| Error::new(Code::OutOfRange, "it is too large"))
}

async fn serve(server: Server) -> String {
    let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
    let address = bound.local_addr().to_string();
    tokio::spawn(bound.into_future());
    address
}

/// A command without a configuration file.
fn byname(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_byname"));
    command.args(words).env_remove("BYNAME_URL").env("BYNAME_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}

async fn run(words: &[&str]) -> Output {
    let mut command = byname(words);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_table_has_the_figures_of_the_servers() {
    let service = serve(Server::new().method::<double>()).await;
    let other = serve(Server::new().method::<double>().function("idle", || async {})).await;
    let shop = Client::new(&service).unwrap();
    assert!(double::on(&shop, u64::MAX).await.is_err());
    let done = run(&["top", &service, "--interval", "50ms"]).await;
    let table = text(&done.stdout);
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert!(table.starts_with(&service) && table.contains("NAME    CALLS/S"), "{table}");
    assert!(table.contains("double") && table.contains("recent errors") && table.contains("out_of_range"), "{table}");
    // What is printed for a program has no escapes.
    assert!(!table.contains('\u{1b}'), "{table}");
    let several = format!("{service},{other}");
    let table = text(&run(&["top", &several, "--once", "--interval", "50ms", "--filter", "DOU"]).await.stdout);
    assert!(table.starts_with("2 servers  ") && table.contains("\nservers\n"), "{table}");
    assert!(table.contains(&other) && table.contains("\ndouble ") && !table.contains("idle"), "{table}");
}

#[tokio::test]
async fn lines_of_json_have_the_calls_of_their_window() {
    let service = serve(Server::new().method::<double>()).await;
    let shop = Client::new(&service).unwrap();
    let mut watched =
        byname(&["top", &service, "--json", "--interval", "20ms"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = watched.stdout.take().unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)).map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str::<Value>(&line).unwrap());
        }
    });
    // The first window is open, so the calls are in a later one.
    lines.recv().await.unwrap();
    for n in 0..5 {
        double::on(&shop, n).await.unwrap();
    }
    let mut seen = 0;
    while seen < 5 {
        let line = lines.recv().await.unwrap();
        seen += line["functions"][0]["calls"].as_u64().unwrap();
        assert_eq!((&line["functions"][0]["name"], &line["servers"][0]["answered"]), (&"double".into(), &true.into()));
    }
    assert_eq!(seen, 5);
    let told = Command::new("kill").args(["-TERM", &watched.id().to_string()]).status().unwrap();
    assert!(told.success() && watched.wait().unwrap().success());
}

#[tokio::test]
async fn each_failure_has_its_exit_code() {
    let silent = serve(Server::new().method::<double>().metrics(false)).await;
    let done = run(&["top", &silent]).await;
    assert!(done.status.code() == Some(4) && text(&done.stderr).contains("`Server::metrics(true)`"), "{done:?}");
    let shown = serve(Server::new().method::<double>().listing(false).metrics(true)).await;
    let done = run(&["top", &shown, "--interval", "20ms"]).await;
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let done = run(&["top", &free]).await;
    assert_eq!(done.status.code(), Some(5), "{done:?}");
    // One of several servers is enough.
    let done = run(&["top", &format!("{free},{shown}"), "--interval", "20ms"]).await;
    assert!(done.status.success() && text(&done.stdout).contains("no answer"), "{done:?}");
    for words in [&["top", "file:///etc/shop.replicas"][..], &["top", &shown, "--interval", "1ms"], &["top", "a:1,a:1"]]
    {
        let done = run(words).await;
        assert_eq!(done.status.code(), Some(2), "{done:?}");
    }
}

#[cfg(target_os = "linux")]
mod on_a_terminal {
    use std::io::{Read as _, Write as _};
    use std::process::{Child, ChildStdin, ChildStdout};

    use super::*;

    /// `byname top` on a terminal that `script` makes.
    struct Screen {
        script: Child,
        keys: ChildStdin,
        out: ChildStdout,
        seen: String,
    }

    impl Screen {
        /// The settings of the terminal are printed before and after.
        fn new(service: &str, environment: &str) -> Self {
            let program = env!("CARGO_BIN_EXE_byname");
            let shell = format!(
                "stty rows 24 cols 80; stty -g; env {environment} sh -c 'echo PID=$$.; exec \"{program}\" top {service} -i 20ms'; echo RC=$?.; stty -g"
            );
            let mut command = Command::new("script");
            command
                .args(["-qfec", &shell, "/dev/null"])
                .env("TERM", "xterm-256color")
                .env("BYNAME_CONFIG", "/dev/null");
            let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (keys, out) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
            Self { script, keys, out, seen: String::new() }
        }

        /// Reads until this text.
        fn until(&mut self, text: &str) {
            let mut piece = [0; 4_096];
            while !self.seen.contains(text) {
                let count = self.out.read(&mut piece).unwrap();
                assert!(count > 0, "{text} is missing in {}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        }

        fn press(&mut self, keys: &str) {
            self.keys.write_all(keys.as_bytes()).unwrap();
        }

        fn signal(&mut self, signal: &str) {
            let pid = self.seen.split("PID=").nth(1).unwrap().split('.').next().unwrap();
            assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
        }

        /// It ends well, and the terminal is as before.
        fn ends(mut self) -> String {
            let rest = &mut String::new();
            self.out.read_to_string(rest).unwrap();
            self.seen.push_str(rest);
            self.script.wait().unwrap();
            let seen = self.seen;
            let lines: Vec<_> = seen.lines().collect();
            assert_eq!(lines.first(), lines.last(), "{seen}");
            assert!(seen.contains("RC=0.") && seen.contains("\u{1b}[?1049l") && seen.contains("\u{1b}[?25h"), "{seen}");
            seen
        }
    }

    /// Runs what waits for a terminal, while the service answers.
    async fn with_screen(
        service: String,
        environment: &'static str,
        test: impl FnOnce(&mut Screen) + Send + 'static,
    ) -> String {
        let run = move || {
            let mut screen = Screen::new(&service, environment);
            // The first window is there.
            screen.until("calls/s");
            test(&mut screen);
            screen.ends()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    #[tokio::test]
    async fn the_terminal_is_as_before_after_a_key_and_after_signals() {
        let service = serve(Server::new().method::<double>()).await;
        let seen = with_screen(service.clone(), "LC_ALL=C.UTF-8", |screen| screen.press("q")).await;
        assert!(seen.contains("\u{1b}[?1049h"), "{seen}");
        with_screen(service.clone(), "LC_ALL=C.UTF-8", |screen| screen.press("\u{3}")).await;
        for signal in ["-TERM", "-INT"] {
            with_screen(service.clone(), "LC_ALL=C.UTF-8", |screen| screen.signal(signal)).await;
        }
    }

    #[tokio::test]
    async fn keys_change_what_is_shown() {
        let service = serve(Server::new().method::<double>().function("idle", || async {})).await;
        with_screen(service, "LC_ALL=C.UTF-8", |screen| {
            screen.press("n");
            screen.until("a first");
            screen.press("/idl");
            screen.until("Enter keeps it");
            screen.press("\r ");
            screen.until("PAUSED");
            screen.press("\tq");
        })
        .await;
    }

    #[tokio::test]
    async fn without_colors_and_unicode_there_are_none() {
        let service = serve(Server::new().method::<double>()).await;
        let shop = Client::new(&service).unwrap();
        double::on(&shop, 1).await.unwrap();
        let seen = with_screen(service, "NO_COLOR=1 LC_ALL=C", |screen| {
            screen.until("IN FLIGHT");
            screen.press("q");
        })
        .await;
        assert!(seen.is_ascii(), "{seen}");
        assert!(!seen.contains("\u{1b}[38;") && !seen.contains("\u{1b}[36m") && !seen.contains("\u{1b}[31m"), "{seen}");
    }

    #[tokio::test]
    async fn a_dumb_terminal_gets_a_table() {
        let service = serve(Server::new().method::<double>()).await;
        let run = move || {
            let program = env!("CARGO_BIN_EXE_byname");
            let shell = format!("'{program}' top {service} --interval 20ms");
            let mut command = Command::new("script");
            command.args(["-qec", &shell, "/dev/null"]).env("TERM", "dumb").stdin(Stdio::null()).output().unwrap()
        };
        let seen = text(&tokio::task::spawn_blocking(run).await.unwrap().stdout);
        assert!(seen.contains("NAME") && !seen.contains('\u{1b}'), "{seen}");
    }
}
