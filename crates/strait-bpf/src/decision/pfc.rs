//! Decisions as libseccomp's pseudo filter code.
//!
//! The form is that of `seccomp_export_pfc(3)`, for reading next to what libseccomp prints. It says
//! what is decided, not in which order a program tests it.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use strait_abi::{Arch, AuditArch};

use super::diagram::Diagram;
use super::regions::{Constraint, Values, exits};
use super::spans::{Answer, CallSpan};
use super::store::Ref;
use super::{Decision, Exhausted, Undecided};
use crate::Action;
use crate::listing::call_name;

/// How many spans of numbers of one arch, and conditions in all, are written before giving up.
const LIMIT: usize = 1 << 14;

/// How many values are told apart in one condition before giving up.
const VALUES: usize = 1 << 10;

impl Decision {
    /// The decision as pseudo filter code: for each known arch that is not decided like an
    /// unknown one, its calls that get anything else than that arch's most common action.
    ///
    /// # Errors
    /// If the decision is too intricate to be written so.
    pub fn to_pfc(&self) -> Result<String, Undecided> {
        let unknown = AuditArch::from_raw(0);
        let foreign: Vec<_> = self.spans(unknown)?;
        let mut pfc = Pfc { text: "#\n# pseudo filter code start\n#\n".to_owned(), work: 0 };
        let mut done = BTreeSet::new();
        for arch in Arch::ALL.iter().map(|arch| arch.audit_arch()) {
            let spans = self.spans(arch)?;
            if done.insert(arch) && !alike(&spans, &foreign) {
                pfc.arch(arch, &spans)?;
            }
        }
        pfc.line(0, "# invalid architecture action");
        pfc.calls(unknown, &foreign, 0)?;
        pfc.text.push_str("#\n# pseudo filter code end\n#\n");
        Ok(pfc.text)
    }

    fn spans(&self, arch: AuditArch) -> Result<Vec<CallSpan<'_>>, Undecided> {
        let spans: Vec<_> = self.calls(arch).take(LIMIT + 1).collect();
        if spans.len() > LIMIT { Err(too_much()) } else { Ok(spans) }
    }
}

fn too_much() -> Undecided {
    Exhausted::Conditions(LIMIT).into()
}

/// Whether two arches, of one decision, are decided alike.
fn alike(a: &[CallSpan<'_>], b: &[CallSpan<'_>]) -> bool {
    let key = |span: &CallSpan<'_>| (span.first, span.last, span.answer.place());
    a.len() == b.len() && a.iter().map(key).eq(b.iter().map(key))
}

struct Pfc {
    text: String,
    work: usize,
}

