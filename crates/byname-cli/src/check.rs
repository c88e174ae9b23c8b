//! `byname check`.

mod past_calls;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use byname::{AcceptedBreaks, Break, Difference, ServiceSchema, differences};
use serde_json::{Value, json};

use self::past_calls::PastCalls;
use crate::documents::{is_file, schema_of};
use crate::exit::CommandError;
use crate::service::ServiceOptions;
use crate::terminal_text::{counted, inert, json_line, json_lines, print_text};

#[derive(clap::Args)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    options: ServiceOptions,
    /// The version that clients know: a file, a service, or git:REVISION, which is byname.lock of that revision (git:REVISION:PATH for another file)
    #[arg(long, value_name = "FILE|URL|git:REV")]
    against: String,
    /// The breaks that are accepted, each with a reason [default: byname.accepted, if it is there]
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
    /// Fail also if clients of the new version can't call servers of the old one. Without it, servers are deployed before clients
    #[arg(long)]
    both: bool,
    /// How the differences are printed
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// The new version: a lock file or another schema, or a service
    new: String,
}

/// The file of a contract, where no other one is named.
const LOCK_FILE: &str = "byname.lock";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    Text,
    Json,
    /// Annotations of GitHub Actions
    Github,
}

impl CheckCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, CommandError> {
        let file = if is_file(&self.new) { self.new.as_str() } else { LOCK_FILE };
        let old = match self.against.strip_prefix("git:") {
            Some(revision) => in_git(revision, Path::new(file))?,
            None => schema_of(&self.options, Some(self.against.clone())).await?,
        };
        let new = schema_of(&self.options, Some(self.new.clone())).await?;
        for (schema, name) in [(&old, &self.against), (&new, &self.new)] {
            if let Some(note) = &schema.note {
                return Err(CommandError::not_told(format!("{name} has no schemas to compare: {note}")));
            }
        }
        let differences = differences(&old, &new);
        let past_calls = if differences.is_empty() { None } else { self.past_calls().await };
        let mut open = [old.open(), new.open()].concat();
        open.sort();
        open.dedup();
        let report = CheckReport {
            open,
            accepted: self.accepted()?,
            accepted_file: self.accepted_file().display().to_string(),
            differences,
            past_calls,
            both: self.both,
        };
        match self.format {
            CheckFormat::Text => print_text(&report.text())?,
            CheckFormat::Json => print_text(&format!("{}\n", json_lines(&report.json())))?,
            CheckFormat::Github => print_text(&report.github(self.annotated_file()))?,
        }
        Ok(if report.breaks() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The file whose change the annotations are about. `None` if two services are compared.
    fn annotated_file(&self) -> Option<&str> {
        let in_git =
            self.against.strip_prefix("git:").map(|revision| revision.split_once(':').map_or(LOCK_FILE, |of| of.1));
        let old = if is_file(&self.against) { Some(self.against.as_str()) } else { in_git };
        if is_file(&self.new) { Some(&self.new) } else { old }
    }

    /// What the old version has counted, if it is a service.
    async fn past_calls(&self) -> Option<PastCalls> {
        if self.against.starts_with("git:") || is_file(&self.against) {
            return None;
        }
        let service = self.options.connect.service_or_default(Some(self.against.clone())).ok()?;
        PastCalls::of(&service, &self.options).await
    }

    fn accepted_file(&self) -> PathBuf {
        self.accepted.clone().unwrap_or_else(|| PathBuf::from("byname.accepted"))
    }

    fn accepted(&self) -> Result<AcceptedBreaks, CommandError> {
        let path = self.accepted_file();
        match fs::read_to_string(&path) {
            Ok(text) => {
                AcceptedBreaks::parse(&text).map_err(|why| CommandError::usage(format!("{}: {why}", path.display())))
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound && self.accepted.is_none() => {
                Ok(AcceptedBreaks::default())
            }
            Err(why) => Err(CommandError::usage(format!("can't read {}: {why}", path.display()))),
        }
    }
}

/// The schema in a revision: `main`, which has another version of the file, or `main:services/shop.lock`.
fn in_git(revision: &str, file: &Path) -> Result<ServiceSchema, CommandError> {
    if revision.is_empty() || revision.starts_with(':') {
        // git would take the index.
        return Err(CommandError::usage("`git:` needs a revision: `--against git:main`"));
    }
    let mut git = Command::new("git");
    let object = match (revision.split_once(':'), file.file_name()) {
        (None, Some(name)) => {
            // The file may be in another repository than this folder.
            if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                git.arg("-C").arg(folder);
            }
            format!("{revision}:./{}", name.display())
        }
        _ => revision.to_owned(),
    };
    // git must not read a revision that begins with `-` as an option.
    let shown = git.args(["show", "--end-of-options", &object]).output();
    let shown = shown.map_err(|why| CommandError::usage(format!("can't run git: {why}")))?;
    if !shown.status.success() {
        let why = String::from_utf8_lossy(&shown.stderr);
        return Err(CommandError::usage(format!(
            "git has no {object}: {}; fetch the revision, or name the file that it has with git:REVISION:PATH",
            why.trim()
        )));
    }
    let text = String::from_utf8_lossy(&shown.stdout);
    ServiceSchema::from_text(&text).map_err(|why| CommandError::usage(format!("{object} is not a schema: {why}")))
}

/// The differences, and which of them count.
struct CheckReport {
    /// The places whose schema says less than their type, in either version.
    open: Vec<String>,
    differences: Vec<Difference>,
    /// How often the functions of the old version were called, if that is known.
    past_calls: Option<PastCalls>,
    accepted: AcceptedBreaks,
    /// Where they stand.
    accepted_file: String,
    both: bool,
}

/// The most open places in a text.
const LISTED: usize = 10;

#[derive(Clone, Copy, PartialEq)]
enum Weight<'r> {
    Breaks,
    /// For this reason.
    Accepted(&'r str),
    /// It breaks new clients, where servers are deployed first.
    Later,
}

impl CheckReport {
    /// The breaks of a difference, with what they do to the result.
    fn weighed<'r>(
        &'r self,
        difference: &'r Difference,
    ) -> impl Iterator<Item = (&'static str, &'r Break, Weight<'r>)> {
        let old = difference.breaks_old_clients().map(|of| ("old clients, new server", of, true));
        let new = difference.breaks_new_clients().map(|of| ("new clients, old server", of, self.both));
        old.into_iter().chain(new).map(|(direction, of, counts)| {
            let weight = match (counts, self.accepted.reason(difference, of)) {
                (false, _) => Weight::Later,
                (true, Some(reason)) => Weight::Accepted(reason),
                (true, None) => Weight::Breaks,
            };
            (direction, of, weight)
        })
    }

