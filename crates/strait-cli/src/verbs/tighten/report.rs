//! What `tighten` tells: a summary that is read in ten seconds, and the same as data.

use crate::output::printable;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use rustix::process::Signal;
use serde_json::{Value, json};
use strait_abi::{Arch, Danger, Syscall};
use strait_policy::Summary;
use strait_policy::recording::Exit;
use strait_runtime::launch::Verified;
use strait_runtime::verdict::Verdict;

use super::{Confined, Denial, Tightened};
use crate::failure::REFUSED;

/// How many names a line of the summary shows.
const NAMES: usize = 12;
/// What shells add to the number of the signal that has ended a program.
const SIGNALLED: i32 = 128;

impl Tightened<'_> {
    /// Whether the confined run behaved as the first: the same end, nothing denied, and nothing
    /// seen in the kernel but what was meant. `None` if there was no confined run.
    fn behaved(&self) -> Option<bool> {
        match &self.confined {
            Confined::Ran { interrupted: true, .. } => None,
            Confined::Ran { exit, denials, verified, .. } => {
                let kept = match verified {
                    Verified::Yes { verdict } => verdict.is_kept(),
                    // Not a difference; it is said.
                    Verified::No { .. } => true,
                };
                Some(*exit == self.recording.exit() && denials.is_empty() && kept)
            }
            Confined::NotAskedFor | Confined::Interrupted { .. } => None,
        }
    }

    pub(super) fn status(&self) -> u8 {
        match (&self.confined, self.behaved()) {
            (Confined::Interrupted { .. } | Confined::Ran { interrupted: true, .. }, _) => {
                // Ended early without a signal there is none.
                let signal = self.interrupted_by.map_or(0, Signal::as_raw);
                u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
            }
            (_, Some(false)) => 1,
            (Confined::Ran { exit: None, .. }, _) => REFUSED,
            _ => 0,
        }
    }

    /// The ABI that the baseline is known for, if the policy is for it.
    fn compared(&self) -> Option<&Summary> {
        self.summaries.iter().find(|summary| summary.arch == Arch::X86_64)
    }

    /// What Docker's default profile would let pass and this policy does not, and is dangerous.
    fn closed_dangers(&self) -> Vec<Syscall> {
        let compared = self.compared().into_iter();
        dangerous(compared.flat_map(|summary| summary.only_baseline.iter().copied()))
    }

    /// What is dangerous and let pass.
    fn open_dangers(&self) -> Vec<Syscall> {
        dangerous(self.summaries.iter().flat_map(passing))
    }

    fn gaps(&self) -> Vec<String> {
        let mut gaps = self.recording.completeness().gaps();
        if let Confined::Ran { gaps: lost, .. } = &self.confined {
            gaps.extend(self.stdin_gap.clone());
            gaps.extend(lost.iter().map(|lost| format!("confined run: lost in {lost}")));
        }
        gaps
    }

    /// The summary, with colours.
    pub(super) fn text(&self) -> String {
        let mut out = Lines::default();
        out.line("", &format!("strait tighten: {}", shortened(&self.command.join(" "))));
        self.allowed(&mut out);
        self.beyond(&mut out);
        self.seen(&mut out);
        out.line(
            "program",
            &format!(
                "{} instructions, proved to decide as the policy does for all inputs",
                self.instructions
            ),
        );
        self.confined_run(&mut out);
        match self.file {
            Some(file) if matches!(self.confined, Confined::Interrupted { kept: true }) => {
                let file = file.display();
                out.line(
                    "policy",
                    &format!("{file} is left as it was (--accept-loss replaces it)"),
                );
            }
            Some(file) => out.line("policy", &file.display().to_string()),
            None => out.line("policy", "on standard output; -o FILE keeps it in a file"),
        }
        out.text
    }

    fn allowed(&self, out: &mut Lines) {
        for summary in &self.summaries {
            let count = passing(summary).count();
            let some = match summary.conditional.len() {
                0 => String::new(),
                some => format!(", {some} of them only with some arguments"),
            };
            out.line(
                "allowed",
                &format!("{count} of {} system calls of {}{some}", summary.existing, summary.arch),
            );
        }
        let dangers = self.open_dangers();
        if !dangers.is_empty() {
            out.line("", &format!("dangerous, but needed: {}", names(&dangers)));
        }
    }

    fn beyond(&self, out: &mut Lines) {
        let Some(native) = self.compared() else { return };
        let dangers = self.closed_dangers();
        out.line(
            "closed",
            &format!(
                "{} more that {}'s default profile allows, {} of them dangerous{}",
                native.only_baseline.len(),
                self.baseline,
                dangers.len(),
                if dangers.is_empty() { "" } else { ":" }
            ),
        );
        if !dangers.is_empty() {
            out.line("", &names(&dangers));
        }
        if !native.beyond_baseline.is_empty() {
            let beyond: Vec<Syscall> = native.beyond_baseline.iter().copied().collect();
            out.line("", &format!("beyond {}'s default: {}", self.baseline, names(&beyond)));
        }
    }

    fn seen(&self, out: &mut Lines) {
        let said = super::recorder::said(self.recording);
        out.line("recorded", &said);
        if self.recording.engine().name != "ebpf" {
            out.line("", &self.recording.engine().reason);
        }
        let gaps = self.gaps();
        if gaps.is_empty() {
            out.line("unseen", "nothing that is known: no call was lost");
        }
        for (index, gap) in gaps.iter().enumerate() {
            out.line(if index == 0 { "unseen" } else { "" }, gap);
        }
    }

    fn confined_run(&self, out: &mut Lines) {
        let (exit, denials, verified) = match &self.confined {
            Confined::NotAskedFor => {
                return out.line("confined", "not run again (--once)");
            }
            Confined::Interrupted { .. } => {
                return out.line("confined", "not run again: the recording was interrupted");
            }
            Confined::Ran { interrupted: true, .. } => {
                return out.line("confined", "interrupted, so that nothing can be said of it");
            }
            Confined::Ran { exit, denials, verified, .. } => (exit, denials, verified),
        };
        let first = self.recording.exit();
        let same = if *exit == first {
            format!("{}, as before", ended(*exit))
        } else {
            format!("{}, but before {}", ended(*exit), ended(first))
        };
        let denied: u64 = denials.iter().map(|denial| denial.count).sum();
        let denied = usize::try_from(denied).unwrap_or(usize::MAX);
        let verdict = match self.behaved() {
            Some(true) => "behaved as the first run",
            _ => "did NOT behave as the first run",
        };
        out.line(
            "confined",
            &format!("{verdict}: {same}; {} denied", super::recorder::counted(denied, "call")),
        );
        for denial in denials.iter().take(NAMES) {
            let Denial { count, action, image, .. } = denial;
            out.line(
                "",
                &format!(
                    "denied: {} {count} times with {action}, {}",
                    denial.name(),
                    printable(image)
                ),
            );
        }
        if !denials.is_empty() {
            out.line("to do", "if runs differ by their timing, permit what more of them do:");
            out.line("", &self.more_runs);
            out.line(
                "",
                "if it must stay denied, nothing; for one call, add a rule with its reason",
            );
        }
        out.line("verified", &self::verified(verified));
    }

    /// Everything as data.
    pub(super) fn json(&self) -> Value {
        let recording = self.recording;
        let completeness = recording.completeness();
        let calls: u64 = recording.calls().iter().map(|call| call.outcomes.count).sum();
        let native = self.compared();
        let only_baseline = native.map(|summary| summary.only_baseline.len());
        let mut allowed: Vec<&str> =
            self.summaries.iter().flat_map(passing).map(Syscall::name).collect();
        allowed.sort_unstable();
        allowed.dedup();
        json!({
            "command": self.command,
            "recording": {
                "engine": recording.engine(),
                "digest": recording.digest(),
                "calls": calls,
                "images": recording.images(),
                "complete": completeness.is_complete(),
                "completeness": completeness,
                "exit": recording.exit(),
            },
            "policy": {
                "file": self.file,
                "architectures": self.policy.architectures.iter().map(|arch| arch.name()).collect::<Vec<_>>(),
            },
            "allowed": {
                "count": allowed.len(),
                "existing": self.summaries.first().map(|summary| summary.existing),
                "names": allowed,
                "dangerous": self.open_dangers().into_iter().map(danger).collect::<Vec<_>>(),
                "byArch": self.summaries.iter().map(by_arch).collect::<Vec<_>>(),
            },
            "baseline": {
                "name": self.baseline,
                "closed": only_baseline,
                "closedNames": native.map(|summary| summary.only_baseline.iter().map(|call| call.name()).collect::<Vec<_>>()),
                "closedDangerous": self.closed_dangers().into_iter().map(danger).collect::<Vec<_>>(),
                "beyond": native.map(|summary| summary.beyond_baseline.iter().map(|call| call.name()).collect::<Vec<_>>()),
            },
            "program": { "instructions": self.instructions, "proved": true },
            "gaps": self.gaps(),
            "confined": self.confined_json(),
            "behavedAsFirst": self.behaved(),
            "moreRuns": self.more_runs,
        })
    }

    fn confined_json(&self) -> Value {
        match &self.confined {
            Confined::NotAskedFor | Confined::Interrupted { .. } => Value::Null,
            Confined::Ran { exit, denials, verified, .. } => json!({
                "exit": exit,
                "denials": denials.iter().map(Denial::json).collect::<Vec<_>>(),
                "verification": verified,
            }),
        }
    }
}

