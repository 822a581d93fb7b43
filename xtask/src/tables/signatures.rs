//! What each call takes on each arch: the parameters of the `SYSCALL_DEFINE` that the arch's
//! table enters, for 32-bit arches the compat one of the 64-bit kernel where there is one.
//!
//! The macro's types are what counts: the kernel casts each register to them before anything else
//! sees the argument (`__SC_CAST` in `include/linux/syscalls.h`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use strait_abi::Arch;

use super::numbers::Numbers;
use super::sources::Sources;

/// How the kernel takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `unsigned short`, such as `umode_t`.
    U16,
    /// `int` and its like.
    I32,
    /// `unsigned int` and its like.
    U32,
    /// `long`.
    Long,
    /// `unsigned long`, `size_t`.
    ULong,
    /// `loff_t`.
    I64,
    /// `u64`.
    U64,
    /// An address in the caller's memory.
    Pointer,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The parameters of a call on one arch.
pub(super) type Signature = Vec<Parameter>;

/// A call's signatures: the one of most arches, and those of the arches that differ from it in
/// what an argument is, not just in how it is called.
pub(super) struct Signatures {
    pub(super) usual: Signature,
    pub(super) others: BTreeMap<Arch, Signature>,
}

/// Reads the signatures of every call that the kernel's source still has.
pub(super) fn read(sources: &Sources, numbers: &Numbers) -> Result<BTreeMap<String, Signatures>> {
    let kernel = sources.kernel();
    let definitions = Definitions::read(&kernel)?;
    let mut all = BTreeMap::new();
    let entries = Entries::read(&kernel)?;
    for (call, row) in numbers {
        let mut by_arch = BTreeMap::new();
        for (&arch, &number) in row {
            if let Some(signature) = private_of_arm(call) {
                by_arch.insert(arch, signature);
                continue;
            }
            let entry = entries
                .of(arch, number)
                .with_context(|| format!("{call} is {number} on {arch}, but not in its table"))?;
            if let Some(signature) = definitions.of(arch, entry)? {
                by_arch.insert(arch, signature);
            }
        }
        if let Some((_, gone)) = GONE.iter().find(|(name, _)| name == call) {
            ensure!(by_arch.is_empty(), "{call} is not gone");
            // Only 64-bit arches take its 64-bit argument whole.
            let wide = row.keys().filter(|arch| arch.is_64_bit() || *call != "lookup_dcookie");
            for &arch in wide {
                by_arch.insert(arch, written(gone)?);
            }
        }
        if let Some(signatures) = fold(by_arch) {
            all.insert(call.clone(), signatures);
        }
    }
    Ok(all)
}

/// The calls that `arch/arm/kernel/traps.c` (`arm_syscall`) handles without a definition.
fn private_of_arm(call: &str) -> Option<Signature> {
    let parameters: &[&str] = match call {
        "breakpoint" | "usr26" | "usr32" | "get_tls" => &[],
        "cacheflush" => &["start", "end", "flags"],
        "set_tls" => &["val"],
        _ => return None,
    };
    let parameter = |name: &&str| Parameter { name: (*name).to_owned(), kind: Kind::ULong };
    Some(parameters.iter().map(parameter).collect())
}

/// What calls took that the kernel has no more, for the kernels that still have them: from
/// section 2 of the manual, and for nfsservctl from Linux 3.0, `fs/compat.c`.
const GONE: &[(&str, &str)] = &[
    ("_sysctl", "ptr args"),
    ("bdflush", "int func, long data"),
    ("create_module", "ptr name, ulong size"),
    ("get_kernel_syms", "ptr table"),
    ("lookup_dcookie", "u64 cookie, ptr buffer, ulong len"),
    ("nfsservctl", "int cmd, ptr argp, ptr resp"),
    ("query_module", "ptr name, int which, ptr buf, ulong bufsize, ptr ret"),
    ("uselib", "ptr library"),
];