    fn breaks(&self) -> usize {
        self.weights(|weight| weight == Weight::Breaks)
    }

    /// The entries whose weight is such a one.
    fn weights(&self, is_such: impl Fn(Weight<'_>) -> bool) -> usize {
        let all = self.differences.iter().flat_map(|difference| self.weighed(difference));
        all.filter(|(.., weight)| is_such(*weight)).count()
    }

    /// How many of the entries there are, by the words that stand at them.
    fn sum(&self) -> String {
        let bad = anstyle::AnsiColor::Red.on_default().bold();
        let breaks = self.breaks();
        let accepted = self.weights(|weight| matches!(weight, Weight::Accepted(_)));
        let later = self.weights(|weight| weight == Weight::Later);
        let mut parts = Vec::new();
        if breaks > 0 {
            parts.push(format!("{bad}{}{bad:#}", counted(breaks, "break")));
        }
        parts.extend((accepted > 0).then(|| format!("{accepted} accepted")));
        parts.extend((later > 0).then(|| format!("{later} later")));
        match (breaks, parts.is_empty()) {
            (0, true) => "no difference in what is sent and what is accepted".to_owned(),
            (0, false) => {
                let other = if accepted > 0 { "other " } else { "" };
                let clients = if self.both { "any" } else { "old" };
                format!("{}, no {other}break of {clients} clients", parts.join(", "))
            }
            _ => parts.join(", "),
        }
    }

    /// Who still calls the function of a difference that breaks its clients.
    fn calls_line(&self, difference: &Difference) -> Option<String> {
        difference.breaks_old_clients()?;
        self.past_calls.as_ref()?.line(&difference.function)
    }

    fn text(&self) -> String {
        let (bad, bold, dim) =
            (anstyle::AnsiColor::Red.on_default().bold(), anstyle::Style::new().bold(), anstyle::Style::new().dimmed());
        let mut text = String::new();
        let mut last = None;
        let mut last_called = None;
        for difference in &self.differences {
            let place =
                if difference.place.is_empty() { String::new() } else { format!(": {}", inert(&difference.place)) };
            // One place may have several differences.
            if last.replace((&difference.function, &difference.place))
                != Some((&difference.function, &difference.place))
            {
                text.push_str(&format!("{bold}{}{bold:#}{place}\n", inert(&difference.function)));
            }
            for (direction, of, weight) in self.weighed(difference) {
                let (style, word) = match weight {
                    Weight::Breaks => (bad, "breaks"),
                    Weight::Accepted(_) => (dim, "accepted"),
                    Weight::Later => (dim, "later"),
                };
                text.push_str(&format!(
                    "  {style}{word:8}{style:#}  {direction}: {} {dim}[{}]{dim:#}\n",
                    inert(&of.why),
                    of.rule
                ));
                if let Some(witness) = &of.witness {
                    text.push_str(&format!("            {dim}for example{dim:#} {}\n", json_line(witness)));
                }
                if let Weight::Accepted(reason) = weight {
                    text.push_str(&format!("            {dim}reason{dim:#} {}\n", inert(reason)));
                }
            }
            // Once for each function.
            if let Some(line) = self.calls_line(difference)
                && last_called.replace(&difference.function) != Some(&difference.function)
            {
                text.push_str(&format!("            {bold}{line}{bold:#}\n"));
            }
        }
        for line in self.accepted.unused(&self.differences) {
            text.push_str(&format!("{dim}accepted without need: {}{dim:#}\n", inert(line)));
        }
        if !self.open.is_empty() {
            text.push_str(&format!("{dim}compared only in part:{dim:#}\n"));
            for place in self.open.iter().take(LISTED) {
                text.push_str(&format!("  {dim}{}{dim:#}\n", inert(place)));
            }
            if let Some(more @ 1..) = self.open.len().checked_sub(LISTED) {
                text.push_str(&format!("  {dim}and {more} more, which --format json lists{dim:#}\n"));
            }
        }
        text.push_str(&format!("{}\n", self.sum()));
        text
    }

    fn json(&self) -> Value {
        let difference = |difference: &Difference| {
            let mut written = difference.to_json();
            let reason = self.weighed(difference).find_map(|(.., weight)| match weight {
                Weight::Accepted(reason) => Some(reason),
                _ => None,
            });
            written["accepted"] = json!(reason.is_some());
            if let Some(reason) = reason {
                written["reason"] = json!(reason);
            }
            if difference.breaks_old_clients().is_some()
                && let Some(calls) = self.past_calls.as_ref().and_then(|past| past.calls(&difference.function))
            {
                written["calls_since_start"] = json!(calls);
            }
            written
        };
        let differences: Vec<_> = self.differences.iter().map(difference).collect();
        let mut written = json!({
            "breaks": self.breaks(),
            "differences": differences,
            "accepted_without_need": self.accepted.unused(&self.differences),
            "open": self.open,
        });
        if let Some(past) = &self.past_calls {
            written["counted"] = json!({ "servers": past.servers, "uptime_ms": past.uptime_ms });
        }
        written
    }

    fn github(&self, file: Option<&str>) -> String {
        let mut text = String::new();
        // An annotation without a file stands at the run.
        let file = file.map(|file| format!("file={},", property(file))).unwrap_or_default();
        for difference in &self.differences {
            for (direction, of, weight) in self.weighed(difference) {
                let (level, weight) = match weight {
                    Weight::Breaks => ("error", String::new()),
                    Weight::Accepted(reason) => ("notice", format!("accepted, because {reason}: ")),
                    Weight::Later => ("notice", "later: ".to_owned()),
                };
                let place = if difference.place.is_empty() { String::new() } else { format!(" {}", difference.place) };
                // New clients have made no calls yet.
                let is_of_old_clients = difference.breaks_old_clients().is_some_and(|old| std::ptr::eq(old, of));
                let calls = self.calls_line(difference).filter(|_| is_of_old_clients);
                let calls = calls.map(|line| format!("; {line}")).unwrap_or_default();
                let message = inert(&format!("{weight}{}{place}: {direction}: {of}{calls}", difference.function));
                text.push_str(&format!("::{level} {file}title={}::{}\n", of.rule, data(&message)));
            }
        }
        for line in self.accepted.unused(&self.differences) {
            let message = data(&inert(&format!("accepted without need: {line}")));
            text.push_str(&format!("::warning file={},title=accepted::{message}\n", property(&self.accepted_file)));
        }
        text
    }
}

/// Text in a command of GitHub Actions.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
