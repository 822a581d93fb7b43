//! Rules that say nothing, contradict each other, or look at something else than the kernel does.

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::effect::{Applying, Effect, effects};
use super::{Checker, Code, Finding, Severity, Subject};
use crate::action_text;
use crate::policy::Rule;
use crate::query::Query;
use crate::rules::{Arm, Chain, Condition, Op, Test};
use crate::satisfy::{Claim, satisfy};
use crate::signature::register;

impl Checker<'_> {
    pub(super) fn rules(&mut self) {
        let mut wider = Wider::new();
        let mut effects: BTreeMap<(usize, Syscall), Vec<Effect>> = BTreeMap::new();
        for arch in self.policy.architectures.iter() {
            for call in Syscall::all().filter(|call| call.number(arch).is_some()) {
                if self.is_named(call, arch) {
                    for (index, effect) in self.effects(call, arch) {
                        effects.entry((index, call)).or_default().push(effect);
                    }
                }
            }
        }
        for (index, rule) in self.policy.rules.iter().enumerate() {
            let for_arch = |arch: &Arch| rule.is_for(*arch);
            if !self.policy.architectures.iter().any(|arch| for_arch(&arch)) {
                let arches: Vec<&str> = rule.arch.iter().map(|arch| arch.name()).collect();
                let message = format!(
                    "this rule is for {}, which the policy is not for",
                    arches.join(" and ")
                );
                let finding = Finding::new(Code::NoSuchCall, Subject::Rule(index), message);
                self.find(finding.help("list the architecture, or remove the rule"));
                continue;
            }
            for &call in &rule.syscalls {
                match effects.get(&(index, call)) {
                    Some(effects) => self.effect(index, call, effects),
                    None => {
                        let arches = self.policy.architectures.iter().filter(for_arch);
                        let arches: Vec<&str> = arches.map(|arch| arch.name()).collect();
                        let message = format!("there is no `{call}` on {}", arches.join(" or "));
                        let subject = Subject::Call(index, call);
                        self.find(Finding::new(Code::NoSuchCall, subject, message));
                    }
                }
            }
            self.condition(index, rule, &mut wider);
        }
    }

    /// What each rule for the call does.
    fn effects(&self, call: Syscall, arch: Arch) -> Vec<(usize, Effect)> {
        let applying: Vec<Applying> = self
            .policy
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.applies_to(call, arch))
            .filter_map(|(index, rule)| {
                let when = rule.when.as_ref().map(|when| when.condition(call, arch));
                Some(Applying { index, when: when.transpose().ok()?, action: rule.action })
            })
            .collect();
        let fallback = self
            .without_rules
            .chain(call, arch)
            .map_or(self.policy.default, |chain| chain.otherwise);
        effects(&applying, fallback)
    }

    fn effect(&mut self, index: usize, call: Syscall, effects: &[Effect]) {
        let subject = Subject::Call(index, call);
        let action = self.policy.rules[index].action;
        let all = |wanted: fn(&Effect) -> bool| effects.iter().all(wanted);
        let finding = if let Some(&Effect::Behind(earlier)) = effects.first()
            && all(|effect| matches!(effect, Effect::Behind(_)))
        {
            let other = self.policy.rules[earlier].action;
            if other == action {
                let message = format!("an earlier rule already decides on `{call}`, and alike");
                Finding::new(Code::DeadRule, subject, message)
            } else if self.policy.rules[earlier].when == self.policy.rules[index].when {
                let (other, action) = (action_text(other), action_text(action));
                let message =
                    format!("`{call}` is listed twice: first with {other}, here with {action}");
                Finding::new(Code::Contradiction, subject, message)
                    .help(format!("the first decides, {other}: remove the one that is not meant"))
            } else {
                let message = format!("an earlier rule already decides on `{call}`");
                Finding::new(Code::DeadRule, subject, message)
                    .help("move this rule before the one that has no condition")
            }
        } else if all(|effect| matches!(effect, Effect::Impossible)) {
            let message = format!("no `{call}` has arguments for which this holds");
            Finding::new(Code::DeadRule, subject, message)
        } else if all(|effect| !matches!(effect, Effect::Decides | Effect::Redundant)) {
            let message = format!("the earlier rules for `{call}` leave nothing to this one");
            Finding::new(Code::DeadRule, subject, message)
        } else if all(|effect| matches!(effect, Effect::Redundant)) {
            let message =
                format!("`{call}` would get {} without this rule too", action_text(action));
            Finding::new(Code::Redundant, subject, message)
        } else {
            return;
        };
        self.find(finding);
    }

    /// What a rule's condition looks at.
    fn condition(&mut self, index: usize, rule: &Rule, wider: &mut Wider) {
        let Some(when) = &rule.when else { return };
        let names: Vec<String> = when.operands().map(|operand| operand.name.clone()).collect();
        for &call in &rule.syscalls {
            for arch in self.policy.architectures.iter().filter(|&arch| rule.is_for(arch)) {
                if let Ok(condition) = when.condition(call, arch) {
                    if !when.uses_registers_only() {
                        self.flags(Subject::Call(index, call), (call, arch), &condition);
                    }
                    self.addresses(Subject::Call(index, call), (call, arch), &condition);
                }
                for name in &names {
                    self.operand(Subject::Call(index, call), (call, arch), name, wider);
                }
            }
        }
    }

    /// Addresses that are compared with anything but 0, which says that there is none.
    fn addresses(
        &mut self,
        subject: Subject,
        (call, arch): (Syscall, Arch),
        condition: &Condition,
    ) {
        for (arg, at) in call.args(arch).unwrap_or_default().iter().zip(0_u8..) {
            let width = arg.width(arch).mask();
            let is_none = |test: &Test| {
                matches!(test.op(), Op::Eq | Op::Ne)
                    && test.mask() & width == width
                    && test.value() == 0
            };
            let tests = condition.tests();
            let mut tests = tests.iter().filter(|test| test.arg() == at);
            if !arg.is_pointer() || tests.all(|test| is_none(test)) {
                continue;
            }
            let name = arg.name();
            let message = format!(
                "`{name}` of `{call}` is an address: what stands there cannot be seen, and another \
                 thread can change it"
            );
            self.find(Finding::new(Code::ComparesPointer, subject, message));
        }
    }

    /// Numbers that are compared with all flags beside them, of which the condition names none.
    fn flags(&mut self, subject: Subject, (call, arch): (Syscall, Arch), condition: &Condition) {
        for (arg, at) in call.args(arch).unwrap_or_default().iter().zip(0_u8..) {
            let Some(set) = arg.constants() else { continue };
            let (number, width) = (set.field_mask(), arg.width(arch).mask());
            let mut tests =
                condition.tests().into_iter().filter(|test| test.arg() == at).peekable();
            let has_flags = number != 0 && number & width != width;
            let without = |test: &Test| {
                matches!(test.op(), Op::Eq | Op::Ne)
                    && test.mask() & width == width
                    && test.value() & !number == 0
            };
            if !has_flags || tests.peek().is_none() || !tests.all(without) {
                continue;
            }
            let name = arg.name();
            let message = format!(
                "`{name}` of `{call}` is compared with all of its flags, of which none is named"
            );
            let finding = Finding::new(Code::FlagsCompared, subject, message)
                .help(format!("write `{name} & {number:#x}`, or name the flags that may be there"));
            self.find(finding);
        }
    }

    fn operand(
        &mut self,
        subject: Subject,
        (call, arch): (Syscall, Arch),
        name: &str,
        wider: &mut Wider,
    ) {
        let args = call.args(arch).unwrap_or_default();
        let found = match register(name) {
            Some(register) => {
                args.get(usize::from(register)).map(|arg| (usize::from(register), arg))
            }
            None => call.arg(arch, name),
        };
        let Some((at, arg)) = found else { return };
        let (taken, bits) = (arg.width(arch).mask(), arg.width(arch).bits());
        if register(name).is_none() || bits == 64 || !arch.is_64_bit() {
            return;
        }
        let Some(chain) = self.view.chain(call, arch) else { return };
        let (what, severity) = wider
            .entry((call, arch, at))
            .or_insert_with(|| what_passes_wider(chain, (call, arch), at, taken));
        let message = format!(
            "`{name}` of `{call}` is compared as 64 bits, but the kernel takes {bits}: {what}"
        );
        let finding = Finding::new(Code::WiderThanTaken, subject, message)
            .help(format!("write `{}`, which is compared as the kernel takes it", arg.name()));
        self.find(finding.at_most(*severity));
    }
}

