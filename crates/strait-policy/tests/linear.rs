//! Reading takes memory in proportion to the input, and refuses by name what would not.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use std::fmt::Write as _;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_policy::check::{Places, check_document};
use strait_policy::format::{Format, FormatError, Target};
use strait_policy::log::strace;
use strait_policy::{MAX_BYTES, Policy, Query, Recording, When};
use strait_testkit::allocation::{Counting, allocated};

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
