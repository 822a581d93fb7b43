//! `strait inspect --pid N`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};
use strait_kernel::task::Mode;
use strait_runtime::inspect::{
    Alarm, Depth, InspectError, Inspector, Process, Reading, Stack, Thread,
};
use strait_runtime::verdict::Gate;

use crate::args::Inspect;
use crate::failure::{Failure, REFUSED};
use crate::output;
use crate::verbs::disasm;

/// Shows what the kernel enforces on each thread of a process.
pub fn run(args: &Inspect) -> Result<ExitCode, Failure> {
    let depth = if args.no_stop { Depth::Status } else { Depth::Filters };
    let process = Inspector::new(depth).inspect(args.pid).map_err(failure)?;
    if args.json {
        output::print(format!("{:#}\n", data(&process, args.disasm)).as_bytes())
    } else {
        output::print_styled(&text(&process, args.disasm))
    }
    .map_err(Failure::refused)?;
    let unread = |thread: &Thread| matches!(thread.reading, Reading::Failed { .. });
    let unread = process.threads.iter().any(unread);
    Ok(ExitCode::from(if unread { REFUSED } else { u8::from(!process.alarms.is_empty()) }))
}

/// Why a process was not inspected, with the status that tells it.
pub fn failure(error: InspectError) -> Failure {
    match error {
        InspectError::Gone { .. } | InspectError::Thread { .. } => Failure::bad_input(error),
        _ => Failure::refused(error),
    }
}

fn data(process: &Process, disasm: bool) -> Value {
    let mut value = json!(process);
    if disasm {
        for (stack, shown) in process.stacks.iter().zip(array(&mut value["stacks"])) {
            for (filter, shown) in stack.filters.iter().zip(array(&mut shown["filters"])) {
                shown["listing"] = disasm::plain(&filter.program).into();
            }
        }
    }
    value
}

fn array(value: &mut Value) -> &mut [Value] {
    value.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}

fn text(process: &Process, disasm: bool) -> String {
    let Process { pid, name, user, threads, stacks, alarms, .. } = process;
    let bold = anstyle::Style::new().bold();
    let alarm = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{bold}process {pid}{bold:#} ({name}), user {user}, {} threads",
        threads.len()
    );
    for found in alarms {
        let said = match found {
            Alarm::ThreadsDiffer { groups } => {
                let sizes: Vec<String> =
                    groups.iter().map(|group| group.len().to_string()).collect();
                format!(
                    "its threads are confined differently, in groups of {}: what one may not do \
                     another does for it",
                    sizes.join(", ")
                )
            }
        };
        let _ = writeln!(out, "{alarm}ALARM{alarm:#} {said}");
    }
    for (index, stack) in stacks.iter().enumerate() {
        let having = threads.iter().filter(|thread| has(thread, index));
        write_stack(&mut out, stack, &having.collect::<Vec<_>>(), disasm);
    }
    for thread in threads {
        let said = match &thread.reading {
            Reading::Read { .. } => continue,
            Reading::Ended => "has ended".to_owned(),
            Reading::NotAsked => match thread.filters {
                Some(count) => format!("{count} filters, not read (--no-stop)"),
                None => "filters, not read (--no-stop)".to_owned(),
            },
            Reading::Failed { reason } => format!("filters not read: {reason}"),
        };
        let _ = writeln!(out, "thread {} ({}): {said}", thread.tid, thread.name);
    }
    out
}

fn has(thread: &Thread, index: usize) -> bool {
    matches!(thread.reading, Reading::Read { stack, .. } if stack == index)
}

fn write_stack(out: &mut String, stack: &Stack, threads: &[&Thread], disasm: bool) {
    let who = match threads {
        [one] => format!("thread {}", one.tid),
        [first, .., last] => {
            format!("{} threads, {} to {}", threads.len(), first.tid, last.tid)
        }
        [] => return,
    };
    let privileges = if threads.iter().all(|thread| thread.no_new_privs) {
        "no_new_privs"
    } else {
        "exec can give privileges"
    };
    if threads.iter().all(|thread| thread.mode == Mode::Disabled) {
        let _ = writeln!(out, "{who}: not confined; {privileges}");
        return;
    }
    let longest = threads.iter().filter_map(|thread| match thread.reading {
        Reading::Read { stopped, .. } => Some(stopped.as_micros()),
        _ => None,
    });
    let _ = writeln!(
        out,
        "{who}: {} filters; {privileges}; stopped for {} µs at most",
        stack.filters.len(),
        longest.max().unwrap_or_default()
    );
    for summary in &stack.summary {
        let _ = writeln!(
            out,
            "  {}: {} calls allowed, {} by their arguments, {} denied",
            summary.arch, summary.allowed, summary.conditional, summary.denied
        );
    }
    if stack.summary.is_empty() && stack.undecided.is_none() {
        let _ = writeln!(out, "  no call passes");
    }
    if let Some(reason) = &stack.undecided {
        let _ = writeln!(out, "  what they decide is not known: {reason}");
    }
    match &stack.gate {
        Some(Gate::Closed) => {
            let _ = writeln!(out, "  with Strait's exec gate, closed");
        }
        Some(Gate::Unknown { .. }) => {
            let _ = writeln!(out, "  with Strait's exec gate; whether it is closed is not known");
        }
        None => {}
    }
    for (index, filter) in stack.filters.iter().enumerate() {
        let digest = &filter.sha256[..filter.sha256.len().min(16)];
        let _ = writeln!(
            out,
            "  filter {index}: {} instructions, sha256 {digest}…",
            filter.instructions
        );
        if disasm {
            out.push_str(&disasm::listing(&filter.program));
        }
    }
}
