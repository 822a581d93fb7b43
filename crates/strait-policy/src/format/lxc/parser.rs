//! What a profile says, line by line.

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use crate::format::Target;
use crate::format::libseccomp::{Arg, CompareOp, FilterRule};
use crate::text::{Fault, Problem, Span, lines, nearest};

/// What a profile says.
pub(super) struct Said {
    pub(super) version: u8,
    pub(super) default: Action,
    /// Of version 1: what is allowed.
    pub(super) numbers: Vec<u32>,
    /// Of version 2.
    pub(super) rules: Vec<(Span, FilterRule)>,
}

/// How many of the notes say what may be meant.
const MAX_HINTS: usize = 100;

/// Reads a profile.
pub(super) fn parse(
    text: &str,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
) -> Result<Said, Fault> {
    let mut lines = lines(text).skip_while(|(_, line)| line.trim_ascii().is_empty());
    let version = lines.next().map_or((0, ""), |line| line);
    let span = |(at, line): (usize, &str)| Span::new(at, at + line.len());
    let number = match version.1.trim_ascii() {
        "1" => 1,
        "2" => 2,
        other => {
            return Err(span(version).fault(Problem::Invalid {
                what: "version",
                value: other.to_owned(),
                right: "a profile begins with a line that is 1 or 2".to_owned(),
            }));
        }
    };
    let mut lines = lines.skip_while(|(_, line)| line.trim_ascii().is_empty());
    let Some(header) = lines.next() else {
        return Err(syntax(span(version), "a line with allowlist or denylist must follow"));
    };
    if header.1.contains("debug") {
        return Err(syntax(span(header), "LXC has no `debug`, and refuses it"));
    }
    let mut said = Said {
        version: number,
        default: Action::KillThread,
        numbers: Vec::new(),
        rules: Vec::new(),
    };
    if number == 1 {
        if !header.1.contains("allowlist") {
            return Err(syntax(span(header), "version 1 has an allowlist only"));
        }
        for line in lines {
            let first = line.1.split_ascii_whitespace().next().unwrap_or_default();
            match leading_number(first) {
                Some(nr) => said.numbers.push(nr),
                None => {
                    return Err(syntax(
                        span(line),
                        "version 1 has the number of a call on each line",
                    ));
                }
            }
        }
        return Ok(said);
    }
    let starts = |kinds: [&str; 2]| kinds.iter().any(|kind| header.1.starts_with(kind));
    let denies = starts(["denylist", "blacklist"]);
    if !denies && !starts(["allowlist", "whitelist"]) {
        return Err(syntax(span(header), "this line begins with allowlist or denylist"));
    }
    let (default, rule_action) = match denies {
        true => (Action::Allow, Action::KillThread),
        false => (Action::KillThread, Action::Allow),
    };
    said.default = match header.1.split_once(' ') {
        Some((_, rest)) if !rest.trim_start_matches(' ').is_empty() => action(rest, span(header))?,
        _ => default,
    };
    // Whether the section is for this machine.
    let mut is_here = true;
    for line in lines {
        let (at, line) = line;
        let whole = Span::new(at, at + line.len());
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if line.starts_with('[') {
            is_here = section(line, whole, target.arch, notes)?;
            continue;
        }
        if is_here && let Some(rule) = rule(line, whole, rule_action, said.default, target, notes)?
        {
            said.rules.push((whole, rule));
        }
    }
    Ok(said)
}

/// Whether a section is for the machine: its name with small or with capital letters.
fn section(
    line: &str,
    span: Span,
    native: Arch,
    notes: &mut Vec<(Span, String)>,
) -> Result<bool, Fault> {
    const SECTIONS: &[(&str, &[Arch])] = &[
        ("[all]", Arch::ALL),
        ("[arm64]", &[Arch::Aarch64]),
        ("[arm]", &[Arch::Arm, Arch::Aarch64]),
        ("[mips64]", &[]),
        ("[mips64n32]", &[]),
        ("[mips]", &[]),
        ("[mipsel64]", &[]),
        ("[mipsel64n32]", &[]),
        ("[mipsel]", &[]),
        ("[ppc64]", &[]),
        ("[ppc64le]", &[Arch::Ppc64le]),
        ("[ppc]", &[]),
        ("[s390]", &[]),
        ("[s390x]", &[Arch::S390x]),
        ("[x32]", &[Arch::X86_64]),
        ("[x86]", &[Arch::I386, Arch::X86_64]),
        ("[x86_64]", &[Arch::X86_64]),
    ];
    let known = SECTIONS.iter().find(|(name, _)| *name == line || name.to_uppercase() == line);
    let Some((name, arches)) = known else {
        return Err(span.fault(Problem::unknown_name(
            "section",
            line,
            SECTIONS.iter().map(|(name, _)| *name),
        )));
    };
    let is_here = arches.contains(&native);
    if !is_here {
        notes.push((span, format!("LXC skips this section on {native}")));
    } else if *name != "[all]" {
        let note =
            "LXC takes the rules of this section for every ABI of the machine, not for this alone";
        notes.push((span, note.to_owned()));
    }
    Ok(is_here)
}

