//! What is printed looks right on a terminal of any width, and is plain text elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;

pub const BOLD: &str = "1";
pub const BEST: &str = "1;32";
pub const DIM: &str = "2";
pub const GREEN: &str = "32";
pub const YELLOW: &str = "33";

const MEANS: usize = 15;

pub struct Page {
    pub width: usize,
    terminal: bool,
    colours: bool,
}

impl Page {
    pub fn new() -> Self {
        let terminal = stdout().is_terminal();
        let columns = terminal.then(terminal_size::terminal_size).flatten().map_or(100, |(width, _)| width.0);
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { width: usize::from(columns).clamp(67, 120), terminal, colours }
    }

    pub fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !colour.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn heading(&self, text: &str) {
        println!("\n{}\n", self.paint(BOLD, text));
    }

    pub fn paragraph(&self, text: &str) {
        for line in wrap(text, self.width - 2) {
            println!("  {line}");
        }
    }

    pub fn process(&self, role: &str, pid: u32, address: Option<SocketAddr>, what: &str) {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        println!("  {role:<MEANS$}pid {pid:<9}{address:<17}{}", self.paint(DIM, what));
    }

    /// One call of the story: by which means, what was written, what came back.
    pub fn step(&self, means: &str, call: &str, came: &str) {
        println!("  {}{call}", self.paint(DIM, &format!("{means:<MEANS$}")));
        let mut sign = "→";
        for line in wrap(came, self.width - MEANS - 6) {
            println!("  {:MEANS$}{} {}", "", self.paint(DIM, sign), self.paint(GREEN, &line));
            sign = " ";
        }
    }

    /// A line that the next one replaces, where somebody watches.
    pub fn meanwhile(&self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{text}");
            let _ = stdout().flush();
        }
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

pub fn euros(cents: u32) -> String {
    format!("{}.{:02} €", grouped(cents / 100), cents % 100)
}

pub fn plural(connections: usize) -> String {
    format!("{connections} connection{}", if connections == 1 { "" } else { "s" })
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
