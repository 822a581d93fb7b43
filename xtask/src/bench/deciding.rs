//! How long it takes to decide programs: next to the costs in the kernel, what looks at a clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use strait_bpf::{Decision, Program};

/// Times that each is tried.
const TRIES: usize = 31;

/// Prints the medians.
pub(crate) fn run() -> Result<()> {
    let chain = filter("docker-x86_64.chain")?;
    let tree = filter("docker-x86_64.tree")?;
    let multi = filter("docker-x86.chain")?;
    let time = median(|| {
        let equal = Decision::of(black_box(&chain)) == Decision::of(black_box(&tree));
        black_box(equal);
    });
    println!("two Docker-size programs decided equal: {time:.1?}, wanted under 5ms");
    let stack: Vec<Program> = [&chain, &multi].into_iter().cycle().take(8).cloned().collect();
    let time = median(|| drop(black_box(Decision::of_stack(black_box(&stack)))));
    println!("a stack of 8 Docker-size programs decided: {time:.1?}, wanted under 20ms");
    for (name, text) in hard() {
        let program = Program::assemble(&text)?;
        let start = Instant::now();
        let outcome = match Decision::of(&program) {
            Ok(_) => "decided".to_owned(),
            Err(undecided) => undecided.to_string(),
        };
        let len = program.insns().len();
        println!("{len} instructions of {name}: {:.1?}: {outcome}", start.elapsed());
    }
    Ok(())
}

/// The hardest programs that were found, as long as may be.
fn hard() -> [(&'static str, String); 2] {
    let mut ways = String::from("ld #0\nst M[0]\n");
    for step in 0..584 {
        let (arg, bit) = (step / 32 % 6, step % 32);
        ways += &format!(
            "ld [arg{arg}.lo]\njset #{:#x}, next, l{step}\nld M[0]\nmul #3\nadd #{bit}\nst M[0]\n\
             l{step}: ld M[0]\n",
            1_u32 << bit
        );
    }
    ways += "ret a\n";
    let products = "mul x\nadd #1\n".repeat(2046);
    let products = format!("ld [arg0.lo]\ntax\nld [arg1.lo]\n{products}ret a\n");
    [("ways that never meet again", ways), ("products of two inputs", products)]
}

fn filter(name: &str) -> Result<Program> {
    let path = crate::root().join("testdata/filters").join(format!("{name}.hex"));
    Ok(Program::from_hex(&std::fs::read_to_string(path)?)?)
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..TRIES)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[TRIES / 2]
}