/// The usual signature is that of the first arch that has one.
fn fold(by_arch: BTreeMap<Arch, Signature>) -> Option<Signatures> {
    let usual = by_arch.values().next()?.clone();
    let others =
        by_arch.into_iter().filter(|(arch, other)| differs(*arch, &usual, other)).collect();
    Some(Signatures { usual, others })
}

/// Whether `other`, which is `arch`'s, says another thing than `usual`. Names alone do not count
/// unless they change places, and on 32-bit arches no integer is wider than 32 bits anyway.
fn differs(arch: Arch, usual: &Signature, other: &Signature) -> bool {
    let narrow = matches!(arch, Arch::I386 | Arch::Arm);
    let width = |kind: Kind| match kind {
        Kind::U16 => 16,
        Kind::I32 | Kind::U32 => 32,
        Kind::I64 | Kind::U64 => 64,
        Kind::Long | Kind::ULong | Kind::Pointer => {
            if narrow {
                32
            } else {
                64
            }
        }
    };
    let moved = |name: &str, to: usize| {
        usual.iter().position(|p| p.name == name && p.name != usual[to].name)
    };
    usual.len() != other.len()
        || usual.iter().zip(other).enumerate().any(|(i, (a, b))| {
            (a.kind == Kind::Pointer) != (b.kind == Kind::Pointer)
                || width(a.kind) != width(b.kind)
                || moved(&b.name, i).is_some()
        })
}

/// Which function each arch enters for a number.
struct Entries(BTreeMap<(Arch, u32), String>);

impl Entries {
    fn read(kernel: &Path) -> Result<Entries> {
        const X86_64: &str = "arch/x86/entry/syscalls/syscall_64.tbl";
        const GENERIC: &str = "scripts/syscall.tbl";
        // The later of two files wins: 32-bit Arm's own table lacks the compat entries that
        // arm64's has.
        const TABLES: &[(Arch, &str, &[&str])] = &[
            (Arch::X86_64, X86_64, &["common", "64"]),
            (Arch::X32, X86_64, &["common", "x32"]),
            (Arch::I386, "arch/x86/entry/syscalls/syscall_32.tbl", &["i386"]),
            (Arch::Aarch64, GENERIC, &["common", "64", "renameat", "rlimit", "memfd_secret"]),
            (Arch::Arm, "arch/arm/tools/syscall.tbl", &["common"]),
            (Arch::Arm, "arch/arm64/tools/syscall_32.tbl", &["common"]),
            (Arch::Riscv64, GENERIC, &["common", "64", "riscv", "rlimit", "memfd_secret"]),
            (Arch::Ppc64le, "arch/powerpc/kernel/syscalls/syscall.tbl", &["common", "64", "nospu"]),
            (Arch::S390x, "arch/s390/kernel/syscalls/syscall.tbl", &["common"]),
            (Arch::Loongarch64, GENERIC, &["common", "64", "memfd_secret"]),
        ];
        let mut entries = BTreeMap::new();
        for (arch, table, abis) in TABLES {
            let text = text_of(&kernel.join(table))?;
            for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
                let mut cells = line.split_whitespace();
                let (Some(number), Some(abi)) = (cells.next(), cells.next()) else { continue };
                if !abis.contains(&abi) {
                    continue;
                }
                let narrow = matches!(arch, Arch::I386 | Arch::Arm);
                let (native, compat) = (cells.nth(1), cells.next().filter(|entry| *entry != "-"));
                let compat = compat.filter(|entry| *entry != "sys_ni_syscall");
                let entry = if narrow { compat.or(native) } else { native };
                let number = number.parse().with_context(|| format!("{table}: `{line}`"))?;
                entries.insert((*arch, number), entry.unwrap_or("sys_ni_syscall").to_owned());
            }
        }
        Ok(Entries(entries))
    }

    fn of(&self, arch: Arch, number: u32) -> Option<&str> {
        self.0.get(&(arch, number)).map(String::as_str)
    }
}

/// The folders of `arch/` whose definitions are read.
const SCOPES: &[&str] = &["arm", "arm64", "loongarch", "powerpc", "riscv", "s390", "x86"];

