//! Acceptance and execution against the running kernel, in children.
//!
//! `STRAIT_EFFORT=10` makes ten times as many tries.

use std::collections::BTreeMap;

use strait_abi::Arch;
use strait_bpf::{Action, Insn, Jump, Op, Operand, Program, SeccompData, run_stack};
use strait_testkit::generate::{self, Calls, HARMLESS, HARMLESS_I386, Rng};
use strait_testkit::kernel::{self, Job};
use strait_testkit::{effort, skip};

/// Whether the kernel can be asked; if not, says so.
fn kernel(test: &str) -> bool {
    match kernel::unavailable() {
        None => true,
        Some(reason) => {
            skip(test, &reason);
            false
        }
    }
}

#[test]
fn the_kernel_accepts_what_the_model_accepts() {
    if !kernel("the_kernel_accepts_what_the_model_accepts") {
        return;
    }
    let mut rng = Rng::new(0x5eed);
    let (mut offered, mut accepted) = (0, 0);
    for _ in 0..effort(5) {
        let lists: Vec<Vec<Insn>> = (0..1000).map(|_| generate::any_insns(&mut rng)).collect();
        for (insns, by_kernel) in lists.iter().zip(kernel::accepts(&lists)) {
            let model = Program::new(insns.clone());
            assert_eq!(model.is_ok(), by_kernel, "{model:?} of {insns:?}");
            offered += 1;
            accepted += usize::from(by_kernel);
        }
    }
    println!("{offered} offered, {accepted} accepted");
    assert!(accepted * 5 > offered, "too few programs are programs");
}

#[test]
fn every_code_is_judged_as_the_kernel_judges_it() {
    if !kernel("every_code_is_judged_as_the_kernel_judges_it") {
        return;
    }
    // A first instruction with this code and operand, then returns: every code of 16 bits, and for
    // those of 8 the operands at each edge.
    let mut lists = Vec::new();
    let ret = Insn::from(Op::Ret(0));
    let all = (0..0x100u16).flat_map(|code| {
        [0, 1, 3, 4, 15, 16, 31, 32, 60, 61, 64, 0x7fff_ffff, 0xffff_f000, u32::MAX]
            .map(|k| (code, k))
    });
    for (code, k) in all.chain((0x100..=u16::MAX).map(|code| (code, 0))) {
        for jt in [0, 1, 2] {
            if jt == 0 || code < 0x100 {
                lists.push(vec![Insn { code, jt, jf: 0, k }, ret, ret]);
            }
        }
    }
    // The lengths.
    for len in [0, 1, 4095, 4096, 4097, 65535] {
        lists.push(vec![ret; len]);
    }
    for (insns, by_kernel) in lists.iter().zip(kernel::accepts(&lists)) {
        let model = Program::new(insns.clone());
        assert_eq!(model.is_ok(), by_kernel, "{model:?} of {:?}", &insns[..insns.len().min(3)]);
    }
}

#[test]
fn the_kernel_does_what_the_interpreter_says() {
    const TEST: &str = "the_kernel_does_what_the_interpreter_says";
    if !kernel(TEST) {
        return;
    }
    let compat = kernel::has_compat();
    if !compat {
        skip(TEST, "no calls of i386: this kernel has no int $0x80 for 64-bit processes");
    }
    let mut rng = Rng::new(0xca11);
    let jobs: Vec<Job> = (0..effort(200))
        .map(|_| {
            let program = generate::any_program(&mut rng);
            let calls = Calls::of(&program);
            let calls = (0..16)
                .map(|_| calls.harmless(&mut rng))
                .filter(|call| compat || call.arch != Arch::I386.audit_arch())
                .collect();
            Job { stack: vec![program], calls }
        })
        .collect();
    let mut seen = BTreeMap::new();
    for (job, observed) in jobs.iter().zip(kernel::outcomes(&jobs)) {
        for (data, outcome) in observed {
            let action = job.stack[0].run(&data);
            assert!(
                outcome.is_of(action),
                "{action} is predicted, {outcome:?} happened to {data:?} under\n{}",
                job.stack[0].listing(None)
            );
            *seen.entry(action.raw() >> 16).or_insert(0) += 1;
        }
    }
    println!("calls by action: {seen:x?}");
    assert_eq!(seen.len(), 8, "every action came up");
}

#[test]
fn the_kernel_does_what_the_stack_says() {
    const TEST: &str = "the_kernel_does_what_the_stack_says";
    if !kernel(TEST) {
        return;
    }
    let mut rng = Rng::new(0x57ac);
    let jobs: Vec<Job> = (0..effort(200))
        .map(|_| {
            let stack: Vec<Program> = (0..2 + rng.below(3)).map(|_| stackable(&mut rng)).collect();
            let constants = Calls::of(&stack[0]);
            let native = |call: &SeccompData| call.arch == Arch::X86_64.audit_arch();
            let calls = (0..16).map(|_| constants.harmless(&mut rng)).filter(native).collect();
            Job { stack, calls }
        })
        .collect();
    let mut overruled = 0;
    for (job, observed) in jobs.iter().zip(kernel::outcomes(&jobs)) {
        for (data, outcome) in observed {
            let answered = run_stack(&job.stack, &data);
            assert!(outcome.is_of(answered.action), "{answered:?} against {outcome:?}: {job:?}");
            overruled += usize::from(answered.filter.is_some_and(|i| i + 1 < job.stack.len()));
        }
    }
    assert!(overruled >= 100, "older filters answered only {overruled} times");
}

