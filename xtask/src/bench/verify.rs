//! What judging one container costs: `cargo xtask bench verify`.
//!
//! A container of Docker and one of Podman, each with its engine's own profile; `strait verify` of it in
//! turns with the engine's own `inspect`, which only tells what was asked for. Root and the engines are
//! needed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use strait_testkit::engine::{Engine, Kind, Profile};

use super::overhead::Times;

const ROUNDS: usize = 31;
/// Where Debian ships Podman's profile (package golang-github-containers-common).
const PODMANS: &str = "/usr/share/containers/seccomp.json";

/// Prints milliseconds on the clock, and of all processors.
pub(super) fn run() -> Result<()> {
    let build = ["build", "--release", "--quiet", "--package", "strait-cli"];
    crate::succeed(crate::cargo().args(build))?;
    println!("{:<44} {:>8} {:>8} {:>10}  ms, {ROUNDS} rounds", "", "least", "median", "processors");
    for kind in [Kind::Docker, Kind::PodmanCrun] {
        match Engine::try_start(kind, &[]) {
            Ok(engine) => measure(&engine)?,
            Err(reason) => eprintln!("SKIP {}: {reason}", kind.name()),
        }
    }
    Ok(())
}

fn measure(engine: &Engine) -> Result<()> {
    let name = "measured";
    let started = engine.run(name, Profile::Default, &[], &["/bin/sleep", "1000"]);
    started.map_err(|error| anyhow!(error))?;
    let policy = profile(engine, name)?;
    let policy = policy.to_str().context("a folder's name is not UTF-8")?;
    let full_name = format!("{}:{name}", engine.kind().name());
    let pid = engine.pid(name).map_err(|error| anyhow!(error))?.to_string();
    let strait = crate::root().join("target/release/strait");
    let verify = |which: &[&str]| {
        let mut command = Command::new(&strait);
        command.args(["verify", "--policy", policy]).args(which).envs(engine.environment());
        command
    };
    let mut commands = [
        (format!("{} inspect {name}", engine.kind().name()), {
            let mut client = engine.client();
            client.args(["inspect", name]);
            client
        }),
        (format!("strait verify --container {name}"), verify(&["--container", name])),
        (format!("strait verify --container {full_name}"), verify(&["--container", &full_name])),
        ("strait verify --strict --pid".to_owned(), verify(&["--pid", &pid])),
    ];
    let mut times: [Times; 4] = Default::default();
    for _ in 0..ROUNDS {
        for ((what, command), times) in commands.iter_mut().zip(&mut times) {
            times.measure(|| {
                let start = Instant::now();
                let output = command.output()?;
                let taken = start.elapsed();
                if !output.status.success() {
                    bail!("{what}: {}", String::from_utf8_lossy(&output.stderr));
                }
                Ok(taken)
            })?;
        }
    }
    for ((what, _), times) in commands.iter().zip(times) {
        let [least, median, processors] = times.summary().map(|time| time.as_secs_f64() * 1e3);
        println!("{what:<44} {least:>8.2} {median:>8.2} {processors:>10.2}");
    }
    engine.remove(name);
    Ok(())
}

/// The profile that the engine has given the container: Docker's is built in, and stands resolved in the
/// container's bundle.
fn profile(engine: &Engine, name: &str) -> Result<std::path::PathBuf> {
    if engine.kind() != Kind::Docker {
        return Ok(Path::new(PODMANS).to_owned());
    }
    let state = "exec/containerd/daemon/io.containerd.runtime.v2.task/moby";
    let id = engine.id(name).map_err(|error| anyhow!(error))?;
    let config = engine.folder().join(state).join(id).join("config.json");
    let config: Value = serde_json::from_slice(&fs::read(config)?)?;
    let file = engine.folder().join("resolved.json");
    fs::write(&file, config["linux"]["seccomp"].to_string())?;
    Ok(file)
}
