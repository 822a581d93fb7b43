//! The containers that run on this machine, of every engine, and which processes are theirs.
//!
//! Each engine is asked in the way that it documents or that holds for all its versions (see
//! docs/design/080-finding-containers.md). One container may be known to several: what Docker runs,
//! containerd and runc know too. They are one by their first process, and what stands closest to the
//! user says how it is called.

mod api;
mod conmon;
mod engine;
mod members;
mod podman;
mod state;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::thread::{self, ScopedJoinHandle};

use rustix::process::Pid;
use serde::Serialize;
use strait_kernel::task::Task;
use strait_policy::format::Runtime;

use crate::inspect::as_number;

pub use engine::{Engine, Place, Source, SourceError, Sources};
use members::Snapshot;
pub use members::{Member, Members, Origin};
pub use survey::{Confined, Surveyed, survey};

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The engine that runs it for its user.
    pub engine: Engine,
    /// Its id, as the engine has it.
    pub id: String,
    /// containerd's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The id of the user whose engine it is, where that is neither root nor who asks. The name and the id
    /// are that user's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Its names; none where the engine gives none but the id.
    pub names: Vec<String>,
    /// The pod that it belongs to, as `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The image, as the engine calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The runtime, where that is known.
    #[serde(serialize_with = "as_name", skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Its first process.
    #[serde(serialize_with = "as_number")]
    pub pid: Pid,
    /// When that was started, in clock ticks since boot: with the process id it names the container
    /// for good.
    pub started: u64,
    /// How the engines below know it, such as `containerd:moby/ID`.
    pub known_as: Vec<String>,
}

/// A container that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The engine.
    pub engine: Engine,
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// What has become of it, in the engine's word: `exited`, `created`, …
    pub state: String,
}

/// An engine that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
    /// The engine.
    pub engine: Engine,
    /// Where it was asked.
    pub place: String,
    /// What came of it.
    pub reason: String,
}

/// What the engines of a machine have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The containers that run, by engine and name.
    pub containers: Vec<Container>,
    /// Those that do not.
    pub stopped: Vec<Stopped>,
    /// The engines that could not be asked.
    pub unreachable: Vec<Unreachable>,
}

/// Why no container was chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// No engine has it.
    #[error("no engine has a container `{name}`{}", asked(.unreachable))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The engines that could not be asked.
        unreachable: Vec<Unreachable>,
    },
    /// It does not run.
    #[error("container `{name}` of {engine} does not run: it is {state}")]
    Stopped {
        /// What was asked for.
        name: String,
        /// The engine.
        engine: Engine,
        /// What has become of it.
        state: String,
    },
    /// Several could be meant.
    #[error("`{name}` may be any of {}: name one of them so", .choices.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Names that are meant by one alone.
        choices: Vec<String>,
    },
}

fn asked(unreachable: &[Unreachable]) -> String {
    if unreachable.is_empty() {
        return String::new();
    }
    let named: Vec<String> = unreachable.iter().map(ToString::to_string).collect();
    format!(", as far as they could be asked: {}", named.join("; "))
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.engine, self.place, self.reason)
    }
}

/// The processes of each of the containers with these first processes; none of one that has ended. All are
/// told from one look at the machine.
///
/// # Errors
/// If processes cannot be listed.
pub fn processes_of(first: &[Pid]) -> std::io::Result<Vec<Vec<Member>>> {
    // One that has ended is none that was started then.
    let started = |pid: Pid| Task::read(pid, pid).map_or(u64::MAX, |task| task.started);
    let members = Members::of(first.iter().map(|&pid| (pid, started(pid))));
    let snapshot = Snapshot::take()?;
    Ok(members.iter().map(|members| members.among(&snapshot)).collect())
}