/// Every `SYSCALL_DEFINE` of the source tree, by the folder of the arch that has it (or none) and
/// the name of the function that it defines.
struct Definitions {
    by_name: BTreeMap<(String, String), Vec<Signature>>,
    /// What `kernel/sys_ni.c` answers with ENOSYS where no definition is built.
    optional: BTreeSet<String>,
}

impl Definitions {
    fn read(kernel: &Path) -> Result<Definitions> {
        let optional = text_of(&kernel.join("kernel/sys_ni.c"))?
            .lines()
            .filter_map(|line| {
                let (head, name) = line.strip_suffix(");")?.split_once('(')?;
                match head {
                    "COND_SYSCALL" => Some(format!("sys_{name}")),
                    "COND_SYSCALL_COMPAT" => Some(format!("compat_sys_{name}")),
                    _ => None,
                }
            })
            .collect();
        let mut definitions = Definitions { by_name: BTreeMap::new(), optional };
        definitions.walk(kernel, kernel)?;
        ensure!(definitions.by_name.len() > 500, "{} is no kernel source", kernel.display());
        Ok(definitions)
    }

    fn walk(&mut self, kernel: &Path, folder: &Path) -> Result<()> {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            let foreign = folder == kernel.join("arch")
                && !path.file_name().is_some_and(|name| SCOPES.iter().any(|scope| name == *scope));
            if path.is_dir() && !foreign {
                self.walk(kernel, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "c") {
                let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
                if text.contains("SYSCALL_DEFINE") || text.contains("SYSCALL32_DEFINE") {
                    let place = path.strip_prefix(kernel)?.to_string_lossy().into_owned();
                    let mut parts = place.split('/');
                    let scope = match parts.next() {
                        Some("arch") => parts.next().unwrap_or_default(),
                        _ => "",
                    };
                    self.scan(scope, &text).with_context(|| place.clone())?;
                }
            }
        }
        Ok(())
    }

    fn scan(&mut self, scope: &str, text: &str) -> Result<()> {
        for (at, define) in text.match_indices("_DEFINE") {
            let rest = &text[at + define.len()..];
            let line = text[..at].rsplit('\n').next().unwrap_or_default();
            let symbol = match line.rsplit(|c: char| !is_word(c)).next().unwrap_or_default() {
                "SYSCALL" => "sys_",
                // The latter is for arches that split 64-bit arguments; here, compat ones.
                "COMPAT_SYSCALL" | "SYSCALL32" => "compat_sys_",
                _ => continue,
            };
            if line.trim_start().starts_with(['#', '*', '/'])
                || !rest.starts_with(|c: char| ('0'..='6').contains(&c))
            {
                continue;
            }
            let arguments = parenthesised(&rest[1..]).context("SYSCALL_DEFINE without an end")?;
            let mut arguments = arguments.into_iter();
            let Some(name) = arguments.next() else { continue };
            let signature = parameters(arguments).with_context(|| name.clone())?;
            let key = (scope.to_owned(), format!("{symbol}{name}"));
            let known = self.by_name.entry(key).or_default();
            if !known.contains(&signature) {
                known.push(signature);
            }
        }
        Ok(())
    }

    /// What `entry` takes on `arch`; `None` where it is no call any more.
    fn of(&self, arch: Arch, entry: &str) -> Result<Option<Signature>> {
        if entry == "sys_ni_syscall" {
            return Ok(None);
        }
        if let Some(signature) = by_hand(arch, entry)? {
            return Ok(Some(signature));
        }
        let scope = match arch {
            Arch::X86_64 | Arch::X32 | Arch::I386 => "x86",
            // The compat entries are arm64's.
            Arch::Aarch64 | Arch::Arm => "arm64",
            Arch::Riscv64 => "riscv",
            Arch::Ppc64le => "powerpc",
            Arch::S390x => "s390",
            Arch::Loongarch64 => "loongarch",
            _ => bail!("the signatures know no {arch}"),
        };
        let own = if arch == Arch::Arm { "arm" } else { scope };
        let found = [own, scope, ""]
            .iter()
            .find_map(|scope| self.by_name.get(&((*scope).to_owned(), entry.to_owned())));
        let Some(found) = found else {
            ensure!(self.optional.contains(entry), "{entry} of {arch} is defined nowhere");
            return Ok(None);
        };
        match found.as_slice() {
            [one] => Ok(Some(one.clone())),
            // Alternatives by configuration that differ in names or constness only.
            [first, rest @ ..] if rest.iter().all(|other| !differs(arch, first, other)) => {
                Ok(Some(first.clone()))
            }
            several => bail!("{entry} of {arch} has {} definitions: {several:?}", several.len()),
        }
    }
}

