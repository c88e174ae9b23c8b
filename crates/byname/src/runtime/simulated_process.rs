//! The process of a simulated machine: [`SimulatedProcess`]. Its tasks end with it.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use super::BoxFuture;
use crate::ordered_watch as watch;

thread_local! {
    /// The process whose task is polled.
    static CURRENT: RefCell<Option<Arc<SimulatedProcess>>> = const { RefCell::new(None) };
}

/// The fewest tasks after which those that have ended are forgotten.
const FEW: usize = 64;

/// A program that runs on a simulated machine, from its start to its end or its crash.
#[derive(Debug)]
pub(crate) struct SimulatedProcess {
    machine: usize,
    state: Mutex<ProcessState>,
    /// Whether it was told to stop, as by SIGTERM.
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct ProcessState {
    is_over: bool,
    /// The tasks that wait until the process goes on, while it is paused.
    paused: Option<Vec<Waker>>,
    tasks: Vec<AbortHandle>,
    /// How many tasks there are when those that have ended are forgotten.
    tidy_at: usize,
}

impl SimulatedProcess {
    pub(crate) fn new(machine: usize) -> Arc<Self> {
        let state = ProcessState { is_over: false, paused: None, tasks: Vec::new(), tidy_at: FEW };
        Arc::new(Self { machine, state: Mutex::new(state), stop: watch::Sender::new(false) })
    }

    /// The process whose task is polled now.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The number of its machine.
    pub(crate) fn machine(&self) -> usize {
        self.machine
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Ends it. None of its tasks is polled again.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        let tasks = mem::take(&mut state.tasks);
        drop(state);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Polls none of its tasks until [`go_on`](Self::go_on).
    pub(crate) fn pause(&self) {
        self.state().paused.get_or_insert_default();
    }

    pub(crate) fn go_on(&self) {
        let waiting = self.state().paused.take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Does what SIGTERM does.
    pub(crate) fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// A future that is polled as a task of this process.
    pub(crate) fn run<F: Future>(self: &Arc<Self>, future: F) -> ProcessTask<F> {
        ProcessTask { future: Some(future), process: Arc::clone(self) }
    }

    /// Starts a task of this process. If the process is over, it never runs.
    pub(crate) fn spawn<F>(self: &Arc<Self>, runtime: &Handle, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let task = runtime.spawn(self.run(future));
        let mut state = self.state();
        if state.is_over {
            task.abort();
        } else {
            if state.tasks.len() >= state.tidy_at {
                state.tasks.retain(|task| !task.is_finished());
                state.tidy_at = FEW.max(2 * state.tasks.len());
            }
            state.tasks.push(task.abort_handle());
        }
        task
    }

    /// Whether a task may be polled now. It is woken otherwise, if it ever may.
    fn poll_may_run(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_over {
            return Poll::Pending;
        }
        match &mut state.paused {
            Some(waiting) => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, ProcessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A task of a process. What it starts belongs to the process too.
    pub(crate) struct ProcessTask<F> {
        #[pin]
        future: Option<F>,
        process: Arc<SimulatedProcess>,
    }

    impl<F> PinnedDrop for ProcessTask<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _here = EnteredProcess::enter(Arc::clone(this.process));
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for ProcessTask<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        std::task::ready!(this.process.poll_may_run(cx));
        let _here = EnteredProcess::enter(Arc::clone(this.process));
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let output = std::task::ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(output)
    }
}

/// Until this is dropped, code runs as that of a process.
pub(crate) struct EnteredProcess {
    before: Option<Arc<SimulatedProcess>>,
}

impl EnteredProcess {
    fn enter(process: Arc<SimulatedProcess>) -> Self {
        Self { before: CURRENT.replace(Some(process)) }
    }
}

impl Drop for EnteredProcess {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// The process in which a client was made. Calls that are made outside of any process, such as those of a task that
/// `tokio::spawn` started, are made there.
#[derive(Clone)]
pub(crate) struct ClientHome(Option<Arc<SimulatedProcess>>);

impl ClientHome {
    pub(crate) fn here() -> Self {
        Self(SimulatedProcess::current())
    }

    pub(crate) fn enter(&self) -> Option<EnteredProcess> {
        let home = self.0.as_ref()?;
        CURRENT.with_borrow(Option::is_none).then(|| EnteredProcess::enter(Arc::clone(home)))
    }
}

/// Starts a task. It belongs to the process that starts it.
#[track_caller]
pub(crate) fn spawn_here<F>(runtime: &Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match SimulatedProcess::current() {
        Some(process) => process.spawn(runtime, future),
        None => runtime.spawn(future),
    }
}

/// Ends when this process is told to stop. `None` outside of a simulation.
pub(crate) fn told_to_stop() -> Option<BoxFuture<()>> {
    let mut told = SimulatedProcess::current()?.stop.subscribe();
    Some(Box::pin(async move {
        // The sender lives as long as the process.
        drop(told.wait_for(|is_told| *is_told).await);
    }))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// Counts each millisecond.
    async fn count(counted: Arc<AtomicU32>) {
        loop {
            sleep(Duration::from_millis(1)).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_tasks_of_a_process_end_with_it_and_start_none_then() {
        struct SpawnsOnDrop(Arc<AtomicU32>);
        impl Drop for SpawnsOnDrop {
            fn drop(&mut self) {
                spawn_here(&Handle::current(), count(Arc::clone(&self.0)));
            }
        }
        let (process, counted) = (SimulatedProcess::new(0), Arc::<AtomicU32>::default());
        let within = Arc::clone(&counted);
        process.spawn(&Handle::current(), async move {
            let _spawns = SpawnsOnDrop(Arc::clone(&within));
            spawn_here(&Handle::current(), count(within));
            pending::<()>().await;
        });
        sleep(Duration::from_millis(10)).await;
        assert!(SimulatedProcess::current().is_none());
        process.end();
        let seen = counted.load(Ordering::Relaxed);
        assert!(seen >= 9, "{seen}");
        sleep(Duration::from_millis(10)).await;
        assert_eq!(counted.load(Ordering::Relaxed), seen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_process_goes_on_where_it_was() {
        let (process, counted) = (SimulatedProcess::new(0), Arc::<AtomicU32>::default());
        process.spawn(&Handle::current(), count(Arc::clone(&counted)));
        sleep(Duration::from_millis(10)).await;
        process.pause();
        let seen = counted.load(Ordering::Relaxed);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(counted.load(Ordering::Relaxed), seen);
        process.go_on();
        sleep(Duration::from_millis(10)).await;
        assert!(counted.load(Ordering::Relaxed) >= seen + 9);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_tasks_are_forgotten() {
        let process = SimulatedProcess::new(0);
        for _ in 0..10_000 {
            process.spawn(&Handle::current(), async {}).await.unwrap();
        }
        assert!(process.state().tasks.len() <= FEW);
    }
}
