//! How long it takes to decide real filters: medians of 51 runs, for reading, not for asserting.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use strait_bpf::{Decision, Program};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/filters");
    let mut chains = Vec::new();
    for name in ["docker-x86_64", "docker-x86", "nginx-arguments", "firecracker-vmm"] {
        let read = |form| -> Result<Program, Failure> {
            let path = folder.join(format!("{name}.{form}.hex"));
            Ok(Program::from_hex(&std::fs::read_to_string(path)?)?)
        };
        let (chain, tree) = (read("chain")?, read("tree")?);
        let time = median(|| {
            let equal = Decision::of(black_box(&chain)) == Decision::of(black_box(&tree));
            black_box(equal);
        });
        let (first, second) = (chain.insns().len(), tree.insns().len());
        println!("{name}: {first} against {second} instructions decided in {time:?}");
        chains.push(chain);
    }
    let stack: Vec<Program> = chains[..2].iter().cycle().take(8).cloned().collect();
    let time = median(|| {
        let _ = black_box(Decision::of_stack(black_box(&stack)));
    });
    let len: usize = stack.iter().map(|program| program.insns().len()).sum();
    println!("a stack of 8, {len} instructions: {time:?}");
    Ok(())
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..51)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
