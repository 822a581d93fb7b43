//! What a program costs, counted with one interpreter.

use std::collections::BTreeMap;

use strait_bpf::Program;

use super::workload::Workload;

/// Counted instructions of one program for one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of the program.
    pub(crate) length: usize,
    /// Executed, the mean over allowed calls; each way to pass of a call counts alike.
    pub(crate) uniform: f64,
    /// Executed at most by a call that passes.
    pub(crate) worst: u32,
    /// The mean over the calls whose arguments matter.
    pub(crate) conditional: Option<f64>,
    /// The mean over a distribution.
    pub(crate) mix: f64,
    /// The same with 0 for calls that the kernel answers from its cache.
    pub(crate) uncached: f64,
}

/// Counts a program's costs.
pub(crate) fn cost(workload: &Workload, program: &Program, mix: &BTreeMap<u32, f64>) -> Cost {
    let executed =
        |nr: u32, args: [u64; 6]| program.run_counting(&workload.call(nr, args)).executed;
    let allowed = workload.allowed();
    let mean_of = |ways: &[[u64; 6]], nr: u32| {
        mean(ways.iter().map(|&args| f64::from(executed(nr, args)))).unwrap_or_default()
    };
    let by_call: BTreeMap<u32, (f64, bool)> = allowed
        .iter()
        .map(|call| (call.nr, (mean_of(&call.ways, call.nr), call.conditional)))
        .collect();
    let worst =
        allowed.iter().flat_map(|call| call.ways.iter().map(|&args| executed(call.nr, args))).max();
    let (mut total, mut uncached) = (0.0, 0.0);
    for (&nr, &share) in mix {
        let (cost, cached) = match by_call.get(&nr) {
            Some(&(cost, conditional)) => (cost, !conditional),
            None => (f64::from(executed(nr, [0; 6])), false),
        };
        total += share * cost;
        uncached += if cached { 0.0 } else { share * cost };
    }
    Cost {
        length: program.insns().len(),
        uniform: mean(by_call.values().map(|&(cost, _)| cost)).unwrap_or_default(),
        worst: worst.unwrap_or_default(),
        conditional: mean(by_call.values().filter(|call| call.1).map(|&(cost, _)| cost)),
        mix: total,
        uncached,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}
