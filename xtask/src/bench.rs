//! Benchmarks that count: `cargo xtask bench filters [FOLDER]`.
//!
//! Builds the same policies with Strait and with its peers and counts, with one interpreter, what
//! their programs cost. Only the last part, in the kernel, looks at a clock.

#[cfg(test)]
mod agreement;
mod bound;
mod building;
pub(crate) mod calls;
mod containers;
mod deciding;
mod diff;
#[cfg(test)]
mod figures;
mod inspect;
mod kernel;
mod measure;
mod overhead;
mod peers;
mod profiles;
mod run;
mod verify;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use strait_bpf::Program;
use strait_compiler::{Effort, Frequencies, Level, Options, compile};

use measure::Cost;
use workload::Workload;

/// The policies that are looked for, and the distribution that goes with each.
const POLICIES: &[(&str, &str)] = &[
    ("a1_docker_x64", "dist_mix"),
    ("a3_docker_multi", "dist_mix"),
    ("b_nginx60", "dist_mix"),
    ("c_firecracker_vmm", "dist_mix"),
    ("d_deny50", "dist_mix"),
    ("e_nginx_args", "dist_nginx"),
    ("f_fc_vcpu", "dist_mix"),
];

/// `cargo xtask bench WHAT…`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if cfg!(debug_assertions) {
        // Counting a build without optimisation would say little, and take long.
        let release = ["run", "--quiet", "--release", "--package", "xtask", "--", "bench"];
        return crate::succeed(crate::cargo().args(release).args(args));
    }
    match args {
        [what] if what == "filters" => filters(None),
        [what] if what == "tighten" => overhead::run(),
        [what] if what == "diff" => diff::run(None),
        [what, folder] if what == "diff" => diff::run(Some(folder.into())),
        [what] if what == "calls" => calls::run(),
        [what] if what == "containers" => containers::run(),
        [what] if what == "inspect" => inspect::run(),
        [what] if what == "profiles" => profiles::run(),
        [what] if what == "run" => run::run(),
        [what] if what == "verify" => verify::run(),
        [what, folder] if what == "filters" => filters(Some(folder.into())),
        [what] if what == "record" => crate::bench_record::run(),
        [what, policy] if what == "build" => {
            // What `filters` runs under callgrind.
            let rules = Workload::read(Path::new(policy))?.resolve()?;
            // The C library tidies up what was freed when it is next asked for much. What reading
            // the policy left behind is not to be counted as compiling.
            drop(Vec::<u8>::with_capacity(1 << 20));
            compile(&rules, &Options::default())?;
            Ok(())
        }
        _ => bail!(
            "usage: cargo xtask bench (calls | containers | diff [FOLDER] | filters [FOLDER] | inspect | \
             profiles | record | run | tighten | verify)"
        ),
    }
}

/// The folder with the policies.
fn policies() -> PathBuf {
    crate::root().join("testdata/policies")
}

/// All of it, with the policies in the folder or in the one that `STRAIT_BENCH` names, else with
/// those of the tests.
fn filters(folder: Option<PathBuf>) -> Result<()> {
    let folder = folder
        .or_else(|| std::env::var_os("STRAIT_BENCH").map(PathBuf::from))
        .unwrap_or_else(policies);
    if !folder.is_dir() {
        eprintln!("SKIP bench filters: {} is no folder", folder.display());
        return Ok(());
    }
    let peers = peers::build();
    println!(
        "{:<18} {:<26} {:>6} {:>8} {:>6} {:>8} {:>8} {:>8}",
        "policy", "program", "length", "uniform", "worst", "args", "mix", "uncached"
    );
    for (policy, distribution) in POLICIES {
        let path = folder.join(policy).with_extension("json");
        if !path.exists() {
            eprintln!("SKIP {policy}: {} is not there", path.display());
            continue;
        }
        let workload = Workload::read(&path)?;
        let mix = workload::distribution(&folder.join(distribution).with_extension("json"))?;
        table(&workload, &mix, &peers).with_context(|| (*policy).to_owned())?;
    }
    println!();
    for policy in ["a1_docker_x64", "a3_docker_multi", "c_firecracker_vmm"] {
        let path = folder.join(policy).with_extension("json");
        match building::counted(&path) {
            Ok((all, proof)) => println!(
                "building {policy}: {all} instructions, of which {proof} are the proof and {} not",
                all - proof
            ),
            Err(error) => eprintln!("SKIP building {policy}: {error:#}"),
        }
    }
    println!();
    deciding::run()?;
    println!();
    match kernel::build() {
        Ok(binary) => in_kernel(&folder, &peers, &binary),
        Err(error) => {
            eprintln!("SKIP in the kernel: {error:#}");
            Ok(())
        }
    }
}

/// A call that these policies answer with an errno: syslog(2), which no cache helps.
const UNCACHED: (u32, &[&str]) = (103, &["a1_docker_x64", "b_nginx60", "d_deny50"]);

