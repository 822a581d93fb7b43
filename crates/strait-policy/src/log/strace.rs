//! Output of strace: of `strace -f` each call with its result, of `strace -c` counts.

use std::collections::BTreeMap;

use strait_abi::{Arch, Syscall};

use super::{Log, UNKNOWN_IMAGE, counted, number, result};
use crate::query::registers;
use crate::recording::{Outcomes, Recording};
use crate::replay::{Arguments, Attempt};

/// The recording that strace's output is.
///
/// `arch` is the ABI of the program unless strace says that it switches, `kernel` the release on
/// which it ran: strace prints neither.
pub fn import(text: &str, arch: Arch, kernel: &str) -> Recording {
    let mut recording = Log::Strace.recording(kernel);
    let trace = Trace::read(text, arch);
    for Attempt { image, arch, nr, outcomes, .. } in &trace.attempts {
        recording.call(image, *arch, *nr, outcomes);
    }
    Log::Strace.unreadable(&mut recording, trace.unreadable);
    let blind = &mut recording.completeness().blind_spots;
    blind.push("strace sees nothing that happened before it attached".to_owned());
    if trace.is_table {
        blind.push("a table of strace -c has no program files and no kinds of errors".to_owned());
    }
    recording.build()
}

/// The calls in strace's output one by one, with the arguments that a filter sees as far as they
/// can be read, and how many lines look like calls and are none.
pub fn attempts(text: &str, arch: Arch) -> (Vec<Attempt>, u64) {
    let trace = Trace::read(text, arch);
    (trace.attempts, trace.unreadable)
}

pub(super) fn recognises(text: &str) -> bool {
    let mut reader = Reader::default();
    text.lines().any(|line| {
        let line = line.trim();
        line.starts_with("% time")
            || matches!(reader.line(line, Arch::X86_64), Line::Call { .. })
            || line.ends_with("<unfinished ...>")
    })
}

struct Trace {
    attempts: Vec<Attempt>,
    unreadable: u64,
    is_table: bool,
}

impl Trace {
    fn read(text: &str, arch: Arch) -> Trace {
        let mut trace = Trace { attempts: Vec::new(), unreadable: 0, is_table: false };
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with("% time") {
                trace.is_table = true;
                continue;
            }
            let found =
                if trace.is_table { table_row(line, arch) } else { reader.line(line, arch) };
            match found {
                Line::Call { image, arch, nr, args, outcomes } => {
                    let line = Some(index + 1);
                    let arguments = Arguments::All;
                    let attempt = Attempt { image, arch, nr, args, outcomes, arguments, line };
                    trace.attempts.push(attempt);
                }
                Line::Nothing => {}
                Line::Unreadable => trace.unreadable += 1,
            }
        }
        for (pid, Unfinished { arch, nr, args, .. }) in std::mem::take(&mut reader.unfinished) {
            let outcomes = Outcomes { count: 1, ..Outcomes::default() };
            let image = reader.image(&pid);
            let arguments = Arguments::All;
            let attempt = Attempt { image, arch, nr, args, outcomes, arguments, line: None };
            trace.attempts.push(attempt);
        }
        trace
    }
}

type Args = [Option<u64>; 6];

/// A call whose result has not come yet.
struct Unfinished {
    arch: Arch,
    nr: u32,
    args: Args,
    /// The program file that it executes.
    executes: Option<String>,
}

enum Line {
    Call { image: String, arch: Arch, nr: u32, args: Args, outcomes: Outcomes },
    Nothing,
    Unreadable,
}

#[derive(Default)]
struct Reader {
    images: BTreeMap<String, String>,
    arches: BTreeMap<String, Arch>,
    /// By pid.
    unfinished: BTreeMap<String, Unfinished>,
    last_image: Option<String>,
}

impl Reader {
    fn image(&self, pid: &str) -> String {
        let known = self.images.get(pid).or(self.last_image.as_ref());
        known.cloned().unwrap_or_else(|| UNKNOWN_IMAGE.to_owned())
    }

