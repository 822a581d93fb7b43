//! Syscall numbers, from each arch's `asm/unistd.h`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use strait_abi::Arch;

use super::sources::Sources;
use super::target::TARGETS;

/// The number of each call on each arch that has it. x32 numbers are without their bit.
pub(super) type Numbers = BTreeMap<String, BTreeMap<Arch, u32>>;

/// Macros that look like a call's number and are none.
const NOT_CALLS: &[&str] = &[
    "__NR_SYSCALL_BASE",
    "__NR_OABI_SYSCALL_BASE",
    "__NR_SYSCALL_MASK",
    "__NR_syscalls",
    "__NR_arch_specific_syscall",
];

/// Reads the numbers of every arch.
pub(super) fn read(sources: &Sources) -> Result<Numbers> {
    let mut numbers = Numbers::new();
    for target in TARGETS {
        let macros = target.macros(sources, &["asm/unistd.h"])?;
        let names: Vec<&String> = macros
            .keys()
            .filter(|name| !NOT_CALLS.contains(&name.as_str()) && *name != "__ARM_NR_BASE")
            .filter(|name| call_of(name).is_some())
            .collect();
        ensure!(names.len() > 250, "{} has only {} calls", target.arch, names.len());
        let expressions: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        let values = target.evaluate(sources, &["asm/unistd.h"], &expressions)?;
        for (name, value) in names.into_iter().zip(values) {
            let call = call_of(name).context("a macro that names no call")?;
            let mut number = u32::try_from(value).with_context(|| format!("{name} is {value}"))?;
            if target.arch == Arch::X32 {
                ensure!(number & Arch::X32_BIT != 0, "{name} lacks the x32 bit");
                number &= !Arch::X32_BIT;
            }
            numbers.entry(call.to_owned()).or_default().insert(target.arch, number);
        }
    }
    Ok(numbers)
}

/// Names of calls that only arches without a table here have, from their headers as text.
pub(super) fn elsewhere(sources: &Sources, numbers: &Numbers) -> Result<BTreeSet<String>> {
    const ARCHES: &[&str] = &["alpha", "arc", "m68k", "mips", "parisc", "powerpc", "sh", "sparc"];
    let mut names = BTreeSet::new();
    for arch in ARCHES {
        let folder = sources.headers().join("../lib/linux/uapi").join(arch).join("asm");
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !file.starts_with("unistd") {
                continue;
            }
            let defined = fs::read_to_string(&path)?;
            names.extend(
                defined
                    .lines()
                    .filter_map(|line| {
                        line.strip_prefix("#define __NR_")?.split_whitespace().next()
                    })
                    .filter(|name| {
                        name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
                    })
                    .filter(|name| !name.starts_with("reserved") && !name.starts_with("unused"))
                    .filter(|name| !numbers.contains_key(*name))
                    .filter(|name| !NOT_CALLS.contains(&format!("__NR_{name}").as_str()))
                    .map(str::to_owned),
            );
        }
    }
    ensure!(names.contains("cachectl"), "the headers of MIPS have no cachectl");
    Ok(names)
}

fn call_of(name: &str) -> Option<&str> {
    name.strip_prefix("__NR_").or_else(|| name.strip_prefix("__ARM_NR_"))
}
