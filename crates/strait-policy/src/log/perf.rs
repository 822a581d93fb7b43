//! Output of `perf trace`: each call with its result, or of `-s` a table for each thread.

use std::collections::BTreeMap;

use strait_abi::Arch;

use super::{Log, UNKNOWN_IMAGE, counted, lines, number, outcomes};
use crate::recording::{self, Outcomes, Recording};

pub(super) fn recognises(text: &str) -> bool {
    text.lines().any(|line| event(line).is_some() || line.trim() == SUMMARY)
}

/// What stands before the tables.
const SUMMARY: &str = "Summary of events:";

pub(super) fn import(text: &str, arch: Arch, kernel: &str) -> Recording {
    let mut recording = Log::PerfTrace.recording(kernel);
    let mut reader = Reader { arch, unfinished: BTreeMap::new(), table: None };
    let (mut unreadable, mut lost) = (0, 0);
    // With both the events and their sums, the events say more.
    let has_events = text.lines().any(|line| event(line).is_some());
    for (_, line, ended) in lines(text) {
        if let Some(count) = lost_events(line) {
            lost += count;
            continue;
        }
        match if has_events { reader.event(line) } else { reader.row(line) } {
            Line::Call(image, nr, outcomes) => {
                recording.call(image.as_str(), arch, nr, &outcomes);
            }
            Line::Nothing if ended || line.trim().is_empty() => {}
            Line::Nothing | Line::Unreadable => unreadable += 1,
        }
    }
    // A line without anything is below each table.
    if reader.table.is_some()
        && text.lines().next_back().is_some_and(|line| !line.trim().is_empty())
    {
        unreadable += 1;
    }
    for (image, nr) in reader.unfinished.into_values() {
        let outcomes = Outcomes { count: 1, ..Outcomes::default() };
        recording.call(image.as_str(), arch, nr, &outcomes);
    }
    Log::PerfTrace.unreadable(&mut recording, unreadable);
    recording.lost("events that perf says it lost", lost);
    let blind = &mut recording.completeness().blind_spots;
    blind.push("perf trace sees nothing that happened before it attached".to_owned());
    blind.push("perf trace names threads, not the program files that they run".to_owned());
    blind.push("perf trace takes calls by another ABI for calls of its own".to_owned());
    if !has_events {
        let spot =
            "a table of perf trace -s has no kinds of errors, and no calls that never returned";
        blind.push(spot.to_owned());
    }
    recording.build()
}

enum Line {
    Call(String, u32, Outcomes),
    Nothing,
    Unreadable,
}

struct Reader {
    arch: Arch,
    /// Calls that had not returned when they were printed, by thread.
    unfinished: BTreeMap<String, (String, u32)>,
    /// The thread that a table is of, and whether it has a column of errors.
    table: Option<(String, bool)>,
}

impl Reader {
    /// `18.741 ( 4.005 ms): sh/231 openat(dfd: CWD, …) = 3`; a call that lasts is printed without
    /// its result first, and again as `... [continued]: openat()) = 3`.
    fn event(&mut self, line: &str) -> Line {
        let Some((thread, what)) = event(line) else {
            return if is_timed(line) { Line::Unreadable } else { Line::Nothing };
        };
        let (image, key) = match thread.rsplit_once('/') {
            Some((name, id)) => (recording::text(name.as_bytes()), id.to_owned()),
            None => (UNKNOWN_IMAGE.to_owned(), String::new()),
        };
        let (what, continued) = match what.strip_prefix("... [continued]: ") {
            Some(rest) => (rest, true),
            None => (what, false),
        };
        let Some((name, rest)) = what.split_once('(') else { return Line::Unreadable };
        // Events of other kinds have their subsystem in front: `sched:sched_switch(…`.
        if name.contains(':') {
            return Line::Nothing;
        }
        let Some(nr) = number(name, self.arch) else { return Line::Unreadable };
        let rest = rest.trim_end();
        if !continued && rest.ends_with("...") {
            self.unfinished.insert(key, (image, nr));
            return Line::Nothing;
        }
        let (image, nr) = match self.unfinished.remove(&key) {
            Some(begun) if continued => begun,
            _ => (image, nr),
        };
        // Of some calls, such as clone in the child, it knows no result.
        let unknown = || Outcomes { count: 1, ..Outcomes::default() };
        let result = rest.rsplit_once(" = ").or_else(|| rest.rsplit_once("= "));
        let found = match result {
            Some((_, result)) => outcomes(result),
            None => rest.ends_with('=').then(unknown),
        };
        found.map_or(Line::Unreadable, |outcomes| Line::Call(image, nr, outcomes))
    }