    fn line(&mut self, line: &str, arch: Arch) -> Line {
        let (pid, rest) = split_pid(line);
        let rest = skip_time(rest);
        if let Some((_, mode)) = rest.split_once("runs in ") {
            let native = if mode.contains("32 bit") { Arch::I386 } else { arch };
            let pid = rest.split_once("PID=").map_or(pid, |(_, after)| {
                after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or(pid)
            });
            self.arches.insert(pid.to_owned(), native);
            return Line::Nothing;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(call) = self.unfinished.remove(pid) else { return Line::Unreadable };
            return self.returned(pid, call, result(resumed));
        }
        let Some((name, args)) = rest.split_once('(') else { return Line::Nothing };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Line::Nothing;
        }
        let arch = self.arches.get(pid).copied().unwrap_or(arch);
        let Some(nr) = number(name, arch) else { return Line::Unreadable };
        let executes = if name == "execve" { first_text(args) } else { None };
        if let Some(begun) = args.strip_suffix("<unfinished ...>") {
            let args = arguments(name, begun.trim_end().trim_end_matches(','), arch);
            self.unfinished.insert(pid.to_owned(), Unfinished { arch, nr, args, executes });
            return Line::Nothing;
        }
        let registers = arguments(name, before_result(args), arch);
        self.returned(pid, Unfinished { arch, nr, args: registers, executes }, result(args))
    }

    /// A call with its result. That of an exec is still made by the old program, and what follows by
    /// the new one.
    fn returned(&mut self, pid: &str, call: Unfinished, outcomes: Option<Outcomes>) -> Line {
        let Some(outcomes) = outcomes else { return Line::Unreadable };
        let Unfinished { arch, nr, args, executes } = call;
        let mut image = self.image(pid);
        if let Some(path) = executes.filter(|_| outcomes.errnos.is_empty()) {
            if image == UNKNOWN_IMAGE {
                image.clone_from(&path);
            }
            self.images.insert(pid.to_owned(), path.clone());
            self.last_image = Some(path);
        }
        Line::Call { image, arch, nr, args, outcomes }
    }
}

/// The registers of a call, as far as they can be read from what strace prints between the
/// parentheses: it leaves out what the call does not take.
fn arguments(name: &str, list: &str, arch: Arch) -> Args {
    let mut list = list.to_owned();
    while let Some(start) = list.find("/*")
        && let Some(length) = list[start..].find("*/")
    {
        list.replace_range(start..start + length + 2, "");
    }
    Syscall::from_name(name).map_or([None; 6], |call| registers(call, &list, arch))
}

/// What stands before the parenthesis that the result follows.
fn before_result(args: &str) -> &str {
    let list = args.rsplit_once(" = ").map_or(args, |(list, _)| list).trim_end();
    list.strip_suffix(')').unwrap_or(list)
}

/// `[pid 12] rest` or `12 rest`, as `-f` prints them; no pid is one of its own.
fn split_pid(line: &str) -> (&str, &str) {
    if let Some(after) = line.strip_prefix("[pid") {
        return after.split_once(']').map_or(("", line), |(pid, rest)| (pid.trim(), rest.trim()));
    }
    match line.split_once(char::is_whitespace) {
        Some((pid, rest)) if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => {
            (pid, rest.trim_start())
        }
        _ => ("", line),
    }
}

/// Without the time that `-t`, `-tt`, `-ttt` and `-r` print first.
fn skip_time(rest: &str) -> &str {
    match rest.split_once(char::is_whitespace) {
        Some((time, after))
            if time.starts_with(|c: char| c.is_ascii_digit())
                && time.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.') =>
        {
            after.trim_start()
        }
        _ => rest,
    }
}

/// The first text of a call's arguments, without its quotes.
fn first_text(args: &str) -> Option<String> {
    let (_, after) = args.split_once('"')?;
    after.split_once('"').map(|(text, _)| text.to_owned())
}

