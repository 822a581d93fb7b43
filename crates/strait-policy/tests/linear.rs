//! Reading takes memory and instructions in proportion to the input, and refuses by name what would not.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use std::fmt::Write as _;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_policy::check::{Places, check_document};
use strait_policy::format::{Format, FormatError, Target};
use strait_policy::log::{Log, strace};
use strait_policy::{MAX_BYTES, Policy, Query, Recording, When};
use strait_testkit::allocation::{Counting, allocated};
use strait_testkit::{effort, skip};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn target() -> Target {
    Target::new(Arch::X86_64, KernelVersion::new(6, 18))
}

fn import(format: Format, text: &str) {
    let target = target();
    let read = format.import(text.as_bytes(), &target);
    let _ = check_document(text.as_bytes(), format, &read, target.arch, None);
}

fn policy(rules: &str, rest: &str) -> String {
    format!(
        "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
         default: errno(EPERM)\n  rules:\n{rules}{rest}"
    )
}

fn repeated(count: usize, mut one: impl FnMut(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let _ = write!(text, "{}", one(index));
        text
    })
}

fn name(index: usize) -> &'static str {
    Syscall::all().nth(index % Syscall::all().len()).unwrap().name()
}

/// A way of reading, and a text of some size for it.
type Case = (&'static str, fn(&str), fn(usize) -> String);

const CASES: &[Case] = &[
    (
        "policy: rules",
        |text| import(Format::Strait, text),
        |n| {
            policy(
                &repeated(n, |i| format!("    - {{syscalls: [{}], action: allow}}\n", name(i))),
                "",
            )
        },
    ),
    (
        "policy: conditions of one call",
        |text| import(Format::Strait, text),
        |n| {
            let rule =
                |i| format!("    - {{syscalls: [kill], when: 'arg0 == {i}', action: allow}}\n");
            policy(&repeated(n, rule), "")
        },
    ),
    (
        "policy: steps",
        |text| import(Format::Strait, text),
        |n| {
            let step = |i| format!("    s{i}: {{after: s{}, rules: []}}\n", i + 1);
            let steps = format!("  steps:\n{}    s{n}: {{rules: []}}\n", repeated(n, step));
            policy("    - {syscalls: [read], action: allow}\n", &steps)
        },
    ),
    (
        "policy: unknown names",
        |text| import(Format::Strait, text),
        |n| {
            policy(&repeated(n, |i| format!("    - {{syscalls: [call_{i}], action: allow}}\n")), "")
        },
    ),
    (
        "policy: a ledger",
        |text| import(Format::Strait, text),
        |n| {
            let reason = |i| format!("      - {{declared: {{by: me, reason: \"reason {i}\"}}}}\n");
            policy("", &format!("  necessity:\n    read:\n{}", repeated(n, reason)))
        },
    ),
    (
        "policy: aliases",
        |text| drop(Policy::parse(text)),
        |n| format!("a: &a [x, y, z]\nb: [{}]\n", "*a, ".repeat(n)),
    ),
    (
        "places",
        |text| drop(Places::of(text)),
        |n| policy(&repeated(n, |i| format!("    - {{syscalls: [{}]}}\n", name(i))), ""),
    ),
    (
        "when",
        |text| drop(When::parse(text)),
        |n| {
            repeated(n, |i| format!("arg0 == {i} or not (arg1 & 0xff in {{{i}, {i}}}) or "))
                + "arg0 == 0"
        },
    ),
    (
        "query",
        |text| drop(Query::parse(text, Arch::X86_64)),
        |n| format!("openat(AT_FDCWD, \"{}\", {})", "x".repeat(n), "O_CREAT|".repeat(n) + "0"),
    ),
    (
        "oci: names",
        |text| import(Format::Oci, text),
        |n| {
            let names = repeated(n, |i| format!("\"{}\", ", name(i)));
            format!(
                "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{{\"names\": [{names}\"read\"], \
             \"action\": \"SCMP_ACT_ALLOW\"}}]}}"
            )
        },
    ),
    // Of many calls: how libseccomp merges those of one is followed step by step, as it does it, up to
    // what a program has room for.
    (
        "oci: conditions",
        |text| import(Format::Oci, text),
        |n| {
            let args = |i| format!("{{\"index\": 1, \"value\": {i}, \"op\": \"SCMP_CMP_EQ\"}}");
            let rule = |i| {
                format!(
                    "{{\"names\": [\"{}\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{}]}}, ",
                    name(i % 400),
                    args(i)
                )
            };
            format!(
                "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{}{{\"names\": [\"read\"], \
                 \"action\": \"SCMP_ACT_ALLOW\"}}]}}",
                repeated(n, rule)
            )
        },
    ),
    (
        "oci: unknown names",
        |text| import(Format::Oci, text),
        |n| {
            let names = repeated(n, |i| format!("\"call_{i}\",\n"));
            format!(
                "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{{\"names\": [{names}\"read\"], \
             \"action\": \"SCMP_ACT_ALLOW\"}}]}}"
            )
        },
    ),
    (
        "spo: names",
        |text| import(Format::Spo, text),
        |n| {
            let names = repeated(n, |i| format!("    - {}\n", name(i)));
            format!(
                "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nspec:\n  \
             defaultAction: SCMP_ACT_ERRNO\n  syscalls:\n  - action: SCMP_ACT_ALLOW\n    names:\n\
             {names}"
            )
        },
    ),
    (
        "seccompiler: rules",
        |text| import(Format::Seccompiler, text),
        |n| {
            let calls: Vec<&str> = Syscall::all()
                .filter(|call| call.number(Arch::X86_64).is_some())
                .map(Syscall::name)
                .collect();
            let rules =
                repeated(n, |i| format!("{{\"syscall\": \"{}\"}}, ", calls[i % calls.len()]));
            format!(
                "{{\"main\": {{\"mismatch_action\": \"trap\", \"match_action\": \"allow\", \"filter\": \
             [{rules}{{\"syscall\": \"read\"}}]}}}}"
            )
        },
    ),
    (
        "strace",
        |text| drop(strace::import(text, Arch::X86_64, "6.18")),
        |n| repeated(n, |i| format!("[pid {}] read(3, \"abc\", {i}) = -1 EINTR (x)\n", i % 50)),
    ),
    (
        "strace: unfinished",
        |text| drop(strace::attempts(text, Arch::X86_64)),
        |n| repeated(n, |i| format!("[pid {i}] read(3, <unfinished ...>\n")),
    ),
    (
        "recording",
        |text| drop(Recording::from_json(text)),
        |n| {
            let trace =
                repeated(n, |i| format!("execve(\"/bin/{i}\", [], 0) = 0\n{}() = 0\n", name(i)));
            strace::import(&trace, Arch::X86_64, "6.18").to_json()
        },
    ),
    (
        "systemd: lists",
        |text| import(Format::Systemd, text),
        |n| {
            let line = |i| format!("SystemCallFilter={} call_{i} @sync\n", name(i));
            format!("[Service]\n{}", repeated(n, line))
        },
    ),
    (
        "systemd: one line",
        |text| import(Format::Systemd, text),
        |n| {
            format!(
                "[Service]\nSystemCallFilter=~{}\n",
                repeated(n, |i| format!("{} \\\n", name(i)))
            )
        },
    ),
    (
        "lxc: calls",
        |text| import(Format::Lxc, text),
        |n| {
            let line = |i| format!("{} errno {}\n# x\ncall_{i}\n", name(i % 400), i % 400 + 1);
            format!("2\nallowlist\n{}", repeated(n, line))
        },
    ),
    (
        "lxc: conditions",
        |text| import(Format::Lxc, text),
        |n| {
            let line = |i| format!("{} allow [0,{},SCMP_CMP_EQ]\n", name(i % 50), i / 50);
            format!("2\nallowlist\n{}", repeated(n, line))
        },
    ),
    (
        "minijail: rules",
        |text| import(Format::Minijail, text),
        |n| {
            // libminijail takes a call once; so many alternatives are the same work.
            let or = |i| format!(" || arg1 == {i}");
            format!("read: arg0 == 1{}\n", repeated(n, or))
        },
    ),
    (
        "minijail: lines",
        |text| import(Format::Minijail, text),
        |n| format!("read: 1\n{}", repeated(n, |i| format!("# {i}\n\n@frequency ./f{i}\n"))),
    ),
    (
        "kafel: policies",
        |text| import(Format::Kafel, text),
        |n| {
            let policy = |i| format!("POLICY p{i} {{ ALLOW {{ read {{ fd == {i} }} }} }}\n");
            format!("{}USE p0 DEFAULT KILL\n", repeated(n, policy))
        },
    ),
    (
        "kafel: conditions",
        |text| import(Format::Kafel, text),
        |n| {
            format!(
                "ALLOW {{ read {{ fd == 1{} }} }} DEFAULT KILL",
                repeated(n, |i| format!(" || fd == {i}"))
            )
        },
    ),
    (
        "bpf: hex",
        |text| import(Format::Bpf, text),
        // No program is longer than 4096 instructions.
        |n| format!("{}06000000000000ff\n", "2000000004000000\n".repeat(n - 1)),
    ),
    (
        "bpf: C",
        |text| import(Format::Bpf, text),
        |n| {
            format!(
                "struct sock_filter f[] = {{{} {{6, 0, 0, 0}}}};",
                "{0x20, 0, 0, 4},\n".repeat(n - 1)
            )
        },
    ),
    (
        "perf trace",
        |text| drop(Log::PerfTrace.import(text, Arch::X86_64, "6.18")),
        |n| {
            let line = |i| {
                format!(
                    "   {i}.001 ( 0.002 ms): cat/{} read(fd: 3, buf: 0x7f, count: {i}) = 3\n",
                    i % 50
                )
            };
            repeated(n, line)
        },
    ),
    (
        "audit",
        |text| drop(Log::Audit.import(text, Arch::X86_64, "6.18")),
        |n| {
            let line = |i| {
                format!(
                    "type=SECCOMP msg=audit(1700000000.{:03}:{i}): auid=0 uid=0 gid=0 ses=1 pid={} \
                     comm=\"x\" exe=\"/bin/{}\" sig=0 arch=c000003e syscall={} compat=0 ip=0x0 code=0x7ffc0000\n",
                    i % 1000,
                    i % 50,
                    i % 20,
                    i % 300
                )
            };
            repeated(n, line)
        },
    ),
    ("json: a list", |text| import(Format::Oci, text), |n| format!("[{}1]", "1, ".repeat(n))),
    (
        "json: a text",
        |text| import(Format::Oci, text),
        |n| format!("[\"{}\"]", "\\u00e9".repeat(n)),
    ),
    (
        "yaml: a text",
        |text| import(Format::Strait, text),
        |n| format!("a: \"{}\"\n", "x ".repeat(n)),
    ),
];

#[test]
fn four_times_the_input_takes_at_most_four_times_the_memory() {
    for &(what, read, text) in CASES {
        let (small, large) = (text(1_000), text(4_000));
        let times = u64::try_from(large.len().div_ceil(small.len())).unwrap();
        // What is allocated once, whatever the input, is in the first.
        read(&small);
        let (first, ()) = allocated(|| read(&small));
        let (second, ()) = allocated(|| read(&large));
        // Vectors that double their room are up to twice as large as what is in them.
        let most = first * times * 2;
        assert!(second <= most, "{what}: {first} bytes, then {second}");
    }
}

/// The names of the case and of the text that a child reads, for its instructions to be counted.
const CASE: (&str, &str) = ("STRAIT_LINEAR_CASE", "STRAIT_LINEAR_TEXT");

/// What the next test starts, in a process of its own.
#[test]
fn a_case_of_its_own() {
    let (Ok(case), Ok(text)) = (std::env::var(CASE.0), std::env::var(CASE.1)) else { return };
    let text = std::fs::read_to_string(text).unwrap();
    let (_, read, _) = CASES.iter().find(|(what, ..)| *what == case).unwrap();
    read(&text);
}

/// How many instructions reading takes; none where that cannot be counted.
fn instructions(case: &str, text: &str) -> Option<u64> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let output = std::process::Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_case_of_its_own", "--test-threads=1"])
        .env(CASE.0, case)
        .env(CASE.1, file.path())
        .output()
        .ok()?;
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, count) = said.lines().find_map(|line| line.split_once(" refs:"))?;
    count.trim().replace(',', "").parse().ok()
}

