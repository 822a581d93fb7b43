//! A recorded shell keeps its jobs: what is stopped stays stopped, is seen to be, and goes on, whoever records.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

use serde_json::Value;
use strait_testkit::script::{PYTHON, has_python};
use strait_testkit::skip;
use tempfile::TempDir;

/// A child with a second thread counts; it is stopped by each signal that stops, held for a while, and
/// continued. The last stop is ended by SIGKILL. In the end 7 times getppid are called.
const SCRIPT: &str = "\
import mmap, os, signal, struct, threading, time
counts = mmap.mmap(-1, 16)
def count(at):
  while True:
    counts[at:at + 8] = struct.pack('Q', struct.unpack('Q', counts[at:at + 8])[0] + 1)
    time.sleep(0.001)
read = lambda: struct.unpack('QQ', counts[:])
def goes_on():
  before = read()
  for _ in range(6000):
    if all(now > then for now, then in zip(read(), before)): return True
    time.sleep(0.01)
  return False
child = os.fork()
if child == 0:
  threading.Thread(target=count, args=(0,), daemon=True).start()
  count(8)
print('runs', goes_on())
for name in ('SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU'):
  os.kill(child, getattr(signal, name))
  _, status = os.waitpid(child, os.WUNTRACED)
  by = signal.Signals(os.WSTOPSIG(status)).name if os.WIFSTOPPED(status) else status
  before = read(); time.sleep(0.1)
  print(name, by, 'held' if read() == before else 'goes on')
  os.kill(child, signal.SIGCONT)
  _, status = os.waitpid(child, os.WCONTINUED)
  print(os.WIFCONTINUED(status), goes_on())
os.kill(child, signal.SIGSTOP); os.waitpid(child, os.WUNTRACED)
os.kill(child, signal.SIGKILL)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for _ in range(7): os.getppid()
";

const EXPECTED: &str = "\
runs True
SIGSTOP SIGSTOP held
True True
SIGTSTP SIGTSTP held
True True
SIGTTIN SIGTTIN held
True True
SIGTTOU SIGTTOU held
True True
-9
";

/// How often a recorded call was made, in all phases.
fn made(recording: &Value, name: &str) -> u64 {
    let calls = recording["calls"].as_array().unwrap().iter();
    let counts = calls.filter(|call| call["name"] == name).map(|call| &call["outcomes"]["count"]);
    counts.map(|count| count.as_u64().unwrap()).sum()
}

fn is_as_without_a_recorder(engine: &str, test: &str) {
    if !has_python(test) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("r.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.args(["record", "--quiet", "--engine", engine, "-o"]).arg(&file);
    command.args(["--", PYTHON, "-S", "-E", "-c", SCRIPT]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !file.exists() {
        return skip(test, said.trim());
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), EXPECTED, "{engine}: {said}");
    let recording: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(recording["engine"]["name"], engine);
    assert_eq!(made(&recording, "getppid"), 7, "{engine}");
}

#[test]
fn a_traced_job_stops_and_goes_on() {
    is_as_without_a_recorder("ptrace", "a_traced_job_stops_and_goes_on");
}

#[test]
fn a_notified_job_stops_and_goes_on() {
    is_as_without_a_recorder("notify", "a_notified_job_stops_and_goes_on");
}

#[test]
fn a_job_that_the_kernel_counts_stops_and_goes_on() {
    is_as_without_a_recorder("ebpf", "a_job_that_the_kernel_counts_stops_and_goes_on");
}

#[test]
fn a_logged_job_stops_and_goes_on() {
    is_as_without_a_recorder("audit", "a_logged_job_stops_and_goes_on");
}