/// A row of `strace -c`: time, seconds, microseconds, calls, errors if any, name.
fn table_row(line: &str, arch: Arch) -> Line {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (count, errors, name) = match words.as_slice() {
        [time, _, _, count, name] if is_percentage(time) => (*count, "0", *name),
        [time, _, _, count, errors, name] if is_percentage(time) => (*count, *errors, *name),
        _ => return Line::Nothing,
    };
    if name == "total" {
        return Line::Nothing;
    }
    match (number(name, arch), counted(count, errors)) {
        (Some(nr), Some(outcomes)) => {
            let image = UNKNOWN_IMAGE.to_owned();
            Line::Call { image, arch, nr, args: [None; 6], outcomes }
        }
        _ => Line::Unreadable,
    }
}

fn is_percentage(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(recording: &'a Recording, name: &str) -> (&'a str, &'a Outcomes) {
        let nr = Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        let call = recording.calls().iter().find(|call| call.nr == nr).unwrap();
        (&recording.images()[call.image].path, &call.outcomes)
    }

    #[test]
    fn lines_of_several_tasks_are_put_together() {
        let text = r#"
execve("/bin/sh", ["sh", "-c", "a (b) = c"], 0x7ffd /* 20 vars */) = 0
brk(NULL)                               = 0x5581
openat(AT_FDCWD, "/etc/ld = x", O_RDONLY|O_CLOEXEC) = 3
[pid   12] 10:11:12.345 read(3,  <unfinished ...>
[pid   13] openat(AT_FDCWD, "/x", O_RDONLY) = -1 ENOENT (No such file or directory)
[pid   12] <... read resumed>"abc", 3)   = 3
[pid   13] --- SIGCHLD {si_signo=SIGCHLD} ---
[pid   13] exit_group(0)                = ?
[pid   13] +++ exited with 0 +++
rseq(0x7f, 0x20, 0, 0x53053053)         = -1 ENOSYS (Function not implemented)
syscall_0x270f(0, 0)                    = -1 ENOSYS (Function not implemented)
poll([{fd=3}], 1, -1 <unfinished ...>
"#;
        let recording = import(text, Arch::X86_64, "6.18.1");
        assert!(!recording.completeness().is_lossy());
        let (image, openat) = of(&recording, "openat");
        assert_eq!((image, openat.count, openat.succeeded), ("/bin/sh", 2, 1));
        assert_eq!(openat.errnos, [(2, 1)].into());
        assert_eq!(of(&recording, "read").1.succeeded, 1);
        assert_eq!(of(&recording, "exit_group").1.succeeded, 0);
        assert_eq!(of(&recording, "rseq").1.errnos, [(38, 1)].into());
        assert_eq!(of(&recording, "poll").1.count, 1);
        assert!(recording.calls().iter().any(|call| call.nr == 9999));
    }

    #[test]
    fn a_table_is_read_and_what_is_unreadable_is_lost() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000010           1        10         2 openat
 50.00    0.000010           1         7           read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000020           1        17         2 total
";
        let recording = import(text, Arch::X86_64, "6.18.1");
        assert_eq!(of(&recording, "openat").1.succeeded, 8);
        assert_eq!(of(&recording, "read").1.count, 7);
        assert!(!recording.completeness().is_lossy());
        let lossy = import("setsidaccept4(1) = 0\n", Arch::X86_64, "6.18.1");
        assert!(lossy.completeness().is_lossy());
    }

    #[test]
    fn a_program_of_32_bits_is_told_apart() {
        let text = "strace: [ Process PID=7 runs in 32 bit mode. ]\n[pid 7] read(0, \"\", 1) = 0\n";
        let recording = import(text, Arch::X86_64, "6.18.1");
        let call = &recording.calls()[0];
        assert_eq!((call.arch, call.nr), (Arch::I386, 3));
    }
}
