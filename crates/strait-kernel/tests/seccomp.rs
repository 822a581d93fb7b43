//! Filters that a process loads onto itself. Each test runs this test program again, so that no
//! filter comes onto the test process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::{env, io, thread};

use strait_bpf::{Action, Insn, Jump, Op, Operand, Program};
use strait_kernel::seccomp::{self, Listener, LoadError, LoadOptions, Privileges, Threads};
use strait_kernel::task::{Mode, Task, threads};

/// A filter that answers one number so and allows the rest, whatever the arch.
fn filter(nr: libc::c_long, action: Action) -> Program {
    let operand = Operand::K(u32::try_from(nr).unwrap());
    let ops = [
        Op::Load(0),
        Op::Branch { test: Jump::Eq, operand, jt: 0, jf: 1 },
        Op::Ret(action.raw()),
        Op::Ret(Action::Allow.raw()),
    ];
    Program::new(ops.into_iter().map(Insn::from).collect()).unwrap()
}

/// Plays a role in a process of its own; fails if the role fails.
fn play(role: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env("STRAIT_TEST_ROLE", role)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn one_filter_comes_onto_64_threads_that_run_already() {
    play("tsync");
}

#[test]
fn all_threads_or_none() {
    play("tsync-refused");
}

#[test]
fn a_listener_answers_and_without_it_calls_fail() {
    play("listener");
}

#[test]
fn a_stack_has_one_listener() {
    play("two-listeners");
}

#[test]
fn role() {
    match env::var("STRAIT_TEST_ROLE").as_deref() {
        Err(_) => {}
        Ok("tsync") => {
            with_threads(64, || {
                let denied = filter(libc::SYS_getppid, Action::Errno(99));
                seccomp::load(&denied, LoadOptions::default()).unwrap();
                let own = rustix::process::getpid();
                let threads = threads(own).unwrap();
                assert!(threads.len() >= 65);
                for thread in threads {
                    let task = Task::read(own, thread).unwrap();
                    assert_eq!((task.mode, task.no_new_privs), (Mode::Filter, true));
                }
            });
        }
        Ok("tsync-refused") => {
            // A thread with a filter of its own that the others do not have.
            let (loaded, end) = (Barrier::new(2), Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let own = LoadOptions { threads: Threads::This, ..LoadOptions::default() };
                    seccomp::load(&filter(1000, Action::Errno(1)), own).unwrap();
                    loaded.wait();
                    end.wait();
                });
                loaded.wait();
                let program = filter(1001, Action::Errno(1));
                match seccomp::load(&program, LoadOptions::default()) {
                    Err(LoadError::Thread { tid }) => assert!(tid > 0),
                    other => panic!("{other:?}"),
                }
                match seccomp::load_with_listener(&program, LoadOptions::default()) {
                    Err(LoadError::Thread { tid: 0 }) => {}
                    other => panic!("{other:?}"),
                }
                let own = rustix::thread::gettid();
                let task = Task::read(rustix::process::getpid(), own).unwrap();
                assert_eq!(task.mode, Mode::Disabled, "nothing was loaded");
                end.wait();
            });
        }
        Ok("listener") => {
            let notified = filter(libc::SYS_getppid, Action::Notify);
            let options = LoadOptions::default();
            let listener = seccomp::load_with_listener(&notified, options).unwrap();
            let caller = thread::spawn(call_getppid);
            answer(&listener, |listener, id| listener.fail_call(id, 77));
            assert_eq!(caller.join().unwrap(), Err(77));
            let caller = thread::spawn(call_getppid);
            answer(&listener, Listener::continue_call);
            assert!(caller.join().unwrap().is_ok());
            // Pending and later calls fail when the last copy is closed.
            let caller = thread::spawn(call_getppid);
            let pending = listener.receive().unwrap();
            assert!(listener.is_waiting(pending.id) && !listener.is_waiting(pending.id + 1));
            drop(listener);
            assert_eq!(caller.join().unwrap(), Err(libc::ENOSYS));
            assert_eq!(call_getppid(), Err(libc::ENOSYS));
        }
        Ok("two-listeners") => {
            let options = LoadOptions { privileges: Privileges::NoNew, ..LoadOptions::default() };
            let _first = seccomp::load_with_listener(&filter(1000, Action::Notify), options);
            match seccomp::load_with_listener(&filter(1001, Action::Notify), options) {
                Err(LoadError::ListenerExists { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        Ok(other) => panic!("no role {other}"),
    }
}

fn answer(listener: &Listener, with: impl FnOnce(&Listener, u64) -> io::Result<()>) {
    let notification = listener.receive().unwrap();
    assert_eq!(i64::from(notification.data.nr), libc::SYS_getppid);
    assert!(notification.tid > 0);
    with(listener, notification.id).unwrap();
    assert!(!listener.is_waiting(notification.id));
}

/// getppid(2), which cannot fail by itself: the result or the errno.
fn call_getppid() -> Result<libc::c_long, i32> {
    // SAFETY: no arguments.
    let done = unsafe { libc::syscall(libc::SYS_getppid) };
    if done >= 0 {
        return Ok(done);
    }
    Err(io::Error::last_os_error().raw_os_error().unwrap())
}

/// Runs `then` while this many threads wait.
fn with_threads(number: usize, then: impl FnOnce()) {
    let (started, end) = (Barrier::new(number + 1), Barrier::new(number + 1));
    thread::scope(|scope| {
        for _ in 0..number {
            scope.spawn(|| {
                started.wait();
                end.wait();
            });
        }
        started.wait();
        then();
        end.wait();
    });
}
