//! The tables against this machine: its installed kernel headers, and what the running kernel
//! says of its calls in tracefs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use strait_abi::{Arch, KernelVersion, Syscall, Width};

fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

/// The headers that Debian installs for this arch, and that of the others which share its folder.
fn headers() -> &'static [(Arch, &'static str)] {
    match Arch::NATIVE {
        Some(Arch::X86_64) => &[
            (Arch::X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
            (Arch::X32, "/usr/include/x86_64-linux-gnu/asm/unistd_x32.h"),
            (Arch::I386, "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
        ],
        Some(Arch::S390x) => &[(Arch::S390x, "/usr/include/s390x-linux-gnu/asm/unistd_64.h")],
        Some(Arch::Ppc64le) => {
            &[(Arch::Ppc64le, "/usr/include/powerpc64le-linux-gnu/asm/unistd_64.h")]
        }
        _ => &[],
    }
}

/// `LINUX_VERSION_MAJOR` and `LINUX_VERSION_PATCHLEVEL` of the installed headers.
fn version_of_headers() -> Option<KernelVersion> {
    let text = fs::read_to_string("/usr/include/linux/version.h").ok()?;
    let macro_value = |name: &str| {
        let mut words = text.lines().find(|line| line.contains(name))?.split_whitespace();
        words.nth(2)?.parse::<u8>().ok()
    };
    let major = macro_value("LINUX_VERSION_MAJOR")?;
    Some(KernelVersion::new(major, macro_value("LINUX_VERSION_PATCHLEVEL")?))
}

/// `#define __NR_name number` of a header of numbers; those of x32 add the bit.
fn numbers_in(header: &str) -> BTreeMap<&str, u32> {
    let mut numbers = BTreeMap::new();
    for line in header.lines() {
        let Some(rest) = line.strip_prefix("#define __NR_") else { continue };
        let Some((name, value)) = rest.split_once(' ') else { continue };
        let (value, bit) = match value.strip_prefix("(__X32_SYSCALL_BIT + ") {
            Some(value) => (value.trim_end_matches(')'), Arch::X32_BIT),
            None => (value, 0),
        };
        if let Ok(number) = value.trim().parse::<u32>() {
            numbers.insert(name, number | bit);
        }
    }
    numbers
}

#[test]
fn numbers_are_those_of_the_installed_headers() {
    let test = "numbers_are_those_of_the_installed_headers";
    let Some(version) = version_of_headers() else {
        return skip(test, "no /usr/include/linux/version.h (Debian: linux-libc-dev)");
    };
    let mut compared = 0;
    for &(arch, path) in headers() {
        let Ok(text) = fs::read_to_string(path) else {
            skip(test, &format!("no {path}"));
            continue;
        };
        let numbers = numbers_in(&text);
        assert!(numbers.len() > 300, "{path} has {} numbers", numbers.len());
        for (name, &number) in &numbers {
            match Syscall::from_name(name).and_then(|call| call.number(arch)) {
                Some(ours) => assert_eq!(ours, number, "{name} on {arch}"),
                None => assert!(
                    version > Arch::tables_as_of(),
                    "{name} is {number} in {path}, of Linux {version}, and unknown on {arch}"
                ),
            }
        }
        for call in Syscall::all().filter(|call| call.number(arch).is_some()) {
            if let Some(since) = call.since() {
                let there = numbers.contains_key(call.name());
                assert_eq!(there, since <= version, "{call} on {arch} since {since}: {path}");
            }
        }
        compared += 1;
    }
    if compared == 0 {
        skip(test, "no header of numbers that this test knows");
    }
}

/// The functions whose tracepoint is named otherwise than the call that enters them.
const ENTERED_AS: &[(&str, &str)] = &[
    ("newfstat", "fstat"),
    ("newlstat", "lstat"),
    ("newstat", "stat"),
    ("newuname", "uname"),
    ("sendfile64", "sendfile"),
    ("umount", "umount2"),
];

/// The parameters' types in a tracepoint's format.
fn types_in(format: &str) -> Vec<String> {
    let fields = format.lines().filter_map(|line| line.trim().strip_prefix("field:"));
    fields
        .filter_map(|field| field.split(';').next())
        .filter(|field| !field.contains("common_") && !field.ends_with("__syscall_nr"))
        .filter_map(|field| field.rsplit_once(' ').map(|(c_type, _)| c_type.to_owned()))
        .collect()
}

/// The width of a type on a 64-bit kernel, by what `include/linux/types.h` makes of it.
fn width_of(c_type: &str) -> Option<Width> {
    let c_type = c_type.trim_start_matches("const ");
    Some(match c_type {
        _ if c_type.contains('*') => Width::Bits64,
        "umode_t" | "old_uid_t" | "old_gid_t" => Width::Bits16,
        "int"
        | "unsigned"
        | "unsigned int"
        | "u32"
        | "__u32"
        | "s32"
        | "__s32"
        | "pid_t"
        | "uid_t"
        | "gid_t"
        | "clockid_t"
        | "timer_t"
        | "mqd_t"
        | "key_t"
        | "key_serial_t"
        | "rwf_t"
        | "qid_t"
        | "uint"
        | "enum landlock_rule_type" => Width::Bits32,
        "long" | "unsigned long" | "size_t" | "loff_t" | "off_t" | "u64" | "__u64"
        | "aio_context_t" | "cap_user_header_t" | "cap_user_data_t" | "__sighandler_t" => {
            Width::Bits64
        }
        _ => return None,
    })
}

#[test]
fn arguments_are_those_of_the_running_kernel() {
    let test = "arguments_are_those_of_the_running_kernel";
    let folder = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .map(|root| Path::new(root).join("events/syscalls"))
        .find(|folder| folder.is_dir());
    let (Some(folder), Some(arch)) = (folder, Arch::NATIVE) else {
        return skip(test, "no events/syscalls in tracefs (needs root and a mounted tracefs)");
    };
    if arch != Arch::X86_64 {
        return skip(test, "the names of tracepoints are known for x86_64 only");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let running = KernelVersion::from_release(release.trim()).unwrap();
    let mut compared = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        let Some(function) = file.strip_prefix("sys_enter_") else { continue };
        let name = ENTERED_AS.iter().find(|(from, _)| *from == function);
        let name = name.map_or(function, |(_, to)| to);
        let Some(call) = Syscall::from_name(name) else {
            assert!(running > Arch::tables_as_of(), "{name} is traced and unknown");
            continue;
        };
        let Some(since) = call.since() else { continue };
        assert!(since <= running, "{call} is there, but said to appear in {since}");
        // Functions that only other ABIs enter are traced too.
        let Some(args) = call.args(arch) else { continue };
        let format = fs::read_to_string(entry.path().join("format")).unwrap();
        let types = types_in(&format);
        // Newer kernels append arguments (bpf has five since 7.x).
        assert!(args.len() >= types.len(), "{call} takes {types:?}");
        assert!(args.len() == types.len() || running < Arch::tables_as_of(), "{call}: {types:?}");
        for (arg, c_type) in args.iter().zip(&types) {
            let width = width_of(c_type)
                .unwrap_or_else(|| panic!("{call}: the test does not know the type `{c_type}`"));
            assert_eq!(arg.width(arch), width, "{call}, {}: {c_type}", arg.name());
            if c_type.contains('*') {
                assert!(arg.is_pointer(), "{call}, {}: {c_type}", arg.name());
            }
        }
        compared += 1;
    }
    assert!(compared > 250, "only {compared} calls were compared");
}
