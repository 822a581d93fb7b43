//! Records of the kernel's audit: what a filter logged or refused (SECCOMP, 1326), and calls that
//! audit rules name (SYSCALL, 1300); from auditd's log, `ausearch`, or the kernel's own log.

use std::collections::BTreeSet;

use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::Action;

use super::{Log, UNKNOWN_IMAGE, lines};
use crate::errno::errno_number;
use crate::recording::{self, Outcomes, Recording};

pub(super) fn recognises(text: &str) -> bool {
    text.lines().any(|line| kind(line).is_some() && Fields(line).get("syscall").is_some())
}

pub(super) fn import(text: &str, kernel: &str) -> Recording {
    let mut recording = Log::Audit.recording(kernel);
    let mut seen = BTreeSet::new();
    let (mut unreadable, mut suppressed, mut lost) = (0, 0, 0);
    for (_, text, ended) in lines(text) {
        let line = if ended { text } else { whole(text) };
        let fields = Fields(line);
        lost = lost.max(fields.get("audit_lost").and_then(|lost| lost.parse().ok()).unwrap_or(0));
        if let Some((before, _)) = line.split_once(" callbacks suppressed") {
            let count = before.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
            suppressed += count.unwrap_or(0);
        }
        let Some(kind) = kind(line) else {
            unreadable += u64::from(!ended && !text.trim().is_empty());
            continue;
        };
        // A call that a filter logs and a rule names has two records with one serial.
        if let Some(serial) = serial(line)
            && !seen.insert(serial)
        {
            continue;
        }
        match call(kind, &fields) {
            Some((image, arch, nr, outcomes)) => {
                recording.call(image.as_str(), arch, nr, &outcomes);
            }
            None => unreadable += 1,
        }
    }
    Log::Audit.unreadable(&mut recording, unreadable);
    recording.lost("records that the kernel says it suppressed", suppressed);
    recording.lost("records that the kernel says audit lost", lost);
    let blind = &mut recording.completeness().blind_spots;
    blind.push(
        "audit records only calls that a filter logs or refuses, or that an audit rule names"
            .to_owned(),
    );
    blind
        .push("the kernel's log drops most records of many, and does not always say so".to_owned());
    recording.build()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Seccomp,
    Syscall,
}

/// What a line is a record of.
fn kind(line: &str) -> Option<Kind> {
    let fields = Fields(line);
    match fields.get("type")? {
        "SECCOMP" | "1326" => Some(Kind::Seccomp),
        "SYSCALL" | "1300" => Some(Kind::Syscall),
        _ => None,
    }
    .filter(|_| line.contains("audit("))
}

/// What is whole of a line that may have been cut: all but its last word, unless that is an action of a
/// filter, of which no other is a part.
fn whole(line: &str) -> &str {
    let Some((before, last)) = line.rsplit_once(char::is_whitespace) else { return "" };
    let code = last.strip_prefix("code=0x").and_then(|code| u32::from_str_radix(code, 16).ok());
    match code.map(|code| (code, Action::from_raw(code))) {
        Some((0 | 0x8000_0000, _)) => line,
        Some((_, action)) if !matches!(action, Action::KillThread | Action::KillProcess) => line,
        _ => before,
    }
}

/// Time and number of the event that a record belongs to: `audit(1600000000.123:45)`.
fn serial(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("audit(")?;
    Some(rest.split_once(')')?.0).filter(|serial| !serial.is_empty())
}

/// The call of a record: who made it, and what came of it.
fn call(kind: Kind, fields: &Fields<'_>) -> Option<(String, Arch, u32, Outcomes)> {
    // The name of a program may look like fields (ausearch -i writes it as it is). A filter's record has
    // it before the call, an audit rule's after it.
    let of_kernel = |key| match kind {
        Kind::Seccomp => fields.last(key),
        Kind::Syscall => fields.get(key),
    };
    let audit_arch = of_kernel("arch")?;
    let call = of_kernel("syscall")?;
    let named = Arch::ALL.iter().copied().find(|arch| arch.name() == audit_arch);
    let audit_arch = match (named, u32::from_str_radix(audit_arch, 16)) {
        (Some(arch), _) => arch.audit_arch(),
        (None, Ok(raw)) => AuditArch::from_raw(raw),
        (None, Err(_)) => return None,
    };
    let arches = Arch::ALL.iter().copied().filter(|arch| arch.audit_arch() == audit_arch);
    let (arch, nr) = match call.parse::<u32>() {
        Ok(nr) => {
            let is_x32 = |arch: Arch| arch == Arch::X32;
            let has_bit = nr & Arch::X32_BIT != 0;
            let mut arches = arches
                .filter(|&arch| audit_arch != Arch::X32.audit_arch() || is_x32(arch) == has_bit);
            (arches.next()?, nr)
        }
        Err(_) => {
            let call = Syscall::from_name(call)?;
            arches.filter_map(|arch| Some((arch, call.number(arch)?))).next()?
        }
    };
    let mut outcomes = Outcomes::default();
    match kind {
        Kind::Seccomp => {
            let code = of_kernel("code")?;
            let code = u32::from_str_radix(code.trim_start_matches("0x"), 16).ok()?;
            if Action::from_raw(code).lets_pass() {
                outcomes.count = 1
            } else {
                outcomes.denied = 1
            }
        }
        Kind::Syscall => {
            outcomes.count = 1;
            match (fields.get("success"), fields.get("exit")) {
                (Some("yes"), _) => outcomes.succeeded = 1,
                (Some("no"), Some(exit)) => {
                    let errno = match exit.strip_prefix('-').map(str::parse::<u16>) {
                        Some(Ok(errno)) => errno,
                        _ => errno_number(exit.split('(').next()?)?,
                    };
                    outcomes.errnos.insert(errno, 1);
                }
                // A call that never returned has neither.
                _ => {}
            }
        }
    }
    let image = fields.text("exe").or_else(|| fields.text("comm"));
    Some((image.unwrap_or_else(|| UNKNOWN_IMAGE.to_owned()), arch, nr, outcomes))
}

