//! What no program of `>=` and `==` can go below.
//!
//! **Length.** For every border between neighbouring numbers that get different answers, some question
//! of the program has to come out differently on its two sides, or both numbers would take the same
//! way. `A >= K` (or `>`) does that at one border, `A == K` at the two around `K`. So the questions
//! are at least as many as such singles and pairs of neighbouring borders as cover all borders, a
//! pair being possible around a number that is alone. Beside these stand the loads of arch and
//! number, a comparison for each arch, a return for each answer, and for each condition on arguments
//! at least the load that begins it. Archs may share questions, so the most of one arch counts.
//!
//! **Mean.** A tree of `>=` alone ends in another leaf for each span, so by Shannon's bound it takes
//! the entropy of the spans on average; to that come the loads, the arch, and the return, and a
//! load and a question where arguments matter. `==` can go below.
//!
//! `A & K != 0` may come out differently at any number of borders: neither holds for it.

use std::collections::BTreeSet;

use strait_bpf::Action;
use strait_policy::Rules;
use strait_policy::rules::{Chain, Table};

use super::workload::Workload;

/// The bounds for one policy.
pub(crate) struct Bound {
    /// Instructions of a program at least.
    pub(crate) length: usize,
    /// Instructions executed on average over the calls that pass, at least.
    pub(crate) uniform: f64,
}

/// The bounds for the rules of a workload.
pub(crate) fn of(workload: &Workload, rules: &Rules) -> Bound {
    let mut answers = BTreeSet::from([rules.foreign()]);
    let mut conditions: BTreeSet<&Chain> = BTreeSet::new();
    for (_, table) in rules.tables() {
        for (_, _, chain) in table.spans() {
            answers.extend(answers_of(chain));
            conditions.extend(Some(chain).filter(|chain| !chain.arms.is_empty()));
        }
    }
    let questions = rules.tables().map(|(_, table)| questions(table)).max().unwrap_or(0);
    let fixed = 2 + rules.tables().len();
    let length = fixed + questions + answers.len() + conditions.len();
    let native = rules.table(workload.arches[0].audit_arch());
    Bound { length, uniform: native.map_or(0.0, |table| mean(workload, table)) }
}

fn answers_of(chain: &Chain) -> impl Iterator<Item = Action> + '_ {
    let otherwise = Some(chain.otherwise).filter(|_| chain.arms.is_empty());
    otherwise.into_iter().chain(chain.arms.iter().map(|arm| arm.action))
}

/// The least number of borders and pairs of them that cover all.
fn questions(table: &Table) -> usize {
    let alone: Vec<bool> = table.spans().map(|(first, last, _)| first == last).collect();
    let borders = alone.len() - 1;
    let (mut border, mut questions) = (0, 0);
    while border < borders {
        // The span behind this border, and the next border, if it is a number alone.
        let pair = border + 1 < borders && alone[border + 1];
        border += if pair { 2 } else { 1 };
        questions += 1;
    }
    questions
}

fn mean(workload: &Workload, table: &Table) -> f64 {
    let calls = workload.allowed();
    let all = share(calls.len());
    let entropy: f64 = table
        .spans()
        .map(|(first, last, _)| {
            let inside = calls.iter().filter(|call| (first..=last).contains(&call.nr)).count();
            let part = share(inside) / all;
            if inside == 0 { 0.0 } else { -part * part.log2() }
        })
        .sum();
    let conditional = share(calls.iter().filter(|call| call.conditional).count()) / all;
    4.0 + entropy + 2.0 * conditional
}

fn share(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
