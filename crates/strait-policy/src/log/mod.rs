//! Logs of other tools, as recordings.
//!
//! Lines that are no calls (signals, exits, messages) are passed over; what looks like a call and
//! cannot be understood is counted as lost, so that a policy is not made of it unawares. What a
//! tool cannot see, or does not write down, is among the recording's blind spots. A last line without a
//! line break may be a part of one, and so counts as lost unless it is whole all the same.

mod audit;
mod perf;
pub mod strace;

use strait_abi::{Arch, Syscall};

use crate::errno::errno_number;
use crate::recording::{Engine, Outcomes, Recording, RecordingBuilder};

/// A tool that logs calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Log {
    /// `strace`, and its table of `-c`.
    Strace,
    /// `perf trace`, and its tables of `-s`.
    PerfTrace,
    /// Records of the kernel's audit: type SECCOMP (1326) and SYSCALL (1300), from auditd's log,
    /// `ausearch`, or the kernel's own log.
    Audit,
}

impl Log {
    /// Every tool.
    pub const ALL: &[Log] = &[Log::Audit, Log::PerfTrace, Log::Strace];

    /// The tool that a text looks like the output of.
    pub fn detect(text: &str) -> Option<Log> {
        let recognises = |log: &&Log| match log {
            Log::Audit => audit::recognises(text),
            Log::PerfTrace => perf::recognises(text),
            Log::Strace => strace::recognises(text),
        };
        Log::ALL.iter().find(recognises).copied()
    }

    /// The name of the tool.
    pub const fn name(self) -> &'static str {
        match self {
            Log::Strace => "strace",
            Log::PerfTrace => "perf trace",
            Log::Audit => "audit",
        }
    }

    /// The recording that the tool's output is.
    ///
    /// `arch` is the ABI of the program where the tool does not say it, `kernel` the release on
    /// which it ran, which no tool says.
    pub fn import(self, text: &str, arch: Arch, kernel: &str) -> Recording {
        match self {
            Log::Strace => strace::import(text, arch, kernel),
            Log::PerfTrace => perf::import(text, arch, kernel),
            Log::Audit => audit::import(text, kernel),
        }
    }

    fn recording(self, kernel: &str) -> RecordingBuilder {
        let reason = format!("imported from the output of {}", self.name());
        Recording::builder(Engine { name: self.name().into(), reason }, kernel)
    }

    /// Says how many lines looked like calls and were none.
    fn unreadable(self, recording: &mut RecordingBuilder, lines: u64) {
        recording.lost(format!("lines of {} that could not be read", self.name()), lines);
    }
}

/// The image of calls of which the program file is not known.
const UNKNOWN_IMAGE: &str = "(unknown)";

/// The number of a call by its name, or by that which tools make up for one that they do not know.
fn number(name: &str, arch: Arch) -> Option<u32> {
    if let Some(hex) = name.strip_prefix("syscall_0x") {
        // The kernel has 32 bits of it, which strace extends by their sign.
        let number = u64::from_str_radix(hex, 16).ok()?;
        return u32::try_from(number)
            .or_else(|_| number.cast_signed().try_into().map(i32::cast_unsigned))
            .ok();
    }
    Syscall::from_name(name)?.number(arch)
}

/// The lines of a text with their numbers from 1, and whether each ends as a line does.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let ended = |line: &str| line.ends_with('\n');
    let lines = text.split_inclusive('\n').enumerate();
    lines.map(move |(index, line)| (index + 1, line.trim_end_matches(['\n', '\r']), ended(line)))
}

/// What came of a call, as it stands behind ` = `.
fn outcomes(result: &str) -> Option<Outcomes> {
    let mut words = result.split_whitespace();
    let value = words.next()?;
    let mut outcomes = Outcomes { count: 1, ..Outcomes::default() };
    match (value, words.next()) {
        // A failure of which the kind is not there is no success.
        ("?", _) | ("-1", None) => {}
        ("-1", Some(name)) if name.starts_with('E') => {
            outcomes.errnos.insert(errno_number(name)?, 1);
        }
        _ if !value.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()) => {
            return None;
        }
        _ => outcomes.succeeded = 1,
    }
    Some(outcomes)
}

