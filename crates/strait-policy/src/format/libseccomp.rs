//! What libseccomp makes of rules, for each ABI that a filter is for.
//!
//! - a rule whose action is the default's is none, and a name that it does not know has no rules;
//! - of the rules of a call the first without conditions decides, whatever stands around it; of
//!   those with conditions the tree decides that they are merged into, and one that contradicts
//!   another is refused (`docs/design/044-profiles-as-installed.md`);
//! - arguments are compared as whole registers, on x32 as on ABIs of 32 bits;
//! - on ABIs with `socketcall` and `ipc`, a rule for a call that can be made by them is a rule for
//!   them too;
//! - x86_64 and x32 share an audit arch: each has the numbers with or without the bit, and both
//!   have the number by which a tracer skips a call.

mod blocks;
mod calls;
mod tree;

use std::borrow::Cow;
use std::collections::BTreeMap;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::Action;

use blocks::Blocks;
pub(super) use calls::number;
use calls::{has_multiplexers, multiplexed};
use tree::{Comparison, Refused, Tree};

use super::bpf;
use crate::rules::{Arm, Chain, Condition, Op, Rules, Table, Test, Width};
use crate::signature::register_width;

/// The number that a tracer leaves to skip a call.
const SKIPPED: u32 = u32::MAX;

/// A rule for one call.
#[derive(Clone, Debug)]
pub(super) struct FilterRule {
    /// A name that is known here, or not.
    pub(super) name: String,
    pub(super) action: Action,
    /// All of these hold together; no two are on one argument.
    pub(super) args: Vec<Arg>,
}

/// One condition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg {
    pub(super) index: u8,
    pub(super) op: CompareOp,
    pub(super) value: u64,
    pub(super) value_two: u64,
}

/// `SCMP_CMP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompareOp {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// A filter that is being made.
#[derive(Clone, Debug)]
pub(super) struct Filter<'a> {
    default: Action,
    /// What other audit arches and ABIs get.
    bad_arch: Action,
    /// The newest kernel whose calls the library knows; of all if there is none.
    library: Option<KernelVersion>,
    /// Whether rules with conditions are rules for `socketcall` and `ipc` too.
    adapts: bool,
    arches: Vec<(Arch, Cow<'a, [FilterRule]>)>,
}

/// A rule that the library does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Which of the filter's ABIs, from 0.
    arch: usize,
    /// Which of its rules, from 0.
    pub(super) rule: usize,
    /// What is wrong with it.
    pub(super) why: Why,
}

/// Why a rule is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The library refuses it: an earlier rule of the call says something else for the same.
    Contradicts,
    /// What the library makes of it cannot be known or written down.
    Intricate,
}

impl<'a> Filter<'a> {
    /// A filter for no ABI so far, whose rules are added exactly.
    pub(super) fn new(default: Action, bad_arch: Action) -> Filter<'a> {
        Filter { default, bad_arch, library: None, adapts: false, arches: Vec::new() }
    }

    /// The same, by a library that knows the calls of this kernel.
    pub(super) fn of_library(self, library: Option<KernelVersion>) -> Filter<'a> {
        Filter { library, ..self }
    }

    /// The same, whose rules the library may adapt to an ABI, as runtimes let it.
    pub(super) fn adapting(self, library: Option<KernelVersion>) -> Filter<'a> {
        Filter { library, adapts: true, ..self }
    }

    /// The same, for one more ABI with these rules; the machine's own comes first.
    pub(super) fn with_arch(
        mut self,
        arch: Arch,
        rules: impl Into<Cow<'a, [FilterRule]>>,
    ) -> Filter<'a> {
        self.arches.push((arch, rules.into()));
        self
    }

    /// What it means without the rules that the library does not take, as for programs that go on
    /// then.
    pub(super) fn rules_taken(mut self) -> Rules {
        loop {
            match self.rules() {
                Ok(rules) => return rules,
                Err(Refusal { arch, rule, .. }) => drop(self.arches[arch].1.to_mut().remove(rule)),
            }
        }
    }

    /// What it means.
    ///
    /// # Errors
    /// The first rule that the library does not take.
    pub(super) fn rules(&self) -> Result<Rules, Refusal> {
        let mut rules = Rules::new(self.bad_arch);
        for ((arch, _), chains) in self.arches.iter().zip(self.chains()?) {
            let table = rules.table(arch.audit_arch()).cloned();
            let mut table = table.unwrap_or_else(|| match arch {
                Arch::X86_64 | Arch::X32 => {
                    let mut table = Table::new(self.bad_arch);
                    table.set(SKIPPED, SKIPPED, self.default);
                    table
                }
                _ => Table::new(self.default),
            });
            match arch {
                Arch::X86_64 => table.set(0, Arch::X32_BIT - 1, self.default),
                Arch::X32 => table.set(Arch::X32_BIT, u32::MAX, self.default),
                _ => {}
            }
            rules = rules.with_table(arch.audit_arch(), table.with_each(chains));
        }
        Ok(rules)
    }

    /// What each call gets that has rules, on each of the ABIs.
    fn chains(&self) -> Result<Vec<Vec<(u32, Chain)>>, Refusal> {
        let mut calls: Vec<CallOnArch> = Vec::new();
        for (index, (arch, rules)) in self.arches.iter().enumerate() {
            let arch = *arch;
            for (call, rules) in self.by_call(arch, rules) {
                let mut tree = Tree::default();
                for CallRule { rule, action, args } in &rules {
                    let comparisons: Vec<Comparison> = args.iter().map(Comparison::from).collect();
                    tree.add(*action, &comparisons, register(arch)).map_err(|refused| Refusal {
                        arch: index,
                        rule: *rule,
                        why: refused.into(),
                    })?;
                }
                if let Call::Number(nr) = call {
                    calls.push(CallOnArch { index, arch, nr, rules, tree });
                }
            }
        }
        // x86_64 and x32 are one program; in each, the calls with the fewest nodes come first.
        let of_program = |arch: Arch| {
            self.arches.iter().position(|(other, _)| other.audit_arch() == arch.audit_arch())
        };
        calls.sort_by_key(|call| (of_program(call.arch), call.tree.count(), call.index, call.nr));
        let mut blocks = Blocks::default();
        let mut firsts = Vec::new();
        for call in &calls {
            firsts.push(blocks.of(&call.tree).map_err(|_| call.too_intricate())?);
        }
        let program = blocks.place(&firsts);
        let mut chains = vec![Vec::new(); self.arches.len()];
        for (call, first) in calls.iter().zip(firsts) {
            let written = as_written(&call.rules, self.default, register(call.arch));
            let chain = if call.rules.len() == 1 {
                written
            } else {
                let decision = program.decision(first, self.default).ok();
                let chain = decision.and_then(|decision| bpf::chain_of(&decision, written));
                let chain = chain.or_else(|| program.chain(first, self.default));
                chain.ok_or_else(|| call.too_intricate())?
            };
            chains[call.index].push((call.nr, chain));
        }
        Ok(chains)
    }

    /// The rules of each call on one ABI, in order.
    fn by_call<'r>(
        &self,
        arch: Arch,
        rules: &'r [FilterRule],
    ) -> BTreeMap<Call<'r>, Vec<CallRule>> {
        let mut by_call: BTreeMap<Call<'r>, Vec<CallRule>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let (FilterRule { name, action, args }, gates) = (rule, rule.args.is_empty());
            if *action == self.default {
                continue;
            }
            let mut add = |call: Call<'r>, mut args: Vec<Arg>| {
                args.sort_by_key(|arg| arg.index);
                let rules = by_call.entry(call).or_default();
                rules.push(CallRule { rule: index, action: *action, args });
            };
            if let Some((gate, operation)) = multiplexed(name, arch)
                && (gates || self.adapts)
            {
                // The operation takes the place of argument 0; what is said of the other
                // arguments stays, though it is now said of a pointer.
                let operation = Arg { index: 0, op: CompareOp::Eq, value: operation, value_two: 0 };
                let others = args.iter().filter(|arg| arg.index != 0);
                add(Call::Number(gate), [&operation].into_iter().chain(others).copied().collect());
            }
            let Some(call) = Syscall::from_name(name) else { continue };
            match number(call, arch, self.library) {
                Some(nr) => add(Call::Number(nr), args.clone()),
                None if !has_multiplexers(arch) => add(Call::Elsewhere(name), args.clone()),
                None => {}
            }
        }
        by_call
    }
}

