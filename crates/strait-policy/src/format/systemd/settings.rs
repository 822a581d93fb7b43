//! What a unit's assignments add up to. An assignment that systemd does not understand, it passes
//! over with a warning, and so does this: each is a note.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, KernelVersion, Syscall};

use super::group;
use super::install::local_arches;
use super::unit::Assignment;
use crate::errno::errno_names;
use crate::text::{Fault, MAX_HINTS, MAX_VALUES, Problem, Span, nearest};
use crate::{errno_name, errno_number};

/// What is done to a call instead of making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `kill`
    Kill,
    Errno(u16),
}

/// How a call is refused that a list names with a word of its own, and where that stands.
pub(super) type Own = Option<(Refusal, Span)>;

/// A list that allows what it has, or one that has what is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<K: Ord, V> {
    pub(super) allows: bool,
    pub(super) entries: BTreeMap<K, V>,
}

impl<K: Ord, V> List<K, V> {
    /// The list that an assignment begins or goes on with.
    fn begun(list: &mut Option<List<K, V>>, invert: bool) -> &mut List<K, V> {
        list.get_or_insert_with(|| List { allows: !invert, entries: BTreeMap::new() })
    }

    fn change(&mut self, invert: bool, key: K, value: V) {
        if invert != self.allows {
            self.entries.insert(key, value);
        } else {
            self.entries.remove(&key);
        }
    }
}

/// The kinds of namespaces, and their flags. Of `time` systemd has the name and the flag, but does
/// not count it among all kinds: what allows all but some does not allow it.
pub(super) const NAMESPACES: &[(&str, u64)] = &[
    ("cgroup", 0x0200_0000),
    ("ipc", 0x0800_0000),
    ("net", 0x4000_0000),
    ("mnt", 0x0002_0000),
    ("pid", 0x2000_0000),
    ("time", 0x0000_0080),
    ("user", 0x1000_0000),
    ("uts", 0x0400_0000),
];

/// The flags of all kinds but `time`.
pub(super) const ALL_NAMESPACES: u64 = 0x7e02_0000;

/// What a unit says about system calls.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `SystemCallFilter=`: names, and how a call of that name is refused, if not as the unit says.
    pub(super) filter: Option<List<String, Own>>,
    /// `SystemCallErrorNumber=`; kill if there is none.
    pub(super) refusal: Option<u16>,
    /// `SystemCallLog=`
    pub(super) log: Option<List<String, ()>>,
    /// `SystemCallArchitectures=`
    pub(super) architectures: BTreeSet<Arch>,
    /// Whether that restricts anything: it may list architectures that are not known here.
    pub(super) restricts_architectures: bool,
    /// `RestrictAddressFamilies=`
    pub(super) families: Option<List<u64, ()>>,
    /// `RestrictNamespaces=`: the flags of the kinds that may be used; none restrict nothing.
    pub(super) namespaces: Option<u64>,
    /// `Personality=`
    pub(super) personality: u64,
    /// What is yes or no, by its name.
    pub(super) flags: BTreeSet<&'static str>,
}

/// The assignments of yes and no.
const FLAGS: &[&str] = &[
    "DynamicUser",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "PrivateDevices",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictRealtime",
    "RestrictSUIDSGID",
];
const LISTS: &[&str] = &[
    "Personality",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "SystemCallLog",
];

/// What is read with, and the notes of what is passed over.
pub(super) struct Reader<'a> {
    pub(super) arch: Arch,
    /// The newest kernel whose calls libseccomp knows, if that is known.
    pub(super) library: Option<KernelVersion>,
    pub(super) notes: &'a mut Vec<(Span, String)>,
    /// How many names the groups stood for so far.
    pub(super) expanded: usize,
}

