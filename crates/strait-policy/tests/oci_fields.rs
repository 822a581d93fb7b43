//! Every field of an OCI profile, one at a time: what it does to the decision, what is said of it, and what
//! is refused with its place.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Action, SeccompData};
use strait_policy::format::{Imported, Runtime, Target, oci};

fn target() -> Target {
    let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
    target.runtime = Runtime::Crun;
    target
}

/// A profile with this in it, and EPERM for what nothing else decides.
fn profile(fields: &str) -> String {
    format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\",\n{fields}}}")
}

#[track_caller]
fn read(fields: &str, target: &Target) -> Imported {
    let text = profile(fields);
    oci::import(&text, target).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A rule of a profile.
fn rule(fields: &str) -> String {
    format!("\"syscalls\": [{{{fields}}}]")
}

fn gives(imported: &Imported, arch: Arch, call: &str, args: [u64; 6]) -> Action {
    let nr = Syscall::from_name(call).unwrap().number(arch).unwrap();
    let data = SeccompData::new(arch.audit_arch(), nr).with_args(args);
    imported.policy.lower().unwrap().decide(&data)
}

fn x86_64(imported: &Imported, call: &str) -> Action {
    gives(imported, Arch::X86_64, call, [0; 6])
}

fn notes(imported: &Imported) -> Vec<String> {
    let note = |note: &strait_policy::format::Note| match note.place {
        Some(place) => format!("{place}: {}", note.message),
        None => note.message.clone(),
    };
    imported.notes.iter().map(note).collect()
}

#[track_caller]
fn refused(fields: &str) -> String {
    match oci::import(&profile(fields), &target()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was read: {fields}"),
    }
}

#[test]
fn the_old_schema_has_one_name_for_a_rule() {
    let old = rule("\"name\": \"read\", \"action\": \"SCMP_ACT_ALLOW\", \"args\": []");
    let old = read(&old, &target());
    assert_eq!(x86_64(&old, "read"), Action::Allow);
    assert_eq!(x86_64(&old, "write"), Action::Errno(1));
    assert_eq!(old.notes, []);
    let new = read(&rule("\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\""), &target());
    assert_eq!(old.policy, new.policy, "it means what a list of one means");
    // An empty name is none, as Go has it for a field that is not there.
    let both = rule("\"name\": \"\", \"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"");
    assert_eq!(read(&both, &target()).policy, new.policy);
    let error = refused(&rule(
        "\"name\": \"read\", \"names\": [\"write\"], \"action\": \"SCMP_ACT_ALLOW\"",
    ));
    assert!(error.contains("line 2, column 23: `name` beside `names`"), "{error}");
    assert!(error.contains("keep `names`"), "{error}");
    let unknown = read(&rule("\"name\": \"raed\", \"action\": \"SCMP_ACT_ALLOW\""), &target());
    let said = notes(&unknown);
    assert!(said[0].starts_with("line 2, column 23: `raed` is no system call"), "{said:?}");
    assert!(said[0].contains("did you mean `read`?"), "{said:?}");
    let nothing = read(&rule("\"action\": \"SCMP_ACT_ALLOW\""), &target());
    assert!(notes(&nothing)[0].contains("names no call and does nothing"));
}

#[test]
fn flags_are_left_out_and_that_is_said() {
    let flags = "\"flags\": [\"SECCOMP_FILTER_FLAG_LOG\", \"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"]";
    let imported = read(flags, &target());
    let said = notes(&imported);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("line 2, column 10: `flags` is left out"), "{said:?}");
    assert_eq!(imported.policy, read("\"syscalls\": []", &target()).policy, "they decide nothing");
    for none in ["\"flags\": []", "\"flags\": null"] {
        assert_eq!(notes(&read(none, &target())), [""; 0], "{none}");
    }
}

