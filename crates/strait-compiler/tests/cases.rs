//! The shared table of cases: what its policies and rules decide, by the evaluator and by what is
//! compiled from them at every level.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use strait_compiler::{Level, Options, compile};
use strait_policy::Policy;
use strait_testkit::cases::{self, Subject};

#[test]
fn policies_and_rules_decide_the_cases_at_every_level() {
    let mut policies = 0;
    for case in cases::all() {
        let rules = match &case.subject {
            Subject::Program(_) => continue,
            Subject::Policy(text) => {
                let policy = Policy::parse(text);
                policy.unwrap_or_else(|error| panic!("{}: {error}", case.name)).lower().unwrap()
            }
            Subject::Rules(rules) => rules.clone(),
        };
        policies += 1;
        for call in &case.calls {
            assert_eq!(rules.decide(&call.data), call.action, "{}: {:?}", case.name, call.data);
        }
        for level in [Level::None, Level::Speed, Level::Size] {
            let options = Options { level, ..Options::default() };
            let program = compile(&rules, &options).unwrap().program;
            for call in &case.calls {
                let action = program.run(&call.data);
                assert_eq!(action, call.action, "{}: {level:?}: {:?}", case.name, call.data);
                if let Some(const_allow) = call.const_allow {
                    let by_kernel = program.const_allows(call.data.arch, call.data.nr);
                    assert_eq!(by_kernel, const_allow, "{}: {level:?}: {call:?}", case.name);
                }
            }
        }
    }
    assert!(policies >= 3, "only {policies} cases were found");
}