fn rule(
    line: &str,
    span: Span,
    rule_action: Action,
    default: Action,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
) -> Result<Option<FilterRule>, Fault> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    let action =
        if rest.is_empty() || rest.starts_with('#') { rule_action } else { action(rest, span)? };
    let mut rule = FilterRule { name: name.to_owned(), action, args: args(line, span)? };
    if name.starts_with("reject_force_umount") {
        const EACCES: Action = Action::Errno(13);
        const MNT_FORCE: u64 = 1;
        let force =
            Arg { index: 1, op: CompareOp::MaskedEq, value: MNT_FORCE, value_two: MNT_FORCE };
        rule = FilterRule { name: "umount2".to_owned(), action: EACCES, args: vec![force] };
    } else if !is_known(name, target) {
        let hint = if notes.len() < MAX_HINTS {
            nearest(name, Syscall::all().map(Syscall::name))
        } else {
            None
        };
        let hint = hint.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        notes.push((
            span,
            format!("`{name}` is no system call that LXC knows: it skips the line{hint}"),
        ));
        return Ok(None);
    }
    if rule.action == default {
        return Err(syntax(
            span,
            "this rule does what is done anyway, which libseccomp refuses: LXC starts no container",
        ));
    }
    Ok(Some(rule))
}

/// Whether libseccomp knows the name, for whatever ABI.
fn is_known(name: &str, target: &Target) -> bool {
    match Syscall::from_name(name) {
        Some(call) => target.library.is_none_or(|library| call.since() <= Some(library)),
        None => Syscall::exists_elsewhere(name),
    }
}

/// An action with which a text begins.
fn action(text: &str, span: Span) -> Result<Action, Fault> {
    let text = text.trim_start_matches(' ');
    if text.starts_with("kill") {
        return Ok(Action::KillThread);
    }
    if let Some(rest) = text.strip_prefix("errno") {
        let number = leading_number(rest.trim_ascii_start());
        let errno = number.and_then(|number| u16::try_from(number & 0xffff).ok());
        return match errno.filter(|errno| *errno <= Action::MAX_ERRNO) {
            Some(errno) => Ok(Action::Errno(errno)),
            None => Err(syntax(span, "`errno` takes a number from 0 to 4095")),
        };
    }
    for (name, action) in
        [("allow", Action::Allow), ("trap", Action::Trap(0)), ("notify", Action::Notify)]
    {
        if text.starts_with(name) {
            return Ok(action);
        }
    }
    let word = text.split(' ').next().unwrap_or(text);
    Err(span.fault(Problem::unknown_name(
        "action",
        word,
        ["allow", "errno", "kill", "notify", "trap"],
    )))
}

/// Conditions: `[index,value,op]` or `[index,value,op,mask]`, with nothing behind them.
fn args(line: &str, span: Span) -> Result<Vec<Arg>, Fault> {
    if !line.contains('[') {
        return Ok(Vec::new());
    }
    let mut args: Vec<Arg> = Vec::new();
    for part in line.split(']').filter(|part| !part.is_empty()).take(6) {
        let Some((_, inner)) = part.split_once('[') else {
            return Err(syntax(
                span,
                "nothing may stand behind the last condition, no comment and no blank",
            ));
        };
        let arg = arg(inner).ok_or_else(|| {
            syntax(
                span,
                "a condition is [index,value,op] or [index,value,op,mask], such as [0,1,==]",
            )
        })?;
        if args.iter().any(|other| other.index == arg.index) {
            return Err(syntax(
                span,
                "two conditions are on one argument, which libseccomp refuses: make them two rules",
            ));
        }
        args.push(arg);
    }
    Ok(args)
}

fn arg(text: &str) -> Option<Arg> {
    let mut parts = text.split(',');
    let index = u8::try_from(number(parts.next()?)?).ok().filter(|index| *index < 6)?;
    let value = number(parts.next()?)?;
    let op = match parts.next()? {
        "SCMP_CMP_NE" | "!=" => CompareOp::Ne,
        "SCMP_CMP_LT" | "<" => CompareOp::Lt,
        "SCMP_CMP_LE" | "<=" => CompareOp::Le,
        "SCMP_CMP_EQ" | "==" => CompareOp::Eq,
        "SCMP_CMP_GE" | ">=" => CompareOp::Ge,
        "SCMP_CMP_GT" | ">" => CompareOp::Gt,
        "SCMP_CMP_MASKED_EQ" | "&=" => CompareOp::MaskedEq,
        _ => return None,
    };
    let mask = parts.next().map_or(Some(0), number)?;
    Some(match op {
        CompareOp::MaskedEq => Arg { index, op, value: mask, value_two: value },
        _ => Arg { index, op, value, value_two: 0 },
    })
}

/// A number as strtoull(3) reads it: decimal, `0x`, or octal after a 0.
fn number(text: &str) -> Option<u64> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
}

/// The decimal number with which a text begins, as scanf(3) reads it; none if it is negative.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn syntax(span: Span, what: &str) -> Fault {
    span.fault(Problem::Syntax { what: what.to_owned() })
}
