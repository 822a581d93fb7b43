//! What is promised of kernels that are older than the one that Strait is made on, on one: Debian 12's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use strait_policy::Recording;
use strait_testkit::{older_kernel, victim};

/// Each part ends with a line of its name and the status of what it is about.
const SCRIPT: &str = "\
export NO_COLOR=1
part() { echo; echo \"== $1 $status\"; }
run() { \"$@\" 2>&1; status=$?; }
echo 'apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules: [{syscalls: [ptrace], action: errno(EPERM)}]' > /tmp/plain.yaml
cp /tmp/plain.yaml /tmp/both.yaml
echo '  exec: {allow: [/bin]}
  network: {connect: [\"127.0.0.1:*\"]}' >> /tmp/both.yaml
uname -r; status=0; part uname
for engine in ebpf notify ptrace audit; do
  strait record --engine $engine -o /tmp/$engine -- strait-caller table 3 > /dev/null 2>&1
  status=$?; cat /tmp/$engine; part $engine
done
run strait tighten -o /tmp/least.yaml -- ls /proc/self/fd; part tighten
run strait run --policy /tmp/least.yaml -- mkdir /tmp/none; part denied
strait run --policy /tmp/plain.yaml -- sleep 600 &
for _ in $(seq 200); do
  pid=$(pidof sleep) && grep -q 'Seccomp:.*2' /proc/$pid/status && break
  usleep 200000
done
run strait verify --pid $pid --policy /tmp/plain.yaml; part verify
run strait verify --pid $pid --policy /tmp/least.yaml; part drift
kill $pid
run strait run --policy /tmp/both.yaml -- nc 127.0.0.1 9; part near
run strait run --policy /tmp/both.yaml -- nc 192.0.2.1 9; part far
cp /bin/busybox /tmp/uname
run strait run --policy /tmp/both.yaml -- /tmp/uname; part outside
run strait attack --policy /tmp/both.yaml 2> /dev/null; part attack
";

#[test]
fn what_strait_does_on_debians_kernel() {
    let test = "what_strait_does_on_debians_kernel";
    let strait = Path::new(env!("CARGO_BIN_EXE_strait"));
    let Some(said) = older_kernel::run(test, &[strait, &victim::caller()], SCRIPT) else { return };
    let mut parts = BTreeMap::new();
    let mut text = String::new();
    for line in said.lines() {
        match line.strip_prefix("== ").and_then(|end| end.split_once(' ')) {
            Some((name, status)) => {
                parts.insert(name, (status.parse::<i32>().unwrap(), std::mem::take(&mut text)));
            }
            None => text = text + line + "\n",
        }
    }
    let part = |name: &str| parts.get(name).unwrap_or_else(|| panic!("no {name}: {said}"));
    assert!(part("uname").1.trim().starts_with("6.1."), "{said}");
    let counted = |engine: &str| {
        let (status, text) = part(engine);
        assert_eq!(*status, 0, "{engine}: {text}");
        let recording = Recording::from_json(text.trim()).unwrap();
        assert_eq!(recording.engine().name, engine);
        assert!(!recording.completeness().is_lossy(), "{engine}: {:?}", recording.completeness());
        let mut counts = BTreeMap::new();
        for call in recording.calls() {
            *counts.entry((call.arch, call.nr)).or_insert(0) += call.outcomes.count;
        }
        counts
    };
    let by_ebpf = counted("ebpf");
    assert!(by_ebpf.len() > 20, "{by_ebpf:?}");
    for engine in ["notify", "ptrace", "audit"] {
        assert_eq!(counted(engine), by_ebpf, "{engine}");
    }
    for (name, status, line) in [
        ("tighten", 0, "by 1 program; ebpf (complete)"),
        ("tighten", 0, "decide as the policy says"),
        ("denied", 1, "Operation not permitted"),
        ("verify", 0, "as the policy"),
        ("drift", 1, "drift, lets more pass"),
        ("near", 1, "(127.0.0.1): Connection refused"),
        ("far", 1, "(192.0.2.1): Permission denied"),
        ("outside", 126, "/tmp/uname: Permission denied"),
        ("attack", 1, "blocked  connect-outside: "),
        ("attack", 1, "blocked  exec-outside: "),
        ("attack", 1, "blocked  argument-rewrite: "),
    ] {
        let (ended, text) = part(name);
        assert_eq!(*ended, status, "{name}: {text}");
        assert!(text.contains(line), "{name}: `{line}` is not in {text}");
    }
}
