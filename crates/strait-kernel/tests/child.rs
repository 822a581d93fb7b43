//! Children on the real kernel: what runs, what does not and why, and the gate.
//!
//! Every filter is loaded in a forked child, never in the test process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::{fs, io, thread};

use rustix::process::{Resource, Signal};
use strait_bpf::{Action, Insn, Jump, Op, Operand, Program};
use strait_kernel::child::{Child, Confinement, ExecError, ExecToken, PendingChild};
use strait_kernel::command::{Command, CommandError, Stream};
use strait_kernel::seccomp::LoadOptions;
use strait_testkit::victim;

/// A filter that answers each of these numbers so and allows the rest, whatever the arch.
fn filter(answers: &[(libc::c_long, Action)]) -> Program {
    Program::new(answer(answers)).unwrap()
}

fn answer(answers: &[(libc::c_long, Action)]) -> Vec<Insn> {
    let mut ops = vec![Op::Load(0)];
    for &(nr, action) in answers {
        let nr = Operand::K(u32::try_from(nr).unwrap());
        ops.push(Op::Branch { test: Jump::Eq, operand: nr, jt: 0, jf: 1 });
        ops.push(Op::Ret(action.raw()));
    }
    ops.push(Op::Ret(Action::Allow.raw()));
    ops.into_iter().map(Insn::from).collect()
}

/// The token of these tests, which need not be secret.
const TOKEN: ExecToken = ExecToken::from_words([0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00]);

/// The same, with the gate: execve with the token is notified.
fn gated(answers: &[(libc::c_long, Action)]) -> Program {
    let execve = u32::try_from(libc::SYS_execve).unwrap();
    let equal = |value, jf| Op::Branch { test: Jump::Eq, operand: Operand::K(value), jt: 0, jf };
    let mut gate = vec![Op::Load(0), equal(execve, 9)];
    for (word, at) in TOKEN.words().into_iter().zip([48, 56]) {
        for (half, at) in [(word & 0xffff_ffff, at), (word >> 32, at + 4)] {
            // The low half comes first where the machine has it so.
            let at = if cfg!(target_endian = "little") { at } else { at ^ 4 };
            let skip = 9 - u8::try_from(gate.len()).unwrap();
            gate.extend([Op::Load(at), equal(u32::try_from(half).unwrap(), skip)]);
        }
    }
    gate.push(Op::Ret(Action::Notify.raw()));
    Program::new(gate.into_iter().map(Insn::from).chain(answer(answers)).collect()).unwrap()
}

fn command(program: &str, arguments: &[&str]) -> Command {
    Command::new(OsStr::new(program), arguments.iter().map(OsString::from)).unwrap()
}

fn fork(program: &str, arguments: &[&str]) -> PendingChild {
    PendingChild::fork(&command(program, arguments)).unwrap()
}

fn confined(program: &Program, gate: bool) -> Option<Confinement<'_>> {
    let gate = gate.then_some(TOKEN);
    Some(Confinement { program, options: LoadOptions::default(), gate, keep_listener: false })
}

fn code(child: io::Result<Child>) -> Option<i32> {
    child.unwrap().wait().unwrap().code()
}

/// Runs `sh -c script` and gives its standard output.
fn output(script: &str, confinement: Option<Confinement<'_>>) -> String {
    output_of(command("sh", &["-c", script]), confinement)
}

fn output_of(command: Command, confinement: Option<Confinement<'_>>) -> String {
    let (mut reader, writer) = io::pipe().unwrap();
    let command = command.redirect(Stream::Stdout, OwnedFd::from(writer));
    let child = PendingChild::fork(&command).unwrap();
    drop(command);
    let child = child.exec(confinement).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn the_program_runs_and_its_status_is_passed_on() {
    assert_eq!(code(fork("true", &[]).exec(None).map_err(io::Error::other)), Some(0));
    assert_eq!(code(fork("sh", &["-c", "exit 7"]).exec(None).map_err(io::Error::other)), Some(7));
    let killed = fork("sh", &["-c", "kill -TERM $$"]).exec(None).unwrap().wait().unwrap();
    assert_eq!(killed.signal(), Some(15));
}

#[test]
fn a_child_that_is_not_told_to_go_on_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("made");
    let pending = fork("touch", &[file.to_str().unwrap()]);
    let pid = pending.pid().as_raw_pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("\nSeccomp:\t0\n"), "{status}");
    drop(pending);
    assert!(!file.exists());
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "reaped");
}

