//! What recording adds to the start of a container: `cargo xtask bench containers`.
//!
//! Detached containers of Docker and Podman in turns: by the engine's own runtime, with Strait there and
//! asked for nothing, and recorded from the first instruction. Docker gets it as a runtime, Podman as a
//! hook. Root and the engines are needed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use strait_testkit::engine::{Engine, Kind, Profile};

use super::overhead::Times;

const ROUNDS: usize = 21;
/// By which every container is recorded that the runtime starts.
const RECORD_ALL: &str = "* - record\n";

/// Prints milliseconds on the clock, and of all processors that the engine's client took.
pub(super) fn run() -> Result<()> {
    let build = ["build", "--release", "--quiet", "--package", "strait-cli"];
    crate::succeed(crate::cargo().args(build))?;
    let strait = crate::root().join("target/release/strait");
    println!("{:<36} {:>8} {:>8}  ms to start, {ROUNDS} rounds", "", "least", "median");
    for kind in [Kind::Docker, Kind::PodmanCrun, Kind::PodmanRunc] {
        let folder = std::env::temp_dir().join(format!("strait-bench-{}", std::process::id()));
        let measured = measure(kind, &folder, &strait);
        let removed = fs::remove_dir_all(&folder);
        measured.and(removed.map_err(Into::into))?;
    }
    Ok(())
}

fn measure(kind: Kind, folder: &Path, strait: &Path) -> Result<()> {
    for name in ["policies", "recordings", "hooks"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let (policies, recordings, hooks) = (path("policies"), path("recordings"), path("hooks"));
    let folders = ["--policies", &policies, "--recordings", &recordings];
    let program = folder.join("runtime");
    let words = ["oci-runtime", "--runtime", kind.runtime()];
    let words = [&words[..], &folders].concat().join(" ");
    fs::write(&program, format!("#!/bin/sh\nexec {} {words} -- \"$@\"\n", strait.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let install = ["install", "podman-hook", "--runtime", kind.runtime(), "--hooks-dir", &hooks];
    let install = [&install[..], &folders].concat();
    crate::succeed(Command::new(strait).args(install).stdout(std::process::Stdio::null()))?;

    let more = match kind {
        Kind::Docker => vec!["--add-runtime".to_owned(), format!("strait={}", program.display())],
        _ => vec![format!("hooks_dir = [{hooks:?}]\n")],
    };
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let engine = match Engine::try_start(kind, &more) {
        Ok(engine) => engine,
        Err(reason) => {
            eprintln!("SKIP {} with {}: {reason}", kind.name(), kind.runtime());
            return Ok(());
        }
    };
    // What it is, the options by which it comes, and the bindings.
    let ways: [(&str, &[&str], &str); 3] = match kind {
        Kind::Docker => [
            ("alone", &[], ""),
            ("Strait is the runtime", &["--runtime", "strait"], ""),
            ("recorded by the runtime", &["--runtime", "strait"], RECORD_ALL),
        ],
        _ => [
            ("alone", &[], ""),
            ("annotated otherwise", &["--annotation", "other=1"], ""),
            ("recorded by the hook", &["--annotation", "io.strait.record=bench.json"], ""),
        ],
    };
    let mut times: [Times; 3] = Default::default();
    for round in 0..ROUNDS {
        for (index, ((_, options, bindings), times)) in ways.iter().zip(&mut times).enumerate() {
            fs::write(folder.join("policies/bindings"), bindings)?;
            let name = format!("bench-{round}-{index}");
            let options = [&["--detach"], *options].concat();
            let command = ["/bin/sleep", "1000"];
            let mut command = engine.run_command(&name, Profile::Default, &options, &command);
            times.measure(|| {
                let start = Instant::now();
                let output = command.output()?;
                let taken = start.elapsed();
                if !output.status.success() {
                    bail!("{}", String::from_utf8_lossy(&output.stderr));
                }
                Ok(taken)
            })?;
            engine.remove(&name);
            // What a recorder has left to do is not the next container's.
            while is_recording(folder) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let medians = ways.iter().zip(times).map(|((what, ..), times)| {
        let [least, median, _] = times.summary().map(|time| time.as_secs_f64() * 1e3);
        let engine = format!("{} ({})", kind.name(), kind.runtime());
        println!("{:<36} {least:>8.1} {median:>8.1}", format!("{engine}: {what}"));
        median
    });
    match medians.collect::<Vec<_>>()[..] {
        [alone, asked_nothing, recorded] => println!(
            "{:<36} {:.2} times as long with Strait there, {:.2} recorded",
            "",
            asked_nothing / alone,
            recorded / alone
        ),
        _ => return Err(anyhow!("three ways were measured")),
    }
    Ok(())
}

/// Whether there is a recorder that writes into this folder.
fn is_recording(folder: &Path) -> bool {
    let folder = folder.as_os_str().as_encoded_bytes();
    let has = |line: &[u8], part: &[u8]| line.windows(part.len()).any(|window| window == part);
    let lines = fs::read_dir("/proc").into_iter().flatten().flatten();
    lines
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| has(&line, b"oci-recorder") && has(&line, folder))
}
