//! The filters that systemd loads for a unit's settings: one for each setting and each ABI of the
//! machine, which leaves calls of other ABIs alone. Here those of one setting are one.

use std::collections::BTreeSet;

use strait_abi::{Arch, KernelVersion};
use strait_bpf::Action;

use super::group;
use super::settings::{ALL_NAMESPACES, List, NAMESPACES, Own, Refusal, Settings};
use crate::format::libseccomp::{Arg, CompareOp, Filter, FilterRule};
use crate::rules::Rules;
use crate::stack::stacked;

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);
const EAFNOSUPPORT: Action = Action::Errno(97);

/// The ABIs of a machine: systemd makes a filter for each.
pub(super) fn local_arches(native: Arch) -> Vec<Arch> {
    match native {
        Arch::X86_64 | Arch::X32 => vec![Arch::X86_64, Arch::I386, Arch::X32],
        Arch::Aarch64 => vec![Arch::Aarch64, Arch::Arm],
        other => vec![other],
    }
}

/// What a process of a unit with these settings gets.
pub(super) fn rules(settings: &Settings, native: Arch, library: Option<KernelVersion>) -> Rules {
    let mut installer = Installer { arches: local_arches(native), library };
    let on = |flag: &str| settings.flags.contains(flag);
    // In the order in which systemd loads them: of two errnos the later filter's is returned.
    let mut filters: Vec<Rules> = Vec::new();
    if on("ProtectHostname") {
        filters.push(installer.all(&["sethostname", "setdomainname"], EPERM));
    }
    if let Some(families) = &settings.families {
        filters.extend(installer.families(families));
    }
    if on("MemoryDenyWriteExecute") {
        filters.push(installer.each(memory_deny_write_execute));
    }
    if on("RestrictRealtime") {
        filters.push(installer.each(|_| restrict_realtime()));
    }
    if on("RestrictSUIDSGID") || on("DynamicUser") {
        filters.push(installer.each(|_| restrict_suid_sgid()));
    }
    if let Some(retained) = settings.namespaces {
        filters.extend(installer.namespaces(retained));
    }
    if on("ProtectKernelTunables") {
        filters.push(installer.all(&["_sysctl"], EPERM));
    }
    for (flag, group) in [("ProtectKernelModules", "@module"), ("ProtectClock", "@clock")] {
        if on(flag) {
            filters.push(installer.group(group));
        }
    }
    if on("ProtectKernelLogs") {
        filters.push(installer.all(&["syslog"], EPERM));
    }
    if on("PrivateDevices") {
        filters.push(installer.group("@raw-io"));
    }
    if settings.restricts_architectures {
        let allowed = allowed_architectures(&settings.architectures, native);
        let filter = Filter::new(Action::Allow, Action::KillThread);
        let filter = allowed.iter().fold(filter, |filter, arch| filter.with_arch(*arch, &[]));
        filters.push(filter.rules_taken());
        // Later filters are not made for what is refused already.
        installer.arches.retain(|arch| allowed.contains(arch));
    }
    if on("LockPersonality") {
        let locked = settings.personality;
        let rule = |_| vec![rule("personality", EPERM, &[(0, CompareOp::Ne, locked)])];
        filters.push(installer.each(rule));
    }
    if let Some(log) = &settings.log {
        filters.extend(installer.log(log));
    }
    if let Some(filter) = &settings.filter {
        filters.extend(installer.filter(filter, settings.refusal));
    }
    filters.iter().fold(Rules::new(Action::Allow), |older, newer| stacked(&older, newer))
}

/// What `SystemCallFilter=` gives to calls that it says nothing else about.
pub(super) fn default(settings: &Settings) -> Action {
    match &settings.filter {
        Some(List { allows: true, .. }) => refused(None, settings.refusal),
        _ => match &settings.log {
            Some(List { allows: false, .. }) => Action::Log,
            _ => Action::Allow,
        },
    }
}

fn refused(own: Own, of_unit: Option<u16>) -> Action {
    match (own.map(|(refusal, _)| refusal), of_unit) {
        (Some(Refusal::Errno(errno)), _) | (None, Some(errno)) => Action::Errno(errno),
        (Some(Refusal::Kill), _) | (None, None) => Action::KillProcess,
    }
}