/// Asks every engine for its containers, all at the same time: one that takes long delays none.
pub fn find(sources: &Sources) -> Found {
    let answers: Vec<(&Source, Result<Vec<Reported>, String>)> = thread::scope(|scope| {
        // Without room for a thread it is asked when its turn comes.
        let spawn = |source| thread::Builder::new().spawn_scoped(scope, move || ask(source)).ok();
        let asked: Vec<_> = sources.iter().map(|source| (source, spawn(source))).collect();
        let answer = |source, thread: Option<ScopedJoinHandle<'_, _>>| match thread {
            Some(thread) => thread.join().unwrap_or_else(|_| Err("asking it failed".to_owned())),
            None => ask(source),
        };
        asked.into_iter().map(|(source, thread)| (source, answer(source, thread))).collect()
    });
    let mut reports: Vec<Reported> = Vec::new();
    let mut found = Found::default();
    for (source, answer) in answers {
        match answer {
            Ok(containers) => reports.extend(containers),
            Err(reason) => found.unreachable.push(Unreachable {
                engine: source.engine,
                place: source.place.to_string(),
                reason,
            }),
        }
    }
    // Those closest to the user come first, and say how a container is called.
    reports.sort_by(|a, b| (a.engine, &a.names, &a.id).cmp(&(b.engine, &b.names, &b.id)));
    let mut by_process: BTreeMap<(i32, u64), Container> = BTreeMap::new();
    for report in reports {
        match report.state {
            State::Stopped(state) => found.stopped.push(Stopped {
                engine: report.engine,
                id: report.id,
                names: report.names,
                state,
            }),
            State::Running(pid) => {
                let Ok(task) = Task::read(pid, pid) else { continue };
                let key = (pid.as_raw_pid(), task.started);
                match by_process.get_mut(&key) {
                    Some(known) => known.add(&report),
                    None => drop(by_process.insert(key, report.container(pid, task.started))),
                }
            }
        }
    }
    found.containers = by_process.into_values().collect();
    found.containers.sort_by(|a, b| {
        (a.engine, &a.namespace, a.user, &a.names, &a.id).cmp(&(
            b.engine,
            &b.namespace,
            b.user,
            &b.names,
            &b.id,
        ))
    });
    found
}

/// What one engine reports.
fn ask(source: &Source) -> Result<Vec<Reported>, String> {
    match (source.engine, &source.place) {
        (engine @ (Engine::Docker | Engine::Podman), Place::Socket(path)) => {
            api::containers(engine, path)
        }
        (Engine::Podman, Place::Program) => podman::containers(),
        (Engine::Podman, Place::Monitors) => conmon::containers(),
        (engine, Place::Folder(path)) => state::containers(engine, path),
        (engine, place) => Err(format!("{engine} is not asked at {place}")),
    }
}

impl Found {
    /// The container that is called so: by a name, an id or its beginning, with the engine before a
    /// colon where that is to be told (`docker:web`, `containerd:NAMESPACE/ID`). Another user's is meant only
    /// with that user (`podman:1000/web`): a user can call them as they like.
    ///
    /// # Errors
    /// If there is none, it does not run, or several may be meant.
    pub fn choose(&self, name: &str) -> Result<&Container, ChooseError> {
        let called = |how: Match| -> Vec<&Container> {
            self.containers.iter().filter(|one| one.is_called(name, how)).collect()
        };
        let mut running = [Match::Whole, Match::Beginning].map(called).into_iter();
        let running = running.find(|running| !running.is_empty()).unwrap_or_default();
        match running.as_slice() {
            [one] => return Ok(one),
            [] => {}
            several => {
                let choices = several.iter().map(|one| one.full_name()).collect();
                return Err(ChooseError::Ambiguous { name: name.to_owned(), choices });
            }
        }
        let stopped = self.stopped.iter().find(|one| one.is_called(name));
        Err(match stopped {
            Some(one) => ChooseError::Stopped {
                name: name.to_owned(),
                engine: one.engine,
                state: one.state.clone(),
            },
            None => {
                let of_users = self.containers.iter().filter(|one| one.is_called_by_its_user(name));
                let choices: Vec<String> = of_users.map(Container::full_name).collect();
                let name = name.to_owned();
                match choices.is_empty() {
                    true => ChooseError::Unknown { name, unreachable: self.unreachable.clone() },
                    false => ChooseError::Ambiguous { name, choices },
                }
            }
        })
    }

    /// The processes of one of these containers; none if it is none of these.
    pub fn members(&self, container: &Container) -> Option<Members> {
        let index = self.containers.iter().position(|one| one == container)?;
        self.all_members().into_iter().nth(index)
    }

    /// The containers with the processes that each has now. All are told from one look at the machine.
    ///
    /// # Errors
    /// If processes cannot be listed.
    pub fn with_processes(&self) -> std::io::Result<Vec<(&Container, Vec<Member>)>> {
        if self.containers.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = Snapshot::take()?;
        let members = self.all_members().into_iter().map(|members| members.among(&snapshot));
        Ok(self.containers.iter().zip(members).collect())
    }

    fn all_members(&self) -> Vec<Members> {
        Members::of(self.containers.iter().map(|one| (one.pid, one.started)))
    }
}

/// How much of a name is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Whole,
    Beginning,
}

/// The engine, if one is named, and the rest.
fn parts(name: &str) -> (Option<Engine>, &str) {
    let split = name.split_once(':');
    match split.and_then(|(engine, rest)| Some((engine.parse().ok()?, rest))) {
        Some((engine, rest)) => (Some(engine), rest),
        None => (None, name),
    }
}

