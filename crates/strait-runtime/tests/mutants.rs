//! Single mutations of a program: each that decides otherwise is found, with a witness that the
//! interpreter and the kernel confirm, and each that does not is called equal.
//!
//! The calls of the policy ask for nothing and return no error, so that they can be made.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use strait_abi::{Arch, AuditArch};
use strait_bpf::{Action, Decision, Insn, Program, SeccompData};
use strait_compiler::{Options, compile};
use strait_policy::Policy;
use strait_runtime::listeners::Listeners;
use strait_runtime::verdict::{Intent, Verdict};
use strait_testkit::kernel::{self, Job};
use strait_testkit::{effort, skip};

/// How many mutants.
const MUTANTS: usize = 500;

/// Calls of x86_64 that take no arguments and always succeed: sched_yield, getpid, getuid, getgid,
/// geteuid, getegid, getppid, getpgrp, gettid.
const HARMLESS: &[u32] = &[24, 39, 102, 104, 107, 108, 110, 111, 186];

/// xorshift64*: the mutants are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn policy() -> Policy {
    Policy::parse(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
         architectures: [x86_64]\n  default: errno(EPERM)\n  rules:\n  \
         - {syscalls: [getpid, getuid, gettid], action: allow}\n  \
         - {syscalls: [geteuid], when: arg0 == 7 or arg1 & 0xf0 == 0x30, action: allow}\n  \
         - {syscalls: [getppid], when: arg2 >= 0x100000002, action: allow}\n  \
         - {syscalls: [getppid], action: errno(EACCES)}\n  \
         - {syscalls: [getgid], action: trap(5)}\n  \
         - {syscalls: [getegid], when: \"arg0 in {1, 2, 9}\", action: log}\n  \
         - {syscalls: [clone3], action: errno(ENOSYS)}\n",
    )
    .unwrap()
}

/// A mutant: one field of one instruction is another.
fn mutant(program: &Program, random: &mut Random) -> Option<Program> {
    let mut insns: Vec<Insn> = program.insns().to_vec();
    let index = random.below(insns.len());
    let insn = &mut insns[index];
    match random.below(7) {
        0 => insn.k = insn.k.wrapping_add(1),
        1 => insn.k = insn.k.wrapping_sub(1),
        2 => insn.k ^= 1 << random.below(32),
        3 => std::mem::swap(&mut insn.jt, &mut insn.jf),
        4 => insn.jt = insn.jt.wrapping_add(random.byte() % 3).wrapping_sub(1),
        5 => insn.jf = insn.jf.wrapping_add(random.byte() % 3).wrapping_sub(1),
        // Another comparison, another operation, another word.
        _ => insn.code ^= 0x10 << random.below(3),
    }
    // Only what the kernel would take can be installed.
    let changed = insns != program.insns();
    Program::new(insns).ok().filter(|_| changed)
}

/// The constants of programs and what is next to them: where they could differ.
fn interesting(programs: &[&Program]) -> BTreeSet<u32> {
    let constants = programs.iter().flat_map(|program| program.insns()).map(|insn| insn.k);
    constants
        .chain([0, 1, 7, 9, 0x30, 0x3f, u32::MAX])
        .chain(HARMLESS.iter().copied())
        .flat_map(|k| [k.wrapping_sub(1), k, k.wrapping_add(1)])
        .collect()
}

/// Calls on which two programs would be told apart, if random ones can.
fn probes(programs: &[&Program], random: &mut Random) -> Vec<SeccompData> {
    let words: Vec<u32> = interesting(programs).into_iter().collect();
    let native = Arch::X86_64.audit_arch();
    let arches = [native, Arch::I386.audit_arch(), AuditArch::from_raw(0)];
    (0..3000)
        .map(|round| {
            let arch = if round % 8 == 0 { arches[random.below(3)] } else { native };
            let nr = words[random.below(words.len())];
            let mut word = || u64::from(words[random.below(words.len())]);
            let args =
                [(); 6].map(|()| word() | word() << 32 & if round % 2 == 0 { 0 } else { !0 });
            SeccompData::new(arch, nr).with_args(args)
        })
        .collect()
}