struct Installer {
    arches: Vec<Arch>,
    /// The newest kernel whose calls libseccomp knows, if that is known.
    library: Option<KernelVersion>,
}

impl Installer {
    /// A filter with rules for each ABI, that otherwise allows.
    fn each(&self, rules: impl Fn(Arch) -> Vec<FilterRule>) -> Rules {
        self.load(Action::Allow, rules)
    }

    fn load(&self, default: Action, rules: impl Fn(Arch) -> Vec<FilterRule>) -> Rules {
        let mut filter = Filter::new(default, Action::Allow).of_library(self.library);
        for &arch in &self.arches {
            filter = filter.with_arch(arch, rules(arch));
        }
        filter.rules_taken()
    }

    fn all(&self, calls: &[&str], action: Action) -> Rules {
        self.each(|_| calls.iter().map(|call| rule(call, action, &[])).collect())
    }

    fn group(&self, name: &str) -> Rules {
        let calls = group::calls(name);
        self.all(&calls, EPERM)
    }

    fn filter(&self, list: &List<String, Own>, of_unit: Option<u16>) -> Option<Rules> {
        if !list.allows && list.entries.is_empty() {
            return None;
        }
        let default = if list.allows { refused(None, of_unit) } else { Action::Allow };
        let entry = |(name, own): (&String, &Own)| match (list.allows, own) {
            (true, None) => rule(name, Action::Allow, &[]),
            _ => rule(name, refused(*own, of_unit), &[]),
        };
        Some(self.load(default, |_| list.entries.iter().map(entry).collect()))
    }

    fn log(&self, list: &List<String, ()>) -> Option<Rules> {
        let (default, action) = match list.allows {
            true if list.entries.is_empty() => return None,
            true => (Action::Allow, Action::Log),
            false => (Action::Log, Action::Allow),
        };
        let entry = |name: &String| rule(name, action, &[]);
        Some(self.load(default, |_| list.entries.keys().map(entry).collect()))
    }

    /// `socket` by its first argument, on ABIs that have no other way to make sockets.
    fn families(&self, list: &List<u64, ()>) -> Option<Rules> {
        if !list.allows && list.entries.is_empty() {
            return None;
        }
        let refuse = |op, value| rule("socket", EAFNOSUPPORT, &[(0, op, value)]);
        let rules = match (list.entries.first_key_value(), list.entries.last_key_value()) {
            _ if !list.allows => {
                list.entries.keys().map(|family| refuse(CompareOp::Eq, *family)).collect()
            }
            (Some((&first, _)), Some((&last, _))) => {
                let absent = (first..=last).filter(|family| !list.entries.contains_key(family));
                let outside = [refuse(CompareOp::Lt, first), refuse(CompareOp::Gt, last)];
                outside
                    .into_iter()
                    .chain(absent.map(|family| refuse(CompareOp::Eq, family)))
                    .collect()
            }
            _ => vec![rule("socket", EAFNOSUPPORT, &[])],
        };
        let has_socketcall = |arch| matches!(arch, Arch::I386 | Arch::S390x | Arch::Ppc64le);
        Some(self.each(|arch| if has_socketcall(arch) { Vec::new() } else { rules.clone() }))
    }

    /// `clone`, `unshare` and `setns` by their flags, except those of retained kinds.
    fn namespaces(&self, retained: u64) -> Option<Rules> {
        let refused: Vec<u64> =
            NAMESPACES.iter().map(|(_, flag)| *flag).filter(|flag| retained & flag == 0).collect();
        if retained & ALL_NAMESPACES == ALL_NAMESPACES {
            return None;
        }
        let every = retained & ALL_NAMESPACES == 0;
        let masked = |call, index, flag| FilterRule {
            name: str::to_owned(call),
            action: EPERM,
            args: vec![Arg { index, op: CompareOp::MaskedEq, value: flag, value_two: flag }],
        };
        Some(self.each(|arch| {
            let clone_flags = if arch == Arch::S390x { 1 } else { 0 };
            let mut rules = vec![rule("clone3", ENOSYS, &[])];
            if every {
                rules.push(rule("setns", EPERM, &[]));
            } else {
                rules.push(rule("setns", EPERM, &[(1, CompareOp::Eq, 0)]));
                rules.extend(refused.iter().map(|flag| masked("setns", 1, *flag)));
            }
            rules.extend(refused.iter().map(|flag| masked("unshare", 0, *flag)));
            rules.extend(refused.iter().map(|flag| masked("clone", clone_flags, *flag)));
            rules
        }))
    }
}

