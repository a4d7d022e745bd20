//! No chance: what is tried follows from the seed alone, so that a finding is found again.
//!
//! Hash maps are seeded by the system's random numbers, or by where things are in memory (so the targets are run without address space layout randomization). In which
//! order a map is searched is what libFuzzer sees as coverage, and what it sees decides what it tries next.

use std::ffi::{c_uint, c_void};
use std::ptr;

use rusqlite::ffi::{SQLITE_TESTCTRL_PRNG_SEED, sqlite3, sqlite3_test_control};

/// What libc and the standard library call for random numbers: all the same.
///
/// # Safety
/// As libc's: `bytes` is the start of `count` bytes that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(bytes: *mut c_void, count: usize, _flags: c_uint) -> isize {
    // SAFETY: as above.
    unsafe { bytes.cast::<u8>().write_bytes(7, count) };
    count.cast_signed()
}

/// Lets SQLite's random numbers begin anew, the same as ever.
pub fn begin_anew() {
    // SAFETY: this operation takes a number and a connection, which may be none.
    unsafe { sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 7, ptr::null_mut::<sqlite3>()) };
}