/// A program that lets seccomp(2) pass, so that another can be loaded after it. Values that rank
/// between the known ones come up too.
fn stackable(rng: &mut Rng) -> Program {
    let is_seccomp = Op::Branch { test: Jump::Eq, operand: Operand::K(317), jt: 0, jf: 1 };
    let mut ops = vec![Op::Load(0), is_seccomp, Op::Ret(0x7fff_0000), Op::LoadImm(0)];
    if rng.one_in(2) {
        ops.extend(generate::filter(rng).ops());
    } else {
        ops.push(Op::Ret(generate::answer(rng)));
    }
    Program::new(ops.into_iter().map(Insn::from).collect()).expect("jumps are relative")
}

#[test]
fn every_action_and_its_data_are_the_kernels() {
    const TEST: &str = "every_action_and_its_data_are_the_kernels";
    if !kernel(TEST) {
        return;
    }
    let data = [0u16, 1, 38, 133, 4094, 4095, 4096, 4097, 0x7fff, 0x8000, 0xfffe, 0xffff];
    let mut raws = Vec::new();
    for high in [0u32, 1, 3, 5, 6, 0x7fc0, 0x7ff0, 0x7ffc, 0x7ffd, 0x7fff, 0x8000, 0x9000, 0xffff] {
        raws.extend(data.iter().map(|&data| high << 16 | u32::from(data)));
    }
    let call = SeccompData::new(Arch::X86_64.audit_arch(), HARMLESS[0]);
    let jobs: Vec<_> = raws
        .iter()
        .map(|raw| Job {
            stack: vec![Program::assemble(&format!("ret #{raw:#x}")).unwrap()],
            calls: vec![call],
        })
        .collect();
    for (raw, observed) in raws.iter().zip(kernel::outcomes(&jobs)) {
        let (outcome, action) = (observed[0].1, Action::from_raw(*raw));
        assert!(outcome.is_of(action), "{raw:#x}: {action} is predicted, {outcome:?} happened");
    }
}

#[test]
fn all_the_words_of_a_call_are_where_the_interpreter_reads_them() {
    const TEST: &str = "all_the_words_of_a_call_are_where_the_interpreter_reads_them";
    if !kernel(TEST) {
        return;
    }
    // The low 16 bits of each word, and then the high ones, come back by the tracer.
    let arg = |n: u64| 0x1111_2222_3333_4444 * n;
    let args: [u64; 6] = [arg(1), arg(2), arg(3), 0xfedc_ba98_7654_3210, u64::MAX, 1 << 63];
    let mut calls = vec![SeccompData::new(Arch::X86_64.audit_arch(), HARMLESS[1]).with_args(args)];
    if kernel::has_compat() {
        let low = args.map(|arg| arg & 0xffff_ffff);
        let call = SeccompData::new(Arch::I386.audit_arch(), HARMLESS_I386[1]);
        calls.push(call.with_args(low));
    }
    let jobs: Vec<_> = (0..64)
        .step_by(4)
        .flat_map(|offset| ["rsh #16", "and #0xffff"].map(|half| (offset, half)))
        .map(|(offset, half)| {
            let text = format!("ld [{offset}]\n{half}\nor #0x7ff00000\nret a");
            Job { stack: vec![Program::assemble(&text).unwrap()], calls: calls.clone() }
        })
        .collect();
    for (job, observed) in jobs.iter().zip(kernel::outcomes(&jobs)) {
        for (data, outcome) in observed {
            let action = job.stack[0].run(&data);
            assert!(outcome.is_of(action), "{action} against {outcome:?} for {data:x?}");
        }
    }
}

#[test]
fn a_notified_call_gets_the_supervisors_answer() {
    if !kernel("a_notified_call_gets_the_supervisors_answer") {
        return;
    }
    let arch = Arch::X86_64.audit_arch().raw();
    assert_eq!(kernel::notified(), format!("110 {arch} [1, 2, 3, 4, 5, 6] 7777"));
}

#[test]
fn a_logged_call_is_in_the_log_and_an_allowed_one_is_not() {
    const TEST: &str = "a_logged_call_is_in_the_log_and_an_allowed_one_is_not";
    if !kernel(TEST) {
        return;
    }
    let records = kernel::logged();
    let Some(record) = records.last() else {
        return skip(TEST, "no record comes by /dev/kmsg: no right to read it, or an audit daemon");
    };
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(record.contains(" syscall=110 ") && record.contains(" code=0x7ffc0000"), "{record}");
}

#[test]
fn kill_thread_leaves_the_others_alone_and_all_unknown_values_do_not() {
    if !kernel("kill_thread_leaves_the_others_alone_and_all_unknown_values_do_not") {
        return;
    }
    for raw in [0, 0xffff, 0x8000_0000, 0x0001_0000, 0x0006_0000, 0x7ffe_0000, 0xffff_ffff] {
        let survives = kernel::thread_killed(raw);
        assert_eq!(survives, Action::from_raw(raw) == Action::KillThread, "{raw:#x}");
    }
}
