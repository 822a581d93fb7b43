//! What a Kafel policy says, from its tokens.
//!
//! ```text
//! program  = { "#" "define" NAME NUMBER | "POLICY" NAME "{" [ body ] "}" | body | "DEFAULT" action }
//! body     = entry { "," entry }
//! entry    = "USE" NAME | action "{" [ filter { "," filter } ] "}"
//! filter   = ( NAME | "SYSCALL" "[" NUMBER "]" ) [ "(" [ NAME { "," NAME } ] ")" ] [ "{" [ any ] "}" ]
//! any      = or { "," or }            or  = and { "||" and }        and = term { "&&" term }
//! term     = "(" any ")" | "!" term | bits OP bits
//! bits     = mask { "|" mask }        mask = operand { "&" operand }
//! operand  = NUMBER | NAME | "(" bits ")"
//! ```

use std::collections::BTreeMap;

use strait_abi::Arch;
use strait_bpf::Action;

use super::calls::{self, Call};
use super::lexer::{Files, Kind, Token};
use super::operand::{Bits, compare};
use crate::format::FormatError;
use crate::rules::{Condition, Op};
use crate::text::{MAX_DEPTH, Problem, nearest};

/// How many operators deep an expression may be.
const MAX_OPERATORS: usize = 200;

/// What a policy says, in the order in which Kafel asks.
#[derive(Debug)]
pub(super) struct Said {
    /// For each number what it gets, if a condition holds.
    pub(super) filters: Vec<(u32, Condition, Action)>,
    pub(super) default: Action,
}

/// Reads the tokens, the last of which is the end.
pub(super) fn parse(
    files: &Files<'_>,
    tokens: &[Token<'_>],
    arch: Arch,
) -> Result<Said, FormatError> {
    let mut parser = Parser {
        files,
        tokens,
        at: 0,
        arch,
        constants: BTreeMap::new(),
        policies: vec![Vec::new()],
        names: BTreeMap::new(),
        default: None,
    };
    parser.program()?;
    let mut filters = Vec::new();
    parser.collect(&mut filters);
    Ok(Said { filters, default: parser.default.unwrap_or(Action::KillThread) })
}

enum Entry {
    /// The index of a policy.
    Use(usize),
    Filters(Action, Vec<(u32, Condition)>),
}

/// Bits, and how many operators deep they are.
type DeepBits = Result<(Bits, usize), FormatError>;

/// An expression, and how many operators deep it is.
struct Deep(Condition, usize);

struct Parser<'a> {
    files: &'a Files<'a>,
    tokens: &'a [Token<'a>],
    at: usize,
    arch: Arch,
    constants: BTreeMap<&'a str, u64>,
    /// The first is what stands outside of policies.
    policies: Vec<Vec<Entry>>,
    /// Which policy is called so.
    names: BTreeMap<&'a str, usize>,
    default: Option<Action>,
}

/// The arguments that an expression can name.
enum Arguments<'a> {
    /// Those that Kafel knows of the call.
    Known(Option<Call>),
    /// Those that the policy names; all of their bits are compared.
    Named(Vec<&'a str>),
}

const ACTIONS: &[&str] = &[
    "ALLOW",
    "DENY",
    "ERRNO",
    "KILL",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "TRACE",
    "TRAP",
    "USER_NOTIF",
];
const KEYWORDS: &[&str] = &["DEFAULT", "POLICY", "SYSCALL", "USE", "define"];

impl<'a> Parser<'a> {
    fn program(&mut self) -> Result<(), FormatError> {
        loop {
            let token = self.peek();
            match token.kind {
                Kind::End if self.at > 0 => return Ok(()),
                Kind::Sign("#") => self.constant()?,
                Kind::Word("POLICY") => self.policy()?,
                Kind::Word("DEFAULT") => {
                    self.next();
                    let action = self.action()?;
                    if self.default.replace(action).is_some() {
                        return Err(self.syntax(token, "the default is given twice".to_owned()));
                    }
                }
                Kind::Word("USE") => self.body(0)?,
                Kind::Word(word) if ACTIONS.contains(&word) => self.body(0)?,
                _ => {
                    return Err(
                        self.unexpected("an action, `USE`, `POLICY`, `DEFAULT` or `#define`")
                    );
                }
            }
        }
    }

