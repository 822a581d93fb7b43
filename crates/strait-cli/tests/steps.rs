//! A workload that moves on to a step while it runs: every thread of every process of it at once, and
//! what is left when whoever answers is gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use strait_testkit::script::{PYTHON, Talk, events, has_python};
use strait_testkit::skip;
use tempfile::TempDir;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [prctl], when: \"option not in {PR_SET_NO_NEW_PRIVS}\", action: errno(EPERM)}
    - {syscalls: [mkdir], action: errno(EROFS)}
  steps:
    release:
      rules:
        - {syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EACCES)}
        - {syscalls: [chdir], action: kill-process}
        - {syscalls: [mkdir], action: errno(EPERM)}
    drain:
      after: release
      rules:
        - {syscalls: [socket], action: errno(EPROTO)}
";

/// What the scripts share: `sock` tries a netlink socket, `step` asks for a step without a program.
const PRELUDE: &str = "\
import ctypes, os, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def sock(domain=16):
  try: socket.socket(domain, 3 if domain == 16 else 1, 0).close(); return 0
  except OSError as e: return e.errno
def step(name):
  words = [int.from_bytes(name.encode()[i:i + 8], 'little') for i in range(0, 32, 8)]
  done = libc.syscall(157, 0x53545254, *[ctypes.c_ulong(word) for word in words])
  return ctypes.get_errno() if done else 0
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

    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(STRAIT);
        command.arg("run").arg("--policy").arg(self.dir.path().join("p.yaml")).args(options);
        command.args(["--", PYTHON, "-c", &format!("{PRELUDE}{script}"), STRAIT]);
        command
    }

    fn run(&self, options: &[&str], script: &str) -> (String, Output) {
        let output = self.command(options, script).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).trim().to_owned(), output)
    }

    fn talk(&self, options: &[&str], script: &str) -> Talk {
        Talk::start(&mut self.command(options, script))
    }
}

#[test]
fn a_script_moves_its_whole_workload_on() {
    let Some(bench) = Bench::new("a_script_moves_its_whole_workload_on") else { return };
    // Another process and a shell that were there before: none of them has asked.
    let script = "r, w = os.pipe()\nif os.fork() == 0:\n  os.read(r, 1); os._exit(sock())\n\
                  before = sock()\n\
                  print(before, subprocess.run([sys.argv[1], 'step', 'release']).returncode, sock(), sock(2), flush=True)\n\
                  os.write(w, b'x'); print(os.waitstatus_to_exitcode(os.wait()[1]))";
    let (said, output) = bench.run(&["--denials", "json"], script);
    assert_eq!(said, "0 0 13 0\n13", "{output:?}");
    let events = events(&output);
    let moved = events.iter().find(|event| event["event"] == "step").unwrap();
    assert_eq!((&moved["step"], &moved["from"]), (&"release".into(), &Value::Null), "{moved}");
    // Two of python and the one of strait.
    assert_eq!((&moved["tasks"], &moved["holds"]), (&3.into(), &true.into()), "{moved}");
    let denied = events.iter().find(|event| event["event"] == "denied").unwrap();
    assert_eq!(denied["because"], "step `release`", "{denied}");
    assert_eq!(denied["permit"], Value::Null, "{denied}");
}

#[test]
fn steps_are_gone_through_in_their_order_and_never_back() {
    let Some(bench) = Bench::new("steps_are_gone_through_in_their_order") else { return };
    let script = "print(step('nothing'), sock(), step('drain'), sock(), sock(2), step('release'), step('drain'))\n\
                  strait = lambda name: subprocess.run([sys.argv[1], 'step', name]).returncode\n\
                  print(strait('drain'), strait('release'), strait('derain'), strait('x' * 33))";
    let (said, output) = bench.run(&[], script);
    // ESRCH, EALREADY; over both steps at once the stricter answers hold.
    assert_eq!(said, "3 0 0 71 71 114 0\n0 1 2 2", "{output:?}");
    let (said, output) = bench.run(&["--step", "release"], "print(sock(), step('drain'), sock())");
    assert_eq!(said, "13 0 71", "{output:?}");
    // At the last step there is nothing to move on to, and nobody to ask.
    let (said, output) = bench.run(&["--step", "drain"], "print(step('drain'))");
    assert_eq!(said, "1", "{output:?}");
    let (said, output) = bench.run(&["--stay"], "print(step('release'), sock())");
    assert_eq!(said, "1 0", "{output:?}");
}

