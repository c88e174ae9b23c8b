//! `byname bench`: sends load to one function and says how fast the answers come. [`run`], [`compare()`].

mod buckets;
mod collector;
mod compare;
mod permission;
mod plan;
mod progress;
mod recorder;
mod report;
mod schedule;
mod summary;
mod worker;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use byname::{Args, CallError, Client, ClientBuilder, Code, Executed, Transport};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::interval;

use self::collector::Collector;
use self::permission::Permission;
use self::plan::{Load, Plan};
use self::progress::Progress;
use self::recorder::{TICK, nanos};
use self::report::{Report, WorkerEnds};
use self::worker::{Said, SharedLoad};
use crate::call::random_key;
use crate::exit::{CommandError, with_options};
use crate::figures;
use crate::interrupts::Interrupts;
use crate::terminal_text::print_text;

/// The options of `byname bench`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct BenchOptions {
    /// Calls in flight all the time: when one is answered, the next is sent [default: 32]
    #[arg(long, short = 'c', value_name = "N", conflicts_with = "rate")]
    pub(crate) concurrency: Option<usize>,
    /// Calls a second, at fixed times whatever the server does. The latency counts from these times
    #[arg(long, short = 'r', value_name = "R")]
    pub(crate) rate: Option<f64>,
    /// With --rate: the most calls in flight [default: 1024]
    #[arg(long, value_name = "N", requires = "rate")]
    pub(crate) max_in_flight: Option<usize>,
    /// How long the load is measured [default: 10s, or until --calls calls have ended]
    #[arg(long, short = 'd', value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// How long load is sent before it is measured [default: 1s, or 0s with --calls]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Option<Duration>,
    /// End after this number of calls
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) calls: Option<u64>,
    /// How long a call may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Connections of all threads [default: one for each thread; with --http, one for each call in flight]
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,
    /// Send the calls over HTTP, and not by frames
    #[arg(long)]
    pub(crate) http: bool,
    /// Threads that send load [default: one for each CPU]
    #[arg(long, short = 't', value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Give each call a key, where the service does not tell that the function needs one
    #[arg(long)]
    pub(crate) keyed: bool,
    /// Send load to a function that is not readonly without asking
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    /// Write the report as JSON to this file, or to stdout with -
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Compare two reports that --json has written
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], exclusive = true)]
    pub(crate) compare: Option<Vec<PathBuf>>,
}

/// What the load is sent to.
pub(crate) struct BenchTarget {
    pub(crate) url: String,
    /// The name of the function.
    pub(crate) name: String,
    /// The same for each call. They are encoded already.
    pub(crate) args: Args,
    /// Whether the function is declared `readonly`. `None` if it is not known.
    pub(crate) is_readonly: Option<bool>,
    /// Whether each call has a key of its own. Calls with one key would run once.
    pub(crate) is_keyed: bool,
    /// Makes a client of a builder that has what the load needs. It adds TLS, tokens and headers.
    pub(crate) connect: Box<dyn Fn(ClientBuilder) -> Result<Client, byname::Error> + Send + Sync>,
}

/// Sends load and prints the report. The code is 0 if all calls were answered with a value, 1 if some failed, and 2 if the
/// command was wrong.
pub(crate) async fn run(options: &BenchOptions, target: BenchTarget) -> Result<ExitCode, CommandError> {
    let report = measured(options, target).await?;
    print(options, &report)?;
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a table of two reports. The files are those of [`BenchOptions::compare`].
pub(crate) fn compare(files: &[PathBuf]) -> Result<ExitCode, CommandError> {
    let [first, second] = files else {
        return Err(CommandError::usage("--compare needs two files that --json has written"));
    };
    let read = |file: &PathBuf| Report::read(file).map_err(CommandError::usage);
    let (first_report, second_report) = (read(first)?, read(second)?);
    let (first, second) = (first.display().to_string(), second.display().to_string());
    print_text(&compare::comparison((&first, &first_report), (&second, &second_report)))?;
    Ok(ExitCode::SUCCESS)
}

async fn measured(options: &BenchOptions, target: BenchTarget) -> Result<Report, CommandError> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan::new(options, cpus).map_err(CommandError::usage)?;
    // Before the user is asked.
    target.clients(&plan, 0).map_err(CommandError::usage)?;
    let can_ask = io::stdin().is_terminal();
    match permission::permission(&target.name, target.is_readonly, options.yes, can_ask, &amount(&plan)) {
        Permission::Granted => {}
        Permission::Refused(why) => return Err(CommandError::usage(why)),
        Permission::Ask(question) => match permission::ask(&question) {
            Ok(true) => {}
            Ok(false) => {
                return Err(CommandError::usage("no load was sent, because the answer was not yes"));
            }
            Err(why) => return Err(CommandError::other(format!("stdin can't be read: {why}; give --yes"))),
        },
    }
    let mut interrupts = Interrupts::new()?;
    send(plan, target, async || interrupts.next().await).await.map_err(CommandError::failed)
}

