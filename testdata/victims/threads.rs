//! Starts 64 threads that all run before any of them goes on, then has them share a lock.

use std::sync::{Arc, Barrier, Mutex};

fn main() {
    let barrier = Arc::new(Barrier::new(64));
    let total = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..64_u64)
        .map(|i| {
            let (barrier, total) = (Arc::clone(&barrier), Arc::clone(&total));
            std::thread::spawn(move || {
                barrier.wait();
                for _ in 0..100 {
                    *total.lock().unwrap() += i;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*total.lock().unwrap(), 100 * (63 * 64 / 2));
}
