//! Two decisions side by side, call by call, each with a witness that a person can read.

use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, Comparison, Decision, Difference, Relation, SeccompData, Undecided};

use crate::call::abi;
use crate::query::Query;

/// How a first decision stands to a second one, and on which calls they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// By the kernel's order of actions, as [`Comparison::order`].
    pub order: Relation,
    /// By the set of calls that pass alone, as [`Comparison::allowed`].
    pub allowed: Relation,
    /// Calls with a name that are answered differently: each at least once, and again for each
    /// other pair of answers, by arch and number.
    pub calls: Vec<CallDifference>,
    /// Spans with numbers that no call has, or of audit arches that are not known here.
    pub numbers: Vec<Difference>,
    /// Whether that is all. If not, there is more than can be listed.
    pub complete: bool,
}

/// A call that two decisions answer differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallDifference {
    /// The call, with the least arguments that show it, or with none if they all do.
    pub query: Query,
    /// What a filter sees of it.
    pub witness: SeccompData,
    /// What the first decision does.
    pub first: Action,
    /// What the second decision does.
    pub second: Action,
}

impl Diff {
    /// Compares two decisions.
    ///
    /// # Errors
    /// If that is too much work.
    pub fn new(first: &Decision, second: &Decision) -> Result<Diff, Undecided> {
        let Comparison { order, allowed, differences, complete } = first.compare(second)?;
        let mut diff = Diff { order, allowed, calls: Vec::new(), numbers: Vec::new(), complete };
        for difference in differences {
            let named = if difference.arches.0 == difference.arches.1 {
                diff.name(&difference, (first, second))
            } else {
                0
            };
            if named <= u64::from(difference.calls.1 - difference.calls.0) {
                diff.numbers.push(difference);
            }
        }
        diff.calls.sort_by_key(|call| (call.query.arch, call.witness.nr));
        Ok(diff)
    }

    /// Adds the calls of a span that have names; how many of its numbers those are.
    fn name(&mut self, difference: &Difference, both: (&Decision, &Decision)) -> u64 {
        let Difference { witness, first, second, calls, .. } = *difference;
        let mut named = 0;
        for arch in Arch::ALL.iter().copied().filter(|arch| arch.audit_arch() == witness.arch) {
            let known = Syscall::all().filter_map(|call| Some((call, call.number(arch)?)));
            for (syscall, nr) in known.filter(|(_, nr)| (calls.0..=calls.1).contains(nr)) {
                // Of two names of one number the first stands for both.
                if arch.syscall(nr) != Some(syscall) {
                    continue;
                }
                named += 1;
                let witness = SeccompData { nr, ..witness };
                let answers = |args: &[u64; 6]| {
                    let data = SeccompData { args: *args, ..witness };
                    (both.0.decide(&data), both.1.decide(&data)) == (first, second)
                };
                let query = if always(both.0, witness) && always(both.1, witness) {
                    Query::any(syscall, arch)
                } else {
                    let args = witness.args.map(Some);
                    Query { syscall, arch, args }.as_c_passes(answers)
                };
                let args = query.args.map(|arg| arg.unwrap_or(0));
                let witness = SeccompData { args, ..witness };
                self.calls.push(CallDifference { query, witness, first, second });
            }
        }
        named
    }
}

fn always(decision: &Decision, call: SeccompData) -> bool {
    decision.answer(call.arch, call.nr).always().is_some()
}

/// A call by its number, where it has no name.
pub fn number_text(arch: AuditArch, nr: u32) -> String {
    let number = if nr < 0x1000 { nr.to_string() } else { format!("{nr:#x}") };
    match abi(arch, nr) {
        Some(abi) => format!("number {number} of {abi}"),
        None => format!("number {number} of {arch}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn decision(spec: &str) -> Decision {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: ";
        Policy::parse(&format!("{head}{spec}\n")).unwrap().lower().unwrap().decision().unwrap()
    }

    #[test]
    fn every_differing_call_has_a_witness_that_holds() {
        let first = decision(
            "{architectures: [x86_64], default: errno(EPERM), rules: [\
             {syscalls: [read, write, open], action: allow},\
             {syscalls: [openat], when: dirfd != AT_FDCWD, action: allow}]}",
        );
        let second = decision(
            "{architectures: [x86_64], default: errno(EPERM), rules: [\
             {syscalls: [openat], action: allow}, {syscalls: [read], action: log},\
             {numbers: [5000], arch: [x86_64], action: allow}]}",
        );
        let diff = Diff::new(&first, &second).unwrap();
        assert_eq!((diff.order, diff.allowed), (Relation::Incomparable, Relation::Incomparable));
        let said: Vec<String> = diff
            .calls
            .iter()
            .map(|call| format!("{} {} {}", call.query, call.first, call.second))
            .collect();
        assert_eq!(
            said,
            [
                "read(...) allow log",
                "write(...) allow errno(1)",
                "open(...) allow errno(1)",
                "openat(AT_FDCWD, NULL, O_RDONLY, 0) errno(1) allow",
            ]
        );
        assert_eq!(diff.numbers.len(), 1);
        assert_eq!(number_text(diff.numbers[0].witness.arch, 5000), "number 0x1388 of x86_64");
        for call in &diff.calls {
            assert_eq!(first.decide(&call.witness), call.first);
            assert_eq!(second.decide(&call.witness), call.second);
        }
        assert_eq!(Diff::new(&first, &first).unwrap().order, Relation::Equal);
    }

    #[test]
    fn a_span_of_many_calls_is_each_of_them() {
        let (none, all) = (Decision::constant(Action::Errno(1)), Decision::constant(Action::Allow));
        let diff = Diff::new(&none, &all).unwrap();
        assert_eq!(diff.order, Relation::Tighter);
        let on = |arch| diff.calls.iter().filter(|call| call.query.arch == arch).count();
        assert!(on(Arch::X86_64) > 350 && on(Arch::X32) > 350 && on(Arch::I386) > 400);
        assert!(diff.complete);
    }
}