/// `interrupt` comes each time that the user wants an end: first of the load, then of waiting for its answers.
async fn send(plan: Plan, target: BenchTarget, mut interrupt: impl AsyncFnMut()) -> Result<Report, String> {
    tokio::select! {
        tried = try_once(&plan, &target) => tried?,
        () = interrupt() => return Err("interrupted before load was sent".to_owned()),
    }
    let target = Arc::new(target);
    let load = Arc::new(SharedLoad::new(Arc::clone(&target), plan));
    let (sender, mut said) = unbounded_channel();
    let mut begins = Vec::new();
    for number in 0..load.plan.workers {
        let (begin, begun) = oneshot::channel();
        worker::start(number, Arc::clone(&load), begun, sender.clone())
            .map_err(|why| format!("the system starts no further thread: {why}; give fewer --threads"))?;
        begins.push(begin);
    }
    drop(sender);
    for _ in &begins {
        match said.recv().await {
            Some(Said::Ready) => {}
            Some(Said::Failed(why)) => return Err(why),
            _ => return Err("a worker ended before it was ready".to_owned()),
        }
    }
    let epoch = Instant::now();
    for begin in begins {
        let _ = begin.send(epoch);
    }
    let mut collector = Collector::new(load.plan.has_schedule());
    let ends = collect(&load, epoch, &mut collector, &mut said, interrupt).await?;
    Ok(Report::new((&target.url, &target.name), &load.plan, &load.window, &collector, ends))
}

/// The first call of the warm-up is made alone, so that no load of calls is sent that can't succeed.
async fn try_once(plan: &Plan, target: &BenchTarget) -> Result<(), String> {
    if plan.warm_up.is_zero() {
        return Ok(());
    }
    for client in target.clients(plan, 0)?.into_iter().take(1) {
        let result = target.call(&client).await;
        if let Err(CallError::Rpc(error)) = result
            && is_hopeless(error.code(), error.executed())
        {
            return Err(format!("the first call failed, so no load was sent: {}", with_options(&error.to_string())));
        }
    }
    Ok(())
}

/// Whether all further calls would fail as well. The function itself may return such a code for some calls only.
fn is_hopeless(code: Code, executed: Executed) -> bool {
    executed == Executed::No
        && matches!(
            code,
            Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unavailable
                | Code::Unimplemented
        )
}

/// Until all workers have ended.
async fn collect(
    load: &SharedLoad,
    epoch: Instant,
    collector: &mut Collector,
    said: &mut UnboundedReceiver<Said>,
    mut interrupt: impl AsyncFnMut(),
) -> Result<WorkerEnds, String> {
    let progress = Progress::new(&load.window, load.plan.call_budget());
    let (mut ends, mut running) = (WorkerEnds::default(), load.plan.workers);
    let mut redraw = interval(TICK * 2);
    while running > 0 {
        tokio::select! {
            message = said.recv() => match message {
                Some(Said::Measured(ticked)) => collector.add(&ticked),
                Some(Said::Ended { unsent, given_up, connections }) => {
                    running -= 1;
                    ends.unsent += unsent;
                    ends.given_up += given_up;
                    ends.connections.frames += connections.frames;
                    ends.connections.http += connections.http;
                }
                Some(Said::Failed(why)) => return Err(why),
                Some(Said::Ready) => {}
                None => return Err("a worker has ended without its figures".to_owned()),
            },
            _ = redraw.tick() => {
                let elapsed = epoch.elapsed();
                let tick = elapsed.saturating_sub(load.window.from()).as_nanos() / TICK.as_nanos();
                progress.show(&load.window, elapsed, collector.live(u64::try_from(tick).unwrap_or(u64::MAX)));
            }
            () = interrupt() => {
                if ends.is_interrupted {
                    load.give_up();
                }
                ends.is_interrupted = true;
                load.window.close(epoch.elapsed());
            }
        }
    }
    progress.end();
    let end = epoch.elapsed().min(load.window.until());
    collector.lasted(end.saturating_sub(load.window.from()));
    Ok(ends)
}

