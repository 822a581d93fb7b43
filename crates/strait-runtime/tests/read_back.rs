//! Whoever records a confined command, what the kernel holds for it is read back.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::path::Path;

use rustix::process::geteuid;
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;
use strait_compiler::Options;
use strait_kernel::seccomp::LoadOptions;
use strait_policy::Rules;
use strait_policy::recording::Exit;
use strait_policy::rules::Table;
use strait_runtime::launch::{Enforcement, Verified};
use strait_testkit::skip;

mod caller;

/// With the gate for the launcher's exec and without.
#[test]
fn a_confined_command_is_read_back_by_either_engine() {
    let test = "a_confined_command_is_read_back_by_either_engine";
    let Some(native) = Arch::NATIVE else {
        return skip(test, "this machine's calls are not known here");
    };
    let execve = Syscall::from_name("execve").unwrap().number(native).unwrap();
    for may_exec in [true, false] {
        let mut table = Table::new(Action::Allow);
        if !may_exec {
            table.set(execve, execve, Action::Errno(1));
        }
        let rules = Rules::new(Action::KillProcess).with_table(native.audit_arch(), table);
        let enforcement =
            Enforcement::new(&rules, &Options::default(), LoadOptions::default()).unwrap();
        for engine in caller::engines_with_results(test) {
            let (running, _output) =
                caller::begin(Path::new("/bin/true"), &[], engine, Some(&enforcement));
            let running = running.unwrap();
            match (running.verified().unwrap(), geteuid().is_root()) {
                (Verified::Yes { verdict }, true) => assert!(verdict.is_kept(), "{engine:?}"),
                // Only who has CAP_SYS_ADMIN is shown a filter.
                (Verified::No { reason }, false) => assert!(reason.contains("CAP_SYS_ADMIN")),
                (verified, _) => panic!("{engine:?}, may exec: {may_exec}: {verified:?}"),
            }
            let recording = running.wait().unwrap();
            assert_eq!(recording.exit(), Some(Exit::Status(0)), "{engine:?}");
        }
    }
}
