//! Syscall numbers, from each arch's `asm/unistd.h`.

use std::collections::BTreeMap;

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

fn call_of(name: &str) -> Option<&str> {
    name.strip_prefix("__NR_").or_else(|| name.strip_prefix("__ARM_NR_"))
}
