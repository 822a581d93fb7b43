//! Calls as a person writes them: `openat(AT_FDCWD, "/etc/passwd", O_RDONLY)`.

use strait_abi::{Arch, Syscall};

use crate::document::known_syscall;
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
        let in_memory = arg.starts_with(['"', '[', '{', '&', '\'']);
        *slot = if in_memory || arg == "_" {
            None
        } else {
            let value = c_octal(arg).map_or_else(|| value(arg, index, syscall, arch), Ok);
            Some(value.map_err(|fault| Fault { span: fault.span.shifted_by(at), ..fault })?)
        };
    }
    Ok(Query { syscall, arch, args })
}

/// The value of one argument, by way of the condition that it is that.
fn value(arg: &str, index: usize, call: Syscall, arch: Arch) -> Result<u64, Fault> {
    let prefix = format!("arg{index} == ");
    let inside = |span: Span| span.shifted_back(prefix.len());
    let when = When::read(&format!("{prefix}{arg}"))
        .map_err(|fault| inside(fault.span).fault(*fault.problem))?;
    match when.condition(call, arch) {
        Ok(crate::rules::Condition::Test(test)) => Ok(test.value()),
        Ok(_) => {
            let what = "a value was expected here".to_owned();
            Err(Span::new(0, arg.len()).fault(Problem::Syntax { what }))
        }
        Err(error) => Err(inside(error.span).fault(error.problem)),
    }
}

/// A number as C writes octal ones.
fn c_octal(arg: &str) -> Option<u64> {
    let digits = arg.strip_prefix('0').filter(|digits| !digits.is_empty())?;
    u64::from_str_radix(digits, 8).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
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
