//! The supervisor's own confinement: from when its command runs, a supervising `strait run` may do what
//! answering takes and no more, by a policy of its own.
//!
//! A supervisor reads what a workload hands it. Should that ever take it over, it can neither execute nor
//! write files nor start a process.

mod programs;

use anyhow::Context;
use strait_abi::Arch;
use strait_bpf::{Insn, Program};
use strait_kernel::seccomp::{self, LoadOptions};

use crate::failure::Failure;
use crate::output;

/// Confines this process, for good: one that looks at what is executed (`watches`), or one that traces
/// nothing. On architectures that the policy is not for it says that it is not confined.
pub fn confine(watches: bool) -> Result<(), Failure> {
    load(if watches { programs::WATCHING } else { programs::UNWATCHED })
}

/// Confines this process, which answers for a container, in the same way.
pub fn confine_for_container() -> Result<(), Failure> {
    load(programs::OF_CONTAINER)
}

fn load(insns: &[(u16, u8, u8, u32)]) -> Result<(), Failure> {
    if !matches!(Arch::NATIVE, Some(Arch::X86_64 | Arch::Aarch64)) {
        output::say(
            "strait: not held: the supervisor itself is confined on x86_64 and aarch64 alone",
        );
        return Ok(());
    }
    let insns = insns.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
    Program::new(insns)
        .map_err(anyhow::Error::new)
        .and_then(|program| Ok(seccomp::load(&program, LoadOptions::default())?))
        .context("the supervisor cannot confine itself")
        .map_err(Failure::refused)
}

#[cfg(test)]
mod tests {
    use strait_compiler::{Options, compile};
    use strait_policy::Policy;

    use super::*;

    /// And so they are proved.
    #[test]
    fn the_programs_are_what_the_policy_compiles_to() {
        let policy = Policy::parse(include_str!("supervisor.yaml")).unwrap();
        let container = Policy::parse(include_str!("supervisor/container.yaml")).unwrap();
        let made = [
            (policy.lower().unwrap(), programs::WATCHING),
            (policy.lower_at("unwatched").unwrap(), programs::UNWATCHED),
            (container.lower().unwrap(), programs::OF_CONTAINER),
        ];
        for (rules, program) in made {
            let compiled = compile(&rules, &Options::default()).unwrap().program;
            let insns = compiled.insns().iter();
            let made: Vec<_> = insns.map(|insn| (insn.code, insn.jt, insn.jf, insn.k)).collect();
            assert!(made == program, "run `cargo xtask supervisor`");
        }
    }
}
