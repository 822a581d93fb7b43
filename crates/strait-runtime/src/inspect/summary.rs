//! A decision in words: which calls of each arch pass, with which arguments, and what the others
//! get.

use std::collections::BTreeMap;

use serde::Serialize;
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Answer, Decision};
use strait_policy::format::bpf;
use strait_policy::{Policy, action_text};

/// What the known calls of an arch get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The arch.
    pub arch: String,
    /// How many calls pass whatever their arguments.
    pub allowed: usize,
    /// How many calls pass or not by their arguments.
    pub conditional: usize,
    /// How many calls never pass.
    pub denied: usize,
    /// Which.
    pub calls: Calls,
}

/// The known calls of an arch, by what they get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// Those that pass whatever their arguments.
    pub allowed: Vec<&'static str>,
    /// Those that pass or not by their arguments.
    pub conditional: Vec<Conditional>,
    /// Those that never pass, by what they get.
    pub denied: BTreeMap<String, Vec<&'static str>>,
}

/// A call that passes with some arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditional {
    /// Its name.
    pub call: &'static str,
    /// What it gets, by the first condition that holds.
    pub cases: Vec<Case>,
}

/// What a call gets with some arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// The condition, as policies spell it; none for all that is left.
    pub when: Option<String>,
    /// What the call gets.
    pub action: String,
}

/// In how many parts the arguments of one call are told apart.
const REGIONS: usize = 64;

/// The summary of each arch of which any call passes.
pub(super) fn summaries(decision: &Decision) -> Vec<Summary> {
    // A policy says conditions with the names of arguments and constants; not every decision is
    // one that a policy can say.
    let policy = bpf::import_decision(decision).ok().map(|imported| imported.policy);
    let all = Arch::ALL.iter().map(|&arch| summary(decision, policy.as_ref(), arch));
    all.filter(|summary| summary.allowed + summary.conditional > 0).collect()
}

fn summary(decision: &Decision, policy: Option<&Policy>, arch: Arch) -> Summary {
    let mut calls = Calls::default();
    let mut denied = 0;
    for (call, nr) in Syscall::all().filter_map(|call| Some((call, call.number(arch)?))) {
        let answer = decision.answer(arch.audit_arch(), nr);
        let actions = answer.actions();
        let passing = actions.iter().filter(|action| action.lets_pass()).count();
        if passing == 0 {
            denied += 1;
            let names: Vec<String> = actions.into_iter().map(action_text).collect();
            calls.denied.entry(names.join(" or ")).or_default().push(call.name());
        } else if passing == actions.len() {
            calls.allowed.push(call.name());
        } else {
            let cases = policy.and_then(|policy| named(policy, call, arch));
            let cases = cases.unwrap_or_else(|| plain(&answer));
            calls.conditional.push(Conditional { call: call.name(), cases });
        }
    }
    Summary {
        arch: arch.name().to_owned(),
        allowed: calls.allowed.len(),
        conditional: calls.conditional.len(),
        denied,
        calls,
    }
}

/// The cases of a call as a policy says them; `None` if it has no rule for it.
fn named(policy: &Policy, call: Syscall, arch: Arch) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.applies_to(call, arch)) {
        let when = rule.when.as_ref().map(ToString::to_string);
        let is_last = when.is_none();
        cases.push(Case { when, action: action_text(rule.action) });
        if is_last {
            return Some(cases);
        }
    }
    let rest = Case { when: None, action: action_text(policy.default) };
    (!cases.is_empty()).then(|| cases.into_iter().chain([rest]).collect())
}

/// The cases by registers.
fn plain(answer: &Answer<'_>) -> Vec<Case> {
    let Answer::Depends(arguments) = answer else { return Vec::new() };
    let Some(regions) = arguments.regions(REGIONS) else {
        let one = |action: Action| Case {
            when: Some("arguments too intricate to be written".to_owned()),
            action: action_text(action),
        };
        return arguments.actions().into_iter().map(one).collect();
    };
    let case = |region: strait_bpf::Region| {
        let all: Vec<String> = region.when.iter().map(ToString::to_string).collect();
        let when = (!all.is_empty()).then(|| all.join(" and "));
        Case { when, action: action_text(region.action) }
    };
    regions.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use strait_policy::Policy;

    use super::*;

    #[test]
    fn calls_stand_with_what_they_get_and_when() {
        let policy = Policy::parse(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
             architectures: [x86_64]\n  default: errno(EPERM)\n  rules:\n  \
             - {syscalls: [read, write], action: allow}\n  \
             - {syscalls: [socket], when: \"domain in {AF_UNIX, AF_INET}\", action: allow}\n  \
             - {syscalls: [clone3], action: errno(ENOSYS)}\n",
        )
        .unwrap();
        let decision = policy.lower().unwrap().decision().unwrap();
        let [summary] = &summaries(&decision)[..] else { panic!("one arch has calls that pass") };
        assert_eq!((summary.arch.as_str(), summary.allowed, summary.conditional), ("x86_64", 2, 1));
        assert_eq!(summary.calls.allowed, ["read", "write"]);
        assert_eq!(summary.calls.denied["errno(ENOSYS)"], ["clone3"]);
        assert_eq!(summary.calls.denied["errno(EPERM)"].len() + 1, summary.denied);
        let [Conditional { call: "socket", cases }] = &summary.calls.conditional[..] else {
            panic!("{:?}", summary.calls.conditional);
        };
        let told: Vec<(Option<&str>, &str)> =
            cases.iter().map(|case| (case.when.as_deref(), case.action.as_str())).collect();
        assert_eq!(told, [(Some("domain in {AF_UNIX, AF_INET}"), "allow"), (None, "errno(EPERM)")]);
    }
}