impl Reader<'_> {
    /// What the assignments add up to.
    pub(super) fn settings(&mut self, assignments: &[Assignment]) -> Result<Settings, Fault> {
        let mut settings = Settings::default();
        for assignment in assignments {
            self.assign(&mut settings, assignment)?;
        }
        self.check_refusals(&settings)?;
        Ok(settings)
    }

    /// libseccomp takes no rule that does what is done anyway, and then systemd does not start the
    /// unit.
    fn check_refusals(&self, settings: &Settings) -> Result<(), Fault> {
        let Some(List { allows: true, entries }) = &settings.filter else { return Ok(()) };
        let of_unit = settings.refusal.map_or(Refusal::Kill, Refusal::Errno);
        let is_here = |name: &str| {
            let call = Syscall::from_name(name);
            let arches = local_arches(self.arch);
            call.is_some_and(|call| arches.iter().any(|arch| call.number(*arch).is_some()))
        };
        for (name, own) in entries {
            if let Some((refusal, span)) = own
                && *refusal == of_unit
                && is_here(name)
            {
                return Err(span.fault(Problem::Invalid {
                    what: "refusal of its own",
                    value: name.clone(),
                    right: "it is that of SystemCallErrorNumber=, with which systemd does not \
                            start the unit: leave the errno out"
                        .to_owned(),
                }));
            }
        }
        Ok(())
    }

    fn assign(&mut self, settings: &mut Settings, assignment: &Assignment) -> Result<(), Fault> {
        match assignment.key() {
            "SystemCallFilter" => return self.filter(&mut settings.filter, assignment),
            "SystemCallLog" => return self.log(&mut settings.log, assignment),
            "SystemCallErrorNumber" => match assignment.value() {
                "" | "kill" => settings.refusal = None,
                // 0 is none here, though it is one behind a call's name.
                text => match errno(text).filter(|errno| *errno > 0) {
                    Some(errno) => settings.refusal = Some(errno),
                    None => self.no_errno(assignment.value_span(), text),
                },
            },
            "SystemCallArchitectures" => self.architectures(settings, assignment),
            "RestrictAddressFamilies" => self.families(&mut settings.families, assignment),
            "RestrictNamespaces" => self.namespaces(&mut settings.namespaces, assignment),
            "Personality" => match (assignment.value(), self.arch) {
                ("", _) => settings.personality = 0,
                ("x86", Arch::X86_64) | ("arm", Arch::Aarch64) | ("s390", Arch::S390x) => {
                    settings.personality = 8;
                }
                ("x86-64", Arch::X86_64)
                | ("x86", Arch::I386)
                | ("arm64", Arch::Aarch64)
                | ("s390x", Arch::S390x)
                | ("ppc64-le", Arch::Ppc64le) => settings.personality = 0,
                (text, arch) => {
                    let note =
                        format!("`{text}` is no personality of {arch}: systemd passes it over");
                    self.note(assignment.value_span(), note);
                }
            },
            key => match FLAGS.iter().find(|flag| **flag == key) {
                Some(flag) => return self.flag(&mut settings.flags, flag, assignment),
                None => {
                    let known = FLAGS.iter().chain(LISTS).copied();
                    // Most assignments have nothing to do with system calls.
                    if self.notes.len() < MAX_HINTS
                        && let Some(meant) = nearest(key, known)
                    {
                        let note =
                            format!("`{key}` is not `{meant}`: if that is meant, it does nothing");
                        self.note(assignment.key_span(), note);
                    }
                }
            },
        }
        Ok(())
    }

    fn filter(
        &mut self,
        filter: &mut Option<List<String, Own>>,
        assignment: &Assignment,
    ) -> Result<(), Fault> {
        if assignment.value().is_empty() {
            *filter = None;
            return Ok(());
        }
        let (invert, words) = assignment.inverted();
        let begins = filter.is_none();
        let list = List::begun(filter, invert);
        if begins && !invert {
            let default = group::calls("@default");
            let default = default.into_iter().filter(|name| self.is_known(name));
            list.entries.extend(default.map(|name| (name.to_owned(), None)));
        }
        for (span, word) in words {
            let (name, refusal) = match word.split_once(':') {
                None => (word, None),
                Some((name, "kill")) => (name, Some(Refusal::Kill)),
                Some((name, text)) => match errno(text) {
                    Some(errno) => (name, Some(Refusal::Errno(errno))),
                    None => {
                        self.no_errno(span, text);
                        continue;
                    }
                },
            };
            if refusal.is_some() && !invert {
                let note =
                    format!("`{word}` is allowed, so it takes no errno: systemd passes it over");
                self.note(span, note);
                continue;
            }
            for name in self.calls(span, name)? {
                match refusal {
                    // A refusal with an errno of its own is kept in a list of what is allowed too.
                    Some(refusal) => drop(list.entries.insert(name, Some((refusal, span)))),
                    None => list.change(invert, name, None),
                }
            }
        }
        Ok(())
    }

    fn log(
        &mut self,
        log: &mut Option<List<String, ()>>,
        assignment: &Assignment,
    ) -> Result<(), Fault> {
        if assignment.value().is_empty() {
            *log = None;
            return Ok(());
        }
        let (invert, words) = assignment.inverted();
        let list = List::begun(log, invert);
        for (span, word) in words {
            for name in self.calls(span, word)? {
                list.change(invert, name, ());
            }
        }
        Ok(())
    }

    /// The calls that a name stands for.
    fn calls(&mut self, span: Span, name: &str) -> Result<Vec<String>, Fault> {
        if name.starts_with('@') {
            let Some(group) = group::from_name(name) else {
                let hint = self.hint(name, group::names());
                let note =
                    format!("`{name}` is no group that systemd has: it passes it over{hint}");
                self.note(span, note);
                return Ok(Vec::new());
            };
            let known: Vec<String> =
                group.names().filter(|name| self.is_known(name)).map(str::to_owned).collect();
            self.expanded += known.len();
            if self.expanded > MAX_VALUES {
                return Err(span.fault(Problem::TooMany));
            }
            return Ok(known);
        }
        if self.is_known(name) {
            return Ok(vec![name.to_owned()]);
        }
        let note = if Syscall::from_name(name).is_some() {
            format!("`{name}` is newer than systemd's libseccomp: it passes it over")
        } else {
            let hint = self.hint(name, Syscall::all().map(Syscall::name));
            format!("`{name}` is no system call that is known here: systemd passes it over{hint}")
        };
        self.note(span, note);
        Ok(Vec::new())
    }

    /// Whether libseccomp knows the name.
    fn is_known(&self, name: &str) -> bool {
        match Syscall::from_name(name) {
            Some(call) => {
                let since = call.since();
                self.library.is_none_or(|library| since.is_none_or(|since| since <= library))
            }
            None => Syscall::exists_elsewhere(name),
        }
    }

    fn architectures(&mut self, settings: &mut Settings, assignment: &Assignment) {
        if assignment.value().is_empty() {
            settings.architectures.clear();
            settings.restricts_architectures = false;
            return;
        }
        for (span, word) in assignment.words() {
            let arch = match word {
                "native" => Some(self.arch),
                _ => Arch::ALL.iter().copied().find(|&arch| arch_name(arch) == Some(word)),
            };
            match arch {
                Some(arch) => {
                    settings.architectures.insert(arch);
                    settings.restricts_architectures = true;
                }
                None if OTHER_ARCHES.contains(&word) => settings.restricts_architectures = true,
                None => {
                    let known = Arch::ALL.iter().filter_map(|&arch| arch_name(arch));
                    let hint = self.hint(word, known.chain(["native"]));
                    let note = format!("`{word}` is no architecture: systemd passes it over{hint}");
                    self.note(span, note);
                }
            }
        }
    }

    fn families(&mut self, families: &mut Option<List<u64, ()>>, assignment: &Assignment) {
        match assignment.value() {
            "" => {
                *families = None;
                return;
            }
            "none" => {
                *families = Some(List { allows: true, entries: BTreeMap::new() });
                return;
            }
            _ => {}
        }
        let (invert, words) = assignment.inverted();
        let list = List::begun(families, invert);
        for (span, word) in words {
            match family(self.arch, word) {
                Some(family) => list.change(invert, family, ()),
                None => {
                    let hint = self.hint(word, family_names(self.arch));
                    let note =
                        format!("`{word}` is no address family: systemd passes it over{hint}");
                    self.note(span, note);
                }
            }
        }
    }

    fn namespaces(&mut self, namespaces: &mut Option<u64>, assignment: &Assignment) {
        match (assignment.value(), boolean(assignment.value())) {
            ("", _) => *namespaces = None,
            (_, Some(restrict)) => *namespaces = Some(if restrict { 0 } else { ALL_NAMESPACES }),
            _ => {
                let (invert, words) = assignment.inverted();
                let mut flags = 0;
                for (span, word) in words {
                    let Some((_, flag)) = NAMESPACES.iter().find(|(name, _)| *name == word) else {
                        let hint = self.hint(word, NAMESPACES.iter().map(|(name, _)| *name));
                        let note = format!(
                            "`{word}` is no kind of namespace: systemd passes the whole line over{hint}"
                        );
                        self.note(span, note);
                        return;
                    };
                    flags |= flag;
                }
                *namespaces = Some(match (*namespaces, invert) {
                    (None, false) => flags,
                    (None, true) => ALL_NAMESPACES & !flags,
                    (Some(before), false) => before | flags,
                    (Some(before), true) => before & !flags,
                });
            }
        }
    }

    fn flag(
        &mut self,
        flags: &mut BTreeSet<&'static str>,
        flag: &'static str,
        assignment: &Assignment,
    ) -> Result<(), Fault> {
        let value = assignment.value();
        match boolean(value) {
            Some(true) => drop(flags.insert(flag)),
            Some(false) => drop(flags.remove(flag)),
            // Here systemd does not start the unit.
            None if flag == "DynamicUser" => {
                return Err(assignment.value_span().fault(Problem::Invalid {
                    what: "setting of DynamicUser",
                    value: value.to_owned(),
                    right: "it is yes or no".to_owned(),
                }));
            }
            None => {
                let note = format!("`{value}` is neither yes nor no: systemd passes it over");
                self.note(assignment.value_span(), note);
            }
        }
        Ok(())
    }

    fn no_errno(&mut self, span: Span, text: &str) {
        let hint = self.hint(text, errno_names().chain(["kill"]));
        self.note(span, format!("`{text}` is no errno: systemd passes it over{hint}"));
    }

    /// A name that an unknown one may be meant to be, for the first few: it takes long to find.
    fn hint<'n>(&self, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
        let nearest = if self.notes.len() < MAX_HINTS { nearest(name, known) } else { None };
        nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
    }

    fn note(&mut self, span: Span, message: String) {
        self.notes.push((span, message));
    }
}