#[test]
fn what_cannot_run_is_told_by_type_and_status() {
    let none = Command::new(OsStr::new("no-such-program-here"), []).unwrap_err();
    assert!(matches!(none, CommandError::NotFound { .. }));
    assert_eq!(none.exit_status(), 127);
    assert_eq!(Command::new(OsStr::new("/etc/passwd"), []).unwrap_err().exit_status(), 126);
    assert_eq!(Command::new(OsStr::new("/etc"), []).unwrap_err().exit_status(), 126);

    let directory = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let allow = filter(&[]);
    let run = |path: &str| fork(path, &[]).exec(confined(&allow, false));
    assert_eq!(
        code(run(&script("good", "#!/bin/sh\nexit 5\n")).map_err(io::Error::other)),
        Some(5)
    );
    let plain = run(&script("plain", "exit 5\n")).unwrap_err();
    assert!(matches!(plain, ExecError::NotExecutable { .. }), "{plain:?}");
    assert_eq!(plain.exit_status(), 126);
    let orphan = run(&script("orphan", "#!/no/such/interpreter\n")).unwrap_err();
    assert!(matches!(orphan, ExecError::NotFound { .. }), "{orphan:?}");
    assert_eq!(orphan.exit_status(), 127);
}

#[test]
fn exec_errors_are_told_when_the_filter_leaves_no_way_to_tell_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain");
    fs::write(&path, "exit 5\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    for action in [Action::Errno(1), Action::KillProcess, Action::Notify, Action::Trap(0)] {
        let mute = gated(&[
            (libc::SYS_execve, Action::Errno(1)),
            (libc::SYS_exit_group, action),
            (libc::SYS_exit, action),
            (libc::SYS_write, action),
            (libc::SYS_futex, action),
        ]);
        let error = fork(path.to_str().unwrap(), &[]).exec(confined(&mute, true)).unwrap_err();
        assert_eq!(error.exit_status(), 126, "{action}: {error:?}");
    }
}

#[test]
fn the_gate_lets_the_childs_own_exec_pass_and_no_other() {
    // Every call of the child but its own execve is fatal until then: it makes none.
    let program = gated(&[(libc::SYS_execve, Action::Errno(13))]);
    let error = "$( (/bin/true) 2>&1 )";
    let text = output(&format!("echo ran; echo {error}"), confined(&program, true));
    let (first, second) = text.split_once('\n').unwrap();
    assert_eq!(first, "ran");
    assert!(second.contains("Permission denied"), "the policy's own errno: {text}");
}

/// Runs the victim under a gate that is closed before its first instruction; its output and status.
fn victim(words: &str) -> (String, Option<i32>) {
    let program = gated(&[(libc::SYS_execve, Action::Errno(13))]);
    let (mut reader, writer) = io::pipe().unwrap();
    let arguments = words.split(' ').map(OsString::from);
    let command = Command::new(victim::program().as_os_str(), arguments)
        .unwrap()
        .redirect(Stream::Stdout, OwnedFd::from(writer));
    let child = PendingChild::fork(&command).unwrap();
    drop(command);
    let stopped = child.seize().unwrap().exec(confined(&program, true)).unwrap();
    let child = stopped.release().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap().code())
}

#[test]
fn with_the_listener_closed_even_the_token_opens_nothing() {
    let [fifth, sixth] = TOKEN.words();
    let (text, status) = victim(&format!("exec-with {fifth} {sixth} /bin/true exit 3"));
    assert_eq!((text.as_str(), status), ("exec: 38\n", Some(3)), "ENOSYS");
}

#[test]
fn the_token_must_be_secret_as_a_workload_may_have_a_listener_of_its_own() {
    // Of two filters that notify a call the newest one's listener is asked. If this ever fails,
    // the kernel has become stricter and the token need not be secret any more.
    let [fifth, sixth] = TOKEN.words();
    let words = format!("approve-exec exec-with {fifth} {sixth} /bin/true exit 3");
    assert_eq!(victim(&words), (String::new(), Some(0)));
    // Without it the older filter's errno outranks the newer one's notification.
    let words = format!("approve-exec exec-with {fifth} 0 /bin/true exec /bin/true exit 3");
    assert_eq!(victim(&words), ("exec: 13\nexec: 13\n".to_owned(), Some(3)));
}