impl Denial {
    fn name(&self) -> String {
        match self.syscall {
            Some(syscall) => syscall.name().to_owned(),
            None => format!("number {}", self.nr),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.syscall.map(Syscall::name),
            "arch": self.arch.name(),
            "nr": self.nr,
            "image": self.image,
            "count": self.count,
            "action": self.action,
        })
    }
}

/// Every call that passes, with some arguments at least.
fn passing(summary: &Summary) -> impl Iterator<Item = Syscall> {
    summary.allowed.iter().chain(&summary.conditional).copied()
}

/// Those that are dangerous, each once, the worst first.
fn dangerous(calls: impl Iterator<Item = Syscall>) -> Vec<Syscall> {
    let ranked = calls.filter_map(|call| Some((Reverse(call.danger()?.weight()), call)));
    let ranked: BTreeSet<_> = ranked.collect();
    ranked.into_iter().map(|(_, call)| call).collect()
}

/// A command in one line that a terminal shows.
fn shortened(command: &str) -> String {
    const LONGEST: usize = 160;
    match command.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}

fn by_arch(summary: &Summary) -> Value {
    json!({
        "arch": summary.arch.name(),
        "allowed": passing(summary).count(),
        "existing": summary.existing,
    })
}

fn danger(call: Syscall) -> Value {
    json!({
        "name": call.name(),
        "class": call.danger().map(|danger| danger.class().name()),
        "reason": call.danger().map(Danger::reason),
    })
}

