//! The machines of a simulation, and the programs that run on them: [`MachineSet`].

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::program::Program;
use crate::ordered_watch as watch;
use crate::runtime::{BoxFuture, SimulatedProcess};
use crate::simulated_world::{MachineId, SimulatedWorld};

type ProgramResult = Result<(), Box<dyn Error + Send + Sync>>;

/// Starts a program. It is asked again after each restart.
type ProgramStart = Arc<Mutex<dyn FnMut() -> BoxFuture<ProgramResult> + Send>>;

/// How a program ended.
#[derive(Clone, Debug)]
pub(super) enum ProgramEnd {
    Returned(Result<(), String>),
    Crashed,
}

#[derive(Clone)]
pub(super) struct MachineSet {
    world: Arc<SimulatedWorld>,
    machines: Arc<Mutex<Vec<SimulatedMachine>>>,
    /// The first program that failed although nobody had told it to stop.
    failed: Arc<watch::Sender<Option<String>>>,
}

struct SimulatedMachine {
    name: String,
    /// `None` for the machine that runs the scenario.
    start: Option<ProgramStart>,
    process: Arc<SimulatedProcess>,
    is_told_to_stop: bool,
    end: watch::Receiver<Option<ProgramEnd>>,
}

impl MachineSet {
    /// No machine but the one that runs the scenario.
    pub(super) fn new(world: &Arc<SimulatedWorld>, caller: &str) -> Self {
        let id = world.step(|network, _| network.add_machine(caller));
        let process = SimulatedProcess::new(id);
        let (_, end) = watch::channel(None);
        let caller = SimulatedMachine { name: caller.to_owned(), start: None, process, is_told_to_stop: false, end };
        let machines = Arc::new(Mutex::new(vec![caller]));
        Self { world: Arc::clone(world), machines, failed: Arc::new(watch::Sender::new(None)) }
    }

    /// The process of the scenario.
    pub(super) fn caller(&self) -> Arc<SimulatedProcess> {
        Arc::clone(&self.machines()[0].process)
    }

    /// The number of a machine.
    #[track_caller]
    pub(super) fn id(&self, name: &str) -> MachineId {
        let machines = self.machines();
        let Some(found) = machines.iter().position(|machine| machine.name == name) else {
            let known: Vec<_> = machines.iter().map(|machine| format!("`{}`", machine.name)).collect();
            drop(machines);
            panic!("the simulation has no machine `{name}`; it has {}", known.join(", "));
        };
        found
    }

