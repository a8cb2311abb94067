//! The allocator of the program, and when it gives memory back.

use std::ffi::{c_int, c_long};

/// A third of the bridge's time went into the C library's allocator: an Event is many small strings. Built without
/// transparent huge pages, of which each takes 2 MiB however little of it is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the crate has no name for.
const PURGE_DELAY: c_int = 15;
/// In milliseconds. The default of a second keeps what a burst of changes needed while the next one needs it elsewhere:
/// at full speed that was half of all the memory the bridge took. At once would cost a tenth of the CPU.
const SOON: c_long = 10;

/// From now on what is free is given back soon. The environment has the last word (`MIMALLOC_PURGE_DELAY`).
#[allow(unsafe_code, reason = "the crate has no safe way to set an option")]
pub(crate) fn give_back() {
    // SAFETY: it is not safe to call from several threads at once, and this is the first thing that `main` does.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, SOON) };
}
