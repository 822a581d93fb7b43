//! `strait inspect (--pid N | --container ID | --cgroup PATH | --all)`.

mod machine;
mod process;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use serde_json::{Value, json};
use strait_runtime::containers::{Container, Member, Origin};
use strait_runtime::inspect::{
    Alarm, Depth, InspectError, Inspector, Machine, Missed, Process, Reading, Stack, Status, Stops,
    Thread,
};
use strait_runtime::scope::Scope;

use crate::args::Inspect;
use crate::containers::{self, Chosen};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, printable};
use crate::progress::Progress;
use crate::verbs::disasm;

/// What is shown of each filter and stack.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// The instructions of filters.
    pub disasm: bool,
    /// Which calls pass.
    pub calls: bool,
}

/// Shows what the kernel enforces on each thread of a process, or of all.
pub fn run(args: &Inspect) -> Result<ExitCode, Failure> {
    let depth = if args.no_stop { Depth::Status } else { Depth::Filters };
    let mut inspector = Inspector::new(depth).with_profiles();
    let detail = Detail { disasm: args.disasm, calls: args.calls };
    let (text, status) = match args.pid {
        Some(pid) => {
            let process = inspector.inspect(pid).map_err(failure)?;
            let text = if args.json {
                format!("{:#}\n", data_of_process(&process, detail))
            } else {
                process::text(&process, detail)
            };
            (text, exit_status(std::slice::from_ref(&process)))
        }
        None => {
            let chosen = args.container.as_deref();
            let chosen = chosen.map(|name| containers::choose(name, &args.engines)).transpose()?;
            let machine = several(&mut inspector, args, chosen.as_ref())?;
            let members = chosen.as_ref().map_or(Ok(Vec::new()), Chosen::members)?;
            let container = chosen.and_then(|chosen| chosen.container);
            let text = if args.json {
                let mut data = data_of_machine(&machine, detail);
                (data.container, data.members) = (container.as_ref(), members);
                let data = serde_json::to_string_pretty(&data);
                data.map_err(Failure::refused)? + "\n"
            } else {
                let head = container.as_ref().map(|one| containers::line(one) + "\n");
                head.unwrap_or_default()
                    + &machine::text(&machine, detail)
                    + &came_in(&machine, &members)
            };
            (text, exit_status(&machine.processes))
        }
    };
    if args.json { output::print(text.as_bytes()) } else { output::print_styled(&text) }
        .map_err(Failure::refused)?;
    Ok(ExitCode::from(status))
}

/// The processes of a container or a cgroup, or all.
fn several(
    inspector: &mut Inspector,
    args: &Inspect,
    chosen: Option<&Chosen>,
) -> Result<Machine, Failure> {
    let _progress = Progress::of("reading the filters of every process");
    let scope = match (chosen, &args.cgroup, &args.unit) {
        (Some(chosen), ..) => chosen.scope.clone(),
        (_, Some(folder), _) => Scope::Cgroup(folder.clone()),
        (.., Some(unit)) => Scope::Unit(unit.clone()),
        (None, None, None) => return inspector.inspect_all().map_err(Failure::refused),
    };
    let pids = scope.processes().map_err(Failure::refused)?;
    if pids.is_empty() {
        return Err(Failure::bad_input(anyhow!("there is no process in it")));
    }
    Ok(inspector.inspect_these(pids))
}

/// The processes that came into the container later, and whether they are confined.
fn came_in(machine: &Machine, members: &[Member]) -> String {
    let later = members.iter().filter(|member| member.origin != Origin::Started);
    let line = |member: &Member| {
        let process = machine.processes.iter().find(|process| process.pid == member.pid)?;
        let (name, status) = (printable(&process.name), process.status.name());
        Some(format!("process {} ({name}), {status}: it {}\n", member.pid, member.origin.text()))
    };
    later.filter_map(line).collect()
}

/// Why a process was not inspected, with the status that tells it.
pub fn failure(error: InspectError) -> Failure {
    match error {
        InspectError::Gone { .. } | InspectError::Reused { .. } | InspectError::Thread { .. } => {
            Failure::bad_input(error)
        }
        _ => Failure::refused(error),
    }
}

/// 3 if some thread's filters could not be read, 1 if threads of a process differ, 0 otherwise.
fn exit_status(processes: &[Process]) -> u8 {
    let unread =
        |reading: &Reading| !matches!(reading, Reading::NotAsked) && reading.unknown().is_some();
    let mut threads = processes.iter().flat_map(|process| &process.threads);
    if threads.any(|thread| unread(&thread.reading)) {
        REFUSED
    } else {
        u8::from(processes.iter().any(|process| process.status == Status::ThreadsDiffer))
    }
}

fn data_of_process(process: &Process, detail: Detail) -> Value {
    let mut value = json!(process);
    value["landlock"] = LANDLOCK.into();
    value["stacks"] = process.stacks.iter().map(|stack| data_of_stack(stack, detail)).collect();
    value
}

/// Stacks stand once, by digest, and processes refer to them: thousands may have the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MachineData<'m> {
    landlock: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'m Container>,
    /// How the processes came into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member>,
    processes: Vec<ProcessData<'m>>,
    stacks: BTreeMap<&'m str, Value>,
    missed: &'m [Missed],
    stops: Stops,
}

/// A process whose stacks stand elsewhere.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessData<'m> {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_pid: Option<i32>,
    started: u64,
    name: &'m str,
    user: u32,
    status: Status,
    threads: &'m [Thread],
    /// The digests of its stacks; its threads refer to them by index.
    stacks: Vec<&'m str>,
    alarms: &'m [Alarm],
}

fn data_of_machine(machine: &Machine, detail: Detail) -> MachineData<'_> {
    let all = machine.processes.iter().flat_map(|process| &process.stacks);
    let mut stacks: BTreeMap<&str, Value> = BTreeMap::new();
    for stack in all {
        stacks.entry(&stack.sha256).or_insert_with(|| data_of_stack(stack, detail));
    }
    let processes = machine.processes.iter().map(|process| ProcessData {
        pid: process.pid.as_raw_pid(),
        inner_pid: process.inner_pid.map(|pid| pid.as_raw_pid()),
        started: process.started,
        name: &process.name,
        user: process.user,
        status: process.status,
        threads: &process.threads,
        alarms: &process.alarms,
        stacks: process.stacks.iter().map(|stack| stack.sha256.as_str()).collect(),
    });
    MachineData {
        landlock: LANDLOCK,
        container: None,
        members: Vec::new(),
        processes: processes.collect(),
        stacks,
        missed: &machine.missed,
        stops: machine.stops,
    }
}

fn data_of_stack(stack: &Stack, detail: Detail) -> Value {
    let mut value = json!(stack);
    if detail.disasm
        && let Some(shown) = value["filters"].as_array_mut()
    {
        for (filter, shown) in stack.filters.iter().zip(shown) {
            shown["listing"] = disasm::plain(&filter.program).into();
        }
    }
    value
}

/// What can be said of Landlock.
const LANDLOCK: &str = "unknown: no file of /proc shows it";
