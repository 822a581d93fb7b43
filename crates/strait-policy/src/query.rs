//! Calls as a person writes them: `openat(AT_FDCWD, "/etc/passwd", O_RDONLY)`, read and printed.

use std::fmt;

use strait_abi::{Arch, Syscall};
use strait_bpf::SeccompData;

use crate::call::abi;
use crate::document::known_syscall;
use crate::rules::{Condition, Op, Test, Width};
use crate::text::{Fault, ParseError, Problem, Span};
use crate::when::When;

/// A call, with as much of its arguments as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The call.
    pub syscall: Syscall,
    /// The ABI that it comes in by.
    pub arch: Arch,
    /// The registers; `None` where nothing is known, as of a pointer.
    pub args: [Option<u64>; 6],
}

impl Query {
    /// The call that a filter sees, if its number is a known one.
    pub fn of(data: &SeccompData) -> Option<Query> {
        let arch = abi(data.arch, data.nr)?;
        Some(Query { syscall: arch.syscall(data.nr)?, arch, args: data.args.map(Some) })
    }

    /// The same call, whatever its arguments.
    pub fn any(syscall: Syscall, arch: Arch) -> Query {
        Query { syscall, arch, args: [None; 6] }
    }

    /// The same call with registers as C fills them, a negative `int` with all of its upper half,
    /// wherever what is asked of the registers still holds then.
    #[must_use]
    pub fn as_c_passes(mut self, holds: impl Fn(&[u64; 6]) -> bool) -> Query {
        let args = self.syscall.args(self.arch).unwrap_or_default();
        for (at, arg) in args.iter().enumerate() {
            let Some(Some(value)) = self.args.get(at).copied() else { continue };
            let bits = arg.width(self.arch).bits();
            let signed = arg.is_signed() && bits < 64 && self.arch.is_64_bit();
            if signed && value >> (bits - 1) == 1 {
                let mut registers = self.args.map(|arg| arg.unwrap_or(0));
                registers[at] = value | u64::MAX << bits;
                if holds(&registers) {
                    self.args[at] = Some(registers[at]);
                }
            }
        }
        self
    }

    /// Reads a call: its name alone, or with arguments.
    ///
    /// An argument is a value as in conditions, a number as C writes it, `_` for any, or something
    /// in memory (a text, a list, a structure), of which a filter sees only the address, and that
    /// is not known. `...` stands for all others, and those that are left out are 0.
    ///
    /// # Errors
    /// If the call or a constant is not known, or there are too many arguments.
    pub fn parse(text: &str, arch: Arch) -> Result<Query, ParseError> {
        parse(text, arch).map_err(|fault| fault.in_text(text))
    }
}

fn parse(text: &str, arch: Arch) -> Result<Query, Fault> {
    let syntax = |at: usize, length: usize, what: &str| {
        Span::new(at, at + length).fault(Problem::Syntax { what: what.to_owned() })
    };
    let name_end = text.find('(').unwrap_or(text.len());
    let name = text[..name_end].trim();
    let name_at = text.find(name).unwrap_or(0);
    let syscall = known_syscall(name)
        .map_err(|problem| Span::new(name_at, name_at + name.len()).fault(problem))?;
    if syscall.number(arch).is_none() {
        let what = format!("there is no `{name}` on {arch}");
        return Err(syntax(name_at, name.len(), &what));
    }
    let Some(list) = text.get(name_end + 1..) else {
        return Ok(Query { syscall, arch, args: [None; 6] });
    };
    let Some(end) = list.rfind(')').filter(|end| list[end + 1..].trim().is_empty()) else {
        return Err(syntax(text.len(), 0, "`)` was expected at the end"));
    };
    let mut args = [Some(0); 6];
    for (index, (at, arg)) in split(&list[..end]).into_iter().enumerate() {
        let at = name_end + 1 + at;
        if arg == "..." {
            args[index..].fill(None);
            break;
        }
        let Some(slot) = args.get_mut(index) else {
            return Err(syntax(at, arg.len(), "a call has at most six arguments"));
        };
        let read = argument(arg, index, syscall, arch);
        *slot = read.map_err(|fault| Fault { span: fault.span.shifted_by(at), ..fault })?;
    }
    Ok(Query { syscall, arch, args })
}

