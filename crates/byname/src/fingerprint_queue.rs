//! Finds the fingerprints of functions in the background: [`known_fingerprint`].

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread;

use byname_schema::TimeBudget;

use crate::method::{Fingerprint, Method};
use crate::service_schema::STACK;
use crate::simulated_world::is_simulated;

/// Whether this side finds fingerprints. It takes the schemas of types. If panics abort the process, types are not tried beside
/// calls, because their code may panic. In a simulation no thread of its own runs.
pub(crate) fn finds_fingerprints() -> bool {
    cfg!(all(feature = "schema", panic = "unwind")) && !is_simulated()
}

/// The fingerprint of a function, if it is known. The first time it is not, and then its types are traced in the background.
/// This is on the path of each call, so it only reads after the first time.
pub(crate) fn known_fingerprint(method: &Method) -> Option<Fingerprint> {
    if let Some(fingerprint) = method.traced.fingerprint.get() {
        return *fingerprint;
    }
    if !method.traced.is_asked_for.load(Ordering::Relaxed) && !method.traced.is_asked_for.swap(true, Ordering::Relaxed)
    {
        queue(method);
    }
    None
}

struct FingerprintQueue {
    methods: VecDeque<Method>,
    has_thread: bool,
}

static QUEUE: Mutex<FingerprintQueue> = Mutex::new(FingerprintQueue { methods: VecDeque::new(), has_thread: false });

fn queue(method: &Method) {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    // The clone shares what is found.
    queue.methods.push_back(method.clone());
    if !queue.has_thread {
        let thread = thread::Builder::new().name("byname-schema".to_owned()).stack_size(STACK);
        // Without a thread the functions wait for the next one. Calls do not need fingerprints.
        queue.has_thread = thread.spawn(empty_queue).is_ok();
    }
}

/// The thread ends with the queue, because functions are called for the first time soon after the start, and rarely later.
fn empty_queue() {
    loop {
        let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(method) = queue.methods.pop_front() else {
            queue.has_thread = false;
            return;
        };
        drop(queue);
        let budget = TimeBudget::default();
        let types = method.types(&budget);
        // Types that took too long are open, so there is no second try.
        let _ = method.traced.fingerprint.set(Fingerprint::of(&method, &types));
    }
}
