//! `strait run` in its modes: what the command sees, what is told of denials, and what is left when
//! the supervisor is gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use strait_testkit::script::{PYTHON, Talk, events, has_python};
use tempfile::TempDir;

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EPERM)}
    - {syscalls: [getppid], action: kill-process}
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

    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.arg("run").arg("--policy").arg(self.file("p.yaml")).args(options);
        command.args(["--", PYTHON, "-c", script]);
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Output {
        self.command(options, script).output().unwrap()
    }

    /// The events that are told as JSON on standard error.
    fn events(&self, mode: &str, script: &str) -> (Output, Vec<Value>) {
        let output = self.run(&["--mode", mode, "--denials", "json"], script);
        let events = events(&output);
        (output, events)
    }
}

/// Tries a netlink socket N times, and prints the errnos that came of it.
fn sockets(times: u32) -> String {
    format!(
        "import socket\nseen = set()\nfor _ in range({times}):\n  try:\n    \
         socket.socket(16, 3, 0).close(); seen.add(0)\n  except OSError as e: seen.add(e.errno)\n\
         print(sorted(seen))"
    )
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

#[test]
fn a_supervisor_gives_the_policys_errno_and_tells_each_denial_at_once() {
    let Some(bench) = Bench::new("a_supervisor_gives_the_policys_errno") else { return };
    let (output, events) = bench.events("notify", &sockets(25));
    assert_eq!((stdout(&output), output.status.code()), ("[1]", Some(0)), "{output:?}");
    let times: Vec<u64> = events.iter().filter_map(|event| event["times"].as_u64()).collect();
    assert_eq!(times, [1, 10], "{events:?}");
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!(first["event"], "denied");
    assert_eq!(first["call"], "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)");
    assert_eq!((&first["action"], &first["because"]), (&"errno(EPERM)".into(), &"rule 1".into()));
    assert!(first["image"].as_str().unwrap().contains("python3"), "{first}");
    assert_eq!((&last["event"], &last["count"]), (&"summary".into(), &25.into()));

    // The line that is offered does permit the call.
    let permit = first["permit"].as_str().unwrap();
    let policy = POLICY.replace("  rules:\n", &format!("  rules:\n    - {permit}\n"));
    fs::write(bench.file("p.yaml"), policy).unwrap();
    let (output, events) = bench.events("notify", &sockets(2));
    assert_eq!(stdout(&output), "[0]", "{output:?}");
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn a_canary_breaks_nothing_and_counts_exactly_what_enforcing_would() {
    let Some(bench) = Bench::new("a_canary_breaks_nothing") else { return };
    let script = format!("{}\nimport os; os.getppid(); raise SystemExit(7)", sockets(1000));
    let (output, events) = bench.events("canary", &script);
    assert_eq!((stdout(&output), output.status.code()), ("[0]", Some(7)), "{output:?}");
    let summary = &events[events.len() - 1];
    let calls = summary["calls"].as_array().unwrap();
    let counts: Vec<_> = calls
        .iter()
        .map(|call| (call["name"].as_str().unwrap(), call["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("socket", 1000), ("getppid", 1)], "{summary}");
}

#[test]
fn log_lets_everything_pass_and_says_what_would_be_denied() {
    let Some(bench) = Bench::new("log_lets_everything_pass") else { return };
    let output = bench.run(&["--mode", "log"], &sockets(30));
    assert_eq!((stdout(&output), output.status.code()), ("[0]", Some(0)), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let socket = text.lines().find(|line| line.contains("would be denied: socket")).unwrap();
    assert!(socket.contains("errno(EPERM)") && socket.contains("30 times"), "{text}");
}

#[test]
fn a_call_that_kills_is_explained_where_nobody_looks_on() {
    let Some(bench) = Bench::new("a_call_that_kills_is_explained") else { return };
    let output = bench.run(&[], "import os; os.getppid()");
    assert_eq!(output.status.signal(), Some(31), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--mode canary"), "{text}");
}

#[test]
fn denials_go_to_a_descriptor_that_the_command_does_not_get() {
    let Some(bench) = Bench::new("denials_go_to_a_descriptor") else { return };
    let script = format!("{}\nimport os; print(os.path.exists('/proc/self/fd/9'))", sockets(1));
    let strait =
        bench.command(&["--mode", "notify", "--denials", "json", "--denials-fd", "9"], &script);
    let events = bench.file("events");
    let words: Vec<_> = strait.get_args().map(|arg| arg.to_owned()).collect();
    let output = Command::new("/bin/sh")
        .args(["-c", "out=$1; shift; exec \"$@\" 9>\"$out\"", "sh"])
        .arg(&events)
        .arg(strait.get_program())
        .args(words)
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "[1]\nFalse", "{output:?}");
    let text = fs::read_to_string(events).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_command_inherits_what_is_asked_for_and_no_more() {
    let Some(bench) = Bench::new("the_command_inherits_what_is_asked_for") else { return };
    let script = "import os, resource\nopen_ = [n for n in (7, 8) if os.path.exists(f'/proc/self/fd/{n}')]\n\
                  print(open_, resource.getrlimit(resource.RLIMIT_NOFILE))";
    let strait = bench.command(&["--keep-fd", "7", "--limit", "nofile=64:128"], script);
    let words: Vec<_> = strait.get_args().map(|arg| arg.to_owned()).collect();
    let output = Command::new("/bin/sh")
        .args(["-c", "exec \"$@\" 7</dev/null 8</dev/null", "sh"])
        .arg(strait.get_program())
        .args(words)
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "[7] (64, 128)", "{output:?}");
    let output = bench.run(&["--keep-fd", "77"], "");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let output = bench.run(&["--limit", "beer=1"], "");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

#[test]
fn five_hundred_threads_are_answered_each_for_itself() {
    let Some(bench) = Bench::new("five_hundred_threads") else { return };
    let script = "import socket, threading\nseen = []\ndef one():\n  for _ in range(20):\n    try: \
                  socket.socket(16, 3, 0)\n    except OSError as e: seen.append(e.errno)\n\
                  threads = [threading.Thread(target=one) for _ in range(500)]\n\
                  [t.start() for t in threads]; [t.join() for t in threads]\n\
                  print(len(seen), set(seen))";
    let (output, events) = bench.events("notify", script);
    assert_eq!(stdout(&output), "10000 {1}", "{output:?}");
    assert_eq!(events[events.len() - 1]["count"], 10_000);
}

#[test]
fn signals_that_interrupt_notified_calls_leave_no_call_unanswered() {
    let Some(bench) = Bench::new("signals_that_interrupt_notified_calls") else { return };
    let script = "import signal, socket\nsignal.signal(signal.SIGALRM, lambda *_: None)\n\
                  signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\nseen = {}\nfor _ in range(3000):\n  \
                  try: socket.socket(16, 3, 0); seen[0] = 1\n  except OSError as e: seen[e.errno] = \
                  seen.get(e.errno, 0) + 1\nprint(seen)";
    let (output, events) = bench.events("notify", script);
    // An interrupted call may be EINTR to Python; none is let pass, and none hangs.
    assert!(!stdout(&output).contains("{0:") && !stdout(&output).contains(" 0:"), "{output:?}");
    assert!(stdout(&output).contains("1: "), "{output:?}");
    assert_eq!(events[events.len() - 1]["event"], "summary");
}

#[test]
fn a_dead_supervisor_opens_nothing_and_the_command_goes_on() {
    let Some(bench) = Bench::new("a_dead_supervisor_opens_nothing") else { return };
    let script = format!("print('ready', flush=True)\ninput()\n{}", sockets(3));
    let mut talk = Talk::start(&mut bench.command(&["--mode", "notify"], &script));
    assert_eq!(talk.line(), "ready");
    talk.kill();
    talk.say("go on");
    // ENOSYS: the kernel's answer where nobody holds the listener.
    assert_eq!(talk.line(), "[38]");
}

/// What stands in the kernel then is what verify is told that it is to find.
#[test]
fn a_supervised_command_is_verified_as_one() {
    let test = "a_supervised_command_is_verified_as_one";
    if !rustix::process::geteuid().is_root() {
        return strait_testkit::skip(test, "only who has CAP_SYS_ADMIN is shown a filter");
    }
    let Some(bench) = Bench::new(test) else { return };
    let script = "import os\nprint(os.getpid(), flush=True)\ninput()";
    let mut talk = Talk::start(&mut bench.command(&["--mode", "notify"], script));
    let pid = talk.line();
    let verify = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.args(["verify", "--pid", &pid, "--policy"]).arg(bench.file("p.yaml")).args(more);
        command.output().unwrap()
    };
    let supervised = verify(&["--supervised"]);
    assert_eq!(supervised.status.code(), Some(0), "{supervised:?}");
    assert_eq!(verify(&[]).status.code(), Some(1), "it fails calls otherwise");
    let other = POLICY.replace("EPERM", "EACCES");
    fs::write(bench.file("p.yaml"), other.replace("getppid", "getpgrp")).unwrap();
    assert_eq!(verify(&["--supervised"]).status.code(), Some(1), "another policy is another");
    talk.say("go on");
}

#[test]
fn a_command_that_is_to_die_with_strait_does() {
    let Some(bench) = Bench::new("a_command_that_is_to_die_with_strait") else { return };
    let command = &mut bench.command(&["--die-with-parent"], "print('ready', flush=True)\ninput()");
    let mut talk = Talk::start(command);
    assert_eq!(talk.line(), "ready");
    talk.kill();
    // The last writer is gone: end of file, and not a line that input() would wait to answer.
    assert!(talk.is_silent());
}

#[test]
fn a_list_of_executables_and_isolation_leave_the_rest_as_it_was() {
    let Some(bench) = Bench::new("a_list_of_executables_and_isolation") else { return };
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  exec: {allow: [/bin, /usr/bin], shells: deny}
  isolation: {other-processes: deny}
";
    fs::write(bench.file("p.yaml"), policy).unwrap();
    // Writes, renames between folders, children, pipes, and signals to one's own children go on.
    let script = "import os, signal, subprocess, tempfile\nd = tempfile.mkdtemp()\n\
                  [os.mkdir(f'{d}/{x}') for x in 'ab']\nopen(f'{d}/a/f', 'w').write('x')\n\
                  os.rename(f'{d}/a/f', f'{d}/b/f')\n\
                  print(subprocess.run(['cat', f'{d}/b/f'], capture_output=True).stdout)\n\
                  p = subprocess.Popen(['sleep', '60']); p.send_signal(signal.SIGTERM); print(p.wait())\n\
                  for what in (['sh', '-c', ':'], [f'{d}/t']):\n\
                  \x20 try: open(f'{d}/t', 'wb').write(open('/bin/true', 'rb').read()); os.chmod(f'{d}/t', 0o755); \
                  subprocess.run(what); print('ran')\n\
                  \x20 except OSError as e: print(e.errno)\n\
                  for path in (f'/proc/{os.getppid()}/environ', '/proc/self/mem'):\n\
                  \x20 try: os.open(path, os.O_RDWR if 'mem' in path else os.O_RDONLY); print('open')\n\
                  \x20 except OSError as e: print(e.errno)\n\
                  try: os.kill(os.getppid(), 0); print('sent')\nexcept OSError as e: print(e.errno)";
    let output = bench.run(&[], script);
    assert_eq!(stdout(&output), "b'x'\n-15\n13\n13\n13\n13\n1", "{output:?}");
    // The command itself has to be on the list.
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["run", "--policy"])
        .arg(bench.file("p.yaml"))
        .args(["--", "/bin/sh", "-c", ":"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(126), "{output:?}");
}
