//! What a `.policy` file says.
//!
//! ```text
//! line       = calls ":" filter | "@include" PATH | "@frequency" PATH | "@default" action | "@denylist"
//! calls      = call | "{" call { "," call } "}"
//! call       = NAME [ "[" "arch" "=" NAME { "," NAME } "]" ]
//! filter     = single | "{" single { "," single } "}"
//! single     = action | any [ ";" action ]
//! action     = "1" | "allow" | "kill" | "kill-process" | "kill-thread" | "trap" | "trace" | "log" |
//!              "user-notify" | "return" [ value ]
//! any        = clause { "||" clause }     clause = atom { "&&" atom }
//! atom       = "argN" ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "&" | "in" ) value
//! value      = factor { "|" factor }      factor = [ "~" ] ( "(" value ")" | NUMBER | CONSTANT )
//! ```

use std::collections::BTreeSet;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::line::{Kind, Token, statements, tokens};
use super::{all, constant};
use crate::format::{FormatError, Target};
use crate::rules::{Condition, Op, Test};
use crate::signature::register_width;
use crate::text::{MAX_DEPTH, MAX_VALUES, Place, Problem, Span, check_size, nearest};

/// How deep files may include each other.
const MAX_INCLUDES: usize = 10;
/// How many files may be included.
const MAX_FILES: usize = 1024;

/// What a file says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) default: Action,
    pub(super) statements: Vec<Statement>,
    /// Whether only the compiler takes it.
    pub(super) compiled: bool,
    /// The first place that means something else to the other reader.
    pub(super) ambiguous: Option<Place>,
}

/// What some calls get.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) calls: Vec<u32>,
    pub(super) filters: Vec<Filter>,
}

/// A condition and an action.
#[derive(Debug)]
pub(super) struct Filter {
    /// For all calls if there is none.
    pub(super) when: Option<Condition>,
    /// What is done then; the default if there is none.
    pub(super) action: Option<Action>,
    /// The same action as libminijail takes it: for calls for which the condition does not hold.
    pub(super) otherwise: Option<Action>,
}

/// Reads a file and those that it includes.
pub(super) fn parse(text: &str, target: &Target) -> Result<Said, FormatError> {
    let said = Said {
        default: Action::KillThread,
        statements: Vec::new(),
        compiled: false,
        ambiguous: None,
    };
    let mut reader = Reader {
        target,
        said,
        seen: BTreeSet::new(),
        files: 0,
        unconditional: BTreeSet::new(),
        count: 0,
    };
    reader.file(None, text, 0)?;
    Ok(reader.said)
}

struct Reader<'t> {
    target: &'t Target,
    said: Said,
    /// The calls that have been named.
    seen: BTreeSet<u32>,
    /// Those that have got an action for all arguments.
    unconditional: BTreeSet<u32>,
    files: usize,
    /// How many filters there are.
    count: usize,
}

impl Reader<'_> {
    fn file(&mut self, name: Option<&str>, text: &str, depth: usize) -> Result<(), FormatError> {
        let wrong = |(span, problem): (Span, Problem)| {
            let source = span.fault(problem).in_text(text);
            match name {
                None => FormatError::Parse(source),
                Some(name) => FormatError::Included { name: name.to_owned(), source },
            }
        };
        check_size(text).map_err(|fault| wrong((fault.span, *fault.problem)))?;
        for line in statements(text) {
            let (tokens, comment) = tokens(&line).map_err(wrong)?;
            if tokens.len() == 1 {
                continue;
            }
            self.said.compiled |= comment;
            let mut parser =
                Parser { reader: self, tokens: &tokens, at: 0, call: None, text, name };
            match tokens[0].text {
                "@include" => {
                    let path = parser.path().map_err(wrong)?;
                    self.include(path, wrong, text, depth)?;
                }
                _ => parser.line().map_err(wrong)?,
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        (span, path): (Span, &str),
        wrong: impl Fn((Span, Problem)) -> FormatError,
        text: &str,
        depth: usize,
    ) -> Result<(), FormatError> {
        self.files += 1;
        if depth >= MAX_INCLUDES || self.files > MAX_FILES {
            let what =
                format!("files include each other more than {MAX_INCLUDES} deep, or too often");
            return Err(wrong((span, Problem::Syntax { what })));
        }
        // libminijail takes no file that is included by one that is.
        self.said.compiled |= depth > 0;
        let target = self.target;
        match target.files.get(path) {
            Some(included) => self.file(Some(path), included, depth + 1),
            None => {
                let (name, place) = (path.to_owned(), span.place(text));
                Err(FormatError::MissingFile { name, place })
            }
        }
    }
}

type Outcome<T> = Result<T, (Span, Problem)>;

/// One line.
struct Parser<'p, 'r, 't> {
    reader: &'p mut Reader<'r>,
    tokens: &'p [Token<'t>],
    at: usize,
    /// The call that the line is about, if it is one.
    call: Option<Syscall>,
    text: &'t str,
    name: Option<&'p str>,
}

