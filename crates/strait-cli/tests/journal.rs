//! Denials in a real journal: systemd-journald, started in a mount namespace with a `/run` of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use strait_testkit::script::{PYTHON, has_python};
use strait_testkit::skip;
use tempfile::TempDir;

const JOURNALD: &str = "/lib/systemd/systemd-journald";

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: allow
  rules:
    - {syscalls: [socket], when: \"domain == AF_NETLINK\", action: errno(EPERM)}
";

/// Starts a journal, which leaves the machine's own logs alone, runs the rest of the words, and prints what
/// the journal has of strait.
const WITH_A_JOURNAL: &str = "\
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journald.conf.d /run/log/journal || exit 70
printf '[Journal]\\nStorage=volatile\\nAudit=no\\nReadKMsg=no\\n' > /run/systemd/journald.conf.d/test.conf
/lib/systemd/systemd-journald >/dev/null 2>&1 &
journal=$!
trap 'kill $journal' EXIT
tries=0
until [ -S /run/systemd/journal/io.systemd.journal ] && [ -S /run/systemd/journal/socket ]; do
  tries=$((tries + 1)); [ $tries -lt 600 ] || exit 71; sleep 0.1
done
\"$@\" >&2 || exit 72
journalctl --sync || exit 73
journalctl --no-pager --quiet -o json --directory /run/log/journal SYSLOG_IDENTIFIER=strait
";

#[test]
fn denials_are_entries_of_the_journal() {
    let test = "denials_are_entries_of_the_journal";
    if !Path::new(JOURNALD).exists() {
        return skip(test, "there is no /lib/systemd/systemd-journald");
    }
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root starts a journal");
    }
    if !has_python(test) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let policy = dir.path().join("p.yaml");
    fs::write(&policy, POLICY).unwrap();
    let script = "import socket\nfor _ in range(12):\n  try: socket.socket(16, 3, 0)\n  except OSError: pass";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", WITH_A_JOURNAL, "sh", env!("CARGO_BIN_EXE_strait")])
        .args(["run", "--mode", "notify", "--denials", "journald", "--policy"])
        .arg(&policy)
        .args(["--", PYTHON, "-c", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(70) => return skip(test, "no file system can be mounted in a namespace here"),
        Some(71) => return skip(test, "systemd-journald does not start here"),
        other => panic!("{other:?}: {said}"),
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let entries: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> =
        entries.iter().map(|entry| entry["MESSAGE"].as_str().unwrap()).collect();
    assert_eq!(messages.len(), 4, "{messages:?}");
    // The first, the tenth, and the sum of them.
    assert!(messages[0].starts_with("denied: python3["), "{messages:?}");
    assert!(messages[0].contains("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)"), "{messages:?}");
    assert!(messages[1].starts_with("denied (10 times by now): "), "{messages:?}");
    assert_eq!(messages[2], "12 calls denied:");
    assert!(messages[3].trim_start().starts_with("12  socket"), "{messages:?}");
    assert!(entries.iter().all(|entry| entry["PRIORITY"] == "4"), "{text}");
}
