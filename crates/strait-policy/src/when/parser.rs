//! Words to the tree of a condition, by recursive descent.

use super::lexer::{Token, Word, words};
use super::{At, Expr, Operand, Radix, Value};
use crate::rules::Op;
use crate::text::{Fault, MAX_DEPTH, Problem, Span};

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Expr, Fault> {
    let mut parser = Parser { tokens: words(text)?, at: 0 };
    if parser.peek().word == Word::End {
        return Err(
            parser.syntax("the condition is empty: remove `when` to let the rule always hold")
        );
    }
    let expr = parser.condition(0)?;
    match parser.peek().word {
        Word::End => Ok(expr.canonical()),
        _ => Err(parser.syntax("`and` or `or` was expected here, or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is the end, and nothing moves past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn span(&self) -> Span {
        self.peek().span
    }

    fn syntax(&self, what: &str) -> Fault {
        let what = match self.peek().word {
            Word::End => format!("the condition ends here: {what}"),
            _ => what.to_owned(),
        };
        self.span().fault(Problem::Syntax { what })
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.peek().word, Word::Name(name) if name == keyword)
    }

    fn pass_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    fn pass_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek().word, Word::Sign(found) if found == sign);
        self.at += usize::from(found);
        found
    }

    fn condition(&mut self, depth: usize) -> Result<Expr, Fault> {
        let mut any = vec![self.all(depth)?];
        while self.pass_keyword("or") {
            any.push(self.all(depth)?);
        }
        Ok(Expr::Any(any))
    }

    fn all(&mut self, depth: usize) -> Result<Expr, Fault> {
        let mut all = vec![self.term(depth)?];
        while self.pass_keyword("and") {
            all.push(self.term(depth)?);
        }
        Ok(Expr::All(all))
    }

    fn term(&mut self, depth: usize) -> Result<Expr, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.span().fault(Problem::TooDeep));
        }
        if self.pass_keyword("not") {
            return Ok(Expr::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.pass_sign("(") {
            let inner = self.condition(depth + 1)?;
            if !self.pass_sign(")") {
                return Err(self.syntax("`)` was expected here"));
            }
            return Ok(inner);
        }
        self.comparison(depth)
    }

    fn comparison(&mut self, depth: usize) -> Result<Expr, Fault> {
        let token = self.peek().clone();
        let Word::Name(name) = token.word else {
            return Err(self.syntax("an argument was expected here, such as `flags`"));
        };
        self.at += 1;
        let mask = if self.pass_sign("&") { Some(self.factor(depth)?) } else { None };
        let operand = Operand { name, mask, at: At(token.span) };
        let negated = self.pass_keyword("not");
        if self.pass_keyword("in") {
            let expr = Expr::In { operand, values: self.set(depth)? };
            return Ok(if negated { Expr::Not(Box::new(expr)) } else { expr });
        }
        let op = match self.peek().word {
            Word::Sign("==") => Op::Eq,
            Word::Sign("!=") => Op::Ne,
            Word::Sign("<") => Op::Lt,
            Word::Sign("<=") => Op::Le,
            Word::Sign(">") => Op::Gt,
            Word::Sign(">=") => Op::Ge,
            Word::Sign("|") => {
                return Err(self.syntax("put the mask in parentheses: `flags & (A | B) == A`"));
            }
            _ => return Err(self.syntax("a comparison was expected here, such as `== 0`")),
        };
        self.at += 1;
        Ok(Expr::Compare { operand, op, value: self.value(depth)? })
    }

    fn set(&mut self, depth: usize) -> Result<Vec<Value>, Fault> {
        if !self.pass_sign("{") {
            return Err(self.syntax("`{` was expected here: `in {A, B}`"));
        }
        let mut values = vec![self.value(depth)?];
        loop {
            if self.pass_sign("}") {
                return Ok(values);
            }
            if !self.pass_sign(",") {
                return Err(self.syntax("`,` or `}` was expected here"));
            }
            values.push(self.value(depth)?);
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut values = Vec::new();
        loop {
            match self.factor(depth)? {
                Value::AnyBit(inner) => values.extend(inner),
                value => values.push(value),
            }
            if !self.pass_sign("|") {
                break;
            }
        }
        Ok(if values.len() == 1 { values.remove(0) } else { Value::AnyBit(values) })
    }

    fn factor(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.span().fault(Problem::TooDeep));
        }
        if self.pass_sign("~") {
            return Ok(Value::Complement(Box::new(self.factor(depth + 1)?)));
        }
        if self.pass_sign("(") {
            let value = self.value(depth + 1)?;
            if !self.pass_sign(")") {
                return Err(self.syntax("`)` was expected here"));
            }
            return Ok(value);
        }
        let negative = self.pass_sign("-");
        match (self.peek().word.clone(), negative) {
            (Word::Number(value, radix), false) => {
                self.at += 1;
                Ok(Value::Number { value, radix })
            }
            (Word::Number(value, Radix::Decimal), true) if (1..=1 << 63).contains(&value) => {
                self.at += 1;
                Ok(Value::Negative(value))
            }
            (_, true) => Err(self.syntax("`-` stands before a decimal number, such as -100")),
            (Word::Name(name), false) if !["and", "or", "not", "in"].contains(&&*name) => {
                let span = self.next().span;
                Ok(Value::Name { name, at: At(span) })
            }
            _ if self.peek().word == Word::End => {
                let what = "the condition ends where a value was expected".to_owned();
                Err(self.span().fault(Problem::Syntax { what }))
            }
            _ => Err(self.syntax("a value was expected here: a number or a constant")),
        }
    }
}