    /// `openat  3  1  0.046 …` below `syscall  calls  errors  total …` and ` sh (10370), 143 events`.
    fn row(&mut self, line: &str) -> Line {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some((thread, _)) = line.split_once("), ")
            && line.contains(" events")
            && let Some((name, _)) = thread.rsplit_once(" (")
        {
            self.table = Some((recording::text(name.trim().as_bytes()), false));
            return Line::Nothing;
        }
        let Some((image, has_errors)) = &mut self.table else { return Line::Nothing };
        match words.as_slice() {
            ["syscall", "calls", column, ..] => {
                *has_errors = *column == "errors";
                Line::Nothing
            }
            [] => Line::Nothing,
            // Units, the line below the head, and how often a call failed with an errno.
            [first, ..] if first.starts_with(['(', '-']) || first.ends_with(':') => Line::Nothing,
            [name, calls, errors, ..] => {
                let errors = if *has_errors { *errors } else { "0" };
                match (number(name, self.arch), counted(calls, errors)) {
                    (Some(nr), Some(outcomes)) => Line::Call(image.clone(), nr, outcomes),
                    _ => Line::Unreadable,
                }
            }
            _ => Line::Unreadable,
        }
    }
}

/// Whether a line begins as an event does, by a time and a parenthesis.
fn is_timed(line: &str) -> bool {
    line.split_once('(').is_some_and(|(time, _)| is_time(time.trim()))
}

fn is_time(text: &str) -> bool {
    text == "?" || is_number(text)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The thread (or nothing) and the rest of an event's line.
fn event(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line.split_once("): ")?;
    let (time, duration) = before.split_once('(')?;
    let (time, duration) = (time.trim(), duration.trim());
    let duration = duration.strip_suffix("ms").map_or(duration, str::trim_end);
    if !is_time(time) || !(duration.is_empty() || is_number(duration)) {
        return None;
    }
    // `name/id`; a name may have blanks and slashes.
    let of_thread = rest.match_indices(' ').map(|(at, _)| at).find(|&at| {
        let id = rest[..at].rsplit_once('/').map(|(_, id)| id);
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    });
    match of_thread {
        Some(at) if !rest[..at].contains('(') => Some((&rest[..at], rest[at..].trim_start())),
        _ => Some(("", rest.trim_start())),
    }
}

/// `LOST 12 events!`
fn lost_events(line: &str) -> Option<u64> {
    line.trim().strip_prefix("LOST ")?.strip_suffix(" events!")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use strait_abi::Syscall;

    use super::*;

    fn of(recording: &Recording, name: &str) -> (String, Outcomes) {
        let nr = Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
        let call = recording.calls().iter().find(|call| call.nr == nr).unwrap();
        (recording.images()[call.image].path.clone(), call.outcomes.clone())
    }

    #[test]
    fn calls_that_last_are_put_together() {
        let text = "\
         ? (         ): sh/23109  ... [continued]: execve())                        = 0
    18.741 (         ): my sh/x/23109 newfstatat(dfd: CWD, filename: 0x7727fb38) ...
    18.800 ( 0.010 ms): sleep/23110 openat(dfd: 4</a = (b): >, flags: RDONLY)     = 3
    18.741 ( 4.005 ms): sh/23109  ... [continued]: newfstatat())                    = -1 ENOENT (No such file)
         ? (         ): sh/23110  ... [continued]: clone())                         =
  LOST 12 events!
    19.000 (         ): sh/23109 wait4()                                            ...
    19.100 ( 0.001 ms): sh/23109 new_call_of_2040(a: 1)                             = 0
";
        assert_eq!(Log::detect(text), Some(Log::PerfTrace));
        let recording = import(text, Arch::X86_64, "6.18.1");
        assert_eq!(of(&recording, "execve").1.succeeded, 1);
        let (image, outcomes) = of(&recording, "newfstatat");
        assert_eq!(
            (image.as_str(), outcomes.count, &outcomes.errnos),
            ("my sh/x", 1, &[(2, 1)].into())
        );
        assert_eq!(of(&recording, "openat").1.succeeded, 1);
        assert_eq!((of(&recording, "clone").1.count, of(&recording, "clone").1.succeeded), (1, 0));
        assert_eq!(of(&recording, "wait4").1.count, 1);
        let lost = &recording.completeness().lost;
        assert_eq!(lost["events that perf says it lost"], 12);
        assert_eq!(lost["lines of perf trace that could not be read"], 1);
    }

    #[test]
    fn tables_with_and_without_errors_are_read() {
        let text = "
 Summary of events:

 sh (10370), 143 events, 31.6%

   syscall            calls  errors  total       min       avg       max       stddev
                                     (msec)    (msec)    (msec)    (msec)        (%)
   --------------- --------  ------ -------- --------- --------- ---------     ------
   wait4                  2      1     0.422     0.012     0.211     0.410     94.15%

 a (b) (7), 2 events, 0.1%

   syscall            calls    total       min       avg       max      stddev
   --------------- -------- --------- --------- --------- ---------     ------
   read                   3     0.422     0.012     0.211     0.410     94.15%

";
        assert_eq!(Log::detect(text), Some(Log::PerfTrace));
        let recording = import(text, Arch::X86_64, "6.18.1");
        assert_eq!((of(&recording, "wait4").1.count, of(&recording, "wait4").1.succeeded), (2, 1));
        let (image, outcomes) = of(&recording, "read");
        assert_eq!((image.as_str(), outcomes.succeeded), ("a (b)", 3));
        assert!(!recording.completeness().is_lossy());
        for end in [text.trim_end().len(), text.find("   read").unwrap()] {
            let cut = format!("{}\n", text[..end].trim_end());
            assert!(import(&cut, Arch::X86_64, "6.18").completeness().is_lossy(), "{cut}");
        }
    }
}
