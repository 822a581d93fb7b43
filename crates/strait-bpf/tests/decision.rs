//! Decisions against the interpreter: on generated programs, their mutations, stacks, and real
//! filters.

use proptest::prelude::*;
use strait_bpf::{Action, Answer, Budget, Decision, Exhausted, Insn, Program, Relation, run_stack};
use strait_testkit::generate::{self, Calls, Rng};

/// Enough for nearly all that the generators make, and quick to exhaust in a debug build.
const BUDGET: Budget = Budget { nodes: 1 << 16, steps: 1 << 19 };

fn decide(program: &Program) -> Option<Decision> {
    Decision::of_stack_within(std::slice::from_ref(program), BUDGET).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decision_decides_as_the_program_runs(seed: u64) {
        let mut rng = Rng::new(seed);
        let program = generate::any_program(&mut rng);
        let Some(decision) = decide(&program) else { return Ok(()) };
        let calls = Calls::of(&program);
        for _ in 0..200 {
            let data = calls.any(&mut rng);
            prop_assert_eq!(decision.decide(&data), program.run(&data), "{}", program.listing(None));
        }
    }

    #[test]
    fn a_stack_decides_as_its_filters_together(seed: u64) {
        let mut rng = Rng::new(seed);
        let stack: Vec<Program> =
            (0..rng.below(4)).map(|_| generate::any_program(&mut rng)).collect();
        let Ok(decision) = Decision::of_stack_within(&stack, BUDGET) else { return Ok(()) };
        for program in &stack {
            let calls = Calls::of(program);
            for _ in 0..50 {
                let data = calls.any(&mut rng);
                prop_assert_eq!(decision.decide(&data), run_stack(&stack, &data).action);
            }
        }
    }

    #[test]
    fn comparison_is_antisymmetric_and_its_witnesses_hold(seed: u64) {
        let mut rng = Rng::new(seed);
        let first = generate::any_program(&mut rng);
        let second = if rng.one_in(2) {
            generate::any_program(&mut rng)
        } else {
            mutation(&mut rng, &first)
        };
        let (Some(a), Some(b)) = (decide(&first), decide(&second)) else { return Ok(()) };
        let (Ok(forth), Ok(back)) = (a.compare(&b), b.compare(&a)) else { return Ok(()) };
        prop_assert_eq!(forth.order.reversed(), back.order);
        prop_assert_eq!(forth.allowed.reversed(), back.allowed);
        prop_assert_eq!(forth.order == Relation::Equal, a == b);
        prop_assert_eq!(forth.differences.is_empty(), a == b);
        for difference in &forth.differences {
            let (one, other) = (first.run(&difference.witness), second.run(&difference.witness));
            prop_assert_eq!((one, other), (difference.first, difference.second));
            prop_assert_ne!(one, other);
        }
        if forth.order == Relation::Tighter {
            let calls = Calls::of(&first);
            for _ in 0..100 {
                let data = calls.any(&mut rng);
                prop_assert!(first.run(&data).restriction_cmp(second.run(&data)).is_le());
            }
        }
    }

    #[test]
    fn the_partition_says_what_is_decided(seed: u64) {
        let mut rng = Rng::new(seed);
        let program = generate::filter(&mut rng);
        let Some(decision) = decide(&program) else { return Ok(()) };
        let calls = Calls::of(&program);
        for _ in 0..100 {
            let data = calls.any(&mut rng);
            let action = program.run(&data);
            let span = decision.arches().find(|span| (span.first..=span.last).contains(&data.arch));
            let calls = span.expect("spans cover every arch").calls();
            let span = calls.into_iter().find(|span| (span.first..=span.last).contains(&data.nr));
            match span.expect("spans cover every number").answer {
                Answer::Always(always) => prop_assert_eq!(always, action),
                Answer::Depends(arguments) => {
                    prop_assert!(arguments.actions().contains(&action));
                    if let Some(regions) = arguments.regions(64) {
                        let holds = |region: &&strait_bpf::Region| {
                            region
                                .when
                                .iter()
                                .all(|one| one.holds(&data.args, data.instruction_pointer))
                        };
                        let found: Vec<_> = regions.iter().filter(holds).collect();
                        prop_assert_eq!(found.len(), 1, "regions are apart and cover all");
                        prop_assert_eq!(found[0].action, action);
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_kernel_caches_is_allowed_whatever_the_arguments(seed: u64) {
        let mut rng = Rng::new(seed);
        let program = generate::any_program(&mut rng);
        let Some(decision) = decide(&program) else { return Ok(()) };
        let calls = Calls::of(&program);
        for _ in 0..50 {
            let data = calls.any(&mut rng);
            if program.const_allows(data.arch, data.nr) {
                let always = decision.answer(data.arch, data.nr).always();
                prop_assert_eq!(always, Some(Action::Allow));
            }
        }
    }
}

/// The program with one thing changed, so that it is still one.
fn mutation(rng: &mut Rng, program: &Program) -> Program {
    loop {
        let mut insns: Vec<Insn> = program.insns().to_vec();
        generate::mutate(rng, &mut insns);
        if let Ok(mutant) = Program::new(insns) {
            return mutant;
        }
    }
}

#[test]
fn nearly_all_generated_programs_can_be_decided() {
    let mut rng = Rng::new(3);
    let decided = (0..500).filter(|_| decide(&generate::any_program(&mut rng)).is_some()).count();
    assert!(decided >= 485, "only {decided} of 500");
}

#[test]
fn five_hundred_mutations_are_equal_or_have_a_witness() {
    let mut rng = Rng::new(500);
    let program = generate::filter(&mut Rng::new(12));
    let decision = Decision::of(&program).unwrap();
    let (mut equal, mut different) = (0, 0);
    for _ in 0..500 {
        let mutant = mutation(&mut rng, &program);
        let mutated = Decision::of(&mutant).unwrap();
        if mutated == decision {
            equal += 1;
            let calls = Calls::of(&mutant);
            for _ in 0..100 {
                let data = calls.any(&mut rng);
                assert_eq!(program.run(&data), mutant.run(&data));
            }
            continue;
        }
        different += 1;
        let comparison = decision.compare(&mutated).unwrap();
        assert!(!comparison.differences.is_empty());
        for difference in comparison.differences {
            assert_eq!(program.run(&difference.witness), difference.first);
            assert_eq!(mutant.run(&difference.witness), difference.second);
            assert_ne!(difference.first, difference.second);
        }
    }
    assert!(equal >= 20 && different >= 200, "{equal} equal, {different} different");
}

#[test]
fn chains_and_trees_of_real_filters_are_equal() {
    for name in [
        "docker-x86_64",
        "docker-x86",
        "nginx",
        "nginx-arguments",
        "firecracker-vmm",
        "firecracker-vcpu",
        "deny-list",
    ] {
        let read = |form| {
            let path =
                format!("{}/../../testdata/filters/{name}.{form}.hex", env!("CARGO_MANIFEST_DIR"));
            Program::from_hex(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        let (chain, tree) = (read("chain"), read("tree"));
        let decision = Decision::of(&chain).unwrap();
        assert_eq!(decision, Decision::of(&tree).unwrap(), "{name}");
        let mut rng = Rng::new(1);
        let calls = Calls::of(&chain);
        for _ in 0..2000 {
            let data = calls.any(&mut rng);
            assert_eq!(decision.decide(&data), chain.run(&data), "{name}: {data:?}");
        }
        // A change to one instruction in the middle is found.
        let mut insns = tree.insns().to_vec();
        let changed = insns.iter().position(|insn| insn.code == 0x06).unwrap();
        insns[changed].k ^= 1 << 31;
        let changed = Decision::of(&Program::new(insns).unwrap()).unwrap();
        let comparison = decision.compare(&changed).unwrap();
        assert_ne!(comparison.order, Relation::Equal);
        assert!(comparison.complete);
        for difference in comparison.differences {
            assert_eq!(decision.decide(&difference.witness), difference.first);
            assert_eq!(changed.decide(&difference.witness), difference.second);
        }
    }
}

#[test]
fn hard_programs_end_within_the_budget() {
    // Each doubles the number of ways through, and none of them come together.
    let mut ways = String::from("ld #0\nst M[0]\n");
    for bit in 0..32 {
        ways += &format!(
            "ld [arg0.lo]\njset #{:#x}, next, l{bit}\nld M[0]\nmul #3\nadd #{bit}\nst M[0]\nl{bit}:\n",
            1u32 << bit
        );
    }
    ways += "ld M[0]\nret a\n";
    // A product of two inputs, again and again.
    let mut products = String::from("ld [arg0.lo]\ntax\nld [arg1.lo]\n");
    products += &"mul x\nadd #1\n".repeat(2000);
    products += "ret a\n";
    // A different number for each of many values, by division.
    let quotient = "ld [arg0.lo]\ntax\nld [arg1.lo]\ndiv x\nret a\n".to_owned();
    for text in [ways, products, quotient] {
        let undecided = Decision::of_stack_within(&[Program::assemble(&text).unwrap()], BUDGET);
        let undecided = undecided.expect_err("too hard").exhausted;
        assert!(matches!(undecided, Exhausted::Steps(_) | Exhausted::Nodes(_)));
    }
}

#[test]
fn a_long_chain_of_operations_does_not_exhaust_the_call_stack() {
    let text = format!("ld [arg0.lo]\n{}ret a", "xor #1\nadd #1\n".repeat(2000));
    let program = Program::assemble(&text).unwrap();
    // Whether it is decided or not, it comes back.
    let _ = Decision::of_stack_within(&[program], BUDGET);
}

#[test]
fn decisions_on_single_bits_of_numbers_are_compared_within_bounds() {
    // Odd numbers, of arches that are odd: more spans than anybody lists.
    let odd =
        "ld [arch]\njset #1, next, no\nld [nr]\njset #1, yes, no\nyes: ret allow\nno: ret log";
    let odd = Decision::of(&Program::assemble(odd).unwrap()).unwrap();
    let comparison = odd.compare(&Decision::constant(Action::Allow)).unwrap();
    assert_eq!(comparison.order, Relation::Tighter);
    assert_eq!(comparison.allowed, Relation::Equal);
    assert_eq!(comparison.differences.len(), Decision::DIFFERENCES);
    assert!(!comparison.complete);
    let never = "ld [arch]\njset #1, next, no\nld [nr]\njset #1, next, no\njeq #0xffffffff, yes, no\n\
                 yes: ret log\nno: ret allow";
    let never = Decision::of(&Program::assemble(never).unwrap()).unwrap();
    let comparison = never.compare(&Decision::constant(Action::Allow)).unwrap();
    assert!(!comparison.differences.is_empty() && !comparison.complete);
    assert!(odd.to_pfc().is_err());
}
