//! Conditions on the arguments of a call, as a person writes them: the `when` of a rule.
//!
//! ```text
//! condition  = all { "or" all }
//! all        = term { "and" term }
//! term       = "not" term | "(" condition ")" | comparison
//! comparison = argument [ "&" value ] ( OP value | [ "not" ] "in" "{" value { "," value } "}" )
//! OP         = "==" | "!=" | "<" | "<=" | ">" | ">="
//! value      = factor { "|" factor }
//! factor     = "~" factor | "(" value ")" | "-" NUMBER | NUMBER | CONSTANT
//! argument   = the name of an argument, or "arg0" to "arg5"
//! ```
//!
//! A named argument is compared as the kernel takes it: one that is 32 bits wide by its low 32
//! bits. `arg0` to `arg5` are the registers as the filter sees them, all 64 bits; foreign formats
//! compare so. Comparisons are unsigned.

mod lexer;
mod parser;
mod resolve;

use std::fmt;

pub use resolve::WhenError;

use crate::rules::Op;
use crate::text::{Problem, Span};

/// A condition on the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When(Expr);

/// The tree of a condition; canonical: no `All` in an `All`, no `Any` in an `Any`, none with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Compare { operand: Operand, op: Op, value: Value },
    In { operand: Operand, values: Vec<Value> },
}

/// What is compared: an argument, or some bits of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) name: String,
    pub(crate) mask: Option<Value>,
    /// Where it stands in the text of the condition; no part of its meaning.
    pub(crate) at: At,
}

/// A value that is known before any call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number {
        value: u64,
        radix: Radix,
    },
    /// `-N`, by its N.
    Negative(u64),
    Name {
        name: String,
        at: At,
    },
    AnyBit(Vec<Value>),
    Complement(Box<Value>),
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Radix {
    Decimal,
    Hexadecimal,
    Octal,
}

/// A place in the text of a condition; all places are equal, so that conditions that say the
/// same are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At(pub(crate) Span);

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

impl Eq for At {}

impl When {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong, and its range of bytes in `text`.
    pub fn parse(text: &str) -> Result<When, (std::ops::Range<usize>, Problem)> {
        parser::parse(text).map(When).map_err(|fault| {
            let place = fault.span.place(text);
            (place.start..place.end, *fault.problem)
        })
    }

    /// Reads a condition, with the place of a fault relative to `text`.
    pub(crate) fn read(text: &str) -> Result<When, crate::text::Fault> {
        parser::parse(text).map(When)
    }

    /// The condition of a tree, which is made canonical.
    pub(crate) fn new(expr: Expr) -> When {
        When(expr.canonical())
    }

    /// Everything that is compared, in order.
    pub(crate) fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.0.operands()
    }

    /// Whether it means the same for every call of an ABI.
    pub(crate) fn uses_registers_only(&self) -> bool {
        self.operands().all(|operand| crate::signature::register(&operand.name).is_some())
    }
}

/// The value that a text is, such as `O_WRONLY|O_CREAT`.
pub(crate) fn value(text: &str) -> Option<Value> {
    match When::read(&format!("arg0 == {text}")).ok()?.0 {
        Expr::Compare { value, .. } => Some(value),
        _ => None,
    }
}

impl Expr {
    /// Every one of `all` holds.
    pub(crate) fn all(all: Vec<Expr>) -> Expr {
        Expr::All(all).canonical()
    }

    /// At least one of `any` holds.
    pub(crate) fn any(any: Vec<Expr>) -> Expr {
        Expr::Any(any).canonical()
    }

    /// A comparison of a register, as the filter sees it.
    pub(crate) fn register(arg: u8, mask: Option<u64>, op: Op, value: u64) -> Expr {
        let mask = mask.map(|value| Value::Number { value, radix: Radix::Hexadecimal });
        let operand = Operand { name: format!("arg{arg}"), mask, at: At::default() };
        Expr::Compare { operand, op, value: Value::number(value) }
    }

    /// Everything that is compared, in order.
    pub(crate) fn operands(&self) -> Box<dyn Iterator<Item = &Operand> + '_> {
        match self {
            Expr::All(parts) | Expr::Any(parts) => Box::new(parts.iter().flat_map(Expr::operands)),
            Expr::Not(inner) => inner.operands(),
            Expr::Compare { operand, .. } | Expr::In { operand, .. } => {
                Box::new(std::iter::once(operand))
            }
        }
    }

    fn canonical(self) -> Expr {
        let flat = |parts: Vec<Expr>, is_all: bool| -> Vec<Expr> {
            let parts = parts.into_iter().map(Expr::canonical);
            parts
                .flat_map(|part| match part {
                    Expr::All(inner) if is_all => inner,
                    Expr::Any(inner) if !is_all => inner,
                    part => vec![part],
                })
                .collect()
        };
        let single = |mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr| match parts.len() {
            1 => parts.remove(0),
            _ => many(parts),
        };
        match self {
            Expr::All(parts) => single(flat(parts, true), Expr::All),
            Expr::Any(parts) => single(flat(parts, false), Expr::Any),
            Expr::Not(inner) => Expr::Not(Box::new(inner.canonical())),
            expr => expr,
        }
    }
}

impl Value {
    /// A number as people read it: large ones are patterns of bits.
    pub(crate) fn number(value: u64) -> Value {
        let radix = if value < 0x1_0000 { Radix::Decimal } else { Radix::Hexadecimal };
        Value::Number { value, radix }
    }
}