/// The ABIs that `SystemCallArchitectures=` leaves: of those that it lists only the machine's own.
fn allowed_architectures(listed: &BTreeSet<Arch>, native: Arch) -> BTreeSet<Arch> {
    let local = local_arches(native);
    let mut arches: BTreeSet<Arch> =
        local.into_iter().filter(|arch| listed.contains(arch)).collect();
    arches.insert(native);
    if arches.contains(&Arch::X32) {
        // The vDSO of x32 makes calls of x86_64.
        arches.insert(Arch::X86_64);
    }
    arches
}

fn memory_deny_write_execute(arch: Arch) -> Vec<FilterRule> {
    const PROT_WRITE: u64 = 2;
    const PROT_EXEC: u64 = 4;
    const SHM_EXEC: u64 = 0o100_000;
    let masked = |call: &str, flags| FilterRule {
        name: call.to_owned(),
        action: EPERM,
        args: vec![Arg { index: 2, op: CompareOp::MaskedEq, value: flags, value_two: flags }],
    };
    let (mmap, old_mmap, shmat) = match arch {
        Arch::I386 => ("mmap2", true, false),
        Arch::Arm => ("mmap2", false, true),
        Arch::S390x | Arch::Ppc64le => ("mmap", false, false),
        _ => ("mmap", false, true),
    };
    let mut rules = vec![masked(mmap, PROT_EXEC | PROT_WRITE)];
    if old_mmap {
        rules.push(rule("mmap", EPERM, &[]));
    }
    rules.push(masked("mprotect", PROT_EXEC));
    rules.push(masked("pkey_mprotect", PROT_EXEC));
    if shmat {
        rules.push(masked("shmat", SHM_EXEC));
    }
    rules
}

fn restrict_realtime() -> Vec<FilterRule> {
    const SCHED_FIFO: u64 = 1;
    const SCHED_RR: u64 = 2;
    const SCHED_ISO: u64 = 4;
    const SCHED_IDLE: u64 = 5;
    let refuse = |op, value| rule("sched_setscheduler", EPERM, &[(1, op, value)]);
    let below = [SCHED_FIFO, SCHED_RR, SCHED_ISO].map(|policy| refuse(CompareOp::Eq, policy));
    below.into_iter().chain([refuse(CompareOp::Gt, SCHED_IDLE)]).collect()
}

fn restrict_suid_sgid() -> Vec<FilterRule> {
    const O_CREAT: u64 = 0o100;
    let mut rules = Vec::new();
    for bit in [0o4000, 0o2000] {
        let masked =
            |index, bits| Arg { index, op: CompareOp::MaskedEq, value: bits, value_two: bits };
        let mut refuse = |call: &str, args: Vec<Arg>| {
            rules.push(FilterRule { name: call.to_owned(), action: EPERM, args });
        };
        for (call, mode) in [
            ("chmod", 1),
            ("fchmod", 1),
            ("fchmodat", 2),
            ("fchmodat2", 2),
            ("mkdir", 1),
            ("mkdirat", 2),
            ("mknod", 1),
            ("mknodat", 2),
            ("creat", 1),
        ] {
            refuse(call, vec![masked(mode, bit)]);
        }
        refuse("open", vec![masked(1, O_CREAT), masked(2, bit)]);
        refuse("openat", vec![masked(2, O_CREAT), masked(3, bit)]);
    }
    // Its flags are in memory.
    rules.push(rule("openat2", ENOSYS, &[]));
    rules
}

fn rule(name: &str, action: Action, args: &[(u8, CompareOp, u64)]) -> FilterRule {
    let arg = |&(index, op, value): &(u8, CompareOp, u64)| Arg { index, op, value, value_two: 0 };
    FilterRule { name: name.to_owned(), action, args: args.iter().map(arg).collect() }
}