/// Whether a call can be made under a filter that does this with it.
fn can_be_made(call: &SeccompData, action: Action) -> bool {
    let native = call.arch == Arch::X86_64.audit_arch();
    // A call that does not pass is not executed; the tracer is told of it otherwise.
    native
        && (!action.lets_pass() || HARMLESS.contains(&call.nr))
        && !matches!(action, Action::Notify | Action::Trace(_))
}

#[test]
fn each_mutant_is_found_with_a_true_witness_and_equal_ones_are_called_equal() {
    let policy = policy();
    let rules = policy.lower().unwrap();
    let intent = Intent::new(&rules).unwrap();
    let original = compile(&rules, &Options::default()).unwrap().program;
    let mut random = Random(0x5eed_0000_0000_0007);
    let mut mutants: BTreeSet<Vec<u8>> = BTreeSet::new();
    let (mut equal, mut drifted, mut tighter) = (0, 0, 0);
    let mut jobs: Vec<(Job, Action)> = Vec::new();
    let (mut unmade, mut undecided) = (0, 0);
    while mutants.len() - undecided < effort(MUTANTS) {
        let Some(mutant) = mutant(&original, &mut random) else { continue };
        if !mutants.insert(mutant.to_bytes()) {
            continue;
        }
        // Too intricate to be worked out is no verdict: `verify` says unknown, and holds nothing good.
        let Ok(installed) = Decision::of(&mutant) else {
            undecided += 1;
            continue;
        };
        let verdict = intent.judge(&installed, Listeners::default).unwrap();
        let differences = match verdict {
            Verdict::Holds { .. } => {
                equal += 1;
                // It is called equal: nothing tells it from the original.
                for call in probes(&[&original, &mutant], &mut random) {
                    assert_eq!(original.run(&call), mutant.run(&call), "{call:?}\n{mutant:?}");
                }
                continue;
            }
            Verdict::Tighter { differences, .. } => {
                tighter += 1;
                differences
            }
            Verdict::Drift { differences, .. } => {
                drifted += 1;
                differences
            }
        };
        assert!(!differences.spans.is_empty());
        let mut made = None;
        for span in &differences.spans {
            let call = span.witness.data;
            let (intended, found) = (original.run(&call), mutant.run(&call));
            assert_ne!(intended, found, "{call:?}");
            assert_eq!(span.intended, intended.to_string());
            assert_eq!(span.installed, found.to_string());
            if made.is_none() && can_be_made(&call, found) && can_be_made(&call, intended) {
                made = Some((call, intended, found));
            }
        }
        match made {
            // The same call under the mutant, and under the original.
            Some((call, intended, found)) => {
                jobs.push((Job { stack: vec![mutant], calls: vec![call] }, found));
                let stack = vec![original.clone()];
                jobs.push((Job { stack, calls: vec![call] }, intended));
            }
            None => unmade += 1,
        }
    }
    println!(
        "{equal} equal, {tighter} tighter, {drifted} drift ({unmade} not made in the kernel), \
         {undecided} undecided"
    );
    assert!(undecided <= MUTANTS / 50);
    assert!(drifted > MUTANTS / 2 && equal > 0 && tighter > 0);
    // What cannot be made: calls of other arches, and calls that would do something.
    assert!(jobs.len() / 2 > MUTANTS / 2, "{} of {MUTANTS}", jobs.len() / 2);
    if let Some(reason) = kernel::unavailable() {
        return skip("each_mutant_is_found, in the kernel", &reason);
    }
    let (jobs, wanted): (Vec<Job>, Vec<Action>) = jobs.into_iter().unzip();
    for ((job, action), seen) in jobs.iter().zip(wanted).zip(kernel::outcomes(&jobs)) {
        let (call, outcome) = seen[0];
        assert!(outcome.is_of(action), "{call:?}: {outcome:?}, not {action}: {job:?}");
    }
}
