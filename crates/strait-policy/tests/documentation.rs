//! Every example in docs/policy.md is a policy, and says what the page says it does.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use strait_abi::{Arch, Syscall};
use strait_bpf::SeccompData;
use strait_policy::{Policy, action_text};

const PAGE: &str = include_str!("../../../docs/policy.md");

fn examples() -> Vec<&'static str> {
    let blocks: Vec<&str> = PAGE.split("```").collect();
    blocks.iter().filter_map(|block| block.strip_prefix("yaml\n")).collect()
}

#[test]
fn every_example_is_a_policy_that_prints_and_lowers() {
    assert!(examples().len() >= 4);
    for example in examples() {
        let policy = Policy::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let rules = policy.lower().unwrap();
        let text = policy.to_string();
        let again = Policy::parse(&text).unwrap();
        assert_eq!(again, policy, "{text}");
        assert_eq!(again.to_string(), text);
        assert_eq!(again.lower().unwrap(), rules);
    }
}

#[test]
fn the_table_of_answers_is_what_the_example_says() {
    let example = examples().into_iter().find(|text| text.contains("fd < 10")).unwrap();
    let rules = Policy::parse(example).unwrap().lower().unwrap();
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.contains("`read(")).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (arch, call) = cells[1].split_once(' ').unwrap();
        let fd = call.trim_matches('`').trim_start_matches("read(").trim_end_matches(')');
        let arch: Arch = arch.parse().unwrap();
        let data = SeccompData {
            nr: Syscall::from_name("read").unwrap().number(arch).unwrap(),
            arch: arch.audit_arch(),
            instruction_pointer: 0,
            args: [fd.parse().unwrap(), 0, 0, 0, 0, 0],
        };
        assert_eq!(action_text(rules.decide(&data)), cells[2], "{row}");
    }
}
