//! From a name to its handler.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::admission_rounds::LongPolls;
use crate::clock_and_chance::{RealInstant, real_now};
use crate::error::{Code, Error};
use crate::function_limits::{FunctionLimit, FunctionLimits, FunctionPermits};
use crate::handler::{BlockRegistration, Handler, Registration};
use crate::method::{Method, MethodSpec, Source};
use crate::name::{self, NamePattern};
use crate::running_functions;
use crate::untrusted_text::quoted;

/// What is linked into the program and not registered.
#[derive(Clone, Copy)]
pub(crate) enum NotServed {
    Function(&'static Registration),
    Block(&'static BlockRegistration),
}

/// The functions of a server, by name.
#[derive(Default)]
pub(crate) struct Registry {
    by_name: HashMap<String, usize>,
    entries: Vec<Arc<RegistryEntry>>,
    long_polls: Arc<LongPolls>,
}

/// A function, and how many calls of it run now.
pub(crate) struct RegistryEntry {
    pub(crate) handler: Handler,
    /// Its place in the order of registration, by which calls of it are counted.
    pub(crate) index: usize,
    active: AtomicUsize,
    /// The limits of the function, of its attribute and of the server.
    limits: Vec<Arc<FunctionLimit>>,
    /// A warning about it was logged already.
    is_known_slow: AtomicBool,
    /// How many polls in a row were short.
    quick: AtomicU8,
    /// Of all functions of the server.
    long_polls: Arc<LongPolls>,
}

/// After this many polls in a row that are shorter than [`QUICK`], a function counts as quick. One poll of [`SLOW`] ends
/// that.
const PROVEN: u8 = 8;
const QUICK: Duration = Duration::from_micros(50);
const SLOW: Duration = Duration::from_micros(200);

impl Registry {
    /// Adds a function under its name and its aliases.
    ///
    /// # Errors
    ///
    /// If a name is taken, with both places in the source, if it is not a valid name, or if two arguments have one name.
    pub(crate) fn add(&mut self, handler: Handler) -> Result<(), Error> {
        let method = Arc::clone(&handler.method);
        let params = &method.params;
        if let Some((_, twin)) =
            params.iter().enumerate().find(|(at, param)| params[..*at].iter().any(|other| other.name == param.name))
        {
            let why =
                format!("two arguments of `{}` are named `{}`: {}; rename one", method.name, twin.name, place(&method));
            return Err(Error::refused(Code::InvalidArgument, why));
        }
        let index = self.entries.len();
        let limits = method.in_flight.map(|most| Arc::new(FunctionLimit::of_attribute(most)));
        self.entries.push(Arc::new(RegistryEntry {
            handler,
            index,
            active: AtomicUsize::new(0),
            limits: limits.into_iter().collect(),
            is_known_slow: AtomicBool::new(false),
            quick: AtomicU8::new(0),
            long_polls: Arc::clone(&self.long_polls),
        }));
        for name in std::iter::once(&method.name).chain(&method.aliases) {
            if let Err(why) = name::check(name) {
                return Err(Error::refused(Code::InvalidArgument, format!("{why} ({})", place(&method))));
            }
            if let Some(taken) = self.by_name.insert(name.to_string(), index) {
                let (first, second) = (place(&self.entries[taken].handler.method), place(&method));
                let why = if first == second {
                    format!(
                        "`{name}` is served twice: {first}; leave one out, or tell two instances apart with `inject_as`"
                    )
                } else {
                    format!(
                        "two functions are named `{name}`: {first} and {second}; give one another name with \
                         `#[rpc(name = \"…\")]`, `#[rpc(prefix = \"…\")]` or `inject_as`"
                    )
                };
                return Err(Error::refused(Code::AlreadyExists, why));
            }
        }
        Ok(())
    }

    /// Limits the functions whose names match `pattern`.
    ///
    /// # Errors
    ///
    /// A pattern that is none or that matches no function, and limits that make no sense.
    pub(crate) fn limit(&mut self, pattern: &str, limits: &FunctionLimits) -> Result<(), Error> {
        let invalid = |why: String| Error::refused(Code::InvalidArgument, format!("a limit of the server: {why}"));
        let matched = NamePattern::parse(pattern).map_err(invalid)?;
        let limit = Arc::new(FunctionLimit::of_pattern(pattern, limits)?);
        let mut is_used = false;
        for entry in &mut self.entries {
            if matched.matches(&entry.handler.method.name) {
                let entry = Arc::get_mut(entry).expect("the server has not begun, so it is not shared");
                entry.limits.push(Arc::clone(&limit));
                is_used = true;
            }
        }
        if is_used {
            return Ok(());
        }
        Err(invalid(format!(
            "no function of the server matches {}; add the function, or correct the pattern of `Server::limits_for`",
            quoted(pattern)
        )))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<RegistryEntry>> {
        self.by_name.get(name).map(|&at| &self.entries[at])
    }

    /// The long polls of all functions.
    pub(crate) fn long_polls(&self) -> &Arc<LongPolls> {
        &self.long_polls
    }

    pub(crate) fn methods(&self) -> impl ExactSizeIterator<Item = &Arc<Method>> + Clone {
        self.entries.iter().map(|entry| &entry.handler.method)
    }

    /// Up to three registered names that are similar to this one, of functions that are not hidden and that `may_be_told` admits.
    pub(crate) fn near(&self, name: &str, mut may_be_told: impl FnMut(&Arc<Method>) -> bool) -> Vec<&str> {
        // A name that is longer than any registered one has no similar name, and the comparison would be slow.
        if name.len() > 256 {
            return Vec::new();
        }
        // A name with the type in front, or without the prefix, likely means this method.
        let last = |name: &str| name.rfind('.').map_or(0, |dot| dot + 1);
        let word = &name[last(name)..];
        let likeness = |known: &str| {
            if known[last(known)..].eq_ignore_ascii_case(word) { 1.0 } else { strsim::jaro_winkler(known, name) }
        };
        let mut near: Vec<_> = self
            .by_name
            .iter()
            .map(|(known, &at)| (likeness(known), known.as_str(), &self.entries[at].handler.method))
            .filter(|(likeness, ..)| *likeness > 0.75)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let told = near.into_iter().filter(|(_, _, method)| !method.hidden && may_be_told(method));
        told.take(3).map(|(_, known, _)| known).collect()
    }

    /// The `#[rpc]` functions and `impl` blocks that are linked into this program and not registered here, in the order of
    /// the source.
    pub(crate) fn not_served(&self) -> Vec<NotServed> {
        let mut found: Vec<_> = NotServed::candidates().filter(|linked| !self.serves(linked)).collect();
        found.sort_by_key(NotServed::place);
        found
    }

    /// What is [not served](Self::not_served): first what was probably forgotten, because at least as many functions of its module are
    /// registered here as are not, and then the rest, such as another tier in the same program.
    pub(crate) fn forgotten_and_others(&self) -> (Vec<NotServed>, Vec<NotServed>) {
        let mut served = HashMap::new();
        for entry in &self.entries {
            *served.entry(entry.handler.method.source.module).or_insert(0) += 1;
        }
        let (linked, mut left_out) = (self.not_served(), HashMap::new());
        for linked in &linked {
            *left_out.entry(linked.module()).or_insert(0) += linked.specs().len();
        }
        linked.into_iter().partition(|linked| {
            let module = linked.module();
            served.get(module).is_some_and(|served| *served >= left_out[module])
        })
    }

    /// What is linked into this program under this name and not registered here.
    pub(crate) fn not_served_as(&self, name: &str) -> Option<NotServed> {
        let is_named = |spec: &&MethodSpec| spec.name == name || spec.aliases.contains(&name);
        NotServed::candidates().find(|linked| linked.specs().iter().any(is_named) && !self.serves(linked))
    }

    /// A block is registered if one of its methods is, under any prefix: all of them are, or a test fakes some.
    fn serves(&self, linked: &NotServed) -> bool {
        let is = |entry: &RegistryEntry, spec: &MethodSpec| {
            let Source { module, file, line, .. } = entry.handler.method.source;
            (module, file, line) == (spec.module, spec.file, spec.line)
        };
        match linked {
            NotServed::Function(linked) => self.get(linked.spec.name).is_some_and(|entry| is(entry, linked.spec)),
            NotServed::Block(_) => {
                let is_here = |spec: &&MethodSpec| {
                    self.entries.iter().any(|entry| {
                        let prefix = entry.handler.method.name.strip_suffix(spec.name);
                        prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.')) && is(entry, spec)
                    })
                };
                // `#[cfg]` may have left nothing of it.
                linked.specs().is_empty() || linked.specs().iter().any(is_here)
            }
        }
    }

    /// Logs a warning about the function that has kept a thread for so long, if it is registered here.
    pub(crate) fn kept(&self, id: usize, took: Duration, limit: Duration) {
        if let Some(entry) = self.entries.iter().find(|entry| entry.id() == id) {
            entry.kept(took, limit);
        }
    }

    /// How many calls of each function run now, in the order of registration.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|entry| entry.active.load(Ordering::Relaxed))
    }

    /// The functions that run now, with the number of calls of each.
    pub(crate) fn active(&self) -> Vec<(&str, usize)> {
        let active =
            self.entries.iter().map(|entry| (&*entry.handler.method.name, entry.active.load(Ordering::Relaxed)));
        active.filter(|(_, count)| *count > 0).collect()
    }
}

impl NotServed {
    /// All that is linked, whether it is registered or not.
    fn candidates() -> impl Iterator<Item = Self> {
        let functions = inventory::iter::<Registration>().map(NotServed::Function);
        functions.chain(inventory::iter::<BlockRegistration>().map(NotServed::Block))
    }

    /// What is known of the function, or of the methods.
    pub(crate) fn specs(&self) -> &'static [&'static MethodSpec] {
        match self {
            NotServed::Function(linked) => std::slice::from_ref(&linked.spec),
            NotServed::Block(linked) => (linked.methods)(),
        }
    }

    fn module(&self) -> &'static str {
        self.specs().first().map_or("", |spec| spec.module)
    }