impl Pfc {
    fn line(&mut self, indent: usize, line: impl fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn arch(&mut self, arch: AuditArch, spans: &[CallSpan<'_>]) -> Result<(), Undecided> {
        self.line(0, format_args!("# filter for arch {arch} ({})", arch.raw()));
        self.line(0, format_args!("if ($arch == {})", arch.raw()));
        self.calls(arch, spans, 2)
    }

    fn calls(
        &mut self,
        arch: AuditArch,
        spans: &[CallSpan<'_>],
        indent: usize,
    ) -> Result<(), Undecided> {
        // The last span is all that no table has; its action is the default.
        let default = spans.last().and_then(|span| span.answer.always());
        for span in spans
            .iter()
            .filter(|span| span.answer.always().is_none() || span.answer.always() != default)
        {
            let mut indent = indent;
            if span.first == span.last {
                let name = call_name(arch, span.first).unwrap_or("UNKNOWN");
                self.line(indent, format_args!("# filter for syscall \"{name}\" ({})", span.first));
                self.line(indent, format_args!("if ($syscall == {})", span.first));
                indent += 2;
            } else {
                let (first, last) = (span.first, span.last);
                self.line(indent, format_args!("# filter for syscalls {first} to {last}"));
                if first > 0 {
                    self.line(indent, format_args!("if ($syscall >= {first})"));
                    indent += 2;
                }
                if last < u32::MAX {
                    self.line(indent, format_args!("if ($syscall <= {last})"));
                    indent += 2;
                }
            }
            match &span.answer {
                Answer::Always(action) => self.action(indent, *action),
                Answer::Depends(arguments) => {
                    self.arguments(arguments.diagram, arguments.at, indent)?;
                }
            }
        }
        if let Some(default) = default {
            if indent > 0 {
                self.line(indent, "# default action");
            }
            self.action(indent, default);
        }
        Ok(())
    }

    /// One `if` for each way out of a 32-bit word, and the last without.
    fn arguments(&mut self, diagram: &Diagram, at: Ref, indent: usize) -> Result<(), Undecided> {
        self.work += 1;
        if self.work > LIMIT {
            return Err(too_much());
        }
        if let Some(raw) = diagram.verdict(at) {
            self.action(indent, Action::from_raw(raw));
            return Ok(());
        }
        let word = diagram.var(at).word_start();
        let exits = exits(diagram, at, word, 32, VALUES).ok_or_else(too_much)?;
        let part = if word == word.value_start() { "hi32" } else { "lo32" };
        for (index, (constraint, next)) in exits.iter().enumerate() {
            if index + 1 == exits.len() {
                self.arguments(diagram, *next, indent)?;
            } else {
                self.line(indent, format_args!("if ({})", Condition(constraint, part)));
                self.arguments(diagram, *next, indent + 2)?;
            }
        }
        Ok(())
    }

    fn action(&mut self, indent: usize, action: Action) {
        let name = match action {
            Action::KillProcess => "KILL_PROCESS".to_owned(),
            Action::KillThread => "KILL".to_owned(),
            Action::Trap(_) => "TRAP".to_owned(),
            Action::Errno(errno) => format!("ERRNO({errno})"),
            Action::Notify => "NOTIFY".to_owned(),
            Action::Trace(data) => format!("TRACE({data})"),
            Action::Log => "LOG".to_owned(),
            Action::Allow => "ALLOW".to_owned(),
        };
        self.line(indent, format_args!("action {name};"));
    }
}

/// A constraint on one word.
struct Condition<'c>(&'c Constraint, &'static str);

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition(Constraint { arg, within, values, .. }, part) = self;
        let name = match arg {
            Some(index) => format!("$a{index}.{part}"),
            None => format!("$ip.{part}"),
        };
        let equal = if *within { "==" } else { "!=" };
        let (Values::Masks(list) | Values::Intervals(list)) = values;
        let word = if *within { "||" } else { "&&" };
        for (i, &(a, b)) in list.iter().enumerate() {
            if i > 0 {
                write!(f, " {word} ")?;
            }
            match values {
                Values::Masks(_) => write!(f, "{name} & {a:#x} {equal} {b}")?,
                Values::Intervals(_) if a == b => write!(f, "{name} {equal} {a}")?,
                Values::Intervals(_) => match (a, b, *within) {
                    (0, last, true) => write!(f, "{name} <= {last}")?,
                    (0, last, false) => write!(f, "{name} > {last}")?,
                    (first, 0xffff_ffff, true) => write!(f, "{name} >= {first}")?,
                    (first, 0xffff_ffff, false) => write!(f, "{name} < {first}")?,
                    (first, last, true) => {
                        write!(f, "({name} >= {first} && {name} <= {last})")?;
                    }
                    (first, last, false) => {
                        write!(f, "({name} < {first} || {name} > {last})")?;
                    }
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Decision, Program};

    #[test]
    fn a_small_filter_is_written_as_libseccomp_writes_it() {
        let program = Program::assemble(
            "ld [arch]
             jeq #0xc000003e, next, kill
             ld [nr]
             jeq #0, allow, next
             jeq #41, next, deny
             ld [arg0.hi]
             jeq #0, next, deny
             ld [arg0.lo]
             jeq #1, allow, deny
             deny: ret errno(1)
             allow: ret allow
             kill: ret kill-process",
        )
        .unwrap();
        let expected = r#"#
# pseudo filter code start
#
# filter for arch x86_64 (3221225534)
if ($arch == 3221225534)
  # filter for syscall "read" (0)
  if ($syscall == 0)
    action ALLOW;
  # filter for syscall "socket" (41)
  if ($syscall == 41)
    if ($a0.hi32 == 0)
      if ($a0.lo32 != 1)
        action ERRNO(1);
      action ALLOW;
    action ERRNO(1);
  # default action
  action ERRNO(1);
# invalid architecture action
action KILL_PROCESS;
#
# pseudo filter code end
#
"#;
        assert_eq!(Decision::of(&program).unwrap().to_pfc().unwrap(), expected);
    }
}