impl<'t> Parser<'_, '_, 't> {
    fn line(&mut self) -> Outcome<()> {
        match self.peek().text {
            "@frequency" => {
                self.path()?;
            }
            "@default" => {
                self.next();
                self.reader.said.compiled = true;
                let token = self.peek().clone();
                let action = self.action()?;
                let refuses = action.is_none_or(|action| !action.lets_pass());
                let is_errno = matches!(action, Some(Action::Errno(_) | Action::Trace(_)));
                if !refuses || is_errno {
                    let what = "a default is kill, kill-process, kill-thread, trap or user-notify";
                    return Err((token.span, Problem::Syntax { what: what.to_owned() }));
                }
                self.reader.said.default = action.unwrap_or(Action::KillThread);
            }
            "@denylist" => {
                self.next();
                self.reader.said.compiled = true;
                self.reader.said.default = Action::Allow;
            }
            _ => self.statement()?,
        }
        match self.peek().kind {
            Kind::End => Ok(()),
            _ => Err(self.unexpected("the end of the line")),
        }
    }

    fn path(&mut self) -> Outcome<(Span, &'t str)> {
        self.next();
        let token = self.peek().clone();
        if token.kind != Kind::Path {
            return Err(self.unexpected("a path that begins with `/` or `./`"));
        }
        self.next();
        match self.peek().kind {
            Kind::End => Ok((token.span, token.text)),
            _ => Err(self.unexpected("the end of the line")),
        }
    }

    fn statement(&mut self) -> Outcome<()> {
        let first = self.peek().span;
        let calls = self.list(Self::call)?;
        let calls: Vec<Syscall> = calls.into_iter().flatten().collect();
        self.call = calls.first().copied();
        self.sign(":")?;
        let filters = self.list(|parser| parser.single().map(Some))?;
        let filters: Vec<Filter> = filters.into_iter().flatten().collect();
        let arch = self.reader.target.arch;
        let calls: Vec<u32> = calls.iter().filter_map(|call| call.number(arch)).collect();
        for nr in &calls {
            // libminijail takes a call once.
            self.reader.said.compiled |= !self.reader.seen.insert(*nr);
            for filter in &filters {
                if self.reader.unconditional.contains(nr) {
                    let what = "this call has got an action for all arguments already".to_owned();
                    return Err((first, Problem::Syntax { what }));
                }
                if filter.when.is_none() {
                    self.reader.unconditional.insert(*nr);
                }
            }
            self.reader.count += filters.len();
        }
        if self.reader.count > MAX_VALUES {
            return Err((first, Problem::TooMany));
        }
        self.reader.said.statements.push(Statement { calls, filters });
        Ok(())
    }