fn names(calls: &[Syscall]) -> String {
    let mut text = calls.iter().take(NAMES).map(|call| call.name()).collect::<Vec<_>>().join(" ");
    if let Some(more) = calls.len().checked_sub(NAMES).filter(|&more| more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn ended(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Status(status)) => format!("exit status {status}"),
        Some(Exit::Signal(signal)) => format!("ended by signal {signal}"),
        None => "end not seen".to_owned(),
    }
}

fn verified(verified: &Verified) -> String {
    match verified {
        Verified::Yes { verdict: Verdict::Holds { .. } } => {
            "the filters read back from the kernel decide as the policy says".to_owned()
        }
        Verified::Yes { verdict: Verdict::Tighter { differences, .. } } => format!(
            "tighter than the policy: a filter was there already ({} spans of calls differ)",
            differences.spans.len()
        ),
        Verified::Yes { .. } => "the kernel decides otherwise than the policy".to_owned(),
        Verified::No { reason } => format!("not read back from the kernel: {reason}"),
    }
}

/// Lines with a heading each.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, heading: &str, text: &str) {
        let bold = anstyle::Style::new().bold();
        let first = self.text.is_empty();
        // Writing to a string does not fail.
        let _ = if first {
            writeln!(self.text, "{bold}{text}{bold:#}")
        } else {
            writeln!(self.text, "  {bold}{heading:<10}{bold:#}{text}")
        };
    }
}