#[test]
fn no_thread_makes_a_denied_call_after_the_move() {
    let Some(bench) = Bench::new("no_thread_makes_a_denied_call_after_the_move") else { return };
    // Eight threads and four processes go on trying; each notes whether the move had returned before
    // its call began.
    let script = "import mmap\nflag = mmap.mmap(-1, 4096)\nbad = mmap.mmap(-1, 4096)\n\
                  def try_on():\n  done = 0\n  while done < 30:\n    moved = flag[0]; got = sock()\n    \
                  if moved:\n      done += 1\n      if got != 13: bad[0] = 1\n    elif got not in (0, 13): bad[0] = 2\n\
                  children = []\nfor _ in range(4):\n  child = os.fork()\n  if child == 0:\n    \
                  t = threading.Thread(target=try_on); t.start(); try_on(); t.join(); os._exit(0)\n  children.append(child)\n\
                  threads = [threading.Thread(target=try_on) for _ in range(8)]\n[t.start() for t in threads]\n\
                  time.sleep(0.1); print(step('release')); flag[0] = 1\n\
                  [t.join() for t in threads]; print([os.waitpid(c, 0)[1] for c in children], bad[0])";
    for mode in ["enforce", "notify"] {
        let (said, output) = bench.run(&["--mode", mode], script);
        assert_eq!(said, "0\n[0, 0, 0, 0] 0", "{mode}: {output:?}");
    }
}

#[test]
fn a_program_that_has_closed_everything_and_changed_its_user_moves_on() {
    let test = "a_program_that_has_closed_everything_and_changed_its_user_moves_on";
    let Some(bench) = Bench::new(test) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root changes its user");
    }
    let script = "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nos.closerange(3, 1024)\n\
                  print(sock(), step('release'), sock())";
    let (said, output) = bench.run(&[], script);
    assert_eq!(said, "0 0 13", "{output:?}");
}

#[test]
fn a_step_that_kills_does() {
    let Some(bench) = Bench::new("a_step_that_kills_does") else { return };
    let script = "os.chdir('/'); print(step('release'), flush=True)\n\
                  child = os.fork()\nif child == 0:\n  \
                  threading.Thread(target=lambda: os.chdir('/')).start(); time.sleep(60); os._exit(0)\n\
                  print(os.waitstatus_to_exitcode(os.wait()[1]))";
    let (said, output) = bench.run(&[], script);
    assert_eq!(said, "0\n-9", "{output:?}");
    // Until then it is what it was.
    let (said, output) = bench.run(&[], "os.chdir('/'); print(os.getcwd())");
    assert_eq!((said.as_str(), output.status.signal()), ("/", None), "{output:?}");
}

#[test]
fn a_dead_supervisor_opens_nothing_and_takes_no_moves() {
    let Some(bench) = Bench::new("a_dead_supervisor_opens_nothing_and_takes_no_moves") else {
        return;
    };
    let script = "print(sock(), flush=True); input(); print(sock(), sock(2), step('release'), flush=True)\n\
                  print(subprocess.run([sys.argv[1], 'step', 'release']).returncode, flush=True)";
    for options in [&["--mode", "enforce"], &["--step", "release"]] {
        let mut talk = bench.talk(options, script);
        assert_eq!(talk.line(), if options[0] == "--step" { "13" } else { "0" });
        talk.kill();
        talk.say("");
        // ENOSYS for all that a later step denies, or denies with another errno.
        assert_eq!(talk.line(), "38 38 38");
        assert_eq!(talk.line(), "3");
    }
}

