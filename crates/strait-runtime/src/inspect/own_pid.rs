//! Filters that name their own process: what they would be for any.
//!
//! A sandbox may let a process signal itself alone, by comparing with the id that it had when the filter
//! was made; Firefox does, and compares with the clock of its own processor time too. What such a
//! filter decides is another decision in each process. To recognise it, the id is taken out: its place
//! is given to one that no process has. A program that has that constant already is left alone, so that
//! two are told to be alike only if each would be the other in the other's process.

use rustix::process::Pid;
use strait_bpf::{Decision, Insn, Jump, Op, Operand, Program};

use super::known::digest;

/// Above every process id: `PID_MAX_LIMIT` is 2^22 (`include/linux/threads.h`).
const NOBODY: i32 = 1 << 22;

/// The [`digest`] of what a program decides with its own process's id taken out; none if it does not
/// name it, or what it decides is not known.
pub fn digest_without(program: &Program, own: Pid) -> Option<String> {
    Decision::of(&taken_out(program, own)?).ok().map(|decision| digest(&decision))
}

/// Whether a program compares with the process's own id, as it sees it.
pub(super) fn is_named(program: &Program, own: Pid) -> bool {
    constants(own.as_raw_pid()).is_some_and(|own| compared(program).any(|k| own.contains(&k)))
}

/// The program with those comparisons made comparisons with nobody's id; none if it has none.
fn taken_out(program: &Program, own: Pid) -> Option<Program> {
    let (own, nobody) = (constants(own.as_raw_pid())?, constants(NOBODY)?);
    if compared(program).any(|k| nobody.contains(&k)) {
        return None;
    }
    let mut found = false;
    let insns = program.insns().iter().zip(program.ops()).map(|(&insn, op)| {
        let index = own.iter().position(|&own| own == insn.k && compares(op));
        found |= index.is_some();
        Insn { k: index.map_or(insn.k, |index| nobody[index]), ..insn }
    });
    let insns: Vec<Insn> = insns.collect();
    found.then(|| Program::with_byte_order(insns, program.byte_order()).ok()).flatten()
}

/// What a program compares with for equality.
fn compared(program: &Program) -> impl Iterator<Item = u32> {
    let insns = program.insns().iter().zip(program.ops());
    insns.filter(|(_, op)| compares(op)).map(|(insn, _)| insn.k)
}

fn compares(op: &Op) -> bool {
    matches!(op, Op::Branch { test: Jump::Eq, operand: Operand::K(_), .. })
}

/// A process's id, and the clocks of its processor time: all bits of the id turned, above three that
/// say which clock it is and whether of one thread (`include/linux/posix-timers_types.h`).
fn constants(pid: i32) -> Option<[u32; 9]> {
    let pid = u32::try_from(pid).ok()?;
    let clock = |kind: u32| !pid << 3 | kind;
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(clock);
    Some([pid, a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn program(text: &str) -> Program {
        Program::assemble(text).unwrap()
    }

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    #[test]
    fn filters_that_differ_by_their_own_process_are_one_and_others_are_not() {
        let text = |own: i32, other: i32| {
            // MAKE_PROCESS_CPUCLOCK(own, CPUCLOCK_SCHED).
            let clock = !own.cast_unsigned() << 3 | 2;
            format!(
                "ld [arg0.lo]\njeq #{own}, yes, next\njeq #{clock}, yes, next\n\
                 jeq #{other}, yes, next\nret kill-process\nyes: ret allow\n"
            )
        };
        let decided = |own: i32, other: i32, of: i32| {
            let taken_out = taken_out(&program(&text(own, other)), pid(of));
            taken_out.map(|program| Decision::of(&program).unwrap())
        };
        let one = decided(4711, 7, 4711).unwrap();
        assert_eq!(one, decided(123_456, 7, 123_456).unwrap());
        assert_ne!(one, decided(4711, 8, 4711).unwrap());
        assert_eq!(decided(4711, 7, 4712), None, "another's id is none of its own");
        assert_eq!(
            decided(4711, NOBODY, 4711),
            None,
            "whose constant would be taken for the place"
        );
    }
}