    fn constant(&mut self) -> Result<(), FormatError> {
        let token = self.next();
        self.word("define")?;
        let name = self.name("a name for the constant")?;
        let Kind::Number(value) = self.peek().kind else {
            return Err(self.unexpected("the value of the constant"));
        };
        self.next();
        if self.constants.insert(name, value).is_some_and(|before| before != value) {
            return Err(
                self.syntax(token, format!("`{name}` is defined with another value already"))
            );
        }
        Ok(())
    }

    fn policy(&mut self) -> Result<(), FormatError> {
        let token = self.next();
        let name = self.name("the policy's name")?;
        self.sign("{")?;
        let index = self.policies.len();
        if self.names.contains_key(name) {
            return Err(self.syntax(token, format!("there is a policy `{name}` already")));
        }
        // It has no name that others can use before it ends.
        self.policies.push(Vec::new());
        if !self.is_sign("}") {
            self.body(index)?;
        }
        self.sign("}")?;
        self.names.insert(name, index);
        Ok(())
    }

    /// Reads entries into a policy.
    fn body(&mut self, policy: usize) -> Result<(), FormatError> {
        loop {
            let token = self.peek();
            let entry = match token.kind {
                Kind::Word("USE") => {
                    self.next();
                    let token = self.peek();
                    let name = self.name("the name of a policy")?;
                    let Some(&index) = self.names.get(name) else {
                        let names = self.names.keys().copied();
                        return Err(self.unknown(
                            token,
                            "policy above",
                            name,
                            nearest(name, names),
                        ));
                    };
                    Entry::Use(index)
                }
                Kind::Word(word) if ACTIONS.contains(&word) => {
                    let action = self.action()?;
                    Entry::Filters(action, self.filters()?)
                }
                _ => return Err(self.unexpected("`USE` or an action")),
            };
            self.policies[policy].push(entry);
            if !self.is_sign(",") {
                return Ok(());
            }
            self.next();
        }
    }

    fn action(&mut self) -> Result<Action, FormatError> {
        let token = self.next();
        let Kind::Word(word) = token.kind else {
            self.at -= 1;
            return Err(self.unexpected("an action"));
        };
        Ok(match word {
            "ALLOW" => Action::Allow,
            "LOG" => Action::Log,
            "DENY" | "KILL" | "KILL_THREAD" => Action::KillThread,
            "KILL_PROCESS" => Action::KillProcess,
            "USER_NOTIF" => Action::Notify,
            "ERRNO" => Action::from_raw(Action::Errno(0).raw() | self.data()?),
            "TRACE" => Action::from_raw(Action::Trace(0).raw() | self.data()?),
            "TRAP" => Action::from_raw(Action::Trap(0).raw() | self.data()?),
            _ => {
                let hint = nearest(word, ACTIONS.iter().copied());
                return Err(self.unknown(token, "action", word, hint));
            }
        })
    }

    /// `(N)`, at most 65535.
    fn data(&mut self) -> Result<u32, FormatError> {
        self.sign("(")?;
        let token = self.next();
        let Kind::Number(number) = token.kind else {
            self.at -= 1;
            return Err(self.unexpected("a number"));
        };
        let Ok(data) = u16::try_from(number) else {
            let value = number.to_string();
            let right = "it is at most 65535".to_owned();
            let fault = token.span.fault(Problem::Invalid { what: "value", value, right });
            return Err(self.files.error(token.file, fault));
        };
        self.sign(")")?;
        Ok(data.into())
    }