impl BenchTarget {
    /// The answer is read to its end and is not kept.
    async fn call(&self, client: &Client) -> Result<IgnoredAny, CallError<Value>> {
        let call = client.call(&self.name, self.args.clone());
        if self.is_keyed { call.idempotency_key(&random_key()).await } else { call.await }
    }

    /// The clients of a worker.
    ///
    /// # Errors
    ///
    /// The URL or what `connect` adds is invalid.
    fn clients(&self, plan: &Plan, worker: usize) -> Result<Vec<Client>, String> {
        let connections = plan.connections_of(worker);
        // A client of frames has one connection to each replica, and one of HTTP has as many as it needs.
        let (clients, connections) = match plan.transport {
            Transport::Frames => (connections, plan.in_flight_of(worker)),
            Transport::Http => (1, connections),
        };
        let client = || {
            let builder = Client::builder(&self.url).transport(plan.transport);
            let client = (self.connect)(builder.limits(|limits| limits.connections = connections));
            // A repetition would hide a failure, and would be load that was not asked for.
            let client = client.map_err(|error| error.message().to_owned())?;
            Ok(client.timeout(plan.timeout).policy("*", |policy| policy.attempts = 1))
        };
        (0..clients).map(|_| client()).collect()
    }
}

/// How much load it is, for the question.
fn amount(plan: &Plan) -> String {
    let window = plan.window();
    match (plan.load, plan.calls) {
        (_, Some(calls)) => format!("{} calls", figures::count(calls)),
        (Load::Closed { concurrency }, None) => {
            format!("calls for {}, {concurrency} at a time", figures::time(nanos(window.until())))
        }
        (Load::Open { rate, .. }, None) => {
            format!("{} calls a second for {}", figures::rate(rate), figures::time(nanos(window.until())))
        }
    }
}

fn print(options: &BenchOptions, report: &Report) -> Result<(), CommandError> {
    if let Some(file) = &options.json {
        if file.as_os_str() == "-" {
            return print_text(&report.to_json());
        }
        let wrong = |why| CommandError::other(format!("{} can't be written: {why}", file.display()));
        fs::write(file, report.to_json()).map_err(wrong)?;
    }
    let width = || terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    let width = io::stdout().is_terminal().then(width);
    print_text(&summary::summary(report, width))
}

#[cfg(test)]
mod tests {
    use std::future::IntoFuture as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    use byname::{Error, Server};

    use super::*;

    /// A server of this process, and a target there.
    async fn target(name: &str, args: Args) -> BenchTarget {
        let server = Server::new()
            .function("add", |a: i64, b: i64| async move { a + b })
            .function("fail", || async { Err::<i64, _>(Error::new(Code::NotFound, "there is no account 7")) });
        target_at(server, name, args).await
    }

    async fn target_at(server: Server, name: &str, args: Args) -> BenchTarget {
        let bound = server.serve("127.0.0.1:0").bind().await.unwrap();
        let url = bound.local_addr().to_string();
        tokio::spawn(bound.into_future());
        BenchTarget {
            url,
            name: name.to_owned(),
            args,
            is_readonly: Some(true),
            is_keyed: false,
            connect: Box::new(|builder| builder.build()),
        }
    }

    async fn run(options: BenchOptions, name: &str, args: Args) -> Report {
        let options = BenchOptions { calls: Some(200), threads: Some(2), ..options };
        send(Plan::new(&options, 2).unwrap(), target(name, args).await, std::future::pending::<()>).await.unwrap()
    }

    #[tokio::test]
    async fn a_closed_loop_makes_each_call_once() {
        for http in [false, true] {
            let options = BenchOptions { concurrency: Some(8), http, ..BenchOptions::default() };
            let report = run(options, "add", Args::new().arg(1).arg(2)).await;
            assert_eq!((report.calls, report.answered, report.is_success()), (200, 200, true), "{report:?}");
            assert_eq!(report.latency.unwrap().count, 200);
        }
    }

    #[tokio::test]
    async fn an_open_loop_sends_each_call_of_its_schedule() {
        let options = BenchOptions { rate: Some(2_000.0), ..BenchOptions::default() };
        let report = run(options, "add", Args::new().arg(1).arg(2)).await;
        let sending = report.sending.unwrap();
        // A machine that is very slow does not send all.
        assert_eq!(report.calls + sending.unsent, 200, "{report:?}");
        assert_eq!(report.answered, report.calls, "{report:?}");
    }

