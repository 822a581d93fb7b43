//! Containers by the folders where containerd, runc and crun keep what runs.
//!
//! - containerd: `STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/` with `init.pid`, `config.json` and
//!   `options.json` (the bundle that its shims are given, from 1.2 on);
//! - runc: `ROOT/ID/state.json` (`libcontainer.State`);
//! - crun: `ROOT/ID/status`.
//!
//! The last two say when the first process was started, so that another with its number is not taken
//! for it. Of containerd's it is asked whether it is apart from us.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;
use serde_json::Value;
use strait_kernel::task::Task;
use strait_policy::format::Runtime;

use super::{Engine, Reported, State, members, runtime_of};
use crate::oci::spec::Spec;

/// The containers whose state is in a folder.
pub(super) fn containers(engine: Engine, folder: &Path) -> Result<Vec<Reported>, String> {
    let listed = match engine {
        Engine::Containerd => containerd(folder),
        Engine::Crun | Engine::Runc => runtime(engine, folder),
        Engine::Docker | Engine::Podman => Err(io::ErrorKind::Unsupported.into()),
    };
    listed.map_err(|error| error.to_string())
}

fn containerd(folder: &Path) -> io::Result<Vec<Reported>> {
    let tasks = folder.join("io.containerd.runtime.v2.task");
    let mut reports = Vec::new();
    if !tasks.exists() {
        // It has run nothing yet, or it is no folder of containerd's, which is worth knowing.
        fs::read_dir(folder)?;
        return Ok(reports);
    }
    for (namespace, path) in entries(&tasks)? {
        for (id, bundle) in entries(&path)? {
            let pid = text(&bundle.join("init.pid"));
            // Without it is being made, or removed.
            let Some(pid) = pid.and_then(|text| process(text.trim().parse().ok()?)) else {
                continue;
            };
            let state = if members::is_apart(pid) {
                State::Running(pid)
            } else {
                State::Stopped("exited".to_owned())
            };
            let mut report = Reported::new(Engine::Containerd, &id, state);
            report.namespace = Some(namespace.clone());
            let options = json(&bundle.join("options.json"));
            let program = options["binary_name"].as_str().or(options["BinaryName"].as_str());
            report.runtime = match program.filter(|program| !program.is_empty()) {
                Some(program) => runtime_of(program),
                None => Some(Runtime::Runc),
            };
            if let Ok(Some(spec)) = Spec::read(&bundle.join("config.json")) {
                describe(&mut report, &spec);
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// What the CRI plugin says in annotations.
fn describe(report: &mut Reported, spec: &Spec) {
    let called = spec.called().unwrap_or_default();
    report.names.extend(called.name);
    report.image = called.image;
    if called.pod.is_some() {
        let kind = spec.annotation("io.kubernetes.cri.container-type").ok().flatten();
        if kind == Some("sandbox") {
            report.names.push("pause".to_owned());
        }
        report.pod = called.pod;
    }
}

fn runtime(engine: Engine, root: &Path) -> io::Result<Vec<Reported>> {
    let mut reports = Vec::new();
    for (id, path) in entries(root)? {
        let (file, pid, started, runtime) = match engine {
            Engine::Crun => ("status", "pid", "process-start-time", Runtime::Crun),
            _ => ("state.json", "init_process_pid", "init_process_start", Runtime::Runc),
        };
        let status = json(&path.join(file));
        let Some(pid) = status[pid].as_i64() else { continue };
        let started = status[started].as_u64();
        // Another may have its number by now.
        let pid = i32::try_from(pid).ok().and_then(process).filter(|&pid| {
            let task = Task::read(pid, pid).ok().filter(|task| !task.is_zombie());
            task.is_some_and(|task| started.is_none_or(|started| started == task.started))
        });
        let state = pid.map_or(State::Stopped("stopped".to_owned()), State::Running);
        let mut report = Reported::new(engine, &id, state);
        report.runtime = Some(runtime);
        reports.push(report);
    }
    Ok(reports)
}

/// The names and paths of what is in a folder, in order.
fn entries(folder: &Path) -> io::Result<Vec<(String, std::path::PathBuf)>> {
    let mut entries: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(_, path)| path.is_dir())
        .collect();
    entries.sort();
    Ok(entries)
}

/// A process of this number, if there is one.
fn process(number: i32) -> Option<Pid> {
    Pid::from_raw(number).filter(|&pid| number > 0 && Task::read(pid, pid).is_ok())
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A file of JSON; nothing where it is none, or half written.
fn json(path: &Path) -> Value {
    text(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_has_by_now_is_no_container() {
        let dir = tempfile::tempdir().unwrap();
        let own = rustix::process::getpid();
        let started = Task::read(own, own).unwrap().started;
        for (id, started) in [("one", started), ("reused", started + 1)] {
            let folder = dir.path().join(id);
            fs::create_dir(&folder).unwrap();
            let state = format!(
                "{{\"id\":\"{id}\",\"init_process_pid\":{own},\"init_process_start\":{started}}}"
            );
            fs::write(folder.join("state.json"), state).unwrap();
        }
        // One that is being written.
        fs::create_dir(dir.path().join("half")).unwrap();
        fs::write(dir.path().join("half/state.json"), "{\"id\":").unwrap();
        let reports = containers(Engine::Runc, dir.path()).unwrap();
        let states: Vec<(&str, &State)> =
            reports.iter().map(|report| (report.id.as_str(), &report.state)).collect();
        let stopped = State::Stopped("stopped".to_owned());
        assert_eq!(states, [("one", &State::Running(own)), ("reused", &stopped)]);
        assert!(containers(Engine::Runc, Path::new("/no/such/folder")).is_err());
        assert_eq!(containers(Engine::Containerd, dir.path()), Ok(Vec::new()));
    }

    #[test]
    fn what_kubernetes_calls_a_container_is_in_its_annotations() {
        let mut report = Reported::new(Engine::Containerd, "abc", State::Stopped(String::new()));
        let spec = serde_json::json!({"annotations": {
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.image-name": "docker.io/library/nginx:1",
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
        }});
        describe(&mut report, &Spec::parse(spec.to_string().as_bytes()).unwrap());
        assert_eq!(
            (&report.names[..], report.pod.as_deref()),
            (&["web".to_owned()][..], Some("shop/web-0"))
        );
        assert_eq!(report.image.as_deref(), Some("docker.io/library/nginx:1"));
    }
}