    fn filters(&mut self) -> Result<Vec<(u32, Condition)>, FormatError> {
        self.sign("{")?;
        let mut filters = Vec::new();
        if !self.is_sign("}") {
            loop {
                filters.push(self.filter()?);
                if !self.is_sign(",") {
                    break;
                }
                self.next();
            }
        }
        self.sign("}")?;
        Ok(filters)
    }

    fn filter(&mut self) -> Result<(u32, Condition), FormatError> {
        let (nr, known) = self.call()?;
        let mut arguments = Arguments::Known(known);
        if self.is_sign("(") {
            self.next();
            arguments = Arguments::Named(self.argument_names()?);
        }
        let mut when = Condition::All(Vec::new());
        if self.is_sign("{") {
            self.next();
            if !self.is_sign("}") {
                when = self.any(&arguments, 0)?.0;
            }
            self.sign("}")?;
        }
        Ok((nr, when))
    }

    /// The number of a call, and what is known of it.
    fn call(&mut self) -> Result<(u32, Option<Call>), FormatError> {
        let token = self.peek();
        // A number is cut to 32 bits.
        let cut = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
        if token.kind == Kind::Word("SYSCALL") {
            self.next();
            self.sign("[")?;
            let Kind::Number(number) = self.peek().kind else {
                return Err(self.unexpected("the number of a call"));
            };
            self.next();
            self.sign("]")?;
            return Ok((cut(number), None));
        }
        let name = self.name("a system call")?;
        if let Some(number) = self.constants.get(name) {
            return Ok((cut(*number), None));
        }
        match calls::call(self.arch, name) {
            Some(call) => Ok((call.nr, Some(call))),
            None => {
                let number = strait_abi::Syscall::from_name(name)
                    .and_then(|call| calls::name(self.arch, call.number(self.arch)?));
                let hint = number.map(str::to_owned);
                let hint = hint.or_else(|| nearest(name, calls::names(self.arch)));
                Err(self.unknown(token, "system call to Kafel", name, hint))
            }
        }
    }

