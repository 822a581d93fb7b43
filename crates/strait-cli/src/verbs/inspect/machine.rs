//! Every process, for a person: a line for those that are confined alike and named alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use strait_runtime::inspect::{Machine, Process, Status, capability_names};

use super::{Detail, process};
use crate::output;

/// The table, then what was not seen.
pub fn text(machine: &Machine, detail: Detail) -> String {
    let headings =
        ["PID", "USER", "NAME", "THREADS", "STATUS", "FILTERS", "NNP", "CAPS", "CALLS", "KNOWN AS"];
    let rows = machine.processes.iter().filter(|process| process.status != Status::Kernel).map(row);
    let mut out = format!("{}\n", output::table(&headings, rows));
    let count = |status: Status| {
        machine.processes.iter().filter(|process| process.status == status).count()
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for process in &machine.processes {
        *counts.entry(process.status.name()).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(out, "{} processes: {}", machine.processes.len(), counts.join(", "));
    if count(Status::Kernel) > 0 {
        let _ = writeln!(out, "threads of the kernel are counted and not listed");
    }
    for missed in &machine.missed {
        let _ = writeln!(out, "{}: {}: {}", missed.pid, missed.status.name(), missed.reason);
    }
    let stops = machine.stops;
    let _ = writeln!(
        out,
        "stopped {} threads to read their filters: {} µs at the median, {} µs at most",
        stops.threads, stops.median_microseconds, stops.longest_microseconds
    );
    let _ = writeln!(out, "Landlock: not known, no file of /proc shows it");
    if detail.disasm || detail.calls {
        for found in &machine.processes {
            let _ = write!(out, "\n{}", process::text(found, detail));
        }
    }
    out
}

fn row(process: &Process) -> Vec<String> {
    let main = process.threads.first();
    let stack = main.and_then(|thread| process.stack_of(thread));
    let calls = stack.map_or_else(String::new, |stack| {
        let summaries = stack.summary.iter().filter(|_| !stack.filters.is_empty());
        let counts =
            summaries.map(|one| format!("{} {}+{}", one.arch, one.allowed, one.conditional));
        counts.collect::<Vec<_>>().join(" ")
    });
    let mut known: Vec<&str> = stack.map_or_else(Vec::new, |stack| {
        let filters = stack.filters.iter();
        filters.filter_map(|filter| Some(filter.known.as_ref()?.name.as_str())).collect()
    });
    known.dedup();
    let effective = main.map_or(0, |thread| thread.capabilities.effective);
    vec![
        process.pid.to_string(),
        process.user.to_string(),
        process.name.clone(),
        process.threads.len().to_string(),
        process.status.name().to_owned(),
        main.and_then(|thread| thread.filters).map_or_else(String::new, |count| count.to_string()),
        main.map_or("", |thread| if thread.no_new_privs { "yes" } else { "no" }).to_owned(),
        capability_names(effective).count().to_string(),
        calls,
        known.join(", "),
    ]
}
