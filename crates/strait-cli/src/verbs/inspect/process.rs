//! One process, for a person: its threads by the stack of filters that they have.

use crate::output::printable;
use std::fmt::Write as _;

use strait_kernel::task::Mode;
use strait_runtime::inspect::{
    Alarm, CAPABILITIES, Case, Process, Reading, Stack, Summary, Thread, capability_names,
};
use strait_runtime::verdict::Gate;

use super::Detail;
use crate::verbs::disasm;

/// What the kernel enforces on the process.
pub fn text(process: &Process, detail: Detail) -> String {
    let Process { pid, inner_pid, name, user, status, threads, stacks, alarms, .. } = process;
    let bold = anstyle::Style::new().bold();
    let alarm = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let name = printable(name);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{bold}process {pid}{bold:#} ({name}){}, user {user}, {}, {}",
        inner_pid.map(|pid| format!(", {pid} in its pid namespace")).unwrap_or_default(),
        match threads.len() {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        },
        status.name()
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
        write_stack(&mut out, stack, &having.collect::<Vec<_>>(), detail);
    }
    for thread in threads {
        let said = match &thread.reading {
            Reading::Read { .. } => continue,
            Reading::Ended => "has ended (a zombie)".to_owned(),
            Reading::Kernel => "of the kernel".to_owned(),
            Reading::NotAsked => match thread.filters {
                Some(count) => format!("{}, not read (--no-stop)", filters(count)),
                None => "filters, not read (--no-stop)".to_owned(),
            },
            reading => format!("filters not read: {}", reading.unknown().unwrap_or_default()),
        };
        let _ = writeln!(out, "thread {} ({}): {said}", thread.tid, printable(&thread.name));
    }
    let _ = writeln!(out, "Landlock: not known, no file of /proc shows it");
    out
}

fn filters(count: u32) -> String {
    if count == 1 { "1 filter".to_owned() } else { format!("{count} filters") }
}

fn has(thread: &Thread, index: usize) -> bool {
    matches!(thread.reading, Reading::Read { stack, .. } if stack == index)
}

fn write_stack(out: &mut String, stack: &Stack, threads: &[&Thread], detail: Detail) {
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
    let capabilities = capabilities(threads);
    if threads.iter().all(|thread| thread.mode == Mode::Disabled) {
        let _ = writeln!(out, "{who}: not confined; {privileges}; {capabilities}");
        return;
    }
    let longest = threads.iter().filter_map(|thread| match thread.reading {
        Reading::Read { stopped, .. } => Some(stopped.as_micros()),
        _ => None,
    });
    let _ = writeln!(
        out,
        "{who}: {}; {privileges}; {capabilities}; stopped for {} µs at most",
        filters(u32::try_from(stack.filters.len()).unwrap_or(u32::MAX)),
        longest.max().unwrap_or_default()
    );
    for summary in &stack.summary {
        write_summary(out, summary, detail);
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
        if let Some(known) = &filter.known {
            let _ =
                writeln!(out, "    decides as {}: {} ({})", known.name, known.detail, known.source);
        }
        if detail.disasm {
            out.push_str(&disasm::listing(&filter.program));
        }
    }
}

/// How many calls of an arch pass, and which if that is asked for.
fn write_summary(out: &mut String, summary: &Summary, detail: Detail) {
    let calls = &summary.calls;
    let by_action: Vec<String> =
        calls.denied.iter().map(|(action, names)| format!("{action} {}", names.len())).collect();
    let _ = writeln!(
        out,
        "  {}: {} calls allowed, {} by their arguments, {} denied{}",
        summary.arch,
        summary.allowed,
        summary.conditional,
        summary.denied,
        if by_action.is_empty() { String::new() } else { format!(" ({})", by_action.join(", ")) }
    );
    if !detail.calls {
        return;
    }
    write_names(out, "allowed", &calls.allowed);
    for conditional in &calls.conditional {
        let cases: Vec<String> = conditional.cases.iter().map(case).collect();
        let _ = writeln!(out, "    {}: {}", conditional.call, cases.join("; "));
    }
    for (action, names) in &calls.denied {
        write_names(out, action, names);
    }
}

fn case(case: &Case) -> String {
    match &case.when {
        Some(when) => format!("{} if {when}", case.action),
        None => format!("else {}", case.action),
    }
}

/// The names after a heading, in lines of a readable length.
fn write_names(out: &mut String, heading: &str, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let mut line = format!("    {heading}:");
    for name in names {
        if line.len() + 1 + name.len() > 98 {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(5);
        }
        line.push(' ');
        line.push_str(name);
    }
    let _ = writeln!(out, "{line}");
}

/// The capabilities that threads have in effect.
fn capabilities(threads: &[&Thread]) -> String {
    let effective = threads.iter().fold(0, |all, thread| all | thread.capabilities.effective);
    let names: Vec<&str> = capability_names(effective).collect();
    match names.len() {
        0 => "no capabilities".to_owned(),
        few if few <= 4 => names.join(" "),
        count if count == CAPABILITIES.len() => "all capabilities".to_owned(),
        count => format!("{count} capabilities"),
    }
}