    fn argument_names(&mut self) -> Result<Vec<&'a str>, FormatError> {
        let mut names: Vec<&str> = Vec::new();
        if !self.is_sign(")") {
            loop {
                let token = self.peek();
                let name = self.name("the name of an argument")?;
                if names.contains(&name) {
                    return Err(self.syntax(token, format!("two arguments are called `{name}`")));
                }
                if names.len() == 6 {
                    return Err(self.syntax(token, "a call has six arguments".to_owned()));
                }
                names.push(name);
                if !self.is_sign(",") {
                    break;
                }
                self.next();
            }
        }
        self.sign(")")?;
        Ok(names)
    }

    fn any(&mut self, arguments: &Arguments<'_>, level: usize) -> Result<Deep, FormatError> {
        self.chain(arguments, level, ",", Parser::or, Condition::Any)
    }

    fn or(&mut self, arguments: &Arguments<'_>, level: usize) -> Result<Deep, FormatError> {
        self.chain(arguments, level, "||", Parser::and, Condition::Any)
    }

    fn and(&mut self, arguments: &Arguments<'_>, level: usize) -> Result<Deep, FormatError> {
        self.chain(arguments, level, "&&", Parser::term, Condition::All)
    }

    /// Parts with the same operator between them.
    fn chain(
        &mut self,
        arguments: &Arguments<'_>,
        level: usize,
        operator: &'static str,
        part: fn(&mut Self, &Arguments<'_>, usize) -> Result<Deep, FormatError>,
        many: fn(Vec<Condition>) -> Condition,
    ) -> Result<Deep, FormatError> {
        let token = self.peek();
        let first = part(self, arguments, level)?;
        if !self.is_sign(operator) {
            return Ok(first);
        }
        let (mut parts, mut depth) = (vec![first.0], first.1);
        while self.is_sign(operator) {
            self.next();
            let Deep(next, next_depth) = part(self, arguments, level)?;
            depth = self.deeper(token, depth.max(next_depth))?;
            parts.push(next);
        }
        Ok(Deep(many(parts), depth))
    }

    /// One operator more.
    fn deeper(&self, token: Token<'a>, depth: usize) -> Result<usize, FormatError> {
        if depth >= MAX_OPERATORS {
            let what =
                format!("Kafel takes no more than {MAX_OPERATORS} operators within each other");
            return Err(self.syntax(token, what));
        }
        Ok(depth + 1)
    }

    fn term(&mut self, arguments: &Arguments<'_>, level: usize) -> Result<Deep, FormatError> {
        let token = self.peek();
        if level > MAX_DEPTH {
            return Err(self.files.error(token.file, token.span.fault(Problem::TooDeep)));
        }
        if self.is_sign("!") {
            self.next();
            let Deep(inner, depth) = self.term(arguments, level + 1)?;
            return Ok(Deep(Condition::Not(Box::new(inner)), self.deeper(token, depth)?));
        }
        if self.is_sign("(") && self.opens_condition() {
            self.next();
            let inner = self.any(arguments, level + 1)?;
            self.sign(")")?;
            return Ok(inner);
        }
        let (left, left_depth) = self.bits(arguments, level)?;
        let op = match self.peek().kind {
            Kind::Sign("==") => Op::Eq,
            Kind::Sign("!=") => Op::Ne,
            Kind::Sign("<") => Op::Lt,
            Kind::Sign("<=") => Op::Le,
            Kind::Sign(">") => Op::Gt,
            Kind::Sign(">=") => Op::Ge,
            _ => return Err(self.unexpected("a comparison")),
        };
        self.next();
        let (right, right_depth) = self.bits(arguments, level)?;
        let depth = self.deeper(token, left_depth.max(right_depth))?;
        let condition = compare(&left, op, &right)
            .map_err(|problem| self.files.error(token.file, token.span.fault(problem)))?;
        Ok(Deep(condition, depth))
    }

    /// Whether the parenthesis here has a condition in it, and not bits of an argument: whether
    /// there is a comparison or the like before it ends.
    fn opens_condition(&self) -> bool {
        let mut depth = 0usize;
        for token in &self.tokens[self.at..] {
            match token.kind {
                Kind::Sign("(") => depth += 1,
                Kind::Sign(")") => {
                    depth -= 1;
                    if depth == 0 {
                        return false;
                    }
                }
                Kind::Sign("==" | "!=" | "<" | "<=" | ">" | ">=" | "!" | "&&" | "||" | ",") => {
                    return true;
                }
                Kind::Sign("{" | "}") | Kind::End => return true,
                _ => {}
            }
        }
        true
    }

    fn bits(&mut self, arguments: &Arguments<'_>, level: usize) -> DeepBits {
        self.operators(arguments, level, "|", Parser::mask, Bits::or)
    }

    fn mask(&mut self, arguments: &Arguments<'_>, level: usize) -> DeepBits {
        self.operators(arguments, level, "&", Parser::operand, Bits::and)
    }

    fn operators(
        &mut self,
        arguments: &Arguments<'_>,
        level: usize,
        operator: &'static str,
        part: fn(&mut Self, &Arguments<'_>, usize) -> DeepBits,
        join: fn(Bits, Bits) -> Result<Bits, Problem>,
    ) -> DeepBits {
        let token = self.peek();
        let (mut bits, mut depth) = part(self, arguments, level)?;
        while self.is_sign(operator) {
            self.next();
            let (next, next_depth) = part(self, arguments, level)?;
            depth = self.deeper(token, depth.max(next_depth))?;
            bits = join(bits, next)
                .map_err(|problem| self.files.error(token.file, token.span.fault(problem)))?;
        }
        Ok((bits, depth))
    }

    fn operand(&mut self, arguments: &Arguments<'_>, level: usize) -> DeepBits {
        let token = self.peek();
        if level > MAX_DEPTH {
            return Err(self.files.error(token.file, token.span.fault(Problem::TooDeep)));
        }
        match token.kind {
            Kind::Number(number) => {
                self.next();
                Ok((Bits::number(number), 0))
            }
            Kind::Sign("(") => {
                self.next();
                let bits = self.bits(arguments, level + 1)?;
                self.sign(")")?;
                Ok(bits)
            }
            _ => {
                let name = self.name("an argument or a number")?;
                if let Some(number) = self.constants.get(name) {
                    return Ok((Bits::number(*number), 0));
                }
                let (argument, known): (Option<(u8, bool)>, Vec<&str>) = match arguments {
                    Arguments::Named(names) => {
                        let index = names.iter().position(|known| *known == name);
                        (
                            index.and_then(|index| Some((u8::try_from(index).ok()?, true))),
                            names.clone(),
                        )
                    }
                    Arguments::Known(call) => {
                        let call = call.as_ref();
                        let names = call.map(|call| call.arg_names().collect());
                        (call.and_then(|call| call.arg(name)), names.unwrap_or_default())
                    }
                };
                match argument {
                    Some((index, wide)) => Ok((Bits::argument(index, wide), 0)),
                    None => {
                        let hint = nearest(name, known);
                        Err(self.unknown(token, "argument or constant here", name, hint))
                    }
                }
            }
        }
    }

    /// All filters, in order: where a policy is used, its own come, but only once.
    fn collect(&self, filters: &mut Vec<(u32, Condition, Action)>) {
        let mut used = vec![false; self.policies.len()];
        // Policies use only those above them, so this goes no deeper than there are policies; but
        // that may be deep.
        let mut stack = vec![self.policies[0].iter()];
        while let Some(entries) = stack.last_mut() {
            match entries.next() {
                None => drop(stack.pop()),
                Some(Entry::Filters(action, calls)) => {
                    filters.extend(calls.iter().map(|(nr, when)| (*nr, when.clone(), *action)));
                }
                Some(Entry::Use(policy)) => {
                    if !std::mem::replace(&mut used[*policy], true) {
                        stack.push(self.policies[*policy].iter());
                    }
                }
            }
        }
    }

    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn is_sign(&self, sign: &'static str) -> bool {
        self.peek().kind == Kind::Sign(sign)
    }

    fn sign(&mut self, sign: &'static str) -> Result<(), FormatError> {
        if !self.is_sign(sign) {
            return Err(self.unexpected(&format!("`{sign}`")));
        }
        self.next();
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<(), FormatError> {
        if self.peek().kind != Kind::Word(word) {
            return Err(self.unexpected(&format!("`{word}`")));
        }
        self.next();
        Ok(())
    }

    /// A word that is no keyword.
    fn name(&mut self, expected: &str) -> Result<&'a str, FormatError> {
        match self.peek().kind {
            Kind::Word(word) if !ACTIONS.contains(&word) && !KEYWORDS.contains(&word) => {
                self.next();
                Ok(word)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn unexpected(&self, expected: &str) -> FormatError {
        let token = self.peek();
        let found = match token.kind {
            Kind::End => "the policy ends".to_owned(),
            _ => format!("`{}` stands here", self.files.text(&token)),
        };
        self.syntax(token, format!("{found} where {expected} was expected"))
    }

    fn syntax(&self, token: Token<'_>, what: String) -> FormatError {
        self.files.error(token.file, token.span.fault(Problem::Syntax { what }))
    }

    fn unknown(
        &self,
        token: Token<'_>,
        what: &'static str,
        name: &str,
        nearest: Option<String>,
    ) -> FormatError {
        let name = name.to_owned();
        self.files.error(
            token.file,
            token.span.fault(Problem::UnknownName { what, name, nearest, known: Vec::new() }),
        )
    }
}
