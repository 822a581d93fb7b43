//! How long it takes to compare two profiles exactly, beside what libseccomp takes to build one:
//! `cargo xtask bench diff [FOLDER]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use strait_abi::{Arch, KernelVersion};
use strait_bpf::{Comparison, Decision};
use strait_policy::diff::Diff;
use strait_policy::format::{Format, Target};

use super::peers;
use super::workload::Workload;

/// The two that are compared, of the size of Docker's default profile.
const PROFILES: [&str; 2] = ["moby-default.json", "containers-common.json"];
/// How long it may take, read to witnesses.
const WANTED: Duration = Duration::from_millis(20);
const TIMES: usize = 25;

/// The folder with the profiles: as given, or beside the checkout.
pub(crate) fn run(folder: Option<PathBuf>) -> Result<()> {
    let folder = folder.unwrap_or_else(|| crate::root().join("../shared/profiles"));
    let paths = PROFILES.map(|name| folder.join(name));
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        eprintln!("SKIP bench diff: {} is not there", missing.display());
        return Ok(());
    }
    let texts: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    let decide = |text: &[u8]| -> Result<Decision> {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        Ok(Format::Oci.import(text, &target)?.policy.lower()?.decision()?)
    };
    let decisions: Vec<Decision> = texts.iter().map(|text| decide(text)).collect::<Result<_>>()?;
    let [first, second] = decisions.as_slice() else { unreachable!("two profiles are read") };
    let Comparison { differences, complete, .. } = first.compare(second)?;
    println!(
        "diff {} {}: {} differences{}",
        PROFILES[0],
        PROFILES[1],
        differences.len(),
        if complete { "" } else { ", and more" }
    );
    let reading = median(|| texts.iter().map(|text| decide(text)).collect::<Result<Vec<_>>>())?;
    let comparing = median(|| Ok(Diff::new(first, second)?))?;
    let all = reading + comparing;
    println!("  both read, resolved, lowered and decided {:>8.2} ms", milliseconds(reading));
    println!("  compared, each call with a witness       {:>8.2} ms", milliseconds(comparing));
    let met = if all < WANTED { "met" } else { "MISSED" };
    println!("  in all {:.2} ms, wanted under 20 ms: {met}", milliseconds(all));
    let workload = Path::new("../shared/bench/a3_docker_multi.json");
    let workload = crate::root().join(workload);
    if !workload.exists() {
        eprintln!("SKIP the peer: {} is not there", workload.display());
        return Ok(());
    }
    let workload = Workload::read(&workload)?;
    for peer in peers::build().iter().filter(|peer| peer.name() == "libseccomp") {
        let build = median(|| peer.build(&workload))?;
        println!(
            "  libseccomp builds one such filter in {:.2} ms (a process each time); {:.2} times that",
            milliseconds(build),
            all.as_secs_f64() / build.as_secs_f64()
        );
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time in the middle of several.
fn median<T>(mut work: impl FnMut() -> Result<T>) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        std::hint::black_box(work()?);
        times.push(start.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied().context("no time was taken")
}