impl fmt::Display for When {
    /// The canonical text, which reads back to the same condition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All(parts) => separated(f, parts, " and ", |part, f| match part {
                Expr::Any(_) => write!(f, "({part})"),
                _ => write!(f, "{part}"),
            }),
            Expr::Any(parts) => separated(f, parts, " or ", |part, f| write!(f, "{part}")),
            Expr::Not(inner) => match &**inner {
                Expr::In { operand, values } => {
                    write!(f, "{operand} not in ")?;
                    set(f, values)
                }
                inner => write!(f, "not ({inner})"),
            },
            Expr::Compare { operand, op, value } => {
                write!(f, "{operand} {} {value}", op_text(*op))
            }
            Expr::In { operand, values } => {
                write!(f, "{operand} in ")?;
                set(f, values)
            }
        }
    }
}

fn set(f: &mut fmt::Formatter<'_>, values: &[Value]) -> fmt::Result {
    f.write_str("{")?;
    separated(f, values, ", ", |value, f| write!(f, "{value}"))?;
    f.write_str("}")
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    parts: &[T],
    between: &str,
    write: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    parts.iter().enumerate().try_for_each(|(index, part)| {
        f.write_str(if index == 0 { "" } else { between })?;
        write(part, f)
    })
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mask {
            None => f.write_str(&self.name),
            Some(mask @ Value::AnyBit(_)) => write!(f, "{} & ({mask})", self.name),
            Some(mask) => write!(f, "{} & {mask}", self.name),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number { value, radix: Radix::Decimal } => write!(f, "{value}"),
            Value::Number { value, radix: Radix::Hexadecimal } => write!(f, "{value:#x}"),
            Value::Number { value, radix: Radix::Octal } => write!(f, "{value:#o}"),
            Value::Negative(value) => write!(f, "-{value}"),
            Value::Name { name, .. } => f.write_str(name),
            Value::AnyBit(values) => separated(f, values, " | ", |value, f| write!(f, "{value}")),
            Value::Complement(value) => match &**value {
                Value::AnyBit(_) => write!(f, "~({value})"),
                _ => write!(f, "~{value}"),
            },
        }
    }
}

/// How a comparison is written.
pub(crate) fn op_text(op: Op) -> &'static str {
    match op {
        Op::Eq => "==",
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Gt => ">",
        Op::Ge => ">=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_canonical_reads_back_as_it_is() {
        for text in [
            "arg0 == 1",
            "arg0 & 0xff == 0x12 and arg1 < 3",
            "(arg0 == 1 or arg1 == 2) and arg2 != 0",
            "arg0 == 1 and arg1 == 2 or arg2 >= 0o755",
            "arg0 in {1, AF_INET, -100}",
            "arg0 not in {1}",
            "not (arg0 == 1 and arg1 == 1)",
            "flags & ~(O_CLOEXEC | O_DIRECTORY) == O_RDONLY",
            "flags & (O_WRONLY | O_RDWR) == 0",
            "flags & ~O_CLOEXEC == O_RDONLY | O_NOFOLLOW",
        ] {
            assert_eq!(When::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_made_canonical() {
        for (text, canonical) in [
            ("((arg0==1))", "arg0 == 1"),
            ("arg0 == 1 and (arg1 == 2 and arg2 == 3)", "arg0 == 1 and arg1 == 2 and arg2 == 3"),
            ("not arg0 in {1}", "arg0 not in {1}"),
            ("not arg0 == 1", "not (arg0 == 1)"),
            ("arg0&(1)==1", "arg0 & 1 == 1"),
            ("arg0 == 0xAB", "arg0 == 0xab"),
            ("arg0 not in {1} and not not arg1 == 1", "arg0 not in {1} and not (not (arg1 == 1))"),
        ] {
            let when = When::parse(text).unwrap();
            assert_eq!(when.to_string(), canonical);
            assert_eq!(When::parse(canonical).unwrap(), when);
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at, message) in [
            ("arg0 = 1", "=", "`==`"),
            ("arg0 == ", "", "ends where a value"),
            ("arg0 == 010", "010", "0o10"),
            ("arg0 == 1x", "1x", "no number"),
            ("arg0 in {}", "}", "a value was expected"),
            ("arg0 == 99999999999999999999", "99999999999999999999", "64 bits"),
            ("arg0 & 1", "", "a comparison"),
            ("1 == arg0", "1", "an argument"),
            ("arg0 == 1 arg1 == 2", "arg1", "`and` or `or`"),
            ("arg0 == 1 && arg1 == 2", "&&", "`and`"),
            ("arg0 == 1 || arg1 == 2", "||", "`or`"),
            ("!arg0 == 1", "!", "`not`"),
            ("(arg0 == 1", "", "`)`"),
            ("", "", "empty"),
            ("arg0 == \u{e9}", "\u{e9}", "has no meaning"),
        ] {
            let (range, problem) = When::parse(text).unwrap_err();
            assert_eq!(&text[range], at, "{text}: {problem}");
            assert!(problem.to_string().contains(message), "{text}: {problem}");
        }
        let deep = format!("{}arg0 == 1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(When::parse(&deep).unwrap_err().1, Problem::TooDeep);
        let deep = format!("arg0 == {}1", "~".repeat(10_000));
        assert_eq!(When::parse(&deep).unwrap_err().1, Problem::TooDeep);
    }
}
