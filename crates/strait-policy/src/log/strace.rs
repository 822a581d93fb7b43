//! Output of strace: of `strace -f` each call with its result, of `strace -c` counts.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, Syscall};

use super::{Log, UNKNOWN_IMAGE, counted, lines, number, outcomes};
use crate::query::registers;
use crate::recording::{self, Outcomes, Recording};
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
    recording.completeness().interrupted = trace.is_open;
    let blind = &mut recording.completeness().blind_spots;
    blind.push("strace sees nothing that happened before it attached".to_owned());
    if !trace.tells_abi {
        let spot =
            "strace says by which ABI calls came in only where it does not write into a file (-o)";
        blind.push(spot.to_owned());
    }
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
    /// There are tasks of which the end is not told.
    is_open: bool,
    /// It is told when a task's ABI changes.
    tells_abi: bool,
}

impl Trace {
    fn read(text: &str, arch: Arch) -> Trace {
        let mut attempts = Vec::new();
        let mut unreadable = 0;
        let mut reader = Reader::default();
        let mut table: Option<Table> = None;
        for (number, line, ended) in lines(text) {
            let line = line.trim();
            if line.starts_with("% time") {
                // With both the calls and their sums, the calls say more.
                if !attempts.is_empty() && table.is_none() {
                    break;
                }
                unreadable += table.replace(Table::default()).map_or(0, Table::missing);
                continue;
            }
            let found = match &mut table {
                Some(table) => table.row(line, arch),
                None => reader.line(line, arch),
            };
            match found {
                Line::Call { image, arch, nr, args, outcomes } => {
                    let (line, arguments) = (Some(number), Arguments::All);
                    attempts.push(Attempt { image, arch, nr, args, outcomes, arguments, line });
                }
                Line::Nothing if ended || is_message(line) => {}
                Line::Nothing | Line::Unreadable => unreadable += 1,
            }
        }
        let is_table = table.is_some();
        unreadable += table.map_or(0, Table::missing);
        let is_open = !reader.running.is_empty();
        let tells_abi = reader.tells_abi;
        for (image, Unfinished { arch, nr, args, .. }) in reader.never_returned() {
            let outcomes = Outcomes { count: 1, ..Outcomes::default() };
            let arguments = Arguments::All;
            attempts.push(Attempt { image, arch, nr, args, outcomes, arguments, line: None });
        }
        Trace { attempts, unreadable, is_table, is_open, tells_abi }
    }
}