#[test]
fn who_listens_is_left_out_and_that_nobody_does_is_said() {
    let notifies = rule("\"names\": [\"mount\"], \"action\": \"SCMP_ACT_NOTIFY\"");
    let listened = read(&format!("\"listenerPath\": \"/run/s.sock\",\n{notifies}"), &target());
    assert_eq!(x86_64(&listened, "mount"), Action::Notify);
    let said = notes(&listened);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("line 2, column 17: `listenerPath` is left out"), "{said:?}");
    let alone = read(&notifies, &target());
    assert_eq!(x86_64(&alone, "mount"), Action::Notify);
    let said = notes(&alone);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("line 2, column 25: this rule notifies"), "{said:?}");
    assert!(said[0].contains("the runtimes refuse it"), "{said:?}");
}

#[test]
fn errnos_are_what_the_runtimes_take_them_for() {
    let text = "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38}";
    assert_eq!(x86_64(&oci::import(text, &target()).unwrap(), "read"), Action::Errno(38));
    let given = |action: &str, errno: &str| {
        let fields = format!("\"names\": [\"read\"], \"action\": \"{action}\"{errno}");
        read(&rule(&fields), &target())
    };
    assert_eq!(x86_64(&given("SCMP_ACT_ERRNO", ", \"errnoRet\": 13"), "read"), Action::Errno(13));
    assert_eq!(x86_64(&given("SCMP_ACT_ERRNO", ", \"errnoRet\": null"), "read"), Action::Errno(1));
    assert_eq!(x86_64(&given("SCMP_ACT_TRACE", ", \"errnoRet\": 7"), "read"), Action::Trace(7));
    let needless = given("SCMP_ACT_KILL_PROCESS", ", \"errnoRet\": 7");
    assert_eq!(x86_64(&needless, "read"), Action::KillProcess);
    assert!(notes(&needless)[0].contains("`errnoRet` says nothing for this action"));
    for (name, action) in [
        ("SCMP_ACT_ALLOW", Action::Allow),
        ("SCMP_ACT_LOG", Action::Log),
        ("SCMP_ACT_TRAP", Action::Trap(0)),
        ("SCMP_ACT_KILL", Action::KillThread),
        ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ] {
        assert_eq!(x86_64(&given(name, ""), "read"), action, "{name}");
    }
    let error = refused(&rule("\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALOW\""));
    assert!(
        error.contains("line 2, column 44") && error.contains("did you mean `SCMP_ACT_ALLOW`?"),
        "{error}"
    );
}

