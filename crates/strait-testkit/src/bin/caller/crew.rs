//! Many tasks that are there before anybody looks, and call when they are let.

use std::io::Read;
use std::{io, thread};

use crate::{CALL, fork, make, print, reap};

/// Threads and children that wait until standard input ends, and then make calls. It says `ready` when all
/// are there.
pub(crate) fn crew(threads: u64, children: u64, calls: u64) {
    let (mut told, tell) = io::pipe().unwrap();
    let mut pids = Vec::new();
    for _ in 0..children {
        let child = fork();
        if child == 0 {
            drop(tell);
            let _ = told.read(&mut [0]);
            make(calls);
            // SAFETY: ends the process without running anything of it.
            unsafe { libc::_exit(0) };
        }
        pids.push(child);
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            let mut told = told.try_clone().unwrap();
            scope.spawn(move || {
                let _ = told.read(&mut [0]);
                make(calls);
            });
        }
        println!("ready");
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        drop(tell);
    });
    pids.into_iter().for_each(|child| reap(child.into()));
    let made = (threads + children) * calls;
    print("x86_64", CALL, made, made, 0, &[]);
}