/// The shortest beginning of an id that names a container: fewer digits are anybody's.
const SHORTEST: usize = 4;

fn is_id(id: &str, wanted: &str, how: Match) -> bool {
    id == wanted || how == Match::Beginning && wanted.len() >= SHORTEST && id.starts_with(wanted)
}

impl Container {
    /// What it is called in output: its first name, or its id.
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.id)
    }

    /// A name that is meant by it alone: `docker:NAME`, `containerd:NAMESPACE/ID`, `podman:USER/NAME`.
    pub fn full_name(&self) -> String {
        match (&self.namespace, self.user) {
            (Some(namespace), _) => format!("{}:{namespace}/{}", self.engine, self.id),
            (None, Some(user)) => format!("{}:{user}/{}", self.engine, self.name()),
            (None, None) => format!("{}:{}", self.engine, self.name()),
        }
    }

    /// Its id, with the namespace where that tells it from others: `NAMESPACE/ID`.
    pub fn full_id(&self) -> String {
        match &self.namespace {
            Some(namespace) if self.id.len() < 64 => format!("{namespace}/{}", self.id),
            _ => self.id.clone(),
        }
    }

    fn is_called(&self, name: &str, how: Match) -> bool {
        let (engine, rest) = parts(name);
        let (namespace, rest) = match rest.split_once('/') {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, rest),
        };
        let as_known = self.known_as.iter().any(|known| is_id(known, name, how));
        let own = engine.is_none_or(|engine| engine == self.engine)
            && self.is_in(namespace)
            && (self.names.iter().any(|own| own == rest) || is_id(&self.id, rest, how));
        own || as_known
    }

    /// Whether it is meant by these words: its namespace where one is given, its user where it has one.
    fn is_in(&self, namespace: Option<&str>) -> bool {
        match self.user {
            Some(user) => namespace == Some(user.to_string().as_str()),
            None => namespace.is_none_or(|wanted| self.namespace.as_deref() == Some(wanted)),
        }
    }

    /// Whether another user's would be called so if they were our own.
    fn is_called_by_its_user(&self, name: &str) -> bool {
        let (engine, rest) = parts(name);
        let named = engine.map_or_else(String::new, |engine| format!("{engine}:"));
        self.user
            .is_some_and(|user| self.is_called(&format!("{named}{user}/{rest}"), Match::Beginning))
    }

    /// What another engine says of it.
    fn add(&mut self, report: &Reported) {
        self.runtime = self.runtime.or(report.runtime);
        self.image = self.image.take().or_else(|| report.image.clone());
        self.pod = self.pod.take().or_else(|| report.pod.clone());
        let known = match &report.namespace {
            Some(namespace) => format!("{}:{namespace}/{}", report.engine, report.id),
            None => format!("{}:{}", report.engine, report.id),
        };
        let own = BTreeSet::from([self.full_name(), format!("{}:{}", self.engine, self.id)]);
        if !self.known_as.contains(&known) && !own.contains(&known) {
            self.known_as.push(known);
        }
    }
}

impl Stopped {
    fn is_called(&self, name: &str) -> bool {
        let (engine, rest) = parts(name);
        engine.is_none_or(|engine| engine == self.engine)
            && (self.names.iter().any(|own| own == rest) || is_id(&self.id, rest, Match::Beginning))
    }
}

/// What an engine says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reported {
    engine: Engine,
    id: String,
    namespace: Option<String>,
    user: Option<u32>,
    names: Vec<String>,
    pod: Option<String>,
    image: Option<String>,
    runtime: Option<Runtime>,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running(Pid),
    Stopped(String),
}

impl Reported {
    fn new(engine: Engine, id: &str, state: State) -> Reported {
        Reported {
            engine,
            id: id.to_owned(),
            namespace: None,
            user: None,
            names: Vec::new(),
            pod: None,
            image: None,
            runtime: None,
            state,
        }
    }

    fn container(self, pid: Pid, started: u64) -> Container {
        Container {
            engine: self.engine,
            id: self.id,
            namespace: self.namespace,
            user: self.user,
            names: self.names,
            pod: self.pod,
            image: self.image,
            runtime: self.runtime,
            pid,
            started,
            known_as: Vec::new(),
        }
    }
}

/// A runtime by the name or path of its program, or of Strait's in its place.
fn runtime_of(program: &str) -> Option<Runtime> {
    let file = program.rsplit('/').next().unwrap_or(program);
    match file {
        "io.containerd.runc.v2" | "io.containerd.runc.v1" | "strait-oci" => Some(Runtime::Runc),
        _ => file.strip_prefix("strait-oci-").unwrap_or(file).parse().ok(),
    }
}