/// The registers of a call as far as they can be read from a list of arguments; what the list does
/// not have, and what cannot be read, is not known.
pub(crate) fn registers(syscall: Syscall, list: &str, arch: Arch) -> [Option<u64>; 6] {
    let mut args = [None; 6];
    for (slot, (index, (_, arg))) in args.iter_mut().zip(split(list).into_iter().enumerate()) {
        *slot = argument(arg, index, syscall, arch).unwrap_or(None);
    }
    args
}

impl fmt::Display for Query {
    /// The call as it is read back: each argument by the names of its values, `_` where nothing is
    /// known of one, and `...` where that is all of the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.syscall)?;
        let known = self.syscall.args(self.arch).unwrap_or_default().len();
        let given = self.args.iter().rposition(|arg| *arg != Some(0)).map_or(0, |last| last + 1);
        // Of the last ones nothing may be known.
        let open = self.args.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for (index, arg) in self.args.iter().enumerate().take(known.max(given)) {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match arg {
                None if index == open => {
                    f.write_str("...")?;
                    break;
                }
                None => f.write_str("_")?,
                Some(value) => f.write_str(&text(*value, index, self.syscall, self.arch))?,
            }
        }
        f.write_str(")")
    }
}

/// That the arguments are those that are known.
pub(crate) fn known(args: &[Option<u64>; 6]) -> Condition {
    let tests = (0..6).zip(args).filter_map(|(at, value)| {
        Test::new(at, Width::W64, u64::MAX, Op::Eq, (*value)?).ok().map(Condition::Test)
    });
    Condition::All(tests.collect())
}

/// One argument: by the names of its values where they say all of its bits. What the kernel
/// ignores of a register is shown, since a filter may look at it.
fn text(register: u64, index: usize, call: Syscall, arch: Arch) -> String {
    let number = if register < 10 { register.to_string() } else { format!("{register:#x}") };
    let args = call.args(arch).unwrap_or_default();
    let Some(arg) = args.get(index) else { return number };
    if arg.is_pointer() {
        return if register == 0 { "NULL".to_owned() } else { number };
    }
    let named = arg.constants().map(|names| names.text(arch, register, arg.width(arch)));
    let negative = arg.is_signed() || register == u64::MAX;
    let negative = negative.then(|| format!("-{}", register.wrapping_neg()));
    let short = |text: &String| text.len() < 5 || !text.starts_with('-');
    let same = |text: &String| value(text, index, call, arch).is_ok_and(|back| back == register);
    named.into_iter().chain(negative.filter(short)).find(same).unwrap_or(number)
}

/// The register that one argument is, if it can be known.
fn argument(arg: &str, index: usize, call: Syscall, arch: Arch) -> Result<Option<u64>, Fault> {
    match arg {
        "_" => Ok(None),
        "NULL" => Ok(Some(0)),
        _ if arg.starts_with(['"', '[', '{', '&', '\'']) => Ok(None),
        _ => match c_octal(arg) {
            Some(ours) => value(&ours, index, call, arch)
                .map_err(|fault| Span::new(0, arg.len()).fault(*fault.problem)),
            None => value(arg, index, call, arch),
        }
        .map(Some),
    }
}

/// The value of one argument, by way of the condition that it is that.
fn value(arg: &str, index: usize, call: Syscall, arch: Arch) -> Result<u64, Fault> {
    let prefix = format!("arg{index} == ");
    let inside = |span: Span| span.shifted_back(prefix.len());
    let when = When::read(&format!("{prefix}{arg}"))
        .map_err(|fault| inside(fault.span).fault(*fault.problem))?;
    match when.condition(call, arch) {
        Ok(Condition::Test(test)) => Ok(test.value()),
        Ok(_) => {
            let what = "a value was expected here".to_owned();
            Err(Span::new(0, arg.len()).fault(Problem::Syntax { what }))
        }
        Err(error) => Err(inside(error.span).fault(error.problem)),
    }
}

/// A number as C writes octal ones, in the spelling of conditions.
fn c_octal(arg: &str) -> Option<String> {
    let digits = arg.strip_prefix('0').filter(|digits| !digits.is_empty())?;
    let octal = digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    octal.then(|| format!("0o{digits}"))
}

