//! `check` and `explain-code`: findings with their places, in every form.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sarif;

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn strait(dir: &TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strait")).args(args).current_dir(dir.path()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const POLICY: &str = "\
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
spec:
  architectures: [x86_64]
  default: errno(ENOSYS)
  rules:
    - {syscalls: [exit_group, mount], action: allow}
    - {syscalls: [socket], when: arg0 != 16, action: allow}
";

const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO",
 "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
 "syscalls": [
  {"names": ["read", "setsidaccept4", "initgroups", "syscall_1f4"], "action": "SCMP_ACT_ALLOW"},
  {"names": ["read"], "action": "SCMP_ACT_KILL"},
  {"names": ["mount"], "action": "SCMP_ACT_ALLOW"}
 ]}"#;

/// A folder with these files.
fn files(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn a_finding_is_shown_with_the_line_that_it_is_about() {
    let dir = files(&[("p.yaml", POLICY)]);
    let output = strait(&dir, &["check", "p.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "\
warning[S001]: `mount` is allowed: changes what paths lead to, and reaches the parsers of filesystems
 --> p.yaml:7:31
  |
7 |     - {syscalls: [exit_group, mount], action: allow}
  |                               ^^^^^
  |
  = note: holes that were entered by it: CVE-2022-0492, CVE-2023-0386

warning[S003]: `arg0` of `socket` is compared as 64 bits, but the kernel takes 32: socket(0x100000010, 0x0, 0) passes, acts as socket(AF_NETLINK, 0x0, 0), and that is denied
 --> p.yaml:8:19
  |
8 |     - {syscalls: [socket], when: arg0 != 16, action: allow}
  |                   ^^^^^^
  |
  = help: write `domain`, which is compared as the kernel takes it
";
    let text = stdout(&output);
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("p.yaml: 2 warnings, "), "{text}");
}

/// Profiles are often one line. What is shown is around the place, and the column is the document's.
#[test]
fn a_finding_far_into_a_long_line_has_its_column() {
    let names = "\"read\", ".repeat(2_000);
    let start = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["#;
    let end = r#""reed"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let dir = files(&[("long.json", &format!("{start}{names}{end}"))]);
    let text = stdout(&strait(&dir, &["check", "long.json"]));
    let column = start.len() + names.len() + 1;
    let wanted = format!(" --> long.json:1:{column}\n  |\n1 | ...");
    let shown = text.split_once("`reed`").unwrap().1;
    assert!(shown.contains(&wanted), "{shown}");
    assert!(shown.contains("^^^^^^"), "{shown}");
    assert!(text.lines().all(|line| line.chars().count() < 1_000), "a line is cut");
}

#[test]
fn the_status_says_whether_anything_denied_was_found() {
    let dir = files(&[
        ("p.yaml", POLICY),
        ("p.json", PROFILE),
        ("c.json", "{\n # x\n \"defaultAction\": 1}"),
    ]);
    for (args, status) in [
        (&["p.yaml"][..], 0),
        (&["p.yaml", "--deny", "warning"], 1),
        (&["p.yaml", "--deny", "note"], 1),
        (&["p.yaml", "--deny", "error"], 0),
        (&["p.json"], 1),
        (&["c.json"], 2),
        (&["c.json", "--format", "sarif"], 2),
        (&["missing.yaml"], 2),
        (&["p.yaml", "--deny", "everything"], 2),
    ] {
        let output = strait(&dir, &[&["check"], args].concat());
        assert_eq!(output.status.code(), Some(status), "{args:?}");
    }
    let comment = String::from_utf8(strait(&dir, &["check", "c.json"]).stderr).unwrap();
    assert!(comment.contains("error[S018]") && comment.contains("c.json:2:2"), "{comment}");
}

#[test]
fn a_foreign_profile_has_places_and_a_code_for_each_defect() {
    let dir = files(&[("p.json", PROFILE)]);
    let output = strait(&dir, &["check", "p.json", "--format", "json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<(String, u64, u64)> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let number = |key: &str| one[key].as_u64().unwrap_or(0);
            (one["code"].as_str().unwrap().to_owned(), number("line"), number("column"))
        })
        .collect();
    for (code, line, column) in [
        ("S016", 4, 22),
        ("S016", 4, 39),
        ("S016", 4, 53),
        ("S017", 5, 14),
        ("S001", 6, 14),
        ("S011", 0, 0),
    ] {
        assert!(found.contains(&(code.to_owned(), line, column)), "{code}: {found:?}");
    }
    let same = strait(&dir, &["check", "p.json", "--json"]);
    assert_eq!(same.stdout, output.stdout);
}

/// What SARIF 2.1.0 and the readers of it want besides what its schema can say.
fn is_sarif(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-2.1.0.json"));
    for run in log["runs"].as_array().unwrap() {
        let driver = &run["tool"]["driver"];
        assert!(driver["name"].is_string());
        let rules = driver["rules"].as_array().unwrap();
        let levels = ["none", "note", "warning", "error"];
        let mut ids: Vec<&str> = Vec::new();
        for rule in rules {
            ids.push(rule["id"].as_str().unwrap());
            assert!(rule["shortDescription"]["text"].is_string());
            assert!(rule["fullDescription"]["text"].is_string());
            let level = rule["defaultConfiguration"]["level"].as_str().unwrap();
            assert!(levels.contains(&level), "{level}");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "rules are unique");
        assert_eq!(run["columnKind"], "unicodeCodePoints");
        for invocation in run["invocations"].as_array().unwrap() {
            assert!(invocation["executionSuccessful"].is_boolean());
        }
        for result in run["results"].as_array().unwrap() {
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            assert!(levels.contains(&result["level"].as_str().unwrap()));
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            for location in result["locations"].as_array().unwrap() {
                let physical = &location["physicalLocation"];
                let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
                assert!(uri.is_ascii() && !uri.contains(' '), "{uri}");
                if let Some(region) = physical.get("region") {
                    let number = |key: &str| region[key].as_u64().unwrap();
                    let start = (number("startLine"), number("startColumn"));
                    let end = (number("endLine"), number("endColumn"));
                    assert!(start >= (1, 1) && end >= start, "{region}");
                }
            }
        }
    }
}

#[test]
fn sarif_has_the_structure_of_its_schema() {
    let dir = files(&[("é p.json", PROFILE), ("p.yaml", POLICY), ("bad.yaml", "a: [b")]);
    for file in ["é p.json", "p.yaml", "bad.yaml"] {
        let output = strait(&dir, &["check", file, "--format", "sarif"]);
        let log: Value = serde_json::from_slice(&output.stdout).unwrap();
        is_sarif(&log);
        sarif::is_valid(&log);
        assert!(!log["runs"][0]["results"].as_array().unwrap().is_empty());
    }
    let output = strait(&dir, &["check", "é p.json", "--format", "sarif"]);
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let name = results.iter().find(|one| one["ruleId"] == "S016").unwrap();
    let physical = &name["locations"][0]["physicalLocation"];
    assert_eq!(physical["artifactLocation"]["uri"], "%C3%A9%20p.json");
    assert_eq!(physical["region"]["startColumn"], 22);
    assert_eq!(physical["region"]["endColumn"], 37);
}

/// How many instructions `strait check` executes on a file, or none where that cannot be counted.
fn instructions(dir: &TempDir, file: &str) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env!("CARGO_BIN_EXE_strait"))
        .args(["check", "--format", "json", file])
        .current_dir(dir.path())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "))?.1;
    collected.trim().parse().ok()
}

/// Names that are none, all on one line, are the worst for whoever looks for what is meant and
/// counts columns.
#[test]
fn four_times_the_names_take_at_most_four_times_the_instructions() {
    let profile = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("\"call_{at}\"")).collect();
        format!(
            "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{{\"names\": [{}], \"action\": \
             \"SCMP_ACT_ALLOW\"}}]}}",
            names.join(", ")
        )
    };
    if strait_testkit::effort(1) < 2 {
        strait_testkit::skip("instructions of check", "counting takes a minute: STRAIT_EFFORT=2");
        return;
    }
    let none = profile(0);
    let (few, many) = (profile(500), profile(2_000));
    let dir = files(&[("none.json", &none), ("few.json", &few), ("many.json", &many)]);
    let counts = ["none.json", "few.json", "many.json"].map(|file| instructions(&dir, file));
    let [Some(none), Some(few), Some(many)] = counts else {
        strait_testkit::skip("instructions of check", "valgrind's callgrind does not count here");
        return;
    };
    let (few, many) = (few - none, many - none);
    assert!(many < few * 5, "{few}, then {many}, besides {none}");
}

#[test]
fn every_code_has_a_page() {
    let dir = TempDir::new().unwrap();
    let list = stdout(&strait(&dir, &["explain-code"]));
    let codes: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(codes.len() >= 25, "{list}");
    for code in codes {
        let page = stdout(&strait(&dir, &["explain-code", code]));
        assert!(page.starts_with(code) && page.lines().count() > 3, "{page}");
        assert!(page.lines().skip(1).all(|line| line.len() <= 80), "{page}");
    }
    let page: Value =
        serde_json::from_slice(&strait(&dir, &["explain-code", "s001", "--json"]).stdout).unwrap();
    assert_eq!(page["code"], "S001");
    let unknown = strait(&dir, &["explain-code", "S999"]);
    assert_eq!(unknown.status.code(), Some(2));
}
