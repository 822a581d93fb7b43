//! Scripts that tests run as workloads: talked to line by line, and what is told of them.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use crate::skip;

/// What runs the scripts.
pub const PYTHON: &str = "/usr/bin/python3";

/// Whether there is a [`PYTHON`]; the test `name` is skipped where there is none.
pub fn has_python(name: &str) -> bool {
    let has = Path::new(PYTHON).exists();
    if !has {
        skip(name, "there is no /usr/bin/python3");
    }
    has
}

/// A command that is talked to line by line. It is killed when this is dropped.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    /// Starts it, with pipes as its standard input and output.
    pub fn start(command: &mut Command) -> Talk {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the command starts");
        let stdin = child.stdin.take().expect("a pipe was asked for");
        let lines = BufReader::new(child.stdout.take().expect("a pipe was asked for")).lines();
        Talk { child, stdin, lines }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that is said; waits for it.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("there is a line more").expect("it is text")
    }

    /// Waits until it says something, which is not to be, or nobody is left who could.
    pub fn is_silent(&mut self) -> bool {
        self.lines.next().is_none()
    }

    /// Says a line.
    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the line is taken");
    }

    /// Kills it, and waits until it has ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) {
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events that are told as lines of JSON on standard error.
pub fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stderr.clone()).expect("it is text");
    let events = text.lines().filter(|line| line.starts_with('{'));
    events.map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}
