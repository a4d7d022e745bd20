//! How much memory Rust code holds, so that a target can say what an input may cost. SQLite's own is not counted; its pages are.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count.
#[derive(Debug)]
pub struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held_bytes = HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_BYTES.fetch_max(held_bytes, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something; gives how many bytes more than before were held at the worst moment.
pub fn most_bytes_of(run: impl FnOnce()) -> usize {
    let before_bytes = HELD_BYTES.load(Ordering::Relaxed);
    MOST_BYTES.store(before_bytes, Ordering::Relaxed);
    run();
    MOST_BYTES.load(Ordering::Relaxed) - before_bytes
}