    /// Its file and line.
    pub(crate) fn place(&self) -> (&'static str, u32) {
        match self {
            NotServed::Function(linked) => (linked.spec.file, linked.spec.line),
            NotServed::Block(linked) => (linked.file, linked.line),
        }
    }

    /// What a server lacks.
    pub(crate) fn remedy(&self) -> String {
        match self {
            NotServed::Function(linked) => format!("`.method::<{}>()`", linked.path),
            NotServed::Block(linked) => format!("`.inject(…)` with an instance of `{}`", (linked.ty)()),
        }
    }
}

impl RegistryEntry {
    pub(crate) fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a call needs of the limits of the function; `None` if it has none. `caller` is a number that stands for who calls.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if a limit is reached.
    #[inline]
    pub(crate) fn try_admit(&self, caller: impl FnOnce() -> u64) -> Result<Option<Box<FunctionPermits>>, Error> {
        if self.limits.is_empty() { Ok(None) } else { self.try_admit_limited(caller()).map(Some) }
    }

    #[cold]
    fn try_admit_limited(&self, caller: u64) -> Result<Box<FunctionPermits>, Error> {
        let mut permits = Box::<FunctionPermits>::default();
        for limit in &self.limits {
            limit.take(&self.handler.method.name, caller, &mut permits)?;
        }
        Ok(permits)
    }