/// The arguments, with their offsets: split at commas that stand in no text and no bracket.
fn split(list: &str) -> Vec<(usize, &str)> {
    let mut args = Vec::new();
    let (mut start, mut depth, mut quoted, mut escaped) = (0, 0usize, false, false);
    let ends = list.char_indices().chain([(list.len(), ',')]);
    for (at, c) in ends {
        if quoted && at < list.len() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 || at == list.len() => {
                let arg = &list[start..at];
                let trimmed = arg.trim();
                let offset = start + (arg.len() - arg.trim_start().len());
                if !trimmed.is_empty() || at < list.len() {
                    args.push((offset, trimmed));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> [Option<u64>; 6] {
        Query::parse(text, Arch::X86_64).unwrap().args
    }

    #[test]
    fn arguments_are_read_as_people_and_strace_write_them() {
        let zero = Some(0);
        let at_fdcwd = Some(u64::MAX - 99);
        assert_eq!(
            args("openat(AT_FDCWD, \"/a,b\\\")\", O_WRONLY|O_CREAT, 0644)"),
            [at_fdcwd, None, Some(0o101), Some(0o644), zero, zero]
        );
        assert_eq!(args("close(3)")[0], Some(3));
        assert_eq!(args("getpid()"), [zero; 6]);
        assert_eq!(args("read"), [None; 6]);
        assert_eq!(args("socket(AF_INET, ...)"), [Some(2), None, None, None, None, None]);
        assert_eq!(args("poll([{fd=3, events=POLLIN}], 1, -1)")[1], Some(1));
    }

    #[test]
    fn an_octal_number_is_no_wider_than_its_register() {
        let wide = "mmap(NULL, -1, 0, 0, 040000000000, 0)";
        assert!(Query::parse(wide, Arch::I386).is_err());
        assert_eq!(args("close(037777777777)")[0], Some(0xffff_ffff));
    }

    #[test]
    fn calls_are_printed_with_the_names_of_their_values() {
        let printed = |name: &str, args: [u64; 6]| {
            let syscall = Syscall::from_name(name).unwrap();
            let nr = syscall.number(Arch::X86_64).unwrap();
            let data = SeccompData::new(Arch::X86_64.audit_arch(), nr).with_args(args);
            Query::of(&data).unwrap().to_string()
        };
        let at_fdcwd = u64::MAX - 99;
        assert_eq!(
            printed("openat", [at_fdcwd, 0, 0o101, 0o644, 0, 0]),
            "openat(AT_FDCWD, NULL, O_WRONLY|O_CREAT, 0x1a4)"
        );
        assert_eq!(printed("socket", [16, 3, 0, 0, 0, 0]), "socket(AF_NETLINK, SOCK_RAW, 0)");
        assert_eq!(printed("socket", [1 << 32 | 1, 0, 0, 0, 0, 0]), "socket(0x100000001, 0x0, 0)");
        assert_eq!(printed("kill", [u64::MAX, 9, 0, 0, 0, 0]), "kill(-1, SIGKILL)");
        assert_eq!(printed("getpid", [0, 7, 0, 0, 0, 0]), "getpid(0, 7)");
        let any = Query::any(Syscall::from_name("read").unwrap(), Arch::X86_64);
        assert_eq!(any.to_string(), "read(...)");
    }

    #[test]
    fn what_is_printed_reads_back_to_the_same_registers() {
        let words =
            [0, 1, 2, 3, 9, 0x541b, 0x8_0000, 0x7fff_ffff, 0xffff_ff9c, 1 << 32, 1 << 63, u64::MAX];
        for &arch in Arch::ALL {
            let width = crate::signature::register_width(arch).mask();
            for syscall in Syscall::all().filter(|call| call.number(arch).is_some()) {
                for (at, word) in words.into_iter().enumerate() {
                    let mut args = [Some(word & width); 6];
                    args[at % 6] = None;
                    args[(at + 1) % 6] = Some(0);
                    let query = Query { syscall, arch, args };
                    let text = query.to_string();
                    let again = Query::parse(&text, arch).unwrap_or_else(|e| panic!("{text}: {e}"));
                    assert_eq!(again, query, "{text} on {arch}");
                }
            }
        }
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (text, message, at) in [
            ("opneat(3)", "did you mean `openat`?", 0),
            ("socket(AF_INTE)", "did you mean `AF_INET`?", 7),
            ("close(1, 2, 3, 4, 5, 6, 7)", "at most six", 24),
            ("close(1", "`)` was expected", 7),
            ("socketcall(1)", "there is no `socketcall` on x86_64", 0),
            ("close(1 or arg1 == 2)", "a value was expected", 6),
        ] {
            let error = Query::parse(text, Arch::X86_64).unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert!(at == 6 || error.place.start == at, "{text}: {error}");
        }
    }
}