/// An errno by name or number; 0 is one here.
fn errno(text: &str) -> Option<u16> {
    errno_number(text).or_else(|| text.parse().ok().filter(|errno| *errno <= 4095))
}

/// How an errno is written.
pub(super) fn errno_text(errno: u16) -> String {
    errno_name(errno).map_or_else(|| errno.to_string(), str::to_owned)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// What systemd calls an ABI.
pub(super) fn arch_name(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::X86_64 => Some("x86-64"),
        Arch::X32 => Some("x32"),
        Arch::I386 => Some("x86"),
        Arch::Aarch64 => Some("arm64"),
        Arch::Arm => Some("arm"),
        Arch::Riscv64 => Some("riscv64"),
        Arch::Ppc64le => Some("ppc64-le"),
        Arch::S390x => Some("s390x"),
        _ => None,
    }
}

/// Architectures that systemd knows and no table here has.
const OTHER_ARCHES: &[&str] = &[
    "mips",
    "mips-le",
    "mips64",
    "mips64-le",
    "mips64-le-n32",
    "mips64-n32",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "s390",
];

/// The number of an address family, by its name.
fn family(arch: Arch, name: &str) -> Option<u64> {
    domains(arch).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The names of address families.
fn family_names(arch: Arch) -> impl Iterator<Item = &'static str> {
    domains(arch).map(|(name, _)| name)
}

/// Every address family that a socket can have.
pub(super) fn domains(arch: Arch) -> impl Iterator<Item = (&'static str, u64)> {
    let domain = Syscall::from_name("socket").and_then(|call| call.arg(arch, "domain"));
    let constants = domain.and_then(|(_, domain)| domain.constants());
    let every = constants.into_iter().flat_map(move |constants| constants.iter(arch));
    every.filter(|(name, value)| name.starts_with("AF_") && *value > 0)
}