/// `key=value` pairs with blanks between them; what comes from programs is in quotes, or in
/// hexadecimal if it has blanks or quotes itself.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// The first of this name.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// The last of this name.
    fn last(&self, key: &str) -> Option<&'a str> {
        self.all(key).last()
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        let line = self.0;
        line.match_indices(key).filter_map(move |(at, key)| {
            let before = line[..at].chars().next_back();
            // auditd separates the names that it adds from the record by a control character.
            let begins = before.is_none_or(|c| c.is_whitespace() || c.is_control());
            let value = line[at + key.len()..].strip_prefix('=').filter(|_| begins)?;
            match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => value.split(|c: char| c.is_whitespace() || c.is_control()).next(),
            }
        })
    }

    /// The text of a field that comes from a program.
    fn text(&self, key: &str) -> Option<String> {
        let value = self.get(key)?;
        let is_quoted = self.0.contains(&format!("{key}=\"{value}\""));
        let is_hex = !value.is_empty()
            && value.len().is_multiple_of(2)
            && value.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
        if is_quoted || !is_hex {
            let value = Some(value).filter(|value| !matches!(*value, "" | "?" | "(null)"));
            return value.map(|value| recording::text(value.as_bytes()));
        }
        let bytes = (0..value.len()).step_by(2);
        let bytes = bytes.map(|at| u8::from_str_radix(&value[at..at + 2], 16).unwrap_or(b'?'));
        Some(recording::text(&bytes.collect::<Vec<u8>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "\
type=SECCOMP msg=audit(1700000000.101:41): auid=0 uid=0 gid=0 ses=2 subj=unconfined pid=7 comm=\"a b\" exe=\"/usr/bin/a\" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f00 code=0x80000000\u{1d}AUID=\"root\" ARCH=x86_64 SYSCALL=socket
[   12.345678] audit: type=1326 audit(1700000000.102:42): auid=0 uid=0 gid=0 ses=2 pid=8 comm=\"x\" exe=2F746D702F61206222 sig=0 arch=40000003 syscall=102 compat=1 ip=0xf7 code=0x7ffc0000
type=SYSCALL msg=audit(1700000000.103:43): arch=c000003e syscall=257 success=no exit=-2 a0=ffffff9c a1=7f a2=0 a3=0 items=1 ppid=1 pid=9 comm=\"cat\" exe=\"/usr/bin/cat\" key=\"k\"
type=SYSCALL msg=audit(01/02/24 10:00:00.104:44) : arch=x86_64 syscall=openat success=no exit=EACCES(Permission denied) a0=AT_FDCWD items=1 pid=9 comm=cat exe=/usr/bin/cat
type=SYSCALL msg=audit(1700000000.103:43): arch=c000003e syscall=257 success=no exit=-2 exe=\"/usr/bin/cat\"
type=SECCOMP msg=audit(1700000000.105:45): arch=c000003e syscall=1073741824 exe=\"/x\" code=0x50001
type=PATH msg=audit(1700000000.103:43): item=0 name=\"/etc/passwd\"
[   13.0] kauditd_printk_skb: 57 callbacks suppressed
type=1326 audit(1700000000.106:46): arch=c0de syscall=1 code=0x0
";

    #[test]
    fn records_of_both_kinds_and_spellings_are_read() {
        assert_eq!(Log::detect(RECORDS), Some(Log::Audit));
        let recording = import(RECORDS, "6.18.1");
        let calls: Vec<_> = recording
            .calls()
            .iter()
            .map(|call| {
                let Outcomes { count, denied, errnos, .. } = call.outcomes.clone();
                let image = recording.images()[call.image].path.as_str();
                (image, call.arch, call.nr, count, denied, errnos.into_iter().collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            calls,
            [
                ("/tmp/a b\"", Arch::I386, 102, 1, 0, vec![]),
                ("/usr/bin/a", Arch::X86_64, 41, 0, 1, vec![]),
                ("/usr/bin/cat", Arch::X86_64, 257, 2, 0, vec![(2, 1), (13, 1)]),
                ("/x", Arch::X32, 1_073_741_824, 0, 1, vec![]),
            ]
        );
        let lost = &recording.completeness().lost;
        assert_eq!(lost["records that the kernel says it suppressed"], 57);
        assert_eq!(lost["lines of audit that could not be read"], 1);
    }
}
