//! No text makes a reader panic, and none takes it long: an error with a place, or a value.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use proptest::prelude::*;
use strait_abi::{Arch, KernelVersion};
use strait_policy::check::Places;
use strait_policy::format::{Target, kafel, lxc, minijail, oci, systemd};
use strait_policy::format::{seccompiler, spo};
use strait_policy::log::{Log, strace};
use strait_policy::{Policy, Query, Recording, When};

const POLICY: &str = r#"apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: x, labels: {a: b}}
spec:
  identity: {name: sa, secrets: [k]}
  architectures: [x86_64, i386]
  default: errno(EPERM)
  foreign: kill-thread
  unknown: {after: "6.18", action: errno(ENOSYS)}
  include: [set:io]
  rules:
    - {syscalls: [read], when: "fd & 0xff == 3 and not (fd in {1, 2}) or fd != -1", action: allow}
    - {numbers: [336, "400-0x200"], arch: [x86_64], action: trap(1)}
  necessity:
    read: [{observed: {recording: "sha256:00", count: 1, args: {fd: [3]}}}]
    write: [{declared: {by: me, reason: "é", expires: 2027-01-31}}]
"#;

const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture":
    "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}], "syscalls": [{"names": ["read",
    "clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "valueTwo": 0,
    "op": "SCMP_CMP_MASKED_EQ"}], "includes": {"minKernel": "4.8"}, "excludes": {"caps": ["CAP_X"]}}]}"#;

const FILTERS: &str = r#"{"vmm": {"mismatch_action": {"errno": 1}, "match_action": "allow", "filter":
    [{"syscall": "socket", "args": [{"index": 0, "type": "dword", "op": {"masked_eq": 3}, "val": 1}]}]}}"#;

const TRACE: &str = "[pid 1] execve(\"/x\", [], 0) = 0\nread(0, \"= -1\", 3) = -1 EINTR (x)\n\
                     1 00:00 close(1 <unfinished ...>\n1 <... close resumed>) = ?\n";

const UNIT: &str = "[Unit]\n; x\n[Service]\nSystemCallFilter=~@mount:EPERM \\\n read\n\
    SystemCallErrorNumber=kill\nRestrictAddressFamilies=AF_UNIX AF_INET\nRestrictNamespaces=~user\n\
    SystemCallArchitectures=native\nMemoryDenyWriteExecute=yes\nSystemCallLog=@clock\n";

const KAFEL: &str = "#define X 0x1f // y\n#include \"x\"\nPOLICY p { ALLOW { read { fd & X == 3 && !(fd > 2, fd == -1) } } }\n\
    USE p, ERRNO(1) { write(a, b) { (a | 1) == 1 || a < 07 }, SYSCALL[3] {} } /* z */ DEFAULT TRAP(1)";

const MINIJAIL: &str = "# x\n@default trap\n@include ./x\nread: 1\n{close, dup}[arch=arm]: { arg0 == ~(1|O_CLOEXEC); log, kill }\n\
    openat: arg2 in 0x7f && arg0 & 07 || \\\n arg1 != -1; return EPERM\n@frequency /x\n";

const LXC: &str = "2\nallowlist errno 7\n# x\nreject_force_umount # y\n[x86]\nread\nioctl kill [1,0x94,&=,0xff00][0,1,==]\n\
    [all]\nsocket errno 97 [0,2,SCMP_CMP_EQ]\nraed trap\n";

/// Everything that reads text.
fn read(text: &str) {
    let mut machine = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    for name in ["x", "./x", "/x"] {
        machine.files.insert(name.to_owned(), text.to_owned());
    }
    if let Ok(policy) = Policy::parse(text) {
        let printed = policy.to_string();
        assert_eq!(Policy::parse(&printed).unwrap(), policy, "{printed}");
        let _ = policy.lower();
    }
    if let Ok(when) = When::parse(text) {
        assert_eq!(When::parse(&when.to_string()).unwrap(), when);
    }
    let _ = Places::of(text);
    let _ = Recording::from_json(text);
    let _ = Query::parse(text, Arch::X86_64);
    let _ = oci::import(text, &machine);
    let _ = spo::import(text, &machine);
    let _ = seccompiler::import(text, Arch::X86_64);
    let _ = systemd::import(text, &machine);
    let _ = kafel::import(text, &machine);
    let _ = minijail::import(text, &machine);
    let _ = lxc::import(text, &machine);
    let _ = strace::import(text, Arch::X86_64, "6.18");
    for log in Log::ALL {
        let _ = (Log::detect(text), log.import(text, Arch::X86_64, "6.18"));
    }
}

/// A document with a few characters removed, doubled or replaced.
fn damaged(document: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        0..document.len(),
        0usize..4,
        prop::sample::select(&b"{}[]\"':,-&*#()=|~ \n0x9a\\\xc3"[..]),
    );
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = document.as_bytes().to_vec();
        for (at, kind, byte) in edits {
            // Nothing is left where one edit has cut and the next removed.
            let Some(last) = bytes.len().checked_sub(1) else { break };
            let at = at.min(last);
            match kind {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                2 => bytes[at] = byte,
                _ => bytes.truncate(at.max(1)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn damaged_documents_are_read_or_refused(text in prop_oneof![
        damaged(POLICY), damaged(PROFILE), damaged(FILTERS), damaged(TRACE), damaged(UNIT), damaged(KAFEL), damaged(MINIJAIL), damaged(LXC),
    ]) {
        read(&text);
    }
}

#[test]
fn the_documents_that_are_damaged_are_whole_before() {
    let machine = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    Policy::parse(POLICY).unwrap();
    oci::import(PROFILE, &machine).unwrap();
    seccompiler::import(FILTERS, Arch::X86_64).unwrap();
    assert!(!strace::import(TRACE, Arch::X86_64, "6.18").completeness().is_lossy());
}

#[test]
fn what_is_deep_or_repeats_is_read_or_refused() {
    for unit in [
        "[", "{a: ", "- ", "{\"a\":", "(", "~", "not ", "\"", "&a ", "*a ", "read(", "!!", "? ",
        "%",
    ] {
        read(&unit.repeat(20_000));
    }
    read(&format!("{POLICY}{}", " ".repeat(1 << 20)));
    for line in ["SystemCallFilter=@basic-io raed\n", "Personality=x\n", "x\\\n"] {
        read(&format!("[Service]\n{}", line.repeat(5_000)));
    }
    for unit in [
        "ALLOW { read { ",
        "(1 & ",
        "!(",
        "#include \"x\"\n",
        "POLICY x {",
        "read, ",
        "read: {",
        "@include ./x\n",
    ] {
        read(&format!("ALLOW {{ read {{ fd == {}", unit.repeat(5_000)));
        read(&unit.repeat(5_000));
    }
    read(&format!("arg0 in {{{}1}}", "1, ".repeat(50_000)));
}
