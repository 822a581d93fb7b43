//! The running kernel as an oracle for what programs mean.
//!
//! Filters are only ever loaded into processes of `src/bin/oracle.rs`, never into the test's own.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use strait_abi::Arch;
use strait_bpf::{Action, Insn, Program, SeccompData};

use crate::victim;

/// What happened to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this, with nobody asked.
    Returned(i64),
    /// SIGSYS was delivered, with this `si_errno`.
    Trapped(u16),
    /// The tracer was told, with this message, and let it go on; then it returned.
    Traced(u16, i64),
    /// This signal ended the process.
    Killed(i32),
}

impl Outcome {
    /// Whether this is what comes of an action. The call must be one that returns no error when
    /// it is executed, be traced, and have no supervisor.
    ///
    /// Allow and log cannot be told apart in this way, nor can the ways of killing in a process of
    /// one thread, nor notify from errno(ENOSYS); [`notified`] and [`thread_killed`] do that.
    pub fn is_of(self, action: Action) -> bool {
        match (self, action) {
            (Outcome::Returned(value), Action::Allow | Action::Log) => value >= 0,
            // An errno of 0 skips the call, which returns 0.
            (Outcome::Returned(value), Action::Errno(errno)) => value == -i64::from(errno),
            (Outcome::Returned(value), Action::Notify) => value == -i64::from(libc::ENOSYS),
            (Outcome::Trapped(data), Action::Trap(wanted)) => data == wanted,
            (Outcome::Traced(data, value), Action::Trace(wanted)) => data == wanted && value >= 0,
            (Outcome::Killed(signal), Action::KillThread | Action::KillProcess) => {
                signal == libc::SIGSYS
            }
            _ => false,
        }
    }
}