/// What rules are filed under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call<'a> {
    /// A call of the ABI.
    Number(u32),
    /// One that only other ABIs have: its rules are kept, and refused as others are, for nothing.
    Elsewhere(&'a str),
}

/// A rule of one call.
struct CallRule {
    /// Which of all rules it is.
    rule: usize,
    action: Action,
    /// At most one of each argument, in the order of arguments.
    args: Vec<Arg>,
}

/// One call of one of several ABIs.
struct CallOnArch {
    /// Which of them.
    index: usize,
    arch: Arch,
    nr: u32,
    rules: Vec<CallRule>,
    tree: Tree,
}

impl CallOnArch {
    fn too_intricate(&self) -> Refusal {
        let rule = self.rules.first().map_or(0, |rule| rule.rule);
        Refusal { arch: self.index, rule, why: Why::Intricate }
    }
}

impl From<Refused> for Why {
    fn from(refused: Refused) -> Why {
        match refused {
            Refused::Conflict => Why::Contradicts,
            Refused::Damaged | Refused::TooLarge => Why::Intricate,
        }
    }
}

/// The first rule without conditions, or else those with, in order.
fn as_written(rules: &[CallRule], default: Action, width: Width) -> Chain {
    if let Some(rule) = rules.iter().find(|rule| rule.args.is_empty()) {
        return Chain::from(rule.action);
    }
    let arms = rules.iter().map(|rule| {
        let test = |arg: &Arg| Condition::Test(compare(arg, width));
        let when = match rule.args.as_slice() {
            [one] => test(one),
            args => Condition::All(args.iter().map(test).collect()),
        };
        Arm { when, action: rule.action }
    });
    Chain { arms: arms.collect(), otherwise: default }
}

/// How much of an argument is compared: on x32 as on ABIs of 32 bits.
pub(super) fn register(arch: Arch) -> Width {
    if arch == Arch::X32 { Width::W32 } else { register_width(arch) }
}

/// One condition, over that much of the argument.
fn compare(arg: &Arg, width: Width) -> Test {
    let all = width.mask();
    let (op, mask, value) = match arg.op {
        CompareOp::Ne => (Op::Ne, all, arg.value),
        CompareOp::Lt => (Op::Lt, all, arg.value),
        CompareOp::Le => (Op::Le, all, arg.value),
        CompareOp::Eq => (Op::Eq, all, arg.value),
        CompareOp::Ge => (Op::Ge, all, arg.value),
        CompareOp::Gt => (Op::Gt, all, arg.value),
        CompareOp::MaskedEq => (Op::Eq, arg.value & all, arg.value_two & arg.value),
    };
    Test::new(arg.index, width, mask, op, value & all)
        .expect("an index is checked where it is read, and mask and value are cut to the width")
}