    /// One, or several in braces.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        if !self.is_sign("{") {
            return Ok(vec![one(self)?]);
        }
        self.reader.said.compiled = true;
        self.next();
        let mut list = vec![one(self)?];
        while self.is_sign(",") {
            self.next();
            list.push(one(self)?);
        }
        self.sign("}")?;
        Ok(list)
    }

    /// A call, or none if it is for another ABI.
    fn call(&mut self) -> Outcome<Option<Syscall>> {
        let arch = self.reader.target.arch;
        let token = self.word("a system call")?;
        let mut is_here = true;
        if self.is_sign("[") {
            self.reader.said.compiled = true;
            self.next();
            if self.peek().text != "arch" {
                return Err(self.unexpected("`arch`"));
            }
            self.next();
            self.sign("=")?;
            is_here = false;
            loop {
                let name = self.word("an architecture")?;
                is_here |= arch_names(arch).contains(&name.text);
                if !self.is_sign(",") {
                    break;
                }
                self.next();
            }
            self.sign("]")?;
        }
        if !is_here {
            return Ok(None);
        }
        let call = Syscall::from_name(token.text).filter(|call| call.number(arch).is_some());
        call.map(Some).ok_or_else(|| {
            let known = Syscall::all().filter(|call| call.number(arch).is_some());
            let nearest = nearest(token.text, known.map(Syscall::name));
            let (what, name) = ("system call", token.text.to_owned());
            (token.span, Problem::UnknownName { what, name, nearest, known: Vec::new() })
        })
    }

    fn single(&mut self) -> Outcome<Filter> {
        if !self.peek().text.starts_with("arg") {
            return Ok(Filter { when: None, action: self.action()?, otherwise: None });
        }
        let when = self.any()?;
        if !self.is_sign(";") {
            return Ok(Filter { when: Some(when), action: Some(Action::Allow), otherwise: None });
        }
        self.next();
        let token = self.peek().clone();
        let action = self.action()?;
        if self.name.is_none() && self.reader.said.ambiguous.is_none() {
            self.reader.said.ambiguous = Some(token.span.place(self.text));
        }
        Ok(Filter { when: Some(when), action, otherwise: action })
    }

    /// An action; none is the default.
    fn action(&mut self) -> Outcome<Option<Action>> {
        let token = self.word("an action, or an argument as `arg0`")?;
        // Of actions by name libminijail knows only `1` and `return`.
        self.reader.said.compiled |= !matches!(token.text, "1" | "return");
        Ok(Some(match token.text {
            "1" | "allow" => Action::Allow,
            "kill" | "kill-thread" => Action::KillThread,
            "kill-process" => Action::KillProcess,
            "trap" => Action::Trap(0),
            "trace" => Action::Trace(0),
            "log" => Action::Log,
            "user-notify" => Action::Notify,
            "return" => {
                if matches!(self.peek().kind, Kind::End | Kind::Sign("," | "}")) {
                    return Ok(None);
                }
                let errno = self.value(0)?;
                let errno = u32::try_from(errno & 0xffff).unwrap_or(0);
                Action::from_raw(Action::Errno(0).raw() | errno)
            }
            text => {
                const KNOWN: &[&str] = &[
                    "allow",
                    "kill",
                    "kill-process",
                    "kill-thread",
                    "log",
                    "return",
                    "trace",
                    "trap",
                    "user-notify",
                ];
                let nearest = nearest(text, KNOWN.iter().copied());
                let (what, name) = ("action", text.to_owned());
                return Err((
                    token.span,
                    Problem::UnknownName { what, name, nearest, known: Vec::new() },
                ));
            }
        }))
    }

    fn any(&mut self) -> Outcome<Condition> {
        let mut clauses = vec![self.clause()?];
        while self.is_sign("||") {
            self.next();
            clauses.push(self.clause()?);
        }
        Ok(if clauses.len() == 1 { clauses.remove(0) } else { Condition::Any(clauses) })
    }

    fn clause(&mut self) -> Outcome<Condition> {
        let mut atoms = vec![self.atom()?];
        while self.is_sign("&&") {
            self.next();
            atoms.push(self.atom()?);
        }
        Ok(all(atoms))
    }

    fn atom(&mut self) -> Outcome<Condition> {
        let token = self.word("an argument as `arg0`")?;
        let index = token.text.strip_prefix("arg").and_then(|index| index.parse::<u8>().ok());
        let invalid = |right: &str| Problem::Invalid {
            what: "argument",
            value: token.text.to_owned(),
            right: right.to_owned(),
        };
        let index = index.filter(|index| *index < 6);
        let index = index.ok_or_else(|| (token.span, invalid("a call has arg0 to arg5")))?;
        let operator = self.peek().clone();
        let op = match operator.text {
            "==" => Some(Op::Eq),
            "!=" => Some(Op::Ne),
            "<" => Some(Op::Lt),
            "<=" => Some(Op::Le),
            ">" => Some(Op::Gt),
            ">=" => Some(Op::Ge),
            "&" | "in" => None,
            _ => return Err(self.unexpected("==, !=, <, <=, >, >=, & or in")),
        };
        self.next();
        // libminijail wants blanks around the operator.
        self.reader.said.compiled |= !operator.spaced || !self.peek().spaced;
        let width = register_width(self.reader.target.arch);
        let value = self.value(0)? & width.mask();
        let test = match (op, operator.text) {
            (Some(op), _) => Test::new(index, width, width.mask(), op, value),
            (None, "&") => Test::new(index, width, value, Op::Ne, 0),
            (None, _) => Test::new(index, width, !value & width.mask(), Op::Eq, 0),
        };
        let test = test.map_err(|error| (token.span, invalid(&error.to_string())))?;
        Ok(Condition::Test(test))
    }

    fn value(&mut self, level: usize) -> Outcome<u64> {
        let mut value = self.factor(level)?;
        while self.is_sign("|") {
            // libminijail wants no blanks within a value.
            self.reader.said.compiled |= self.peek().spaced;
            self.next();
            self.reader.said.compiled |= self.peek().spaced;
            value |= self.factor(level)?;
        }
        Ok(value)
    }

    fn factor(&mut self, level: usize) -> Outcome<u64> {
        if level > MAX_DEPTH {
            return Err((self.peek().span, Problem::TooDeep));
        }
        if self.is_sign("~") {
            self.next();
            if self.is_sign("~") {
                return Err(self.unexpected("a value, which has one `~` at most,"));
            }
            return Ok(!self.factor(level + 1)?);
        }
        if self.is_sign("(") {
            self.next();
            let value = self.value(level + 1)?;
            self.sign(")")?;
            return Ok(value);
        }
        let token = self.word("a number or a constant")?;
        let text = token.text;
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return constant::number(text).ok_or_else(|| {
                let right = "it is decimal, 0x, or octal after a 0, and has 64 bits".to_owned();
                let value = text.to_owned();
                (token.span, Problem::Invalid { what: "number", value, right })
            });
        }
        let arch = self.reader.target.arch;
        constant::value(arch, self.call, text).ok_or_else(|| {
            let nearest = constant::nearest_to(arch, self.call, text);
            let (what, name) = ("constant", text.to_owned());
            (token.span, Problem::UnknownName { what, name, nearest, known: Vec::new() })
        })
    }

    fn peek(&self) -> &Token<'t> {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) {
        self.at += 1;
    }

    fn word(&mut self, expected: &str) -> Outcome<Token<'t>> {
        let token = self.peek().clone();
        if token.kind != Kind::Word {
            return Err(self.unexpected(expected));
        }
        self.next();
        Ok(token)
    }

    fn is_sign(&self, sign: &'static str) -> bool {
        self.peek().kind == Kind::Sign(sign)
    }

    fn sign(&mut self, sign: &'static str) -> Outcome<()> {
        if !self.is_sign(sign) {
            return Err(self.unexpected(&format!("`{sign}`")));
        }
        self.next();
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> (Span, Problem) {
        let token = self.peek();
        let found = match token.kind {
            Kind::End => "the line ends".to_owned(),
            _ => format!("`{}` stands here", token.text),
        };
        (token.span, Problem::Syntax { what: format!("{found} where {expected} was expected") })
    }
}

/// What minijail calls an ABI.
fn arch_names(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["x86_64"],
        Arch::I386 => &["x86", "i386"],
        Arch::Aarch64 => &["arm64", "aarch64"],
        Arch::Arm => &["arm"],
        Arch::Riscv64 => &["riscv64"],
        _ => &[],
    }
}