/// Why the kernel cannot be asked here, if it cannot: then the test is to be skipped.
pub fn unavailable() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("the oracle makes calls of Linux on x86_64".to_owned());
    }
    let allow = Program::assemble("ret allow").ok()?;
    match ask(&["accept"], &lists(&[allow.insns().to_vec()])) {
        Ok(output) if output.stdout == b"1" => None,
        Ok(output) => Some(format!(
            "this kernel does not say whether it accepts a filter: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("the oracle does not start: {error}")),
    }
}

/// Whether a 64-bit process can make calls of i386 here.
pub fn has_compat() -> bool {
    let Ok(allow) = Program::assemble("ret allow") else { return false };
    let getpid = SeccompData::new(Arch::I386.audit_arch(), 20);
    let job = Job { stack: vec![allow], calls: vec![getpid] };
    matches!(outcomes(&[job])[0][0].1, Outcome::Returned(pid) if pid > 0)
}

/// Whether the kernel would accept each list of instructions.
///
/// # Panics
/// If the oracle fails.
pub fn accepts(all: &[Vec<Insn>]) -> Vec<bool> {
    let output = expect(&["accept"], &lists(all));
    let answers: Vec<bool> = output.stdout.iter().map(|&answer| answer == b'1').collect();
    assert_eq!(answers.len(), all.len());
    answers
}

/// Programs, and calls to make under them.
#[derive(Clone, Debug)]
pub struct Job {
    /// The filters, the oldest first. All but the newest must let seccomp(2) pass.
    pub stack: Vec<Program>,
    /// The calls. Only harmless ones are to be made: some will be executed.
    pub calls: Vec<SeccompData>,
}

/// Makes the calls of each job under its programs. Returns each with the instruction pointer that
/// the filters saw, and what happened.
///
/// # Panics
/// If the oracle fails.
pub fn outcomes(jobs: &[Job]) -> Vec<Vec<(SeccompData, Outcome)>> {
    let mut input = Vec::new();
    for Job { stack, calls } in jobs {
        input.extend(u16::try_from(stack.len()).unwrap_or(u16::MAX).to_le_bytes());
        stack.iter().for_each(|program| list(program.insns(), &mut input));
        input.extend(u16::try_from(calls.len()).unwrap_or(u16::MAX).to_le_bytes());
        for call in calls {
            let compat = call.arch == Arch::I386.audit_arch();
            input.extend(u16::from(compat).to_le_bytes());
            input.extend(u64::from(call.nr).to_le_bytes());
            call.args.iter().for_each(|arg| input.extend(arg.to_le_bytes()));
        }
    }
    let output = String::from_utf8_lossy(&expect(&["run"], &input).stdout).into_owned();
    let mut lines = output.lines();
    let header: Vec<u64> = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let &[native, compat] = header.as_slice() else { panic!("no addresses in {header:?}") };
    jobs.iter()
        .map(|job| {
            let observed = job.calls.iter().map(|call| {
                let is_compat = call.arch == Arch::I386.audit_arch();
                let instruction_pointer = if is_compat { compat } else { native };
                let line = lines.next().unwrap_or_default();
                (SeccompData { instruction_pointer, ..*call }, outcome(line))
            });
            observed.collect()
        })
        .collect()
}

fn outcome(line: &str) -> Outcome {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |word: &str| word.parse::<i64>().unwrap_or_else(|_| panic!("`{word}` in {line}"));
    let short = |word| u16::try_from(number(word)).unwrap_or_else(|_| panic!("data in {line}"));
    match words.as_slice() {
        ["ret", value] => Outcome::Returned(number(value)),
        ["trapped", data, "ret", _] => Outcome::Trapped(short(data)),
        ["traced", data, "ret", value] => Outcome::Traced(short(data), number(value)),
        ["killed", signal] => Outcome::Killed(i32::try_from(number(signal)).unwrap_or(0)),
        _ => panic!("the oracle said `{line}`"),
    }
}

/// Has getppid(1, 2, 3, 4, 5, 6) notified and answered with 7777: number, arch and arguments as
/// the supervisor saw them, and the result, all in one line.
///
/// # Panics
/// If the oracle fails.
pub fn notified() -> String {
    String::from_utf8_lossy(&expect(&["notify"], &[]).stdout).trim().to_owned()
}

/// Has getuid allowed and then getppid logged: the records of that in the kernel's log. Empty where
/// it cannot be read, or the records go elsewhere.
///
/// # Panics
/// If the oracle fails.
pub fn logged() -> Vec<String> {
    let output = expect(&["log"], &[]);
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Whether the rest of a process lives on when a thread's filter returns this value.
///
/// # Panics
/// If the oracle cannot be started.
pub fn thread_killed(raw: u32) -> bool {
    let output = ask(&["kill-thread", &raw.to_string()], &[]);
    output.unwrap_or_else(|error| panic!("the oracle: {error}")).stdout == b"survived\n"
}

/// The lists as the oracle reads them.
fn lists(all: &[Vec<Insn>]) -> Vec<u8> {
    let mut input = Vec::new();
    all.iter().for_each(|insns| list(insns, &mut input));
    input
}

fn list(insns: &[Insn], input: &mut Vec<u8>) {
    let len = u16::try_from(insns.len()).unwrap_or(u16::MAX);
    input.extend(len.to_le_bytes());
    for insn in insns {
        input.extend(insn.code.to_le_bytes());
        input.extend([insn.jt, insn.jf]);
        input.extend(insn.k.to_le_bytes());
    }
}

fn expect(arguments: &[&str], input: &[u8]) -> Output {
    match ask(arguments, input) {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            panic!("the oracle: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => panic!("the oracle: {error}"),
    }
}

fn ask(arguments: &[&str], input: &[u8]) -> std::io::Result<Output> {
    let mut oracle = Command::new(victim::built("strait-oracle"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = oracle.stdin.take();
    thread::scope(|scope| {
        // Side by side with reading, so that neither waits for the other.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        oracle.wait_with_output()
    })
}