#[test]
fn without_a_gate_a_denied_execve_is_told() {
    let program = filter(&[(libc::SYS_execve, Action::Errno(1))]);
    let error = fork("true", &[]).exec(confined(&program, false)).unwrap_err();
    assert!(matches!(error, ExecError::NotExecutable { .. }), "{error:?}");
}

#[test]
fn many_children_start_from_many_threads_at_once() {
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let program = gated(&[(libc::SYS_execve, Action::Errno(1))]);
                for _ in 0..8 {
                    let child = fork("true", &[]).exec(confined(&program, true));
                    assert_eq!(code(child.map_err(io::Error::other)), Some(0));
                }
            });
        }
    });
}

#[test]
fn only_descriptors_that_are_kept_are_inherited() {
    let (kept, not_kept) = (io::pipe().unwrap().0, io::pipe().unwrap().0);
    for pipe in [&kept, &not_kept] {
        rustix::io::fcntl_setfd(pipe, rustix::io::FdFlags::empty()).unwrap();
    }
    // Told by what they are: a shell may use the numbers for something of its own.
    let list = || command("sh", &["-c", "for fd in /proc/$$/fd/*; do readlink $fd; done"]);
    let is_open = |text: &str, pipe: &io::PipeReader| {
        let inode = rustix::fs::fstat(pipe).unwrap().st_ino;
        text.lines().any(|line| line == format!("pipe:[{inode}]"))
    };
    let all = output_of(list(), None);
    assert!(is_open(&all, &kept) && is_open(&all, &not_kept), "{all}");
    let some = output_of(list().keep_only(&[kept.as_raw_fd()]).unwrap(), None);
    assert!(is_open(&some, &kept) && !is_open(&some, &not_kept), "{some}");
    let error = list().keep_only(&[987_654]).unwrap_err();
    assert_eq!(error.exit_status(), 125);
}

#[test]
fn limits_are_the_programs_alone() {
    let limited = command("sh", &["-c", "ulimit -Sn; ulimit -Hn"]);
    let text = output_of(limited.limit(Resource::Nofile, Some(64), Some(128)), None);
    assert_eq!(text, "64\n128\n");
    assert_ne!(output("ulimit -Hn", None), "128\n");
}

#[test]
fn the_program_gets_the_signal_when_its_parent_ends() {
    let (mut reader, writer) = io::pipe().unwrap();
    // A thread is the parent that counts: it ends when the closure does.
    let child = thread::spawn(move || {
        let wait = command("sh", &["-c", "echo ready; exec sleep 1000"])
            .redirect(Stream::Stdout, OwnedFd::from(writer))
            .signal_on_parent_death(Signal::USR1);
        let child = PendingChild::fork(&wait).unwrap().exec(None).unwrap();
        reader.read_exact(&mut [0; 6]).unwrap();
        child
    });
    let status = child.join().unwrap().wait().unwrap();
    assert_eq!(status.signal(), Some(10));
}

#[test]
fn signals_are_as_the_parent_had_them_and_sigpipe_is_default() {
    let text = output("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status", None);
    let mask = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk"), 0, "{text}");
    assert_eq!(mask("SigIgn") & 1 << (libc::SIGPIPE - 1), 0, "{text}");
}

#[test]
fn signals_while_it_starts_do_not_confuse_the_gate() {
    let program = gated(&[(libc::SYS_execve, Action::Errno(1))]);
    for _ in 0..50 {
        let pending = fork("true", &[]);
        let pid = pending.pid();
        let child = thread::scope(|scope| {
            // SIGCONT and SIGWINCH do nothing by default, but interrupt a call that waits.
            let storm = scope.spawn(move || {
                for _ in 0..200 {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::WINCH);
                }
            });
            let child = pending.exec(confined(&program, true));
            storm.join().unwrap();
            child
        });
        assert_eq!(code(child.map_err(io::Error::other)), Some(0));
    }
}
