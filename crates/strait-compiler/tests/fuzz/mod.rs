//! What the fuzz target for the compiler does with its input; the target is glue over this, and so
//! is the test that replays its corpus.

use strait_bpf::{Action, Decision, Program};
use strait_compiler::{CompileError, Effort, Frequencies, Level, Options, compile, compile_stack};
use strait_policy::Rules;
use strait_testkit::generate::Rng;
use strait_testkit::rules::{self, Bytes};

/// Calls that each input is tried on.
const CALLS: usize = 96;

/// Bytes that choose options and rules: the evaluator over the rules, the interpreter over the
/// program, and the decisions of both agree, and every unconditional allow is const-allow.
///
/// # Panics
/// If something is wrong.
pub fn compiler(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let choice = bytes.byte();
    let seed = u64::from(bytes.byte());
    let rules = rules::rules(&mut bytes);
    let mut rng = Rng::new(seed);
    let calls = rules::calls(&rules, CALLS, &mut rng);
    let options = options(choice, &rules, &mut rng);
    let programs = match choice & 0x80 {
        0 => match compile(&rules, &options) {
            Ok(compiled) => vec![compiled.program],
            Err(error) => return allowed(&error),
        },
        _ => match compile_stack(&rules, &options) {
            Ok(programs) => programs,
            Err(error) => return allowed(&error),
        },
    };
    for call in calls {
        let decided = programs.iter().map(|program| program.run(&call)).min();
        assert_eq!(decided, Some(rules.decide(&call)), "{options:?}, {call:?}: {rules:#?}");
    }
    let intended = rules.decision();
    assert_eq!(intended, Decision::of_stack(&programs), "{options:?}: {rules:#?}");
    const_allow(&rules, &programs);
}

/// The only errors that rules can bring about.
fn allowed(error: &CompileError) {
    match error {
        CompileError::TooLong { .. } | CompileError::Undecided(_) => {}
        error => panic!("{error}"),
    }
}

fn options(choice: u8, rules: &Rules, rng: &mut Rng) -> Options {
    let level = [Level::Speed, Level::Size, Level::None][usize::from(choice % 3)];
    // Being thorough takes a second or more, where every known call is a span of its own many:
    // seldom, and only where calls were counted.
    let counted = choice & 0x20 != 0;
    let effort = if counted && choice & 0x5c == 0 { Effort::Thorough } else { Effort::Quick };
    let frequencies = counted.then(|| {
        let mut frequencies = Frequencies::new();
        for call in rules::calls(rules, 16, rng) {
            frequencies.add(call.arch, call.nr, rng.bits() >> rng.below(64));
        }
        frequencies
    });
    Options { level, effort, frequencies }
}

fn const_allow(rules: &Rules, programs: &[Program]) {
    for (arch, table) in rules.tables() {
        for (first, last, chain) in table.spans() {
            if first < 512 && chain.arms.is_empty() && chain.otherwise == Action::Allow {
                for nr in [first, last.min(511)] {
                    assert!(programs.iter().all(|program| program.const_allows(arch, nr)));
                }
            }
        }
    }
}
