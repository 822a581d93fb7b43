//! Programs that run and end by themselves.

use std::process::Command;

use serde_json::json;
use strait_testkit::skip;

use crate::bench::{Bench, have};

#[test]
fn ls_of_a_large_tree() {
    let tightened = Bench::new().tighten_holds(&["ls", "-laR", "/usr/share"]);
    // A tight policy, not a default profile: what ls needs is a few dozen calls.
    assert!(tightened.allowed().len() < 60, "{:?}", tightened.allowed());
    assert!(!tightened.allowed().contains(&"execve".to_owned()), "ls starts nothing");
}

#[test]
fn python_json() {
    if have("python_json", &["python3"]) {
        let script = "import json; print(json.dumps({str(i): [i] * 9 for i in range(999)})[:20])";
        Bench::new().tighten_holds(&["python3", "-c", script]);
    }
}

#[test]
fn python_threads() {
    if have("python_threads", &["python3"]) {
        let script = "
import threading, queue
q, out = queue.Queue(), []
def work():
    while (item := q.get()) is not None: out.append(item * item)
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for i in range(2000): q.put(i)
for t in threads: q.put(None)
for t in threads: t.join()
assert sorted(out) == [i * i for i in range(2000)]";
        Bench::new().tighten_holds(&["python3", "-c", script]);
    }
}

#[test]
fn python_subprocess() {
    if have("python_subprocess", &["python3"]) {
        let script = "
import subprocess
for _ in range(3):
    assert subprocess.run(['sh', '-c', 'ls / | wc -l'], capture_output=True).returncode == 0";
        let tightened = Bench::new().tighten_holds(&["python3", "-c", script]);
        assert!(tightened.allowed().contains(&"execve".to_owned()));
    }
}

#[test]
fn python_asyncio_sockets() {
    if have("python_asyncio_sockets", &["python3"]) {
        let script = "
import asyncio
async def echo(reader, writer):
    writer.write(await reader.readline()); await writer.drain(); writer.close()
async def main():
    server = await asyncio.start_server(echo, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(20):
        reader, writer = await asyncio.open_connection('127.0.0.1', port)
        writer.write(b'hello\\n'); assert await reader.readline() == b'hello\\n'; writer.close()
    server.close()
asyncio.run(main())";
        Bench::new().tighten_holds(&["python3", "-c", script]);
    }
}

#[test]
fn python_multiprocessing() {
    if have("python_multiprocessing", &["python3"]) {
        let script = "
import multiprocessing
if __name__ == '__main__':
    with multiprocessing.Pool(4) as pool:
        assert pool.map(abs, range(-500, 0)) == list(range(500, 0, -1))
        pool.close(); pool.join()";
        let bench = Bench::new();
        let path = bench.write("pool.py", script);
        bench.tighten_holds(&["python3", &path]);
    }
}

/// Whether a worker has ended by itself when the pool is left is a race.
#[test]
fn python_pool_that_ends_its_workers() {
    if have("python_pool_that_ends_its_workers", &["python3"]) {
        let script = "
import multiprocessing
if __name__ == '__main__':
    for _ in range(3):
        with multiprocessing.Pool(3) as pool:
            assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))";
        let bench = Bench::new();
        let path = bench.write("pool.py", script);
        bench.tighten_holds(&["python3", &path]);
    }
}

#[test]
fn git_init_commit_clone() {
    if have("git_init_commit_clone", &["git"]) {
        let bench = Bench::new();
        let script = bench.write(
            "git.sh",
            "set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
work=$(mktemp -d); cd $work
git init -q one; cd one
for i in 1 2 3; do echo $i > file$i; git add .; git commit -qm \"change $i\"; done
cd ..; git clone -q one two
test $(git -C two rev-list --count HEAD) = 3
rm -rf $work",
        );
        bench.tighten_holds(&["sh", &script]);
    }
}

#[test]
fn sqlite_builds_and_queries() {
    if have("sqlite_builds_and_queries", &["sqlite3"]) {
        let bench = Bench::new();
        let sql = "
drop table if exists t; create table t(a integer primary key, b text); begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
insert into t select i, 'row ' || i from n; commit;
create index by_b on t(b); select count(*), max(b) from t where b like 'row 4%'; vacuum;";
        bench.tighten_holds(&["sqlite3", &bench.path("test.db"), sql]);
    }
}

#[test]
fn a_go_program() {
    if have("a_go_program", &["fzf"]) {
        let bench = Bench::new();
        let list = bench.write("list", "alpha\nbeta\ngamma\n");
        bench.tighten_holds(&["sh", "-c", &format!("fzf --filter=mma < {list}")]);
    }
}

#[test]
fn a_static_pie_program_with_64_threads() {
    let bench = Bench::new();
    let path = bench.path("threads");
    bench.rustc("threads.rs", &path, "-O -C target-feature=+crt-static");
    bench.tighten_holds(&[&path]);
}