#[test]
fn a_workload_cannot_answer_for_the_supervisor() {
    let Some(bench) = Bench::new("a_workload_cannot_answer_for_the_supervisor") else { return };
    // seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER) with a filter that notifies
    // socket(2): refused while the supervisor lives, and afterwards.
    let script = "insns = (ctypes.c_uint64 * 4)(0x20, 0x2901000015, 0x7fc0000000000006, 0x7fff000000000006)\nclass Prog(ctypes.Structure):\n  \
                  _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]\n\
                  prog = Prog(4, ctypes.addressof(insns))\nlibc.prctl(38, 1, 0, 0, 0)\n\
                  def listen():\n  done = libc.syscall(317, 1, 8, ctypes.byref(prog))\n  return ctypes.get_errno() if done < 0 else 'listens'\n\
                  print(listen(), flush=True); input(); print(listen(), flush=True); print(sock(), flush=True)";
    let mut talk = bench.talk(&[], script);
    assert_eq!(talk.line(), "16");
    talk.kill();
    talk.say("");
    assert_eq!(talk.line(), "16");
    assert_eq!(talk.line(), "38");
}

/// Addresses are decided by threads of their own.
#[test]
fn a_step_takes_away_what_network_gives() {
    let Some(bench) = Bench::new("a_step_takes_away_what_network_gives") else { return };
    let policy = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  network: {connect: ['127.0.0.1:*'], listen: ['127.0.0.1:0']}
  steps:
    release:
      rules: [{syscalls: [connect], action: errno(EXDEV)}]
";
    fs::write(bench.dir.path().join("p.yaml"), policy).unwrap();
    let script = "server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()\n\
                  def connect():\n  try: socket.create_connection(server.getsockname()).close(); return 0\n  \
                  except OSError as e: return e.errno\n\
                  print(connect(), step('release'), connect())";
    let (said, output) = bench.run(&[], script);
    assert_eq!(said, "0 0 18", "{output:?}");
}

/// By a call that the kernel makes, and by one that the supervisor makes in its place.
#[test]
fn the_first_listen_moves_on() {
    let Some(bench) = Bench::new("the_first_listen_moves_on") else { return };
    for network in ["", "  network: {connect: [], listen: ['127.0.0.1:0']}\n"] {
        let policy = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
             default: allow\n{network}  steps:\n    serve:\n      ready: [listen]\n      rules:\n        - \
             {{syscalls: [mkdir], action: errno(EROFS)}}\n        - {{syscalls: [listen], action: errno(EXDEV)}}\n"
        );
        fs::write(bench.dir.path().join("p.yaml"), policy).unwrap();
        // Another process has the step as well, and so has the call that begins it from then on.
        let script = "r, w = os.pipe()\ndef mkdir():\n  try: os.mkdir('/dev/null/x'); return 0\n  \
                      except OSError as e: return e.errno\n\
                      def listen(s):\n  try: s.listen(); return 0\n  except OSError as e: return e.errno\n\
                      if os.fork() == 0:\n  os.read(r, 1); os._exit(mkdir())\n\
                      servers = [socket.socket(), socket.socket()]\n[s.bind(('127.0.0.1', 0)) for s in servers]\n\
                      print(mkdir(), *map(listen, servers), mkdir(), flush=True)\n\
                      os.write(w, b'x'); print(os.waitstatus_to_exitcode(os.wait()[1]))";
        let (said, output) = bench.run(&["--denials", "json"], script);
        // ENOTDIR is the kernel's.
        assert_eq!(said, "20 0 18 30\n30", "{network}{output:?}");
        let events = events(&output);
        let moved: Vec<_> = events.iter().filter(|event| event["event"] == "step").collect();
        assert_eq!(moved.len(), 1, "{events:?}");
        assert_eq!((&moved[0]["step"], &moved[0]["call"]), (&"serve".into(), &"listen".into()));
        assert_eq!((&moved[0]["askedBy"], &moved[0]["holds"]), (&Value::Null, &true.into()));
        assert!(moved[0]["calledBy"].as_u64().unwrap() > 1, "{events:?}");
    }
}

