//! What recording costs: `cargo xtask bench record`.
//!
//! A loop of one call, bare and recorded, in turns; under the least eBPF program that records
//! anything, a bit for each number; under `strace -f -c`; and under the least supervisor that lets
//! notified calls go on. The call is the cheapest there is, and
//! ones of which an argument is recorded: always the same value, and values in turn. The least of
//! many repetitions counts, as everything else that a machine does only adds.

use anyhow::{Context, Result};

use crate::bench::calls::measure;

/// How often everything is measured, in turns.
const ROUNDS: usize = 7;

/// What is called: getppid; ioctl on no descriptor, with a command; socket of no family that there is.
const CALLS: [(&str, &[&str]); 3] = [
    ("getppid", &["110", "0", "0", "0"]),
    ("ioctl (1 argument of interest)", &["16", "-1", "0x5401", "0"]),
    ("socket (3, none valid)", &["41", "99", "1", "0"]),
];

/// Prints nanoseconds a call and ratios.
pub(crate) fn run() -> Result<()> {
    let root = crate::root();
    crate::succeed(crate::cargo().args(["build", "--release", "-q", "-p", "strait-testkit"]))?;
    for (package, example) in [("strait-runtime", "record"), ("strait-kernel", "bitmap")] {
        let example = ["build", "--release", "-q", "-p", package, "--example", example];
        crate::succeed(crate::cargo().args(example))?;
    }
    let release = root.join("target/release");
    let bitmap = root.join("target/bitmap.bpf.o");
    crate::ebpf::build(&root, "xtask/src/bench/bitmap.bpf.c", &bitmap)?;
    let text = |path: std::path::PathBuf| -> Result<String> {
        path.into_os_string().into_string().ok().context("the folder's name is not UTF-8")
    };
    let recorder = text(release.join("examples/record"))?;
    let loader = text(release.join("examples/bitmap"))?;
    let (caller, bitmap) = (text(release.join("strait-stages"))?, text(bitmap)?);

    let supervisor = text(root.join("target/supervisor"))?;
    let source = root.join("xtask/src/bench/supervisor.c");
    let mut compiler = std::process::Command::new("cc");
    crate::succeed(compiler.args(["-O2", "-Wall", "-o", &supervisor]).arg(source))?;

    for (name, call) in CALLS {
        let under = |wrapper: &[&str], repetitions: &str| -> Result<f64> {
            let words = [wrapper, &[&caller, "time", repetitions], call].concat();
            measure(&words)
        };
        let [mut bare, mut bits, mut ebpf, mut ptrace, mut strace] = [f64::INFINITY; 5];
        let [mut supervised, mut notify] = [f64::INFINITY; 2];
        for _ in 0..ROUNDS {
            bare = bare.min(under(&[], "100")?);
            bits = bits.min(under(&[&loader, &bitmap], "100")?);
            ebpf = ebpf.min(under(&[&recorder, "ebpf", "/dev/null"], "100")?);
            ptrace = ptrace.min(under(&[&recorder, "ptrace", "/dev/null"], "2")?);
            strace = strace.min(under(&["strace", "-f", "-c", "-o", "/dev/null"], "2")?);
            supervised = supervised.min(under(&[&supervisor], "5")?);
            notify = notify.min(under(&[&recorder, "notify", "/dev/null"], "5")?);
        }
        println!("{name}, ns a call, the least of {ROUNDS} rounds");
        for (name, time) in [
            ("bare", bare),
            ("bitmap", bits),
            ("ebpf", ebpf),
            ("ptrace", ptrace),
            ("strace", strace),
            ("supervisor in C", supervised),
            ("notify", notify),
        ] {
            println!("{name:>15} {time:>9.1}  {:>7.2} of bare  +{:.1}", time / bare, time - bare);
        }
        println!(
            "ebpf takes {:.2} times the bare bitmap; strace costs {:.0} times what ebpf does; \
             ptrace takes {:.2} times strace, notify {:.2} times the supervisor in C",
            ebpf / bits,
            (strace - bare) / (ebpf - bare),
            ptrace / strace,
            notify / supervised
        );
    }
    Ok(())
}
