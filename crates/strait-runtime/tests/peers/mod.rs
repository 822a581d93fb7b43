//! Other tools that load filters: they start a program that does nothing, and what the kernel then
//! holds for it is read back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses a part of this")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use strait_abi::{Arch, KernelVersion};
use strait_bpf::{Decision, Difference, Program};
use strait_kernel::dump;
use strait_kernel::task::{CAP_SYS_ADMIN, Mode, Task};
use strait_policy::Policy;
use strait_policy::format::Target;

/// The newest kernel whose calls the libseccomp that is installed here knows, as Debian 12 has it.
pub const LIBSECCOMP: KernelVersion = KernelVersion::new(6, 7);

/// This machine, as formats are told of it.
pub fn target() -> Target {
    let mut target = Target::new(Arch::NATIVE.unwrap(), KernelVersion::new(6, 18));
    target.library = Some(LIBSECCOMP);
    target
}

/// Why filters cannot be read back here, if so.
pub fn cannot_read() -> Option<&'static str> {
    let own = rustix::process::getpid();
    let task = Task::read(own, own).unwrap();
    let can = task.capabilities.has_effective(CAP_SYS_ADMIN) && task.mode == Mode::Disabled;
    (!can).then_some("reading filters needs CAP_SYS_ADMIN and no filter of its own")
}

/// A program that waits for nothing, with one call and no library, so that it lives under nearly
/// any filter: one that refuses `pause` makes it spin.
pub fn idler(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("idler");
    let source = folder.join("idler.S");
    let text = ".globl _start\n_start: mov $34, %eax\n syscall\n jmp _start\n";
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-nostdlib", "-static", "-o"]).args([&program, &source]);
    cc.output().ok().filter(|output| output.status.success()).map(|_| program)
}

/// The process that runs the program with this argument, once it does.
pub fn process(program: &Path, argument: &str, patience: Duration) -> Option<Pid> {
    let started = Instant::now();
    let wanted = format!("{}\0{argument}\0", program.display());
    loop {
        let found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            (command == wanted.as_bytes()).then(|| Pid::from_raw(pid)).flatten()
        });
        if found.is_some() || started.elapsed() > patience {
            return found;
        }
        sleep(Duration::from_millis(10));
    }
}

/// The filters that the kernel holds for a process.
pub fn filters(pid: Pid) -> Vec<Program> {
    dump::filters(pid).unwrap().filters
}

/// Compares policies with filters, and fails at the end if one decides otherwise.
#[derive(Default)]
pub struct Comparison(Vec<String>);

impl Comparison {
    /// Compares one policy with filters, for all inputs.
    pub fn compare(&mut self, what: &str, policy: &Policy, filters: &[Program]) {
        let ours = policy.lower().unwrap().decision().unwrap();
        let theirs = Decision::of_stack(filters).unwrap();
        if ours == theirs {
            return;
        }
        let differences = ours.compare(&theirs).unwrap().differences;
        let mut text = format!("{what}\n  {} differences", differences.len());
        for Difference { witness, first, second, .. } in differences.iter().take(6) {
            text.push_str(&format!(
                "\n  arch {:#x} nr {:#x} args {:x?}: import {first}, installed {second}",
                witness.arch.raw(),
                witness.nr,
                &witness.args[..4],
            ));
        }
        self.0.push(text);
    }

    /// Fails if there were differences.
    pub fn finish(self) {
        assert!(self.0.is_empty(), "{} differ:\n{}", self.0.len(), self.0.join("\n"));
    }
}