#[test]
fn four_times_the_input_takes_at_most_four_times_the_instructions() {
    const TEST: &str = "instructions of reading";
    if effort(1) < 2 {
        skip(TEST, "counting takes some minutes: STRAIT_EFFORT=2");
        return;
    }
    for &(what, _, text) in CASES {
        let (small, large) = (text(1_000), text(4_000));
        let times = u64::try_from(large.len().div_ceil(small.len())).unwrap();
        let counts = ["", &small, &large].map(|text| instructions(what, text));
        let [Some(none), Some(first), Some(second)] = counts else {
            skip(TEST, "valgrind's cachegrind does not count here");
            return;
        };
        let (first, second) = (first.saturating_sub(none), second.saturating_sub(none));
        println!("{what}: {first} instructions, then {second}");
        // Sorting and ordered maps take a little more than the input has.
        assert!(second <= first * times * 5 / 4, "{what}: {first} instructions, then {second}");
    }
}

fn refusal(format: Format, text: &str) -> String {
    match format.import(text.as_bytes(), &target()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was read"),
    }
}

#[test]
fn what_would_exhaust_memory_or_the_stack_is_refused_by_name() {
    let large = " ".repeat(MAX_BYTES + 1);
    for &format in Format::ALL {
        let (bytes, refusal) = allocated(|| refusal(format, &large));
        assert!(refusal.contains("at most 16777216 are read"), "{format}: {refusal}");
        assert!(bytes < 1 << 20, "{format}: {bytes}");
    }
    for (format, text) in [
        (Format::Strait, format!("a: {}{}", "[".repeat(200), "]".repeat(200))),
        (Format::Strait, format!("{}{}", "{\"a\":".repeat(200), "}".repeat(200))),
        (Format::Oci, "[".repeat(1 << 20)),
        (Format::Spo, format!("a: {}", "{a: ".repeat(200))),
        (Format::Seccompiler, "{\"a\":".repeat(1 << 20)),
    ] {
        let refusal = refusal(format, &text);
        assert!(refusal.contains("nested deeper than 128 levels"), "{format}: {refusal}");
    }
    // Nine levels of ten times the one before: a thousand million values.
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .into_iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        let _ = writeln!(bomb, "{name}: &{name} [{}*{of}]", format!("*{of}, ").repeat(9));
    }
    for format in [Format::Strait, Format::Spo] {
        let (bytes, refusal) = allocated(|| refusal(format, &bomb));
        assert!(refusal.contains("aliases of this document expand to more than"), "{refusal}");
        assert!(bytes < 1 << 30, "{format}: {bytes}");
    }
    let deep = format!("{}arg0 == 1{}", "(".repeat(1000), ")".repeat(1000));
    assert!(When::parse(&deep).unwrap_err().1.to_string().contains("nested deeper"));
    let error: Result<_, FormatError> = Format::Strait.import(&[0xff], &target());
    assert!(error.unwrap_err().to_string().contains("byte 0 is wrong"));
}
