//! Podman's containers, by its program: it has no daemon, and its database changes from release to
//! release (`podman ps --all --format json`).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde::Deserialize;

use super::api::{LIMIT, PATIENCE, parse};
use super::{Engine, Reported, State};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    pod_name: String,
    #[serde(default)]
    state: String,
}

/// Podman's containers.
pub(super) fn containers() -> Result<Vec<Reported>, String> {
    let text = output(Command::new("podman").args(["ps", "--all", "--format", "json"]))?;
    let listed: Option<Vec<Listed>> = parse(&text)?;
    let report = |one: Listed| {
        let running = matches!(one.state.as_str(), "running" | "paused");
        let pid = Pid::from_raw(one.pid).filter(|pid| running && pid.as_raw_pid() > 0);
        let state = pid.map_or(State::Stopped(one.state), State::Running);
        let mut report = Reported::new(Engine::Podman, &one.id, state);
        report.names = one.names.unwrap_or_default();
        report.pod = Some(one.pod_name).filter(|pod| !pod.is_empty());
        report.image = Some(one.image).filter(|image| !image.is_empty());
        report
    };
    Ok(listed.unwrap_or_default().into_iter().map(report).collect())
}

/// What a program writes, if it ends in time and well.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + PATIENCE * 2;
    let spawned =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "its program is not installed".to_owned(),
        _ => error.to_string(),
    })?;
    let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut open: Vec<(File, Vec<u8>, bool)> =
        streams.into_iter().flatten().map(|fd| (File::from(fd), Vec::new(), true)).collect();
    let result = read_all(&mut open, deadline);
    if result.is_err() {
        // One that hangs is not left behind; it may have ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    result?;
    let mut texts = open.into_iter().map(|(_, text, _)| text);
    let (stdout, stderr) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    if status.success() {
        return Ok(stdout);
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(said.trim().lines().last().unwrap_or("it failed").to_owned())
}

/// Reads these to their ends.
fn read_all(open: &mut [(File, Vec<u8>, bool)], deadline: Instant) -> Result<(), String> {
    let mut buffer = vec![0; 1 << 16];
    while open.iter().any(|(.., is_open)| *is_open) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {} s", (PATIENCE * 2).as_secs()));
        }
        let waiting = open.iter().filter(|(.., is_open)| *is_open);
        let mut fds: Vec<PollFd<'_>> =
            waiting.map(|(file, ..)| PollFd::new(file, PollFlags::IN)).collect();
        let left = Timespec::try_from(left).map_err(|error| error.to_string())?;
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let waiting = open.iter_mut().filter(|(.., is_open)| *is_open);
        for ((file, text, is_open), _) in waiting.zip(ready).filter(|(_, ready)| *ready) {
            let count = file.read(&mut buffer).map_err(|error| error.to_string())?;
            text.extend(buffer.iter().take(count));
            *is_open = count > 0;
            if u64::try_from(text.len()).unwrap_or(u64::MAX) > LIMIT {
                return Err("its answer is too long".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_whole_or_its_last_words_are_told() {
        let sh = |script: &str| output(Command::new("sh").args(["-c", script]));
        let long = sh("head -c 300000 /dev/zero; echo done >&2").unwrap();
        assert_eq!(long.len(), 300_000);
        assert_eq!(sh("echo no; echo why >&2; exit 3"), Err("why".to_owned()));
        assert_eq!(sh("exit 3"), Err("it failed".to_owned()));
        let none = output(&mut Command::new("/no/such/program"));
        assert_eq!(none, Err("its program is not installed".to_owned()));
    }
}
