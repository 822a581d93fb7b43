//! Runs a command that may call everything but mount(2), umount2(2) and execve(2), and passes on
//! how it ended: `cargo run --example confine -- sh -c 'echo confined; exec true'`.

use std::error::Error;
use std::process::ExitCode;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::child::PendingChild;
use strait_kernel::command::Command;
use strait_kernel::seccomp::LoadOptions;
use strait_kernel::signal::{self, Relay};
use strait_policy::Rules;
use strait_policy::rules::Table;
use strait_runtime::launch::Enforcement;
use strait_runtime::wait;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("which command?")?;
    let arch = Arch::NATIVE.ok_or("this machine's system calls are not known")?;
    let mut table = Table::new(Action::Allow);
    for name in ["mount", "umount2", "execve"] {
        if let Some(nr) = Syscall::from_name(name).and_then(|call| call.number(arch)) {
            table.set(nr, nr, Action::Errno(1));
        }
    }
    let rules = Rules::new(Action::KillProcess).with_table(arch.audit_arch(), table);
    let enforcement = Enforcement::new(&rules, &Options::default(), LoadOptions::default())?;

    let command = Command::new(&program, arguments)?;
    let child = PendingChild::fork(&command)?;
    let relay = Relay::install()?;
    let started = enforcement.start(child)?;
    eprintln!("{:?}", started.verified);
    let ended = wait::until_end(&started.child, &relay)?;
    drop(relay);
    signal::end_as(ended.status)
}