    #[tokio::test]
    async fn each_call_of_a_keyed_function_has_a_key_of_its_own() {
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        let server = Server::new().function("pay", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { 7 }
        });
        let target = BenchTarget { is_keyed: true, ..target_at(server, "pay", Args::new()).await };
        let options = BenchOptions { calls: Some(50), threads: Some(2), ..BenchOptions::default() };
        let report = send(Plan::new(&options, 2).unwrap(), target, std::future::pending::<()>).await.unwrap();
        assert_eq!((report.answered, runs.load(Ordering::Relaxed)), (50, 50), "{report:?}");
    }

    #[tokio::test]
    async fn failures_are_counted_and_not_repeated() {
        let report = run(BenchOptions::default(), "fail", Args::new()).await;
        assert_eq!((report.calls, report.answered, report.is_success()), (200, 0, false));
        assert_eq!(report.errors["not_found"].calls, 200);
        assert_eq!(report.errors["not_found"].example, "there is no account 7");
    }

    #[tokio::test]
    async fn no_load_is_sent_of_calls_that_cannot_succeed() {
        let plan = Plan::new(&BenchOptions::default(), 2).unwrap();
        let why = send(plan, target("sub", Args::new()).await, std::future::pending::<()>).await.unwrap_err();
        let expected = "the first call failed, so no load was sent: unimplemented: no function is named `sub` here";
        assert!(why.starts_with(expected), "{why}");
        assert!(!is_hopeless(Code::Unavailable, Executed::Unknown) && !is_hopeless(Code::NotFound, Executed::Yes));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_wrong_usage() {
        let target = BenchTarget { url: "ftp://data".to_owned(), ..target("add", Args::new()).await };
        let Err(why) = measured(&BenchOptions::default(), target).await else {
            panic!("it is refused");
        };
        let shown = format!("{why:?}");
        assert!(shown.contains("ftp") && shown.contains("code: 2"), "{shown}");
    }

    #[tokio::test]
    async fn a_second_interrupt_gives_up_what_is_in_flight_and_keeps_what_was_measured() {
        for rate in [None, Some(1_000.0)] {
            let (arrived, mut arrivals) = unbounded_channel();
            let arrivals_before = AtomicU64::new(0);
            let server = Server::new().function("answer_ten", move || {
                let _ = arrived.send(());
                let is_answered = arrivals_before.fetch_add(1, Ordering::Relaxed) < 10;
                async move { if is_answered { 7 } else { std::future::pending().await } }
            });
            let options = BenchOptions {
                rate,
                concurrency: rate.is_none().then_some(2),
                max_in_flight: rate.map(|_| 2),
                duration: Some(Duration::from_secs(3_600)),
                warm_up: Some(Duration::ZERO),
                ..BenchOptions::default()
            };
            let (mut seen, mut interrupts) = (0, 0);
            let interrupt = async || {
                // The last two are sent when all before them are answered.
                while seen < 12 && arrivals.recv().await.is_some() {
                    seen += 1;
                }
                interrupts += 1;
                if interrupts > 2 {
                    std::future::pending().await
                }
            };
            let target = target_at(server, "answer_ten", Args::new()).await;
            let report = send(Plan::new(&options, 2).unwrap(), target, interrupt).await.unwrap();
            assert_eq!((report.calls, report.answered, report.given_up), (10, 10, 2), "{report:?}");
            assert_eq!((report.is_interrupted, report.is_success()), (true, false), "{report:?}");
            assert_eq!(report.latency.unwrap().count, 10);
        }
    }

    #[tokio::test]
    async fn calls_that_fail_at_once_do_not_keep_others_from_their_answers() {
        let (arrived, mut arrivals) = unbounded_channel();
        let server = Server::new().function("tell", move || {
            let _ = arrived.send(());
            async { 7 }
        });
        let made = AtomicU64::new(0);
        let target = BenchTarget {
            // Each second client has no server.
            connect: Box::new(move |builder| match made.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => builder.build(),
                _ => Client::builder("unix:/nowhere/byname.sock").build(),
            }),
            ..target_at(server, "tell", Args::new()).await
        };
        let options = BenchOptions {
            concurrency: Some(2),
            connections: Some(2),
            threads: Some(1),
            // So that it ends also if no call is answered.
            calls: Some(100_000),
            ..BenchOptions::default()
        };
        let mut seen = 0;
        let interrupt = async || {
            while seen < 11 && arrivals.recv().await.is_some() {
                seen += 1;
                if seen == 11 {
                    return;
                }
            }
            std::future::pending().await
        };
        let report = send(Plan::new(&options, 2).unwrap(), target, interrupt).await.unwrap();
        assert!(report.answered >= 10, "{report:?}");
    }
}
