//! `byname top`: shows what servers do now, by their own counters. It calls no function.

mod ascii_text;
mod columns;
mod function_figures;
mod json_line;
mod latency_window;
mod overview;
mod page;
mod screen;
mod screen_state;
pub(crate) mod server_addresses;
mod server_watch;
pub(crate) mod stats_reply;
mod terminal_session;

use std::env;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use byname::{Client, Code};
use crossterm::event::{Event, EventStream};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::ascii_text::{ascii, is_unicode_locale};
use self::json_line::to_json;
use self::overview::Overview;
use self::page::Part;
use self::screen::TerminalAbilities;
use self::screen_state::{KeyEffect, ScreenState, SortKey};
use self::server_addresses::server_addresses;
use self::server_watch::ServerWatch;
use self::stats_reply::StatsReply;
use self::terminal_session::TerminalSession;
use crate::exit::CommandError;
use crate::interrupts::Interrupts;
use crate::service::ServiceOptions;
use crate::terminal_text::{json_line, print_text, print_to_reader};

#[derive(clap::Args)]
pub(crate) struct TopCommand {
    #[command(flatten)]
    options: ServiceOptions,
    /// How often the servers are asked
    #[arg(long, short = 'i', value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1s")]
    interval: Duration,
    /// The time that the figures are of: the last 10 seconds, with the default interval
    #[arg(long, short = 'w', value_name = "TIME", value_parser = humantime::parse_duration)]
    window: Option<Duration>,
    /// What the functions are sorted by at first
    #[arg(long, value_enum, default_value_t = SortKey::Calls)]
    sort: SortKey,
    /// Show only functions whose name has this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Print the figures of one interval as a table, and end. So it is too where the output is not a terminal
    #[arg(long)]
    once: bool,
    /// Print the figures of each interval as a line of JSON
    #[arg(long)]
    json: bool,
    /// The service. Several servers with commas: host:port,host:port
    service: Option<String>,
}

/// The intervals of the default window.
const INTERVALS: u32 = 10;

/// The most intervals of a window. The replies of all of them are kept.
const MOST_INTERVALS: u32 = 120;

/// With `--once`, the replies after the first one that are waited for, until two are of one instance.
const REPLIES: usize = 4;

/// A server that does not answer must not look like one that does.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a server said, or why it said nothing.
type Polled = (usize, Result<StatsReply, CommandError>);

impl TopCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, CommandError> {
        let is_live = !self.once && !self.json && is_capable_terminal();
        let window = self.window(is_live)?;
        let service = self.options.connect.service_or_default(self.service.clone())?;
        let options = ServiceOptions { timeout: self.options.timeout.or(Some(TIMEOUT)), ..self.options.clone() };
        // What is wrong with the URL is said of the whole of it.
        service.client(&options)?;
        let urls = server_addresses(&service.url).map_err(CommandError::usage)?;
        let mut watches = Vec::new();
        let mut polls = SelectAll::new();
        for (at, url) in urls.into_iter().enumerate() {
            let client = service.at(&url).client(&options)?;
            watches.push(ServerWatch::new(url, window));
            polls.push(polled(at, client, self.interval).boxed());
        }
        let session = TopSession { watches, polls, interrupts: Interrupts::new()? };
        match (self.json, is_live) {
            (true, _) => session.print_json(self.once).await,
            (false, true) => session.show(self.screen_state()).await,
            (false, false) => session.print_table(&self.screen_state()).await,
        }
    }

    /// In milliseconds.
    fn window(&self, is_live: bool) -> Result<u64, CommandError> {
        if self.interval < Duration::from_millis(10) {
            return Err(CommandError::usage("--interval is too short for figures; give 10ms or more"));
        }
        // A table or a line is of one interval, unless a window is given.
        let window =
            self.window.unwrap_or(if is_live { self.interval.saturating_mul(INTERVALS) } else { self.interval });
        if window > self.interval.saturating_mul(MOST_INTERVALS) {
            return Err(CommandError::usage(format!(
                "--window is longer than {MOST_INTERVALS} intervals; give a shorter one, or a longer --interval"
            )));
        }
        if self.once && window > self.interval {
            return Err(CommandError::usage(
                "--once is of one interval; give --interval the time of --window, and leave --window out",
            ));
        }
        Ok(u64::try_from(window.as_millis()).unwrap_or(u64::MAX))
    }

    fn screen_state(&self) -> ScreenState {
        ScreenState { sort: self.sort, filter: self.filter.clone(), ..ScreenState::default() }
    }
}

