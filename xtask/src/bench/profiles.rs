//! How long reading Docker's default profile takes: parsing, resolving for this machine, and lowering
//! to rules; beside libseccomp's time to build the same filter from rules that are resolved already.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use strait_abi::{Arch, KernelVersion};
use strait_policy::format::{Format, Runtime, Target};

use super::peers;
use super::workload::Workload;

/// Of so many runs the median counts.
const RUNS: usize = 301;

/// `cargo xtask bench profiles`.
pub(crate) fn run() -> Result<()> {
    let shared = crate::root().join("../shared");
    let beside = shared.join("profiles/moby-default.json");
    let installed = PathBuf::from("/usr/share/containers/seccomp.json");
    let Some(profile) = [beside, installed].into_iter().find(|path| path.exists()) else {
        eprintln!("SKIP bench profiles: there is no default profile here");
        return Ok(());
    };
    let bytes = std::fs::read(&profile).with_context(|| profile.display().to_string())?;
    let mut first = None;
    for runtime in [Runtime::Runc, Runtime::Crun] {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        target.runtime = runtime;
        let read = || -> Result<Duration> {
            let start = Instant::now();
            let rules = Format::Oci.import(&bytes, &target)?.policy.lower()?;
            let time = start.elapsed();
            // What nobody looks at could be left out.
            std::hint::black_box(rules);
            Ok(time)
        };
        let mut times = (0..RUNS).map(|_| read()).collect::<Result<Vec<_>>>()?;
        times.sort_unstable();
        let median = times[RUNS / 2];
        first.get_or_insert(median);
        println!("{} for {runtime}: {median:.1?} to parse, resolve and lower", profile.display());
    }
    let policy = shared.join("bench/a3_docker_multi.json");
    if !policy.exists() {
        eprintln!("SKIP libseccomp: {} is not there", policy.display());
        return Ok(());
    }
    let workload = Workload::read(&policy)?;
    for peer in peers::build().iter().filter(|peer| peer.name() == "libseccomp") {
        let time = peer.time(&workload, RUNS)?;
        println!("a3_docker_multi with {}: {time:.1?} to build, rules given", peer.name());
        if let Some(ours) = first {
            println!("ratio: {:.2}", ours.as_secs_f64() / time.as_secs_f64());
        }
    }
    Ok(())
}