#[test]
fn a_canary_moves_on_too_and_breaks_nothing() {
    let Some(bench) = Bench::new("a_canary_moves_on_too") else { return };
    let script = "print(sock(), step('release'), sock())";
    let (said, output) = bench.run(&["--mode", "canary", "--denials", "json"], script);
    assert_eq!(said, "0 0 0", "{output:?}");
    let summary = events(&output).pop().unwrap();
    assert_eq!(summary["count"], 1, "{summary}");
}

#[test]
fn what_can_move_on_is_verified_as_the_policys() {
    let test = "what_can_move_on_is_verified_as_the_policys";
    let Some(bench) = Bench::new(test) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only who has CAP_SYS_ADMIN is shown a filter");
    }
    let verify_at = |options: &[&str], policy: &Path, at: &[&str]| {
        let mut talk = bench.talk(options, "print(os.getpid(), flush=True); input()");
        let pid = talk.line();
        let output = Command::new(STRAIT)
            .args(["verify", "--pid", &pid, "--json", "--policy"])
            .arg(policy)
            .args(at)
            .output()
            .unwrap();
        talk.say("");
        talk.wait();
        if output.stdout.is_empty() {
            return (String::from_utf8(output.stderr).unwrap(), output.status.code());
        }
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (found["outcome"].as_str().unwrap().to_owned(), output.status.code())
    };
    let verify = |options: &[&str], policy: &Path| verify_at(options, policy, &[]);
    let policy = bench.dir.path().join("p.yaml");
    let other = bench.dir.path().join("other.yaml");
    fs::write(&other, POLICY.replace("[chdir]", "[fchdir]")).unwrap();
    assert_eq!(verify(&[], &policy), ("holds".to_owned(), Some(0)));
    assert_eq!(verify(&["--stay"], &policy), ("holds".to_owned(), Some(0)));
    // Asked about other calls than this policy's steps would be: not what was meant.
    assert_eq!(verify(&[], &other), ("drift".to_owned(), Some(1)));
    // What was started at a step, with a later one or without, is that step's.
    for (step, stay) in [("release", &[][..]), ("release", &["--stay"]), ("drain", &[])] {
        let options = [&["--step", step], stay].concat();
        let at = |at: &[&str]| verify_at(&options, &policy, at);
        assert_eq!(at(&["--step", step]), ("holds".to_owned(), Some(0)), "{options:?}");
        assert_ne!(at(&[]).0, "holds", "{options:?}");
    }
    assert_eq!(verify_at(&[], &policy, &["--step", "drain"]).0, "drift");
    let (said, status) = verify_at(&[], &policy, &["--step", "relaese"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no step `relaese`; did you mean `release`?"), "{said}");
}

#[test]
fn steps_that_nobody_can_move_to_are_refused_at_the_start() {
    let Some(bench) = Bench::new("steps_that_nobody_can_move_to") else { return };
    for (from, to, says) in [
        ("kill-process", "trap(3)", "trap(3)"),
        ("drain:", "a-name-of-more-than-thirty-two-bytes:", "more than 32 bytes"),
    ] {
        fs::write(bench.dir.path().join("p.yaml"), POLICY.replace(from, to)).unwrap();
        let (_, output) = bench.run(&[], "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert!(text.contains(says) && text.contains("--stay"), "{text}");
        let (_, output) = bench.run(&["--stay"], "");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn outside_of_run_there_is_nobody_to_ask() {
    let output = Command::new(STRAIT).args(["step", "release"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("strait run"), "{output:?}");
}
