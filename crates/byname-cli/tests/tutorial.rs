//! Does what the chapter "Ten minutes" of the guide says, from an empty folder, and compares what it shows.
//!
//! A block whose first line is `// shop/PATH`, or that is behind a line with the name of a file, is that file. A block `console,cli` has commands with their output. A command
//! with `&` at its end runs until `$ kill %1`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, thread};

/// The chapter's port.
const PORT: &str = "8080";

#[test]
fn the_chapter_works_from_an_empty_folder() {
    let chapter = fs::read_to_string(repository().join("docs/guide/ten-minutes.md")).unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let chapter = chapter.replace(PORT, &port.to_string());
    let mut tutorial = Tutorial::new(port);
    let mut lines = chapter.lines();
    let (mut file, mut commands) = (None, 0);
    while let Some(line) = lines.next() {
        if let Some(named) = line.strip_suffix("`:").and_then(|line| line.rsplit_once('`')) {
            file = Some(named.1.to_owned());
        }
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let named = block.first().and_then(|line| line.strip_prefix("// shop/")).map(str::to_owned);
        match (info, named.or(file.take())) {
            ("console,cli", _) => commands += tutorial.run(&block),
            (_, Some(path)) => tutorial.write(&path, &block),
            _ => {}
        }
    }
    assert!(commands >= 12, "{commands} commands");
}

struct Tutorial {
    /// The folder that the reader is in.
    folder: PathBuf,
    top: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Tutorial {
    fn new(port: u16) -> Self {
        let top = env::temp_dir().join(format!("byname-tutorial-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(top.join(".cargo")).unwrap();
        // The library of this repository, in place of the published one.
        let library = repository().join("crates/byname");
        fs::write(top.join(".cargo/config.toml"), format!("[patch.crates-io]\nbyname = {{ path = {library:?} }}\n"))
            .unwrap();
        // The services of the person who runs the test are not known.
        fs::write(top.join("none.toml"), "").unwrap();
        Self { folder: top.clone(), top, port, server: None }
    }

    fn write(&self, path: &str, block: &[&str]) {
        fs::write(self.folder.join(path), block.join("\n") + "\n").unwrap();
    }

    /// Runs the commands of a block. Their number.
    fn run(&mut self, block: &[&str]) -> usize {
        let is_command = |line: &&str| line.starts_with("$ ");
        let mut rest = block;
        let mut count = 0;
        while let Some((first, behind)) = rest.split_first() {
            let command = first.strip_prefix("$ ").expect("a block begins with a command");
            let shown = behind.iter().position(is_command).unwrap_or(behind.len());
            let (expected, next) = behind.split_at(shown);
            self.command(command, &expected.join("\n"));
            (rest, count) = (next, count + 1);
        }
        count
    }

    fn command(&mut self, command: &str, expected: &str) {
        if command == "kill %1" {
            return self.end_server();
        }
        if let Some(command) = command.strip_suffix(" &") {
            // It is built first, because a build takes long.
            assert!(self.shell(&command.replace("cargo run", "cargo build")).status().unwrap().success());
            self.server = Some(self.shell(&format!("exec {command}")).spawn().unwrap());
            return self.wait_for_server();
        }
        let out = self.shell(&format!("{command} 2>&1")).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim_end(), expected.trim_end(), "$ {command}");
        if let Some((_, folder)) = command.split_once("&& cd ") {
            self.folder.push(folder.split(' ').next().unwrap());
        }
    }

    fn shell(&self, command: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_byname"));
        let folders = env::split_paths(&env::var_os("PATH").unwrap()).collect::<Vec<_>>();
        let path = env::join_paths([binary.parent().unwrap().to_owned()].into_iter().chain(folders));
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.folder).env("PATH", path.unwrap());
        // The library is not built again for each run of the test.
        shell.env("CARGO_TARGET_DIR", binary.parent().unwrap().join("tutorial"));
        for name in ["BYNAME_URL", "BYNAME_TOKEN", "RUST_BACKTRACE"] {
            shell.env_remove(name);
        }
        shell.env("BYNAME_CONFIG", self.top.join("none.toml"));
        shell
    }

    fn wait_for_server(&mut self) {
        let server = self.server.as_mut().unwrap();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the server has ended: {status}");
            }
            thread::yield_now();
        }
    }

    fn end_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Drop for Tutorial {
    fn drop(&mut self) {
        self.end_server();
        let _ = fs::remove_dir_all(&self.top);
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
