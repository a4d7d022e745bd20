//! The allocator: the standard library's (dlmalloc), but memory comes from the browser in large steps.
//!
//! `memory.grow` costs the same for 64 KiB as for 16 MiB, up to a millisecond in a large module: engines look after the whole memory, and every
//! view of it in JavaScript is made anew. By pages of 64 KiB, as the standard library asks for them, growing was a third of the time that
//! 100,000 rows took to merge. A step is an eighth of what there is; what is never touched costs address space only.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::UnsafeCell;
use std::ptr;

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 64 * 1024;

/// Fewest and most pages that are asked for at once, unless one allocation needs more.
const STEP_PAGES: std::ops::RangeInclusive<usize> = 16..=512;

#[global_allocator]
static MEMORY: Memory = Memory(UnsafeCell::new(Dlmalloc::new_with_allocator(LargeSteps)));

struct Memory(UnsafeCell<Dlmalloc<LargeSteps>>);

// SAFETY: a module without the threads extension has one thread.
unsafe impl Sync for Memory {}

// SAFETY: dlmalloc keeps the contract; nothing it calls allocates, so it is never entered twice.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(pointer, layout.size(), layout.align(), new_size) }
    }
}

/// Where dlmalloc gets memory.
struct LargeSteps;

// SAFETY: `alloc` gives memory that nobody had before; the others say that none is ever given back or moved.
unsafe impl Allocator for LargeSteps {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let needed = size.div_ceil(PAGE_BYTES);
        let step = (memory_size::<0>() / 8).clamp(*STEP_PAGES.start(), *STEP_PAGES.end());
        grow(needed.max(step)).or_else(|| grow(needed)).unwrap_or((ptr::null_mut(), 0, 0))
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

fn grow(pages: usize) -> Option<(*mut u8, usize, u32)> {
    let first = memory_grow::<0>(pages);
    if first == usize::MAX {
        return None;
    }
    // The last bytes of the address space are not given out: no pointer may wrap around to 0.
    let end_is_the_end = (first + pages) * (PAGE_BYTES / 4) == 1 << 30;
    let size = pages * PAGE_BYTES - if end_is_the_end { 16 } else { 0 };
    Some(((first * PAGE_BYTES) as *mut u8, size, 0))
}