#[test]
fn a_32_bit_program() {
    let name = "a_32_bit_program";
    if !have(name, &["as", "ld"]) {
        return;
    }
    let bench = Bench::new();
    let source = bench.write(
        "hello.s",
        ".globl _start
_start: mov $20, %eax; int $0x80; mov $4, %eax; mov $1, %ebx; mov $text, %ecx; mov $6, %edx
int $0x80; mov $1, %eax; mov $7, %ebx; int $0x80
text: .ascii \"hello\\n\"\n",
    );
    // By the number that it is given, and with the errno for its status.
    let probe = bench.write(
        "probe.s",
        ".globl _start
_start: mov 8(%esp), %esi; movzbl (%esi), %eax; sub $48, %eax; int $0x80
neg %eax; mov %eax, %ebx; mov $1, %eax; int $0x80
",
    );
    let assembled = |source: &str| {
        let (object, program) = (format!("{source}.o"), format!("{source}.bin"));
        for command in [
            ["as", "--32", "-o", &object, source].as_slice(),
            &["ld", "-m", "elf_i386", "-o", &program, &object],
        ] {
            assert!(Command::new(command[0]).args(&command[1..]).status().unwrap().success());
        }
        program
    };
    let (program, probe) = (assembled(&source), assembled(&probe));
    if Command::new(&program).output().map(|output| output.status.code()).ok() != Some(Some(7)) {
        return skip(name, "this kernel runs no 32-bit programs");
    }
    let tightened = bench.tighten(&[&program]);
    tightened.assert_holds();
    assert_eq!(tightened.json["confined"]["exit"], json!({"status": 7}));
    assert_eq!(tightened.json["policy"]["architectures"], json!(["i386"]));
    // Number 4, write, was recorded and is made: EBADF, as descriptor 0 is open for reading only. 6,
    // close, was not, and is denied.
    for (nr, status) in [("4", 9), ("6", 1)] {
        let policy = tightened.policy.to_str().unwrap();
        let output = bench.strait(&["run", "-p", policy, "--", &probe, nr]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{nr}: {}", crate::bench::show(&output));
    }
}

#[test]
fn a_command_that_fails() {
    let tightened = Bench::new().tighten_holds(&["ls", "/nonexistent-for-certain"]);
    assert_eq!(tightened.json["confined"]["exit"], json!({"status": 2}));
}

#[test]
fn a_command_that_a_signal_kills() {
    let tightened = Bench::new().tighten_holds(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(tightened.json["confined"]["exit"], json!({"signal": 15}));
}

#[test]
fn a_command_that_daemonises() {
    if have("a_command_that_daemonises", &["python3"]) {
        // The daemon outlives its parent and makes a call that the parent does not.
        let script = "
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
time.sleep(0.3)
os.getpgid(0)
os.sched_getaffinity(0)";
        let tightened = Bench::new().tighten_holds(&["python3", "-c", script]);
        let allowed = tightened.allowed();
        assert!(allowed.contains(&"getpgid".to_owned()), "the daemon was not recorded");
    }
}

/// Probes that fail: x32, io_uring set up with nothing, numbers that are no calls. They fail alike
/// when confined, and open nothing.
#[test]
fn probes_that_fail() {
    if !have("probes_that_fail", &["python3"]) {
        return;
    }
    let script = "
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
errnos = []
for nr in [0x40000000 | 39, -5, -1, 400, 100000, 425]:
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(nr), 0, 0, 0, 0)
    errnos.append(ctypes.get_errno() if result == -1 else 0)
print(errnos)
open(sys.argv[1], 'a').write(repr(errnos) + '\\n')";
    let bench = Bench::new();
    let log = bench.path("log");
    let tightened = bench.tighten(&["python3", "-c", script, &log]);
    let runs = std::fs::read_to_string(log).unwrap();
    let runs: Vec<&str> = runs.lines().collect();
    assert_eq!(runs[0], runs[1]);
    if !runs[0].starts_with("[38, 38, 38, 38, 38,") {
        return skip("probes_that_fail", &format!("this kernel answers {}", runs[0]));
    }
    tightened.assert_holds();
    assert_eq!(tightened.json["policy"]["architectures"], json!(["x86_64"]));
    assert!(!tightened.allowed().contains(&"io_uring_setup".to_owned()));
}

#[test]
fn once_does_not_run_the_command_again() {
    let bench = Bench::new();
    let log = bench.path("log");
    let tightened = bench.tighten_with(&["--once"], &["sh", "-c", &format!("echo ran >> {log}")]);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ran\n");
    assert_eq!(tightened.json["confined"], serde_json::Value::Null);
    assert_eq!(tightened.status, Some(0), "{}", tightened.stderr);
}

#[test]
fn a_second_run_that_does_otherwise_is_said_and_fails() {
    // The second run finds the file that the first one made, and takes another way.
    let bench = Bench::new();
    let mark = bench.path("mark");
    let script = format!("test -e {mark} && exec mkdir {mark}.d; : > {mark}; mkdir --version");
    let tightened = bench.tighten(&["sh", "-c", &script]);
    assert_eq!(tightened.status, Some(1), "{}", tightened.stderr);
    assert_eq!(tightened.json["behavedAsFirst"], false);
    let denials = tightened.json["confined"]["denials"].as_array().unwrap();
    assert!(denials.iter().any(|denial| denial["name"] == "mkdir"), "{denials:?}");
}