/// Entries that no macro defines for the arch, and those whose definition the configuration
/// chooses.
fn by_hand(arch: Arch, entry: &str) -> Result<Option<Signature>> {
    let text = match (arch, entry) {
        // kernel/fork.c, by the arch's CONFIG_CLONE_BACKWARDS* (arch/*/Kconfig)
        (Arch::X86_64 | Arch::X32 | Arch::Loongarch64, "sys_clone") => {
            "ulong clone_flags, ulong newsp, ptr parent_tidptr, ptr child_tidptr, ulong tls"
        }
        (Arch::S390x, "sys_clone") => {
            "ulong newsp, ulong clone_flags, ptr parent_tidptr, ptr child_tidptr, ulong tls"
        }
        (_, "sys_clone") => {
            "ulong clone_flags, ulong newsp, ptr parent_tidptr, ulong tls, ptr child_tidptr"
        }
        // kernel/signal.c, by CONFIG_OLD_SIGSUSPEND3
        (Arch::I386 | Arch::Arm | Arch::S390x, "sys_sigsuspend") => {
            "int unused1, int unused2, ulong mask"
        }
        // fs/notify/fanotify/fanotify_user.c: 64-bit arches take the mask whole
        (_, "sys_fanotify_mark") => "int fanotify_fd, uint flags, u64 mask, int dfd, ptr pathname",
        _ => return Ok(None),
    };
    written(text).map(Some)
}