/// A row of a table of counts.
fn counted(count: &str, errors: &str) -> Option<Outcomes> {
    let (count, errors): (u64, u64) = (count.parse().ok()?, errors.parse().ok()?);
    Some(Outcomes { count, succeeded: count.saturating_sub(errors), ..Outcomes::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const STRACE: &str = "\
12 execve(\"/bin/sh\", [\"sh\", \"-c\", \"a (b) = c\"], 0x7ffd /* 20 vars */) = 0
12 openat(AT_FDCWD, \"/x = -1 ENOSYS\", O_RDONLY) = -1 ENOENT (No such file or directory)
12 read(3,  <unfinished ...>
13 faccessat2(AT_FDCWD, \"/\", R_OK, 0) = -1 EACCES (Permission denied)
12 <... read resumed>\"a) = -1 ENOSYS\", 3)   = 3
13 exit_group(0) = ?
13 +++ exited with 0 +++
12 poll([{fd=3}], 1, -1 <unfinished ...>
12 +++ killed by SIGKILL +++
";

    const PERF: &str = "
         ? (         ): sh/23109  ... [continued]: execve())                        = 0
    18.741 (         ): my sh/x/23109 newfstatat(dfd: CWD, filename: 0x7727fb38) ...
    18.800 ( 0.010 ms): sleep/23110 openat(dfd: 4</a = (b): >, flags: RDONLY)     = 34
    18.741 ( 4.005 ms): sh/23109  ... [continued]: newfstatat())                    = -1 ENOENT (No such file)
    18.900 ( 0.010 ms): sh/23110 read(fd: 34)                                       = 1
";

    const AUDIT: &str = "\
type=SECCOMP msg=audit(1700000000.101:41): auid=0 pid=7 comm=\"a\" exe=\"/usr/bin/a\" sig=31 arch=c000003e syscall=257 compat=0 ip=0x7f00 code=0x80000000
[   12.345678] audit: type=1326 audit(1700000000.102:42): pid=8 comm=\"x\" exe=\"/x\" sig=0 arch=40000003 syscall=102 compat=1 ip=0xf7 code=0x7ffc0000
type=SYSCALL msg=audit(1700000000.103:43): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c ppid=1 pid=9 comm=\"cat\" exe=\"/usr/bin/cat\" key=\"k\"
type=SECCOMP msg=audit(1700000000.104:44): comm=\"a\" exe=\"/usr/bin/a\" sig=0 arch=c000003e syscall=41 compat=0 ip=0x7f00 code=0x50016
type=SECCOMP msg=audit(1700000000.105:45): comm=\"a\" exe=\"/usr/bin/a\" sig=0 arch=c000003e syscall=42 compat=0 ip=0x7f00 code=0x0
";

    type Counts = BTreeMap<(Arch, u32), Outcomes>;

    fn counts(log: Log, text: &str) -> (Counts, bool) {
        let recording = log.import(text, Arch::X86_64, "6.18");
        let mut counts = Counts::new();
        for call in recording.calls() {
            counts.entry((call.arch, call.nr)).or_default().add(&call.outcomes);
        }
        (counts, recording.completeness().is_lossy())
    }

    /// What is left of it tells of no call that was not made, nor of another result.
    #[test]
    fn a_log_that_was_cut_within_a_line_says_so() {
        for (log, text) in [(Log::Strace, STRACE), (Log::PerfTrace, PERF), (Log::Audit, AUDIT)] {
            let (whole, lossy) = counts(log, text);
            assert!(!lossy && whole.len() >= 4, "{log:?}: {whole:?}");
            for at in (1..text.len()).filter(|&at| !text[..at].ends_with('\n')) {
                let (part, lossy) = counts(log, &text[..at]);
                for (call, outcomes) in &part {
                    let all = whole.get(call).unwrap_or_else(|| panic!("{:?}", &text[..at]));
                    let Outcomes { count, succeeded, errnos, denied } = outcomes;
                    let more = *count > all.count
                        || *succeeded > all.succeeded
                        || *denied > all.denied
                        || errnos.iter().any(|(errno, count)| all.errnos.get(errno) < Some(count));
                    assert!(!more, "{call:?}: {outcomes:?} of {all:?}: {:?}", &text[..at]);
                }
                let line = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
                let with_line = counts(log, &text[..line]).0;
                let made = |counts: &Counts| -> u64 {
                    counts.values().map(|outcomes| outcomes.count + outcomes.denied).sum()
                };
                let is_blank =
                    text[..at].lines().next_back().is_none_or(|line| line.trim().is_empty());
                let is_short = made(&part) < made(&with_line) && !is_blank;
                assert!(lossy || !is_short, "{log:?}: {:?}", &text[..at]);
            }
        }
    }

    #[test]
    fn numbers_that_have_no_name_are_read() {
        let number = |name| number(name, Arch::X86_64);
        assert_eq!(number("syscall_0x400"), Some(1024));
        assert_eq!(number("syscall_0xffffffff80000000"), Some(1 << 31));
        assert_eq!(number("syscall_0xffffffffffffffff"), Some(u32::MAX));
        assert_eq!(number("syscall_0x100000000"), None);
        assert_eq!(number("syscall_0x"), None);
    }

    /// A byte that is no longer what it was makes no call of another kind unsaid.
    #[test]
    fn a_line_that_is_damaged_is_lost() {
        for (log, damaged) in [
            (Log::Strace, "re\u{fffd}d(3, \"\", 1) = 1\n"),
            (Log::Strace, "read(3, \"\", 1\n"),
            (Log::Strace, "read(3, \", 1) = 1\n"),
            (Log::Strace, "read(3, \"\", 1) = -1 E\u{fffd}OENT (No such file)\n"),
            (Log::Strace, "<... read resumed>\"\", 1) = 1\n"),
            (
                Log::PerfTrace,
                "    18.8\u{fffd} 0.010 ms): sh/1 read(fd: 3) = 1\n    1.0 ( 0.1 ms: sh/1 read(fd: 3) = 1\n",
            ),
            (Log::PerfTrace, "    18.800 ( 0.010 ms): sh/1 re\u{fffd}d(fd: 3) = 1\n"),
            (Log::PerfTrace, "    18.800 ( 0.010 ms): sh/1 readfd: 3 = 1\n"),
            (
                Log::Audit,
                "type=SECCOMP msg=audit(1.1:9): exe=\"/x\" arch=c000003e syscll=257 code=0x7ffc0000\n",
            ),
            (
                Log::Audit,
                "type=SECCOMP msg=audit(1.1:9): exe=\"/x\" arch=c00\u{fffd}003e syscall=257 code=0x7ffc0000\n",
            ),
            (Log::Audit, "type=SYSCALL msg=audit(1.1:9): exe=\"/x\"\n"),
        ] {
            let whole = match log {
                Log::Strace => STRACE,
                Log::PerfTrace => PERF,
                Log::Audit => AUDIT,
            };
            let before = counts(log, whole).0;
            let (after, lossy) = counts(log, &format!("{whole}{damaged}"));
            assert_eq!(before, after, "{damaged}");
            assert!(lossy, "{damaged}");
        }
        let table = "Summary of events:\n\n sh (10370), 143 events, 31.6%\n\n   syscall            calls  errors  total       min       avg       max       stddev\n                                     (msec)    (msec)    (msec)    (msec)        (%)\n   --------------- --------  ------ -------- --------- --------- ---------     ------\n   wait4                  2      1     0.422     0.012     0.211     0.410     94.15%\n\t\t\t\tENOENT: 1\n\n";
        assert!(!counts(Log::PerfTrace, table).1);
        assert!(
            counts(Log::PerfTrace, &table.replace("4                  2", "4                  x"))
                .1
        );
        assert!(counts(Log::PerfTrace, &table.replace("   wait4  ", "   wai\u{fffd}4  ")).1);
    }

    /// `ausearch -i` writes names as they are.
    #[test]
    fn the_name_of_a_program_is_no_field() {
        let text = "\
type=SECCOMP msg=audit(01/02/24 10:00:00.104:44) : pid=9 comm=x syscall=read exe=/a arch=x86_64 syscall=mount code=0x7ffc0000 sig=0 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x50001
type=SYSCALL msg=audit(01/02/24 10:00:00.105:45) : arch=x86_64 syscall=openat success=yes exit=3 pid=9 comm=x syscall=mount exe=/a arch=i386 syscall=mount success=no exit=-1
";
        let (counts, lossy) = counts(Log::Audit, text);
        assert!(!lossy);
        let calls: Vec<_> =
            counts.into_iter().map(|(call, of)| (call, of.count, of.denied)).collect();
        assert_eq!(calls, [((Arch::X86_64, 41), 0, 1), ((Arch::X86_64, 257), 1, 0)]);
        let strange = "type=1326 audit(1.2:3): exe=2F611B0AFF5C sig=0 arch=c000003e syscall=41 code=0x50001\n";
        let recording = Log::Audit.import(strange, Arch::X86_64, "6.18");
        assert_eq!(recording.images()[0].path, r"/a\x1b\x0a\xff\x5c");
    }
}
