//! Counts the connections that this process accepts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::libc::{SYS_accept4, c_int, sockaddr, socklen_t, syscall};

pub fn accepted() -> u64 {
    ACCEPTED.load(Relaxed)
}

static ACCEPTED: AtomicU64 = AtomicU64::new(0);

/// Stands in for the C library's function of this name. Some peers own their accept loop and tell
/// nobody of a connection, but all of them come through here.
///
/// # Safety
/// As for the C library's function: this only passes the arguments on.
#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(listener: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: the caller's promises are the system call's own.
    let socket = unsafe { syscall(SYS_accept4, listener, address, length, flags) } as c_int;
    if socket >= 0 {
        ACCEPTED.fetch_add(1, Relaxed);
    }
    socket
}