/// What comes of an argument being compared with more bits than the kernel takes, and how bad that is
/// at most: of all rules for the call together, so it is worked out once.
type Wider = BTreeMap<(Syscall, Arch, usize), (String, Severity)>;

fn what_passes_wider(
    chain: &Chain,
    (call, arch): (Syscall, Arch),
    at: usize,
    taken: u64,
) -> (String, Severity) {
    // The same, of an argument whose other bits are gone.
    let cut = narrowed(chain, at, taken);
    let passes = |action: Action| action.lets_pass();
    let denied = |action: Action| !action.lets_pass();
    let through = satisfy(&[Claim::Gives(chain, &passes), Claim::Gives(&cut, &denied)]);
    let what = match through {
        Ok(Some(args)) => {
            let with = Query { syscall: call, arch, args: args.map(Some) };
            let mut taken_as = with.clone();
            taken_as.args[at] = Some(args[at] & taken);
            format!("{with} passes, acts as {taken_as}, and that is denied")
        }
        _ => "a call that sets another bit is refused though it acts as one that passes".to_owned(),
    };
    (what, if cut == *chain { Severity::Note } else { Severity::Error })
}

/// The chain as it decides on calls of which argument `at` has no bits but `taken`.
pub(super) fn narrowed(chain: &Chain, at: usize, taken: u64) -> Chain {
    let arms = chain.arms.iter().map(|arm| Arm {
        when: map_tests(&arm.when, &|test| {
            let mask =
                if usize::from(test.arg()) == at { test.mask() & taken } else { test.mask() };
            match Test::new(test.arg(), test.width(), mask, test.op(), test.value()) {
                Ok(test) => Condition::Test(test),
                Err(_) => Condition::Test(*test),
            }
        }),
        action: arm.action,
    });
    Chain { arms: arms.collect(), otherwise: chain.otherwise }
}

/// The condition with each test replaced.
pub(super) fn map_tests(condition: &Condition, test: &dyn Fn(&Test) -> Condition) -> Condition {
    let all = |parts: &[Condition]| parts.iter().map(|part| map_tests(part, test)).collect();
    match condition {
        Condition::Test(one) => test(one),
        Condition::All(parts) => Condition::All(all(parts)),
        Condition::Any(parts) => Condition::Any(all(parts)),
        Condition::Not(inner) => Condition::Not(Box::new(map_tests(inner, test))),
    }
}
