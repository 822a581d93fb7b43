//! Witnesses: calls on which two decisions differ, for people and as data.

use serde_json::{Value, json};
use strait_abi::AuditArch;
use strait_bpf::{Difference, SeccompData};
use strait_policy::action_text;

/// How many differences a person is shown.
pub const SHOWN: usize = 10;

/// One difference, as a call that a person can read.
pub fn text(difference: &Difference, first: &str, second: &str) -> String {
    let Difference { calls, witness, first: one, second: other, .. } = difference;
    let and_on = match calls.1 - calls.0 {
        0 => String::new(),
        _ => format!(" (and numbers up to {})", number(calls.1)),
    };
    format!(
        "{}{and_on}: {first} {}, {second} {}",
        call(witness),
        action_text(*one),
        action_text(*other)
    )
}

/// One difference as data.
pub fn json(difference: &Difference) -> Value {
    let Difference { calls, witness, first, second, .. } = difference;
    json!({
        "call": call(witness),
        "arch": witness.arch.to_string(),
        "numbers": [calls.0, calls.1],
        "nr": witness.nr,
        "args": witness.args,
        "instructionPointer": witness.instruction_pointer,
        "intended": action_text(*first),
        "actual": action_text(*second),
    })
}

/// A call by name, with its arguments where any is not zero, and its arch.
pub fn call(data: &SeccompData) -> String {
    let args = match data.args.iter().rposition(|&arg| arg != 0) {
        None => String::new(),
        Some(last) => {
            let args: Vec<String> = data.args[..=last].iter().map(|&arg| hex(arg)).collect();
            format!("({})", args.join(", "))
        }
    };
    format!("{}{args} on {}", name(data.arch, data.nr), data.arch)
}

/// The name of a call, or its number.
pub fn name(arch: AuditArch, nr: u32) -> String {
    let arches = strait_abi::Arch::ALL.iter().filter(|known| known.audit_arch() == arch);
    match arches.filter_map(|known| known.syscall(nr)).next() {
        Some(syscall) => syscall.name().to_owned(),
        None => format!("number {}", number(nr)),
    }
}

fn number(nr: u32) -> String {
    if nr < 0x1000 { nr.to_string() } else { format!("{nr:#x}") }
}

fn hex(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strait_abi::Arch;

    #[test]
    fn calls_are_shown_by_name_with_what_matters() {
        let arch = Arch::X86_64.audit_arch();
        let mut data = SeccompData::new(arch, 41);
        assert_eq!(call(&data), "socket on x86_64");
        data.args[0] = 1 << 32 | 16;
        assert_eq!(call(&data), "socket(0x100000010) on x86_64");
        assert_eq!(name(arch, 0xffff_ffff), "number 0xffffffff");
    }
}
