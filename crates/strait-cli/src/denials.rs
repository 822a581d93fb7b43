//! Denials as they happen: lines for a person, JSON for a program, entries for the journal.
//!
//! What is denied again and again is told the first time and then at its tenth, hundredth and
//! so on; the counts at the end are exact.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde_json::{Value, json};
use strait_bpf::Action;
use strait_policy::{Because, Policy, action_text, call};
use strait_runtime::exec_check::NotAllowed;
use strait_runtime::steps::{Moved, Trigger};
use strait_runtime::supervise::{Answering, Counted, Denial};

use crate::args::Denials;
use crate::output::printable;

/// Where and how denials are told.
pub struct Teller {
    form: Denials,
    out: Out,
    answering: Answering,
    policy: Policy,
    /// How often each file was executed that may not be, and what is beyond [`FILES`].
    killed: BTreeMap<PathBuf, u64>,
    killed_others: u64,
}

/// Of so many files it is counted how often they were executed.
const FILES: usize = 1024;

enum Out {
    Stderr,
    File(File),
    Journal(UnixDatagram),
}

/// Where the journal takes entries (systemd.journal-fields(7) and its native protocol).
const JOURNAL: &str = "/run/systemd/journal/socket";

impl Teller {
    /// Tells in this form, to this file if there is one.
    ///
    /// # Errors
    /// If there is no journal.
    pub fn new(
        form: Denials,
        file: Option<File>,
        answering: Answering,
        policy: &Policy,
    ) -> io::Result<Teller> {
        let out = match (form, file) {
            (Denials::Journald, _) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(JOURNAL)?;
                // A journal that does not keep up must not hold up the workload.
                socket.set_nonblocking(true)?;
                Out::Journal(socket)
            }
            (_, Some(file)) => Out::File(file),
            (_, None) => Out::Stderr,
        };
        let policy = policy.clone();
        Ok(Teller { form, out, answering, policy, killed: BTreeMap::new(), killed_others: 0 })
    }

    /// Tells of one denial, if it is time to.
    pub fn tell(&mut self, denial: &Denial) {
        if !is_power_of_ten(denial.times) {
            return;
        }
        match self.form {
            Denials::Json => {
                let value = self.json(denial);
                self.line(&value.to_string());
            }
            Denials::Text | Denials::Journald => {
                let text = self.text(denial);
                self.line(&text);
            }
        }
    }

    /// Tells of a process that was killed as it executed what it may not, if it is time to.
    pub fn killed(&mut self, process: Pid, refused: &NotAllowed) {
        let NotAllowed { path, why } = refused;
        let room = self.killed.len() < FILES;
        let times = match self.killed.get_mut(path) {
            Some(times) => times,
            None if room => self.killed.entry(path.clone()).or_default(),
            None => &mut self.killed_others,
        };
        *times += 1;
        let times = *times;
        if !is_power_of_ten(times) {
            return;
        }
        let pid = process.as_raw_nonzero().get();
        // What has no name to be found by again cannot be put on a list.
        let permit = path.is_file().then(|| format!("exec: {{allow: [{}]}}", entry(path)));
        if self.form == Denials::Json {
            let value = json!({
                "event": "killed",
                "tid": pid,
                "image": shown(path),
                "call": "execve",
                "why": why,
                "action": action_text(Action::KillProcess),
                "because": "`exec`",
                "times": times,
                "permit": permit,
            });
            return self.line(&value.to_string());
        }
        let times = if times == 1 { String::new() } else { format!(" ({times} times by now)") };
        let permit = permit.map_or(String::new(), |line| format!("; to permit it: {line}"));
        let what = printable(&refused.to_string());
        self.line(&format!("strait: killed{times}: process {pid}: {what}{permit}"));
    }

    /// Tells that the workload has moved on, and whether that holds.
    pub fn moved(&mut self, moved: &Moved) {
        let Moved { from, to, by, tasks, bare } = moved;
        let bare: Vec<i32> = bare.iter().map(|task| task.as_raw_pid()).collect();
        let (asked, called) = match by {
            Trigger::Asked(tid) => (Some(*tid), None),
            Trigger::Called(tid, call) => (None, Some((*tid, call.name()))),
            _ => (None, None),
        };
        if self.form == Denials::Json {
            let value = json!({
                "event": "step",
                "from": from,
                "step": to,
                "askedBy": asked,
                "calledBy": called.map(|(tid, _)| tid),
                "call": called.map(|(_, call)| call),
                "tasks": tasks,
                "unconfined": bare,
                "holds": bare.is_empty(),
            });
            return self.line(&value.to_string());
        }
        let asked = match (asked, called) {
            (Some(tid), _) => format!(", as {tid} asked for"),
            (None, Some((tid, call))) => format!(", as {tid} called {call}"),
            (None, None) => String::new(),
        };
        let unit = if *tasks == 1 { "task" } else { "tasks" };
        let held = match bare.is_empty() {
            true => format!("holds for {tasks} {unit}"),
            false => format!("does not hold: {bare:?} of {tasks} {unit} have no filter"),
        };
        self.line(&format!("strait: at step `{to}`{asked}; it {held}"));
    }

    /// Tells of all of them, with exact counts.
    pub fn sum_up(&mut self, counted: &[Counted], others: u64) {
        let total = counted.iter().map(|counted| counted.count).fold(others, u64::saturating_add);
        let killed = self.killed.values().copied().fold(self.killed_others, u64::saturating_add);
        if self.form == Denials::Json {
            let calls: Vec<Value> = counted.iter().map(counted_json).collect();
            let files = self
                .killed
                .iter()
                .map(|(path, times)| json!({"image": shown(path), "count": times}));
            let value = json!({
                "event": "summary",
                "count": total,
                "calls": calls,
                "others": others,
                "killed": killed,
                "killedImages": files.collect::<Vec<_>>(),
            });
            return self.line(&value.to_string());
        }
        if killed > 0 {
            let programs = if killed == 1 { "program was" } else { "programs were" };
            let mut text = format!("strait: {killed} {programs} killed that may not be executed:");
            for (path, times) in &self.killed {
                text.push_str(&format!("\n  {times:>8}  {}", printable(&shown(path))));
            }
            if self.killed_others > 0 {
                text.push_str(&format!("\n  {:>8}  of further files", self.killed_others));
            }
            self.line(&text);
        }
        let what = match self.answering {
            Answering::Enforce => "denied",
            Answering::Observe => "would have been denied",
        };
        if total == 0 {
            if self.answering == Answering::Observe {
                self.line("strait: nothing would have been denied");
            }
            return;
        }
        let calls = if total == 1 { "call" } else { "calls" };
        let mut text = format!("strait: {total} {calls} {what}:");
        for counted in counted {
            let Counted { image, arch, nr, arguments, reach, action, count } = counted;
            let data = strait_bpf::SeccompData::new(*arch, *nr);
            let name = match call::name(&data) {
                Some(name) => name.name().to_owned(),
                None => format!("call {nr} of {arch}"),
            };
            let name = reach.clone().unwrap_or(name);
            let when = arguments.as_ref().map_or(String::new(), |when| format!(" with {when}"));
            text.push_str(&format!(
                "\n  {count:>8}  {name}{when}: {} ({})",
                action_text(*action),
                printable(&shown(image)),
            ));
        }
        if others > 0 {
            text.push_str(&format!("\n  {others:>8}  of further kinds"));
        }
        self.line(&text);
    }

    fn text(&self, denial: &Denial) -> String {
        let what = match self.answering {
            Answering::Enforce => "denied",
            Answering::Observe => "would be denied",
        };
        let times = match denial.times {
            1 => String::new(),
            times => format!(" ({times} times by now)"),
        };
        let permit =
            denial.permit().map_or(String::new(), |line| format!("; to permit it: {line}"));
        format!(
            "strait: {what}{times}: {}[{}] {} -> {}{}{permit}",
            printable(&denial.process.name),
            denial.tid,
            tried(denial),
            action_text(denial.action),
            match &denial.reach {
                Some(reach) => format!(": {}", reach.why),
                None => self.by(denial),
            },
        )
    }

    fn json(&self, denial: &Denial) -> Value {
        let event = match self.answering {
            Answering::Enforce => "denied",
            Answering::Observe => "would-be-denied",
        };
        json!({
            "event": event,
            "tid": denial.tid,
            "name": denial.process.name,
            "image": shown(&denial.process.image),
            "call": call::call_text(&denial.data),
            "reach": denial.reach.as_ref().map(|reach| &reach.what),
            "why": denial.reach.as_ref().map(|reach| &reach.why),
            "arch": denial.data.arch.to_string(),
            "nr": denial.data.nr,
            "args": denial.data.args.map(|arg| format!("{arg:#x}")),
            "action": action_text(denial.action),
            "because": self.by(denial).trim_start_matches(" by "),
            "times": denial.times,
            "permit": denial.permit(),
        })
    }

    fn by(&self, denial: &Denial) -> String {
        if let Some(step) = &denial.step {
            return format!(" by step `{step}`");
        }
        match denial.because {
            Some(Because::Rule(index)) => format!(" by rule {}", index + 1),
            Some(Because::Include(index)) => {
                format!(" by {}", self.policy.include.get(index).map_or("a set", String::as_str))
            }
            Some(Because::Unknown) => " by `unknown`".to_owned(),
            Some(Because::Exec) => " by `exec`".to_owned(),
            Some(Because::Isolation) => " by `isolation`".to_owned(),
            Some(Because::Network) => " by `network`".to_owned(),
            Some(Because::Foreign) => " by `foreign`".to_owned(),
            Some(Because::Default) => " by `default`".to_owned(),
            _ => String::new(),
        }
    }

    /// Writes a line. Where nobody takes it, the workload goes on all the same, and the counts at
    /// the end are complete.
    fn line(&mut self, line: &str) {
        let _ = match &mut self.out {
            Out::Stderr => return crate::output::say(line),
            Out::File(file) => writeln!(file, "{line}"),
            Out::Journal(socket) => {
                // Priority 4 is a warning; a field's value of one line stands behind `=`.
                let mut sent = Ok(());
                for line in line.lines() {
                    let message = line.trim_start_matches("strait: ");
                    let entry =
                        format!("MESSAGE={message}\nPRIORITY=4\nSYSLOG_IDENTIFIER=strait\n");
                    sent = sent.and(socket.send(entry.as_bytes()).map(drop));
                }
                sent
            }
        };
    }
}