/// The servers, and what comes while they are watched.
struct TopSession {
    watches: Vec<ServerWatch>,
    polls: SelectAll<BoxStream<'static, Polled>>,
    interrupts: Interrupts,
}

/// Why watching has ended.
enum Watched {
    Polled,
    Interrupted,
}

impl TopSession {
    async fn show(mut self, mut state: ScreenState) -> Result<ExitCode, CommandError> {
        if let Watched::Interrupted = self.first_replies().await? {
            return Ok(ExitCode::SUCCESS);
        }
        let abilities = terminal_abilities();
        let no_terminal = |why: io::Error| {
            CommandError::other(format!(
                "the terminal can't be used: {why}; `--once` prints a table, `--json` lines for programs"
            ))
        };
        let mut session = TerminalSession::begin().map_err(no_terminal)?;
        let mut events = EventStream::new();
        let mut overview = Overview::of(&self.watches);
        loop {
            session.draw(|frame| screen::draw(frame, &mut state, &overview, abilities)).map_err(no_terminal)?;
            let was_paused = state.is_paused;
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Key(key))) => match state.press(key) {
                        KeyEffect::Shown => {}
                        KeyEffect::Suspend => session.suspend().map_err(no_terminal)?,
                        KeyEffect::Quit => break,
                    },
                    // A resize is seen by the next drawing.
                    Some(Ok(_)) => {}
                    // The terminal is gone.
                    Some(Err(_)) | None => break,
                },
                Some((at, polled)) = self.polls.next() => {
                    self.take(at, polled);
                    if !state.is_paused {
                        overview = Overview::of(&self.watches);
                    }
                }
                () = self.interrupts.next() => break,
            }
            if was_paused && !state.is_paused {
                overview = Overview::of(&self.watches);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn print_table(mut self, state: &ScreenState) -> Result<ExitCode, CommandError> {
        if let Watched::Interrupted = self.first_window().await? {
            return Ok(ExitCode::SUCCESS);
        }
        let text = table(&Overview::of(&self.watches), state);
        let text = if terminal_abilities().has_unicode { text } else { ascii(&text) };
        print_text(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn print_json(mut self, once: bool) -> Result<ExitCode, CommandError> {
        if let Watched::Interrupted = self.first_window().await? {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            let is_read = print_to_reader(&format!("{}\n", json_line(&to_json(&Overview::of(&self.watches)))))?;
            if !is_read || once {
                return Ok(ExitCode::SUCCESS);
            }
            if let Watched::Interrupted = self.round().await {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Until each server has answered once, or has not. At least one must have answered.
    async fn first_replies(&mut self) -> Result<Watched, CommandError> {
        let mut failures = Vec::new();
        let mut missing = self.watches.len();
        while missing > 0 {
            tokio::select! {
                Some((at, polled)) = self.polls.next() => {
                    // A server that is asked again has been asked already.
                    if self.watches[at].last().is_none() && self.watches[at].failure.is_none() {
                        missing -= 1;
                    }
                    if let Some(error) = self.take(at, polled) {
                        failures.push(error);
                    }
                }
                () = self.interrupts.next() => return Ok(Watched::Interrupted),
            }
        }
        let is_answered = self.watches.iter().any(|watch| watch.last().is_some());
        match failures.into_iter().next() {
            Some(first) if !is_answered => Err(first),
            _ => Ok(Watched::Polled),
        }
    }

    /// Until each server that answers has a window.
    async fn first_window(&mut self) -> Result<Watched, CommandError> {
        if let Watched::Interrupted = self.first_replies().await? {
            return Ok(Watched::Interrupted);
        }
        for _ in 0..REPLIES {
            if let Watched::Interrupted = self.round().await {
                return Ok(Watched::Interrupted);
            }
            if self.watches.iter().all(|watch| watch.window().is_some() || watch.failure.is_some()) {
                return Ok(Watched::Polled);
            }
        }
        Err(CommandError::failed(
            "no two replies one after the other are from the same server: several answer at this address, or it restarts all the time; name \
             the address of each server, with commas",
        ))
    }

    /// Until each server was asked again.
    async fn round(&mut self) -> Watched {
        let mut asked = vec![false; self.watches.len()];
        while asked.contains(&false) {
            tokio::select! {
                Some((at, polled)) = self.polls.next() => {
                    self.take(at, polled);
                    asked[at] = true;
                }
                () = self.interrupts.next() => return Watched::Interrupted,
            }
        }
        Watched::Polled
    }

    /// Notes what a server said. Returns why it said nothing.
    fn take(&mut self, at: usize, polled: Result<StatsReply, CommandError>) -> Option<CommandError> {
        match polled {
            Ok(reply) => {
                self.watches[at].answered(reply);
                None
            }
            Err(error) => {
                self.watches[at].failed(error.message());
                Some(error)
            }
        }
    }
}

/// Asks a server again and again.
fn polled(at: usize, client: Client, every: Duration) -> impl Stream<Item = Polled> {
    let mut ticks = interval(every);
    // After a late answer the next question waits for its whole interval.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((client, ticks), move |(client, mut ticks): (Client, Interval)| async move {
        ticks.tick().await;
        let polled = asked(&client).await;
        Some(((at, polled), (client, ticks)))
    })
}

/// The counters of a server.
pub(crate) async fn asked(client: &Client) -> Result<StatsReply, CommandError> {
    match client.service_stats().await {
        Ok(document) => StatsReply::read(&document).map_err(CommandError::other),
        Err(error) if error.code() == Code::Unimplemented => Err(CommandError::not_told(
            "the server does not show its counters; it does so where it listens on a loopback address or at a unix socket, and elsewhere with \
             `Server::metrics(true)`. A server of a version before `!stats` has none",
        )),
        Err(error) => Err(error.into()),
    }
}

/// All parts, for a program or a person who reads once.
fn table(overview: &Overview, state: &ScreenState) -> String {
    let mut parts = vec![Part { top: page::head(overview, None), rows: Vec::new() }];
    parts.push(page::functions(&state.arranged(&overview.functions), "", None));
    if overview.servers.len() > 1 {
        parts.push(page::servers(&overview.servers));
    }
    let further = [page::clients(overview), page::failed_calls(&overview.failed, &state.filter)];
    parts.extend(further.into_iter().filter(|part| !part.rows.is_empty()));
    let part = |part: Part| {
        let lines = part.top.into_iter().chain(part.rows);
        lines.map(|line| format!("{}\n", line.to_string().trim_end())).collect::<String>()
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join("\n")
}

/// A screen of its own needs a terminal that can move its cursor.
fn is_capable_terminal() -> bool {
    io::stdout().is_terminal() && env::var("TERM").map_or(cfg!(windows), |kind| kind != "dumb" && !kind.is_empty())
}

fn terminal_abilities() -> TerminalAbilities {
    TerminalAbilities {
        has_colors: env::var("NO_COLOR").map_or(true, |value| value.is_empty()),
        has_unicode: is_unicode_locale(["LC_ALL", "LC_CTYPE", "LANG"].map(|name| env::var(name).ok())),
    }
}
