//! The shared table of cases, on the interpreter, the symbolic engine and the running kernel.

use strait_abi::Arch;
use strait_bpf::{Decision, Program, SeccompData};
use strait_testkit::cases::{self, Case, Subject};
use strait_testkit::generate::{HARMLESS, HARMLESS_I386};
use strait_testkit::kernel::{self, Job};
use strait_testkit::skip;

/// The cases that are about a program.
fn programs() -> Vec<(Program, Case)> {
    let cases = cases::all().into_iter();
    let programs: Vec<_> = cases
        .filter_map(|case| match &case.subject {
            Subject::Program(program) => Some((program.clone(), case)),
            Subject::Policy(_) | Subject::Rules(_) => None,
        })
        .collect();
    assert!(programs.len() >= 20, "only {} cases were found", programs.len());
    programs
}

#[test]
fn the_interpreter_runs_the_cases() {
    for (program, case) in programs() {
        for call in &case.calls {
            assert_eq!(program.run(&call.data), call.action, "{}: {:?}", case.name, call.data);
            if let Some(const_allow) = call.const_allow {
                let by_kernel = program.const_allows(call.data.arch, call.data.nr);
                assert_eq!(by_kernel, const_allow, "{}: {:?}", case.name, call.data);
            }
        }
    }
}

#[test]
fn the_symbolic_engine_decides_the_cases() {
    for (program, case) in programs() {
        let decision = Decision::of(&program).unwrap();
        for call in &case.calls {
            assert_eq!(decision.decide(&call.data), call.action, "{}: {:?}", case.name, call.data);
        }
        if let Some((other, relation)) = &case.against {
            let other = Decision::of(other).unwrap();
            assert_eq!(decision.compare(&other).unwrap().order, *relation, "{}", case.name);
            let back = other.compare(&decision).unwrap().order;
            assert_eq!(back, relation.reversed(), "{}", case.name);
        }
    }
}

#[test]
fn the_kernel_answers_the_cases() {
    const TEST: &str = "the_kernel_answers_the_cases";
    if let Some(reason) = kernel::unavailable() {
        return skip(TEST, &reason);
    }
    let compat = kernel::has_compat();
    if !compat {
        skip(TEST, "no calls of i386 here");
    }
    // Those calls that can be made here and do no harm; where they were made from is not ours to
    // choose.
    let makeable = |data: &SeccompData| {
        data.instruction_pointer == 0
            && match data.arch.arch() {
                Some(Arch::X86_64) => HARMLESS.contains(&data.nr),
                Some(Arch::I386) => compat && HARMLESS_I386.contains(&data.nr),
                _ => false,
            }
    };
    let programs = programs();
    let jobs: Vec<Job> = programs
        .iter()
        .map(|(program, case)| {
            let calls = case.calls.iter().map(|call| call.data).filter(makeable);
            Job { stack: vec![program.clone()], calls: calls.collect() }
        })
        .collect();
    let mut made = 0;
    for ((_, case), observed) in programs.iter().zip(kernel::outcomes(&jobs)) {
        let expected = case.calls.iter().filter(|call| makeable(&call.data));
        for (call, (data, outcome)) in expected.zip(observed) {
            made += 1;
            assert!(outcome.is_of(call.action), "{}: {outcome:?} for {data:?}", case.name);
        }
    }
    assert!(made >= 30, "only {made} calls could be made");
}