#[test]
fn architectures_are_listed_or_mapped() {
    let all = rule("\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"");
    let on_i386 = |fields: &str| {
        gives(&read(&format!("{fields},\n{all}"), &target()), Arch::I386, "read", [0; 6])
    };
    assert_eq!(on_i386("\"architectures\": [\"SCMP_ARCH_X86_64\"]"), Action::KillThread);
    assert_eq!(on_i386("\"architectures\": [\"SCMP_ARCH_X86\"]"), Action::Allow);
    let map = |native: &str| {
        format!(
            "\"archMap\": [{{\"architecture\": \"{native}\", \"subArchitectures\": [\"SCMP_ARCH_X86\"]}}]"
        )
    };
    assert_eq!(on_i386(&map("SCMP_ARCH_X86_64")), Action::Allow);
    assert_eq!(on_i386(&map("SCMP_ARCH_AARCH64")), Action::KillThread, "that is another machine's");
    let both = format!("\"architectures\": [\"SCMP_ARCH_X86\"], {}", map("SCMP_ARCH_X86_64"));
    let error = refused(&both);
    assert!(error.contains("`archMap` beside `architectures`"), "{error}");
    let error = refused("\"architectures\": [\"SCMP_ARCH_X68\"]");
    assert!(
        error.contains("line 2, column 19") && error.contains("did you mean `SCMP_ARCH_X86`?"),
        "{error}"
    );
    let foreign = read("\"architectures\": [\"SCMP_ARCH_MIPS\"]", &target());
    assert!(notes(&foreign)[0].contains("`SCMP_ARCH_MIPS` is left out"));
}

#[test]
fn rules_are_included_and_excluded_by_what_the_container_is() {
    let passes = |condition: &str, target: &Target| {
        let fields = format!("\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ALLOW\", {condition}");
        x86_64(&read(&rule(&fields), target), "mount") == Action::Allow
    };
    let mut admin = target();
    admin.capabilities.insert("CAP_SYS_ADMIN".to_owned());
    let mut old = target();
    old.kernel = KernelVersion::new(4, 4);
    for (condition, here, of_admin, on_old) in [
        ("\"includes\": {\"caps\": [\"CAP_SYS_ADMIN\"]}", false, true, false),
        ("\"includes\": {\"caps\": [\"CAP_SYS_ADMIN\", \"CAP_BPF\"]}", false, false, false),
        ("\"excludes\": {\"caps\": [\"CAP_SYS_ADMIN\", \"CAP_BPF\"]}", true, false, true),
        ("\"includes\": {\"arches\": [\"amd64\", \"x32\"]}", true, true, true),
        ("\"includes\": {\"arches\": [\"arm64\"]}", false, false, false),
        ("\"excludes\": {\"arches\": [\"amd64\"]}", false, false, false),
        ("\"includes\": {\"minKernel\": \"4.8\"}", true, true, false),
        ("\"excludes\": {\"minKernel\": \"4.8\"}", false, false, true),
        ("\"includes\": {}, \"excludes\": {}", true, true, true),
    ] {
        let found = [&target(), &admin, &old].map(|target| passes(condition, target));
        assert_eq!(found, [here, of_admin, on_old], "{condition}");
    }
    let error = refused(&rule(
        "\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"minKernel\": \"x\"}",
    ));
    assert!(error.contains("`x`") && error.contains("line 2"), "{error}");
}

#[test]
fn every_operator_compares_as_libseccomp_does() {
    for (op, value, two, holds, fails) in [
        ("SCMP_CMP_NE", 3, 0, 4, 3),
        ("SCMP_CMP_LT", 3, 0, 2, 3),
        ("SCMP_CMP_LE", 3, 0, 3, 4),
        ("SCMP_CMP_EQ", 3, 0, 3, 4),
        ("SCMP_CMP_GE", 3, 0, 3, 2),
        ("SCMP_CMP_GT", 3, 0, 4, 3),
        // The value is the mask, the second value what is left by it.
        ("SCMP_CMP_MASKED_EQ", 6, 2, 0x1_0000_0003, 5),
        ("SCMP_CMP_EQ", 3, 9, 3, 9),
    ] {
        let fields = format!(
            "\"names\": [\"kill\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{{\"index\": 1, \"op\": \
             \"{op}\", \"value\": {value}, \"valueTwo\": {two}}}]"
        );
        let imported = read(&rule(&fields), &target());
        let give = |value| gives(&imported, Arch::X86_64, "kill", [0, value, 0, 0, 0, 0]);
        assert_eq!((give(holds), give(fails)), (Action::Allow, Action::Errno(1)), "{op}");
    }
    let with = |arg: &str| {
        refused(&rule(&format!(
            "\"names\": [\"kill\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{arg}]"
        )))
    };
    for (arg, message) in [
        ("{\"index\": 6, \"op\": \"SCMP_CMP_EQ\"}", "a call has arguments 0 to 5"),
        ("{\"index\": 0}", "`op` is missing"),
        ("{\"index\": 0, \"op\": \"SCMP_CMP_EQU\"}", "did you mean `SCMP_CMP_EQ`?"),
        ("{\"index\": 0, \"op\": \"SCMP_CMP_EQ\", \"value\": -1}", "whole number"),
        ("3", "not a number"),
    ] {
        let error = with(arg);
        assert!(error.contains(message) && error.starts_with("line 2, column "), "{error}");
    }
}
