//! The verbs that compare and question: diff, explain, merge, replay.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strait_testkit::skip;
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

const HEAD: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: errno(EPERM)
  rules:
";

fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let reads =
        "    - {syscalls: [openat], when: \"flags & (O_WRONLY | O_RDWR) == 0\", action: allow}\n";
    write(
        "a.yaml",
        &format!(
            "{HEAD}    - {{syscalls: [read, exit_group], action: allow}}\n{reads}  necessity:\n    \
             openat: [{{declared: {{by: me, reason: it reads}}}}]\n"
        ),
    );
    write(
        "b.yaml",
        &format!("{HEAD}    - {{syscalls: [read, exit_group, openat], action: allow}}\n"),
    );
    write("c.yaml", &format!("{HEAD}    - {{syscalls: [mount, exit_group], action: allow}}\n"));
    write(
        "p.json",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
  "syscalls": [{"names": ["read", "exit_group"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    dir
}

#[test]
fn a_difference_is_a_call_with_both_answers() {
    let dir = folder();
    let output = strait(&dir, &["diff", "a.yaml", "b.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "A a.yaml\nB b.yaml\ntighter: A lets nothing pass that B does not, and less\n\n\
         passes by B alone\n  x86_64 openat(0, NULL, O_WRONLY, 0)          A errno(EPERM), B allow\n"
    );
    let data = json(&strait(&dir, &["diff", "b.yaml", "a.yaml", "--json"]));
    assert_eq!((&data["relation"], &data["passes"]), (&"looser".into(), &"looser".into()));
    assert_eq!(data["calls"][0]["args"][2], 1);
    assert_eq!(data["calls"][0]["second"], "errno(EPERM)");
    let equal = strait(&dir, &["diff", "a.yaml", "a.yaml"]);
    assert_eq!(equal.status.code(), Some(0));
    assert!(stdout(&equal).contains("equal"));
    let neither = json(&strait(&dir, &["diff", "b.yaml", "c.yaml", "--json"]));
    assert_eq!(neither["relation"], "incomparable");
    assert_eq!(neither["calls"].as_array().unwrap().len(), 3);
}

#[test]
fn policies_profiles_and_programs_are_compared_by_what_they_decide() {
    let dir = folder();
    assert_eq!(strait(&dir, &["compile", "a.yaml", "-o", "a.bpf"]).status.code(), Some(0));
    assert_eq!(strait(&dir, &["diff", "a.yaml", "a.bpf"]).status.code(), Some(0));
    let foreign = json(&strait(&dir, &["diff", "p.json", "b.yaml", "--json"]));
    let calls = foreign["calls"].as_array().unwrap();
    assert!(calls.iter().any(|call| call["witness"] == "openat(...)"), "{foreign}");
    // Numbers beyond what the profile names get ENOSYS by runc; other ABIs are killed alike or not.
    assert!(!foreign["numbers"].as_array().unwrap().is_empty());
    assert_eq!(strait(&dir, &["diff", "a.yaml", "missing"]).status.code(), Some(2));
    assert_eq!(strait(&dir, &["diff", "a.yaml", "pid:0"]).status.code(), Some(2));
}

#[test]
fn a_process_is_compared_by_what_the_kernel_holds_for_it() {
    let dir = folder();
    if !rustix::process::geteuid().is_root() {
        skip("diff pid:N", "filters can only be read with CAP_SYS_ADMIN");
        return;
    }
    let policy = format!("{HEAD}    - {{syscalls: [mount], action: errno(EACCES)}}\n")
        .replace("default: errno(EPERM)", "default: allow");
    fs::write(dir.path().join("deny.yaml"), policy).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["run", "-p", "deny.yaml", "--", "cat"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // What comes back through cat says that it runs, confined.
    use std::io::{Read as _, Write as _};
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    // `strait run` stays as the parent of what it started.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(children).unwrap_or_default();
    let pid = children.split_whitespace().next().map_or(child.id().to_string(), str::to_owned);
    let equal = strait(&dir, &["diff", "deny.yaml", &format!("pid:{pid}")]);
    let other = strait(&dir, &["diff", "a.yaml", &format!("pid:{pid}"), "--json"]);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(equal.status.code(), Some(0), "{}", String::from_utf8_lossy(&equal.stderr));
    assert_eq!(json(&other)["relation"], "tighter");
}

#[test]
fn a_call_is_explained_with_its_rule_and_its_reason() {
    let dir = folder();
    let call = "openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY)";
    let text = stdout(&strait(&dir, &["explain", "a.yaml", call]));
    assert!(text.starts_with("allow: openat(AT_FDCWD, _, O_RDONLY, 0) on x86_64\n"), "{text}");
    for part in ["a.yaml:8:19", "rule 2", "whatever stands at pathname", "me says: it reads"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let all = json(&strait(&dir, &["explain", "a.yaml", "openat", "--json"]));
    let outcomes = all["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 2);
    assert_eq!(outcomes[0]["when"], "flags & (O_WRONLY | O_RDWR) == 0");
    assert_eq!((&outcomes[1]["action"], &outcomes[1]["line"]), (&"errno(EPERM)".into(), &5.into()));
    assert_eq!(outcomes[1]["example"], "openat(0, NULL, O_WRONLY, 0)");
    let foreign = stdout(&strait(&dir, &["explain", "p.json", "read"]));
    assert!(foreign.contains("p.json:2:27") && foreign.contains("no ledger"), "{foreign}");
    let other = stdout(&strait(&dir, &["explain", "a.yaml", "read", "--arch", "i386"]));
    assert!(other.contains("kill-process") && other.contains("i386 is no architecture"), "{other}");
    let unknown = strait(&dir, &["explain", "a.yaml", "opneat(3)"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `openat`?"));
}

#[test]
fn what_any_policy_lets_pass_the_merged_one_does() {
    let dir = folder();
    let output = strait(&dir, &["merge", "a.yaml", "c.yaml", "p.json", "-o", "m.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for one in ["a.yaml", "c.yaml"] {
        let data = json(&strait(&dir, &["diff", one, "m.yaml", "--json"]));
        assert_eq!(data["passes"], "tighter", "{data}");
    }
    let text = fs::read_to_string(dir.path().join("m.yaml")).unwrap();
    assert!(text.contains("it reads"), "{text}");
    assert_eq!(strait(&dir, &["merge", "a.yaml"]).status.code(), Some(2));
}

#[test]
fn a_score_says_what_is_open_and_what_it_is_made_of() {
    let dir = folder();
    let score =
        |file: &str| json(&strait(&dir, &["score", file, "--json"]))["score"].as_f64().unwrap();
    assert!(0.0 < score("a.yaml") && score("a.yaml") < score("b.yaml"));
    assert!(score("b.yaml") < score("c.yaml"), "mount is more than openat");
    let text = stdout(&strait(&dir, &["score", "c.yaml"]));
    assert!(
        text.contains("c.yaml: less is better") && text.contains("closed by default"),
        "{text}"
    );
    assert!(text.contains("mount") && text.contains("changes what paths lead to"), "{text}");
    let data = json(&strait(&dir, &["score", "c.yaml", "--json"]));
    let points: f64 =
        data["parts"].as_array().unwrap().iter().map(|part| part["points"].as_f64().unwrap()).sum();
    assert!((points - data["points"].as_f64().unwrap()).abs() < 1e-9, "the parts are the whole");
    assert_eq!(strait(&dir, &["score", "missing"]).status.code(), Some(2));
}

#[test]
fn a_replay_names_what_would_be_denied_and_what_comes_of_it() {
    let dir = folder();
    let trace = "openat(AT_FDCWD, \"/x\", O_RDONLY|O_CLOEXEC) = 3\n\
                 openat(AT_FDCWD, \"/y\", O_WRONLY) = 4\n\
                 statx(AT_FDCWD, \"/y\", 0, STATX_ALL, {}) = 0\n\
                 mount(\"/\", \"/\", NULL, MS_BIND, NULL) = -1 EPERM (Operation not permitted)\n";
    fs::write(dir.path().join("trace"), trace).unwrap();
    let output = strait(&dir, &["replay", "a.yaml", "trace"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for part in [
        "2 different calls are denied",
        "openat(AT_FDCWD, _, O_WRONLY, ...) on x86_64 (first in line 2): errno(EPERM), 1 times",
        "statx(",
        "with errno(ENOSYS) it would go on: libc falls back to fstatat",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let data = json(&strait(&dir, &["replay", "a.yaml", "trace", "--json"]));
    assert_eq!(data[0]["denials"][0]["line"], 2);
    assert_eq!(data[0]["denials"][1]["fallsBack"], false);
    fs::write(dir.path().join("good"), trace.lines().next().unwrap()).unwrap();
    assert_eq!(strait(&dir, &["replay", "a.yaml", "good"]).status.code(), Some(0));
    fs::write(dir.path().join("none"), "nothing\n").unwrap();
    assert_eq!(strait(&dir, &["replay", "a.yaml", "none"]).status.code(), Some(2));
    let record = ["record", "--engine", "ptrace", "-o", "rec.json", "--", "true"];
    assert_eq!(strait(&dir, &record).status.code(), Some(0));
    let recorded = json(&strait(&dir, &["replay", "a.yaml", "rec.json", "--json"]));
    let denials = recorded[0]["denials"].as_array().unwrap();
    assert!(denials.iter().any(|one| one["syscall"] == "mmap"), "{recorded}");
    assert!(denials.iter().all(|one| one["syscall"] != "exit_group"), "{recorded}");
}
