//! A pid namespace with a `/proc` of its own, for tests that look at every process there is.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use strait_testkit::{skip, victim};

/// The namespace; all of its processes end with it.
pub struct Namespace {
    unshare: Child,
    /// Its first process, as we see it.
    init: i32,
}

/// A victim in the namespace that has done what it was told.
pub struct Victim {
    _outer: Child,
    _input: ChildStdin,
    /// Its id in the namespace.
    pub pid: String,
    /// What it printed.
    pub lines: Vec<String>,
}

/// A command in the namespace; what is held is its parent outside.
pub struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        for child in fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).stderr(Stdio::null()).status();
        }
        let _ = self.0.wait();
    }
}

impl Namespace {
    /// A new one, or `None` where that cannot be, which is then said.
    pub fn new(test: &str) -> Option<Namespace> {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        if !status.contains("Uid:\t0\t0\t") || !status.contains("Seccomp:\t0\n") {
            skip(test, "needs root and no filter of its own");
            return None;
        }
        let arguments = ["--pid", "--fork", "--mount-proc", "--kill-child", "sleep", "infinity"];
        let mut unshare = Command::new("unshare").args(arguments).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let found = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let child = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            // It has its own /proc once it is the program that it becomes.
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "sleep").then_some(child)
        });
        let Some(init) = found else {
            let _ = unshare.kill();
            let _ = unshare.wait();
            skip(test, "no pid namespace can be made");
            return None;
        };
        Some(Namespace { unshare, init })
    }

    fn enter(&self, command: &[&str]) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.init.to_string(), "--pid", "--mount", "--"]).args(command);
        entered
    }

    /// Runs a command in it to its end.
    pub fn run(&self, command: &[&str]) -> Output {
        self.enter(command).output().unwrap()
    }

    /// Runs Strait in it.
    pub fn strait(&self, arguments: &[&str]) -> Output {
        self.run(&[&[env!("CARGO_BIN_EXE_strait")], arguments].concat())
    }

    /// Starts a command in it, which is killed when what is returned is dropped.
    pub fn start(&self, command: &[&str]) -> Started {
        let quiet = || Stdio::null();
        let mut command = self.enter(command);
        Started(command.stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().unwrap())
    }

    /// The processes in it, as we see them.
    pub fn processes(&self) -> Vec<i32> {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = of(&self.init.to_string());
        let all = fs::read_dir("/proc").unwrap().flatten();
        let names = all.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| of(name) == own).filter_map(|name| name.parse().ok()).collect()
    }

    /// Starts a victim below `wrapper`, and waits until it has done what `words` say. Where the
    /// last of them waits for ever, the victim is waited for up to what it prints before.
    pub fn victim(&self, wrapper: &[&str], words: &str) -> Victim {
        let program = victim::program();
        let program = program.to_str().unwrap();
        let waits = words.ends_with("vfork");
        let rest: &[&str] = if waits { &[] } else { &["pid", "ready", "wait"] };
        let words: Vec<&str> = words.split(' ').collect();
        // Who waits for ever says who it is first.
        let first: &[&str] = if waits { &["pid"] } else { &[] };
        let command = [wrapper, &[program], first, &words, rest].concat();
        let mut outer =
            self.enter(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = outer.stdin.take().unwrap();
        let mut lines: Vec<String> = Vec::new();
        let last = if waits { "vfork" } else { "ready" };
        for line in BufReader::new(outer.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == last {
                break;
            }
            lines.push(line);
        }
        let pid = lines.iter().find_map(|line| line.strip_prefix("pid ")).unwrap();
        // A process in a namespace further in has another id in this one.
        let pid = if pid == "1" { self.inner_of(&outer) } else { pid.to_owned() };
        if waits {
            let state = || fs::read_to_string(format!("/proc/{}/root/proc/{pid}/stat", self.init));
            while !state().unwrap().contains(") D ") {
                std::thread::yield_now();
            }
        }
        Victim { _outer: outer, _input: input, pid, lines }
    }

    /// The id in this namespace of the last descendant of a process.
    fn inner_of(&self, outer: &Child) -> String {
        let mut pid = outer.id().to_string();
        while let Ok(children) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            && let Some(child) = children.split_whitespace().next()
        {
            pid = child.to_owned();
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:\t")).unwrap();
        ids.split('\t').nth(1).unwrap().to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