/// What was tried: where it led to, or the call with its arguments.
fn tried(denial: &Denial) -> String {
    match &denial.reach {
        Some(reach) if !reach.what.is_empty() => reach.what.clone(),
        _ => call::call_text(&denial.data),
    }
}

fn counted_json(counted: &Counted) -> Value {
    let Counted { image, arch, nr, arguments, reach, action, count } = counted;
    let data = strait_bpf::SeccompData::new(*arch, *nr);
    json!({
        "image": shown(image),
        "arch": arch.to_string(),
        "nr": nr,
        "name": call::name(&data).map(|name| name.name()),
        "when": arguments,
        "reach": reach,
        "action": action_text(*action),
        "count": count,
    })
}

fn shown(image: &Path) -> String {
    match image.as_os_str().is_empty() {
        true => "program unknown".to_owned(),
        false => image.display().to_string(),
    }
}

/// A path as an entry of a list in YAML: in quotes unless all of it is plain.
fn entry(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if text.chars().all(is_plain) { text } else { Value::String(text).to_string() }
}

fn is_power_of_ten(times: u64) -> bool {
    let mut power = 1_u64;
    while power < times {
        match power.checked_mul(10) {
            Some(next) => power = next,
            None => return false,
        }
    }
    power == times
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{entry, is_power_of_ten};

    #[test]
    fn a_path_is_an_entry_of_a_list() {
        assert_eq!(entry(Path::new("/usr/bin/g++-12")), "/usr/bin/g++-12");
        assert_eq!(
            entry(Path::new("/x], strict: false, y: [\n")),
            "\"/x], strict: false, y: [\\n\""
        );
    }

    #[test]
    fn what_comes_often_is_told_seldom() {
        let told: Vec<u64> = (0..=100_000).filter(|&times| is_power_of_ten(times)).collect();
        assert_eq!(told, [1, 10, 100, 1_000, 10_000, 100_000]);
        assert!(!is_power_of_ten(u64::MAX));
    }
}
