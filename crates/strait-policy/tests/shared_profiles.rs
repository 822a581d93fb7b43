//! Profiles written by others, which lie beside the checkout and not in it.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use std::path::PathBuf;

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::{Action, SeccompData};
use strait_policy::baseline::docker_default;
use strait_policy::format::{Target, oci};
use strait_policy::format::{seccompiler, spo};
use strait_policy::score::{Score, Surface};
use strait_policy::{Policy, Rules};
use strait_testkit::skip;

/// The text of a profile, or none, and then that is said.
fn profile(test: &str, name: &str) -> Option<String> {
    let beside: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "..", "shared", "profiles", name].iter().collect();
    match std::fs::read_to_string(&beside) {
        Ok(text) => Some(text),
        Err(_) => {
            skip(test, &format!("there is no ../shared/profiles/{name} beside the checkout"));
            None
        }
    }
}

fn machine() -> Target {
    Target::new(Arch::X86_64, KernelVersion::new(6, 18))
}

fn decide(rules: &Rules, arch: Arch, name: &str, args: [u64; 6]) -> Action {
    let nr = Syscall::from_name(name).unwrap().number(arch).unwrap();
    rules.decide(&SeccompData { nr, arch: arch.audit_arch(), instruction_pointer: 0, args })
}

/// Import and export again, and the document between them.
fn round_trip(text: &str) -> (Policy, Rules) {
    let policy = oci::import(text, &machine()).unwrap().policy;
    assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
    let exported = oci::export(&policy, &machine()).unwrap();
    assert_eq!(exported.losses, []);
    let again = oci::import(&exported.text, &machine()).unwrap().policy;
    let rules = policy.lower().unwrap();
    let meaning = rules.decision().unwrap();
    assert_eq!(
        again.lower().unwrap().decision().unwrap().compare(&meaning).unwrap().differences,
        []
    );
    (policy, rules)
}

#[test]
fn the_default_profile_of_docker_is_read_and_written() {
    let Some(text) = profile("docker default", "moby-default.json") else { return };
    let (_, rules) = round_trip(&text);
    let x86_64 = |name, args| decide(&rules, Arch::X86_64, name, args);
    assert_eq!(x86_64("read", [0; 6]), Action::Allow);
    assert_eq!(x86_64("mount", [0; 6]), Action::Errno(1));
    assert_eq!(x86_64("clone3", [0; 6]), Action::Errno(38));
    assert_eq!(x86_64("clone", [0x0001_0f00, 0, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(x86_64("clone", [0x1000_0000, 0, 0, 0, 0, 0]), Action::Errno(1));
    assert_eq!(x86_64("socket", [38, 0, 0, 0, 0, 0]), Action::Errno(1));
    assert_eq!(x86_64("socket", [39, 0, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(x86_64("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), Action::Allow);
    assert_eq!(x86_64("chroot", [0; 6]), Action::Allow);
    assert_eq!(decide(&rules, Arch::I386, "socketcall", [0; 6]), Action::Allow);
    // The calls by which the baseline was written down.
    let baseline = docker_default();
    for call in Syscall::all() {
        let Some(nr) = call.number(Arch::X86_64) else { continue };
        let chain = rules.table(Arch::X86_64.audit_arch()).unwrap().chain(nr);
        let always = chain.arms.is_empty() && chain.otherwise == Action::Allow;
        let sometimes = chain.arms.iter().any(|arm| arm.action == Action::Allow);
        assert_eq!(baseline.allowed.contains(&call), always, "{call}");
        assert_eq!(baseline.conditional.contains(&call), sometimes, "{call}");
    }
    for call in Syscall::all().filter(|call| call.number(Arch::X86_64).is_none()) {
        let passes = |arch: &Arch| {
            let nr = call.number(*arch)?;
            Some(rules.table(arch.audit_arch())?.chain(nr).otherwise.lets_pass())
        };
        let elsewhere = [Arch::I386, Arch::X32].iter().filter_map(passes).any(|passes| passes);
        assert_eq!(baseline.elsewhere.contains(&call), elsewhere, "{call}");
    }
    // As it comes it opens two more ABIs, and no call that it has itself counts as beyond it.
    let score = Score::new(&rules).unwrap();
    let calls = score.parts.iter().filter(|part| matches!(part.what, Surface::Call(..)));
    let beyond: Vec<String> =
        calls.filter(|part| part.beyond_default).map(|part| part.what.name()).collect();
    assert_eq!(beyond, [""; 0]);
    assert_eq!(format!("{:.1}", score.score()), "130.9");
}

#[test]
fn capabilities_and_kernels_select_rules() {
    let Some(text) = profile("docker default", "moby-default.json") else { return };
    let allows = |machine: &Target, name| {
        let rules = oci::import(&text, machine).unwrap().policy.lower().unwrap();
        decide(&rules, Arch::X86_64, name, [0; 6]) == Action::Allow
    };
    let mut admin = machine();
    admin.capabilities.insert("CAP_SYS_ADMIN".into());
    assert!(allows(&admin, "mount") && allows(&admin, "clone3") && !allows(&machine(), "mount"));
    let mut old = machine();
    old.kernel = KernelVersion::new(4, 4);
    assert!(allows(&machine(), "ptrace") && !allows(&old, "ptrace"));
}

#[test]
fn other_profiles_are_read_and_written() {
    for name in ["containers-common.json", "docker-labs-deny.json"] {
        let Some(text) = profile("other profiles", name) else { continue };
        round_trip(&text);
    }
}

#[test]
fn profiles_of_the_operator_are_read_and_written() {
    let names = ["baseprofile-runc.yaml", "baseprofile-crun.yaml", "spo-seccompprofile.yaml"];
    for name in names {
        let Some(text) = profile("operator profiles", name) else { continue };
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("name: ")) {
            let target = Target { thread: Some(name.to_owned()), ..machine() };
            let imported = spo::import(&text, &target).unwrap();
            assert_eq!(imported.policy.metadata.name.as_deref(), Some(name));
            let exported = spo::export(&imported.policy, &target).unwrap();
            assert_eq!(exported.losses, [], "{name}");
        }
    }
}

#[test]
fn filters_of_firecracker_are_read_and_written() {
    let Some(text) = profile("firecracker", "firecracker-x86_64.json") else { return };
    let threads = seccompiler::import(&text, Arch::X86_64).unwrap();
    assert!(threads.len() >= 3);
    for (name, imported) in threads {
        let exported = seccompiler::export(&imported.policy, &name, Arch::X86_64).unwrap();
        assert_eq!(exported.losses, [], "{name}");
    }
}
