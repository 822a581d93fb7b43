//! Calls as a person reads them, from what a filter sees: `socket(AF_NETLINK, SOCK_RAW, 0)`.

use strait_abi::{Arch, Arg, AuditArch, Syscall};
use strait_bpf::SeccompData;

/// The ABI that a call came in by; `None` for an audit arch that is not known.
pub fn abi(arch: AuditArch, nr: u32) -> Option<Arch> {
    let x32 = arch == Arch::X32.audit_arch() && nr & Arch::X32_BIT != 0 && nr >> 31 == 0;
    let abis = Arch::ALL.iter().copied().filter(|abi| abi.audit_arch() == arch);
    abis.into_iter().find(|&abi| (abi == Arch::X32) == x32)
}

/// The call with its arguments as the kernel takes them: constants by name, addresses in
/// hexadecimal, numbers with their sign. What the kernel does not look at is not shown. The ABI is
/// named where it is not this machine's.
pub fn call_text(data: &SeccompData) -> String {
    let Some(arch) = abi(data.arch, data.nr) else {
        return format!("call {} of {}", data.nr, data.arch);
    };
    let elsewhere = match Arch::NATIVE {
        Some(native) if native == arch => String::new(),
        _ => format!(" of {arch}"),
    };
    let Some(syscall) = arch.syscall(data.nr) else {
        return format!("call {}{elsewhere}", data.nr);
    };
    let args = syscall.args(arch).unwrap_or_default();
    let args: Vec<String> =
        args.iter().zip(data.args).map(|(arg, value)| text(arg, arch, value)).collect();
    format!("{}({}){elsewhere}", syscall.name(), args.join(", "))
}

/// The condition under which a rule is for this very call: its arguments that are numbers with
/// names, compared with what they are. `None` where it has none.
pub fn narrowest(data: &SeccompData) -> Option<String> {
    let arch = abi(data.arch, data.nr)?;
    let args = arch.syscall(data.nr)?.args(arch)?;
    let named = args.iter().zip(data.args).filter_map(|(arg, value)| {
        let constants = arg.constants()?;
        let text = constants.text(arch, value, arg.width(arch));
        // Conditions put spaces around `|`.
        Some(format!("{} == {}", arg.name(), text.replace('|', " | ")))
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(" and "))
}

/// The name of a call of this machine or another, where it has one.
pub fn name(data: &SeccompData) -> Option<Syscall> {
    abi(data.arch, data.nr)?.syscall(data.nr)
}

fn text(arg: &Arg, arch: Arch, value: u64) -> String {
    let width = arg.width(arch);
    let value = value & width.mask();
    if arg.is_pointer() {
        return if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") };
    }
    if let Some(constants) = arg.constants() {
        return constants.text(arch, value, width);
    }
    // The highest bit is the sign where the kernel takes the argument with one.
    let unused = 64 - width.bits();
    let signed = (value << unused).cast_signed() >> unused;
    if arg.is_signed() && signed < 0 { signed.to_string() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::When;

    fn call(arch: Arch, name: &str, args: [u64; 6]) -> SeccompData {
        let nr = Syscall::from_name(name).unwrap().number(arch).unwrap();
        SeccompData::new(arch.audit_arch(), nr).with_args(args)
    }

    #[test]
    fn calls_are_shown_as_the_kernel_takes_them() {
        let high = 1 << 32;
        for (arch, name, args, expected) in [
            (
                Arch::X86_64,
                "socket",
                [high | 16, 0x80003, 0, 9, 9, 9],
                "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)",
            ),
            (Arch::X86_64, "close", [0xffff_ffff, 0, 0, 0, 0, 0], "close(4294967295)"),
            (Arch::X86_64, "kill", [u64::MAX, 9, 0, 0, 0, 0], "kill(-1, SIGKILL)"),
            (Arch::X86_64, "execve", [0x7f00, 0, 1, 0, 0, 0], "execve(0x7f00, NULL, 0x1)"),
            (Arch::I386, "getpid", [1; 6], "getpid() of i386"),
            (Arch::X32, "getpid", [0; 6], "getpid() of x32"),
        ] {
            assert_eq!(call_text(&call(arch, name, args)), expected);
        }
        let unknown = SeccompData::new(Arch::X86_64.audit_arch(), 0x7fff_ffff);
        assert!(call_text(&unknown).contains("2147483647"));
        let foreign = SeccompData::new(AuditArch::from_raw(1), 5);
        assert!(call_text(&foreign).starts_with("call 5 of "));
    }

    #[test]
    fn the_narrowest_condition_holds_for_the_call_and_can_be_read() {
        for (name, args) in [
            ("socket", [16, 0x80003, 0, 0, 0, 0]),
            ("openat", [u64::MAX - 99, 0x1000, 0o101, 0o600, 0, 0]),
            ("ioctl", [0, 0x5412, 0x1000, 0, 0, 0]),
            ("kill", [1, 9, 0, 0, 0, 0]),
            ("prctl", [38, 1, 0, 0, 0, 0]),
        ] {
            let data = call(Arch::X86_64, name, args);
            let condition = narrowest(&data).unwrap();
            assert!(When::parse(&condition).is_ok(), "{condition}");
        }
        assert_eq!(narrowest(&call(Arch::X86_64, "getpid", [0; 6])), None);
    }
}