    /// Whether it may be polled on a task that others wait for: its last polls were all short.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed) >= PROVEN
    }

    fn learn(&self, took: Duration) {
        let proven = self.quick.load(Ordering::Relaxed);
        if took >= SLOW {
            self.quick.store(0, Ordering::Relaxed);
            self.long_polls.add(took);
        } else if took < QUICK && proven < PROVEN {
            // Calls that end at the same time may count as one. That does no harm.
            self.quick.store(proven + 1, Ordering::Relaxed);
        }
    }

    /// Runs what stands around the function. Its time counts like that of the function, but there is no warning, which
    /// would name the function.
    pub(crate) fn time<T>(&self, run: impl FnOnce() -> T) -> T {
        let began = real_now();
        let done = run();
        self.learn(real_now().saturating_duration_since(began));
        done
    }

    /// Runs one poll of the function. Logs a warning if it took longer than `limit`.
    pub(crate) fn piece<T>(&self, limit: Duration, run: impl FnOnce() -> T) -> T {
        self.piece_from(real_now(), limit, run).0
    }

    /// As [`piece`](Self::piece), but `from` is a time that the caller has just read. Returns the time of the end.
    pub(crate) fn piece_from<T>(
        &self,
        began: RealInstant,
        limit: Duration,
        run: impl FnOnce() -> T,
    ) -> (T, RealInstant) {
        let done = running_functions::run(self.id(), began, run);
        let ended = real_now();
        let took = ended.saturating_duration_since(began);
        self.learn(took);
        if took >= limit {
            self.kept(took, limit);
        }
        (done, ended)
    }

    /// Identifies this function among those that threads run.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Logs a warning, once, that this function kept its thread or still keeps it.
    fn kept(&self, took: Duration, limit: Duration) {
        if !self.is_known_slow.swap(true, Ordering::Relaxed) {
            let name = &self.handler.method.name;
            tracing::warn!(
                rpc.method = %name,
                "`{name}` kept its thread for {took:?} (`Limits::slow_poll` is {limit:?}) and held up other calls; move \
                 such work off by #[rpc(blocking)]"
            );
        }
    }
}

fn place(method: &Method) -> String {
    format!("`{}` at {}:{} in {}", method.signature(), method.source.file, method.source.line, method.source.module)
}