#[allow(clippy::ref_option, reason = "serde gives the field so")]
fn as_name<S: serde::Serializer>(
    runtime: &Option<Runtime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    runtime.map(Runtime::name).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(engine: Engine, id: &str, name: Option<&str>) -> Container {
        let mut report = Reported::new(engine, id, State::Running(Pid::INIT));
        report.names.extend(name.map(str::to_owned));
        report.namespace = (engine == Engine::Containerd).then(|| "default".to_owned());
        report.container(Pid::INIT, 0)
    }

    fn found() -> Found {
        let mut docker = container(Engine::Docker, "0123456789abcdef", Some("web"));
        let mut below = Reported::new(Engine::Containerd, &docker.id, State::Running(Pid::INIT));
        below.namespace = Some("moby".to_owned());
        below.runtime = Some(Runtime::Runc);
        docker.add(&below);
        Found {
            containers: vec![
                docker,
                container(Engine::Podman, "0123ffffffffffff", Some("web")),
                container(Engine::Containerd, "redis", None),
            ],
            stopped: vec![Stopped {
                engine: Engine::Podman,
                id: "aaaabbbbcccc".to_owned(),
                names: vec!["old".to_owned()],
                state: "exited".to_owned(),
            }],
            unreachable: vec![Unreachable {
                engine: Engine::Docker,
                place: "/run/docker.sock".to_owned(),
                reason: "it hangs".to_owned(),
            }],
        }
    }

    #[test]
    fn containers_are_chosen_by_name_id_and_engine() {
        let found = found();
        let chosen = |name: &str| found.choose(name).map(Container::full_name);
        assert_eq!(chosen("redis").unwrap(), "containerd:default/redis");
        for name in ["docker:web", "0123456789abcdef", "01234", "containerd:moby/0123456789abcdef"]
        {
            assert_eq!(chosen(name).unwrap(), "docker:web", "{name}");
        }
        for name in ["podman:web", "podman:0123", "0123f"] {
            assert_eq!(chosen(name).unwrap(), "podman:web", "{name}");
        }
        for name in ["containerd:default/redis", "default/redis", "containerd:redis"] {
            assert_eq!(chosen(name).unwrap(), "containerd:default/redis", "{name}");
        }
        assert_eq!(found.containers[0].runtime, Some(Runtime::Runc));
    }

    #[test]
    fn a_users_container_is_taken_for_nobody_elses() {
        let mut found = found();
        let of = |user: u32, id: &str, name: &str| Container {
            user: Some(user),
            ..container(Engine::Podman, id, Some(name))
        };
        found.containers.push(of(1000, &"0".repeat(64), "redis"));
        found.containers.push(of(1000, "0123456789abcdef", "own"));
        found.containers.push(of(1001, &"1".repeat(64), "own"));
        let chosen = |name: &str| found.choose(name).map(Container::full_name);
        assert_eq!(chosen("redis").unwrap(), "containerd:default/redis");
        assert_eq!(chosen("0123456789abcdef").unwrap(), "docker:web");
        assert_eq!(chosen("podman:web").unwrap(), "podman:web");
        for name in ["podman:1000/redis", "1000/redis", "podman:1000/00000", "1000/0000"] {
            assert_eq!(chosen(name).unwrap(), "podman:1000/redis", "{name}");
        }
        let error = |name: &str| chosen(name).unwrap_err().to_string();
        assert!(error("podman:1001/redis").contains("no engine has"));
        assert!(error("docker:own").contains("no engine has"));
        // It is said how they are called.
        for name in ["own", "podman:own"] {
            let error = error(name);
            assert!(error.contains("podman:1000/own, podman:1001/own"), "{error}");
        }
        assert!(error("podman:00000").contains("podman:1000/redis"));
        // What has ended is still what is meant.
        found.containers.push(of(1000, &"2".repeat(64), "old"));
        assert!(found.choose("old").unwrap_err().to_string().contains("exited"));
    }

    #[test]
    fn what_is_not_one_container_is_an_error_that_says_what_to_do() {
        let found = found();
        let error = |name: &str| found.choose(name).unwrap_err().to_string();
        for name in ["web", "0123"] {
            assert!(error(name).contains("docker:web, podman:web"), "{}", error(name));
        }
        assert!(error("old").contains("exited"), "{}", error("old"));
        assert!(error("docker:old").contains("no engine has"), "{}", error("docker:old"));
        // Too few digits name nobody, and an engine that was not asked may have it.
        assert!(error("012").contains("/run/docker.sock: it hangs"), "{}", error("012"));
        assert!(error("").contains("no engine has"), "{}", error(""));
    }
}