/// Parameters as they are written in this file.
fn written(text: &str) -> Result<Signature> {
    let mut signature = Signature::new();
    for parameter in text.split(", ") {
        let (kind, name) = parameter.split_once(' ').context("a parameter without a name")?;
        let kind = match kind {
            "ulong" => Kind::ULong,
            "long" => Kind::Long,
            "ptr" => Kind::Pointer,
            "int" => Kind::I32,
            "uint" => Kind::U32,
            "u64" => Kind::U64,
            other => bail!("`{other}` is no kind of parameter"),
        };
        signature.push(Parameter { name: name.to_owned(), kind });
    }
    Ok(signature)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The arguments of a macro call, from its opening parenthesis on.
fn parenthesised(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix('(')?;
    let (mut depth, mut argument, mut all) = (0_u32, String::new(), Vec::new());
    for c in text.chars() {
        match c {
            ')' if depth == 0 => {
                all.push(argument);
                let tidy =
                    |argument: String| argument.split_whitespace().collect::<Vec<_>>().join(" ");
                return Some(all.into_iter().map(tidy).collect());
            }
            ',' if depth == 0 => all.push(std::mem::take(&mut argument)),
            _ => {
                depth = match c {
                    '(' => depth + 1,
                    ')' => depth - 1,
                    _ => depth,
                };
                argument.push(c);
            }
        }
    }
    None
}

/// Pairs of type and name. The macros that split a 64-bit argument over two registers stand for
/// two pairs; all 32-bit arches here are little-endian, so the low half comes first.
fn parameters(mut arguments: impl Iterator<Item = String>) -> Result<Signature> {
    const SPLIT: &[&str] = &["compat_arg_u64_dual(", "arg_u32p(", "SC_ARG64("];
    let mut signature = Signature::new();
    while let Some(c_type) = arguments.next() {
        let split = SPLIT.iter().find_map(|start| c_type.strip_prefix(start)?.strip_suffix(')'));
        if let Some(name) = split {
            for half in ["lo", "hi"] {
                let name = format!("{}_{half}", name.trim());
                signature.push(Parameter { name, kind: Kind::U32 });
            }
            continue;
        }
        let name = arguments.next().with_context(|| format!("`{c_type}` has no name"))?;
        signature.push(Parameter { kind: kind(&c_type)?, name });
    }
    Ok(signature)
}

fn kind(c_type: &str) -> Result<Kind> {
    if c_type.contains('*') {
        return Ok(Kind::Pointer);
    }
    let words: Vec<&str> =
        c_type.split(' ').filter(|word| !["const", "__user"].contains(word)).collect();
    Ok(match words.join(" ").as_str() {
        "umode_t" | "compat_mode_t" | "old_uid_t" | "old_gid_t" => Kind::U16,
        "int" | "s32" | "__s32" | "pid_t" | "compat_pid_t" | "clockid_t" | "timer_t" | "mqd_t"
        | "key_serial_t" | "key_t" | "rwf_t" | "compat_int_t" | "compat_timer_t"
        | "compat_long_t" | "compat_off_t" | "compat_ssize_t" => Kind::I32,
        "unsigned"
        | "unsigned int"
        | "uint"
        | "qid_t"
        | "u32"
        | "__u32"
        | "uid_t"
        | "gid_t"
        | "compat_uint_t"
        | "compat_ulong_t"
        | "compat_size_t"
        | "compat_aio_context_t"
        | "compat_old_sigset_t"
        | "enum landlock_rule_type" => Kind::U32,
        "long" | "off_t" | "__kernel_old_time_t" | "ssize_t" => Kind::Long,
        "unsigned long" | "uintptr_t" | "size_t" | "aio_context_t" | "old_sigset_t" => Kind::ULong,
        "" => bail!("a parameter without a type"),
        "loff_t" | "compat_loff_t" => Kind::I64,
        "u64" | "__u64" => Kind::U64,
        "cap_user_header_t" | "cap_user_data_t" | "compat_uptr_t" | "__sighandler_t" => {
            Kind::Pointer
        }
        other => bail!("`{other}` is a type that xtask/src/tables/signatures.rs does not know"),
    })
}

fn text_of(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(definition: &str) -> Vec<(String, Kind)> {
        let mut arguments = parenthesised(definition).unwrap().into_iter().skip(1);
        let signature = parameters(&mut arguments).unwrap();
        signature.into_iter().map(|parameter| (parameter.name, parameter.kind)).collect()
    }

    #[test]
    fn a_definition_gives_names_and_kinds() {
        let openat = "(openat, int, dfd, const char __user *, filename, int, flags,\n\
                      \t\tumode_t, mode)\n{";
        let expected = [
            ("dfd".to_owned(), Kind::I32),
            ("filename".to_owned(), Kind::Pointer),
            ("flags".to_owned(), Kind::I32),
            ("mode".to_owned(), Kind::U16),
        ];
        assert_eq!(of(openat), expected);
    }

    #[test]
    fn a_split_argument_is_two() {
        let names: Vec<String> =
            of("(x, int, fd, compat_arg_u64_dual(pos), u32, n)").into_iter().map(|p| p.0).collect();
        assert_eq!(names, ["fd", "pos_lo", "pos_hi", "n"]);
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        assert!(kind("struct thing").is_err());
        assert!(kind("const clockid_t").is_ok());
        assert!(parenthesised("(x, int").is_none());
    }

    #[test]
    fn arches_differ_by_kind_or_place_not_by_name() {
        let usual = written("ulong flags, ulong stack, ptr tid").unwrap();
        let renamed = written("ulong flags, ulong newsp, ptr tid").unwrap();
        let moved = written("ulong stack, ulong flags, ptr tid").unwrap();
        let narrow = written("uint flags, uint stack, ptr tid").unwrap();
        assert!(!differs(Arch::S390x, &usual, &renamed));
        assert!(differs(Arch::S390x, &usual, &moved));
        assert!(differs(Arch::S390x, &usual, &narrow));
        assert!(!differs(Arch::I386, &usual, &narrow));
        assert!(differs(Arch::I386, &usual, &usual[..2].to_vec()));
    }
}