/// Whether a line is a message of strace's that is there to its end.
fn is_message(line: &str) -> bool {
    let ends = [("+++ ", " +++"), ("--- ", " ---"), ("[ Process", "mode. ]")];
    line.is_empty() || ends.iter().any(|(begin, end)| line.contains(begin) && line.ends_with(end))
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

/// What is known of tasks, by pid.
#[derive(Default)]
struct Reader {
    images: BTreeMap<String, String>,
    arches: BTreeMap<String, Arch>,
    unfinished: BTreeMap<String, Unfinished>,
    /// Tasks that have made calls and not ended.
    running: BTreeSet<String>,
    /// Calls that tasks were in when they ended, and what those ran.
    cut_off: Vec<(String, Unfinished)>,
    last_image: Option<String>,
    tells_abi: bool,
}

impl Reader {
    fn image(&self, pid: &str) -> String {
        let known = self.images.get(pid).or(self.last_image.as_ref());
        known.cloned().unwrap_or_else(|| UNKNOWN_IMAGE.to_owned())
    }

    /// The calls that have no result in the log, with the images that made them.
    fn never_returned(mut self) -> Vec<(String, Unfinished)> {
        let pids: Vec<String> = self.unfinished.keys().cloned().collect();
        pids.iter().for_each(|pid| self.cut_off(pid));
        self.cut_off
    }

    /// A task does not come back from the call that it is in, if it is in one.
    fn cut_off(&mut self, pid: &str) {
        if let Some(call) = self.unfinished.remove(pid) {
            self.cut_off.push((self.image(pid), call));
        }
    }

    fn line(&mut self, line: &str, arch: Arch) -> Line {
        let (pid, rest) = split_pid(line);
        let rest = skip_time(rest);
        if let Some(message) = rest.strip_prefix("+++ ") {
            self.ended(pid, message);
            return Line::Nothing;
        }
        let message = rest.strip_prefix("strace: ").unwrap_or(rest);
        if let Some(process) = message.strip_prefix("[ Process PID=") {
            let Some((pid, mode)) = process.split_once(" runs in ") else {
                return Line::Unreadable;
            };
            let now = if mode.starts_with("32 bit") { Arch::I386 } else { arch };
            self.arches.insert(pid.to_owned(), now);
            self.tells_abi = true;
            return Line::Nothing;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            return self.resumed(pid, resumed);
        }
        let Some((name, args)) = rest.split_once('(') else { return Line::Nothing };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            // Text that a program has written between the lines has no result.
            return if split_result(args).is_some() { Line::Unreadable } else { Line::Nothing };
        }
        let arch = self.arches.get(pid).copied().unwrap_or(arch);
        let Some(nr) = number(name, arch) else { return Line::Unreadable };
        let executes = if name == "execve" { first_text(args) } else { None };
        let begun = args.strip_suffix("<unfinished ...>");
        let done = split_result(args).filter(|_| begun.is_none());
        let Some(list) = begun.or(done.map(|(list, _)| list)) else { return Line::Unreadable };
        let args = arguments(name, list.trim_end().trim_end_matches(','), arch);
        let call = Unfinished { arch, nr, args, executes };
        if !self.running.contains(pid) {
            self.running.insert(pid.to_owned());
        }
        // Who was in another call with this pid has ended, which the log does not have.
        self.cut_off(pid);
        match done {
            Some((_, result)) => self.returned(pid, call, outcomes(result)),
            None => {
                self.unfinished.insert(pid.to_owned(), call);
                Line::Nothing
            }
        }
    }

    /// `<... read resumed>"abc", 3) = 3`
    fn resumed(&mut self, pid: &str, rest: &str) -> Line {
        let Some((name, rest)) = rest.split_once(" resumed>") else { return Line::Unreadable };
        let Some((_, result)) = split_result(rest) else { return Line::Unreadable };
        match self.unfinished.remove(pid) {
            Some(call) if number(name, call.arch) == Some(call.nr) => {
                self.returned(pid, call, outcomes(result))
            }
            other => {
                self.unfinished.extend(other.map(|call| (pid.to_owned(), call)));
                Line::Unreadable
            }
        }
    }

    /// `+++ exited with 0 +++`, `+++ killed by SIGKILL +++`: who comes with this pid from now on is
    /// another. `+++ superseded by execve in pid 12 +++`: another thread takes it, by its exec.
    fn ended(&mut self, pid: &str, message: &str) {
        self.cut_off(pid);
        let by = message.strip_prefix("superseded by execve in pid ");
        if let Some(by) = by.and_then(|by| by.strip_suffix(" +++")) {
            self.running.remove(by);
            rename(&mut self.unfinished, by, pid);
            rename(&mut self.images, by, pid);
            rename(&mut self.arches, by, pid);
        } else {
            self.running.remove(pid);
            self.images.remove(pid);
            self.arches.remove(pid);
        }
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

/// What is known of one task is known of the other, which takes its place; if there is something.
fn rename<V>(known: &mut BTreeMap<String, V>, from: &str, to: &str) {
    if let Some(value) = known.remove(from) {
        known.insert(to.to_owned(), value);
    }
}

/// A table of `strace -c`, up to the row that is read.
#[derive(Default)]
struct Table {
    calls: u64,
    total: Option<u64>,
}

impl Table {
    /// A row: time, seconds, microseconds, calls, errors if any, name.
    fn row(&mut self, line: &str, arch: Arch) -> Line {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (count, errors, name) = match words.as_slice() {
            [time, _, _, count, name] if is_percentage(time) => (*count, "0", *name),
            [time, _, _, count, errors, name] if is_percentage(time) => (*count, *errors, *name),
            _ => return Line::Nothing,
        };
        if name == "total" {
            self.total = count.parse().ok();
            return Line::Nothing;
        }
        match (number(name, arch), counted(count, errors)) {
            (Some(nr), Some(outcomes)) => {
                self.calls = self.calls.saturating_add(outcomes.count);
                let image = UNKNOWN_IMAGE.to_owned();
                Line::Call { image, arch, nr, args: [None; 6], outcomes }
            }
            _ => Line::Unreadable,
        }
    }

    /// How many lines are missing at least, by the last one.
    fn missing(self) -> u64 {
        u64::from(self.total != Some(self.calls))
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

/// What stands before the parenthesis that closes a call, and the result behind that. What programs
/// chose is in quotes, or behind a descriptor, whose path `-y` puts between `<` and `>`.
fn split_result(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'<' if !quoted && at > 0 && bytes[at - 1].is_ascii_alphanumeric() => {
                let is_shift = bytes.get(at + 1) == Some(&b'<');
                let end = bytes[at..].iter().position(|&byte| byte == b'>');
                at += end.filter(|_| !is_shift).unwrap_or(0);
            }
            b')' if !quoted => {
                let result = text[at + 1..].trim_start().strip_prefix("= ");
                if let Some(result) = result {
                    return Some((&text[..at], result));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
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

/// The first text of a call's arguments, without its quotes, as a recording writes its bytes.
fn first_text(args: &str) -> Option<String> {
    let (_, after) = args.split_once('"')?;
    let mut rest = after.as_bytes();
    let mut bytes = Vec::new();
    loop {
        let (&first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some(recording::text(&bytes)),
            b'\\' => {
                let (byte, length) = escaped(rest)?;
                bytes.push(byte);
                rest = rest.get(length..)?;
            }
            byte => bytes.push(byte),
        }
    }
}

/// The byte that an escape of C stands for, and how long that is behind the backslash.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let digits = |from: usize, radix: u32, most: usize| {
        let digits = text.get(from..)?;
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let length = digits.iter().take(most).take_while(is_digit).count();
        let digits = std::str::from_utf8(digits.get(..length)?).ok()?;
        Some((u8::from_str_radix(digits, radix).ok()?, from + length))
    };
    match text.first()? {
        b'n' => Some((b'\n', 1)),
        b't' => Some((b'\t', 1)),
        b'v' => Some((0x0b, 1)),
        b'f' => Some((0x0c, 1)),
        b'r' => Some((b'\r', 1)),
        b'x' => digits(1, 16, 2),
        b'0'..=b'7' => digits(0, 8, 3),
        &other => Some((other, 1)),
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
    fn a_table_that_was_cut_is_lossy() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
 50.00    0.000010           1        10         2 openat
 50.00    0.000010           1         7           read
100.00    0.000020           1        17         2 total
";
        let is_lossy = |text: &str| import(text, Arch::X86_64, "6.18").completeness().is_lossy();
        assert!(!is_lossy(table));
        for line in table.lines().skip(1) {
            assert!(is_lossy(&table.replace(&format!("{line}\n"), "")), "{line}");
            assert!(
                is_lossy(
                    &table.replace(
                        line,
                        &line.replacen("00.00", "00.x0", 1).replacen("50.", "5x.", 1)
                    )
                ),
                "{line}"
            );
        }
        assert!(!is_lossy(&format!("{table}{table}")));
        // With -C it is below the calls, which are not counted twice.
        let both = import(&format!("getpid() = 7\n{table}"), Arch::X86_64, "6.18");
        assert_eq!(both.calls().len(), 1);
        assert!(!both.completeness().is_lossy());
    }

    /// Names that a workload gives to its files, and what it writes, are none of strace's words.
    #[test]
    fn what_a_workload_chose_says_nothing() {
        let text = r#"
7 execve("/tmp/a\nb\"\377\\\t\0071", ["x"], 0x7ffd /* 20 vars */) = 0
7 openat(AT_FDCWD</tmp/y) = -1 ENOSYS>, "x) = -1 ENOSYS <\"q", O_RDONLY) = 3</tmp/x) = -1 ENOSYS \74\"q>
7 openat(AT_FDCWD, "y) = -1 EPERM", O_RDONLY) = 4
7 capset({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, {effective=1<<CAP_CHOWN|1<<CAP_KILL}) = 0
7 write(1, "[ Process PID=7 runs in 32 bit mode. ]\n", 39) = 39
7 write(1, "+++ exited with 0 +++\n", 22) = 22
[ Process PID=8 runs in 32 bit mode. ]
8 write(1, "7 read(0, \"\", 1) = 0", 5) = 5
7 +++ exited with 0 +++
8 +++ exited with 0 +++
"#;
        let recording = import(text, Arch::X86_64, "6.18.1");
        let completeness = recording.completeness();
        assert!(!completeness.is_lossy() && !completeness.interrupted, "{completeness:?}");
        let (image, openat) = of(&recording, "openat");
        assert_eq!(image, r#"/tmp/a\x0ab"\xff\x5c\x09\x071"#);
        assert_eq!((openat.count, openat.succeeded), (2, 2));
        assert_eq!(of(&recording, "capset").1.succeeded, 1);
        let writes = |arch| {
            let calls = recording.calls().iter().filter(move |call| call.arch == arch);
            let writes = calls.filter(|call| call.nr == if arch == Arch::I386 { 4 } else { 1 });
            writes.map(|call| call.outcomes.count).sum::<u64>()
        };
        assert_eq!((writes(Arch::X86_64), writes(Arch::I386)), (2, 1));
        assert_eq!(recording.calls().len(), 5);
    }

    #[test]
    fn calls_that_never_return_are_counted_and_no_others_are_taken_for_them() {
        let text = "\
7 futex(0x7f, FUTEX_WAIT, 2, NULL <unfinished ...>
8 execve(\"/bin/b\", [], NULL <unfinished ...>
9 poll([{fd=3}], 1, -1 <unfinished ...>
9 +++ exited with 0 +++
7 +++ superseded by execve in pid 8 +++
7 <... execve resumed>) = 0
7 getpid() = 7
7 read(0,  <unfinished ...>
7 +++ killed by SIGKILL +++
7 pause( <unfinished ...>
7 +++ killed by SIGKILL +++
";
        let recording = import(text, Arch::X86_64, "6.18.1");
        let completeness = recording.completeness();
        assert!(!completeness.is_lossy() && !completeness.interrupted, "{completeness:?}");
        for name in ["futex", "poll", "read", "pause"] {
            let (_, outcomes) = of(&recording, name);
            assert_eq!((outcomes.count, outcomes.succeeded), (1, 0), "{name}");
        }
        assert_eq!(of(&recording, "execve").1.succeeded, 1);
        assert_eq!(of(&recording, "getpid").0, "/bin/b");
        let other = text.replace("<... execve resumed", "<... read resumed");
        assert!(import(&other, Arch::X86_64, "6.18").completeness().is_lossy());
        let open = import("7 getpid() = 7\n", Arch::X86_64, "6.18");
        assert!(open.completeness().interrupted && !open.completeness().is_lossy());
    }

    #[test]
    fn a_program_of_32_bits_is_told_apart() {
        let text = "strace: [ Process PID=7 runs in 32 bit mode. ]\n[pid 7] read(0, \"\", 1) = 0\n";
        let recording = import(text, Arch::X86_64, "6.18.1");
        let call = &recording.calls()[0];
        assert_eq!((call.arch, call.nr), (Arch::I386, 3));
    }
}
