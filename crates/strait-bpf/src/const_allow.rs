//! Which calls the kernel answers from its bitmap, without running the filter.
//!
//! When a filter is installed, the kernel runs it once for every call of the native and the
//! compatibility ABI, knowing nothing but arch and number. Those for which it comes to an allow
//! that way are cached (`seccomp_cache_prepare` in `kernel/seccomp.c`). Its little emulator
//! understands few instructions: one that it does not know on the way, even an irrelevant one, and
//! the call is not cached.

use strait_abi::AuditArch;

use crate::insn::{Alu, Op, Operand};
use crate::program::forward;
use crate::{Action, Program};

impl Program {
    /// Whether the kernel finds that this filter allows `nr` of `arch` whatever the arguments:
    /// `seccomp_is_const_allow`.
    ///
    /// The call is cached if this holds for every filter of the stack, `arch` is the native or the
    /// compatibility ABI of the kernel (never x32) and `nr` is in its table.
    pub fn const_allows(&self, arch: AuditArch, nr: u32) -> bool {
        let mut a = 0u32;
        let mut pc = 0usize;
        while let Some(&op) = self.ops().get(pc) {
            pc += 1;
            match op {
                Op::Load(0) => a = nr,
                Op::Load(4) => a = arch.raw(),
                Op::Alu(Alu::And, Operand::K(k)) => a &= k,
                Op::Jump(skip) => pc = forward(pc, skip),
                Op::Branch { test, operand: Operand::K(k), jt, jf } => {
                    pc += usize::from(if test.holds(a, k) { jt } else { jf });
                }
                // The value must be exact: an allow with data is run each time.
                Op::Ret(raw) => return raw == Action::Allow.raw(),
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::Arch;

    use crate::{Insn, Jump, Op, Operand, Program};

    #[test]
    fn only_what_the_kernels_emulator_knows_counts() {
        let allow = Op::Ret(0x7fff_0000);
        let const_allows = |ops: &[Op]| {
            let program = Program::new(ops.iter().copied().map(Insn::from).collect()).unwrap();
            program.const_allows(Arch::X86_64.audit_arch(), 3)
        };
        let is_3 = Op::Branch { test: Jump::Eq, operand: Operand::K(3), jt: 0, jf: 1 };
        assert!(const_allows(&[Op::Load(0), is_3, allow, Op::Ret(0)]));
        assert!(!const_allows(&[Op::Load(0), is_3, Op::Ret(0x7fff_0001), Op::Ret(0)]));
        assert!(!const_allows(&[Op::Load(16), allow]));
        assert!(!const_allows(&[Op::Tax, allow]));
        assert!(!const_allows(&[Op::LoadImm(0x7fff_0000), Op::RetA]));
        let foreign = Op::Branch { test: Jump::Eq, operand: Operand::K(0xc000_003e), jt: 0, jf: 1 };
        assert!(const_allows(&[Op::Load(4), foreign, allow, Op::Ret(0)]));
    }
}