/// Nanoseconds per uncached call in the kernel, and as a part of what ours takes.
fn in_kernel(folder: &Path, peers: &[peers::Peer], binary: &Path) -> Result<()> {
    for policy in UNCACHED.1 {
        let path = folder.join(policy).with_extension("json");
        if !path.exists() {
            continue;
        }
        let workload = Workload::read(&path)?;
        let ours = compile(&workload.resolve()?, &Options::default())?.program;
        let mut programs = vec![("strait".to_owned(), ours)];
        for peer in peers {
            match peer.build(&workload) {
                Ok(program) => programs.push((peer.name().to_owned(), program)),
                Err(error) => eprintln!("SKIP {} of {policy}: {error:#}", peer.name()),
            }
        }
        let filters: Vec<&Program> = programs.iter().map(|(_, program)| program).collect();
        let times = kernel::medians(binary, UNCACHED.0, &filters)?;
        let Some(&ours) = times.first() else { continue };
        for ((name, _), time) in programs.iter().zip(times) {
            let ratio = time / ours;
            println!(
                "{policy:<18} {name:<26} {time:>8.1} ns for an uncached call, {ratio:.2} of ours"
            );
        }
    }
    Ok(())
}

/// One line for each program of a policy.
fn table(workload: &Workload, mix: &BTreeMap<u32, f64>, peers: &[peers::Peer]) -> Result<()> {
    let rules = workload.resolve()?;
    let least = bound::of(workload, &rules);
    println!(
        "{:<18} {:<26} {:>6} {:>8.2}",
        workload.name, "least, >= and == alone", least.length, least.uniform
    );
    let mut best: Option<Cost> = None;
    for (name, options) in ours(workload, mix) {
        let compiled = compile(&rules, &options)?;
        let cost = measure::cost(workload, &compiled.program, mix);
        print(&workload.name, name, &cost, None);
        best.get_or_insert(cost);
    }
    for peer in peers {
        match peer.build(workload) {
            Ok(program) => {
                let cost = measure::cost(workload, &program, mix);
                print(&workload.name, peer.name(), &cost, best.as_ref());
            }
            Err(error) => eprintln!("SKIP {} of {}: {error:#}", peer.name(), workload.name),
        }
    }
    Ok(())
}

/// The ways in which Strait is asked to compile.
fn ours(workload: &Workload, mix: &BTreeMap<u32, f64>) -> Vec<(&'static str, Options)> {
    let profile = Options { frequencies: Some(frequencies(workload, mix)), ..Options::default() };
    let level = |level| Options { level, ..Options::default() };
    vec![
        ("strait", level(Level::Speed)),
        ("strait, thorough", Options { effort: Effort::Thorough, ..Options::default() }),
        ("strait, profile", profile.clone()),
        ("strait, thorough, profile", Options { effort: Effort::Thorough, ..profile }),
        ("strait, size", level(Level::Size)),
        ("strait, thorough, size", Options { effort: Effort::Thorough, ..level(Level::Size) }),
        ("strait, plain", level(Level::None)),
    ]
}

/// The distribution as the compiler takes it.
fn frequencies(workload: &Workload, mix: &BTreeMap<u32, f64>) -> Frequencies {
    let mut frequencies = Frequencies::new();
    for (&nr, &share) in mix {
        frequencies.add(workload.arches[0].audit_arch(), nr, times(share));
    }
    frequencies
}

/// A share as calls out of a million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is 0 to 1")]
fn times(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u64
}

fn print(policy: &str, program: &str, cost: &Cost, ours: Option<&Cost>) {
    let conditional = cost.conditional.map_or("-".to_owned(), |mean| format!("{mean:.2}"));
    print!(
        "{policy:<18} {program:<26} {:>6} {:>8.2} {:>6} {conditional:>8} {:>8.2} {:>8.2}",
        cost.length, cost.uniform, cost.worst, cost.mix, cost.uncached
    );
    if let Some(ours) = ours {
        print!("   {:.1} times as much executed", cost.uniform / ours.uniform);
    }
    println!();
}

/// The program in these bytes: `struct sock_filter`, as this machine has it.
fn program(bytes: &[u8]) -> Result<Program> {
    let insns = bytes
        .chunks(8)
        .map(|insn| match *insn {
            [a, b, jt, jf, k0, k1, k2, k3] => Ok(strait_bpf::Insn {
                code: u16::from_ne_bytes([a, b]),
                jt,
                jf,
                k: u32::from_ne_bytes([k0, k1, k2, k3]),
            }),
            _ => bail!("a program of {} bytes", bytes.len()),
        })
        .collect::<Result<_>>()?;
    Ok(Program::new(insns)?)
}

/// Where what is built for the benchmark goes.
fn scratch() -> PathBuf {
    crate::root().join("target/bench")
}

/// The folder with the peers' sources.
fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}
