//! Counts what a thread allocates; one does all the work of a side.
//!
//! It always counts, so that no figure comes from another program than the others. An allocation costs one instruction more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

/// Blocks that this thread has allocated, or changed the size of.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

/// The C library's `malloc`, and a count.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of the method of this name.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What was allocated between the two signals by which another process marks its window.
pub fn marked() -> u64 {
    MARKED.load(Relaxed)
}

static MARKED: AtomicU64 = AtomicU64::new(0);

/// Lets other processes [`mark`] this one.
pub fn listen() -> Result<()> {
    extern "C" fn note(_: c_int) {
        // Modulo 2^64 the second note leaves the difference.
        MARKED.store(allocations().wrapping_sub(MARKED.load(Relaxed)), Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler touches only an atomic, and a thread's variable that needs neither initialization nor a destructor.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    Ok(())
}

/// Opens a process's window, or closes it.
pub fn mark(process: Pid) -> Result<()> {
    Ok(kill(process, Signal::SIGUSR1)?)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn what_is_allocated_in_the_window_is_counted() {
        listen().unwrap();
        raise(Signal::SIGUSR1).unwrap();
        for _ in 0..1000 {
            black_box(vec![0_u8; 64]);
        }
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(marked(), 1000);
    }
}
