//! What goes wrong under a supervisor: no hang, no descriptor that is left, no call that is answered
//! for another.
//!
//! | fault | test |
//! |---|---|
//! | a policy that asks for what the kernel lacks | `lesser_kernels.rs` |
//! | closes all descriptors, changes its user | here; `steps.rs`: `a_program_that_has_closed_everything…` |
//! | 500 threads | `run_modes.rs`, `network.rs`: `five_hundred_threads…` |
//! | execs in a loop | here |
//! | ignores SIGTERM | here |
//! | stopped in the middle of a notified call | `network.rs`: `a_stopped_task…` |
//! | dies in the middle of one | `network.rs`: `a_call_that_waits…` |
//! | signals in the middle of one | `run_modes.rs`: `signals_that_interrupt…`; `network.rs`: `a_signal_interrupts…` |
//! | the supervisor is stalled | here |
//! | the supervisor is killed | `run_modes.rs`, `network.rs`, `steps.rs`: `a_dead_supervisor…` |
//! | 10,000 notified calls a second | here |
//! | 100 workloads at once | `strait-runtime`, `service.rs` |
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use strait_testkit::script::{PYTHON, Talk, has_python};
use strait_testkit::skip;
use tempfile::TempDir;

/// Each call has an errno of its own.
const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EPERM)}
    - {syscalls: [mkdir], action: errno(EROFS)}
    - {syscalls: [chroot], action: errno(EACCES)}
    - {syscalls: [symlink], action: errno(ENOSPC)}
";

/// What makes each of them, and the errno that it gets.
const CALLS: &str = "\
import errno, os, signal, socket, sys, threading, time
calls = [(lambda: socket.socket(16, 3, 0), errno.EPERM), (lambda: os.mkdir('/x'), errno.EROFS),
         (lambda: os.chroot('/x'), errno.EACCES), (lambda: os.symlink('x', '/x'), errno.ENOSPC)]
def gets(call, expected):
  try: call(); return False
  except OSError as e: return e.errno == expected
";

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        if !has_python(test) {
            return None;
        }
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("p.yaml"), POLICY).unwrap();
        Some(Bench { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.args(["run", "--mode", "notify", "--policy"]).arg(self.file("p.yaml"));
        command.arg("--").args(words).stderr(Stdio::null());
        command
    }

    fn talk(&self, script: &str) -> Talk {
        Talk::start(&mut self.command(&[PYTHON, "-c", &format!("{CALLS}{script}")]))
    }
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

#[test]
fn a_flood_of_calls_is_answered_each_as_its_own() {
    let Some(bench) = Bench::new("a_flood_of_calls_is_answered_each_as_its_own") else { return };
    // Four kinds of call by eight threads, and each thread knows what it must get.
    let script = "\
wrong = [0] * 8
def flood(i, times):
  call, expected = calls[i % 4]
  wrong[i] = sum(not gets(call, expected) for _ in range(times))
for times in (10, 2500):
  threads = [threading.Thread(target=flood, args=(i, times)) for i in range(8)]
  [t.start() for t in threads]; [t.join() for t in threads]
  print(times, sum(wrong), flush=True); input()
";
    let mut talk = bench.talk(script);
    assert_eq!(talk.line(), "10 0");
    let before = descriptors(talk.id());
    talk.say("");
    assert_eq!(talk.line(), "2500 0");
    assert_eq!(descriptors(talk.id()), before);
    talk.say("");
    assert!(talk.is_silent());
}

#[test]
fn a_program_that_execs_in_a_loop_is_answered_each_time() {
    let Some(bench) = Bench::new("a_program_that_execs_in_a_loop_is_answered_each_time") else {
        return;
    };
    let script = "\
import os, sys
left = int(sys.argv[1])
try: os.mkdir('/x'); print('made')
except OSError as e:
  if e.errno != 30: print('got', e.errno)
if left: os.execv(sys.executable, [sys.executable, '-S', '-E', __file__, str(left - 1)])
print('done')
";
    let file = bench.file("loop.py");
    fs::write(&file, script).unwrap();
    let words = [PYTHON, "-S", "-E", file.to_str().unwrap(), "100"];
    let output = bench.command(&words).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{output:?}");
}

#[test]
fn a_program_that_ignores_sigterm_goes_on_and_strait_with_it() {
    let Some(bench) = Bench::new("a_program_that_ignores_sigterm_goes_on") else { return };
    let script = "\
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
print('ready', flush=True)
while not seen: time.sleep(0.01)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('seen', flush=True)
input()
print(all(gets(*call) for call in calls), flush=True)
";
    let mut talk = bench.talk(script);
    assert_eq!(talk.line(), "ready");
    let strait = Pid::from_raw(talk.id().try_into().unwrap()).unwrap();
    kill_process(strait, Signal::TERM).unwrap();
    assert_eq!(talk.line(), "seen");
    for _ in 0..20 {
        kill_process(strait, Signal::TERM).unwrap();
    }
    talk.say("");
    assert_eq!(talk.line(), "True");
    assert!(talk.is_silent());
}

#[test]
fn a_stalled_supervisor_opens_nothing_and_answers_when_it_goes_on() {
    let Some(bench) = Bench::new("a_stalled_supervisor_opens_nothing") else { return };
    let script = "\
answers = []
threads = [threading.Thread(target=lambda c=c: answers.append(gets(*c))) for c in calls]
print('ready', flush=True)
input()
[t.start() for t in threads]
time.sleep(0.3)
print('answered', len(answers), os.path.lexists('/x'), flush=True)
[t.join() for t in threads]
print(answers, flush=True)
";
    let mut talk = bench.talk(script);
    assert_eq!(talk.line(), "ready");
    let strait = Pid::from_raw(talk.id().try_into().unwrap()).unwrap();
    kill_process(strait, Signal::STOP).unwrap();
    talk.say("");
    assert_eq!(talk.line(), "answered 0 False");
    kill_process(strait, Signal::CONT).unwrap();
    assert_eq!(talk.line(), "[True, True, True, True]");
    assert!(talk.is_silent());
}

#[test]
fn a_program_without_descriptors_and_of_another_user_is_answered() {
    let test = "a_program_without_descriptors_and_of_another_user_is_answered";
    let Some(bench) = Bench::new(test) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root changes its user");
    }
    let script = "\
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
out = os.dup2(1, 900)
os.closerange(0, 900)
os.write(900, b'%d\\n' % sum(gets(*call) for call in calls))
";
    let output = bench.command(&[PYTHON, "-c", &format!("{CALLS}{script}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n", "{output:?}");
}
