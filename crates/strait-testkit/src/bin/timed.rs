//! What a system call costs: `strait-timed LOOP REPETITIONS [enter|both]` makes the calls of a loop and
//! prints the nanoseconds that one took in the quickest repetition.
//!
//! With `enter` or `both`, eBPF programs that do nothing are attached to the tracepoints at the
//! begin, or at begin and end, of every system call meanwhile: the least that any recorder costs
//! which is told of calls there. `strait-timed wait 0 both` keeps them so for others, until standard
//! input ends.
#![allow(clippy::unwrap_used, reason = "what cannot be measured ends the measurement")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

const CALLS: u32 = 5_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [name, repetitions, programs @ ..] = words.as_slice() else {
        panic!("usage: strait-timed getppid|read|pread|pipe REPETITIONS [enter|both]");
    };
    let _attached: Vec<OwnedFd> = match programs {
        [] => Vec::new(),
        ["enter"] => vec![attach(c"sys_enter")],
        ["both"] => vec![attach(c"sys_enter"), attach(c"sys_exit")],
        other => panic!("{other:?}"),
    };
    if *name == "wait" {
        println!("attached");
        io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
        return;
    }
    let mut turn = turn(name);
    let quickest = (0..repetitions.parse().unwrap()).map(|_: u32| {
        let begin = Instant::now();
        (0..CALLS).for_each(|_| turn());
        begin.elapsed()
    });
    println!("{}", quickest.min().unwrap().as_secs_f64() * 1e9 / f64::from(CALLS));
}

/// One turn of a loop.
fn turn(name: &str) -> Box<dyn FnMut()> {
    let mut zero = File::open("/dev/zero").unwrap();
    match name {
        "getppid" => Box::new(|| {
            // SAFETY: the call takes nothing and cannot fail.
            let _ = unsafe { libc::getppid() };
        }),
        "read" => Box::new(move || zero.read_exact(&mut [0]).unwrap()),
        // Of a file that is in memory: this program's own.
        "pread" => {
            let file = File::open("/proc/self/exe").unwrap();
            let mut page = vec![0; 4096];
            Box::new(move || file.read_exact_at(&mut page, 4096).unwrap())
        }
        // Two calls a turn.
        "pipe" => {
            let (mut reader, mut writer) = io::pipe().unwrap();
            Box::new(move || {
                writer.write_all(&[0]).unwrap();
                reader.read_exact(&mut [0]).unwrap();
            })
        }
        other => panic!("there is no loop {other}"),
    }
}

/// Attaches a program that does nothing, for as long as the descriptor is open.
fn attach(tracepoint: &std::ffi::CStr) -> OwnedFd {
    /// `union bpf_attr` for BPF_PROG_LOAD, as far as it is needed (include/uapi/linux/bpf.h).
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        insns: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        version: u32,
        flags: u32,
    }
    /// The same for BPF_RAW_TRACEPOINT_OPEN.
    #[repr(C)]
    struct Open {
        name: u64,
        program: u32,
        padding: u32,
    }
    const PROG_LOAD: libc::c_int = 5;
    const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
    const RAW_TRACEPOINT: u32 = 17;
    // r0 = 0; exit
    let insns: [u64; 2] = [0xb7, 0x95];
    let load = Load {
        kind: RAW_TRACEPOINT,
        count: 2,
        insns: insns.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log: [0; 2],
        log_buffer: 0,
        version: 0,
        flags: 0,
    };
    // SAFETY: the command reads the structure, of the size that is passed, and through it two
    // instructions and a string that ends in NUL, all of which live until it returns.
    let program = owned(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>())
    });
    let open = Open {
        name: tracepoint.as_ptr().addr() as u64,
        program: u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&program)).unwrap(),
        padding: 0,
    };
    // SAFETY: as above; the name ends in NUL. The tracepoint holds the program.
    owned(unsafe {
        libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw const open, size_of::<Open>())
    })
}

/// What bpf(2) gave, which must be a descriptor.
fn owned(result: libc::c_long) -> OwnedFd {
    assert!(result >= 0, "bpf(2): {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(result).unwrap()) }
}