    #[track_caller]
    pub(super) fn add<P: Program>(&self, name: &str, mut program: impl FnMut() -> P + Send + 'static) {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        assert!(
            is_name,
            "`{name}` is not a valid name of a machine; expected letters, digits, `-` and `.`, such as orders-1"
        );
        let mut machines = self.machines();
        let is_new = machines.iter().all(|machine| machine.name != name);
        if !is_new {
            drop(machines);
            panic!("the simulation has a machine `{name}` already; `Simulation::restart` starts its program again");
        }
        let id = self.world.step(|network, _| network.add_machine(name));
        let start: ProgramStart = Arc::new(Mutex::new(move || program().run()));
        let process = SimulatedProcess::new(id);
        let (_, end) = watch::channel(None);
        machines.push(SimulatedMachine { name: name.into(), start: Some(start), process, is_told_to_stop: false, end });
        drop(machines);
        self.start(id);
    }

    /// Starts the program of a machine on which none runs.
    fn start(&self, id: MachineId) {
        let mut machines = self.machines();
        let machine = &mut machines[id];
        let Some(start) = machine.start.clone() else { return };
        let process = SimulatedProcess::new(id);
        let (ended, end) = watch::channel(None);
        (machine.process, machine.end, machine.is_told_to_stop) = (Arc::clone(&process), end, false);
        drop(machines);
        self.world.step(|network, now| network.note(now, id, format_args!("starts")));
        // What the closure makes, such as clients, belongs to the process too.
        let program = process.spawn(&Handle::current(), async move {
            let running = (start.lock().unwrap_or_else(PoisonError::into_inner))();
            running.await.map_err(|why| why.to_string())
        });
        let this = self.clone();
        tokio::spawn(async move {
            let end = match program.await {
                Ok(result) => ProgramEnd::Returned(result),
                Err(why) if why.is_cancelled() => ProgramEnd::Crashed,
                Err(why) => ProgramEnd::Returned(Err(why.to_string())),
            };
            this.ended(id, &process, &end);
            ended.send_replace(Some(end));
        });
    }

    fn ended(&self, id: MachineId, process: &SimulatedProcess, end: &ProgramEnd) {
        let ProgramEnd::Returned(result) = end else { return };
        process.end();
        self.world.step(|network, now| {
            match result {
                Ok(()) => network.note(now, id, format_args!("its program has ended")),
                Err(why) => network.note(now, id, format_args!("its program has failed: {why}")),
            }
            network.end_process(id, now);
        });
        let machines = self.machines();
        if let (Err(why), false) = (result, machines[id].is_told_to_stop) {
            let name = &machines[id].name;
            self.failed.send_modify(|failed| {
                failed.get_or_insert_with(|| format!("the program of the machine `{name}` failed: {why}"));
            });
        }
    }

    #[track_caller]
    pub(super) fn crash(&self, name: &str) {
        let id = self.with_program(name);
        self.end(id, "crashes");
    }

    #[track_caller]
    pub(super) fn restart(&self, name: &str) {
        let id = self.with_program(name);
        self.end(id, "crashes");
        self.start(id);
    }

    /// Ends the program of a machine, if one runs.
    fn end(&self, id: MachineId, what: &str) {
        let process = Arc::clone(&self.machines()[id].process);
        if process.is_over() {
            return;
        }
        self.world.step(|network, now| network.note(now, id, format_args!("{what}")));
        process.end();
        self.world.step(|network, now| network.end_process(id, now));
    }

    /// Tells the program of a machine to stop. Returns what its end can be learnt from.
    #[track_caller]
    pub(super) fn tell_to_stop(&self, name: &str) -> watch::Receiver<Option<ProgramEnd>> {
        let id = self.with_program(name);
        let (process, end) = {
            let machine = &mut self.machines()[id];
            machine.is_told_to_stop = true;
            (Arc::clone(&machine.process), machine.end.clone())
        };
        self.world.step(|network, now| network.note(now, id, format_args!("is told to stop")));
        process.tell_to_stop();
        end
    }

    #[track_caller]
    pub(super) fn pause(&self, name: &str) {
        let id = self.with_program(name);
        self.world.step(|network, now| network.note(now, id, format_args!("is paused")));
        self.machines()[id].process.pause();
    }

    #[track_caller]
    pub(super) fn go_on(&self, name: &str) {
        let id = self.with_program(name);
        self.world.step(|network, now| network.note(now, id, format_args!("goes on")));
        let process = Arc::clone(&self.machines()[id].process);
        process.go_on();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.machines().iter().map(|machine| machine.name.clone()).collect()
    }

    /// Ends everything that runs.
    pub(super) fn end_all(&self) {
        let processes: Vec<_> = self.machines().iter().map(|machine| Arc::clone(&machine.process)).collect();
        processes.iter().for_each(|process| process.end());
    }

    /// Waits until a program has failed although nobody had told it to stop. Returns why.
    pub(super) async fn failure(&self) -> String {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The number of a machine that has a program.
    #[track_caller]
    fn with_program(&self, name: &str) -> MachineId {
        let id = self.id(name);
        assert!(id > 0, "the machine `{name}` runs the scenario itself; crash, pause or stop another one");
        id
    }

    fn machines(&self) -> MutexGuard<'_, Vec<SimulatedMachine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
