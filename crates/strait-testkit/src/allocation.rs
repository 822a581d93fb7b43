//! Counting what is allocated, so that a test can hold memory to a multiple of its input.
//!
//! ```
//! use strait_testkit::allocation::{Counting, allocated};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let (bytes, list) = allocated(|| vec![0_u8; 1000]);
//! assert!(bytes >= 1000 && list.len() == 1000);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks of it.
pub struct Counting;

/// How many bytes this thread allocates while it runs `work`, whether or not it frees them again;
/// nothing where [`Counting`] is not the global allocator.
pub fn allocated<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = BYTES.get();
    let result = work();
    (BYTES.get() - before, result)
}

fn count(bytes: usize) {
    // While a thread ends its counter may be gone.
    let _ = BYTES.try_with(|sum| {
        sum.set(sum.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
    });
}

// SAFETY: each method hands its arguments to the system's allocator and returns what that returns,
// so what `GlobalAlloc` demands of an allocator holds because it holds of `System`. Counting
// neither allocates (the cell is initialised in place, without a destructor) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller promises that the layout has a size, which is all that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller promises that the layout has a size, which is all that is asked for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: the caller promises that the block is of this allocator with this layout, so it
        // is of `System`, and that the new size is greater than 0 and does not overflow when it is
        // rounded up to the alignment.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the block is of this allocator with this layout, so it
        // is of `System`.
        unsafe { System.dealloc(block, layout) }
    }
}
